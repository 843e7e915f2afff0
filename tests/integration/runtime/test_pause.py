"""pause and resume, and what the other verbs make of a paused container."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support import oci
from tests.support.limits import detached, place, read

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Answer, Runtime

pytestmark = pytest.mark.root


def says(answer: Answer, code: int, message: str) -> bool:
    return answer.code == code and message in answer.err


def test_paused_and_resumed(runtime: Runtime, box: Bundle) -> None:
    box.script("while true; do echo x >> /dev/shm/log; done")
    name = detached(runtime, box)
    assert runtime.call("pause", name).code == 0
    assert runtime.state(name)["status"] == "paused"
    assert read(box, "freezer", "freezer.state") == "FROZEN"
    assert says(runtime.call("pause", name), 1, "container not running")
    assert says(runtime.call("resume", "none"), 1, "container does not exist")
    assert runtime.state(name)["status"] == "paused"
    assert runtime.call("resume", name).code == 0
    assert runtime.state(name)["status"] == "running"
    assert read(box, "freezer", "freezer.state") == "THAWED"
    assert says(runtime.call("resume", name), 1, "container not paused")


def test_of_one_that_waits_to_be_started(runtime: Runtime, box: Bundle) -> None:
    name = runtime.new_id()
    assert runtime.detached("create", "--bundle", str(box.path), name).code == 0
    assert runtime.call("pause", name).code == 0
    assert runtime.state(name)["status"] == "paused"
    assert runtime.call("start", name).code == 1
    assert runtime.call("resume", name).code == 0
    assert runtime.state(name)["status"] == "created"
    assert runtime.call("start", name).code == 0


def test_of_one_that_has_stopped(runtime: Runtime, box: Bundle) -> None:
    box.runs("true")
    name = detached(runtime, box)
    assert oci.eventually(lambda: runtime.state(name)["status"] == "stopped")
    assert says(runtime.call("pause", name), 1, "container not running")
    assert says(runtime.call("resume", name), 1, "container not paused")


def test_a_sub_cgroup_is_frozen_too(runtime: Runtime, box: Bundle) -> None:
    name = detached(runtime, box)
    below = place(box, "freezer") / "below"
    below.mkdir()
    (below / "cgroup.procs").write_text(str(runtime.state(name)["pid"]))
    assert runtime.call("pause", name).code == 0
    assert (below / "freezer.state").read_text() == "FROZEN\n"
    assert runtime.call("delete", "--force", name).code == 0


def test_exec_waits_if_it_is_told_to(runtime: Runtime, box: Bundle) -> None:
    name = detached(runtime, box)
    assert runtime.call("pause", name).code == 0
    assert says(runtime.call("exec", name, "echo", "ok"), 255, "cannot exec in a paused container")
    with subprocess.Popen(
        runtime.argv("exec", "--ignore-paused", name, "echo", "ok"), stdout=subprocess.PIPE, text=True
    ) as process:
        assert oci.eventually(lambda: len((place(box, "freezer") / "tasks").read_text().split()) > 1)
        assert process.poll() is None
        assert runtime.call("resume", name).code == 0
        assert process.communicate(timeout=oci.SECONDS)[0] == "ok\n"


@pytest.mark.parametrize("command", [oci.LAUNCHER, oci.INTERPRETED], ids=["launcher", "interpreted"])
def test_killed_while_paused(runtime: Runtime, box: Bundle, command: tuple[str, ...]) -> None:
    runtime.command = command
    name = detached(runtime, box)
    assert runtime.call("pause", name).code == 0
    assert runtime.call("kill", name, "TERM").code == 0
    assert runtime.state(name)["status"] == "paused"
    assert runtime.call("kill", name, "KILL").code == 0
    assert oci.eventually(lambda: runtime.state(name)["status"] == "stopped")
    assert runtime.call("delete", name).code == 0


@pytest.mark.parametrize("command", [oci.LAUNCHER, oci.INTERPRETED], ids=["launcher", "interpreted"])
def test_deleted_while_paused(runtime: Runtime, box: Bundle, command: tuple[str, ...]) -> None:
    runtime.command = command
    name = detached(runtime, box)
    pid = runtime.state(name)["pid"]
    assert runtime.call("pause", name).code == 0
    assert says(runtime.call("delete", name), 1, f"cannot delete container {name} that is not stopped: paused")
    assert runtime.call("delete", "--force", name).code == 0
    assert oci.ended(pid)
    assert not oci.cgroups(name)
