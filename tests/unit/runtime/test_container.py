"""What is remembered of a container, and what hostile or broken memories do."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.base.errors import CannotCreate, InvalidSpec, NoPermission, NotFound, UsageError
from pyrkt.kernel import process
from pyrkt.runtime import container as containers
from pyrkt.runtime.container import Container
from pyrkt.spec.layout import CgroupLayout


def sample(root: Path, name: str = "c1") -> Container:
    return Container(
        directory=f"{root}/{name}",
        id=name,
        bundle="/b",
        rootfs="/b/rootfs",
        oci_version="1.0.2",
        created=containers.now(),
        annotations={"a": "1"},
        cgroup=CgroupLayout(enter=("/cg/x",), remove=("/cg/x",), clone_into="/cg2/x", kill=("/cg2/x/cgroup.kill",)),
        hooks=("poststop",),
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "state"


def made(root: Path, name: str = "c1") -> Container:
    container = sample(root, name)
    os.close(containers.claim(str(root), name))
    containers.save(container, b"{}")
    return container


def test_saved_is_loaded(root: Path) -> None:
    container = made(root)
    assert containers.load(str(root), "c1") == container
    assert root.stat().st_mode & 0o777 == 0o700
    assert Path(container.directory).stat().st_mode & 0o777 == 0o700
    assert containers.names(str(root)) == ["c1"]


def test_of_two_who_claim_one_gets_it(root: Path) -> None:
    made(root)
    with pytest.raises(CannotCreate, match="container with given ID already exists"):
        containers.claim(str(root), "c1")


def test_what_a_killed_create_left_before_it_acted_is_taken_over(root: Path) -> None:
    descriptor = containers.claim(str(root), "c1")
    with pytest.raises(CannotCreate, match="already exists"):
        containers.claim(str(root), "c1")  # somebody works in it
    os.close(descriptor)
    os.close(containers.claim(str(root), "c1"))


def test_a_file_in_the_place_of_a_container(root: Path) -> None:
    root.mkdir(0o700)
    (root / "c1").touch()
    with pytest.raises(CannotCreate, match="already exists"):
        containers.claim(str(root), "c1")


@pytest.mark.parametrize("name", ["a", "A.b-c_d+e", "0", "x" * 255])
def test_ids(name: str) -> None:
    assert containers.check_id(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "ä", "a\0", "a\n", "x" * 256, "../x", "a:b", "٣"])
def test_refused_ids(name: str) -> None:
    with pytest.raises(UsageError, match=r"invalid container ID format|container id cannot be empty"):
        containers.check_id(name)


@given(st.text(max_size=300))
def test_an_id_is_one_plain_name_or_refused(name: str) -> None:
    try:
        containers.check_id(name)
    except UsageError:
        return
    assert name.isascii()
    assert os.path.basename(os.path.normpath(f"/root/{name}")) == name


def test_unknown(root: Path) -> None:
    with pytest.raises(NotFound, match="container does not exist"):
        containers.load(str(root), "nope")
    assert containers.names(str(root)) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"{}", b'{"format":2}', b'{"format":1,"id":3}', b"\xff", b"[" * 5000],
    ids=["empty", "cut", "array", "null", "nothing", "future", "wrong-type", "not-utf8", "deep"],
)
def test_damaged_state_is_one_line(root: Path, content: bytes) -> None:
    container = made(root)
    Path(container.path("state.json")).write_bytes(content)
    with pytest.raises(InvalidSpec) as caught:
        containers.load(str(root), "c1")
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_planted_files_neither_block_nor_mislead(root: Path, tmp_path: Path) -> None:
    container = made(root)
    state = Path(container.path("state.json"))
    (tmp_path / "elsewhere").write_bytes(state.read_bytes())
    state.unlink()
    os.mkfifo(state)
    with pytest.raises(InvalidSpec):
        containers.load(str(root), "c1")
    state.unlink()
    state.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidSpec, match="is a link"):
        containers.load(str(root), "c1")


def test_a_state_of_100_mb_is_not_read(root: Path) -> None:
    container = made(root)
    os.truncate(container.path("state.json"), 100 << 20)
    with pytest.raises(InvalidSpec, match="sensible size"):
        containers.load(str(root), "c1")


def test_forget_removes_everything_even_what_it_does_not_know(root: Path) -> None:
    container = made(root)
    Path(container.path("state.json.123.tmp")).touch()
    os.mkfifo(container.path("exec.fifo"))
    containers.forget(container.directory)
    assert not Path(container.directory).exists()
    containers.forget(container.directory)  # again is fine


def test_forget_does_not_follow_links(root: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "file").touch()
    container = made(root)
    Path(container.path("link")).symlink_to(canary)
    containers.forget(container.directory)
    assert (canary / "file").exists()


def test_others_may_not_write_in_the_root(root: Path) -> None:
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(NoPermission, match="others may write"):
        containers.claim(str(root), "c1")


@pytest.mark.parametrize("content", ["", "12", "x y", "-1 5", "1 2 3", "1 99999999999"])
def test_a_pid_file_that_names_nobody(root: Path, content: str) -> None:
    container = made(root)
    Path(container.path("pid")).write_text(content)
    assert containers.living_pid(container.directory) == 0
    assert containers.status(container).name == containers.STOPPED
    with pytest.raises(NotFound, match="container not running"):
        containers.open_process(container)


def test_status_follows_process_and_fifo(root: Path) -> None:
    container = made(root)
    assert containers.status(container).name == containers.STOPPED
    Path(container.path("pid")).write_text(f"{os.getpid()} {process.start_time(os.getpid())}")
    os.mkfifo(container.path("exec.fifo"))
    assert containers.status(container) == containers.Status(name=containers.CREATED, pid=os.getpid())
    os.unlink(container.path("exec.fifo"))
    assert containers.status(container) == containers.Status(name=containers.RUNNING, pid=os.getpid())
    os.close(containers.open_process(container))


def test_a_number_used_again_is_another_process(root: Path) -> None:
    container = made(root)
    Path(container.path("pid")).write_text(f"{os.getpid()} {process.start_time(os.getpid()) - 1}")
    assert containers.status(container).name == containers.STOPPED


def test_times_are_rfc3339() -> None:
    assert containers.now().endswith("Z")
    assert containers.now()[10] == "T"


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, ["pyrkt 1", "start", "kill", "cgroup /cg/x", "end"]),
        ({"hooks": ()}, ["pyrkt 1", "start", "delete", "kill", "cgroup /cg/x", "end"]),
        ({"hooks": ("poststart",)}, ["pyrkt 1", "delete", "kill", "cgroup /cg/x", "end"]),
        ({"hooks": (), "cgroup": CgroupLayout()}, ["pyrkt 1", "start", "delete", "kill", "end"]),
        ({"own_pids": False}, ["pyrkt 1", "start", "cgroup /cg/x", "end"]),
        (
            {"cgroup": CgroupLayout(paths=(("freezer", "/f"), ("", "/u")))},
            ["pyrkt 1", "start", "kill", "freezer /f/freezer.state", "end"],
        ),
        (
            {"cgroup": CgroupLayout(paths=(("", "/u"),))},
            ["pyrkt 1", "start", "kill", "freezer /u/cgroup.freeze", "end"],
        ),
    ],
    ids=["poststop", "no-hooks", "poststart", "no-cgroup", "shared-pids", "v1-freezer", "v2-freezer"],
)
def test_facts_for_the_launcher(root: Path, changes: dict[str, Any], lines: list[str]) -> None:
    container = sample(root).replace(**changes)
    os.close(containers.claim(str(root), "c1"))
    containers.save(container, b"{}")
    assert Path(container.path("quick")).read_text() == "\n".join([*lines, ""])


def test_a_path_that_would_spoil_the_lines_leaves_it_to_python(root: Path) -> None:
    container = sample(root).replace(cgroup=CgroupLayout(remove=("/cg/a\nend",)))
    os.close(containers.claim(str(root), "c1"))
    containers.save(container, b"{}")
    assert not Path(container.path("quick")).exists()
    assert containers.load(str(root), "c1").cgroup.remove == ("/cg/a\nend",)


def test_many_make_the_first_state_root_at_once(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)

    def make(path: str) -> None:
        barrier.wait()
        containers.make_root(path)

    with ThreadPoolExecutor(8) as pool:
        for turn in range(40):
            root = tmp_path / f"{turn}/state/of/many"
            assert list(pool.map(make, [str(root)] * 8)) == [None] * 8
            assert root.stat().st_mode & 0o7777 == 0o700
