"""The main job on an embedded default: a busybox image, signed, encrypted, served, fetched, proved and run.

Others make the inputs: gpg signs and encrypts, skopeo encrypts, signs and pushes, docker-registry serves. The two
servers listen on loopback; a CONNECT proxy, also on loopback, gives them the names example.com and
registry.example.com, so that no name service and no file of the system has to know them.

What this place cannot do is said in one line, and is no failure; what it can, as `pyrkt doctor` says, has to work.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo_inputs import APP, HOST, REGISTRY, Failed, Tools, publish, run, signer
from demo_servers import registry, serve_proxy, serve_site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

MEMORY, PIDS = 64 << 20, 64
LIMITS = {"memory": (MEMORY, ("memory.limit_in_bytes", "memory.max")), "pids": (PIDS, ("pids.max",))}
"""Controller -> what is asked for, and the files, of cgroup v1 and v2, that say what it has become."""
NAMESPACES = ("mount", "pid", "network", "ipc", "uts", "cgroup")
END_S = 30.0


def show(what: str, value: str = "") -> None:
    """Print one fact."""
    print(f"  {what:<10} {value}".rstrip(), flush=True)


@dataclass
class Demonstration:
    """The command as the demonstration calls it, what this place can do, and what was not possible in it."""

    command: list[str]
    state: Path
    env: dict[str, str]
    able: dict[str, bool] = field(default_factory=dict)
    impossible: dict[str, str] = field(default_factory=dict)

    def pyrkt(self, *words: str) -> str:
        """Call pyrkt; Failed with its words if it fails."""
        return run(*self.command, *words, env=self.env)

    def examine(self) -> None:
        """Ask ``pyrkt doctor`` what works here."""
        done = subprocess.run(
            [*self.command, "doctor", "--format=json"], env=self.env, capture_output=True, check=False
        )
        try:
            facts = json.loads(done.stdout)
        except ValueError:
            raise Failed(f"pyrkt doctor: {done.stderr.decode(errors='replace').strip()}") from None
        self.able = {fact["name"]: fact["verdict"] == "ok" for fact in facts}

    def can_run(self) -> bool:
        """Tell whether containers can be made here; doctor tries it the way that this user would have to go."""
        return all(self.able.get(f"{kind} namespaces", False) for kind in NAMESPACES)

    def can_limit(self) -> bool:
        """Tell whether the limits of a container can be set here."""
        return all(self.able.get(f"controller {name}", False) for name in LIMITS)


# --- fetching -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image as pyrkt is asked for it: its name, the key that decrypts it, and whether somebody signed it."""

    reference: str
    key: Path
    signed: bool

    @property
    def flags(self) -> list[str]:
        """What has to be said for an image that nobody can prove."""
        return [] if self.signed else ["--insecure-options=image"]


def fetch(demo: Demonstration, image: Image) -> None:
    """Fetch the image, prove it, decrypt it, and say what it is."""
    reference, key, signed = image.reference, image.key, image.signed
    given = f"passphrase:file={key}" if key.name == "passphrase" else str(key)
    flags = ["--json", "--pull-policy=update", f"--decryption-key={given}"]
    found = json.loads(demo.pyrkt(*image.flags, "fetch", *flags, reference))
    record = found[0] if isinstance(found, list) else found
    show("digest", record["id"])
    if signed and not record["signers"]:
        raise Failed(f"{reference} was taken without a signature")
    for one in record["signers"]:
        show("signer", f"{one['name']} {one['fingerprint']} ({one['format']})")
    show(
        "signature",
        "good" if signed else "none: it was not signed, and --insecure-options=image says that this is fine",
    )
    show("encrypted", "yes; its integrity was proved before it was unpacked" if record["encrypted"] else "no")


# --- running ------------------------------------------------------------------------------------------------------


