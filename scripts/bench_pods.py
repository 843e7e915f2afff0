"""Many pods at once: how long each takes to start as they become more, what one costs, how long a list of them takes.

pyrkt and, with fewer of them, its peers; the start times drawn as text and as SVG.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import bench_engines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bench import Bench

PODS, PEERS = 200, 20
LIST_BAR_S = 0.3
EDGE = 20
"""Of the first and of the last this many the median is given."""
_QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


class Many(NamedTuple):
    """What was seen of one engine: milliseconds of each start, of a list, of taking all away; KiB, processes a pod."""

    starts: list[float]
    listed: float
    removed: float
    kib: float
    processes: float
    daemons_kib: float


def milliseconds(command: Sequence[str]) -> float:
    """Run a command that must succeed; return how long it took."""
    begin = time.perf_counter()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
    took = (time.perf_counter() - begin) * 1000
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(command)}: exit {done.returncode}")
    return took


def fields(pid: int, name: str, keys: Iterable[str]) -> dict[str, int]:
    """Return the numbers after ``keys`` in /proc/PID/NAME; nothing of a process that is gone."""
    found = {}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/{name}").read_text().splitlines():
            key, _, rest = line.partition(":")
            if key in keys:
                found[key] = int(rest.split()[0])
    return found


def everyone() -> dict[int, tuple[int, str]]:
    """Return every process: pid -> parent, command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, KeyError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found[int(entry.name)] = (fields(int(entry.name), "status", ("PPid",))["PPid"], line)
    return found


def pss(pids: Iterable[int]) -> float:
    """Return the proportional set size of these processes in KiB."""
    return float(sum(fields(pid, "smaps_rollup", ("Pss",)).get("Pss", 0) for pid in pids))


def measure(
    count: int, start: Callable[[int], list[str]], listing: list[str], remove: Callable[[], list[list[str]]],
    kept: Callable[[], list[int]], daemons: Callable[[], list[int]],
) -> Many:  # fmt: skip
    """Start ``count`` pods, look, take them away. ``kept``: what the engine keeps for them, the apps not counted.

    One before them, not counted, warms up.
    """
    milliseconds(start(-1))
    for command in remove():
        milliseconds(command)
    starts = [milliseconds(start(number)) for number in range(count)]
    pids, servers = kept(), daemons()
    memory, shared = pss(pids), pss(servers)
    listed = statistics.median(milliseconds(listing) for _ in range(7))
    begin = time.perf_counter()
    for command in remove():
        milliseconds(command)
    removed = (time.perf_counter() - begin) * 1000
    return Many(starts, listed, removed, memory / count, len(pids) / count, shared)


def of_pyrkt(bench: Bench, reference: str, count: int) -> Many:
    """Measure ``pyrkt run -d``; SystemExit if anything of a pod stays."""
    tool = bench.command("run", "-d", reference, "--exec=/bin/sleep", "--", "1000")
    listing = bench.command("list", "--format=json")

    def pods() -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(subprocess.check_output(listing))
        return found

    def kept() -> list[int]:
        everybody = everyone()
        firsts = {int(str(pod["pid"])) for pod in pods()}
        mine = {everybody[pid][0] for pid in firsts}
        while more := {pid for pid, (parent, _) in everybody.items() if parent in mine} - mine:
            mine |= more
        return [pid for pid in mine if not everybody[pid][1].startswith("/bin/sleep")]

    seen = set[str]()

    def remove() -> list[list[str]]:
        uuids = [str(pod["name"]) for pod in pods()]
        seen.update(uuids)
        return [bench.command("stop", "--force", *uuids), bench.command("gc", "--grace-period=0s")]

    try:
        found = measure(count, lambda _: tool, bench.command("list"), remove, kept, list)
    finally:
        for command in remove() if pods() else ():
            subprocess.run(command, check=False, **_QUIET)  # type: ignore[call-overload]
    stayed = [where for where, _, _ in os.walk("/sys/fs/cgroup") if any(uuid in where for uuid in seen)]
    stayed += [line for _, line in everyone().values() if any(uuid in line for uuid in seen)]
    if stayed:
        raise SystemExit(f"bench: left behind: {', '.join(stayed[:5])}")
    return found


def of_podman(bench: Bench, image: str, count: int) -> Many:
    """Measure ``podman run -d``."""
    limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
    run = bench.podman("run", "-d", "--network=none", *limits, image, "/bin/sleep", "1000")
    place = str(bench.base)

    def kept() -> list[int]:
        return [pid for pid, (_, line) in everyone().items() if "conmon" in line.split(" ")[0] and place in line]

    remove = [bench.podman("rm", "--all", "--force", "-t", "0")]
    return measure(count, lambda _: run, bench.podman("ps"), lambda: remove, kept, list)


def of_docker(docker: list[str], place: Path, count: int) -> Many:
    """Measure ``docker run -d``."""
    run = [*docker, "run", "-d", "--network=none", bench_engines.IMAGE, "/bin/sleep", "1000"]

    def named(*words: str) -> list[int]:
        return [
            pid
            for pid, (_, line) in everyone().items()
            if line.split(" ")[0].rpartition("/")[2] in words and str(place) in line
        ]

    def remove() -> list[list[str]]:
        ids = subprocess.check_output([*docker, "ps", "-aq"]).decode().split()
        return [[*docker, "rm", "--force", *ids]]

    return measure(count, lambda _: run, [*docker, "ps"], remove, lambda: named("containerd-shim-runc-v2"),
                   lambda: named("dockerd", "containerd"))  # fmt: skip


