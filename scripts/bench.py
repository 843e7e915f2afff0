"""Times of pyrkt and its peers, taken in turns within one run so that a busy machine is unfair to all alike."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import io
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import bench_engines
import bench_pods
import bench_tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Times = dict[str, list["float | Took"]]

ROWS = ("run", "again", "cycle", "exec", "image", "prepared", "fetch", "memory", "slope")
BARS = {"run": ("runc", 0.6), "cycle": ("runc", 0.8), "exec": ("runc", 0.6), "image": ("podman run", 0.25)}
"""Of a row: the peer, and the most that pyrkt's median may be of the peer's."""
QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def call(*argv: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
    """Run a program to its end; SystemExit with its last words if it fails."""
    # To a file: a container that goes on inherits standard error, and would hold a pipe open.
    with tempfile.TemporaryFile() as words_file:
        quiet = QUIET | {"stderr": words_file}
        done = subprocess.run([str(word) for word in argv], env=env, cwd=cwd, check=False, **quiet)  # type: ignore[call-overload]
        words_file.seek(0)
        words = words_file.read().decode(errors="replace").strip()[-400:]
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(map(str, argv))}: exit {done.returncode}: {words}")


class Took(NamedTuple):
    """Milliseconds by the clock, and those in which a processor worked for the program and what it waited for."""

    wall: float
    cpu: float

    def __add__(self, other: object) -> Took:
        """Return both one after the other."""
        assert isinstance(other, Took)
        return Took(self.wall + other.wall, self.cpu + other.cpu)


def timed(*argv: str | Path) -> Took:
    """Run a program to its end as an engine does, by posix_spawn(3), which costs the caller nothing much; time it."""
    words = [str(word) for word in argv]
    with tempfile.TemporaryFile() as said:
        null = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1)]
        program = words[0] if "/" in words[0] else str(shutil.which(words[0]))
        begin = time.perf_counter()
        pid = os.posix_spawn(program, words, os.environ, file_actions=[*null, (os.POSIX_SPAWN_DUP2, said.fileno(), 2)])
        _, status, used = os.wait4(pid, 0)
        wall = (time.perf_counter() - begin) * 1000
        if status:
            said.seek(0)
            raise SystemExit(f"bench: {' '.join(words)}: {status:#x}: {said.read().decode(errors='replace')[-400:]}")
    return Took(wall, (used.ru_utime + used.ru_stime) * 1000)


def in_turns(work: dict[str, Callable[[], float | Took | None]], runs: int) -> dict[str, list[float | Took]]:
    """Call each of ``work`` once to warm up, then ``runs`` times in turns; milliseconds each took (or returned)."""
    times: dict[str, list[float | Took]] = {name: [] for name in work}
    for turn in range(runs + 1):
        for name, function in work.items():
            begin = time.perf_counter()
            own = function()
            took = (time.perf_counter() - begin) * 1000 if own is None else own
            if turn:
                times[name].append(took)
    return times


class Bench:
    """A place to measure in: a tmpfs with a busybox root, a bundle, a store; programs found beside this one."""

    def __init__(self, bin_dir: Path, runs: int) -> None:
        self.pyrkt, self.oci, self.runs = bin_dir / "pyrkt", bin_dir / "pyrkt-oci", runs
        self.base = Path(tempfile.mkdtemp(prefix="pyrkt-bench-"))
        call("mount", "-t", "tmpfs", "tmpfs", self.base)
        self.store = self.base / "store"
        root = self.base / "bundle/rootfs"
        for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
            (root / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", root / "bin/busybox")
        for applet in ("sh", "true", "sleep", "echo"):
            (root / "bin" / applet).symlink_to("busybox")
        (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
        self._bundle("/bin/true", self.base / "bundle")
        (self.base / "sleeper").mkdir()
        (self.base / "sleeper/rootfs").symlink_to(root)
        self._bundle("/bin/sleep 1000", self.base / "sleeper")
        self.serial = 0

    def _bundle(self, command: str, into: Path) -> None:
        call("runc", "spec", cwd=into)
        config = json.loads((into / "config.json").read_text())
        config["process"]["terminal"] = False
        config["process"]["args"] = command.split()
        config["root"]["path"] = str(self.base / "bundle/rootfs")
        (into / "config.json").write_text(json.dumps(config))

    def close(self) -> None:
        """Leave nothing: the mount goes with its namespace, the directory here."""
        call("umount", "--lazy", self.base)
        self.base.rmdir()

    def name(self) -> str:
        """Return a container name not used before."""
        self.serial += 1
        return f"pyrkt-bench-{os.getpid()}-{self.serial}"

    def runtimes(self) -> dict[str, list[str]]:
        """Return the OCI runtimes and how each is called."""
        return {
            "pyrkt-oci": [str(self.oci), "--root", str(self.base / "oci")],
            "crun": ["crun", "--root", str(self.base / "crun")],
            "runc": ["runc", "--root", str(self.base / "runc")],
        }

    # --- rows ---------------------------------------------------------------------------------------------------

    def run(self) -> Times:
        """Time `run` of the default bundle, /bin/true, each time with an annotation that nobody has seen before."""
        config = json.loads((self.base / "bundle/config.json").read_text())
        bundle = self.base / "fresh"
        bundle.mkdir()

        def once(command: list[str]) -> Took:
            name = self.name()
            (bundle / "config.json").write_text(json.dumps(config | {"annotations": {"bench": name}}))
            return timed(*command, "run", "-b", bundle, name)

        return in_turns({n: lambda c=c: once(c) for n, c in self.runtimes().items()}, self.runs)  # type: ignore[misc]

    def again(self) -> Times:
        """Time `run` of one bundle again and again."""
        bundle = self.base / "bundle"
        return in_turns(
            {n: lambda c=c: timed(*c, "run", "-b", bundle, self.name()) for n, c in self.runtimes().items()},  # type: ignore[misc]
            self.runs,
        )

    def cycle(self) -> Times:
        """Time create, start and delete."""
        bundle = self.base / "bundle"

        def once(command: list[str]) -> Took:
            name = self.name()
            took = timed(*command, "create", "-b", bundle, name) + timed(*command, "start", name)
            # The container ends by itself; when its parent notices is not the runtime's time.
            for _ in range(400):
                with contextlib.suppress(ValueError):
                    state = subprocess.run([*command, "state", name], capture_output=True, check=False).stdout
                    if json.loads(state)["status"] == "stopped":
                        break
                time.sleep(0.005)
            return took + timed(*command, "delete", name)

        return in_turns({n: lambda c=c: once(c) for n, c in self.runtimes().items()}, self.runs)  # type: ignore[misc]

    def exec(self) -> Times:
        """Time exec of /bin/true into a running container."""
        names = {}
        try:
            for tool, command in self.runtimes().items():
                name = self.name()
                call(*command, "run", "-d", "-b", self.base / "sleeper", name)
                names[tool] = name
            return in_turns(
                {n: lambda c=c, n=n: timed(*c, "exec", names[n], "/bin/true") for n, c in self.runtimes().items()},  # type: ignore[misc]
                self.runs,
            )
        finally:
            for tool, name in names.items():
                call(*self.runtimes()[tool], "delete", "--force", name)

    def _layout(self, layers: list[bytes]) -> Path:
        layout = self.base / f"layout-{len(layers)}"
        blobs = layout / "blobs/sha256"
        blobs.mkdir(parents=True)

        def put(data: bytes, media_type: str) -> dict[str, object]:
            digest = hashlib.sha256(data).hexdigest()
            (blobs / digest).write_bytes(data)
            return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

        config = {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
            "os": "linux",
            "config": {"Cmd": ["/bin/true"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(x).hexdigest() for x in layers]},
        }
        kind = "application/vnd.oci.image"
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": put(json.dumps(config).encode(), f"{kind}.config.v1+json"),
            "layers": [put(gzip.compress(x, 6, mtime=0), f"{kind}.layer.v1.tar+gzip") for x in layers],
        }
        described = put(json.dumps(manifest).encode(), f"{kind}.manifest.v1+json")
        described["annotations"] = {"org.opencontainers.image.ref.name": "1"}
        (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
        (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        return layout

    def small(self) -> str:
        """Return the reference of an image of one program."""
        layout = self.base / "layout-1"
        if not layout.exists():
            self._layout([tar_of([(self.base / "bundle/rootfs", "")])])
        return f"oci:{layout}:1"

    def command(self, *words: str | Path) -> list[str]:
        """Return a command line of pyrkt's with a store of its own."""
        return [str(self.pyrkt), f"--dir={self.store}", "--insecure-options=image,http", *map(str, words)]

    def podman(self, *words: str | Path) -> list[str]:
        """Return a command line of podman's with a store of its own."""
        place = self.base / "podman"
        return ["podman", "--root", f"{place}/root", "--runroot", f"{place}/run", "--tmpdir", f"{place}/tmp",
                "--storage-driver", "overlay", "--events-backend", "file", "--cgroup-manager", "cgroupfs",
                *map(str, words)]  # fmt: skip

    def image(self) -> Times:
        """Time running a stored image without network."""
        reference = self.small()
        call(*self.command("fetch", reference))
        call(*self.podman("pull", reference))
        image = subprocess.run(self.podman("images", "-q"), capture_output=True, check=True).stdout.decode().split()[0]
        bundle = self.base / "bundle"
        limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
        with bench_engines.engines(self.base / "engines", self.base / "bundle/rootfs") as (docker, ctr):
            return in_turns(
                {
                    "pyrkt run": lambda: timed(*self.command("run", "--net=none", reference)),
                    "podman run": lambda: timed(*self.podman("run", "--rm", "--network=none", *limits, image)),
                    "docker run": lambda: timed(
                        *docker, "run", "--rm", "--network=none", bench_engines.IMAGE, "/bin/true"
                    ),
                    "ctr run": lambda: timed(*ctr, "run", "--rm", bench_engines.IMAGE, self.name(), "/bin/true"),
                    "crun run": lambda: timed(*self.runtimes()["crun"], "run", "-b", bundle, self.name()),
                },
                self.runs,
            )

    def prepared(self) -> Times:
        """Time run-prepared against crun run of a bundle."""
        reference = self.small()
        call(*self.command("fetch", reference))
        bundle = self.base / "bundle"

        def once() -> float:
            command = self.command("prepare", "--quiet", reference)
            uuid = subprocess.run(command, capture_output=True, check=True).stdout.decode().split()[-1]
            begin = time.perf_counter()
            call(*self.command("run-prepared", uuid))
            return (time.perf_counter() - begin) * 1000

        return in_turns(
            {
                "pyrkt run-prepared": once,
                "crun run": lambda: call(*self.runtimes()["crun"], "run", "-b", bundle, self.name()),
            },
            self.runs,
        )

    def fetch(self) -> Times:
        """Time fetch, verify and unpack of some 300 MB in six layers from docker-registry on loopback, plain HTTP."""
        layout = self._layout([tar_of(part) for part in parts_of(Path("/usr"), 300 << 20, 6)])
        with registry(self.base) as port:
            reference = f"127.0.0.1:{port}/bench:1"
            call("skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false",
                 f"oci:{layout}:1", f"docker://{reference}")  # fmt: skip

            def pyrkt() -> float:
                shutil.rmtree(self.store, ignore_errors=True)
                begin = time.perf_counter()
                call(*self.command("fetch", f"docker://{reference}"))
                return (time.perf_counter() - begin) * 1000

            def podman() -> float:
                subprocess.run(self.podman("rmi", "--all", "--force"), check=False, **QUIET)  # type: ignore[call-overload]
                begin = time.perf_counter()
                call(*self.podman("pull", "--tls-verify=false", f"docker://{reference}"))
                return (time.perf_counter() - begin) * 1000

            return in_turns({"pyrkt fetch": pyrkt, "podman pull": podman}, max(3, self.runs // 4))

    def _sleeping(self) -> tuple[subprocess.Popen[bytes], str]:
        mark = self.base / f"uuid-{self.name()}"
        process = subprocess.Popen(
            self.command("run", f"--uuid-file-save={mark}", self.small(), "--exec=/bin/sleep", "--", "1000"),
            **QUIET,  # type: ignore[call-overload]
        )
        for _ in range(400):
            time.sleep(0.01)
            if (
                mark.exists()
                and subprocess.run(["pgrep", "-P", str(process.pid)], check=False, **QUIET).returncode == 0
            ):  # type: ignore[call-overload]
                break
        time.sleep(0.2)
        return process, mark.read_text().strip()

    def memory(self) -> Times:
        """Return KiB of PSS of what pyrkt keeps for one running pod (its supervisor and PID 1, not the app)."""
        call(*self.command("fetch", self.small()))
        kib = []
        for _ in range(5):
            process, uuid = self._sleeping()
            try:
                kept = [process.pid]
                kept += [int(x) for x in subprocess.check_output(["pgrep", "-P", str(process.pid)]).split()]
                kib.append(sum(pss(pid) for pid in kept if "sleep" not in Path(f"/proc/{pid}/cmdline").read_text()))
            finally:
                call(*self.command("stop", "--force", uuid))
                process.wait(20)
        return {"pyrkt KiB per pod": kib}

    def slope(self) -> Times:
        """Return the start times of 200 pods kept prepared behind one another: first 20, last 20."""
        call(*self.command("fetch", self.small()))
        times = []
        for _ in range(200):
            begin = time.perf_counter()
            call(*self.command("run", self.small()))
            times.append((time.perf_counter() - begin) * 1000)
        return {"pods 1-20": times[:20], "pods 181-200": times[-20:]}


def pss(pid: int) -> float:
    """Return the proportional set size of a process in KiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return float(line.split()[1])
    return 0.0


def tar_of(items: list[tuple[Path, str]]) -> bytes:
    """Return a tar of the trees and files in ``items``, each under its name."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, name in items:
            if path.is_dir() and not path.is_symlink():
                for child in sorted(path.rglob("*")):
                    tar.add(child, str(Path(name, child.relative_to(path))), recursive=False)
            else:
                tar.add(path, name, recursive=False)
    return out.getvalue()


def parts_of(tree: Path, size: int, parts: int) -> list[list[tuple[Path, str]]]:
    """Choose regular files of ``tree`` up to ``size`` bytes, in ``parts`` about equal lists."""
    result: list[list[tuple[Path, str]]] = [[]]
    total = 0
    for folder, folders, names in os.walk(tree):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_symlink() or not path.is_file() or path.stat().st_size > 20 << 20:
                continue
            result[-1].append((path, str(path).lstrip("/")))
            total += path.stat().st_size
            if total >= size * len(result) // parts:
                if len(result) == parts:
                    return result
                result.append([])
    return result


@contextlib.contextmanager
def registry(base: Path) -> Iterator[int]:
    """Run docker-registry on a free port of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    config = base / "registry.yml"
    config.write_text(
        json.dumps(
            {
                "version": "0.1",
                "log": {"level": "error", "accesslog": {"disabled": True}},
                "storage": {"filesystem": {"rootdirectory": str(base / "registry")}},
                "http": {"addr": f"127.0.0.1:{port}"},
            }
        )
    )
    server = subprocess.Popen(
        ["docker-registry", "serve", config], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait(10)


def machine() -> dict[str, str]:
    """Return what the figures came from."""
    model = next(
        (x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), ""
    )

    def version(*argv: str) -> str:
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            return subprocess.check_output(argv, stderr=subprocess.DEVNULL).decode().splitlines()[0]
        return "not there"

    return {
        "cpu": f"{os.cpu_count()} x {model}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "runc": version("runc", "--version"),
        "crun": version("crun", "--version"),
        "podman": version("podman", "--version"),
        "docker": version("dockerd", "--version"),
        "containerd": version("containerd", "--version"),
    }


def figures_of(times: Times) -> dict[str, dict[str, float]]:
    """Return the figures of one row; each ratio is that of the first, pyrkt, to the one it stands at."""

    def medians(values: Sequence[float | Took]) -> tuple[float, float]:
        walls = [value.wall if isinstance(value, Took) else value for value in values]
        cpus = [value.cpu for value in values if isinstance(value, Took)]
        return statistics.median(walls), statistics.median(cpus) if cpus else 0.0

    first, first_cpu = medians(next(iter(times.values())))
    found: dict[str, dict[str, float]] = {}
    for name, values in times.items():
        walls = [value.wall if isinstance(value, Took) else value for value in values]
        wall, cpu = medians(values)
        found[name] = {
            "median": round(wall, 2),
            "min": round(min(walls), 2),
            "max": round(max(walls), 2),
            "ratio": round(first / wall, 2),
            "runs": len(values),
        }
        if cpu and first_cpu:
            found[name] |= {"cpu": round(cpu, 2), "cpu_ratio": round(first_cpu / cpu, 2)}
    return found


def verdict(row: str, figures: dict[str, dict[str, float]]) -> str:
    """Return whether the row's bar is met; nothing without one."""
    if row not in BARS:
        return ""
    peer, most = BARS[row]
    ratio = figures[peer]["ratio"]
    return f"  {'met' if ratio <= most else 'NOT met'}: {ratio} x {peer}, at most {most}"


def many(bench: Bench, given: argparse.Namespace) -> None:
    """Measure many pods at once and print what came of it."""
    found = bench_pods.pods(bench, bench.small(), given.pods, given.peers)
    if given.svg:
        given.svg.write_text(bench_pods.svg(found))
    print(f"\npods: {given.pods} of pyrkt's at once, {given.peers} of each peer's: run -d of a small image, no network")
    print("\n".join(f"  {line}" for line in bench_pods.lines(found)))


def main() -> int:
    """Measure the rows asked for and print a table, or JSON."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--bin", type=Path, required=True)
    arguments.add_argument("--runs", type=int, default=20)
    arguments.add_argument("--json", action="store_true")
    arguments.add_argument("--pods", type=int, default=bench_pods.PODS, help="of the row pods: how many of ours")
    arguments.add_argument("--peers", type=int, default=bench_pods.PEERS, help="of the row pods: how many of each peer")
    arguments.add_argument("--svg", type=Path, help="of the row pods: where to draw the start times")
    arguments.add_argument("rows", nargs="*", choices=[[], *ROWS, "pods", "tasks"])
    given = arguments.parse_args()
    unified = Path("/sys/fs/cgroup/unified")
    if unified.is_mount():
        call("umount", unified)
    bench = Bench(given.bin, given.runs)
    results = {}
    try:
        for row in given.rows or ROWS:
            if row == "pods":
                many(bench, given)
                continue
            if row == "tasks":
                print("\ntasks: milliseconds, median (least-most)")
                print("\n".join(f"  {line}" for line in bench_tasks.tasks(bench)))
                continue
            results[row] = figures_of(getattr(bench, row)())
            if not given.json:
                print(f"\n{row}: {getattr(Bench, row).__doc__}")
                for name, figures in results[row].items():
                    print(
                        "  {:<20} median {median:>8} min {min:>8} max {max:>8}  ratio {ratio}".format(name, **figures),
                        " cpu {cpu:>8}  ratio {cpu_ratio}".format(**figures) if "cpu" in figures else "",
                    )
                print(verdict(row, results[row]))
                sys.stdout.flush()
    finally:
        bench.close()
    if given.json:
        print(json.dumps({"machine": machine(), "rows": results}, indent=2))
    else:
        print("\n" + "; ".join(f"{key} {value}" for key, value in machine().items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
