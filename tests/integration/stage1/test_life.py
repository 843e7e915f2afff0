"""create and start, exec, hooks, user namespaces, cgroups."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path

import pytest

from pyrkt.base.errors import ProgramMissing
from pyrkt.spec import steps as s
from pyrkt.stage1 import launch
from tests.support import handmade as hand
from tests.support.handmade import B, C, E, P, Step
from tests.support.stage1 import SECONDS, cgroup2, failure_of, run, started, subreaper

pytestmark = pytest.mark.root


def wait_plan(rootfs: Path, fifo: Path, *argv: str) -> list[Step]:
    return hand.container(rootfs, *argv, last=((s.WAIT_START, C, fifo, 0),), before=((s.RECORD, P, f"{fifo}.pid"),))


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo", 0o622)
    return tmp_path / "fifo"


def test_a_created_container_waits_and_starts(rootfs: Path, fifo: Path, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    plan = wait_plan(rootfs, fifo, "/bin/sh", "-c", "echo started > /srv/word")
    plan.insert(plan.index((s.PIVOT, C)), (s.BIND, C, tmp_path / "shared", "/srv", 0, 0, 0, 1))
    with subreaper():
        pid = launch.start(hand.encode(plan))
        try:
            recorded, start = Path(f"{fifo}.pid").read_text().split()
            assert int(recorded) == pid
            assert int(start) > 0
            time.sleep(0.05)
            assert not (tmp_path / "shared" / "word").exists()
            assert Path(f"/proc/{pid}/stat").read_text().split()[3] == str(os.getpid())
            opened = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
            assert select.select([opened], [], [], SECONDS)[0]
            os.read(opened, 1)
            os.close(opened)
        finally:
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == 0
    assert (tmp_path / "shared" / "word").read_text() == "started\n"


def test_create_says_at_once_that_the_program_is_missing(rootfs: Path, fifo: Path) -> None:
    plan = wait_plan(rootfs, fifo, "nosuch")
    error = failure_of(plan)
    assert type(error) is ProgramMissing
    assert f"(step {len(plan) - 1})" in error.message


def test_joining_a_container_that_runs(rootfs: Path) -> None:
    with started(hand.container(rootfs, "/bin/sh", "-c", "echo ready; sleep 60")) as child:
        assert child.stdout is not None
        child.stdout.readline()
        (inner,) = (int(pid) for pid in Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split())
        kinds = {"ipc": hand.NEWIPC, "uts": hand.NEWUTS, "net": hand.NEWNET, "pid": hand.NEWPID, "mnt": hand.NEWNS}
        opens = [(s.OPEN, B, slot, f"/proc/{inner}/ns/{kind}", 0) for slot, kind in enumerate(kinds)]
        joins = [(s.SETNS, B, slot, flag) for slot, flag in enumerate(kinds.values())]
        plan: list[Step] = [
            *opens,
            *joins,
            (s.CLONE, B, 0, -1),
            (s.SETSID, C),
            *hand.process(),
            (s.EXEC, C, "/bin/sh", ("sh", "-c", "ps; exit 9"), hand.ENV),
        ]
        done = run(plan)
        assert done.returncode == 9
        assert "sleep 60" in done.stdout
        assert done.stderr == ""


def test_leave_hands_the_program_to_the_subreaper(rootfs: Path) -> None:
    plan = hand.container(rootfs, "/bin/sh", "-c", "sleep 0.2; exit 6", before=((s.LEAVE, B),))
    with subreaper():
        pid = launch.start(hand.encode(plan))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 6


def test_hooks_run_in_their_phases_with_the_state(rootfs: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def hook(phase: int, word: str) -> Step:
        script = f"echo {word} $(cat) $0 $X $(pwd) >> {log}"
        return (s.HOOK, phase, "/bin/sh", ("sh", "-c", script, "arg0"), ("X=y",), 5, '{"pid":', b"}")

    plan = hand.container(
        rootfs,
        "/bin/true",
        before=(hook(P, "early"), (s.MEET, P), hook(P, "met"), (s.STARTED, P), hook(P, "started")),
        inside=((s.MEET, C), hook(C, "inside")),
        after=(hook(E, "ended"),),
    )
    assert run(plan).returncode == 0
    lines = [line.split() for line in log.read_text().splitlines()]
    assert [line[0] for line in lines] == ["early", "met", "inside", "started", "ended"]
    assert all(line[2:4] == ["arg0", "y"] for line in lines)
    assert [line[4] for line in lines] == [os.getcwd(), os.getcwd(), str(rootfs), os.getcwd(), "/"]
    pids = [line[1] for line in lines]
    assert pids[0] == pids[1] == pids[3] != '{"pid":0}'
    assert pids[2] == '{"pid":1}'  # as the container counts
    assert pids[4] == '{"pid":0}'


def test_user_namespace_with_mapped_ids(rootfs: Path) -> None:
    everything = b"0 100000 65536\n"
    for path in (rootfs, *rootfs.rglob("*")):
        os.chown(path, 100000, 100000, follow_symlinks=False)
    rootfs.parent.chmod(0o755)
    plan = hand.container(rootfs, "/bin/sh", "-c", "id -u; cat /proc/self/uid_map", flags=hand.SIX | hand.NEWUSER)
    plan = [step for step in plan if step[0] != s.MKNOD]
    plan.insert(1, (s.MAP_IDS, P, everything, everything, 0))
    plan.insert(2, (s.OOM_SCORE, P, 300))
    plan.insert(3, (s.ROOT_IDS, C))
    parents = [parent for parent in rootfs.parents if parent.stat().st_mode & 0o005 != 0o005 and parent != Path("/")]
    modes = {parent: parent.stat().st_mode for parent in parents}
    for parent in parents:
        parent.chmod(modes[parent] | 0o011)
    try:
        done = run(plan)
    finally:
        for parent, mode in modes.items():
            parent.chmod(mode & 0o7777)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["0", "0", "100000", "65536"]


def test_cgroup_is_entered_at_the_clone_and_removed_with_all_in_it(rootfs: Path) -> None:
    path = cgroup2() / f"pyrkt-test-{os.getpid()}"
    before = ((s.MKDIR, B, path, 0o755), (s.OPEN, B, 0, path, os.O_RDONLY))
    script = "cat /proc/self/cgroup; mkdir -p /cg/below/deeper; (sleep 60 &) ; exit 3"
    bind = (s.BIND, C, path, "/cg", 0, 0, 0, 1)
    # no pid namespace: what is left must be killed by its cgroup
    plan = hand.container(
        rootfs,
        "/bin/sh",
        "-c",
        script,
        before=before,
        inside=(bind,),
        after=((s.RMDIR, E, path),),
        flags=hand.SIX & ~hand.NEWPID,
    )
    plan = [
        (s.CLONE, B, step[2], 0) if step[0] == s.CLONE else step for step in plan if step[:3] != (s.MOUNT, C, "proc")
    ]
    plan.insert(plan.index((s.PIVOT, C)), (s.BIND, C, "/proc", "/proc", 1, 0, 0, 0))
    done = run(plan)
    assert done.returncode == 3
    assert "0::/\n" in done.stdout
    assert not path.exists()


def test_v1_cgroup_is_entered_from_outside_and_removed(rootfs: Path) -> None:
    parent = Path("/sys/fs/cgroup/pids")
    if not (parent / "tasks").exists():
        pytest.skip("no cgroup v1 is mounted here")
    path = parent / f"pyrkt-test-{os.getpid()}"
    before = ((s.MKDIR, B, path, 0o755), (s.WRITE, B, path / "pids.max", b"5"))
    plan = hand.container(
        rootfs,
        "/bin/sh",
        "-c",
        "cat /proc/self/cgroup",
        before=(*before, (s.ENTER_CGROUP, P, path)),
        after=((s.RMDIR, E, path),),
    )
    done = run(plan)
    assert path.name in done.stdout
    assert not path.exists()


def test_signals_go_by_a_program_where_the_plan_has_one(rootfs: Path, tmp_path: Path) -> None:
    """The first process itself is sent nothing but KILL; a program that fails is no reason to end."""
    (tmp_path / "shared").mkdir()
    told = f'echo "$0 $A" >>{tmp_path}/shared/told; exit 3'
    script = "trap 'echo never' TERM HUP; echo ready; while ! test -e /srv/enough; do sleep 0.02; done; cat /srv/told"
    plan = hand.container(
        rootfs,
        *("/bin/sh", "-c", script),
        before=((s.TELL, B, ("/bin/sh", "-c", told, "{signal}"), ("A=b",)),),
        inside=((s.BIND, C, tmp_path / "shared", "/srv", 0, 0, 0, 1),),
    )
    with started(plan) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        for count, number in enumerate((signal.SIGTERM, signal.SIGHUP), 1):
            child.send_signal(number)
            deadline = time.monotonic() + SECONDS
            while not (tmp_path / "shared/told").exists() or (tmp_path / "shared/told").read_text().count("\n") < count:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        (tmp_path / "shared/enough").touch()
        assert child.stdout.read() == b"15 b\n1 b\n"
        assert child.wait(SECONDS) == 0