def pods(bench: Bench, reference: str, count: int, peers: int) -> dict[str, Many]:
    """Measure all three, one after another: pods of one would be in the way of the other's."""
    subprocess.run(bench.command("fetch", reference), check=True, **_QUIET)  # type: ignore[call-overload]
    found = {"pyrkt": of_pyrkt(bench, reference, count)}
    subprocess.run(bench.podman("pull", reference), check=True, **_QUIET)  # type: ignore[call-overload]
    image = subprocess.check_output(bench.podman("images", "-q")).decode().split()[0]
    found["podman"] = of_podman(bench, image, peers)
    place = bench.base / "engines"
    with bench_engines.engines(place, bench.base / "bundle/rootfs") as (docker, _):
        found["docker"] = of_docker(docker, place, peers)
    return found


def slope(starts: Sequence[float]) -> float:
    """Return by how many milliseconds a start grows with each pod that is there: of the line of least squares."""
    return statistics.linear_regression(range(len(starts)), starts).slope if len(starts) > 1 else 0.0


def lines(found: dict[str, Many]) -> list[str]:
    """Return the figures as text, and the start times drawn."""
    text = [
        f"{'':8} {'pods':>5} {'first':>7} {'last':>7} {'slope':>10} {'list':>8} {'KiB':>7} {'procs':>6} {'remove':>8}"
    ]
    for name, many in found.items():
        count, edge = len(many.starts), min(EDGE, len(many.starts))
        first, last = statistics.median(many.starts[:edge]), statistics.median(many.starts[-edge:])
        grows = slope(many.starts) * 1000
        text.append(
            f"{name:8} {count:>5} {first:>7.1f} {last:>7.1f} {grows:>7.1f} us {many.listed:>5.0f} ms"
            f" {many.kib:>7.0f} {many.processes:>6.1f} {many.removed / count:>5.1f} ms"
            + (f"  and daemons of {many.daemons_kib:.0f} KiB" if many.daemons_kib else "")
        )
    ours = found["pyrkt"]
    bar = "met" if ours.listed < LIST_BAR_S * 1000 else "NOT met"
    text.append(f"list of {len(ours.starts)} pods under {LIST_BAR_S} s: {bar}")
    return [*text, "", *plot(ours.starts)]


def plot(values: Sequence[float], width: int = 100, height: int = 12) -> list[str]:
    """Draw ``values`` in columns, each the median of its share, from nothing upwards."""
    columns = min(width, len(values))
    shares = [values[len(values) * n // columns : len(values) * (n + 1) // columns] for n in range(columns)]
    medians = [statistics.median(share) for share in shares]
    top = max(medians) * 1.1
    rows = [[" "] * columns for _ in range(height)]
    for column, value in enumerate(medians):
        rows[height - 1 - min(height - 1, int(value / top * height))][column] = "*"
    drawn = [f"{top * (height - row) / height:>7.1f} |{''.join(line)}" for row, line in enumerate(rows)]
    return [*drawn, f"{'ms':>7} +{'-' * columns}", f"{'':9}1{len(values):>{columns - 1}} pods"]


def svg(found: dict[str, Many]) -> str:
    """Return the start times as a picture: a dot a pod, a line through the medians of ten, of pyrkt and its peers."""
    wide, high, left, low = 760.0, 360.0, 60.0, 40.0
    count = max(len(many.starts) for many in found.values())
    top = max(statistics.quantiles(many.starts, n=20)[-1] for many in found.values()) * 1.15
    colours = dict(zip(found, ("#0b6", "#a4c", "#39c"), strict=False))

    def at(number: float, value: float) -> tuple[float, float]:
        return left + number / count * (wide - left - 20), high - low - min(value, top) / top * (high - low - 20)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0f} {high:.0f}" font-family="sans-serif"'
        ' font-size="12">',
        f'<rect width="{wide:.0f}" height="{high:.0f}" fill="white"/>',
    ]
    for step in range(5):
        value = top * step / 4
        _, y = at(0, value)
        parts.append(f'<path d="M{left} {y:.1f}H{wide - 20}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.0f} ms</text>')
    for row, (name, many) in enumerate(found.items()):
        dots = "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.5"/>' for x, y in (at(n, v) for n, v in enumerate(many.starts, 1))
        )
        steps = [many.starts[n : n + 10] for n in range(0, len(many.starts), 10)]
        path = " ".join(
            "{:.1f},{:.1f}".format(*at(10 * n + len(step) / 2, statistics.median(step))) for n, step in enumerate(steps)
        )
        parts.append(f'<g fill="{colours[name]}" fill-opacity="0.35">{dots}</g>')
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colours[name]}" stroke-width="2"/>')
        parts.append(f'<text x="{wide - 110}" y="{18 + 16 * row}" fill="{colours[name]}">{name}</text>')
    parts.append(f'<text x="{wide / 2:.0f}" y="{high - 8:.0f}" text-anchor="middle">pods that run</text>')
    return "\n".join([*parts, "</svg>", ""])
