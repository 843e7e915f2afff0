"""Limits into (file, value) pairs: a table for every formula, in both versions of cgroups."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.base.errors import InvalidSpec, NoPermission, PyrktError, UsageError
from pyrkt.base.reader import Reader
from pyrkt.cgroup import devices, plan
from pyrkt.cgroup.host import Cpuset, Hierarchy, Mounts
from pyrkt.spec.runtime_resources import Resources

V1_NAMES = ("cpuset", "memory", "cpu", "pids", "blkio", "hugetlb", "net_cls", "net_prio", "rdma", "devices", "freezer")
V1 = Mounts(
    v1=tuple(Hierarchy(names=(name,), mount=f"/cg/{name}", own="/own") for name in V1_NAMES),
    cpuset=Cpuset(directory="/cg/cpuset", cpus="0-3", mems="0"),
)
V2_NAMES = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc")
V2 = Mounts(unified=Hierarchy(names=(), mount="/cg2", own="/user/shell"), controllers=V2_NAMES)
HYBRID = V1.replace(unified=Hierarchy(names=(), mount="/cg/unified"), controllers=("io",), v1=V1.v1[:3] + V1.v1[-2:])


def resources(value: dict[str, Any]) -> Resources:
    return Resources.parse(Reader(value, "config.json", "linux.resources"))


def written(value: dict[str, Any], mounts: Mounts, path: str = "/p") -> list[tuple[str, str]]:
    """Return the writes that are limits of ``value``, as (file below the mounts, text)."""
    layout = plan.layout(resources(value), path, mounts)
    prefix = "linux.resources."
    return [
        (file, text)
        for file, text, cause in layout.write
        if cause.startswith(prefix) and cause != "linux.resources.devices"
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param({"memory": {"limit": 64 << 20}}, [("memory/p/memory.limit_in_bytes", "67108864")], id="limit"),
        pytest.param({"memory": {"limit": 0, "swap": 0, "reservation": 0}}, [], id="zeros"),
        pytest.param(
            {"memory": {"swap": 20, "limit": 10}},
            [("memory/p/memory.limit_in_bytes", "10"), ("memory/p/memory.memsw.limit_in_bytes", "20")],
            id="limit-before-swap",
        ),
        pytest.param(
            {"memory": {"limit": -1}},
            [("memory/p/memory.limit_in_bytes", "-1"), ("memory/p/memory.memsw.limit_in_bytes", "-1")],
            id="no-limit-is-none-on-swap",
        ),
        pytest.param({"memory": {"reservation": 7}}, [("memory/p/memory.soft_limit_in_bytes", "7")], id="reservation"),
        pytest.param({"memory": {"kernel": 7}}, [], id="kernel-has-no-effect"),
        pytest.param({"memory": {"kernelTCP": 7}}, [("memory/p/memory.kmem.tcp.limit_in_bytes", "7")], id="kernel-tcp"),
        pytest.param({"memory": {"swappiness": 0}}, [("memory/p/memory.swappiness", "0")], id="swappiness-zero"),
        pytest.param({"memory": {"swappiness": 100}}, [("memory/p/memory.swappiness", "100")], id="swappiness"),
        pytest.param({"memory": {"disableOOMKiller": True}}, [("memory/p/memory.oom_control", "1")], id="oom"),
        pytest.param({"cpu": {"shares": 512}}, [("cpu/p/cpu.shares", "512")], id="shares"),
        pytest.param(
            {"cpu": {"quota": 5000, "period": 10000, "burst": 100}},
            [
                ("cpu/p/cpu.cfs_period_us", "10000"),
                ("cpu/p/cpu.cfs_quota_us", "5000"),
                ("cpu/p/cpu.cfs_burst_us", "100"),
            ],
            id="period-quota-burst",
        ),
        pytest.param({"cpu": {"quota": -1}}, [("cpu/p/cpu.cfs_quota_us", "-1")], id="quota-off"),
        pytest.param(
            {"cpu": {"realtimeRuntime": 95, "realtimePeriod": 100}},
            [("cpu/p/cpu.rt_period_us", "100"), ("cpu/p/cpu.rt_runtime_us", "95")],
            id="realtime",
        ),
        pytest.param(
            {"cpu": {"idle": 1, "shares": 2}}, [("cpu/p/cpu.shares", "2"), ("cpu/p/cpu.idle", "1")], id="idle-last"
        ),
        pytest.param(
            {"cpu": {"cpus": "0-1", "mems": "0"}},
            [("cpuset/p/cpuset.cpus", "0-1"), ("cpuset/p/cpuset.mems", "0")],
            id="cpuset",
        ),
        pytest.param({"pids": {"limit": 7}}, [("pids/p/pids.max", "7")], id="pids"),
        pytest.param({"pids": {"limit": -1}}, [("pids/p/pids.max", "max")], id="pids-off"),
        pytest.param({"pids": {"limit": 0}}, [("pids/p/pids.max", "1")], id="pids-zero-is-the-first-process-alone"),
        pytest.param({"blockIO": {"weight": 10}}, [("blkio/p/blkio.weight", "10")], id="weight"),
        pytest.param({"blockIO": {"weight": 0}}, [], id="weight-zero"),
        pytest.param({"blockIO": {"leafWeight": 1000}}, [("blkio/p/blkio.leaf_weight", "1000")], id="leaf-weight"),
        pytest.param(
            {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}]}},
            [("blkio/p/blkio.weight_device", "8:0 500"), ("blkio/p/blkio.leaf_weight_device", "8:0 300")],
            id="weight-device",
        ),
        pytest.param(
            {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 300}]}},
            [("blkio/p/blkio.leaf_weight_device", "8:0 300")],
            id="leaf-weight-device",
        ),
        pytest.param(
            {
                "blockIO": {
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
                    "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2}],
                    "throttleReadIOPSDevice": [{"major": 8, "minor": 16, "rate": 3}],
                    "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 4}],
                }
            },
            [
                ("blkio/p/blkio.throttle.read_bps_device", "8:0 1"),
                ("blkio/p/blkio.throttle.write_bps_device", "8:0 2"),
                ("blkio/p/blkio.throttle.read_iops_device", "8:16 3"),
                ("blkio/p/blkio.throttle.write_iops_device", "8:0 4"),
            ],
            id="throttles",
        ),
        pytest.param(
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 4096}]},
            [("hugetlb/p/hugetlb.2MB.limit_in_bytes", "4096"), ("hugetlb/p/hugetlb.2MB.rsvd.limit_in_bytes", "4096")],
            id="hugetlb",
        ),
        pytest.param({"network": {"classID": 0}}, [], id="class-zero"),
        pytest.param({"network": {"classID": 1048577}}, [("net_cls/p/net_cls.classid", "1048577")], id="class"),
        pytest.param(
            {"network": {"priorities": [{"name": "lo", "priority": 5}]}},
            [("net_prio/p/net_prio.ifpriomap", "lo 5")],
            id="priority",
        ),
        pytest.param(
            {"rdma": {"mlx5_1": {"hcaHandles": 3}, "mlx5_2": {"hcaHandles": 1, "hcaObjects": 2}}},
            [("rdma/p/rdma.max", "mlx5_1 hca_handle=3"), ("rdma/p/rdma.max", "mlx5_2 hca_handle=1 hca_object=2")],
            id="rdma",
        ),
    ],
)
def test_v1(value: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert written(value, V1) == [(f"/cg/{file}", text) for file, text in expected]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param({"memory": {"limit": 64 << 20}}, [("memory.max", "67108864")], id="limit"),
        pytest.param(
            {"memory": {"limit": 10, "swap": 30}}, [("memory.swap.max", "20"), ("memory.max", "10")], id="swap"
        ),
        pytest.param(
            {"memory": {"limit": 10, "swap": 10}}, [("memory.swap.max", "0"), ("memory.max", "10")], id="none"
        ),
        pytest.param(
            {"memory": {"limit": 10, "swap": -1}}, [("memory.swap.max", "max"), ("memory.max", "10")], id="-1"
        ),
        pytest.param({"memory": {"limit": -1}}, [("memory.swap.max", "max"), ("memory.max", "max")], id="no-limit"),
        pytest.param(
            {"memory": {"limit": -1, "swap": 7}}, [("memory.swap.max", "7"), ("memory.max", "max")], id="swap-as-it-is"
        ),
        pytest.param({"memory": {"reservation": 5, "swappiness": 0}}, [("memory.low", "5")], id="reservation"),
        pytest.param({"cpu": {"shares": 1024}}, [("cpu.weight", "100")], id="shares"),
        pytest.param({"cpu": {"quota": 5000}}, [("cpu.max", "5000 100000")], id="quota"),
        pytest.param({"cpu": {"quota": -1, "period": 7000}}, [("cpu.max", "max 7000")], id="period"),
        pytest.param({"cpu": {"period": 7000}}, [("cpu.max", "max 7000")], id="period-alone"),
        pytest.param({"cpu": {"burst": 9, "idle": 1}}, [("cpu.max.burst", "9"), ("cpu.idle", "1")], id="burst-idle"),
        pytest.param({"cpu": {"cpus": "0"}}, [("cpuset.cpus", "0")], id="cpuset"),
        pytest.param({"pids": {"limit": -1}}, [("pids.max", "max")], id="pids"),
        pytest.param({"blockIO": {"weight": 500}}, [("io.weight", "4950")], id="weight"),
        pytest.param(
            {
                "blockIO": {
                    "weightDevice": [{"major": 8, "minor": 1, "weight": 1000}, {"major": 8, "minor": 2, "weight": 0}]
                }
            },
            [("io.weight", "8:1 10000")],
            id="weight-device",
        ),
        pytest.param(
            {
                "blockIO": {
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
                    "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 0}],
                }
            },
            [("io.max", "8:0 rbps=1"), ("io.max", "8:0 wiops=max")],
            id="throttles",
        ),
        pytest.param(
            {"hugepageLimits": [{"pageSize": "1GB", "limit": 0}]},
            [("hugetlb.1GB.max", "0"), ("hugetlb.1GB.rsvd.max", "0")],
            id="hugetlb-zero-is-a-limit",
        ),
        pytest.param(
            {"hugepageLimits": [{"pagesize": "1GB", "limit": 7}]},
            [("hugetlb.1GB.max", "7"), ("hugetlb.1GB.rsvd.max", "7")],
            id="hugetlb-in-any-case",
        ),
        pytest.param({"rdma": {"m": {"hcaObjects": 2}}}, [("rdma.max", "m hca_object=2")], id="rdma"),
        pytest.param(
            {
                "unified": {
                    "memory.high": "5",
                    "io.max": "8:0 rbps=1\n8:16 rbps=2",
                    "misc.max": "",
                    "cgroup.freeze": "0",
                }
            },
            [
                ("memory.high", "5"),
                ("io.max", "8:0 rbps=1"),
                ("io.max", "8:16 rbps=2"),
                ("misc.max", ""),
                ("cgroup.freeze", "0"),
            ],
            id="unified",
        ),
    ],
)
def test_v2(value: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert written(value, V2) == [(f"/cg2/p/{file}", text) for file, text in expected]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param({"weight": 300}, ("blkio.bfq.weight", "300"), id="weight"),
        pytest.param(
            {"weightDevice": [{"major": 8, "minor": 0, "weight": 300}]},
            ("blkio.bfq.weight_device", "8:0 300"),
            id="device",
        ),
    ],
)
def test_bfq_has_its_own_weights(value: dict[str, Any], expected: tuple[str, str]) -> None:
    file, text = expected
    assert written({"blockIO": value}, V1.replace(bfq=True)) == [(f"/cg/blkio/p/{file}", text)]
    v2 = written({"blockIO": value}, V2.replace(bfq=True))
    assert v2 == [("/cg2/p/io.bfq.weight", text)]  # the same 10..1000, no conversion


@pytest.mark.parametrize(
    ("shares", "weight"),
    [
        *[(0, 0), (-5, 0), (1, 1), (2, 1), (3, 2), (10, 4), (256, 35), (512, 59), (1024, 100), (2048, 174)],
        *[(4096, 303), (262143, 10000), (262144, 10000), (1 << 40, 10000)],
    ],
)
def test_cpu_weight(shares: int, weight: int) -> None:
    assert plan.cpu_weight(shares) == weight


@given(st.integers(2, 262144), st.integers(2, 262144))
def test_more_shares_never_weigh_less(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert 1 <= plan.cpu_weight(low) <= plan.cpu_weight(high) <= 10000


@pytest.mark.parametrize(("weight", "expected"), [(10, 1), (100, 910), (500, 4950), (1000, 10000)])
def test_io_weight(weight: int, expected: int) -> None:
    assert plan.io_weight(weight) == expected


@pytest.mark.parametrize(
    ("value", "mounts", "where", "problem"),
    [
        pytest.param({"memory": {"swap": 5}}, V1, "memory.swap", "without memory limit", id="swap-alone"),
        pytest.param({"memory": {"swap": 5}}, V2, "memory.swap", "without memory limit", id="swap-alone-v2"),
        pytest.param({"memory": {"swap": 5, "limit": -1}}, V1, "memory.swap", "has no limit", id="swap-no-limit"),
        pytest.param({"memory": {"swap": 5, "limit": 6}}, V1, "memory.swap", ">= memory limit", id="swap-below"),
        pytest.param({"memory": {"swap": 5, "limit": 6}}, V2, "memory.swap", ">= memory limit", id="swap-below-v2"),
        pytest.param({"memory": {"limit": -2}}, V1, "memory.limit", "invalid memory value: -2", id="negative"),
        pytest.param({"cpu": {"shares": 1}}, V1, "cpu.shares", "minimum allowed cpu-shares is 2", id="shares-low"),
        pytest.param({"cpu": {"shares": 1 << 19}}, V1, "cpu.shares", "maximum allowed cpu-shares", id="shares-high"),
        pytest.param({"memory": {"swappiness": 101}}, V1, "memory.swappiness", "between 0 and 100", id="swappiness"),
        pytest.param({"memory": {"swappiness": 60}}, V2, "memory.swappiness", "no swappiness", id="swappiness-v2"),
        pytest.param({"memory": {"disableOOMKiller": True}}, V2, "memory.disableOOMKiller", "OOM killer", id="oom-v2"),
        pytest.param({"cpu": {"realtimePeriod": 1}}, V2, "cpu.realtimePeriod", "realtime", id="realtime-v2"),
        pytest.param({"blockIO": {"weight": 9}}, V1, "blockIO.weight", "between 10 and 1000", id="weight-low"),
        pytest.param({"blockIO": {"weight": 1001}}, V2, "blockIO.weight", "between 10 and 1000", id="weight-high"),
        pytest.param({"blockIO": {"leafWeight": 10}}, V2, "blockIO.leafWeight", "no leaf weights", id="leaf-v2"),
        pytest.param(
            {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 10}]}},
            V2,
            "blockIO.weightDevice[0].leafWeight",
            "no leaf weights",
            id="leaf-device-v2",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(value: dict[str, Any], mounts: Mounts, where: str, problem: str) -> None:
    with pytest.raises(InvalidSpec, match=problem) as caught:
        plan.layout(resources(value), "/p", mounts)
    assert caught.value.where == f"linux.resources.{where}"


@pytest.mark.parametrize(
    ("value", "mounts", "problem"),
    [
        pytest.param({"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}, HYBRID, "hugetlb", id="hugetlb"),
        pytest.param({"pids": {"limit": 5}}, HYBRID, "controller pids, but", id="pids"),
        pytest.param({"network": {"classID": 5}}, V2, "controller net_cls, but", id="net-cls-v2"),
        pytest.param({"blockIO": {"weight": 10}}, Mounts(), r"blkio \(v2: io\), but this host has no", id="none"),
        pytest.param({"unified": {"pids.max": "5"}}, HYBRID, 'controller "pids" not available', id="unified"),
        pytest.param(
            {"unified": {"memory.max": "5"}}, V1, "invalid configuration: cannot use unified .* v1", id="unified-v1"
        ),
        pytest.param({"unified": {"x": "5"}}, V2, 'resource "x" can\'t be set', id="unified-unknown"),
        pytest.param({"rdma": {"m": {"hcaObjects": 2}}}, HYBRID.replace(v1=V1.v1[:1]), "cannot set rdma", id="rdma"),
    ],
)
def test_a_limit_without_its_controller_is_an_error(value: dict[str, Any], mounts: Mounts, problem: str) -> None:
    with pytest.raises(NoPermission, match=problem):
        plan.layout(resources(value), "/p", mounts)


def test_zeros_need_no_controller() -> None:
    nothing = {"memory": {"limit": 0}, "pids": {}, "blockIO": {"weight": 0}, "cpu": {"shares": 0, "quota": 0}}
    assert plan.layout(resources(nothing), "/p", Mounts()).write == ()


def test_a_hybrid_host_uses_each_controller_where_it_is() -> None:
    value = {"memory": {"limit": 5}, "blockIO": {"weight": 10}}
    layout = plan.layout(resources(value), "/a/b", HYBRID)
    assert ("/cg/memory/a/b/memory.limit_in_bytes", "5", "linux.resources.memory.limit") in layout.write
    assert ("/cg/unified/a/b/io.weight", "1", "linux.resources.blockIO.weight") in layout.write
    enabling = [(file, value) for file, value, _ in layout.write if file.endswith("subtree_control")]
    assert enabling == [("/cg/unified/cgroup.subtree_control", "+io"), ("/cg/unified/a/cgroup.subtree_control", "+io")]


def test_v1_places() -> None:
    layout = plan.layout(None, "/a/b", V1)
    assert layout.make[:2] == ("/cg/cpuset/a", "/cg/cpuset/a/b")
    assert layout.enter == tuple(f"/cg/{name}/a/b" for name in V1_NAMES)
    assert layout.remove == layout.enter
    assert layout.clone_into == ""
    assert layout.kill == ()
    assert layout.path("memory") == "/cg/memory/a/b"
    assert layout.path("") == layout.path("perf_event") == ""


def test_controllers_that_are_mounted_together_share_a_directory() -> None:
    together = Mounts(v1=(Hierarchy(names=("cpu", "cpuacct"), mount="/cg/cpu,cpuacct"),))
    layout = plan.layout(resources({"cpu": {"shares": 4}}), "/a", together)
    assert layout.make == layout.enter == layout.remove == ("/cg/cpu,cpuacct/a",)
    assert layout.path("cpu") == layout.path("cpuacct") == "/cg/cpu,cpuacct/a"
    assert layout.write == (("/cg/cpu,cpuacct/a/cpu.shares", "4", "linux.resources.cpu.shares"),)


def test_what_a_new_cgroup_says_anyway_is_not_written() -> None:
    """A kernel that is too old for cpu.idle has no file to write the 0 to."""
    assert not written({"cpu": {"idle": 0, "burst": 0}}, V1)
    assert not written({"cpu": {"idle": 0, "burst": 0}}, V2)
    cleared, _ = plan.limits(resources({"cpu": {"idle": 0, "burst": 0}}), V2, "/p")
    assert [(file, value) for file, value, _ in cleared] == [("/cg2/p/cpu.max.burst", "0"), ("/cg2/p/cpu.idle", "0")]


def test_no_limit_where_swap_is_not_counted() -> None:
    assert written({"memory": {"limit": -1}}, V1.replace(swap=False)) == [("/cg/memory/p/memory.limit_in_bytes", "-1")]
    assert written({"memory": {"limit": -1}}, V2.replace(swap=False)) == [("/cg2/p/memory.max", "max")]
    asked = {"memory": {"limit": 5, "swap": 7}}
    assert ("/cg2/p/memory.swap.max", "2") in written(asked, V2.replace(swap=False))  # which the kernel will refuse


def test_a_relative_path_counts_from_the_own_cgroup() -> None:
    assert plan.layout(None, "x", V1).make[1] == "/cg/memory/own/x"
    v2 = plan.layout(None, "x", V2)
    assert v2.make == ("/cg2/user/x",)  # beside the caller's own, which holds processes
    assert v2.enter == ()
    assert v2.clone_into == "/cg2/user/x"
    assert v2.kill == ("/cg2/user/x/cgroup.kill",)


@pytest.mark.parametrize("path", ["/../../etc", "../../etc", "/a/../../etc", "/a/b/.."])
def test_a_path_that_leads_upwards_is_refused(path: str) -> None:
    with pytest.raises(InvalidSpec, match="leads upwards"):
        plan.layout(None, path, V1)


@pytest.mark.parametrize("path", ["/", ".", "/.", "//"])
def test_the_top_is_no_place_for_a_container(path: str) -> None:
    with pytest.raises(UsageError):
        plan.layout(None, path, V1)


def test_no_path_is_no_cgroup() -> None:
    assert plan.layout(None, "", V1).make == ()
    with pytest.raises(NoPermission, match="no cgroup of its own"):
        plan.layout(resources({"pids": {"limit": 5}}), "", V1)
    with pytest.raises(InvalidSpec, match="no cgroup of its own"):
        plan.layout(resources({"unified": {"pids.max": "5"}}), "", V2)


def test_new_cpusets_are_filled_from_the_parent() -> None:
    mounts = V1.replace(cpuset=Cpuset(directory="/cg/cpuset/a", cpus="1", mems="0"))
    files = [(file, value) for file, value, cause in plan.layout(None, "/a/b/c", mounts).write if "cpuset" in file]
    own = plan.layout(resources({"cpu": {"cpus": "1", "mems": "0"}}), "/a/b/c", mounts).write
    assert len([file for file, _, cause in own if file == "/cg/cpuset/a/b/c/cpuset.cpus"]) == 1
    assert files == [
        ("/cg/cpuset/a/b/cpuset.cpus", "1"),
        ("/cg/cpuset/a/b/cpuset.mems", "0"),
        ("/cg/cpuset/a/b/c/cpuset.cpus", "1"),
        ("/cg/cpuset/a/b/c/cpuset.mems", "0"),
    ]


def test_a_cpuset_that_nobody_can_fill_is_not_entered() -> None:
    layout = plan.layout(None, "/a", V1.replace(cpuset=None))
    assert not [directory for directory in (*layout.make, *layout.enter) if "cpuset" in directory]


def test_rootless_has_those_of_version_1_that_may_be_written_to() -> None:
    """Root without CAP_SYS_ADMIN may make cgroups, and set every limit but that of devices."""
    layout = plan.layout(
        resources({"memory": {"limit": 5}}), "/p", V1.replace(writable=("/cg/memory", "/cg/devices")), rootless=True
    )
    assert layout.make == ("/cg/memory/p", "/cg/devices/p")
    assert layout.write == (("/cg/memory/p/memory.limit_in_bytes", "5", "linux.resources.memory.limit"),)


def test_rootless_has_what_is_delegated() -> None:
    both = V1.replace(unified=V2.unified, controllers=V2.controllers)
    assert plan.layout(None, "x", both, rootless=True).make == ()
    with pytest.raises(NoPermission, match="no cgroup is delegated"):
        plan.layout(resources({"pids": {"limit": 5}}), "x", both, rootless=True)
    layout = plan.layout(resources({"pids": {"limit": 5}}), "x", both.replace(delegated=True), rootless=True)
    assert layout.make == ("/cg2/user/x",)
    assert ("/cg2/user/x/pids.max", "5", "linux.resources.pids.limit") in layout.write


def test_v1_devices_start_from_nothing() -> None:
    lines = [(file, value) for file, value, _ in plan.layout(None, "/a", V1).write if "/devices." in file]
    assert lines[0] == ("/cg/devices/a/devices.deny", "a")
    assert ("/cg/devices/a/devices.allow", "c 1:3 rwm") in lines
    assert ("/cg/devices/a/devices.allow", "c 136:* rwm") in lines
    assert plan.layout(None, "/a", V1.replace(unified=V2.unified)).device_program == b""


def test_v2_devices_are_a_program() -> None:
    value = {"devices": [{"allow": True, "type": "c", "major": 10, "minor": 200, "access": "rwm"}]}
    program = plan.layout(resources(value), "/a", V2).device_program
    assert program == devices.program(devices.rules(resources(value).devices))
    assert plan.layout(resources(value), "a", V2.replace(delegated=True), rootless=True).device_program == b""


def test_v2_switches_on_all_there_is() -> None:
    layout = plan.layout(None, "/a", V2)
    every = "+cpuset +cpu +io +memory +hugetlb +pids +rdma +misc"
    assert layout.write == (("/cg2/cgroup.subtree_control", every, "linux.cgroupsPath"),)
    needed = plan.layout(resources({"unified": {"misc.max": "a 1", "memory.high": "5"}}), "/a", V2)
    assert set(needed.write[0][1].split()) == set(every.split())
    beside = V1.replace(unified=V2.unified, controllers=("misc", "io"))  # whose hierarchy is the machine's to arrange
    assert not [file for file, _, _ in plan.layout(None, "/a", beside).write if file.endswith("subtree_control")]


LIMITS = st.one_of(st.none(), st.integers(-1, 1 << 62))
SPEC = st.fixed_dictionaries(
    {},
    optional={
        "memory": st.fixed_dictionaries({"limit": LIMITS, "swap": LIMITS, "reservation": LIMITS}),
        "cpu": st.fixed_dictionaries({"quota": LIMITS}, optional={"shares": st.integers(0, 1 << 63)}),
        "pids": st.fixed_dictionaries({"limit": LIMITS}),
    },
)


@given(SPEC, st.sampled_from([V1, V2, HYBRID, Mounts()]), st.sampled_from(["/a/b", "c", ""]))
def test_any_limits_give_a_layout_or_a_named_refusal(value: dict[str, Any], mounts: Mounts, path: str) -> None:
    try:
        layout = plan.layout(resources(value), path, mounts)
    except PyrktError as refused:
        if "linux.resources." not in refused.message:
            raise
        return
    made = set(layout.make)
    for file, text, cause in layout.write:
        assert text
        assert cause.startswith("linux.")
        assert file.rpartition("/")[0] in made or file.endswith("/cgroup.subtree_control")
    assert set(layout.enter) <= made
    assert set(layout.remove) <= made
