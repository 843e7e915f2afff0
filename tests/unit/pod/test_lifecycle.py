"""What gc will do, as a list; and the same list carried out."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from pyrkt.base.errors import Busy, UsageError
from pyrkt.kernel import process
from pyrkt.pod import directory, lifecycle
from pyrkt.pod.directory import Held, Pod, Pods

NOW = time.time()


@pytest.fixture
def pods(tmp_path: Path) -> Pods:
    return Pods(str(tmp_path))


def in_place(pods: Pods, place: str, *, held: bool = False) -> Held:
    pod = pods.create()
    if place != directory.PREPARE:
        pod = pods.move(pod, place)
    if not held:
        os.close(pod.descriptor)
    return pod


def deeds(
    pods: Pods, *, grace: float = 1800, expire: float = 86400, mark_only: bool = False, later: float = 0.0
) -> list[str]:
    steps = lifecycle.plan(pods, grace=grace, expire_prepared=expire, mark_only=mark_only, now=time.time() + later)
    return [f"{step.deed} {step.pod.place}" for step in steps]


@pytest.mark.parametrize(
    ("place", "later", "expected"),
    [
        pytest.param(directory.RUN, 0, ["mark run"], id="exited-is-marked-and-kept-for-the-grace-time"),
        pytest.param(directory.EXITED_GARBAGE, 0, [], id="marked-lately-stays"),
        pytest.param(directory.EXITED_GARBAGE, 3600, ["sweep exited-garbage"], id="marked-long-ago-goes"),
        pytest.param(directory.PREPARED, 0, [], id="prepared-waits-to-be-run"),
        pytest.param(directory.PREPARED, 90000, ["mark prepared", "sweep garbage"], id="prepared-expires"),
        pytest.param(directory.PREPARE, 0, ["mark prepare", "sweep garbage"], id="aborted-goes-at-once"),
        pytest.param(directory.EMBRYO, 0, [], id="a-young-embryo-may-be-about-to-be-locked"),
        pytest.param(directory.EMBRYO, 60, ["mark embryo", "sweep garbage"], id="an-old-embryo-goes"),
        pytest.param(directory.GARBAGE, 0, ["sweep garbage"], id="garbage"),
    ],
)
def test_the_list(pods: Pods, place: str, later: float, expected: list[str]) -> None:
    in_place(pods, place)
    assert deeds(pods, later=later) == expected


@pytest.mark.parametrize("place", directory.PLACES)
def test_what_is_locked_is_left_alone(pods: Pods, place: str) -> None:
    pod = in_place(pods, place, held=True)
    assert deeds(pods, grace=0, expire=0, later=1e6) == []
    os.close(pod.descriptor)


def test_mark_only_removes_nothing(pods: Pods) -> None:
    in_place(pods, directory.RUN)
    in_place(pods, directory.EXITED_GARBAGE)
    in_place(pods, directory.GARBAGE)
    assert deeds(pods, grace=0, mark_only=True) == ["mark run"]


def test_a_clock_that_was_set_back_removes_nothing(pods: Pods) -> None:
    in_place(pods, directory.EXITED_GARBAGE)
    in_place(pods, directory.PREPARED)
    assert deeds(pods, grace=0, expire=0, later=-1e6) == []


def test_carried_out_nothing_is_left(pods: Pods) -> None:
    for place in directory.PLACES:
        Path(in_place(pods, place).path, "file").write_text("x")
    steps = lifecycle.plan(pods, grace=0, expire_prepared=0, mark_only=False, now=time.time() + 100)
    assert all(lifecycle.carry_out(pods, step) for step in steps)
    assert list(pods.each()) == []


def test_one_that_another_took_meanwhile_is_no_error(pods: Pods) -> None:
    in_place(pods, directory.RUN)
    steps = lifecycle.plan(pods, grace=0, expire_prepared=0, mark_only=False, now=time.time())
    assert [lifecycle.carry_out(pods, step) for step in steps] == [True, True]
    assert [lifecycle.carry_out(pods, step) for step in steps] == [False, False]


def test_removing_a_running_pod_is_refused(pods: Pods) -> None:
    pod = in_place(pods, directory.RUN, held=True)
    with pytest.raises(Busy, match="is running"):
        lifecycle.remove(pods, pods.find(pod.uuid))
    os.close(pod.descriptor)
    lifecycle.remove(pods, pods.find(pod.uuid))
    assert list(pods.each()) == []


def running(pods: Pods, *command: str) -> tuple[Pod, subprocess.Popen[bytes]]:
    """A pod whose first process is a program of the host, which holds the lock as stage1 would."""
    pod = in_place(pods, directory.RUN, held=True)
    os.set_inheritable(pod.descriptor, True)
    child = subprocess.Popen(command, pass_fds=(pod.descriptor,), stdout=subprocess.PIPE)
    os.close(pod.descriptor)
    for name in ("pid", "supervisor"):
        Path(pod.path, name).write_text(f"{child.pid} {process.start_time(child.pid)}\n")
    return pods.find(pod.uuid), child


def reap(child: subprocess.Popen[bytes]) -> int:
    try:
        return child.wait(timeout=10)
    finally:
        if child.stdout:
            child.stdout.close()


def test_stop_terminates(pods: Pods) -> None:
    pod, child = running(pods, "sleep", "60")
    assert lifecycle.stop(pod) is True
    assert reap(child) == -15
    assert lifecycle.stop(pod) is False


def test_stop_kills_what_does_not_listen(pods: Pods) -> None:
    pod, child = running(pods, "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    assert child.stdout is not None
    child.stdout.readline()
    assert lifecycle.stop(pod, grace=0.1) is True
    assert reap(child) == -9


def test_stop_by_force(pods: Pods) -> None:
    pod, child = running(pods, "sleep", "60")
    assert lifecycle.stop(pod, force=True) is True
    assert reap(child) == -9


def test_a_pid_that_means_another_process_is_not_signalled(pods: Pods) -> None:
    pod, child = running(pods, "sleep", "60")
    other = subprocess.Popen(["sleep", "60"])
    try:
        for name in ("pid", "supervisor"):
            Path(pod.path, name).write_text(f"{other.pid} 1\n")
        child.kill()
        reap(child)
        assert lifecycle.stop(pod) is False
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_waiting_ends_with_the_pod_or_with_the_time(pods: Pods) -> None:
    pod, child = running(pods, "sleep", "60")
    assert lifecycle.wait(pod, 0.05) is False
    child.kill()
    assert lifecycle.wait(pod, 10) is True
    reap(child)


def test_a_pod_that_never_ran_is_not_stopped(pods: Pods) -> None:
    pod = in_place(pods, directory.PREPARED)
    with pytest.raises(UsageError, match="not running but prepared"):
        lifecycle.stop(pods.find(pod.uuid))


def test_only_cgroups_that_bear_the_pods_uuid_are_removed(pods: Pods, tmp_path: Path) -> None:
    pod = in_place(pods, directory.RUN)
    mine, others = tmp_path / f"pyrkt-{pod.uuid}-a", tmp_path / "others"
    mine.mkdir()
    others.mkdir()
    Path(pod.path, "cgroups").write_text(f'{{"remove": ["{mine}", "{others}"], "kill": []}}')
    lifecycle.remove(pods, pods.find(pod.uuid))
    assert not mine.exists()
    assert others.exists()