def demonstrate(demo: Demonstration, image: Image) -> None:
    """Run the image under limits and show what it did, or what it would have done."""
    uuid_file = demo.state / "uuid"
    uuid_file.unlink(missing_ok=True)
    limits = [f"--memory={MEMORY}", f"--pids-limit={PIDS}"]
    words = [*demo.command, *image.flags, "run", f"--uuid-file-save={uuid_file}", image.reference, *limits]
    streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen(words, env=demo.env, **streams)
    cgroups: list[str] = []
    try:
        assert process.stdin and process.stdout and process.stderr  # noqa: PT018 - for the type checker alone
        first = process.stdout.readline().decode(errors="replace").strip()
        if first:
            cgroups = _show_running(demo, uuid_file)
        process.stdin.close()
        rest = process.stdout.read().decode(errors="replace").strip()
        said = process.stderr.read().decode(errors="replace").strip()
        code = process.wait(END_S)
    finally:
        _end(process)
        if uuid_file.exists() and (uuid := uuid_file.read_text().strip()):
            demo.pyrkt("rm", uuid)
    if not first:
        _rehearse(demo, image, code, said)
        return
    show("output", "\n".join(filter(None, (first, rest))))
    show("exit code", str(code))
    if not cgroups:
        demo.impossible["limits"] = _line(said)
    if code:
        raise Failed(f"{image.reference} ended with {code}: {_line(said)}")
    if left := [path for path in cgroups if Path(path).exists()]:
        raise Failed(f"left behind: {' '.join(left)}")


def _show_running(demo: Demonstration, uuid_file: Path) -> list[str]:
    """Show bundle and limits of the running pod, the limits as the kernel has them; return its cgroups."""
    (app,) = json.loads(demo.pyrkt("status", "--format=json", f"--uuid-file={uuid_file}"))["apps"]
    show("bundle", app["bundle"])
    cgroups: list[str] = app.get("cgroups", [])
    found = dict(_limits(cgroups))
    for name, (wanted, _) in LIMITS.items():
        if name in found:
            show("limit", f"{name} {found[name]}")
            if found[name].split()[0] != str(wanted):
                raise Failed(f"the limit of {name} is {found[name]}, not {wanted}")
        elif demo.can_limit():
            raise Failed(f"there is no limit of {name}")
    if not found:
        show("limit", "none (see below)")
    return cgroups


def _limits(cgroups: list[str]) -> Iterator[tuple[str, str]]:
    for directory in cgroups:
        for name, (_, files) in LIMITS.items():
            for file in files:
                with contextlib.suppress(OSError):
                    yield name, f"{Path(directory, file).read_text().strip()} ({directory}/{file})"


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()


def _rehearse(demo: Demonstration, image: Image, code: int, said: str) -> None:
    """Show how far it goes where nothing can be run: the bundle, and the plan of running it."""
    reference = image.reference
    if demo.can_run():
        raise Failed(f"pyrkt run {reference} exited with {code}: {_line(said)}")
    bundle = demo.state / "bundles" / ("appc" if reference.startswith(APP) else "oci")
    shutil.rmtree(bundle, ignore_errors=True)
    bundle.parent.mkdir(exist_ok=True)
    demo.pyrkt(*image.flags, "image", "unpack", reference, str(bundle))
    steps = json.loads(demo.pyrkt(*image.flags, "plan", "--json", reference))
    show("bundle", str(bundle))
    show("plan", f"{len(steps)} steps, {demo.pyrkt(*image.flags, 'plan', '--hash', reference).strip()}")
    show("exit code", f"{code}, of pyrkt: it was not run (see below)")
    demo.impossible["running the images"] = _line(said)


def _line(said: str) -> str:
    """Return the line that says why, without the program's name: an error before a warning."""
    lines = [line.removeprefix("pyrkt: ") for line in said.splitlines() if not line.startswith(" ")]
    lines.sort(key=lambda line: line.startswith("warning: "))
    return lines[0].removeprefix("warning: ") if lines else "it said nothing"


# --- the whole job ------------------------------------------------------------------------------------------------


