"""A container's life on a host with cgroup v2 only: its limits are the kernel's, and it is in its cgroup from birth."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import oci

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime


def resources(box: Bundle, **wanted: Any) -> Path:
    """Ask for limits in a cgroup at a known place; return its directory."""
    box.config["linux"]["cgroupsPath"] = "/pyrkt-test-smoke"
    box.config["linux"]["resources"] |= wanted
    return Path("/sys/fs/cgroup/pyrkt-test-smoke")


def started(runtime: Runtime, box: Bundle) -> str:
    name = runtime.new_id()
    made = runtime.detached("create", "--bundle", str(box.path), name)
    assert made.code == 0, made.err
    assert runtime.state(name)["status"] == "created"
    start = runtime.call("start", name)
    assert start.code == 0, start.err
    return name


def test_run_says_what_the_program_says(runtime: Runtime, box: Bundle) -> None:
    answer = runtime.run(box.script("echo hello; exit 3").path)
    assert (answer.code, answer.out) == (3, "hello\n"), answer.err


def test_create_start_kill_delete(runtime: Runtime, box: Bundle) -> None:
    name = started(runtime, box.save())
    pid = runtime.state(name)["pid"]
    assert runtime.call("kill", name, "KILL").code == 0
    assert oci.ended(pid)
    assert oci.eventually(lambda: runtime.state(name)["status"] == "stopped")
    assert runtime.call("delete", name).code == 0
    assert runtime.call("state", name).code == 1


def test_limits_are_what_was_asked(runtime: Runtime, box: Bundle) -> None:
    where = resources(
        box,
        memory={"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20},
        cpu={"shares": 2048, "quota": 50_000, "period": 200_000, "cpus": "0", "mems": "0"},
        pids={"limit": 77},
        unified={"memory.high": "50331648", "cpu.max.burst": "10000"},
    )
    name = started(runtime, box.save())
    found = {
        file: (where / file).read_text().strip()
        for file in (
            *("memory.max", "memory.swap.max", "memory.low", "memory.high"),
            *("cpu.weight", "cpu.max", "cpu.max.burst", "cpuset.cpus", "cpuset.mems", "pids.max"),
        )
    }
    assert found == {
        "memory.max": str(64 << 20),
        "memory.swap.max": str(32 << 20),
        "memory.low": str(32 << 20),
        "memory.high": "50331648",
        "cpu.weight": found["cpu.weight"],
        "cpu.max": "50000 200000",
        "cpu.max.burst": "10000",
        "cpuset.cpus": "0",
        "cpuset.mems": "0",
        "pids.max": "77",
    }
    assert 100 < int(found["cpu.weight"]) < 200
    pid = runtime.state(name)["pid"]
    assert Path(f"/proc/{pid}/cgroup").read_text() == "0::/pyrkt-test-smoke\n"
    assert runtime.call("delete", "--force", name).code == 0
    assert not where.exists()


def test_memory_beyond_the_limit_ends_the_program(runtime: Runtime, box: Bundle) -> None:
    resources(box, memory={"limit": 16 << 20, "swap": 16 << 20})
    answer = runtime.run(box.script("dd if=/dev/zero of=/dev/null bs=64M count=1; echo $?").path)
    assert answer.out == "137\n", answer.err


def test_the_device_program_denies_what_is_not_allowed(runtime: Runtime, box: Bundle) -> None:
    for kind in ("bounding", "effective", "permitted"):
        box.config["process"]["capabilities"][kind].append("CAP_MKNOD")
    allowed = {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}
    resources(box, devices=[{"allow": False, "access": "rwm"}, allowed])
    # 1:11 is /dev/kmsg: mknod(2) asks the cgroup as open(2) does, and nobody else in a container with CAP_MKNOD
    script = "cd /dev; mknod own c 1 3 && echo x > own && echo written; mknod kmsg c 1 11 || echo refused"
    answer = runtime.run(box.script(script).path)
    assert answer.out.splitlines() == ["written", "refused"], answer.err


def test_pause_freezes_and_resume_thaws(runtime: Runtime, box: Bundle) -> None:
    where = resources(box)
    name = started(runtime, box.script("while :; do sleep 0.05; done"))
    assert runtime.call("pause", name).code == 0
    assert "frozen 1" in (where / "cgroup.events").read_text()
    assert runtime.state(name)["status"] == "paused"
    assert runtime.call("resume", name).code == 0
    assert "frozen 0" in (where / "cgroup.events").read_text()
    assert runtime.state(name)["status"] == "running"


def test_delete_force_ends_all_that_forked_away(runtime: Runtime, box: Bundle) -> None:
    """Without a pid namespace nobody but the cgroup knows them, paused or not."""
    spaces = box.config["linux"]["namespaces"]
    box.config["linux"]["namespaces"] = [space for space in spaces if space["type"] != "pid"]
    where = resources(box)
    name = started(runtime, box.script("for i in 1 2 3 4; do setsid sleep 300 & done; wait"))
    assert oci.eventually(lambda: len((where / "cgroup.procs").read_text().split()) == 5)
    pids = [int(word) for word in (where / "cgroup.procs").read_text().split()]
    assert runtime.call("pause", name).code == 0
    assert runtime.call("delete", "--force", name).code == 0
    assert all(oci.ended(pid) for pid in pids)
    assert not where.exists()


def test_the_first_process_is_born_in_its_cgroup(runtime: Runtime, box: Bundle) -> None:
    """Nothing of the container is ever charged to its maker, and nothing of the maker's to the container."""
    where = resources(box, pids={"limit": 1}, memory={"limit": 6 << 20})
    name = started(runtime, box.save())
    events = dict(line.split() for line in (where / "pids.events").read_text().splitlines())
    assert events == {"max": "0"}  # a second process would have been refused
    assert (where / "cgroup.procs").read_text().split() == [str(runtime.state(name)["pid"])]


def test_pressure_of_the_container_can_be_read(runtime: Runtime, box: Bundle) -> None:
    where = resources(box)
    started(runtime, box.save())
    for kind in ("cpu", "memory", "io"):
        assert (where / f"{kind}.pressure").read_text().startswith("some avg10=")


@pytest.mark.parametrize("mapped", [False, True], ids=["root", "user-namespace"])
def test_exec_enters_the_same_cgroup(runtime: Runtime, box: Bundle, *, mapped: bool) -> None:
    """From outside of the container's cgroup namespace, which ends delegation here (mount option nsdelegate)."""
    where = resources(box)
    if mapped:
        box.config["linux"]["namespaces"].append({"type": "user"})
        for kind in ("uidMappings", "gidMappings"):
            box.config["linux"][kind] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        for directory in (box.path, *list(box.path.parents)[:-1]):
            directory.chmod(directory.stat().st_mode | 0o011)
    name = started(runtime, box.save())
    assert runtime.call("exec", name, "cat", "/proc/self/cgroup").out == "0::/\n"
    assert runtime.detached("exec", "--detach", name, "sleep", "300").code == 0
    assert len((where / "cgroup.procs").read_text().split()) == 2


def test_a_foreground_container_gets_signals(runtime: Runtime, box: Bundle) -> None:
    box.script("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done")
    argv = runtime.argv("run", "--bundle", str(box.path), runtime.new_id())
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(oci.SECONDS) == 7
