"""Hooks: each kind at its moment, in its namespaces, with the state; what a failing one says, and what it ends."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.oci import processes
from tests.support.running import started

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root

CREATING = ("prestart", "createRuntime", "createContainer")
KINDS = (*CREATING, "startContainer", "poststart", "poststop")


def hook(script: str, *, env: tuple[str, ...] = ("PATH=/usr/bin:/bin",), **more: Any) -> dict[str, Any]:
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": list(env), **more}


def recording(log: Path) -> dict[str, Any]:
    """Return a hook that writes its state, namespaces and directory to ``log``."""
    return hook(f'cat >> {log}; echo " $(readlink /proc/self/ns/mnt) $(pwd)" >> {log}')


@pytest.mark.parametrize("way", ["create", "run", "detached"])
def test_each_kind_at_its_moment_in_its_namespaces(runtime: Runtime, box: Bundle, tmp_path: Path, way: str) -> None:
    logs = {kind: tmp_path / kind for kind in KINDS}
    box.config["annotations"] = {"a": "b"}
    box.config["hooks"] = {kind: [recording(log)] for kind, log in logs.items()}
    box.config["hooks"]["startContainer"] = [hook("cat > /dev/shm/state", env=("PATH=/bin",))]
    box.script("cat /dev/shm/state")
    if way == "run":
        answer = runtime.run(box.path)
        assert answer.code == 0, answer.err
        inside = answer.out
    else:
        name = runtime.new_id()
        words = ("create",) if way == "create" else ("run", "--detach")
        answer = runtime.detached(*words, "--bundle", str(box.path), name)
        assert answer.code == 0, answer.err
        if way == "create":
            assert not logs["poststart"].exists()
            assert runtime.detached("start", name).code == 0
        assert not logs["poststop"].exists()
        inside = (tmp_path / "out").read_text()
        assert runtime.call("delete", "--force", name).code == 0
    states = {}
    for kind in KINDS:
        if kind != "startContainer":
            text, _, rest = logs[kind].read_text().rpartition("} ")
            states[kind] = json.loads(text + "}"), *rest.split()
    if inside:  # else it has been written since we looked
        state = json.loads(inside)
        assert (state["status"], state["pid"]) == ("created", 1)
    # prestart as crun and the validation programs have it, the rest as runc
    assert [states[kind][0]["status"] for kind in CREATING] == ["created", "creating", "creating"]
    assert (states["poststart"][0]["status"], states["poststop"][0]["status"]) == ("running", "stopped")
    host = os.readlink("/proc/self/ns/mnt")
    assert {kind for kind in states if states[kind][1] != host} == {"createContainer"}
    assert states["createContainer"][0]["pid"] == 1  # as the container counts
    assert states["prestart"][0]["pid"] == states["poststart"][0]["pid"] > 1
    assert states["createContainer"][2] == str(box.rootfs)
    assert states["prestart"][2] == states["createRuntime"][2] == str(box.path)
    for state, *_ in states.values():
        assert state["id"] == runtime.ids[-1]
        assert state["bundle"] == str(box.path)
        assert state["annotations"] == {"a": "b"}


def test_environment_is_what_is_configured(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = f"/usr/bin/env > {log}"
    for env, expected in (((), set()), (("A=1", "B=x=y"), {"A=1", "B=x=y"})):
        box.config["hooks"] = {"createRuntime": [hook(script, env=env)]}
        assert runtime.run(box.runs("true").path, env={"SECRET": "1", "PATH": "/bin"}).code == 0
        shell = {"PWD", "SHLVL", "_", "OLDPWD"}
        assert {line for line in log.read_text().split() if line.partition("=")[0] not in shell} == expected


def test_a_start_container_hook_without_one_has_the_programs(runtime: Runtime, box: Bundle) -> None:
    box.config["process"]["env"] = ["ONE=two", "FOO=bar", "PATH=/bin"]
    script = "test $ONE = two && test $FOO = bar && test $HOME = /root"
    box.config["hooks"] = {"startContainer": [hook(script, env=())]}
    answer = runtime.run(box.runs("true").path)
    assert answer.code == 0, answer.err


def test_arguments_are_those_of_the_file(runtime: Runtime, box: Bundle) -> None:
    for args in (["cat", "/nosuchfile"], ["busybox", "cat", "/nosuchfile"]):
        box.config["hooks"] = {"startContainer": [{"path": "/bin/busybox", "args": args}]}
        answer = runtime.run(box.runs("true").path)
        assert answer.code == 1
        assert "cat: can't open" in answer.err
        assert "/nosuchfile" in answer.err


@pytest.mark.parametrize("kind", CREATING)
def test_a_failing_one_ends_create_and_says_why(runtime: Runtime, box: Bundle, tmp_path: Path, kind: str) -> None:
    gone = tmp_path / "poststop"
    failing = hook("echo 'no way' >&2; exit 3")
    box.config["hooks"] = {kind: [hook("true"), failing, hook("true")], "poststop": [hook(f"touch {gone}")]}
    name = runtime.new_id()
    answer = runtime.detached("create", "--bundle", str(box.save().path), name)
    assert answer.code == 1
    assert f"error running {kind} hook #1: /bin/sh (config.json: /hooks/{kind}/1)" in answer.err
    assert "exit status 3, it said: no way" in answer.err
    assert "container does not exist" in runtime.call("state", name).err
    assert gone.exists()  # runtime-spec 1.3, "Lifecycle" 3 to 5: on to step 12, and so to 13


@pytest.mark.parametrize("kind", [*CREATING, "startContainer", "poststart"])
def test_a_failing_one_ends_run(runtime: Runtime, box: Bundle, kind: str) -> None:
    box.config["ociVersion"] = "1.3.0"
    box.config["hooks"] = {kind: [hook("true"), hook("echo 'no way' >&2; exit 3")]}
    answer = runtime.run(box.runs("sleep", "300").path)
    assert answer.code == 1
    assert f"error running {kind} hook #1: " in answer.err
    assert "no way" in answer.err
    assert "container does not exist" in runtime.call("state", runtime.ids[-1]).err


@pytest.mark.parametrize("way", ["run", "detached", "start"])
def test_poststart_before_1_3_is_a_warning(runtime: Runtime, box: Bundle, tmp_path: Path, way: str) -> None:
    box.config["ociVersion"] = "1.2.1"
    box.config["hooks"] = {"poststart": [hook("echo 'no way'; exit 3"), hook(f"touch {tmp_path}/second")]}
    if way == "run":
        answer = runtime.run(box.runs("sleep", "1").path)
    else:
        name = runtime.new_id()
        if way == "start":
            assert runtime.detached("create", "--bundle", str(box.save().path), name).code == 0
            answer = runtime.detached("start", name)
        else:
            answer = runtime.detached("run", "--detach", "--bundle", str(box.save().path), name)
        assert runtime.state(name)["status"] == "running"
    assert answer.code == 0
    assert "level=warning" in answer.err
    assert "error running poststart hook #0: " in answer.err
    assert "no way" in answer.err
    assert (tmp_path / "second").exists()


@pytest.mark.parametrize("foreground", [True, False])
def test_poststop_is_only_warned_of(runtime: Runtime, box: Bundle, tmp_path: Path, *, foreground: bool) -> None:
    box.config["hooks"] = {"poststop": [hook("echo 'no way'; exit 3"), hook(f"touch {tmp_path}/second")]}
    if foreground:
        answer = runtime.run(box.script("exit 7").path)
        assert answer.code == 7
    else:
        answer = runtime.call("delete", "--force", started(runtime, box))
        assert answer.code == 0
    assert "level=warning" in answer.err
    assert "error running poststop hook #0: /bin/sh (config.json: /hooks/poststop/0): exit status 3" in answer.err
    assert "it said: no way" in answer.err
    assert (tmp_path / "second").exists()


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "startContainer", "poststop"])
def test_a_timeout_kills_it_and_what_it_has_started(runtime: Runtime, box: Bundle, kind: str) -> None:
    word = f"31{os.getpid()}"
    path = ("PATH=/bin:/usr/bin",)
    box.config["hooks"] = {kind: [hook(f"sleep {word} & sleep {word}", env=path, timeout=1)]}
    answer = runtime.run(box.runs("true").path)
    assert (answer.code == 0) == (kind == "poststop")
    assert f"error running {kind} hook #0" in answer.err
    assert "hook ran past specified timeout of 1.0s" in answer.err
    assert not processes(f"sleep\0{word}")


def test_what_a_hook_leaves_running_holds_nobody_up(runtime: Runtime, box: Bundle) -> None:
    box.config["hooks"] = {"createRuntime": [hook("sleep 20 &")]}
    answer = runtime.run(box.runs("echo", "hello").path)  # returns when its pipes are closed
    assert (answer.code, answer.out) == (0, "hello\n")
    for pid in processes("sleep\x0020"):
        os.kill(pid, 9)


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"path": "bin/true"}, "hooks.createRuntime[0].path: 'bin/true' is not an absolute path"),
        ({"path": "/bin/true", "timeout": 0}, "hooks.createRuntime[0].timeout: must be between 1"),
        ({"args": ["true"]}, "hooks.createRuntime[0].path: "),
        ({"path": "/no/such/hook"}, "error running createRuntime hook #0: /no/such/hook"),
    ],
)
def test_what_is_refused(runtime: Runtime, box: Bundle, members: dict[str, Any], problem: str) -> None:
    box.config["hooks"] = {"createRuntime": [members]}
    answer = runtime.run(box.save().path)
    assert answer.code == 1
    assert problem in answer.err


def test_create_runtime_may_mount_into_the_container(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("given\n")
    (box.rootfs / "tmp/a").touch()
    (box.rootfs / "tmp/b").touch()
    enter = "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/')"
    mount = f"mount --bind {tmp_path}/given"
    box.config["hooks"] = {
        "createRuntime": [hook(f"{enter}; nsenter -m -t $pid {mount} {box.rootfs}/tmp/a")],
        "createContainer": [hook(f"{mount} ./tmp/b")],
    }
    answer = runtime.run(box.runs("cat", "/tmp/a", "/tmp/b").path)
    assert answer.out == "given\ngiven\n", answer.err
