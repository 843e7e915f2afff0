"""Pods as directories and locks: states, moves, and how a pod is found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrkt.base.errors import Busy, CannotCreate, NotFound, PyrktError, UsageError
from pyrkt.pod import directory
from pyrkt.pod.directory import Held, Pods, check_name, is_uuid, new_uuid


@pytest.fixture
def pods(tmp_path: Path) -> Pods:
    return Pods(str(tmp_path))


@pytest.fixture
def pod(pods: Pods) -> Iterator[Held]:
    held = pods.create()
    yield held
    try:
        os.close(held.descriptor)
    except OSError:
        pass  # the test closed it


def test_a_new_pod_is_preparing_while_its_maker_lives(pods: Pods, pod: Held) -> None:
    assert [(found.uuid, found.state()) for found in pods.each()] == [(pod.uuid, "preparing")]
    os.close(pod.descriptor)
    assert [found.state() for found in pods.each()] == ["aborted prepare"]


@pytest.mark.parametrize(
    ("place", "held", "free"),
    [
        pytest.param(directory.EMBRYO, "embryo", "aborted prepare", id="embryo"),
        pytest.param(directory.PREPARED, "prepared", "prepared", id="prepared"),
        pytest.param(directory.RUN, "running", "exited", id="run"),
        pytest.param(directory.EXITED_GARBAGE, "exited deleting", "exited garbage", id="exited-garbage"),
        pytest.param(directory.GARBAGE, "deleting", "garbage", id="garbage"),
    ],
)
def test_states_in_rkts_words(pods: Pods, pod: Held, place: str, held: str, free: str) -> None:
    moved = pods.move(pod, place)
    (found,) = pods.each()
    assert (found.place, found.state()) == (place, held)
    os.close(moved.descriptor)
    assert found.state() == free


def test_the_lock_follows_the_descriptor_through_a_move_and_into_a_child(pods: Pods, pod: Held) -> None:
    moved = pods.move(pod, directory.RUN)
    os.set_inheritable(moved.descriptor, True)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    os.close(moved.descriptor)
    try:
        (found,) = pods.each()
        assert found.state() == "running"
    finally:
        child.communicate(b"\n")
    assert found.state() == "exited"


def test_found_by_the_beginning_of_its_uuid_and_by_name(pods: Pods, pod: Held) -> None:
    Path(pod.path, "name").write_text("web\n")
    for text in (pod.uuid, pod.uuid[:8], pod.uuid[:2].upper(), "web", f" {pod.uuid}\n"):
        assert pods.find(text).uuid == pod.uuid


@pytest.mark.parametrize(
    ("text", "error", "problem"),
    [
        pytest.param("", UsageError, "UUID cannot be empty", id="empty"),
        pytest.param("a", NotFound, "no matches found", id="one-digit"),
        pytest.param("zzz", NotFound, "no matches found for 'zzz'", id="no-such-name"),
        pytest.param("../run", NotFound, "no matches found", id="a-path"),
    ],
)
def test_not_found(pods: Pods, pod: Held, text: str, error: type[PyrktError], problem: str) -> None:
    assert pod.uuid
    with pytest.raises(error, match=problem):
        pods.find(text)


def test_two_that_begin_alike_are_ambiguous(pods: Pods, pod: Held) -> None:
    other = pod.uuid[:-1] + ("0" if pod.uuid[-1] != "0" else "1")
    os.mkdir(pods.path(directory.RUN, other))
    with pytest.raises(UsageError, match="ambiguous"):
        pods.find(pod.uuid[:8])
    assert pods.find(other).uuid == other


def test_holding_what_another_holds_is_busy(pods: Pods, pod: Held) -> None:
    moved = pods.move(pod, directory.RUN)
    (found,) = pods.each()
    with pytest.raises(Busy, match="is running"):
        pods.hold(found)
    os.close(moved.descriptor)
    os.close(pods.hold(found).descriptor)


def test_holding_what_has_moved_says_so(pods: Pods, pod: Held) -> None:
    (found,) = pods.each()
    moved = pods.move(pod, directory.RUN)
    with pytest.raises(NotFound):
        pods.hold(found)
    os.close(moved.descriptor)


def test_a_name_beats_the_beginning_of_a_uuid(pods: Pods, pod: Held) -> None:
    other = pods.create()
    Path(other.path, "name").write_text(pod.uuid[:3])
    os.close(other.descriptor)
    assert pods.find(pod.uuid[:3]).uuid == other.uuid
    assert pods.find(pod.uuid[:4]).uuid == pod.uuid


def test_a_name_is_given_once(pods: Pods, pod: Held) -> None:
    Path(pod.path, "name").write_text("web")
    with pytest.raises(CannotCreate, match="is taken by pod"):
        pods.claim_name("web")
    os.close(pods.claim_name("db2"))


@pytest.mark.parametrize("name", ["", "9x", "a b", "x" * 65, "../x", "-x"])
def test_what_cannot_be_a_name(name: str) -> None:
    with pytest.raises(UsageError):
        check_name(name)


def test_foreign_things_in_the_directories_are_no_pods(pods: Pods, pod: Held) -> None:
    Path(pods.root, "run", "notes.txt").write_text("x")
    assert [found.uuid for found in pods.each()] == [pod.uuid]


def test_a_fifo_instead_of_a_file_blocks_nobody(pods: Pods, pod: Held) -> None:
    os.mkfifo(f"{pod.path}/name")
    (found,) = pods.each()
    assert found.name() == ""


def test_uuids_are_version_4() -> None:
    made = {new_uuid() for _ in range(200)}
    assert len(made) == 200
    assert all(is_uuid(text) and text[14] == "4" and text[19] in "89ab" for text in made)
