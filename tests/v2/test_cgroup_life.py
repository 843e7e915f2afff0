"""pause, kill, delete, exec and events where everything is in one cgroup of version 2."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import limits, oci

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

MB = 1 << 20
WRITABLE = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw", "nosuid"]}


def test_a_frozen_cgroup_and_one_with_processes_are_refused(runtime: Runtime, box: Bundle) -> None:
    limits.detached(runtime, box)
    answer = limits.tried(runtime, box, runtime.new_id())
    assert (answer.code, "container's cgroup is not empty" in answer.err) == (1, True)
    box.config["linux"]["cgroupsPath"] = "/pyrkt-test-frozen"
    place = limits.place(box, "")
    place.mkdir()
    try:
        (place / "cgroup.freeze").write_text("1")
        answer = limits.tried(runtime, box, runtime.new_id())
        assert (answer.code, "container's cgroup unexpectedly frozen" in answer.err) == (1, True)
    finally:
        place.rmdir()


def test_paused_killed_deleted(runtime: Runtime, box: Bundle) -> None:
    name = limits.detached(runtime, box)
    assert runtime.call("pause", name).code == 0
    assert "container not running" in runtime.call("pause", name).err
    assert runtime.call("exec", name, "true").code == 255
    assert runtime.call("kill", name, "KILL").code == 0
    assert limits.stops(runtime, name)
    assert runtime.call("delete", name).code == 0
    again = limits.detached(runtime, box)
    assert runtime.call("pause", again).code == 0
    begin = time.monotonic()
    assert runtime.call("delete", "--force", again).code == 0
    assert time.monotonic() - begin < oci.SECONDS
    assert not limits.place(box, "").exists()


@pytest.mark.parametrize("command", [oci.LAUNCHER, oci.INTERPRETED], ids=["launcher", "interpreted"])
def test_threads_of_their_own_cgroup(runtime: Runtime, box: Bundle, command: tuple[str, ...]) -> None:
    """A threaded cgroup lists no processes; delete must remove it nevertheless."""
    runtime.command = command
    box.config["mounts"].append(WRITABLE)
    box.script(
        "sleep 300 & cd /sys/fs/cgroup; echo +pids > cgroup.subtree_control; mkdir -p foo; "
        "echo threaded > foo/cgroup.type; echo $! > foo/cgroup.threads; sleep 300"
    )
    name = limits.detached(runtime, box)
    inner = limits.place(box, "") / "foo"
    assert oci.eventually(lambda: inner.exists() and (inner / "cgroup.threads").read_text().split())
    assert runtime.call("delete", "--force", name).code == 0
    assert not limits.place(box, "").exists()


def test_those_that_outlive_the_first(runtime: Runtime, box: Bundle) -> None:
    spaces = box.config["linux"]["namespaces"]
    box.config["linux"]["namespaces"] = [space for space in spaces if space["type"] != "pid"]
    box.script("for i in 1 2 3 4; do setsid sleep 300 & done; wait")
    name = limits.detached(runtime, box)
    procs = limits.place(box, "") / "cgroup.procs"
    assert oci.eventually(lambda: len(procs.read_text().split()) == 5)
    os.kill(runtime.state(name)["pid"], signal.SIGKILL)
    assert limits.stops(runtime, name)
    pids = [int(pid) for pid in procs.read_text().split()]
    assert len(pids) == 4
    assert runtime.call("kill", name, "KILL").code == 0  # cgroup.kill
    assert all(oci.ended(pid) for pid in pids)
    answer = runtime.call("kill", name, "KILL")
    assert (answer.code, "container not running" in answer.err) == (1, True)


def own(runtime: Runtime, name: str, *words: str) -> str:
    answer = runtime.call("exec", *words, name, "cat", "/proc/self/cgroup")
    assert answer.code == 0, answer.err
    return answer.out.strip()


def test_exec_where_the_container_manages_cgroups(runtime: Runtime, box: Bundle) -> None:
    box.config["mounts"].append(WRITABLE)
    name = limits.detached(runtime, box)

    def inside(script: str, *words: str) -> None:
        answer = runtime.call("exec", *words, name, "sh", "-euc", script)
        assert answer.code == 0, answer.err

    assert own(runtime, name) == "0::/"
    inside("mkdir /sys/fs/cgroup/foo; echo 1 > /sys/fs/cgroup/foo/cgroup.procs")
    assert own(runtime, name) == "0::/"  # no controller is handed down yet
    inside("echo $$ > /sys/fs/cgroup/foo/cgroup.procs; echo +memory > /sys/fs/cgroup/cgroup.subtree_control; sleep 0.1")
    assert own(runtime, name) == "0::/foo"
    answer = runtime.call("exec", "--cgroup", "/", name, "true")
    assert answer.code == 255
    assert "adding pid of the new process to cgroups" in answer.err
    assert "device or resource busy" in answer.err
    assert own(runtime, name, "--cgroup", "foo") == "0::/foo"
    inside("mkdir /sys/fs/cgroup/second", "--cgroup", "foo")
    assert own(runtime, name, "--cgroup", "second") == "0::/second"
    for word, problem in (("..", "bad sub cgroup path"), ("none", "no such file or directory"), ("cpu:foo", "unknown")):
        answer = runtime.call("exec", "--cgroup", word, name, "true")
        assert (answer.code, problem in answer.err) == (255, True)


def test_exec_where_the_container_has_left_its_cgroup(runtime: Runtime, box: Bundle) -> None:
    elsewhere = limits.TOP / "pyrkt-test-elsewhere"
    elsewhere.mkdir()
    try:
        box.config["mounts"].append(WRITABLE)
        spaces = box.config["linux"]["namespaces"]
        box.config["linux"]["namespaces"] = [space for space in spaces if space["type"] != "cgroup"]
        box.script(f"echo 1 > /sys/fs/cgroup/{elsewhere.name}/cgroup.procs; exec sleep 300")
        name = limits.detached(runtime, box)
        assert oci.eventually(lambda: (elsewhere / "cgroup.procs").read_text().split())
        limits.place(box, "").rmdir()
        assert own(runtime, name) == f"0::/{elsewhere.name}"
        assert runtime.call("kill", name, "KILL").code == 0
        assert limits.stops(runtime, name)
        assert runtime.call("delete", name).code == 0
    finally:
        assert oci.eventually(lambda: not (elsewhere / "cgroup.procs").read_text())
        elsewhere.rmdir()


def users(box: Bundle) -> Bundle:
    """Give the container a user namespace, and its root file system to that namespace's root."""
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    box.config["linux"]["namespaces"].append({"type": "user"})
    box.config["linux"] |= {"uidMappings": ids, "gidMappings": ids}
    for directory in (*box.path.parents, box.path):
        if directory.stat().st_mode & 0o077 == 0:
            directory.chmod(0o755)
    return box


