"""The list of known failures: what it may say, and what a run that differs from it comes to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance import known
from tests.conformance.tap import Outcome

if TYPE_CHECKING:
    from pathlib import Path

GOOD, BAD = Outcome(points=3), Outcome(points=3, failed=1, why="it is wrong")
LIST = known.read("""
# comment
delete | pyrkt-oci runc | because
net    | needs v1:net_cls | it reads cgroup v1 only
""")


def test_reads_lines_of_both_kinds() -> None:
    failure, need = LIST
    assert (failure.program, failure.runtimes, failure.needs, failure.reason) == (
        "delete",
        ("pyrkt-oci", "runc"),
        (),
        "because",
    )
    assert (need.program, need.runtimes, need.needs) == ("net", (), ("v1:net_cls",))


@pytest.mark.parametrize("line", ["delete", "delete | runc", "delete | runc | ", "delete | | why", "a | b | c | d"])
def test_a_line_without_a_reason_is_none(line: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        known.read(line)


@pytest.mark.parametrize(
    ("program", "outcomes", "problems", "notes"),
    [
        pytest.param("delete", {"pyrkt-oci": BAD, "runc": BAD}, [], [], id="as-listed"),
        pytest.param("kill", {"pyrkt-oci": GOOD, "runc": GOOD}, [], [], id="all-pass"),
        pytest.param("delete", {"pyrkt-oci": GOOD, "runc": BAD}, ["take it off the list"], [], id="better"),
        pytest.param("kill", {"pyrkt-oci": BAD}, ["the list does not say so: it is wrong"], [], id="worse"),
        pytest.param("kill", {"runc": BAD, "pyrkt-oci": GOOD}, [], ["the list does not say so"], id="peer-worse"),
        pytest.param("delete", {"runc": GOOD}, [], ["take it off the list"], id="peer-better-alone"),
        pytest.param(
            "delete",
            {"pyrkt-oci": BAD, "runc": GOOD},
            ["runc passes it, pyrkt-oci does not"],
            ["take it off the list"],
            id="listed-but-a-peer-passes",
        ),
    ],
)
def test_verdict(program: str, outcomes: dict[str, Outcome], problems: list[str], notes: list[str]) -> None:
    found = known.verdict(LIST, {program: outcomes})
    for lines, wanted in zip(found, (problems, notes), strict=True):
        assert len(lines) == len(wanted), lines
        assert all(words in line for line, words in zip(lines, wanted, strict=True)), lines


def test_a_listed_program_that_the_suite_does_not_have() -> None:
    assert known.strangers(LIST, ["delete", "net"]) == []
    assert known.strangers(LIST, ["net"]) == ["delete: is listed, but no program of the suite"]


@pytest.fixture
def host(tmp_path: Path) -> tuple[Path, Path]:
    proc, sys = tmp_path / "proc", tmp_path / "sys"
    for directory in (proc / "self", proc / "sys/kernel", sys / "kernel/security/apparmor", sys / "fs/cgroup/blkio"):
        directory.mkdir(parents=True)
    (proc / "self/mountinfo").write_text(
        "30 29 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "31 29 0:27 / /tmp/pids rw - tmpfs tmpfs rw,pids\n"
    )
    (proc / "sys/kernel/cap_last_cap").write_text("40\n")
    (proc / "self/status").write_text("Name:\tx\nCapBnd:\t000001ffffffffff\n")
    (sys / "kernel/security/lsm").write_text("capability,apparmor\n")
    (sys / "kernel/security/apparmor/profiles").write_text("web_server (enforce)\n")
    return proc, sys


@pytest.mark.parametrize(
    "need", ["v1:cpu", "capabilities:all", "lsm:apparmor", "apparmor:web_server", "file:/sys/fs/cgroup"]
)
def test_what_the_host_has(host: tuple[Path, Path], need: str) -> None:
    assert known.missing([need], *host) == ""


@pytest.mark.parametrize("need", ["v1:pids", "v1:hugetlb", "lsm:selinux", "apparmor:web", "file:/sys/fs/cgroup/x"])
def test_what_the_host_lacks(host: tuple[Path, Path], need: str) -> None:
    assert known.missing(["v1:cpuacct", need], *host) == need


def test_a_bounding_set_that_lacks_one(host: tuple[Path, Path]) -> None:
    (host[0] / "self/status").write_text("CapBnd:\t000001fffeffffff\n")
    assert known.missing(["capabilities:all"], *host) == "capabilities:all"


def test_the_list_of_this_tree_names_what_is_known_of_hosts() -> None:
    entries = known.read(known.LIST.read_text())
    assert {need.partition(":")[0] for entry in entries for need in entry.needs} <= set(known._HAS)
    assert {name for entry in entries for name in entry.runtimes} == {"pyrkt-oci", "crun", "runc"}
    assert len({(entry.program, name) for entry in entries for name in entry.runtimes or ("needs",)}) == sum(
        len(entry.runtimes) or 1 for entry in entries
    )
