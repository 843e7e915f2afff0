"""The mount table says which hierarchies there are; directories that only look like one do not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyrkt.cgroup import host
from pyrkt.cgroup.host import Hierarchy

HYBRID = """\
23 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/lib/agent,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
50 23 0:32 / /mnt/odd\\040place rw,relatime - cgroup cgroup rw,memory
"""
OWN = """\
9:name=systemd:/init.scope
4:memory:/user/me
3:cpu,cpuacct:/
0::/init.scope
"""


def test_hybrid() -> None:
    mounts = host.parse(HYBRID, OWN)
    assert mounts.mode == "hybrid"
    assert mounts.unified == Hierarchy(names=(), mount="/sys/fs/cgroup/unified", own="/init.scope")
    assert mounts.find("memory") == Hierarchy(names=("memory",), mount="/sys/fs/cgroup/memory", own="/user/me")
    assert mounts.find("cpuacct") == Hierarchy(names=("cpu", "cpuacct"), mount="/sys/fs/cgroup/cpu,cpuacct", own="/")
    systemd = mounts.find("name=systemd")
    assert systemd is not None
    assert systemd.own == "/init.scope"
    assert mounts.find("pids") is None  # a directory /sys/fs/cgroup/pids would prove nothing


def test_v2() -> None:
    text = "31 23 0:28 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n"
    mounts = host.parse(text, "0::/user.slice/x\n", "cpu memory\n")
    assert mounts.mode == "v2"
    assert mounts.controllers == ("cpu", "memory")


def test_v1_and_none() -> None:
    assert host.parse("35 31 0:32 / /cg/memory rw - cgroup cgroup rw,memory\n", OWN).mode == "v1"
    assert host.parse("", "").mode == "none"


def test_the_usual_place_is_preferred() -> None:
    lines = HYBRID.splitlines()
    mounts = host.parse("\n".join(reversed(lines)), OWN)
    memory = mounts.find("memory")
    assert memory is not None
    assert memory.mount == "/sys/fs/cgroup/memory"
    odd = host.parse(lines[-1], OWN).find("memory")
    assert odd is not None
    assert odd.mount == "/mnt/odd place"


@pytest.mark.parametrize(
    ("root", "own", "seen"),
    [
        pytest.param("/", "/a", "/a", id="whole-tree"),
        pytest.param("/docker/x", "/docker/x", "/", id="at-the-top"),
        pytest.param("/docker/x", "/docker/x/y", "/y", id="below"),
        pytest.param("/docker/x", "/docker/xy", "/", id="elsewhere"),
    ],
)
def test_a_mount_may_show_a_subtree(root: str, own: str, seen: str) -> None:
    mounts = host.parse(f"1 2 0:3 {root} /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n", f"4:pids:{own}\n")
    pids = mounts.find("pids")
    assert pids is not None
    assert pids.own == seen


@pytest.mark.parametrize(("field", "text"), [("a", "a"), (r"a\040b\134c", "a b\\c"), (r"\011", "\t")])
def test_unescape(field: str, text: str) -> None:
    assert host.unescape(field) == text


@pytest.mark.parametrize(("path", "names"), [("/a//b/./c", ["a", "b", "c"]), ("../a/../b", ["b"]), ("", [])])
def test_components(path: str, names: list[str]) -> None:
    assert host.components(path) == names


def test_a_cpuset_is_inherited_from_the_deepest_that_has_one(tmp_path: Path) -> None:
    hierarchy = Hierarchy(names=("cpuset",), mount=str(tmp_path))
    assert host.inherited_cpuset(hierarchy, "/a/b") is None
    for directory, cpus in ((tmp_path, "0-7"), (tmp_path / "a", "1"), (tmp_path / "a" / "b", "")):
        directory.mkdir(exist_ok=True)
        (directory / "cpuset.cpus").write_text(cpus + "\n")
        (directory / "cpuset.mems").write_text("0\n")
    found = host.inherited_cpuset(hierarchy, "/a/b/c")
    assert found == host.Cpuset(directory=str(tmp_path / "a"), cpus="1", mems="0")


def test_probe_reads_this_machine() -> None:
    mounts = host.probe("/pyrkt-test-probe")
    assert mounts.mode in {"v1", "hybrid", "v2", "none"}
    for hierarchy in mounts.v1:
        assert Path(hierarchy.mount, "cgroup.procs").exists()


def cgroup(directory: Path, controllers: str = "", handed: str = "", procs: str = "") -> Path:
    """Make what looks like a cgroup of version 2."""
    directory.mkdir(parents=True)
    for name, text in (("controllers", controllers), ("subtree_control", handed), ("procs", procs)):
        (directory / f"cgroup.{name}").write_text(text)
    return directory


def closed(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    """Let nobody write to ``paths``: the tests' user may be root."""
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) not in map(str, paths) and real(path, mode))


def test_what_is_delegated_begins_where_the_way_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = cgroup(tmp_path / "top", "cpu memory pids")
    given = cgroup(top / "user/given", "memory pids")
    cgroup(top / "user/given/me")
    closed(monkeypatch, top, top / "cgroup.procs", top / "user")
    table = ((str(top), "", "/user/given/me"),)
    mounts = host.probe("/user/given/new/leaf", table, rootless=True)
    assert (mounts.delegated, mounts.hands_on, mounts.controllers) == (True, str(given), ("memory", "pids"))
    assert not host.probe("/user/new", table, rootless=True).delegated
    from_outside = ((str(top), "", "/"),)
    assert not host.probe("/user/given/new", from_outside, rootless=True).delegated


def test_a_cgroup_with_processes_hands_on_what_it_does_already(tmp_path: Path) -> None:
    top = cgroup(tmp_path / "top", "cpu memory pids", "pids", "17\n")
    mounts = host.probe("/new/leaf", ((str(top), "", ""),), rootless=True)
    assert (mounts.controllers, mounts.hands_on) == (("pids",), str(top / "new"))


def test_of_version_1_what_may_be_entered_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("memory", "pids", "freezer"):
        (tmp_path / name / "given").mkdir(parents=True)
        (tmp_path / name / "given/tasks").touch()
    closed(monkeypatch, tmp_path / "memory/given", tmp_path / "freezer/given/tasks")
    table = tuple((str(tmp_path / name), name, "") for name in ("memory", "pids", "freezer"))
    assert host.probe("/given/x", table, rootless=True).writable == tuple(
        str(tmp_path / name) for name in ("pids", "freezer")
    )
    assert host.probe("/given", table, rootless=True).writable == tuple(
        str(tmp_path / name) for name in ("memory", "pids")
    )
