"""Pods: PID 1 and its apps."""

from __future__ import annotations

import contextlib
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
from tests.support.handmade import C, E
from tests.support.stage1 import SECONDS, START, failure_of, literal, read_until, run, said, started

pytestmark = pytest.mark.root


def test_pod_runs_its_apps_and_reports_each(rootfs: Path, tmp_path: Path) -> None:
    plan = hand.pod(
        hand.app("one", rootfs, "/bin/sh", "-c", "echo one; exit 0"),
        hand.app("two", rootfs, "/bin/sh", "-c", "echo two; exit 3", ends=0),
        hand.app("three", rootfs, "/bin/sh", "-c", "sleep 0.1; exit 4", ends=0),
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
    bind = (s.BIND, C, tmp_path / "shared", "/srv", 0, 0, 0, 1)
    plan = hand.pod(
        hand.app("good", rootfs, "/bin/touch", "/srv/started", inside=(bind,)),
        hand.app("bad", rootfs, "/bin/true", inside=((s.BIND, C, "/no/such", "/tmp", 0, 0, 0, 0),)),
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
    assert done.stdout.splitlines() == [f"CapEff:\t{0:016x}", "NoNewPrivs:\t1"]


def test_pid_1_sees_an_empty_root(rootfs: Path) -> None:
    with started(hand.pod(hand.app("a", rootfs, "/bin/sh", "-c", "echo ready; sleep 60"))) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        inner, _member = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
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
    pid = launch.start(hand.encode(plan), members=hand.members(plan))
    assert Path(f"/proc/{pid}").exists()
    deadline = time.monotonic() + SECONDS
    while not (tmp_path / "done").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert (tmp_path / "a").read_text() == "2\n"
    os.waitpid(-1, 0)


def test_one_app_may_have_the_terminal(rootfs: Path) -> None:
    terminal = (s.TERMINAL, C, 0, 0, "", 0)
    plan = hand.pod(
        hand.app(
            "shell", rootfs, "/bin/sh", "-c", 'tty; read word; echo "<$word>"; exit 3', inside=(terminal,), ends=0
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


def test_a_detached_pod_keeps_none_of_the_callers_pipes(rootfs: Path, tmp_path: Path) -> None:
    log = ((s.OPEN, C, 0, tmp_path / "log", os.O_RDWR | os.O_CREAT), *((s.STDIO, C, 0, fd) for fd in range(3)))
    waits = ("/bin/sh", "-c", "until [ -e /srv/go ]; do sleep 0.02; done")
    plan = hand.pod(
        hand.app("a", rootfs, *waits, inside=(*log, *bound(tmp_path / "shared"))),
        after=((s.CREATE, E, tmp_path / "end", b"", 0o600),),
    )
    (tmp_path / "plan").write_bytes(literal(plan))
    code = f"{START}; plan, members = eval(open({str(tmp_path / 'plan')!r}, 'rb').read())"
    code += "; launch.start(plan, members=members)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=SECONDS)
    # the pipes have ended, the pod has not
    assert done.stdout == done.stderr == b""
    assert not (tmp_path / "end").exists()
    (tmp_path / "shared/go").touch()
    assert oci.eventually((tmp_path / "end").exists)


# --- what runs before and after, and again ---


def bound(path: Path) -> tuple[hand.Step, ...]:
    path.mkdir()
    return ((s.BIND, C, path, "/srv", 0, 0, 0, 1),)


def say(word: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", f"echo {word} >> /srv/said")


def test_handlers_run_before_and_after_their_app(rootfs: Path, tmp_path: Path) -> None:
    shared = bound(tmp_path / "shared")
    plan = hand.pod(hand.app("a", rootfs, *say("main"), pre=say("pre"), post=say("post"), inside=shared))
    assert run(plan).returncode == 0
    assert (tmp_path / "shared/said").read_text() == "pre\nmain\npost\n"


def test_without_its_pre_start_an_app_does_not_run_and_the_rest_is_tidied_up(rootfs: Path, tmp_path: Path) -> None:
    shared = bound(tmp_path / "shared")
    refuses = ("/bin/sh", "-c", "exit 7")
    plan = hand.pod(
        hand.app("a", rootfs, *say("main"), pre=refuses, post=say("post"), inside=shared),
        after=((s.EXIT_FILE, E, tmp_path),),
    )
    assert run(plan).returncode == 7
    assert (tmp_path / "shared/said").read_text() == "post\n"
    assert (tmp_path / "a").read_text() == "7\n"


def test_nobody_runs_before_every_pre_start_is_done(rootfs: Path, tmp_path: Path) -> None:
    shared = bound(tmp_path / "shared")
    slow = ("/bin/sh", "-c", "sleep 0.3; echo pre >> /srv/said")
    plan = hand.pod(
        hand.app("a", rootfs, *say("a"), pre=slow, inside=shared), hand.app("b", rootfs, *say("b"), inside=shared)
    )
    assert run(plan).returncode == 0
    assert (tmp_path / "shared/said").read_text().split()[0] == "pre"


@pytest.mark.parametrize(
    ("restart", "most", "script", "times", "code"),
    [
        pytest.param(0, 0, "exit 3", 1, 3, id="never"),
        pytest.param(1, 2, "exit 3", 3, 3, id="failing"),
        pytest.param(1, 0, "exit 0", 1, 0, id="done"),
        pytest.param(2, 2, "exit 0", 3, 0, id="always"),
        pytest.param(1, 0, "[ $(wc -l < /srv/said) -gt 3 ]", 4, 0, id="until-it-works"),
    ],
)
def test_an_app_is_started_again(
    rootfs: Path, tmp_path: Path, restart: int, most: int, script: str, times: int, code: int
) -> None:
    shared = bound(tmp_path / "shared")
    words = ("/bin/sh", "-c", f"echo run >> /srv/said; {script}")
    plan = hand.pod(
        hand.app("a", rootfs, *words, restart=restart, most=most, inside=shared, post=say("post")),
        after=((s.EXIT_FILE, E, tmp_path),),
    )
    assert run(plan).returncode == code
    assert (tmp_path / "shared/said").read_text() == "run\npost\n" * times if "wc" not in script else True
    assert (tmp_path / "a").read_text() == f"{code}\n"
    if times > 1 and "wc" not in script:
        assert (tmp_path / "a.restarts").read_text() == f"{times - 1}\n"


def test_apps_end_in_the_other_order_each_by_its_own_signal(rootfs: Path, tmp_path: Path) -> None:
    shared = bound(tmp_path / "shared")

    def ends(name: str, number: str) -> tuple[str, ...]:
        script = f"trap 'echo {name} >> /srv/said; exit 0' {number}; echo {name}; while :; do sleep 0.01; done"
        return ("/bin/sh", "-c", script)

    plan = hand.pod(
        hand.app("a", rootfs, *ends("a", "TERM"), inside=shared),
        hand.app("b", rootfs, *ends("b", "QUIT"), inside=shared, signal=3),
        hand.app("c", rootfs, *ends("c", "TERM"), inside=shared, post=say("after-c")),
        grace_ms=30_000,
    )
    with started(plan) as child:
        assert child.stdout is not None
        assert sorted(child.stdout.readline() for _ in range(3)) == [b"a\n", b"b\n", b"c\n"]
        child.terminate()
        assert child.wait(SECONDS) == 0
    assert (tmp_path / "shared/said").read_text().split()[0] == "c"
    assert [word for word in (tmp_path / "shared/said").read_text().split() if len(word) == 1] == ["c", "b", "a"]


def test_one_that_is_done_may_end_the_pod(rootfs: Path) -> None:
    plan = hand.pod(
        hand.app("a", rootfs, "/bin/true", ends=3), hand.app("b", rootfs, "/bin/sleep", "60", ends=0), grace_ms=100
    )
    assert run(plan).returncode == 143


def test_nothing_of_a_pod_outlives_its_supervisor(rootfs: Path) -> None:
    words = ("/bin/sh", "-c", "echo ready; while :; do sleep 1; done")
    with started(hand.pod(hand.app("a", rootfs, *words), hand.app("b", rootfs, *words))) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == child.stdout.readline() == b"ready\n"
        child.kill()  # the fixture looks for what is left


def test_of_a_member_that_was_killed_the_rest_is_tidied_up(rootfs: Path, tmp_path: Path) -> None:
    script = "(while :; do sleep 0.05; done) & echo ready; wait"
    plan = hand.pod(
        hand.app("a", rootfs, "/bin/sh", "-c", script, after=((s.CREATE, E, tmp_path / "tidied", b"", 0o600),)),
        after=((s.EXIT_FILE, E, tmp_path),),
    )
    with started(plan) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        _first, member = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        os.kill(int(member), 9)
        assert child.wait(SECONDS) == 137
    assert (tmp_path / "a").read_text() == "137\n"
    assert (tmp_path / "tidied").exists()
