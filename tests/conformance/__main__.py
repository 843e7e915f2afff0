"""Run every validation program against pyrkt-oci and its peers, and print who passes what: `./scripts/conformance`.

It is started in a mount and a pid namespace of its own: what a program leaves behind is gone with them, and orphans
are reaped at once, which the machine's own first process may take a second for.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.conformance import known, suite
from tests.conformance.tap import Outcome, judge

ROOT = Path(__file__).parents[2]
FAILED, USAGE, UNAVAILABLE = 1, 2, 69
LIMIT_S = 90
# They wait longest; begun first, they end with the others.
FIRST = ("delete", "kill", "linux_cgroups_cpus", "linux_ns_path")
# What the suite asks is the specification before 1.3 (which made a failing poststart hook an error, for one), and crun
# 1.8 refuses any that is newer.
OCI_VERSION = "1.0.2"
NAMES = (known.OURS, "crun", "runc")
CGROUP = f"pyrkt-conformance-{os.urandom(4).hex()}"
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """A runtime to test."""

    name: str
    path: Path

    @property
    def door(self) -> list[str]:
        """Return the command that the programs of this runtime are run by."""
        # crun 1.8 does not run on a host that has both cgroup versions; in a mount namespace it sees one.
        script = 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"'
        mounts = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
        return mounts if self.name == "crun" else []


def find(chosen: list[Path], bin_dir: Path) -> list[Runtime]:
    """Return the runtimes to test; SystemExit if one is not there."""
    paths = chosen or [bin_dir / known.OURS, *(Path(shutil.which(name) or f"/usr/bin/{name}") for name in NAMES[1:])]
    for path in paths:
        if not os.access(path, os.X_OK):
            raise SystemExit(f"conformance: there is no {path}")
    return [Runtime(name=path.name, path=path.absolute()) for path in paths]


def shield(place: Path) -> None:
    """Lay another /dev/null over the machine's: crun 1.8 gives its standard input to the container's user."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "pyrkt-conformance", place], check=True)
    os.mknod(place / "null", 0o020666, os.makedev(1, 3))
    (place / "null").chmod(0o666)
    subprocess.run(["mount", "--bind", place / "null", "/dev/null"], check=True)
    os.environ["TMPDIR"] = str(place)
    tempfile.tempdir = str(place)


def run(program: str, runtime: Runtime, built: suite.Suite) -> Outcome:
    """Run one program against one runtime, each with a state root of its own, and clear up after it."""
    place = Path(tempfile.mkdtemp(prefix=f"{program}."))
    place.chmod(0o755)
    state, wrapper, bundles = place / "state", place / runtime.name, place / "bundles"
    bundles.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {runtime.path} --root {state} "$@"\n')
    wrapper.chmod(0o755)
    env = dict(os.environ) | {"RUNTIME": str(wrapper), "TMPDIR": str(bundles), "OCI_VERSION": OCI_VERSION}
    env["OCI_CGROUP"] = f"{CGROUP}-{program}-{runtime.name}"
    with (place / "out").open("w+") as out, (place / "err").open("w+") as err:
        argv = [*runtime.door, str(built.bin / program)]
        streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err}
        child = subprocess.Popen(argv, cwd=built.directory, env=env, start_new_session=True, **streams)  # type: ignore[call-overload]
        try:
            code, late = child.wait(LIMIT_S), ""
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            code, late = child.wait(), f"did not end within {LIMIT_S} s"
        out.seek(0)
        err.seek(0)
        outcome = judge(out.read(), err.read(), code)
    keep(program, runtime, place)
    clear(runtime, wrapper, state)
    return Outcome(points=outcome.points, failed=outcome.failed, why=late) if late else outcome


def keep(program: str, runtime: Runtime, place: Path) -> None:
    """Keep what the program said, for whoever wants to know more."""
    log = ROOT / "build/conformance/log"
    log.mkdir(parents=True, exist_ok=True)
    with (log / f"{program}.{runtime.name}").open("w") as file:
        for name in ("out", "err"):
            file.write((place / name).read_text(errors="replace"))


def clear(runtime: Runtime, wrapper: Path, state: Path) -> None:
    """Delete the containers that a program left: some forget theirs."""
    for entry in state.iterdir() if state.is_dir() else ():
        argv = [*runtime.door, str(wrapper), "delete", "--force", entry.name]
        subprocess.run(argv, check=False, capture_output=True, timeout=LIMIT_S)


