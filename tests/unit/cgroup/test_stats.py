"""Numbers of a cgroup, from files as the two versions write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyrkt.cgroup import stats

V1 = {
    "cpuacct.usage": "1200\n",
    "cpuacct.usage_user": "1000\n",
    "cpuacct.usage_sys": "200\n",
    "cpu.stat": "nr_periods 5\nnr_throttled 2\nthrottled_time 77\n",
    "memory.usage_in_bytes": "4096\n",
    "memory.max_usage_in_bytes": "8192\n",
    "memory.limit_in_bytes": "9223372036854771712\n",
    "memory.failcnt": "3\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
    "pids.current": "2\n",
    "pids.max": "max\n",
    "blkio.throttle.io_service_bytes_recursive": "8:0 Read 10\n8:0 Write 4\n8:16 Read 5\n8:0 Total 14\nTotal 19\n",
}
V2 = {
    "cpu.stat": "usage_usec 9\nuser_usec 5\nsystem_usec 4\nnr_periods 1\nnr_throttled 0\nthrottled_usec 3\n",
    "memory.current": "4096\n",
    "memory.max": "65536\n",
    "memory.events": "low 0\nhigh 0\nmax 6\noom 1\noom_kill 1\n",
    "pids.current": "2\n",
    "pids.max": "7\n",
    "io.stat": "8:0 rbytes=10 wbytes=4 rios=1\n8:16 rbytes=5 wbytes=0 rios=1\n",
}


def fill(directory: Path, files: dict[str, str]) -> str:
    directory.mkdir()
    for name, text in files.items():
        (directory / name).write_text(text)
    return str(directory)


def test_v1_over_several_hierarchies(tmp_path: Path) -> None:
    groups: dict[str, dict[str, str]] = {}
    for name, text in V1.items():
        groups.setdefault(name.partition(".")[0], {})[name] = text
    found = stats.read(fill(tmp_path / name, files) for name, files in groups.items())
    assert found == {
        "cpu": {
            "usage_ns": 1200,
            "user_ns": 1000,
            "system_ns": 200,
            "periods": 5,
            "throttled_periods": 2,
            "throttled_ns": 77,
        },
        "memory": {"usage": 4096, "peak": 8192, "limit": None, "failures": 3, "oom_kills": 1},
        "pids": {"current": 2, "limit": None},
        "io": {"read_bytes": 15, "written_bytes": 4},
    }


def test_v2(tmp_path: Path) -> None:
    assert stats.read([fill(tmp_path / "c", V2)]) == {
        "cpu": {
            "usage_ns": 9000,
            "user_ns": 5000,
            "system_ns": 4000,
            "periods": 1,
            "throttled_periods": 0,
            "throttled_ns": 3000,
        },
        "memory": {"usage": 4096, "peak": None, "limit": 65536, "failures": 6, "oom_kills": 1},
        "pids": {"current": 2, "limit": 7},
        "io": {"read_bytes": 15, "written_bytes": 4},
    }


def test_a_missing_cgroup_has_no_numbers(tmp_path: Path) -> None:
    assert stats.read([str(tmp_path / "gone")]) == {}


@pytest.mark.parametrize(("text", "value"), [("5", 5), ("max", None), ("", None), ("-1", None), ("٣", None)])
def test_number(text: str, value: int | None) -> None:
    assert stats.number(text) == value
