"""``--systemd-cgroup`` where the controllers are in version 1: some hierarchies are systemd's, the rest are ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import oci
from tests.support.oci import LAUNCHER
from tests.v2.test_systemd import created, limited, shown, units

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

TOP = Path("/sys/fs/cgroup")
UNIT = "pyrkt-test-hybrid.scope"


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Runtime]:
    found = oci.Runtime("pyrkt-oci", (*LAUNCHER, "--systemd-cgroup"), tmp_path / "state")
    with oci.nothing_left(tmp_path, "pyrkt-test"):
        yield found
        found.clean()
    assert oci.eventually(lambda: not units()), units()


def directories() -> list[Path]:
    """Return the container's cgroup in every hierarchy, named and unified ones too."""
    return sorted(path for path in TOP.glob(f"*/system.slice/{UNIT}") if not path.parent.parent.is_symlink())


def box_of(box: Bundle) -> Bundle:
    limits = {"memory": {"limit": 64 << 20}, "cpu": {"shares": 2048, "quota": 50_000, "period": 200_000}}
    return limited(box, ":pyrkt-test:hybrid", **limits, pids={"limit": 20})


def test_the_scope_is_in_every_hierarchy_with_its_limits(systemd: Runtime, box: Bundle) -> None:
    name = created(systemd, box_of(box))
    assert systemd.call("start", name).code == 0
    pid = systemd.state(name)["pid"]
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        assert line.endswith(f":/system.slice/{UNIT}")
    for directory in directories():
        assert (directory / "cgroup.procs").read_text().split() == [str(pid)]
    properties = ("ActiveState", "MemoryLimit", "CPUShares", "CPUQuotaPerSecUSec", "TasksMax", "DevicePolicy")
    assert shown(UNIT, *properties) == {
        "ActiveState": "active",
        "MemoryLimit": str(64 << 20),
        "CPUShares": "2048",
        "CPUQuotaPerSecUSec": "250ms",
        "TasksMax": "20",
        "DevicePolicy": "strict",
    }
    assert (TOP / f"memory/system.slice/{UNIT}/memory.limit_in_bytes").read_text() == f"{64 << 20}\n"
    assert (TOP / f"cpu/system.slice/{UNIT}/cpu.cfs_period_us").read_text() == "200000\n"
    assert systemd.call("update", "--memory", "100M", "--pids-limit", "30", name).code == 0
    assert shown(UNIT, "MemoryLimit", "TasksMax") == {"MemoryLimit": str(100 << 20), "TasksMax": "30"}
    assert (TOP / f"memory/system.slice/{UNIT}/memory.limit_in_bytes").read_text() == f"{100 << 20}\n"
    assert (TOP / f"pids/system.slice/{UNIT}/pids.max").read_text() == "30\n"
    assert systemd.call("exec", name, "true").code == 0
    assert systemd.call("pause", name).code == 0
    assert systemd.state(name)["status"] == "paused"
    assert systemd.call("delete", "--force", name).code == 0
    assert shown(UNIT, "LoadState") == {"LoadState": "not-found"}
    assert not directories()


def test_a_foreground_container_leaves_nothing(systemd: Runtime, box: Bundle) -> None:
    answer = systemd.run(box_of(box.script("setsid sleep 300 & exit 3")).path)
    assert (answer.code, answer.err) == (3, "")
    assert oci.eventually(lambda: shown(UNIT, "LoadState") == {"LoadState": "not-found"})
    assert oci.eventually(lambda: not directories()), directories()
