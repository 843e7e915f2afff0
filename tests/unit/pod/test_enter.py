"""Which app and which process is meant, and how the files of an app are read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrkt.base.errors import Busy, NotFound, PyrktError, UsageError
from pyrkt.kernel import process
from pyrkt.pod import directory, enter
from pyrkt.pod.directory import Held, Pods


@pytest.fixture
def pods(tmp_path: Path) -> Pods:
    return Pods(str(tmp_path))


@pytest.fixture
def pod(pods: Pods) -> Iterator[Held]:
    held = pods.move(pods.create(), directory.RUN)
    for name in ("status", "apps/a", "apps/b"):
        os.makedirs(f"{held.path}/{name}")
    yield held
    os.close(held.descriptor)


def me() -> str:
    return f"{os.getpid()} {process.start_time(os.getpid())}\n"


@pytest.mark.parametrize(
    ("app", "error", "text"),
    [("", UsageError, "several apps: a, b"), ("c", NotFound, "no app 'c'"), ("..", NotFound, "no app '..'")],
)
def test_the_app_is_named(pods: Pods, pod: Held, app: str, error: type[PyrktError], text: str) -> None:
    with pytest.raises(error, match=text):
        enter.chosen(pods.find(pod.uuid), app)
    assert enter.chosen(pods.find(pod.uuid), "b") == "b"


def test_the_only_app_need_not_be(pods: Pods, pod: Held) -> None:
    os.rmdir(f"{pod.path}/apps/b")
    assert enter.chosen(pods.find(pod.uuid), "") == "a"
    os.rmdir(f"{pod.path}/apps/a")
    with pytest.raises(NotFound):
        enter.chosen(pods.find(pod.uuid), "")


def test_the_first_process_is_the_recorded_one(pods: Pods, pod: Held) -> None:
    Path(pod.path, "apps/a/pid").write_text(me())
    found = enter.first_process(pods.find(pod.uuid), "a")
    assert found == (os.getpid(), process.start_time(os.getpid()))


@pytest.mark.parametrize("record", ["1 1\n", f"{1 << 22} 5\n"])
def test_a_number_that_means_another_process_by_now_is_not(pods: Pods, pod: Held, record: str) -> None:
    Path(pod.path, "apps/a/pid").write_text(record)
    with pytest.raises(NotFound, match="app 'a'"):
        enter.first_process(pods.find(pod.uuid), "a")


def test_an_app_that_has_ended_is_not_waited_for(pods: Pods, pod: Held) -> None:
    Path(pod.path, "status/a").write_text("0\n")
    with pytest.raises(NotFound, match="app 'a'"):
        enter.first_process(pods.find(pod.uuid), "a")


def test_one_that_is_being_started_is_waited_for(pods: Pods, pod: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter(range(5))

    def sleep(_seconds: float) -> None:
        if next(looks) == 3:
            Path(pod.path, "apps/a/pid").write_text(me())

    monkeypatch.setattr("time.sleep", sleep)
    assert enter.first_process(pods.find(pod.uuid), "a")[0] == os.getpid()


def test_but_not_for_ever(pods: Pods, pod: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enter, "_START_S", 0.03)
    with pytest.raises(Busy, match="not been started yet"):
        enter.first_process(pods.find(pod.uuid), "a")


def test_a_pod_that_ends_meanwhile_is_given_up(pods: Pods, pod: Held) -> None:
    found = pods.find(pod.uuid)
    Path(pod.path, "apps/a/pid").write_text(f"{1 << 22} 5\n")
    moved = pods.move(pod, directory.EXITED_GARBAGE)
    with pytest.raises(NotFound):
        enter.first_process(found.replace(place=directory.EXITED_GARBAGE, path=moved.path), "a")


def test_files_of_a_process_are_found_below_its_root(tmp_path: Path) -> None:
    inside = enter.Inside(os.getpid())
    try:
        (tmp_path / "file").write_text("text")
        (tmp_path / "link").symlink_to("file")
        os.mkfifo(tmp_path / "fifo")
        assert inside.read(str(tmp_path / "link")) == b"text"
        assert inside.is_file(str(tmp_path / "file"))
        assert inside.owner(str(tmp_path / "file")) == (os.getuid(), os.getgid())
        for name in ("fifo", "nothing", ""):
            assert inside.read(f"{tmp_path}/{name}") is None
        (tmp_path / "magic").symlink_to("/proc/self/exe")
        assert inside.read(str(tmp_path / "magic")) is None, "no link of proc's own is followed"
        with pytest.raises(PyrktError, match="larger than 3 bytes"):
            inside.read(str(tmp_path / "file"), 3)
    finally:
        inside.close()