@pytest.mark.parametrize(
    ("rights", "spaces", "owner"),
    [("rw", ("cgroup",), 100000), ("ro", ("cgroup",), 0), ("rw", (), 0)],
    ids=["given", "read-only", "the-hosts-view"],
)
def test_delegation(runtime: Runtime, box: Bundle, rights: str, spaces: tuple[str, ...], owner: int) -> None:
    users(box)
    box.config["mounts"].append(WRITABLE | {"options": [rights, "nosuid"]})
    kept = [s for s in box.config["linux"]["namespaces"] if s["type"] != "cgroup"]
    box.config["linux"]["namespaces"] = [*kept, *({"type": kind} for kind in spaces)]
    name = limits.detached(runtime, box)
    place = limits.place(box, "")
    assert place.stat().st_uid == owner
    for file in ("cgroup.procs", "cgroup.threads", "cgroup.subtree_control"):
        assert (place / file).stat().st_uid == owner
    assert (place / "memory.max").stat().st_uid == 0
    if owner:
        answer = runtime.call(
            "exec", name, "sh", "-c", "stat -c %u /sys/fs/cgroup; mkdir /sys/fs/cgroup/sub && echo made"
        )
        assert answer.out.split() == ["0", "made"], answer.err


def test_numbers(runtime: Runtime, box: Bundle) -> None:
    box.config["linux"]["resources"] |= {"memory": {"limit": 32 * MB, "swap": 48 * MB}, "pids": {"limit": 9}}
    name = limits.detached(runtime, box)
    answer = runtime.call("events", "--stats", name)
    assert (answer.code, answer.err) == (0, "")
    data = json.loads(answer.out)["data"]
    assert data["memory"]["usage"]["limit"] == 32 * MB
    assert data["memory"]["swap"]["limit"] == 48 * MB
    assert data["memory"]["usage"]["usage"] == pytest.approx(data["memory"]["usage"]["max"], rel=1)
    assert data["pids"] == {"current": 1, "limit": 9}
    assert data["cpu"]["usage"]["total"] > 0
    assert "2MB" in data["hugetlb"]
    for part in ("cpu", "memory", "blkio"):
        assert {"avg10", "avg60", "avg300", "total"} == set(data[part]["psi"]["some"])


