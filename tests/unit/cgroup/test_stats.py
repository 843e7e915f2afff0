"""Numbers of a cgroup, from files as the two versions write them, in the words of runc's ``events --stats``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pyrkt.cgroup import stats
from pyrkt.spec.layout import CgroupLayout

if TYPE_CHECKING:
    from pathlib import Path

TICK = 10**9 // os.sysconf("SC_CLK_TCK")
V1 = {
    "cpuacct.usage": "1200\n",
    "cpuacct.usage_percpu": "1000 200 \n",
    "cpuacct.usage_all": "cpu user system\n0 900 100\n1 150 50\n",
    "cpuacct.stat": "user 3\nsystem 2\nsched_delay 7\n",
    "cpu.stat": "nr_periods 5\nnr_throttled 2\nthrottled_time 77\n",
    "cpuset.cpus": "0-2,5\n",
    "cpuset.mems": "0\n",
    "cpuset.sched_load_balance": "1\n",
    "cpuset.sched_relax_domain_level": "-1\n",
    "memory.usage_in_bytes": "4096\n",
    "memory.max_usage_in_bytes": "8192\n",
    "memory.limit_in_bytes": "9223372036854771712\n",
    "memory.failcnt": "3\n",
    "memory.memsw.usage_in_bytes": "4097\n",
    "memory.memsw.limit_in_bytes": "5000\n",
    "memory.stat": "rss 9\ncache 7\n",
    "pids.current": "2\n",
    "pids.max": "max\n",
    "blkio.throttle.io_service_bytes_recursive": "8:0 Read 10\n8:0 Write 0\n8:16 Read 5\nTotal 15\n",
    "blkio.bfq.io_service_bytes_recursive": "Total 0\n",
}
V2 = {
    "cpu.stat": "usage_usec 9\nuser_usec 5\nsystem_usec 4\nnr_periods 1\nnr_throttled 0\nthrottled_usec 3\n",
    "cpu.pressure": "some avg10=1.50 avg60=0.00 avg300=2.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
    "memory.current": "4096\n",
    "memory.max": "65536\n",
    "memory.swap.current": "10\n",
    "memory.swap.max": "20\n",
    "memory.stat": "anon 1\nfile 5\n",
    "pids.current": "2\n",
    "pids.max": "7\n",
    "io.stat": "8:0 rbytes=10 wbytes=4 rios=1 wios=0 dbytes=0 dios=0\n(unknown) rbytes=1\n",
}
NO_FLAGS = dict.fromkeys(
    (
        *("cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page"),
        *("memory_spread_slab", "memory_pressure", "sched_load_balance", "sched_relax_domain_level"),
    ),
    0,
)
ZERO = {"limit": 0, "failcnt": 0}


@pytest.fixture(autouse=True)
def _no_huge_pages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "hugepages/hugepages-2048kB").mkdir(parents=True)
    monkeypatch.setattr(stats, "_HUGEPAGES", str(tmp_path / "hugepages"))


def fill(directory: Path, files: dict[str, str]) -> str:
    directory.mkdir(exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text)
    return str(directory)


def v1(directory: Path, files: dict[str, str]) -> CgroupLayout:
    paths = {}
    for name, text in files.items():
        controller = name.partition(".")[0]
        paths[controller] = fill(directory / controller, {name: text})
    return CgroupLayout(paths=tuple(paths.items()))


def test_v1_over_several_hierarchies(tmp_path: Path) -> None:
    assert stats.read(v1(tmp_path, V1)) == {
        "cpu": {
            "usage": {
                "total": 1200,
                "percpu": [1000, 200],
                "percpu_kernel": [100, 50],
                "percpu_user": [900, 150],
                "kernel": 2 * TICK,
                "user": 3 * TICK,
            },
            "throttling": {"periods": 5, "throttledPeriods": 2, "throttledTime": 77},
        },
        "cpuset": NO_FLAGS
        | {"cpus": [0, 1, 2, 5], "mems": [0], "sched_load_balance": 1, "sched_relax_domain_level": -1},
        "memory": {
            "cache": 7,
            "usage": {"limit": 9223372036854771712, "usage": 4096, "max": 8192, "failcnt": 3},
            "swap": {"limit": 5000, "usage": 4097, "failcnt": 0},
            "kernel": ZERO,
            "kernelTCP": ZERO,
            "raw": {"cache": 7, "rss": 9},
        },
        "pids": {"current": 2},
        "blkio": {
            "ioServiceBytesRecursive": [
                {"major": 8, "op": "Read", "value": 10},
                {"major": 8, "op": "Write"},
                {"major": 8, "minor": 16, "op": "Read", "value": 5},
            ]
        },
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": None,
    }


def test_v2(tmp_path: Path) -> None:
    layout = CgroupLayout(paths=(("", fill(tmp_path / "c", V2)),))
    assert stats.read(layout) == {
        "cpu": {
            "usage": {"total": 9000, "kernel": 4000, "user": 5000},
            "throttling": {"periods": 1, "throttledTime": 3000},
            "psi": {
                "some": {"avg10": 1.5, "avg60": 0, "avg300": 2, "total": 77},
                "full": {"avg10": 0, "avg60": 0, "avg300": 0, "total": 1},
            },
        },
        "cpuset": NO_FLAGS,
        "memory": {
            "cache": 5,
            "usage": {"limit": 65536, "usage": 4096, "failcnt": 0},
            "swap": {"limit": 65556, "usage": 4106, "failcnt": 0},
            "kernel": ZERO,
            "kernelTCP": ZERO,
            "raw": {"anon": 1, "file": 5},
        },
        "pids": {"current": 2, "limit": 7},
        "blkio": {
            "ioServiceBytesRecursive": [
                {"major": 8, "op": "Read", "value": 10},
                {"major": 8, "op": "Write", "value": 4},
            ],
            "ioServicedRecursive": [{"major": 8, "op": "Read", "value": 1}, {"major": 8, "op": "Write"}],
        },
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": None,
    }


def test_a_hybrid_host_reads_each_where_it_is(tmp_path: Path) -> None:
    layout = v1(tmp_path, {name: text for name, text in V1.items() if name.startswith(("memory", "pids"))})
    unified = fill(
        tmp_path / "unified",
        V2 | {"hugetlb.2MB.rsvd.current": "2097152\n", "hugetlb.2MB.events": "max 4\n"},
    )
    found = stats.read(layout.replace(paths=(*layout.paths, ("", unified))))
    assert found["memory"]["usage"]["usage"] == 4096
    assert found["memory"]["swap"]["limit"] == 5000
    assert found["cpu"]["usage"]["total"] == 9000
    assert found["cpu"]["psi"]["some"]["total"] == 77
    assert found["hugetlb"] == {"2MB": {"usage": 2097152, "failcnt": 4}}


def test_hugetlb_of_v1(tmp_path: Path) -> None:
    names = {"usage_in_bytes": 5, "max_usage_in_bytes": 6, "failcnt": 7}
    directory = fill(tmp_path / "h", {f"hugetlb.2MB.{name}": f"{value}\n" for name, value in names.items()})
    found = stats.read(CgroupLayout(paths=(("hugetlb", directory),)))
    assert found["hugetlb"] == {"2MB": {"usage": 5, "max": 6, "failcnt": 7}}


def test_no_limit_is_the_largest_number(tmp_path: Path) -> None:
    layout = CgroupLayout(paths=(("", fill(tmp_path / "c", V2 | {"memory.swap.max": "max\n", "pids.max": "max\n"})),))
    found = stats.read(layout)
    assert found["memory"]["swap"]["limit"] == stats.UNLIMITED == 2**64 - 1
    assert found["pids"] == {"current": 2}


def test_processes_are_counted_without_a_controller(tmp_path: Path) -> None:
    layout = CgroupLayout(paths=(("", fill(tmp_path / "c", {"cgroup.procs": "5\n6\n"})),))
    assert stats.read(layout)["pids"] == {"current": 2}


def test_a_cgroup_that_is_gone_has_used_nothing(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    found = stats.read(CgroupLayout(paths=tuple((name, gone) for name in ("cpuacct", "memory", "blkio", ""))))
    assert found["memory"]["usage"] == ZERO
    assert found["pids"] == {}
    assert found["blkio"] == {}


@pytest.mark.parametrize(("text", "expected"), [("5", 5), ("max", 2**64 - 1), ("-1", 0), ("", 0), ("x", 0)])
def test_number(text: str, expected: int) -> None:
    assert stats.number(text) == expected
