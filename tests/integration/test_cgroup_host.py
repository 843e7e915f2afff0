"""Limits in real cgroups: a planned layout is carried out, read back, used, and removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyrkt.base.errors import PyrktError
from pyrkt.base.reader import Reader
from pyrkt.cgroup import freeze, host, kill, plan, processes, remove, stats
from pyrkt.spec.runtime_resources import Resources
from tests.support import oci

if TYPE_CHECKING:
    from pyrkt.spec.layout import CgroupLayout

pytestmark = pytest.mark.root


def carry_out(layout: CgroupLayout) -> None:
    for directory in layout.make:
        Path(directory).mkdir(exist_ok=True)
    for file, value, _ in layout.write:
        descriptor = os.open(file, os.O_WRONLY)
        os.write(descriptor, value.encode())
        os.close(descriptor)


def enter(layout: CgroupLayout, pid: int) -> None:
    for directory in {*layout.enter, *((layout.clone_into,) if layout.clone_into else ())}:
        Path(directory, "cgroup.procs").write_text(str(pid))


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    name = f"/pyrkt-test-{uuid.uuid4().hex[:10]}"
    with oci.nothing_left(tmp_path, name):
        yield name


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def made(path: str, value: dict[str, Any]) -> CgroupLayout:
    resources = Resources.parse(Reader(value, "config.json", "linux.resources"))
    layout = plan.layout(resources, path, host.probe(path))
    carry_out(layout)
    return layout


def read_back(layout: CgroupLayout, *names: str) -> str:
    for directory in layout.remove:
        for name in names:
            if text := host.read_text(f"{directory}/{name}"):
                return text
    return ""


def test_limits_are_what_the_kernel_shows(path: str) -> None:
    value = {
        "memory": {"limit": 64 << 20, "reservation": 32 << 20},
        "cpu": {"quota": 50_000, "period": 100_000, "shares": 512},
        "pids": {"limit": 17},
    }
    layout = made(path, value)
    try:
        assert read_back(layout, "memory.limit_in_bytes", "memory.max") == str(64 << 20)
        assert read_back(layout, "memory.soft_limit_in_bytes", "memory.low") == str(32 << 20)
        assert read_back(layout, "pids.max") == "17"
        assert read_back(layout, "cpu.shares", "cpu.weight") in {"512", "59"}
        assert read_back(layout, "cpu.cfs_quota_us", "cpu.max") in {"50000", "50000 100000"}
    finally:
        remove.remove(layout.remove, layout.kill)


def test_v1_device_lines_are_what_the_kernel_lists(path: str) -> None:
    if host.probe().find("devices") is None:
        pytest.skip("no v1 devices controller on this host")
    rule = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}
    layout = made(path, {"devices": [{"allow": False, "access": "rwm"}, rule]})
    try:
        lines = read_back(layout, "devices.list").splitlines()
        assert "c 10:229 rw" in lines
        assert "c 1:3 rwm" in lines
        assert not [line for line in lines if line.startswith("a")]
    finally:
        remove.remove(layout.remove, layout.kill)


def test_a_process_is_counted_frozen_and_killed(path: str, sleeper: subprocess.Popen[bytes]) -> None:
    layout = made(path + "/inner", {"pids": {"limit": 5}})
    try:
        enter(layout, sleeper.pid)
        assert processes.pids(layout.remove) == [sleeper.pid]
        found = stats.read(layout)
        assert found["pids"] == {"current": 1, "limit": 5}
        assert found["memory"]["usage"]["limit"] > 0
        freeze.freeze(layout.remove)
        assert freeze.is_frozen(layout.remove)
        freeze.thaw(layout.remove)
        assert not freeze.is_frozen(layout.remove)
        freeze.freeze(layout.remove)
        kill.kill_all(layout.remove, layout.kill)  # frozen as they are
        assert sleeper.wait(5) == -signal.SIGKILL
    finally:
        remove.remove(layout.remove, layout.kill)
        remove.remove([directory.removesuffix("/inner") for directory in layout.remove])


def test_signals_reach_all_without_a_kill_file(path: str) -> None:
    layout = made(path, {})
    sleepers = [subprocess.Popen(["sleep", "60"]) for _ in range(3)]
    try:
        for process in sleepers:
            enter(layout, process.pid)
        assert kill.signal_all(layout.remove, signal.SIGTERM) == 3
        assert [process.wait(5) for process in sleepers] == [-signal.SIGTERM] * 3
    finally:
        for process in sleepers:
            process.kill()
            process.wait()
        remove.remove(layout.remove, layout.kill)


BOMB = """
import os, sys
sys.stdin.readline()
while True:
    try:
        os.fork()
    except OSError:  # a shell would give up here
        os.sched_yield()
"""


def test_a_fork_bomb_ends(path: str) -> None:
    layout = made(path, {"pids": {"limit": 40}})
    try:
        with subprocess.Popen([sys.executable, "-S", "-c", BOMB], stdin=subprocess.PIPE) as bomb:
            enter(layout, bomb.pid)
            assert bomb.stdin is not None
            bomb.stdin.write(b"\n")
            bomb.stdin.close()
            assert oci.eventually(lambda: len(processes.pids(layout.remove)) > 20)
            kill.kill_all(layout.remove)  # without cgroup.kill, the hard way
        assert processes.pids(layout.remove) == []
    finally:
        remove.remove(layout.remove, layout.kill)


def test_removal_takes_what_the_container_made_below(path: str, sleeper: subprocess.Popen[bytes]) -> None:
    layout = made(path, {})
    for directory in layout.remove:
        Path(directory, "a", "b").mkdir(parents=True)
    inner = Path(layout.enter[-1] if layout.enter else layout.clone_into, "a", "b", "cgroup.procs")
    inner.write_text(str(sleeper.pid))
    remove.remove(layout.remove, layout.kill)
    assert sleeper.wait(5) == -signal.SIGKILL
    remove.remove(layout.remove, layout.kill)  # what is gone is fine


def test_a_host_without_the_controller_says_so(path: str) -> None:
    mounts = host.probe(path)
    lacking = [name for name in ("hugetlb", "rdma") if mounts.find(name) is None and name not in mounts.controllers]
    if not lacking:
        pytest.skip("this host has every controller")
    value: dict[str, dict[str, Any]] = {
        "hugetlb": {"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]},
        "rdma": {"rdma": {"m": {"hcaObjects": 1}}},
    }
    with pytest.raises(PyrktError, match=f"cgroup controller {lacking[0]}"):
        made(path, value[lacking[0]])
