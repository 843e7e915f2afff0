"""update: every limit of cgroup v1 while the container runs, by flags and by files, all or nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import oci
from tests.support.limits import TOP, detached, place, read, stored

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.bundle import Bundle
    from tests.support.oci import Answer, Runtime

pytestmark = pytest.mark.root

MB = 1 << 20
NO_LIMIT = "9223372036854771712"
FIRST = {
    "memory": {"limit": 32 * MB, "reservation": 24 * MB},
    "cpu": {"shares": 100, "quota": 500_000, "period": 1_000_000},
    "pids": {"limit": 20},
}


@pytest.fixture
def name(runtime: Runtime, box: Bundle) -> str:
    """Return a running container with limits."""
    box.config["linux"]["resources"].update(FIRST)
    return detached(runtime, box)


def update(runtime: Runtime, name: str, *words: str) -> None:
    answer = runtime.call("update", name, *words)
    assert (answer.code, answer.out, answer.err) == (0, "", "")


def update_json(runtime: Runtime, name: str, value: dict[str, Any]) -> Answer:
    with oci_input(runtime, value) as stdin:
        return runtime.call("update", "--resources", "-", name, stdin=stdin)


def oci_input(runtime: Runtime, value: dict[str, Any]) -> Any:
    path = runtime.root.parent / "resources.json"
    path.write_text(json.dumps(value))
    return path.open()


def cpu(box: Bundle) -> tuple[int, int, int, int]:
    """Return quota, period, burst, shares."""
    files = ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us", "cpu.shares")
    quota, period, burst, shares = (int(read(box, "cpu", file)) for file in files)
    return quota, period, burst, shares


def memory(box: Bundle) -> tuple[str, str, str]:
    """Return limit, memory+swap limit, reservation."""
    limit, swap, soft = (read(box, "memory", f"memory.{f}_in_bytes") for f in ("limit", "memsw.limit", "soft_limit"))
    return limit, swap, soft


def test_memory(runtime: Runtime, box: Bundle, name: str) -> None:
    assert memory(box) == (str(32 * MB), NO_LIMIT, str(24 * MB))
    update(runtime, name, "--memory", "50M")
    assert memory(box)[0] == str(50 * MB)
    update(runtime, name, "--memory-reservation", "33554432")
    assert memory(box)[2] == "33554432"
    update(runtime, name, "--memory-swap", "96468992")
    assert memory(box)[:2] == (str(50 * MB), "96468992")
    update(runtime, name, "--memory", "30M", "--memory-swap", "50M")  # both down
    assert memory(box)[:2] == (str(30 * MB), str(50 * MB))
    update(runtime, name, "--memory", "60M", "--memory-swap", "80M")  # both up, memory above the old sum
    assert memory(box)[:2] == (str(60 * MB), str(80 * MB))
    update(runtime, name, "--memory-swap", "-1")
    assert memory(box)[:2] == (str(60 * MB), NO_LIMIT)
    update(runtime, name, "--memory-swap", "80M")
    update(runtime, name, "--memory", "-1")  # which is no limit on the sum either
    assert memory(box)[:2] == (NO_LIMIT, NO_LIMIT)
    assert stored(runtime, name)["memory"] == {"limit": -1, "reservation": 33554432}


def test_memory_and_swap_must_fit(runtime: Runtime, box: Bundle, name: str) -> None:
    update(runtime, name, "--memory-swap", "64M")
    answer = runtime.call("update", name, "--memory", "100M")
    assert answer.code == 1
    assert "memory+swap limit should be >= memory limit" in answer.err
    assert memory(box)[:2] == (str(32 * MB), str(64 * MB))


def test_cpu(runtime: Runtime, box: Bundle, name: str) -> None:
    assert cpu(box) == (500_000, 1_000_000, 0, 100)
    update(runtime, name, "--cpu-period", "900000")
    assert cpu(box)[:2] == (500_000, 900_000)
    update(runtime, name, "--cpu-quota", "600000", "--cpu-burst", "5000")
    assert cpu(box)[:3] == (600_000, 900_000, 5000)
    update(runtime, name, "--memory", "40M")  # something else
    assert cpu(box)[:3] == (600_000, 900_000, 5000)
    update(runtime, name, "--cpu-burst", "0", "--cpu-share", "200")
    assert cpu(box) == (600_000, 900_000, 0, 200)
    update(runtime, name, "--cpu-quota", "-1")
    assert cpu(box)[:2] == (-1, 900_000)
    for idle in ("1", "0", "1"):
        update(runtime, name, "--cpu-idle", idle)
        assert read(box, "cpu", "cpu.idle") == idle
    for idle in ("-1", "2"):
        assert runtime.call("update", name, "--cpu-idle", idle).code == 1
        assert read(box, "cpu", "cpu.idle") == "1"
    update(runtime, name, "--cpu-idle", "0", "--cpu-share", "300")  # an idle group takes no shares
    assert cpu(box)[3] == 300


@pytest.fixture
def pod(runtime: Runtime, box: Bundle) -> Iterator[Path]:
    """Return the cpu cgroup above the container's, which allows half a processor."""
    parent = TOP / "cpu" / runtime.new_id()
    parent.mkdir()
    (parent / "cpu.cfs_quota_us").write_text("50000")
    box.config["linux"]["cgroupsPath"] = f"/{parent.name}/inner"
    yield parent
    runtime.clean()
    for hierarchy in TOP.iterdir():
        if (hierarchy / parent.name).exists():
            (hierarchy / parent.name).rmdir()


