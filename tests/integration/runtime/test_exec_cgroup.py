"""exec --cgroup: into cgroups that the container has made below its own, of version 1 here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.limits import detached, place, unified

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


def cgroups(runtime: Runtime, name: str, *words: str) -> dict[str, str]:
    """Return controller -> path of a process that exec has started; the container shares the host's view."""
    answer = runtime.call("exec", *words, name, "cat", "/proc/self/cgroup")
    assert answer.code == 0, answer.err
    rows = [line.split(":", 2) for line in answer.out.splitlines()]
    return {controller: path for _, names, path in rows for controller in names.split(",")}


@pytest.fixture
def name(runtime: Runtime, box: Bundle) -> str:
    """Return a container that sees the host's cgroups, and has some below its own."""
    spaces = box.config["linux"]["namespaces"]
    box.config["linux"]["namespaces"] = [space for space in spaces if space["type"] != "cgroup"]
    made = detached(runtime, box)
    for controller, sub in (("memory", "submem"), ("cpu", "subcpu"), ("cpuacct", "subcpu")):
        (place(box, controller) / sub).mkdir(exist_ok=True)
    return made


def test_where_exec_goes(runtime: Runtime, box: Bundle, name: str) -> None:
    own = box.config["linux"]["cgroupsPath"]
    assert set(cgroups(runtime, name).values()) == {own}
    assert set(cgroups(runtime, name, "--cgroup", "/").values()) == {own}
    found = cgroups(runtime, name, "--cgroup", "memory:submem", "--cgroup", "cpu,cpuacct:subcpu")
    assert found.pop("memory") == f"{own}/submem"
    assert found.pop("cpu") == found.pop("cpuacct") == f"{own}/subcpu"
    assert set(found.values()) == {own}


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("..", "bad sub cgroup path: .."),
        ("nonexistent", "adding pid of the new process to cgroups"),
        ("cpu:nonexistent", "no such file or directory"),
        ("whaaat:/", "unknown controller whaaat"),
        (":x", "invalid --cgroup argument"),
    ],
)
def test_where_it_cannot_go(runtime: Runtime, name: str, word: str, problem: str) -> None:
    answer = runtime.call("exec", "--cgroup", word, name, "true")
    assert answer.code == 255
    assert problem in answer.err


def test_a_sibling_with_the_same_beginning(runtime: Runtime, box: Bundle, name: str) -> None:
    sibling = place(box, "cpu").with_name(f"{name}-sibling")
    sibling.mkdir()
    try:
        for word in (f"../{sibling.name}", f"cpu:../{sibling.name}"):
            assert "bad sub cgroup path" in runtime.call("exec", "--cgroup", word, name, "true").err
    finally:
        sibling.rmdir()


def test_a_v2_cgroup_that_hands_controllers_down(runtime: Runtime, box: Bundle, name: str) -> None:
    """The hybrid host's version 2 has hugetlb alone, which leaves no room for processes beside those below."""
    if "hugetlb" not in (unified() / "cgroup.controllers").read_text():
        pytest.skip("version 2 has no hugetlb here")
    top = unified()
    given = "hugetlb" in (top / "cgroup.subtree_control").read_text()
    (top / "cgroup.subtree_control").write_text("+hugetlb")
    try:
        own = top / name
        (own / "first").mkdir()
        (own / "first/cgroup.procs").write_text(str(runtime.state(name)["pid"]))
        assert cgroups(runtime, name)[""] == f"/{name}"  # it has room still
        (own / "cgroup.subtree_control").write_text("+hugetlb")
        assert cgroups(runtime, name)[""] == f"/{name}/first"
        answer = runtime.call("exec", "--cgroup", "/", name, "true")
        assert answer.code == 255
        assert "adding pid of the new process to cgroups" in answer.err
        assert "device or resource busy" in answer.err
        runtime.clean()
    finally:
        if not given:
            (top / "cgroup.subtree_control").write_text("-hugetlb")
