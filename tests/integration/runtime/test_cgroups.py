"""linux.resources and linux.cgroupsPath at create: every controller of cgroup v1 here, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support import oci
from tests.support.limits import TOP, detached, place, read, tried, unified

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root

MB = 1 << 20


def test_every_limit_is_where_its_controller_is(runtime: Runtime, box: Bundle) -> None:
    box.config["linux"]["resources"] |= {
        "memory": {"limit": 32 * MB, "swap": 48 * MB, "reservation": 24 * MB, "swappiness": 7, "kernel": MB},
        "cpu": {"shares": 100, "quota": 50_000, "period": 200_000, "burst": 1000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 20},
    }
    detached(runtime, box)
    expected = {
        "memory.limit_in_bytes": str(32 * MB),
        "memory.memsw.limit_in_bytes": str(48 * MB),
        "memory.soft_limit_in_bytes": str(24 * MB),
        "memory.swappiness": "7",
        "cpu.shares": "100",
        "cpu.cfs_quota_us": "50000",
        "cpu.cfs_period_us": "200000",
        "cpu.cfs_burst_us": "1000",
        "cpuset.cpus": "0",
        "cpuset.mems": "0",
        "pids.max": "20",
    }
    assert {file: read(box, file.partition(".")[0], file) for file in expected} == expected


@pytest.mark.parametrize(("limit", "written"), [(0, "1"), (-1, "max"), (7, "7")])
def test_pids(runtime: Runtime, box: Bundle, limit: int, written: str) -> None:
    box.config["linux"]["resources"]["pids"] = {"limit": limit}
    detached(runtime, box)
    assert read(box, "pids", "pids.max") == written


def test_an_idle_container(runtime: Runtime, box: Bundle) -> None:
    box.config["linux"]["resources"]["cpu"] = {"idle": 1, "shares": 512}
    detached(runtime, box)
    assert read(box, "cpu", "cpu.idle") == "1"


def test_huge_pages_where_the_hybrid_host_has_them(runtime: Runtime, box: Bundle) -> None:
    if "hugetlb" not in (unified() / "cgroup.controllers").read_text():
        pytest.skip("version 2 has no hugetlb here")
    box.config["linux"]["resources"] |= {
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MB}],
        "unified": {"hugetlb.1GB.max": "0"},
    }
    detached(runtime, box)
    own = unified() / box.config["linux"]["cgroupsPath"].lstrip("/")
    found = [(own / f"hugetlb.{file}").read_text().strip() for file in ("2MB.max", "2MB.rsvd.max", "1GB.max")]
    assert found == [str(4 * MB), str(4 * MB), "0"]


@pytest.mark.parametrize(
    ("resources", "problem"),
    [
        ({"rdma": {"mlx": {"hcaHandles": 1}}}, "cannot set rdma limit: container could not join or create cgroup"),
        ({"network": {"classID": 5}}, "cannot set net_cls limit"),
        ({"unified": {"memory.min": "131072"}}, "invalid configuration: cannot use unified resources on cgroup v1"),
        ({"cpu": {"period": 100}}, "cpu.cfs_period_us"),
        ({"cpu": {"cpus": "999"}}, "cpuset.cpus"),
        ({"memory": {"limit": 5 * MB, "swap": 4 * MB}}, "memory+swap limit should be >= memory limit"),
    ],
)
@pytest.mark.parametrize("verb", ["run", "create"])
def test_what_cannot_be(runtime: Runtime, box: Bundle, verb: str, resources: dict[str, Any], problem: str) -> None:
    box.config["linux"]["resources"] |= resources
    answer = runtime.call(verb, "--bundle", str(box.save().path), runtime.new_id())
    assert answer.code == 1
    assert problem in answer.err
    assert len(answer.err.splitlines()) == 1


def clear(name: str) -> None:
    """Remove the cgroups that only a test has made."""
    for directory in sorted(oci.cgroups(name), key=len, reverse=True):
        (TOP / directory).rmdir()


@pytest.fixture
def parent(runtime: Runtime) -> Iterator[str]:
    """Return the name of a cgroup for others below it, which is removed at the end."""
    name = runtime.new_id()
    yield name
    runtime.clean()
    clear(name)


def test_places(runtime: Runtime, box: Bundle, parent: str) -> None:
    """Engines look into the cgroup that they have asked for, and at no other."""
    box.config["linux"]["cgroupsPath"] = f"/{parent}/libpod-1"
    name = detached(runtime, box)
    assert read(box, "pids", "cgroup.procs") == str(runtime.state(name)["pid"])
    box.config["linux"]["cgroupsPath"] = f"{parent}/relative/"
    detached(runtime, box)
    assert place(box, "pids").is_dir()  # the caller is at the top of it
    del box.config["linux"]["cgroupsPath"]
    unnamed = runtime.new_id()
    assert runtime.detached("run", "-d", "--bundle", str(box.save().path), unnamed).code == 0
    assert (TOP / "pids" / unnamed).is_dir()


@pytest.mark.parametrize("path", ["/../x", "a/../../b", "/"])
def test_places_that_are_none(runtime: Runtime, box: Bundle, path: str) -> None:
    box.config["linux"]["cgroupsPath"] = path
    answer = tried(runtime, box, runtime.new_id())
    assert (answer.code, "cgroup" in answer.err) == (1, True)


def test_a_cgroup_of_others(runtime: Runtime, box: Bundle) -> None:
    detached(runtime, box)
    answer = tried(runtime, box, runtime.new_id())
    assert (answer.code, "container's cgroup is not empty: 1 process(es) found" in answer.err) == (1, True)


@pytest.mark.parametrize("verb", ["run", "create"])
def test_a_frozen_cgroup(runtime: Runtime, box: Bundle, parent: str, verb: str) -> None:
    frozen = TOP / "freezer" / parent
    frozen.mkdir()
    (frozen / "freezer.state").write_text("FROZEN")
    box.config["linux"]["cgroupsPath"] = f"/{parent}"
    answer = runtime.call(verb, "--bundle", str(box.save().path), runtime.new_id())
    assert (answer.code, "container's cgroup unexpectedly frozen" in answer.err) == (1, True)
    (frozen / "freezer.state").write_text("THAWED")


def test_limits_over_those_that_are_there(runtime: Runtime, box: Bundle, parent: str) -> None:
    """The new limit on memory is above the old one on memory and swap, which must go first."""
    there = TOP / "memory" / parent
    there.mkdir()
    for file in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
        (there / file).write_text(str(10 * MB))
    box.config["linux"]["cgroupsPath"] = f"/{parent}"
    box.config["linux"]["resources"]["memory"] = {"limit": 32 * MB, "swap": 40 * MB}
    detached(runtime, box)
    assert read(box, "memory", "memory.limit_in_bytes") == str(32 * MB)
    assert read(box, "memory", "memory.memsw.limit_in_bytes") == str(40 * MB)


def test_six_megabytes_are_enough(runtime: Runtime, box: Bundle) -> None:
    for size in (6 * MB, MB):
        box.config["linux"]["resources"]["memory"] = {"limit": size, "swap": size}
        answer = runtime.run(box.runs("echo", "started").path)
        assert (answer.code, answer.out, answer.err) == (0, "started\n", "")


@pytest.mark.parametrize("words", [("run",), ("run", "-d"), ("create",)], ids=" ".join)
def test_too_little_memory_is_one_clear_line(runtime: Runtime, box: Bundle, words: tuple[str, ...]) -> None:
    box.config["linux"]["resources"]["memory"] = {"limit": 4096, "swap": 4096}
    answer = runtime.call(*words, "--bundle", str(box.save().path), runtime.new_id())
    assert answer.code == 1
    assert "container init was OOM-killed (memory limit too low?)" in answer.err
    assert len(answer.err.splitlines()) == 1


def test_kernel_memory_is_ignored(runtime: Runtime, box: Bundle) -> None:
    box.config["linux"]["resources"]["memory"] = {"kernel": MB, "kernelTCP": MB}
    name = runtime.new_id()
    answer = tried(runtime, box, name)
    assert answer.code == 0
    assert "Kernel memory settings are ignored and will be removed" in answer.err
