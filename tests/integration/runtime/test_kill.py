"""kill: the first process or all, with a pid namespace or without, the first one alive or not."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.support import oci
from tests.support.limits import detached, place, stops

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


@pytest.fixture(params=[oci.LAUNCHER, oci.INTERPRETED], ids=["launcher", "interpreted"], autouse=True)
def _either(runtime: Runtime, request: pytest.FixtureRequest) -> None:
    """Let the launcher do what it can by itself, and Python all of it."""
    runtime.command = request.param


def without_pids(box: Bundle) -> Bundle:
    spaces = box.config["linux"]["namespaces"]
    box.config["linux"]["namespaces"] = [space for space in spaces if space["type"] != "pid"]
    return box.script("for i in 1 2 3 4; do sleep 300 & done; wait")


def members(box: Bundle) -> list[int]:
    return [int(pid) for pid in (place(box, "pids") / "cgroup.procs").read_text().split()]


def test_to_its_end(runtime: Runtime, box: Bundle) -> None:
    name = detached(runtime, box)
    assert runtime.call("kill", name, "0").code == 0
    assert runtime.call("kill", name, "KILL").code == 0
    assert stops(runtime, name)
    answer = runtime.call("kill", name, "0")
    assert (answer.code, "container not running" in answer.err) == (1, True)
    assert runtime.call("kill", "--all", name, "0").code == 0
    assert runtime.call("delete", name).code == 0


@pytest.mark.parametrize("word", ["9", "KILL", "SIGKILL", "kill"])
def test_without_a_pid_namespace_all_are_killed(runtime: Runtime, box: Bundle, word: str) -> None:
    name = detached(runtime, without_pids(box))
    assert oci.eventually(lambda: len(members(box)) == 5)
    pids = members(box)
    assert runtime.call("kill", name, word).code == 0
    assert all(oci.ended(pid) for pid in pids)
    assert stops(runtime, name)
    assert oci.eventually(lambda: not members(box))
    answer = runtime.call("kill", name, word)
    assert (answer.code, "container not running" in answer.err) == (1, True)


@pytest.mark.parametrize("last", [("kill", "KILL"), ("delete",), ("delete", "--force")], ids="-".join)
def test_those_that_outlive_the_first(runtime: Runtime, box: Bundle, last: tuple[str, ...]) -> None:
    name = detached(runtime, without_pids(box))
    assert oci.eventually(lambda: len(members(box)) == 5)
    os.kill(runtime.state(name)["pid"], signal.SIGKILL)
    assert stops(runtime, name)
    pids = members(box)
    assert len(pids) == 4
    verb, *rest = last
    words = [*rest, name] if verb == "delete" else [name, *rest]
    assert runtime.call(verb, *words).code == 0
    assert all(oci.ended(pid) for pid in pids)


def test_all_get_a_signal(runtime: Runtime, box: Bundle) -> None:
    box.script(
        "trap 'echo one >> /dev/shm/got' USR1; (trap 'echo two >> /dev/shm/got' USR1; "
        "while :; do sleep 0.05; done) & echo ready > /dev/shm/ready; while :; do sleep 0.05; done"
    )
    name = detached(runtime, box)
    assert oci.eventually(lambda: runtime.call("exec", name, "cat", "/dev/shm/ready").code == 0)
    # each at its own time: a shell handles a signal when its sleep has ended
    assert oci.eventually(
        lambda: (
            runtime.call("kill", "--all", name, "USR1").code == 0
            and set(runtime.call("exec", name, "cat", "/dev/shm/got").out.split()) >= {"one", "two"}
        )
    )


def test_a_pid_namespace_of_another(runtime: Runtime, box: Bundle) -> None:
    """Whoever joins it must not end with its PID 1, nor end it."""
    first = detached(runtime, box)
    pid = runtime.state(first)["pid"]
    spaces = box.config["linux"]["namespaces"]
    box.config["linux"]["namespaces"] = [
        s if s["type"] != "pid" else s | {"path": f"/proc/{pid}/ns/pid"} for s in spaces
    ]
    del box.config["linux"]["cgroupsPath"]
    second = detached(runtime, box)
    assert runtime.call("kill", second, "9").code == 0
    assert stops(runtime, second)
    assert runtime.call("delete", "--force", second).code == 0
    assert runtime.state(first)["status"] == "running"


@pytest.mark.parametrize("word", ["NOSUCH", "SIGNOSUCH", "99x", "RTMAX+x"])
def test_unknown_signals(runtime: Runtime, box: Bundle, word: str) -> None:
    name = detached(runtime, box)
    answer = runtime.call("kill", name, word)
    assert answer.code == 1
    assert f'unknown signal "{word}"' in answer.err.replace('\\"', '"')
