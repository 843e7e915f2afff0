"""process.ioPriority, ioprio_set(2): of the program, and of exec."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.running import executed, executed_process, started

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


def shown(pid: int) -> str:
    """Return what ionice(1) says of a process."""
    return subprocess.run(["ionice", "-p", str(pid)], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"class": "IOPRIO_CLASS_BE", "priority": 4}, "best-effort: prio 4"),
        ({"class": "IOPRIO_CLASS_BE"}, "best-effort: prio 0"),
        ({"class": "IOPRIO_CLASS_RT", "priority": 7}, "realtime: prio 7"),
        ({"class": "IOPRIO_CLASS_IDLE"}, "idle"),
    ],
)
def test_class_and_priority(runtime: Runtime, box: Bundle, wanted: dict[str, Any], expected: str) -> None:
    box.config["process"]["ioPriority"] = wanted
    assert shown(runtime.state(started(runtime, box))["pid"]) == expected


def test_exec_has_the_containers_or_its_own(runtime: Runtime, box: Bundle) -> None:
    box.config["process"]["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 4}
    (box.rootfs / "bin/ionice").symlink_to("busybox")
    name = started(runtime, box)
    assert executed(runtime, name, "ionice").strip() == "best-effort: prio 4"
    assert executed_process(runtime, box.path, name, args=["ionice"]).out.strip() == "best-effort: prio 4"
    own = {"class": "IOPRIO_CLASS_IDLE"}
    assert executed_process(runtime, box.path, name, args=["ionice"], ioPriority=own).out.strip().startswith("idle")


@pytest.mark.parametrize(
    "wanted", [{"class": "IOPRIO_CLASS_NONE"}, {"priority": 1}, {"class": "IOPRIO_CLASS_BE", "priority": 8}]
)
def test_what_is_refused(runtime: Runtime, box: Bundle, wanted: dict[str, Any]) -> None:
    box.config["process"]["ioPriority"] = wanted
    answer = runtime.run(box.save().path)
    assert answer.code == 1
    assert "process.ioPriority." in answer.err