def configure(tools: Tools, state: Path) -> None:
    """Write what an operator would write: whom to believe, where signatures lie, and whose are trusted."""
    for host in (HOST, REGISTRY):
        (state / "config/certs.d" / host).mkdir(parents=True, exist_ok=True)
        shutil.copy(state / "ca.crt", state / "config/certs.d" / host)
    folder = state / "config/registries.d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "quickstart.yaml").write_text(
        f"docker:\n  {REGISTRY}:\n    lookaside: https://{HOST}/signatures\n"
        f"    lookaside-staging: file://{state / 'web/signatures'}\n"
    )
    policy: dict[str, Any] = {"default": [{"type": "reject"}]}
    if tools.gpg:
        proof = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(state / "signer.asc")}
        policy["transports"] = {"docker": {REGISTRY: [proof]}}
    (state / "config/policy.json").write_text(json.dumps(policy, indent=2))


def job(state: Path, program: str) -> int:
    """Do everything; return the exit code."""
    tools = Tools.find()
    prepare(state)
    print("making the inputs (gpg signs and encrypts, skopeo encrypts, signs and pushes)", flush=True)
    with contextlib.ExitStack() as running:
        gnupg = running.enter_context(signer(tools, state))
        configure(tools, state)
        ports = {HOST: serve_site(state / "web", state)}
        if tools.served:
            ports[REGISTRY] = running.enter_context(registry(tools.registry, state))
        net = {"HTTPS_PROXY": f"http://127.0.0.1:{serve_proxy(ports)}"}
        reference = publish(tools, state, gnupg | net)
        demo = Demonstration([program, f"--local-config={state / 'config'}"], state, os.environ | net)
        demo.examine()
        if tools.gpg:
            keys = f"https://{HOST}/pubkeys.gpg"
            demo.pyrkt("trust", "--skip-fingerprint-review", f"--prefix={APP}", keys)
        appc = Image(reference=f"{APP}:1.0", key=state / "passphrase", signed=bool(tools.gpg))
        oci = Image(reference=reference, key=state / "private.pem", signed=bool(tools.gpg and tools.served))
        for image in (appc, oci):
            print(f"\n{image.reference}", flush=True)
            fetch(demo, image)
            demonstrate(demo, image)
    if absent := tools.missing():
        demo.impossible["all that a signed and encrypted image on a registry shows"] = f"without {', '.join(absent)}"
    end(demo, program, (oci, appc))
    return 0


def prepare(state: Path) -> None:
    """Make the directory of the state. Raises: Failed if it is not one that was made here."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(state.iterdir()) and not (state / "ca.crt").exists():
            raise Failed(f"{state} is there and not mine: remove it, or give another --state")
    except OSError as error:
        raise Failed(f"{state}: {error.strerror}") from None


def end(demo: Demonstration, program: str, images: tuple[Image, ...]) -> None:
    """Say what was not possible, and what to type next."""
    if demo.impossible:
        reasons = "; ".join(f"{what} ({why})" for what, why in demo.impossible.items())
        print(f"\nnot possible here: {reasons}")
    where = "to run them" if demo.can_run() else "where containers can be made, this runs them"
    print(f"\nboth images are in the store now; {where}:")
    shown = os.path.relpath(program) if Path(program).resolve().is_relative_to(Path.cwd()) else program
    for image in images:
        name = APP if image.reference.startswith(APP) else image.reference
        print(" ", " ".join([shown, "run", *image.flags, name]))


def interrupted(number: int, _frame: FrameType | None) -> None:
    """End in an orderly way, so that nothing stays behind."""
    raise SystemExit(128 + number)


def main() -> int:
    """Read the arguments, do the job, say in one line what failed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--state", type=Path, required=True)
    arguments.add_argument("--pyrkt", required=True)
    given = arguments.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    try:
        return job(given.state.resolve(), given.pyrkt)
    except Failed as failed:
        print(f"quickstart: {failed}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
