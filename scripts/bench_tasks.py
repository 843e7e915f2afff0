"""Everyday tasks, each done by pyrkt, podman and docker in turns: for docs/compare.md."""

from __future__ import annotations

import statistics
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

import bench_engines
import bench_pods

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench import Bench

LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
"""Within what a caller without CAP_SYS_RESOURCE may give."""
APP = "trap 'exit 0' TERM; /bin/sleep 1000 & wait"
"""What runs: a process that ends when it is asked to, whether or not it is its namespace's first."""
KEEPERS = {"pyrkt": "pyrkt-stage1", "podman": "conmon", "docker": "containerd-shim"}
"""How the processes begin that an engine keeps for a container."""
TALK = "i=0; while [ $i -lt 1000 ]; do echo line $i; i=$((i+1)); done"


class Engine(NamedTuple):
    """How one engine does each task: the command lines, ``{}`` being the name of a container or pod."""

    name: str
    tasks: dict[str, list[str]]
    before: dict[str, list[list[str]]]
    """What has to be there before a task: done anew each time, and not measured."""
    after: list[list[str]]


def pyrkt(bench: Bench, image: str) -> Engine:
    """Return pyrkt's words."""
    run = bench.command("run", "-d", "--name={}", image, "--exec=/bin/sh", "--", "-c", APP)
    stop, rm = bench.command("stop", "--force", "{}"), bench.command("rm", "{}")
    talk = bench.command("run", "--name={}", image, "--exec=/bin/sh", "--", "-c", TALK)
    two = ["--name=one", "--exec=/bin/sh", "--", "-c", APP, "---"]
    tasks = {
        "run true": bench.command("run", "--name={}", image),
        "run -d": run,
        "exec true": bench.command("exec", "{}", "/bin/true"),
        "list": bench.command("list"),
        "logs": bench.command("logs", "{}"),
        "stop": bench.command("stop", "{}"),
        "rm": rm,
        "two apps": bench.command("run", "-d", "--name={}", image, *two, image, "--name=two", *two[1:-1]),
    }
    before = {"exec true": [run], "logs": [talk], "stop": [run], "rm": [run, stop], "list": [run]}
    return Engine("pyrkt", tasks, before, [stop, rm])


def docker_like(name: str, command: Callable[..., list[str]], image: str) -> Engine:
    """Return podman's and docker's words, which are the same."""
    run = command("run", "-d", "--name={}", "--network=none", *LIMITS, image, "/bin/sh", "-c", APP)
    talk = command("run", "-d", "--name={}", "--network=none", *LIMITS, image, "/bin/sh", "-c", TALK)
    kill, rm = command("kill", "{}"), command("rm", "-f", "{}")
    tasks = {
        "run true": command("run", "--name={}", "--network=none", *LIMITS, image, "/bin/true"),
        "run -d": run,
        "exec true": command("exec", "{}", "/bin/true"),
        "list": command("ps"),
        "logs": command("logs", "{}"),
        "stop": command("stop", "-t", "10", "{}"),
        "rm": command("rm", "{}"),
    }
    before = {"exec true": [run], "logs": [talk, command("wait", "{}")], "stop": [run],
              "rm": [run, kill, command("wait", "{}")], "list": [run]}  # fmt: skip
    return Engine(name, tasks, before, [rm])


def filled(words: list[str], name: str) -> list[str]:
    """Return a command line with the name in its place."""
    return [word.replace("{}", name) for word in words]


def quietly(words: list[str]) -> bool:
    """Run a command; tell whether it ended well."""
    null = subprocess.DEVNULL
    return subprocess.run(words, stdin=null, stdout=null, stderr=null, check=False).returncode == 0


def once(bench: Bench, engine: Engine, task: str) -> float:
    """Do a task once, on something new; return its milliseconds."""
    name = f"b{bench.name().rpartition('-')[2]}"
    for words in engine.before.get(task, []):
        if not quietly(filled(words, name)):
            raise SystemExit(f"bench: {' '.join(filled(words, name))} failed")
    begin = time.perf_counter()
    good = quietly(filled(engine.tasks[task], name))
    took = (time.perf_counter() - begin) * 1000
    for words in engine.after:
        quietly(filled(words, name))
    if not good:
        raise SystemExit(f"bench: {' '.join(filled(engine.tasks[task], name))} failed")
    return took


def tasks(bench: Bench) -> list[str]:
    """Measure everything in turns; return the table."""
    reference = bench.small()
    quietly(bench.command("fetch", reference))
    quietly(bench.podman("pull", reference))
    image = subprocess.check_output(bench.podman("images", "-q")).decode().split()[0]
    with bench_engines.engines(bench.base / "engines", bench.base / "bundle/rootfs") as (docker, _):
        engines = [
            pyrkt(bench, reference),
            docker_like("podman", bench.podman, image),
            docker_like("docker", lambda *words: [*docker, *words], bench_engines.IMAGE),
        ]
        lines = [f"{'task':10} " + " ".join(f"{engine.name:>22}" for engine in engines)]
        for task in engines[0].tasks:
            able = [engine for engine in engines if task in engine.tasks]
            times = {engine.name: list[float]() for engine in able}
            for turn in range(bench.runs + 1):
                for engine in able:
                    took = once(bench, engine, task)
                    if turn:
                        times[engine.name].append(took)
            lines.append(f"{task:10} " + " ".join(cell(times.get(engine.name, [])) for engine in engines))
        lines += kept(bench, engines)
    return lines


def cell(values: list[float]) -> str:
    """Return the median and the extremes."""
    if not values:
        return f"{'-':>22}"
    return f"{f'{statistics.median(values):.0f} ({min(values):.0f}-{max(values):.0f})':>22}"


def kept(bench: Bench, engines: list[Engine]) -> list[str]:
    """Return what each keeps for one that runs: processes, memory. Others on this machine may add to it."""
    rows = []
    for engine in engines:

        def mine(word: str = KEEPERS[engine.name]) -> set[int]:
            everybody = bench_pods.everyone()
            return {
                pid for pid, (_, line) in everybody.items() if line.split(" ")[0].rpartition("/")[2].startswith(word)
            }

        before, name = mine(), f"b{bench.name().rpartition('-')[2]}"
        quietly(filled(engine.tasks["run -d"], name))
        new = mine() - before
        rows.append(f"{engine.name}: {len(new)} of {KEEPERS[engine.name]}, {bench_pods.pss(new):.0f} KiB")
        for words in engine.after:
            quietly(filled(words, name))
    return ["", "kept for one that runs, beside the app:", *rows]
