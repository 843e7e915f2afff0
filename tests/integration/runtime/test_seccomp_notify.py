"""SCMP_ACT_NOTIFY: the listener and the container's state really go to an agent, which answers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.oci import eventually
from tests.support.running import started
from tests.support.seccomp_agent import serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root

agent_at = contextmanager(serving)
ENOMEDIUM = 123
PRIVILEGES = pytest.mark.parametrize("allowed", [True, False], ids=["new-privileges", "no-new-privileges"])


def asking(box: Bundle, path: Path, *names: str, **more: Any) -> Bundle:
    box.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": str(path),
        "listenerMetadata": "some words",
        "syscalls": [{"names": list(names), "action": "SCMP_ACT_NOTIFY"}],
        **more,
    }
    return box


@PRIVILEGES
def test_the_agent_gets_the_state_and_answers(runtime: Runtime, box: Bundle, tmp_path: Path, *, allowed: bool) -> None:
    box.config["process"]["noNewPrivileges"] = not allowed
    box.config["annotations"] = {"a": "b"}
    asking(box, tmp_path / "agent", "mkdir", "mkdirat").script("mkdir /dev/shm/foo")
    with agent_at(tmp_path / "agent", ENOMEDIUM) as agent:
        answer = runtime.run(box.path)
    assert answer.code == 1
    assert "No medium found" in answer.err
    assert len(agent.calls) == 1
    (state,) = agent.states
    inner = state.pop("state")
    assert state.pop("pid") == inner.pop("pid")
    assert state == {"ociVersion": "1.0.2", "fds": ["seccompFd"], "metadata": "some words"}
    assert inner == {
        "ociVersion": "1.0.2",
        "id": runtime.ids[-1],
        "status": "creating",
        "bundle": str(box.path),
        "annotations": {"a": "b"},
    }


def test_the_pid_is_the_hosts(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    asking(box, tmp_path / "agent", "mkdir")
    with agent_at(tmp_path / "agent") as agent:
        name = started(runtime, box)
        assert agent.states[0]["pid"] == runtime.state(name)["pid"]


@PRIVILEGES
def test_exec_asks_the_agent_too(runtime: Runtime, box: Bundle, tmp_path: Path, *, allowed: bool) -> None:
    box.config["process"]["noNewPrivileges"] = not allowed
    asking(box, tmp_path / "agent", "mkdir", "mkdirat")
    with agent_at(tmp_path / "agent", ENOMEDIUM) as agent:
        name = started(runtime, box)
        first = runtime.state(name)["pid"]
        answer = runtime.call("exec", name, "mkdir", "/dev/shm/foo")
    assert answer.code == 1
    assert "No medium found" in answer.err
    assert len(agent.states) == 2
    joined = agent.states[1]
    assert joined["pid"] != first
    assert (joined["state"]["pid"], joined["state"]["status"]) == (first, "running")


@PRIVILEGES
def test_calls_that_the_runtime_makes_itself(runtime: Runtime, box: Bundle, tmp_path: Path, *, allowed: bool) -> None:
    box.config["process"]["noNewPrivileges"] = not allowed
    asking(box, tmp_path / "agent", "execve", "openat", "open", "read", "close", "fcntl").runs("true")
    with agent_at(tmp_path / "agent") as agent:
        assert runtime.run(box.path).code == 0
    assert agent.calls


def test_a_call_may_go_on(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    flags = ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]
    asking(box, tmp_path / "agent", "mkdir", "mkdirat", flags=flags).script(
        "mkdir /dev/shm/foo && test -d /dev/shm/foo"
    )
    runtime.command = (*runtime.command, "--debug")
    with agent_at(tmp_path / "agent"):
        answer = runtime.run(box.path)
    if answer.code and "Invalid argument" in answer.err:  # Linux 5.19
        pytest.skip("this kernel has no SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")
    assert answer.code == 0, answer.err
    assert '"seccomp filter flags: 40"' in answer.err


def test_without_an_agent_calls_do_not_exist(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    asking(box, tmp_path / "agent", "mkdir", "mkdirat")
    with agent_at(tmp_path / "agent") as agent:
        name = started(runtime, box)
        assert eventually(lambda: agent.states)
    answer = runtime.call("exec", name, "mkdir", "/dev/shm/foo")
    assert answer.code == 255
    assert "failed to connect with seccomp agent" in answer.err


def test_a_listener_nobody_needs_is_not_asked_for(runtime: Runtime, box: Bundle) -> None:
    box.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": "/no/such/agent",
        "listenerMetadata": "x",
    }
    assert runtime.run(box.runs("true").path).code == 0


@pytest.mark.parametrize("path", ["/no/such/agent", "@abstract"])
def test_no_agent_there(runtime: Runtime, box: Bundle, path: str) -> None:
    box.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": path,
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
    }
    answer = runtime.run(box.save().path)
    assert answer.code == 1
    assert "failed to connect with seccomp agent" in answer.err


@pytest.mark.parametrize("name", ["write", "sendmsg"])
def test_calls_by_which_the_agent_gets_its_listener(runtime: Runtime, box: Bundle, tmp_path: Path, name: str) -> None:
    asking(box, tmp_path / "agent", "mkdir", name)
    answer = runtime.run(box.save().path)
    assert answer.code == 1
    assert f"SCMP_ACT_NOTIFY cannot be used for the {name} syscall" in answer.err


def test_a_hook_has_no_descriptor_of_the_agents(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    count = "test $(ls /proc/self/fd | wc -l) = 4"
    asking(box, tmp_path / "agent", "mkdir").runs("true")
    box.config["hooks"] = {"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", count]}]}
    with agent_at(tmp_path / "agent"):
        answer = runtime.run(box.save().path)
    assert answer.code == 0, answer.err
