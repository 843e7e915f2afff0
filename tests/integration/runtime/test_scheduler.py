"""process.scheduler, sched_setattr(2): of the program, and of exec."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.running import executed_process, started

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root

OWN = ("cat", "/proc/self/sched")


def shown(pid: int) -> str:
    """Return what chrt(1) says of a process."""
    return subprocess.run(["chrt", "-p", str(pid)], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("policy", "number", "nice"),
    [
        ("SCHED_OTHER", os.SCHED_OTHER, 5),
        ("SCHED_BATCH", os.SCHED_BATCH, 19),
        ("SCHED_IDLE", os.SCHED_IDLE, 0),
    ],
)
def test_policy_and_nice(runtime: Runtime, box: Bundle, policy: str, number: int, nice: int) -> None:
    box.config["process"]["scheduler"] = {"policy": policy, "nice": nice}
    name = started(runtime, box)
    pid = runtime.state(name)["pid"]
    assert os.sched_getscheduler(pid) == number
    assert policy == "SCHED_IDLE" or os.getpriority(os.PRIO_PROCESS, pid) == nice


@pytest.mark.parametrize(("policy", "number"), [("SCHED_FIFO", os.SCHED_FIFO), ("SCHED_RR", os.SCHED_RR)])
def test_real_time_where_the_cgroup_has_any(runtime: Runtime, box: Bundle, policy: str, number: int) -> None:
    """A v1 cgroup of the kind that divides real time gives a new one none of it; then it is said."""
    box.config["process"]["scheduler"] = {"policy": policy, "priority": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}
    name = runtime.new_id()
    answer = runtime.detached("run", "--detach", "--bundle", str(box.save().path), name)
    if answer.code:
        assert "setting the scheduler (config.json: /process/scheduler): operation not permitted" in answer.err
        return
    pid = runtime.state(name)["pid"]
    assert os.sched_getscheduler(pid) == number | os.SCHED_RESET_ON_FORK
    assert os.sched_getparam(pid).sched_priority == 3


def test_exec_has_the_containers_or_its_own(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    box.config["process"]["scheduler"] = {"policy": "SCHED_BATCH", "nice": 3}
    box.config["process"]["capabilities"]["bounding"] = []
    name = started(runtime, box)

    def detached(**process: Any) -> int:
        path = tmp_path / "pid"
        (tmp_path / "process.json").write_text(json.dumps(process))
        words = ("--detach", "--pid-file", str(path), "--process", str(tmp_path / "process.json"))
        answer = runtime.detached("exec", *words, name)
        assert answer.code == 0, answer.err
        return int(path.read_text())

    base = {"args": ["/bin/sleep", "300"], "cwd": "/"}
    assert os.sched_getscheduler(detached(**base)) == os.SCHED_BATCH
    assert os.sched_getscheduler(detached(**base, scheduler={"policy": "SCHED_IDLE"})) == os.SCHED_IDLE
    deadline = {"policy": "SCHED_DEADLINE", "runtime": 42000, "deadline": 100000, "period": 1000000}
    pid = detached(**base, scheduler=deadline | {"flags": ["SCHED_FLAG_RESET_ON_FORK"]})
    assert "SCHED_DEADLINE|SCHED_RESET_ON_FORK" in shown(pid)
    assert "parameters: 42000/100000/1000000" in shown(pid)


def test_a_deadline_is_not_for_some_processors(runtime: Runtime, box: Bundle) -> None:
    box.config["linux"]["resources"]["cpu"] = {"cpus": "0"}
    box.config["process"]["scheduler"] = {
        "policy": "SCHED_DEADLINE",
        "runtime": 42000,
        "deadline": 1000000,
        "period": 1000000,
    }
    answer = runtime.run(box.runs("true").path)
    if os.cpu_count() == 1:
        assert answer.code == 0
        return
    assert answer.code == 1
    assert "process scheduler can't be used together with AllowedCPUs" in answer.err


@pytest.mark.parametrize(
    ("scheduler", "problem"),
    [
        ({"policy": "SCHED_OTHER", "priority": 1}, "scheduler.priority: SCHED_OTHER has none"),
        ({"policy": "SCHED_BATCH", "runtime": 1}, "scheduler.runtime: SCHED_BATCH has none"),
        ({"policy": "SCHED_OTHER", "nice": 20}, "scheduler.nice: must be between"),
        ({"policy": "SCHED_FAIR"}, "scheduler.policy: "),
        ({"nice": 1}, "scheduler.policy: is required"),
        ({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_X"]}, "scheduler.flags[0]: "),
        ({"policy": "SCHED_ISO"}, "setting the scheduler (config.json: /process/scheduler): invalid argument"),
    ],
)
def test_what_is_refused(runtime: Runtime, box: Bundle, scheduler: dict[str, Any], problem: str) -> None:
    box.config["process"]["scheduler"] = scheduler
    answer = runtime.run(box.runs("true").path)
    assert answer.code == 1
    assert problem in answer.err


def test_exec_of_a_bad_one_is_said(runtime: Runtime, box: Bundle) -> None:
    name = started(runtime, box)
    answer = executed_process(runtime, box.path, name, args=OWN, scheduler={"policy": "SCHED_FIFO", "deadline": 1})
    assert answer.code == 255
    assert "scheduler.deadline: SCHED_FIFO has none" in answer.err