@pytest.mark.usefixtures("pod")
def test_a_shorter_period_with_a_smaller_quota(runtime: Runtime, box: Bundle) -> None:
    """The new period with the old quota is more than the parent's half."""
    box.config["linux"]["resources"]["cpu"] = {"quota": 40_000}
    name = detached(runtime, box)
    answer = runtime.call("update", name, "--cpu-quota", "60000")
    assert answer.code == 1
    assert 'failed to write "60000"' in answer.err.replace('\\"', '"')
    assert "cpu.cfs_quota_us: invalid argument" in answer.err
    update(runtime, name, "--cpu-period", "10000", "--cpu-quota", "3000")
    assert cpu(box)[:2] == (3000, 10_000)


def test_cpuset_and_pids(runtime: Runtime, box: Bundle, name: str) -> None:
    update(runtime, name, "--cpuset-cpus", "0", "--cpuset-mems", "0", "--pids-limit", "10")
    assert read(box, "cpuset", "cpuset.cpus") == "0"
    assert read(box, "pids", "pids.max") == "10"
    update(runtime, name, "--pids-limit", "-1")
    assert read(box, "pids", "pids.max") == "max"
    update(runtime, name, "--pids-limit", "0")
    assert read(box, "pids", "pids.max") == "1"


def test_all_or_nothing(runtime: Runtime, box: Bundle, name: str) -> None:
    before = memory(box), cpu(box), stored(runtime, name)
    answer = runtime.call(
        "update", name, "--cpuset-mems", "63", "--memory", "64M", "--cpu-share", "999", "--pids-limit", "7"
    )
    assert answer.code == 1
    assert "cpuset.mems" in answer.err
    assert "nothing was changed" in answer.err
    answer = runtime.call("update", name, "--memory", "64M", "--cpu-share", "999", "--cpu-idle", "7")
    assert answer.code == 1
    assert "cpu.idle" in answer.err
    assert (memory(box), cpu(box), stored(runtime, name)) == before
    assert read(box, "pids", "pids.max") == "20"


def test_resources_as_engines_send_them(runtime: Runtime, box: Bundle, name: str) -> None:
    """Zeros and nulls leave things as they are."""
    value = {
        "devices": None,
        "memory": {"limit": 48 * MB, "reservation": 0, "swap": 0, "kernel": 0},
        "cpu": {"shares": 512, "quota": 0, "period": 0, "cpus": "", "mems": ""},
        "pids": None,
        "blockIO": {"weight": 0},
    }
    assert update_json(runtime, name, value).code == 0
    assert memory(box) == (str(48 * MB), NO_LIMIT, str(24 * MB))
    assert cpu(box) == (500_000, 1_000_000, 0, 512)
    assert read(box, "pids", "pids.max") == "20"
    path = runtime.root.parent / "again.json"
    path.write_text(json.dumps(FIRST))
    update(runtime, name, f"--resources={path}", "--memory", "1G")  # the flag is ignored
    assert memory(box)[0] == str(32 * MB)
    assert cpu(box)[3] == 100


