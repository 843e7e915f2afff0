"""Units, slices and properties: what systemd is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from pyrkt.base.errors import InvalidSpec
from pyrkt.cgroup import devices, systemd
from pyrkt.cgroup import plan as cgroup_plan
from pyrkt.cgroup.host import Hierarchy, Mounts
from pyrkt.cgroup.systemd import Unit, unit_of
from pyrkt.spec.runtime_resources import Cpu, DeviceRule, Memory, Pids, Resources

V2 = Mounts(
    unified=Hierarchy(names=(), mount="/c", own="/system.slice/a.service"),
    controllers=("cpuset", "cpu", "io", "memory", "hugetlb", "pids"),
)
PATH = "/system.slice/pyrkt-x.scope"
HERE = "/c" + PATH
INFINITY = (1 << 64) - 1
DENY = DeviceRule(allow=False, access="rwm")


def pairs(properties: list[systemd.Property]) -> dict[str, Any]:
    return {p.name: p.value for p in properties}


@pytest.mark.parametrize(
    ("cgroups_path", "user", "name", "path"),
    [
        pytest.param("", False, "pyrkt-id.scope", "/system.slice/pyrkt-id.scope", id="default"),
        pytest.param("", True, "pyrkt-id.scope", "/user.slice/pyrkt-id.scope", id="default-of-a-user"),
        pytest.param(":libpod:77", True, "libpod-77.scope", "/user.slice/libpod-77.scope", id="empty-slice"),
        pytest.param(
            "machine.slice:libpod:77", False, "libpod-77.scope", "/machine.slice/libpod-77.scope", id="podman"
        ),
        pytest.param(
            "kubepods-burstable-pod1.slice:cri:a",
            False,
            "cri-a.scope",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-a.scope",
            id="slices-within-slices",
        ),
        pytest.param("-.slice:a:b", False, "a-b.scope", "/a-b.scope", id="the-top"),
        pytest.param("system.slice:a:b-c.slice", False, "b-c.slice", "/b.slice/b-c.slice", id="a-slice"),
        pytest.param("a.slice:_x:y", False, "_x-y.scope", "/a.slice/__x-y.scope", id="underscored"),
        pytest.param("cpu.slice:a:b", False, "a-b.scope", "/_cpu.slice/a-b.scope", id="like-a-controller"),
    ],
)
def test_names(cgroups_path: str, *, user: bool, name: str, path: str) -> None:
    found = unit_of(cgroups_path, "id", user=user)
    assert (found.name, found.path) == (name, path)


@pytest.mark.parametrize(
    ("cgroups_path", "problem"),
    [
        pytest.param(
            "/x/y",
            'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "/x/y" instead',
            id="a-path",
        ),
        pytest.param("a:b", "expected cgroupsPath", id="two-parts"),
        pytest.param("a:b:c:d", "expected cgroupsPath", id="four-parts"),
        pytest.param("system:a:b", "invalid slice name: system", id="no-suffix"),
        pytest.param(".slice:a:b", "invalid slice name: .slice", id="no-name"),
        pytest.param("a--b.slice:a:b", "invalid slice name: a--b.slice", id="empty-word"),
        pytest.param("-a.slice:a:b", "invalid slice name", id="leading-dash"),
        pytest.param("../a.slice:a:b", "invalid slice name", id="slash"),
        pytest.param("a.slice:p:../../x", "cannot be the name of a unit", id="climbing"),
        pytest.param("a.slice:p:x y", "cannot be the name of a unit", id="blank"),
        pytest.param("a.slice:p:" + "x" * 250, "cannot be the name of a unit", id="long"),
    ],
)
def test_refused_names(cgroups_path: str, problem: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        unit_of(cgroups_path, "id", user=False)
    assert problem in caught.value.problem
    assert caught.value.where == "linux.cgroupsPath"


def test_a_scope_is_delegated_and_collected() -> None:
    found = pairs(systemd.basic(unit_of("", "id", user=False), "id", 77, v1=False))
    assert found == {
        "Description": "pyrkt container id",
        "Slice": "system.slice",
        "Delegate": True,
        "PIDs": [77],
        "CollectMode": "inactive-or-failed",
        "MemoryAccounting": True,
        "CPUAccounting": True,
        "IOAccounting": True,
        "TasksAccounting": True,
        "DefaultDependencies": False,
    }


def test_a_slice_has_a_parent_and_no_processes() -> None:
    found = pairs(systemd.basic(unit_of("a.slice:p:b.slice", "id", user=False), "id", 0, v1=True))
    assert found["Wants"] == ["a.slice"]
    assert not found.keys() & {"PIDs", "Slice", "Delegate"}
    assert found["BlockIOAccounting"] is True


def layout(**wanted: Any) -> Any:
    return cgroup_plan.layout(Resources(**wanted), PATH, V2)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        pytest.param({"memory": Memory(limit=1 << 20)}, {"MemoryMax": 1 << 20}, id="memory"),
        pytest.param(
            {"memory": Memory(limit=1 << 20, swap=3 << 20, reservation=1 << 19)},
            {"MemoryMax": 1 << 20, "MemorySwapMax": 2 << 20, "MemoryLow": 1 << 19},
            id="swap-without-memory",
        ),
        pytest.param(
            {"memory": Memory(limit=-1)}, {"MemoryMax": INFINITY, "MemorySwapMax": INFINITY}, id="no-memory-limit"
        ),
        pytest.param({"pids": Pids(limit=9)}, {"TasksMax": 9}, id="pids"),
        pytest.param({"pids": Pids(limit=-1)}, {"TasksMax": INFINITY}, id="no-pids-limit"),
        pytest.param({"pids": Pids(limit=0)}, {"TasksMax": 1}, id="no-pids"),
        pytest.param({"cpu": Cpu(shares=1024)}, {"CPUWeight": 100}, id="shares"),
        pytest.param(
            {"cpu": Cpu(quota=4000, period=10000)},
            {"CPUQuotaPerSecUSec": 400_000, "CPUQuotaPeriodUSec": 10000},
            id="quota",
        ),
        pytest.param(
            {"cpu": Cpu(quota=600_000, period=900_000)},
            {"CPUQuotaPerSecUSec": 670_000, "CPUQuotaPeriodUSec": 900_000},
            id="quota-up-to-percent",
        ),
        pytest.param(
            {"cpu": Cpu(quota=-1, period=100_000)},
            {"CPUQuotaPerSecUSec": INFINITY, "CPUQuotaPeriodUSec": 100_000},
            id="no-quota",
        ),
        pytest.param(
            {"cpu": Cpu(cpus="0-2,9", mems="0")},
            {"AllowedCPUs": b"\x07\x02", "AllowedMemoryNodes": b"\x01"},
            id="cpuset",
        ),
        pytest.param({"cpu": Cpu(idle=1, shares=1024)}, {"CPUWeight": 0}, id="idle-has-no-weight"),
        pytest.param(
            {"unified": {"memory.high": "max", "memory.min": "4096", "pids.max": "42", "cpu.weight": "42"}},
            {"MemoryHigh": INFINITY, "MemoryMin": 4096, "TasksMax": 42, "CPUWeight": 42},
            id="unified",
        ),
        pytest.param(
            {
                "cpu": Cpu(shares=3333, quota=40000, period=100_000),
                "unified": {"cpu.max": "5000 50000", "cpu.weight": "42"},
            },
            {"CPUWeight": 42, "CPUQuotaPerSecUSec": 100_000, "CPUQuotaPeriodUSec": 50_000},
            id="unified-overrides",
        ),
        pytest.param({"unified": {"memory.oom.group": "1", "cpu.max.burst": "5"}}, {}, id="left-to-the-file"),
        pytest.param({"unified": {"pids.max": "many", "cpuset.cpus": "9-1"}}, {}, id="left-to-the-kernel"),
    ],
)
def test_limits_of_version_2(wanted: dict[str, Any], found: dict[str, Any]) -> None:
    made = layout(**wanted)
    assert pairs(systemd.limits(made.write, made.clone_into)) == found


def test_limits_of_version_1() -> None:
    names = ("cpuset", "cpu", "memory", "pids", "blkio")
    mounts = Mounts(v1=tuple(Hierarchy(names=(name,), mount=f"/c/{name}") for name in names))
    wanted = Resources(memory=Memory(limit=1 << 20), cpu=Cpu(shares=512, quota=1000, period=10_000), pids=Pids(limit=5))
    made = cgroup_plan.layout(wanted, PATH, mounts)
    assert pairs(systemd.limits(made.write, made.clone_into)) == {
        "MemoryLimit": 1 << 20,
        "CPUShares": 512,
        "CPUQuotaPeriodUSec": 10_000,
        "CPUQuotaPerSecUSec": 100_000,
        "TasksMax": 5,
    }


# --- annotations ---


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("TimeoutStopUSec", "uint64 7000000", ("TimeoutStopUSec", "t", 7_000_000)),
        ("TimeoutStopSec", "7", ("TimeoutStopUSec", "t", 7_000_000)),
        ("TimeoutStopSec", "1.5", ("TimeoutStopUSec", "t", 1_500_000)),
        ("CollectMode", "'inactive'", ("CollectMode", "s", "inactive")),
        ("After", "['a.service']", ("After", "as", ["a.service"])),
        ("FixedSEC", "1", ("FixedSEC", "i", 1)),
    ],
)
def test_annotations(name: str, text: str, found: tuple[str, str, Any]) -> None:
    (made,) = systemd.annotated({"org.example": "x", f"org.systemd.property.{name}": text})
    assert (made.name, made.signature, made.value) == found


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("ab", "1", "name incorrect: too short"),
        ("Exec-Start", "1", "contains non-alphabetic character"),
        ("Afterä", "1", "contains non-alphabetic character"),
        ("TimeoutStopSec", "'7'", "not a number"),
        ("TimeoutStopSec", "-7", "no time"),
        ("CollectMode", "inactive", "value parse error"),
    ],
)
def test_refused_annotations(name: str, text: str, problem: str) -> None:
    with pytest.raises(InvalidSpec, match=problem):
        systemd.annotated({f"org.systemd.property.{name}": text})


# --- devices ---

GROUPS = systemd.device_groups("Character devices:\n  1 mem\n  5 tty\n136 pts\n\nBlock devices:\n259 blkext\n  8 sd\n")


def policy(*rules: DeviceRule, v1: bool = False, exists: bool = True) -> dict[str, Any]:
    found = systemd.device_policy(devices.rules(rules), GROUPS, lambda _path: exists, v1=v1)
    return pairs(found)  # of the two DeviceAllow, the first of which empties the list, the last


def test_the_default_devices() -> None:
    found = policy(DENY)
    assert found["DevicePolicy"] == "strict"
    assert found["DeviceAllow"][0] == ("/dev/char/1:3", "rwm")
    assert ("char-pts", "rwm") in found["DeviceAllow"]
    assert len(found["DeviceAllow"]) == 9


def test_all_devices_are_no_policy() -> None:
    assert policy(DENY, DeviceRule(allow=True, access="rwm")) == {"DevicePolicy": "auto", "DeviceAllow": []}


def test_wildcards_are_groups_and_globs() -> None:
    found = policy(
        DENY,
        DeviceRule(allow=True, type="b", major=8, access="r"),
        DeviceRule(allow=True, type="c", access="m"),
    )
    assert found["DeviceAllow"][:2] == [("block-sd", "r"), ("char-*", "m")]


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(DeviceRule(allow=True, type="c", minor=7, access="r"), id="any-major"),
        pytest.param(DeviceRule(allow=True, type="b", major=99, access="r"), id="no-such-group"),
    ],
)
def test_what_systemd_cannot_say_is_ours_alone(rule: DeviceRule) -> None:
    assert policy(DENY, rule) == {}
    # in version 1 it would some day allow everything: it is told what it can say
    assert policy(DENY, rule, v1=True)["DevicePolicy"] == "strict"
    assert len(policy(DENY, rule, v1=True)["DeviceAllow"]) == 9


def test_an_exception_from_what_is_allowed_is_ours_alone() -> None:
    rules = (
        DENY,
        DeviceRule(allow=True, type="b", access="rwm"),
        DeviceRule(allow=False, type="b", major=8, access="w"),
    )
    assert policy(*rules) == {}


def test_a_node_that_is_not_there_is_ours_alone() -> None:
    assert policy(DENY, exists=False) == {}


# --- the layout ---


def placed(unit: Unit | None = None, **wanted: Any) -> Any:
    return systemd.placed(layout(**wanted), unit or unit_of("", "x", user=False), "system", "/c")


def test_what_systemd_makes_is_not_made_again() -> None:
    found = placed(memory=Memory(limit=1 << 20))
    assert found.make == ()
    assert found.clone_into == HERE
    assert found.managed == (HERE,)
    assert (found.driver, found.unit, found.bus) == ("systemd", "pyrkt-x.scope", "system")
    handed_down = {write[1] for write in found.write if write[0].endswith("subtree_control")}
    assert handed_down == {"+hugetlb"}  # which systemd does not know
    assert (f"{HERE}/memory.max", str(1 << 20), "linux.resources.memory.limit") in found.write
    assert found.is_held


def test_controllers_that_systemd_does_not_know_are_handed_down() -> None:
    found = placed(unified={"hugetlb.2MB.max": "0"})
    assert [write[:2] for write in found.write if write[0].endswith("subtree_control")] == [
        ("/c/cgroup.subtree_control", "+hugetlb"),
        ("/c/system.slice/cgroup.subtree_control", "+hugetlb"),
    ]


def test_a_limit_of_one_process_waits_until_the_holder_is_gone() -> None:
    found = placed(pids=Pids(limit=1))
    assert [write[:2] for write in found.write if "pids" in write[0]] == [(f"{HERE}/pids.max", "2")]
    assert [write[:2] for write in found.late] == [(f"{HERE}/pids.max", "1")]
    assert placed(pids=Pids(limit=2)).late == ()


def test_a_slice_is_not_held() -> None:
    found = placed(unit_of("a.slice:p:b.slice", "x", user=False), pids=Pids(limit=1))
    assert not found.is_held
    assert found.late == ()


def test_hybrid_hosts_have_the_rest_made() -> None:
    mounts = Mounts(
        v1=(Hierarchy(names=("name=systemd",), mount="/c/systemd"), Hierarchy(names=("pids",), mount="/c/pids")),
        unified=Hierarchy(names=(), mount="/c/unified"),
    )
    made = cgroup_plan.layout(Resources(), PATH, mounts)
    found = systemd.placed(made, unit_of("", "x", user=False), "system", "/c/unified")
    assert f"/c/pids{PATH}" in found.make
    assert f"/c/unified{PATH}" not in found.make
    assert found.managed == (f"/c/systemd{PATH}", f"/c/unified{PATH}")
