"""Every limit of cgroup v2: at create, by update, unified, for devices; and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import limits, oci

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Answer, Runtime

MB = 1 << 20


def read(box: Bundle, *files: str) -> list[str]:
    return [limits.read(box, "", file) for file in files]


def update(runtime: Runtime, name: str, *words: str) -> None:
    answer = runtime.call("update", name, *words)
    assert (answer.code, answer.out, answer.err) == (0, "", "")


def update_json(runtime: Runtime, name: str, value: dict[str, Any]) -> Answer:
    path = runtime.root.parent / "resources.json"
    path.write_text(json.dumps(value))
    return runtime.call("update", f"--resources={path}", name)


def running(runtime: Runtime, box: Bundle, **resources: Any) -> str:
    box.config["linux"]["resources"] |= resources
    return limits.detached(runtime, box)


def test_memory(runtime: Runtime, box: Bundle) -> None:
    name = running(runtime, box, memory={"limit": 32 * MB, "reservation": 24 * MB})
    assert read(box, "memory.max", "memory.low") == [str(32 * MB), str(24 * MB)]
    update(runtime, name, "--memory", "50M", "--memory-swap", "96468992")
    assert read(box, "memory.max", "memory.swap.max") == [str(50 * MB), str(96468992 - 50 * MB)]
    update(runtime, name, "--memory", "30M", "--memory-swap", "50M")
    assert read(box, "memory.max", "memory.swap.max") == [str(30 * MB), str(20 * MB)]
    update(runtime, name, "--memory", "40M")  # the sum stays, so less of it is swap
    assert read(box, "memory.max", "memory.swap.max") == [str(40 * MB), str(10 * MB)]
    update(runtime, name, "--memory-swap", "-1")
    assert read(box, "memory.max", "memory.swap.max") == [str(40 * MB), "max"]
    update(runtime, name, "--memory", "-1")
    assert read(box, "memory.max", "memory.swap.max") == ["max", "max"]


def test_cpu(runtime: Runtime, box: Bundle) -> None:
    name = running(runtime, box, cpu={"shares": 100, "quota": 500_000, "period": 1_000_000})
    assert read(box, "cpu.max", "cpu.weight") == ["500000 1000000", "17"]
    update(runtime, name, "--cpu-period", "900000")
    assert read(box, "cpu.max") == ["500000 900000"]
    update(runtime, name, "--cpu-quota", "600000", "--cpu-burst", "500000")
    assert read(box, "cpu.max", "cpu.max.burst") == ["600000 900000", "500000"]
    update(runtime, name, "--memory", "100M")
    assert read(box, "cpu.max", "cpu.max.burst") == ["600000 900000", "500000"]
    update(runtime, name, "--cpu-quota", "-1", "--cpu-burst", "0", "--cpu-share", "1024")
    assert read(box, "cpu.max", "cpu.max.burst", "cpu.weight") == ["max 900000", "0", "100"]
    for idle in ("1", "0", "1"):
        update(runtime, name, "--cpu-idle", idle)
        assert read(box, "cpu.idle") == [idle]
    assert runtime.call("update", name, "--cpu-idle", "2").code == 1
    update(runtime, name, "--cpu-idle", "0", "--cpu-share", "2048")
    assert read(box, "cpu.idle", "cpu.weight") == ["0", "174"]


def test_pids_cpuset_io(runtime: Runtime, box: Bundle) -> None:
    device = {"major": 254, "minor": 0}  # the guest's first disk, or any other
    device |= dict(zip(device, map(int, _disk().split(":")), strict=True))
    name = running(
        runtime,
        box,
        pids={"limit": 0},
        cpu={"cpus": "0", "mems": "0"},
        blockIO={"throttleReadBpsDevice": [device | {"rate": 485760}]},
    )
    assert read(box, "pids.max", "cpuset.cpus", "cpuset.mems") == ["1", "0", "0"]
    assert "rbps=485760" in read(box, "io.max")[0]
    update(runtime, name, "--pids-limit", "-1", "--cpuset-cpus", "1")
    assert read(box, "pids.max", "cpuset.cpus") == ["max", "1"]
    value = {
        "throttleReadBpsDevice": [device | {"rate": 1000}],
        "throttleWriteBpsDevice": [device | {"rate": 2000}],
        "throttleReadIOPSDevice": [device | {"rate": 30}],
        "throttleWriteIOPSDevice": [device | {"rate": 40}],
    }
    assert update_json(runtime, name, {"blockIO": value}).code == 0
    assert read(box, "io.max") == [f"{_disk()} rbps=1000 wbps=2000 riops=30 wiops=40"]


def _disk() -> str:
    with open("/sys/block/vda/dev") as file:
        return file.read().strip()


def test_huge_pages(runtime: Runtime, box: Bundle) -> None:
    running(runtime, box, hugepageLimits=[{"pageSize": "2MB", "limit": 4 * MB}])
    assert read(box, "hugetlb.2MB.max", "hugetlb.2MB.rsvd.max") == [str(4 * MB)] * 2


def test_unified_has_the_last_word(runtime: Runtime, box: Bundle) -> None:
    name = running(
        runtime,
        box,
        memory={"limit": 32 * MB},
        cpu={"shares": 3333, "quota": 40_000, "period": 100_000},
        unified={
            "memory.min": "131072",
            "memory.max": "41943040",
            "pids.max": "42",
            "cpu.max": "5000 50000",
            "cpu.weight": "42",
        },
    )
    files = ("memory.min", "memory.max", "pids.max", "cpu.max", "cpu.weight")
    assert read(box, *files) == ["131072", "41943040", "42", "5000 50000", "42"]
    unified = {"cpu.max": "max 100000", "cpu.weight": "16", "pids.max": "10"}
    assert update_json(runtime, name, {"unified": unified}).code == 0
    assert read(box, "cpu.max", "cpu.weight", "pids.max", "memory.max") == ["max 100000", "16", "10", "41943040"]


@pytest.mark.parametrize(
    ("resources", "problem"),
    [
        ({"unified": {"nonesuch.max": "1"}}, 'controller "nonesuch" not available'),
        ({"network": {"classID": 5}}, "cannot set net_cls limit"),
        ({"memory": {"swap": 5 * MB}}, "unable to set swap limit without memory limit"),
        ({"memory": {"limit": 5 * MB, "swap": MB}}, "memory+swap limit should be >= memory limit"),
    ],
)
def test_refusals(runtime: Runtime, box: Bundle, resources: dict[str, Any], problem: str) -> None:
    box.config["linux"]["resources"] |= resources
    answer = limits.tried(runtime, box, runtime.new_id())
    assert answer.code == 1
    assert problem in answer.err.replace('\\"', '"')


def test_nothing_is_changed_if_one_is_refused(runtime: Runtime, box: Bundle) -> None:
    name = running(runtime, box, memory={"limit": 32 * MB}, pids={"limit": 20})
    answer = runtime.call("update", name, "--pids-limit", "5", "--memory", "64M", "--cpu-period", "7")
    assert answer.code == 1
    assert "cpu.max" in answer.err
    assert "nothing was changed" in answer.err
    assert read(box, "memory.max", "pids.max", "cpu.max") == [str(32 * MB), "20", "max 100000"]


def test_memory_in_use_is_checked(runtime: Runtime, box: Bundle) -> None:
    name = running(runtime, box, memory={"limit": 32 * MB})
    for limit, problem in (
        ({"limit": 1024}, "rejecting memory limit 1024"),
        ({"limit": 1024, "swap": 2048}, "rejecting memory+swap limit 2048"),
    ):
        answer = update_json(runtime, name, {"memory": limit | {"checkBeforeUpdate": True}})
        assert answer.code == 1
        assert problem in answer.err
    assert runtime.state(name)["status"] == "running"
    runtime.call("update", name, "--memory", "1024")  # the kernel kills it, and the write may still succeed
    assert oci.eventually(lambda: runtime.state(name)["status"] == "stopped", 20)


def test_device_rules_stay_through_an_update(runtime: Runtime, box: Bundle) -> None:
    """The container reads from /dev/null all the while, and never from what is refused."""
    name = running(runtime, box)
    for _ in range(5):
        update(runtime, name, "--pids-limit", "30")
        answer = runtime.call("exec", name, "sh", "-c", "echo x > /dev/null && echo written")
        assert answer.out == "written\n", answer.err
