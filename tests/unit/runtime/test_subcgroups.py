"""exec --cgroup: its grammar, what it may name, and where version 2 leaves room for another process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyrkt.base.errors import StartFailed, UsageError
from pyrkt.cgroup.host import hands_down
from pyrkt.kernel.host import Host
from pyrkt.runtime import subcgroups
from pyrkt.spec.layout import CgroupLayout

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["/"], {"": "/"}),
        (["a/b"], {"": "a/b"}),
        (["cpu:a"], {"cpu": "a"}),
        (["cpu,cpuacct:a", "memory:b:c"], {"cpu": "a", "cpuacct": "a", "memory": "b:c"}),
    ],
)
def test_grammar(words: list[str], expected: dict[str, str]) -> None:
    assert subcgroups.parse(words) == expected


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["cpu:a", "b"], r"invalid --cgroup argument: b \(missing <controller>: prefix\)"),
        (["cpu,:a"], r"invalid --cgroup argument: cpu,:a \(empty <controller> prefix\)"),
        ([":a"], r"empty <controller> prefix"),
        (["cpu:a", "cpu:b"], "controller cpu specified multiple times"),
    ],
)
def test_bad_grammar(words: list[str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        subcgroups.parse(words)


def v1(directory: Path) -> CgroupLayout:
    paths = []
    for hierarchy, names in (("cpu,cpuacct", ("cpu", "cpuacct")), ("memory", ("memory",))):
        for place in (hierarchy, f"{hierarchy}/sub"):
            (directory / place).mkdir(parents=True)
            (directory / place / "tasks").touch()
        paths += [(name, str(directory / hierarchy)) for name in names]
    return CgroupLayout(paths=tuple(paths), enter=(f"{directory}/cpu,cpuacct", f"{directory}/memory"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["/"], ["cpu,cpuacct", "memory"]),
        (["sub"], ["cpu,cpuacct/sub", "memory/sub"]),
        (["memory:sub"], ["cpu,cpuacct", "memory/sub"]),
        (["cpu:sub/../sub/."], ["cpu,cpuacct/sub", "memory"]),
    ],
)
def test_v1(tmp_path: Path, words: list[str], expected: list[str]) -> None:
    found = subcgroups.asked_for(v1(tmp_path), words)
    assert found.enter == tuple(f"{tmp_path}/{place}" for place in expected)
    assert found.clone_into == ""


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["whaaat:/"], "unknown controller whaaat"),
        ([".."], "bad sub cgroup path: .. is not a sub cgroup path"),
        (["../memory-sibling"], "bad sub cgroup path: ../memory-sibling is not a sub cgroup path"),
        (["cpu:sub/../../memory"], "bad sub cgroup path: sub/../../memory is not a sub cgroup path"),
        (["nonexistent"], "adding pid .* to cgroups: open .*/nonexistent/tasks: no such file or directory"),
        (["memory:nonexistent"], "adding pid .* to cgroups: open .*/memory/nonexistent"),
    ],
)
def test_v1_refusals(tmp_path: Path, words: list[str], problem: str) -> None:
    with pytest.raises((UsageError, StartFailed), match=problem):
        subcgroups.asked_for(v1(tmp_path), words)


def v2(directory: Path, handed: str = "", **below: str) -> CgroupLayout:
    """Make a cgroup that hands ``handed`` down, and cgroups below it of a type, with a process."""
    top = directory / "box"
    top.mkdir()
    (top / "cgroup.procs").touch()
    (top / "cgroup.subtree_control").write_text(handed + "\n")
    for name, kind in below.items():
        (top / name).mkdir()
        (top / name / "cgroup.procs").touch()
        (top / name / "cgroup.subtree_control").write_text("\n")
        (top / name / "cgroup.type").write_text(f"{kind}\n")
        (top / name / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    return CgroupLayout(paths=(("", str(top)),), clone_into=str(top))


@pytest.mark.parametrize(
    ("handed", "below", "full"),
    [
        ("", {"a": "domain"}, False),
        ("memory", {}, True),
        ("cpu memory", {}, True),
        ("cpu pids", {}, False),
        ("pids", {"a": "threaded"}, False),
        ("pids", {"a": "domain"}, True),
    ],
)
def test_v2_leaves_room_or_not(tmp_path: Path, handed: str, below: dict[str, str], full: bool) -> None:
    layout = v2(tmp_path, handed, **below)
    assert hands_down(layout.clone_into) == bool(handed)
    assert subcgroups.is_full(layout.clone_into) == full
    if full:
        with pytest.raises(StartFailed, match=r"adding pid .* to cgroups: .*: device or resource busy"):
            subcgroups.asked_for(layout, ["/"])
    else:
        assert subcgroups.asked_for(layout, ["/"]) == layout


def test_v2_below(tmp_path: Path) -> None:
    layout = v2(tmp_path, "memory", sub="domain")
    assert subcgroups.asked_for(layout, ["sub"]).clone_into == f"{tmp_path}/box/sub"
    with pytest.raises(StartFailed, match=r"cgroup.*no such file or directory"):
        subcgroups.asked_for(layout, ["none"])
    with pytest.raises(UsageError, match="unknown controller cpu"):
        subcgroups.asked_for(layout, ["cpu:sub"])


def test_a_cgroup_that_is_gone_hands_down() -> None:
    assert hands_down("/nonexistent")


def test_without_room_the_first_process_shows_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(kernel=(6, 1), euid=0, egid=0, last_cap=40, bounding=0, cgroup="v2", cgroup_mounts=(("/cg", "", "/"),))
    monkeypatch.setattr(subcgroups, "read_text", lambda path: "0::/box/first" if path == "/proc/7/cgroup" else "memory")
    full = v2(tmp_path, "memory")
    assert subcgroups.with_room(full, 7, host).clone_into == "/cg/box/first"
    assert subcgroups.with_room(full, 8, host) == full  # for the kernel to refuse
    monkeypatch.undo()
    (tmp_path / "box/cgroup.subtree_control").write_text("pids\n")
    assert subcgroups.with_room(full, 7, host) == full