def test_block_devices(runtime: Runtime, box: Bundle, name: str) -> None:
    major, minor = (TOP.parent.parent / "block" / block_device() / "dev").read_text().strip().split(":")
    device = {"major": int(major), "minor": int(minor)}
    kinds = {"Read": ("Bps", "IOPS"), "Write": ("Bps", "IOPS")}
    value = {f"throttle{op}{kind}Device": [device | {"rate": 1000}] for op, all_ in kinds.items() for kind in all_}
    assert update_json(runtime, name, {"blockIO": value}).code == 0
    for kind in ("read_bps", "write_bps", "read_iops", "write_iops"):
        assert read(box, "blkio", f"blkio.throttle.{kind}_device") == f"{major}:{minor} 1000"
    again = {"throttleReadBpsDevice": [device | {"rate": 2000}]}
    assert update_json(runtime, name, {"blockIO": again}).code == 0
    assert read(box, "blkio", "blkio.throttle.read_bps_device") == f"{major}:{minor} 2000"
    assert stored(runtime, name)["blockIO"]["throttleReadBpsDevice"] == [device | {"rate": 2000}]
    assert update_json(runtime, name, {"blockIO": {"throttleReadBpsDevice": [device | {"rate": 0}]}}).code == 0
    assert read(box, "blkio", "blkio.throttle.read_bps_device") == ""


def block_device() -> str:
    return min(path.name for path in (TOP.parent.parent / "block").iterdir())


def test_device_rules_stay(runtime: Runtime, box: Bundle, name: str) -> None:
    before = read(box, "devices", "devices.list")
    assert before
    rules = [{"allow": True, "access": "rwm"}]
    assert update_json(runtime, name, {"devices": rules, "pids": {"limit": 9}}).code == 0
    assert read(box, "devices", "devices.list") == before
    assert stored(runtime, name)["devices"] == box.config["linux"]["resources"]["devices"]


def test_a_paused_container_stays_paused(runtime: Runtime, box: Bundle, name: str) -> None:
    assert runtime.call("pause", name).code == 0
    update(runtime, name, "--pids-limit", "30")
    assert runtime.state(name)["status"] == "paused"
    assert read(box, "pids", "pids.max") == "30"
    assert runtime.call("resume", name).code == 0


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"memory": {"limit": 1024, "checkBeforeUpdate": True}}, "rejecting memory limit 1024 <= usage"),
        (
            {"memory": {"limit": 1024, "swap": 2048, "checkBeforeUpdate": True}},
            "rejecting memory+swap limit 2048 <= usage",
        ),
        ({"unified": {"memory.min": "131072"}}, "invalid configuration: cannot use unified"),
        ({"rdma": {"mlx": {"hcaHandles": 1}}}, "cannot set rdma limit"),
        ({"cpu": {"shares": 1}}, "the minimum allowed cpu-shares is 2"),
        ({"memory": "much"}, "standard input: memory: expected an object"),
    ],
)
def test_refusals(runtime: Runtime, box: Bundle, name: str, value: dict[str, Any], problem: str) -> None:
    answer = update_json(runtime, name, value)
    assert answer.code == 1
    assert problem in answer.err.replace('\\"', '"')
    assert memory(box)[0] == str(32 * MB)
    assert runtime.state(name)["status"] == "running"


def test_rdt_needs_a_processor_that_has_it(runtime: Runtime, name: str) -> None:
    if (TOP.parent / "resctrl/info/L3").exists():
        pytest.skip("this processor has RDT")
    answer = runtime.call("update", name, "--l3-cache-schema", "L3:0=f")
    assert answer.code == 1
    assert "Intel RDT/CAT: l3 cache schema is not enabled" in answer.err
    assert "Intel RDT/MBA" in runtime.call("update", name, "--mem-bw-schema", "MB:0=20").err


def test_kernel_memory_is_ignored(runtime: Runtime, name: str) -> None:
    answer = runtime.call("update", name, "--kernel-memory", "50M", "--kernel-memory-tcp", "50M")
    assert answer.code == 0
    assert "Kernel memory settings are ignored" in answer.err


def test_no_such_container_and_one_that_has_stopped(runtime: Runtime, box: Bundle) -> None:
    answer = runtime.call("update", "none", "--pids-limit", "5")
    assert (answer.code, "container does not exist" in answer.err) == (1, True)
    box.runs("true")
    name = detached(runtime, box)
    assert oci.eventually(lambda: runtime.state(name)["status"] == "stopped")
    answer = runtime.call("update", name, "--pids-limit", "5")
    assert (answer.code, "container not running" in answer.err) == (1, True)


def test_a_created_container_too(runtime: Runtime, box: Bundle) -> None:
    name = runtime.new_id()
    box.config["linux"]["cgroupsPath"] = f"/{name}"
    box.save()
    assert runtime.detached("create", "--bundle", str(box.path), name).code == 0
    update(runtime, name, "--pids-limit", "6")
    assert read(box, "pids", "pids.max") == "6"
    assert place(box, "pids").is_dir()
