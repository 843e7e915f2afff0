"""linux.namespaces: new ones, the caller's, joined ones of every kind, and what cannot be joined."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.running import executed, started

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root

FILES = {
    **{kind: kind for kind in ("pid", "ipc", "uts", "cgroup", "time", "user")},
    "network": "net",
    "mount": "mnt",
}
MAP = [{"containerID": 0, "hostID": 0, "size": 65536}]


def show(*kinds: str) -> str:
    """Return a script that prints which namespaces it is in."""
    return "; ".join(f"readlink /proc/self/ns/{FILES[kind]}" for kind in kinds)


def found(pid: int | str, *kinds: str) -> list[str]:
    return [os.readlink(f"/proc/{pid}/ns/{FILES[kind]}") for kind in kinds]


def with_users(box: Bundle, path: str = "") -> Bundle:
    """Map the ids of the container, whose users are new or those at ``path``."""
    for member in ("uidMappings", "gidMappings"):
        box.config["linux"][member] = MAP
    return with_spaces(box, user=path)


def with_spaces(box: Bundle, **paths: str) -> Bundle:
    """Let the container join namespaces: kind=path; "" is a new one."""
    kinds = {space["type"]: space for space in box.config["linux"]["namespaces"]}
    for kind, path in paths.items():
        kinds[kind] = {"type": kind} | ({"path": path} if path else {})
    box.config["linux"]["namespaces"] = list(kinds.values())
    return box


def test_all_eight_new(runtime: Runtime, box: Bundle) -> None:
    with_users(with_spaces(box, time=""))
    answer = runtime.run(box.script(show(*FILES)).path)
    assert answer.code == 0, answer.err
    assert len(set(answer.out.split()) - set(found("self", *FILES))) == 8


@pytest.mark.parametrize("kind", ["ipc", "uts", "network", "cgroup", "pid"])
def test_those_not_named_are_the_callers(runtime: Runtime, box: Bundle, kind: str) -> None:
    spaces = [space for space in box.config["linux"]["namespaces"] if space["type"] != kind]
    box.config["linux"]["namespaces"] = spaces
    if kind == "uts":
        del box.config["hostname"]
    if kind in {"network", "pid"}:
        # a sysfs or procfs of the host's namespace is the host's to mount
        box.config["mounts"] = [mount for mount in box.config["mounts"] if mount["type"] != "sysfs"]
    answer = runtime.run(box.script(show(kind)).path)
    assert answer.out.split() == found("self", kind), answer.err


@pytest.mark.parametrize("kind", ["pid", "network", "ipc", "uts", "cgroup", "time"])
def test_one_of_another_container(runtime: Runtime, box: Bundle, kind: str) -> None:
    first = started(runtime, with_spaces(box, time=""))
    pid = runtime.state(first)["pid"]
    with_spaces(box, **{kind: f"/proc/{pid}/ns/{FILES[kind]}"})
    others = [other for other in FILES if other not in {kind, "user"}]
    box.script(show(kind, *others))
    box.config.pop("hostname", None)
    answer = runtime.run(box.save().path)
    assert answer.code == 0, answer.err
    mine = answer.out.split()
    assert mine[:1] == found(pid, kind)
    assert not set(mine[1:]) & set(found(pid, *others))


def test_all_of_another_container_with_its_users(runtime: Runtime, box: Bundle) -> None:
    first = started(runtime, with_users(box))
    pid = runtime.state(first)["pid"]
    kinds = ("user", "pid", "network", "ipc", "uts", "cgroup")
    with_spaces(box, **{kind: f"/proc/{pid}/ns/{FILES[kind]}" for kind in kinds})
    del box.config["linux"]["uidMappings"], box.config["linux"]["gidMappings"]
    box.config["process"]["args"] = ["sleep", "300"]
    second = started(runtime, box)
    assert executed(runtime, second, "sh", "-c", show(*kinds)).split() == found(pid, *kinds)
    assert executed(runtime, second, "cat", "/proc/self/uid_map").split() == ["0", "0", "65536"]
    # who joins a pid namespace is not its first process
    assert executed(runtime, first, "sh", "-c", "ps | grep -c 'sleep 300'").strip() not in {"0", "1"}
    assert runtime.call("delete", "--force", second).code == 0
    assert runtime.state(first)["status"] == "running"


def test_mappings_beside_joined_users_must_be_theirs(runtime: Runtime, box: Bundle) -> None:
    first = started(runtime, with_users(box))
    path = f"/proc/{runtime.state(first)['pid']}/ns/user"
    with_users(box, path)
    answer = runtime.run(box.runs("cat", "/proc/self/uid_map").path)
    assert answer.out.split() == ["0", "0", "65536"], answer.err
    box.config["linux"]["uidMappings"] = [{"containerID": 0, "hostID": 1000, "size": 10}]
    answer = runtime.run(box.save().path)
    assert answer.code == 1
    assert "both namespace path and non-equivalent mappings specified" in answer.err


def test_a_namespace_that_is_a_file(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    file = tmp_path / "uts"
    file.touch()
    subprocess.run(["unshare", f"--uts={file}", "hostname", "elsewhere"], check=True)
    try:
        with_spaces(box, uts=str(file))
        del box.config["hostname"]
        assert runtime.run(box.runs("hostname").path).out == "elsewhere\n"
    finally:
        subprocess.run(["umount", str(file)], check=True)


@pytest.mark.parametrize(
    ("kind", "path", "problem"),
    [
        ("network", "/proc/self/ns/uts", "joining a namespace (config.json: /linux/namespaces/1): Invalid argument"),
        ("network", "/etc/passwd", "joining a namespace (config.json: /linux/namespaces/1): Invalid argument"),
        ("network", "/no/such/file", "opening /no/such/file (config.json: /linux/namespaces/1): No such file"),
        ("network", "run/netns/x", "is not an absolute path"),
        ("net", "", "linux.namespaces[0].type: "),
    ],
)
def test_what_cannot_be_joined(runtime: Runtime, box: Bundle, kind: str, path: str, problem: str) -> None:
    spaces = box.config["linux"]["namespaces"]
    space: dict[str, Any] = {"type": kind} | ({"path": path} if path else {})
    if kind == "network":
        spaces[[s["type"] for s in spaces].index(kind)] = space
    else:
        spaces.insert(0, space)
    answer = runtime.run(box.save().path)
    assert answer.code == 1
    assert problem.lower() in answer.err.lower()


def test_one_kind_twice_is_refused(runtime: Runtime, box: Bundle) -> None:
    box.config["linux"]["namespaces"].append({"type": "pid"})
    answer = runtime.run(box.save().path)
    assert answer.code == 1
    assert "'pid' is given twice" in answer.err


def test_hostname_and_domainname(runtime: Runtime, box: Bundle) -> None:
    box.config |= {"hostname": "web", "domainname": "example.com"}
    answer = runtime.run(box.runs("cat", "/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname").path)
    assert answer.out.split() == ["web", "example.com"]


# a config with less than most have


def test_without_a_process_it_is_created_and_not_started(runtime: Runtime, box: Bundle) -> None:
    process = box.config.pop("process")
    name = runtime.new_id()
    refused = runtime.run(box.save().path)
    assert refused.code == 1
    assert "process property must not be empty" in refused.err
    assert runtime.detached("create", "--bundle", str(box.path), name).code == 0
    assert runtime.state(name)["status"] == "created"
    answer = runtime.call("start", name)
    assert answer.code == 1
    assert "process property must not be empty" in answer.err
    assert runtime.state(name)["status"] == "created"
    (box.path / "process.json").write_text(json.dumps(process | {"args": ["echo", "hello"]}))
    assert runtime.call("exec", "--process", str(box.path / "process.json"), name).out == "hello\n"
    assert runtime.call("delete", name).code == 0


def test_without_linux_it_runs_in_the_callers_namespaces(runtime: Runtime, box: Bundle) -> None:
    del box.config["linux"], box.config["hostname"]
    box.config["mounts"] = []
    box.config["root"]["readonly"] = False
    answer = runtime.run(box.runs("cat", "/etc/passwd").path)
    assert answer.code == 0, answer.err
    assert answer.out == (box.rootfs / "etc/passwd").read_text()
