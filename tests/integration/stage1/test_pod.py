"""Pods: PID 1 and its apps."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyrkt.spec import steps as s
from pyrkt.stage1 import launch
from tests.support import handmade as hand
from tests.support import oci
from tests.support.handmade import A, E
from tests.support.stage1 import SECONDS, START, failure_of, read_until, run, said, started

pytestmark = pytest.mark.root


def test_pod_runs_its_apps_and_reports_each(rootfs: Path, tmp_path: Path) -> None:
    plan = hand.pod(
        hand.app("one", rootfs, "/bin/sh", "-c", "echo one; exit 0"),
        hand.app("two", rootfs, "/bin/sh", "-c", "echo two; exit 3", ends=False),
        hand.app("three", rootfs, "/bin/sh", "-c", "sleep 0.1; exit 4", ends=False),
        after=((s.EXIT_FILE, E, tmp_path),),
    )
    done = run(plan)
    assert sorted(done.stdout.split()) == ["one", "two"]
    assert done.returncode == 3
    assert [(tmp_path / name).read_text() for name in ("one", "two", "three")] == ["0\n", "3\n", "4\n"]


def test_apps_share_what_the_pod_has_and_own_their_mounts(rootfs: Path) -> None:
    look = "for n in pid net uts ipc mnt; do ls -l /proc/self/ns/$n; done"
    done = run(hand.pod(hand.app("a", rootfs, "/bin/sh", "-c", look), hand.app("b", rootfs, "/bin/sh", "-c", look)))
    names = [word for word in done.stdout.split() if ":[" in word]
    assert len(names) == 10
    assert len({name for name in names if not name.startswith("mnt")}) == 4
    assert len({name for name in names if name.startswith("mnt")}) == 2
    assert os.readlink("/proc/self/ns/mnt") not in names


def test_no_app_starts_before_all_are_set_up(rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    bind = (s.BIND, A, tmp_path / "shared", "/srv", 0, 0, 0, 1)
    plan = hand.pod(
        hand.app("good", rootfs, "/bin/touch", "/srv/started", inside=(bind,)),
        hand.app("bad", rootfs, "/bin/true", inside=((s.BIND, A, "/no/such", "/tmp", 0, 0, 0, 0),)),
    )
    error = failure_of(plan)
    assert 'error mounting "/no/such" to rootfs at "/tmp"' in said(error)
    assert not (tmp_path / "shared" / "started").exists()


def test_a_pod_has_started_when_each_app_is_its_program(rootfs: Path) -> None:
    for _ in range(5):
        good = hand.app("good", rootfs, "/bin/sleep", "60")
        assert "executing /no/such" in said(failure_of(hand.pod(good, hand.app("bad", rootfs, "/no/such"))))


def test_a_failing_app_ends_the_pod(rootfs: Path, tmp_path: Path) -> None:
    plan = hand.pod(
        hand.app("bad", rootfs, "/bin/sh", "-c", "sleep 0.1; exit 9"),
        hand.app("polite", rootfs, "/bin/sleep", "60"),
        hand.app("stubborn", rootfs, "/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"),
        after=((s.EXIT_FILE, E, tmp_path),),
    )
    begin = time.monotonic()
    assert run(plan).returncode == 9
    assert time.monotonic() - begin < 5
    codes = [(tmp_path / name).read_text() for name in ("bad", "polite", "stubborn")]
    assert codes == ["9\n", "143\n", "137\n"]


@pytest.mark.parametrize(("numbers", "code"), [((15,), 143), ((2,), 130), ((2, 2), None)])
def test_pod_is_ended_by_signals(rootfs: Path, numbers: tuple[int, ...], code: int | None) -> None:
    script = "echo ready; sleep 60" if code else "trap '' TERM INT; echo ready; while :; do sleep 0.05; done"
    plan = hand.pod(hand.app("a", rootfs, "/bin/sh", "-c", script), grace_ms=60_000 if code is None else 500)
    with started(plan) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        for number in numbers:
            child.send_signal(number)
            time.sleep(0.05)
        assert child.wait(SECONDS) == (code or 137)


def test_pid_1_reaps_and_has_nothing_to_give(rootfs: Path) -> None:
    script = """
    i=0; while [ $i -lt 50 ]; do (sleep 0.01 &); i=$((i + 1)); done; sleep 0.5
    for file in /proc/[0-9]*/stat; do read -r line < $file; case $line in *") Z "*) echo "$line";; esac; done
    while read -r line; do case $line in CapEff*|NoNewPrivs*) echo "$line";; esac; done < /proc/1/status
    [ -e /proc/1/fd/0 ] && echo open; [ -e /proc/1/root/proc ] && echo seen; exit 0
    """
    done = run(hand.pod(hand.app("a", rootfs, "/bin/sh", "-c", script)))
    assert done.stdout.splitlines() == [f"CapEff:\t{1 << 5:016x}", "NoNewPrivs:\t1"]


def test_pid_1_sees_an_empty_root(rootfs: Path) -> None:
    with started(hand.pod(hand.app("a", rootfs, "/bin/sh", "-c", "echo ready; sleep 60"))) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        (inner,) = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        assert os.listdir(f"/proc/{inner}/root") == []
        assert len(Path(f"/proc/{inner}/mountinfo").read_text().splitlines()) == 1
        # The app may be ready before PID 1 has closed what it started the app with.
        assert oci.eventually(lambda: not places_of(inner)), places_of(inner)


def places_of(pid: str) -> list[str]:
    """Return the directories and files of the host that a process has open."""
    found = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(f"/proc/{pid}/fd/{number}"))
    return [target for target in found if target.startswith(("/proc", "/run", "/tmp")) or target == "/"]


def test_a_detached_pod_is_supervised_to_its_end(rootfs: Path, tmp_path: Path) -> None:
    plan = hand.pod(
        hand.app("a", rootfs, "/bin/sh", "-c", "sleep 0.3; exit 2"),
        after=((s.EXIT_FILE, E, tmp_path), (s.CREATE, E, tmp_path / "done", b"yes", 0o600)),
    )
    pid = launch.start(hand.encode(plan))
    assert Path(f"/proc/{pid}").exists()
    deadline = time.monotonic() + SECONDS
    while not (tmp_path / "done").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert (tmp_path / "a").read_text() == "2\n"
    os.waitpid(-1, 0)


def test_one_app_may_have_the_terminal(rootfs: Path) -> None:
    terminal = (s.TERMINAL, A, 0, 0, "", 0)
    plan = hand.pod(
        hand.app(
            "shell", rootfs, "/bin/sh", "-c", 'tty; read word; echo "<$word>"; exit 3', inside=(terminal,), ends=False
        ),
        hand.app("other", rootfs, "/bin/sh", "-c", "tty; exit 0"),
    )
    master, outer = os.openpty()
    with started(plan, stdin=outer, stdout=outer, stderr=outer) as child:
        read_until(master, b"/dev/pts/0")
        os.write(master, b"word\r")
        read_until(master, b"<word>")
        assert child.wait(SECONDS) == 3
    os.close(master)
    os.close(outer)


def test_two_terminals_are_one_too_many(rootfs: Path) -> None:
    terminal = (s.TERMINAL, A, 0, 0, "", 0)
    plan = hand.pod(
        hand.app("one", rootfs, "/bin/true", inside=(terminal,)),
        hand.app("two", rootfs, "/bin/true", inside=(terminal,)),
    )
    assert os.strerror(errno.EBUSY) in said(failure_of(plan))


def test_a_detached_pod_keeps_none_of_the_callers_pipes(rootfs: Path, tmp_path: Path) -> None:
    log = ((s.OPEN, A, 0, tmp_path / "log", os.O_RDWR | os.O_CREAT), *((s.STDIO, A, 0, fd) for fd in range(3)))
    plan = hand.pod(
        hand.app("a", rootfs, "/bin/sleep", "1", inside=log), after=((s.CREATE, E, tmp_path / "end", b"", 0o600),)
    )
    (tmp_path / "plan").write_bytes(hand.encode(plan))
    code = f"{START}; launch.start(open({str(tmp_path / 'plan')!r}, 'rb').read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=SECONDS)
    # the pipes have ended, the pod has not
    assert done.stdout == done.stderr == b""
    assert not (tmp_path / "end").exists()
    deadline = time.monotonic() + SECONDS
    while not (tmp_path / "end").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
