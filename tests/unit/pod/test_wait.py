"""Waiting for a pod that moves, ends, or goes meanwhile."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyrkt.base.errors import NotFound
from pyrkt.pod import directory, wait
from pyrkt.pod.directory import Held, Pods
from pyrkt.store.remove import remove_tree


@pytest.fixture
def pods(tmp_path: Path) -> Pods:
    return Pods(str(tmp_path))


@contextmanager
def soon(deed: Callable[[], object]) -> Iterator[None]:
    """Do ``deed`` in a moment, while the caller waits."""
    timer = threading.Timer(0.1, deed)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def released(pods: Pods, pod: Held, place: str) -> Held:
    moved = pods.move(pod, place)
    os.close(moved.descriptor)
    return moved


def test_what_has_ended_is_not_waited_for(pods: Pods) -> None:
    pod = released(pods, pods.create(), directory.RUN)
    assert wait.until_ended(pods, pods.find(pod.uuid), float("inf")).state() == "exited"
    assert wait.until_ready(pods, pods.find(pod.uuid), float("inf"))[1] is False


def test_a_prepared_pod_is_waited_for_until_it_has_run(pods: Pods) -> None:
    pod = pods.move(pods.create(), directory.PREPARED)
    with soon(lambda: released(pods, pod, directory.RUN)):
        found = wait.until_ended(pods, pods.find(pod.uuid), 30)
    assert (found.place, found.state()) == (directory.RUN, "exited")


def test_one_that_is_collected_meanwhile_has_ended(pods: Pods) -> None:
    pod = pods.move(pods.create(), directory.RUN)
    with soon(lambda: released(pods, pod, directory.EXITED_GARBAGE)):
        found = wait.until_ended(pods, pods.find(pod.uuid), 30)
    assert found.state() in {"exited garbage", "exited"}


def test_one_that_is_removed_meanwhile_is_an_error(pods: Pods) -> None:
    pod = pods.move(pods.create(), directory.PREPARED)
    with soon(lambda: remove_tree(pod.path)), pytest.raises(NotFound, match="removed meanwhile"):
        wait.until_ended(pods, pods.find(pod.uuid), 30)
    os.close(pod.descriptor)


@pytest.mark.parametrize("place", [directory.PREPARED, directory.RUN])
def test_the_time_is_kept(pods: Pods, place: str) -> None:
    pod = pods.move(pods.create(), place)
    found = pods.find(pod.uuid)
    assert wait.until_ended(pods, found, 0.05).place == place
    assert wait.until_ready(pods, found, 0.05) == (found, False)
    os.close(pod.descriptor)


def test_a_pod_is_ready_when_each_app_runs_or_has_ended(pods: Pods) -> None:
    pod = pods.move(pods.create(), directory.RUN)
    apps = ", ".join(f'{{"name": "{name}", "image": {{"id": "sha512-1"}}}}' for name in ("a", "b"))
    Path(pod.path, "pod").write_text(f'{{"apps": [{apps}]}}')
    for name in ("status", "apps/a", "apps/b"):
        os.makedirs(f"{pod.path}/{name}")
    Path(pod.path, "pid").write_text("1 2\n")
    Path(pod.path, "status/a").write_text("0\n")
    assert wait.until_ready(pods, pods.find(pod.uuid), 0.05)[1] is False
    with soon(lambda: Path(pod.path, "apps/b/pid").write_text("1 2\n")):
        found, ready = wait.until_ready(pods, pods.find(pod.uuid), 30)
    assert (found.uuid, ready) == (pod.uuid, True)
    os.close(pod.descriptor)
