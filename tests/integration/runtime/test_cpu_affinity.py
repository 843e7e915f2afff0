"""Processors: all of the container's cgroup, whatever the caller was pinned to; execCPUAffinity on exec."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.running import executed, executed_process, started

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root

SHOW = ("grep", "Cpus_allowed_list:", "/proc/self/status")
ALL = sorted(os.sched_getaffinity(0))
TWO = pytest.mark.skipif(len(ALL) < 2, reason="needs two processors")


def pinned() -> None:
    """Let the caller run on its first processor only."""
    os.sched_setaffinity(0, {ALL[0]})


def listed(text: str) -> set[int]:
    """Return the processors of a list such as "0-1,3"."""
    found: set[int] = set()
    for part in text.partition(":")[2].strip().split(","):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


@TWO
def test_a_pinned_caller_pins_nobody(runtime: Runtime, box: Bundle) -> None:
    box.config["linux"]["resources"].pop("cpu", None)
    answer = runtime.run(box.runs(*SHOW).path, preexec_fn=pinned)
    assert listed(answer.out) >= set(ALL), answer.err
    box.config["process"]["args"] = ["sleep", "300"]
    name = started(runtime, box)
    assert listed(runtime.call("exec", name, *SHOW, preexec_fn=pinned).out) >= set(ALL)


@TWO
def test_the_cgroups_processors_are_the_limit(runtime: Runtime, box: Bundle) -> None:
    box.config["linux"]["resources"]["cpu"] = {"cpus": str(ALL[1]), "mems": "0"}
    answer = runtime.run(box.runs(*SHOW).path, preexec_fn=pinned)
    assert listed(answer.out) == {ALL[1]}, answer.err


@TWO
@pytest.mark.parametrize("write", ["{1}", "{0}-{1}", "{0},{1}", "{0}"])
def test_exec_where_it_is_wanted(runtime: Runtime, box: Bundle, write: str) -> None:
    cpus = write.format(*ALL[:2])
    name = started(runtime, box)
    affinity = {"initial": cpus, "final": cpus}
    answer = executed_process(runtime, box.path, name, args=SHOW, execCPUAffinity=affinity)
    assert listed(answer.out) == listed(f":{cpus}"), answer.err


@TWO
def test_exec_as_config_json_says(runtime: Runtime, box: Bundle) -> None:
    box.config["process"]["execCPUAffinity"] = {"initial": str(ALL[0]), "final": str(ALL[1])}
    name = started(runtime, box)
    assert listed(executed(runtime, name, *SHOW)) == {ALL[1]}
    # of exec only, as its name says
    assert listed(executed(runtime, name, "grep", "Cpus_allowed_list:", "/proc/1/status")) >= set(ALL)


@TWO
def test_the_initial_one_alone_is_told_of(runtime: Runtime, box: Bundle) -> None:
    name = started(runtime, box)
    path = box.path / "process.json"
    path.write_text(f'{{"args": ["/bin/true"], "cwd": "/", "execCPUAffinity": {{"initial": "{ALL[1]}"}}}}')
    done = runtime.call("exec", "--process", str(path), name)
    assert done.code == 0, done.err
    runtime.command = (*runtime.command, "--debug")
    assert f"affinity: {1 << ALL[1]:#x}" in runtime.call("exec", "--process", str(path), name).err


@pytest.mark.parametrize(
    ("affinity", "problem"),
    [
        ({"initial": "x"}, "no list of processors"),
        ({"final": "3-1"}, "runs backwards"),
        ({"final": "9999"}, "setting the processors to run on (config.json: /process/execCPUAffinity/final)"),
    ],
)
def test_what_is_refused(runtime: Runtime, box: Bundle, affinity: dict[str, Any], problem: str) -> None:
    name = started(runtime, box)
    answer = executed_process(runtime, box.path, name, args=["true"], execCPUAffinity=affinity)
    assert answer.code == 255
    assert problem in answer.err
