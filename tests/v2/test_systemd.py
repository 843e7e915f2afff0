"""``--systemd-cgroup``: a container is a scope of systemd, with its limits as properties, and nothing of ours in it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import oci
from tests.support.oci import LAUNCHER, shell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.bundle import Bundle
    from tests.support.oci import Answer, Runtime

TOP = Path("/sys/fs/cgroup")


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Runtime]:
    """Return pyrkt-oci with the systemd driver; no unit of its containers may be left."""
    found = oci.Runtime("pyrkt-oci", (*LAUNCHER, "--systemd-cgroup"), tmp_path / "state")
    with oci.nothing_left(tmp_path, "pyrkt-test"):
        yield found
        found.clean()
    assert oci.eventually(lambda: not units()), units()


def units() -> list[str]:
    """Return the units that the tests made."""
    return shell(["systemctl", "list-units", "--all", "--plain", "--no-legend", "pyrkt-test*"]).split("\n")[:-1]


def shown(unit: str, *names: str) -> dict[str, str]:
    """Return properties of a unit as systemctl shows them."""
    lines = shell(["systemctl", "show", unit, *(f"--property={name}" for name in names)]).splitlines()
    return dict(line.split("=", 1) for line in lines)


def limited(box: Bundle, path: str = "", **wanted: Any) -> Bundle:
    """Ask for a unit and for limits."""
    if path:
        box.config["linux"]["cgroupsPath"] = path
    box.config["linux"]["resources"] |= wanted
    return box.save()


def created(runtime: Runtime, box: Bundle) -> str:
    name = runtime.new_id()
    made = runtime.detached("create", "--bundle", str(box.path), name)
    assert made.code == 0, made.err
    return name


def started(runtime: Runtime, box: Bundle) -> str:
    name = created(runtime, box)
    start = runtime.call("start", name)
    assert start.code == 0, start.err
    return name


def cgroup_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::")


def test_the_scope_has_the_limits_as_properties_and_in_its_files(systemd: Runtime, box: Bundle) -> None:
    limited(
        box,
        "pyrkt-test.slice:pyrkt-test:limits",
        memory={"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20},
        cpu={"shares": 2048, "quota": 600_000, "period": 900_000, "cpus": "0", "mems": "0"},
        pids={"limit": 77},
        unified={"memory.high": "50331648", "memory.min": "4096"},
    )
    box.config["annotations"] = {
        "org.systemd.property.TimeoutStopSec": "7",
        "org.systemd.property.Documentation": "['https://example.com/x']",
    }
    name = created(systemd, box.save())
    pid = systemd.state(name)["pid"]
    found = shown(
        "pyrkt-test-limits.scope",
        *("ActiveState", "Slice", "ControlGroup", "Delegate", "CollectMode", "TimeoutStopUSec", "Documentation"),
        *("MemoryMax", "MemorySwapMax", "MemoryLow", "MemoryHigh", "MemoryMin", "CPUWeight", "TasksMax"),
        *("CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec", "AllowedCPUs", "AllowedMemoryNodes"),
    )
    where = TOP / "pyrkt.slice/pyrkt-test.slice/pyrkt-test-limits.scope"
    assert found == {
        "ActiveState": "active",
        "Slice": "pyrkt-test.slice",
        "ControlGroup": f"/{where.relative_to(TOP)}",
        "Delegate": "yes",
        "CollectMode": "inactive-or-failed",
        "TimeoutStopUSec": "7s",
        "Documentation": "https://example.com/x",
        "MemoryMax": str(64 << 20),
        "MemorySwapMax": str(32 << 20),
        "MemoryLow": str(32 << 20),
        "MemoryHigh": "50331648",
        "MemoryMin": "4096",
        "CPUWeight": (where / "cpu.weight").read_text().strip(),
        "TasksMax": "77",
        "CPUQuotaPerSecUSec": "670ms",  # in whole percent; the file is exact
        "CPUQuotaPeriodUSec": "900ms",
        "AllowedCPUs": "0",
        "AllowedMemoryNodes": "0",
    }
    files = ("memory.max", "memory.swap.max", "memory.low", "memory.high", "cpu.max", "cpuset.cpus", "pids.max")
    assert {file: (where / file).read_text().strip() for file in files} == {
        "memory.max": str(64 << 20),
        "memory.swap.max": str(32 << 20),
        "memory.low": str(32 << 20),
        "memory.high": "50331648",
        "cpu.max": "600000 900000",
        "cpuset.cpus": "0",
        "pids.max": "77",
    }
    assert (where / "cgroup.procs").read_text().split() == [str(pid)]  # nothing of ours is left in it
    assert systemd.call("delete", "--force", name).code == 0
    assert shown("pyrkt-test-limits.scope", "LoadState") == {"LoadState": "not-found"}
    assert not where.exists()
    shell(["systemctl", "stop", "pyrkt-test.slice", "pyrkt.slice"])


def test_without_a_path_the_unit_is_named_after_the_container(systemd: Runtime, box: Bundle) -> None:
    name = started(systemd, box)
    assert cgroup_of(systemd.state(name)["pid"]) == f"/system.slice/pyrkt-{name}.scope"
    assert shown(f"pyrkt-{name}.scope", "Description") == {"Description": f"pyrkt container {name}"}


def test_exec_pause_and_kill_find_the_scope(systemd: Runtime, box: Bundle) -> None:
    spaces = box.config["linux"]["namespaces"]
    box.config["linux"]["namespaces"] = [space for space in spaces if space["type"] not in {"cgroup", "pid"}]
    name = started(systemd, limited(box, ":pyrkt-test:verbs"))
    where = TOP / "system.slice/pyrkt-test-verbs.scope"
    done = systemd.call("exec", name, "cat", "/proc/self/cgroup")
    assert done.out == "0::/system.slice/pyrkt-test-verbs.scope\n", done.err
    assert systemd.detached("exec", "--detach", name, "sleep", "300").code == 0
    assert systemd.call("pause", name).code == 0
    assert "frozen 1" in (where / "cgroup.events").read_text()
    assert systemd.state(name)["status"] == "paused"
    assert systemd.call("resume", name).code == 0
    pids = [int(word) for word in (where / "cgroup.procs").read_text().split()]
    assert len(pids) == 2
    assert systemd.call("kill", "--all", name, "KILL").code == 0
    assert all(oci.ended(pid) for pid in pids)
    assert systemd.call("delete", name).code == 0


def test_a_new_limit_outlives_a_reload(systemd: Runtime, box: Bundle) -> None:
    limited(box, ":pyrkt-test:update", memory={"limit": 64 << 20}, pids={"limit": 20}, cpu={"shares": 1024})
    name = started(systemd, box)
    flags = (
        "--memory",
        "100M",
        "--pids-limit",
        "30",
        "--cpu-share",
        "2048",
        "--cpu-quota",
        "4000",
        "--cpu-period",
        "10000",
    )
    update = systemd.call("update", *flags, name)
    assert update.code == 0, update.err
    shell(["systemctl", "daemon-reload"])
    # which has systemd write everything of the unit again
    shell(["systemctl", "set-property", "--runtime", "pyrkt-test-update.scope", "MemoryHigh=90M", "CPUWeight=174"])
    where = TOP / "system.slice/pyrkt-test-update.scope"
    assert (where / "memory.max").read_text() == f"{100 << 20}\n"
    assert (where / "pids.max").read_text() == "30\n"
    assert (where / "cpu.max").read_text() == "4000 10000\n"
    names = ("MemoryMax", "TasksMax", "CPUQuotaPerSecUSec")
    assert shown("pyrkt-test-update.scope", *names) == {
        "MemoryMax": str(100 << 20),
        "TasksMax": "30",
        "CPUQuotaPerSecUSec": "400ms",
    }


def test_a_foreground_container_leaves_its_supervisor_outside(systemd: Runtime, box: Bundle) -> None:
    limited(box.script("echo ready; read line; exit 3"), ":pyrkt-test:front")
    argv = systemd.argv("run", "--bundle", str(box.path), systemd.new_id())
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        where = TOP / "system.slice/pyrkt-test-front.scope"
        (inside,) = (where / "cgroup.procs").read_text().split()
        assert cgroup_of(process.pid) == cgroup_of(os.getpid())
        assert Path(f"/proc/{inside}/stat").read_text().split()[3] == str(process.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(oci.SECONDS) == 3
    # systemd sees that it is empty, and forgets it
    assert oci.eventually(lambda: shown("pyrkt-test-front.scope", "LoadState") == {"LoadState": "not-found"})
    assert oci.eventually(lambda: not where.exists())


def test_one_process_is_enough(systemd: Runtime, box: Bundle) -> None:
    """The process that holds the scope for the container does not count against it."""
    limited(box, ":pyrkt-test:one", pids={"limit": 1})
    name = started(systemd, box.runs("sleep", "300"))
    assert (TOP / "system.slice/pyrkt-test-one.scope/pids.max").read_text() == "1\n"
    assert (TOP / "system.slice/pyrkt-test-one.scope/pids.current").read_text() == "1\n"
    assert shown("pyrkt-test-one.scope", "TasksMax") == {"TasksMax": "1"}
    assert systemd.call("delete", "--force", name).code == 0


def test_out_of_memory_leaves_no_failed_unit(systemd: Runtime, box: Bundle) -> None:
    limited(box, ":pyrkt-test:oom", memory={"limit": 8 << 20, "swap": 8 << 20})
    name = started(systemd, box.runs("dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"))
    assert oci.eventually(lambda: systemd.state(name)["status"] == "stopped", 20)
    assert systemd.call("delete", name).code == 0
    assert shown("pyrkt-test-oom.scope", "LoadState") == {"LoadState": "not-found"}
    name = started(systemd, limited(box, memory={"limit": 64 << 20}).runs("sleep", "300"))  # the name is free again
    assert systemd.state(name)["status"] == "running"


def test_devices_are_denied_before_and_after_a_reload(systemd: Runtime, box: Bundle) -> None:
    for kind in ("bounding", "effective", "permitted"):
        box.config["process"]["capabilities"][kind].append("CAP_MKNOD")
    once = "mknod n$i c 1 3 && echo x > n$i && echo ok; mknod k$i c 1 11 || echo no; read line"
    box.script(f"cd /dev; for i in 1 2; do {once}; done")
    limited(box, ":pyrkt-test:devices", devices=[{"allow": False, "access": "rwm"}])
    argv = systemd.argv("run", "--bundle", str(box.path), systemd.new_id())
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["ok\n", "no\n"]
        assert shown("pyrkt-test-devices.scope", "DevicePolicy") == {"DevicePolicy": "strict"}
        shell(["systemctl", "daemon-reload"])
        shell(["systemctl", "set-property", "--runtime", "pyrkt-test-devices.scope", "DeviceAllow=/dev/char/1:3 rwm"])
        process.stdin.write("\n\n")
        process.stdin.flush()
        assert [process.stdout.readline() for _ in range(2)] == ["ok\n", "no\n"]
        assert process.wait(oci.SECONDS) == 0


def test_a_container_that_cannot_be_made_leaves_no_unit(systemd: Runtime, box: Bundle) -> None:
    limited(box, ":pyrkt-test:broken")
    box.config["mounts"].append({"destination": "/x", "type": "bind", "source": "/no/such", "options": ["bind"]})
    for verb in ("create", "run"):
        answer = systemd.detached(verb, "--bundle", str(box.save().path), systemd.new_id())
        assert answer.code == 1
        assert "/no/such" in answer.err
        assert oci.eventually(lambda: not units()), units()
        assert not oci.processes("pyrkt-stage1")


def test_a_program_that_is_missing(systemd: Runtime, box: Bundle) -> None:
    limited(box.runs("/no/such"), ":pyrkt-test:missing")
    answer = systemd.run(box.path)
    assert answer.code == 1
    assert "stat /no/such: no such file or directory" in answer.err


def test_a_unit_that_lives_already_is_left_alone(systemd: Runtime, box: Bundle) -> None:
    holder = ["systemd-run", "--quiet", "--scope", "--unit=pyrkt-test-taken", "sleep", "300"]
    with subprocess.Popen(holder) as process:
        try:
            assert oci.eventually(lambda: shown("pyrkt-test-taken.scope", "ActiveState") == {"ActiveState": "active"})
            answer = systemd.run(limited(box, ":pyrkt-test:taken").path)
            assert answer.code == 1
            assert "container's cgroup is not empty" in answer.err
            assert process.poll() is None
        finally:
            process.kill()


def test_refusals(systemd: Runtime, box: Bundle) -> None:
    def said(answer: Answer) -> str:
        assert answer.code == 1
        return answer.err

    assert "expected cgroupsPath to be of format" in said(systemd.run(limited(box, "/x/y").path))
    assert "invalid slice name: a--b.slice" in said(systemd.run(limited(box, "a--b.slice:c:d").path))
    box.config["annotations"] = {"org.systemd.property.Nonsense": "true"}
    answer = said(systemd.run(limited(box, ":pyrkt-test:refused").path))
    assert "unable to start unit" in answer
    assert "Nonsense" in answer


@pytest.mark.parametrize(
    ("hidden", "message"),
    [
        ("mount -t tmpfs none /run/systemd", "systemd not running on this host, cannot use systemd cgroups manager"),
        (
            "mount -t tmpfs none /run/systemd; mkdir /run/systemd/system; mount -t tmpfs none /run/dbus",
            "failed to connect to dbus: /run/dbus/system_bus_socket: No such file or directory",
        ),
    ],
    ids=["no-systemd", "no-bus"],
)
def test_without_systemd_there_is_one_clear_line(systemd: Runtime, box: Bundle, hidden: str, message: str) -> None:
    limited(box, ":pyrkt-test:nobody")
    argv = systemd.argv("run", "--bundle", str(box.path), systemd.new_id())
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f'{hidden} && exec "$@"', "sh", *argv],
        capture_output=True,
        text=True,
        check=False,
        timeout=oci.SECONDS,
    )
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_message_bus_serves_where_systemd_cannot_be_reached_directly(systemd: Runtime, box: Bundle) -> None:
    limited(box.runs("true"), ":pyrkt-test:bus")
    argv = systemd.argv("run", "--bundle", str(box.path), systemd.new_id())
    script = 'mount --bind /dev/null /run/systemd/private && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *argv],
        capture_output=True,
        text=True,
        check=False,
        timeout=oci.SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_slice_can_be_the_container(systemd: Runtime, box: Bundle) -> None:
    name = started(systemd, limited(box, "system.slice:x:pyrkttest.slice", memory={"limit": 64 << 20}))
    assert cgroup_of(systemd.state(name)["pid"]) == "/pyrkttest.slice"
    assert shown("pyrkttest.slice", "MemoryMax", "ActiveState") == {"MemoryMax": str(64 << 20), "ActiveState": "active"}
    assert systemd.call("delete", "--force", name).code == 0
    assert shown("pyrkttest.slice", "ActiveState") == {"ActiveState": "inactive"}