def remove_cgroups() -> None:
    """Remove the directories of cgroups that a runtime made above a container's own, and that none takes away."""
    for directory, _, _ in os.walk(CGROUPS, topdown=False):
        if f"/{CGROUP}-" in directory:
            with contextlib.suppress(OSError):
                os.rmdir(directory)


def run_all(
    programs: list[str], runtimes: list[Runtime], built: suite.Suite, jobs: int
) -> dict[str, dict[str, Outcome]]:
    """Run everything, ``jobs`` at a time."""
    order = sorted(programs, key=lambda name: name not in FIRST)
    with ThreadPoolExecutor(jobs) as pool:
        futures = {(name, rt.name): pool.submit(run, name, rt, built) for name in order for rt in runtimes}
        return {name: {rt.name: futures[name, rt.name].result() for rt in runtimes} for name in programs}


def cell(outcome: Outcome) -> str:
    """Return what a table says of an outcome."""
    if not outcome.why:
        return "ok"
    return f"{outcome.failed} of {outcome.points}" if outcome.failed else "failed"


def table(results: dict[str, dict[str, Outcome]], entries: tuple[known.Entry, ...], left_out: dict[str, str]) -> None:
    """Print a row a program, and below it why it failed."""
    runtimes = list(next(iter(results.values()), {}))
    reasons = {(e.program, name): e.reason for e in entries for name in e.runtimes}
    wide = max((len(name) for name in (*results, *left_out)), default=0)
    print(f"{'program':<{wide}}  " + "  ".join(f"{name:<9}" for name in runtimes))
    for program in sorted([*results, *left_out]):
        if program in left_out:
            print(f"{program:<{wide}}  left out: {left_out[program]}")
            continue
        outcomes = results[program]
        print(f"{program:<{wide}}  " + "  ".join(f"{cell(outcomes[name]):<9}" for name in runtimes).rstrip())
        said = dict[str, list[str]]()
        for name, outcome in outcomes.items():
            if outcome.why:
                said.setdefault(reasons.get((program, name)) or outcome.why, []).append(name)
        for why, names in said.items():
            print(f"  {', '.join(names)}: {why}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="scripts/conformance", description=__doc__.split("\n")[0])
    parser.add_argument("--suite", type=Path, help="a checkout of runtime-tools, where the module proxy has none")
    parser.add_argument("--runtime", type=Path, action="append", default=[], help="instead of pyrkt-oci, crun and runc")
    parser.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 1), help="programs at a time (%(default)s)")
    parser.add_argument("--place", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--bin", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("program", nargs="*", help="only these")
    return parser.parse_args()


def main() -> int:
    """Return the exit code: 0, 1 for a failure that the list does not know, 69 where the suite cannot be had."""
    args, begin = arguments(), time.monotonic()
    entries = known.read(known.LIST.read_text())
    try:
        built = suite.build(ROOT / "build/conformance", args.suite)
    except suite.Unavailable as error:
        print(f"conformance: not run: {error}", file=sys.stderr)
        return UNAVAILABLE
    except suite.Broken as error:
        print(f"conformance: {error}", file=sys.stderr)
        return FAILED
    if unknown := set(args.program) - set(built.programs):
        print(f"conformance: no such program: {' '.join(sorted(unknown))}", file=sys.stderr)
        return USAGE
    runtimes = find(args.runtime, args.bin)
    shield(args.place)
    lacking = {e.program: (known.missing(e.needs), e.reason) for e in entries if e.needs}
    chosen = args.program or list(built.programs)
    left_out = {n: f"{why} (needs {need})" for n, (need, why) in lacking.items() if need and n in chosen}
    try:
        results = run_all([name for name in chosen if name not in left_out], runtimes, built, args.jobs)
    finally:
        remove_cgroups()
    table(results, entries, left_out)
    problems, notes = known.verdict(entries, results)
    problems += known.strangers(entries, built.programs)
    for line in (*built.notes, *notes):
        print(f"note: {line}")
    for line in problems:
        print(f"FAILED: {line}")
    print(f"{len(left_out)} left out; {time.monotonic() - begin:.0f} s; what each said: build/conformance/log")
    passed = [f"{rt.name} {sum(not row[rt.name].why for row in results.values())}" for rt in runtimes]
    print(f"conformance: {', '.join(passed)} of {len(results)} programs")
    return FAILED if problems else 0


if __name__ == "__main__":
    sys.exit(main())