def test_as_runc_says_it(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    runc = oci.peer("runc", tmp_path)
    box.config["linux"]["resources"] |= {"memory": {"limit": 32 * MB, "swap": 32 * MB}, "pids": {"limit": 9}}
    found: list[Any] = []
    for program in (runtime, runc):
        box.config["linux"].pop("cgroupsPath", None)
        name = limits.detached(program, box)
        try:
            data = json.loads(program.call("events", "--stats", name).out)["data"]
        finally:
            program.clean()
        data["hugetlb"] = sorted(data["hugetlb"])
        del data["blkio"]  # only where a disk was read from
        for part in ("cpu", "memory"):
            data[part].pop("psi", None)
        data["memory"].pop("cache", None)
        data["memory"]["usage"].pop("max", None)  # memory.peak, which runc 1.1 does not read
        data["memory"] |= {"raw": sorted(data["memory"]["raw"])}
        for entry in ("usage", "swap"):
            data["memory"][entry] = sorted(data["memory"][entry])
        data["cpu"] = {"usage": sorted(data["cpu"]["usage"])}
        found.append(data)
    assert found[0] == found[1]


def test_a_lack_of_memory_is_told_and_then_the_end(runtime: Runtime, box: Bundle) -> None:
    box.config["linux"]["resources"]["memory"] = {"limit": 16 * MB, "swap": 16 * MB}
    name = limits.detached(runtime, box)
    with subprocess.Popen(
        runtime.argv("events", "--interval", "200ms", name), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["type"] == "stats"
        assert runtime.call("exec", name, "dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M").code == 128 + signal.SIGKILL
        events = (json.loads(line) for line in process.stdout)
        assert next(event for event in events if event["type"] != "stats") == {"type": "oom", "id": name}
        assert runtime.call("delete", "--force", name).code == 0
        process.stdout.read()
        assert process.wait(20) == 0


@pytest.mark.parametrize("verb", ["run", "create"])
def test_too_little_memory_is_said_in_one_line(runtime: Runtime, box: Bundle, verb: str) -> None:
    """6 MiB are enough; a page is not."""
    box.config["linux"]["resources"]["memory"] = {"limit": 6 * MB, "swap": 6 * MB}
    assert runtime.run(box.runs("true").path).code == 0
    box.config["linux"]["resources"]["memory"] = {"limit": 4096, "swap": 4096}
    box.save()
    answer = runtime.call(verb, "--bundle", str(box.path), runtime.new_id())
    assert answer.code == 1
    assert "memory" in answer.err
    assert len(answer.err.splitlines()) == 1
