"""One container: namespaces, mounts, what the program inherits, exit codes, signals."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pyrkt.base.errors import StartFailed
from pyrkt.spec import steps as s
from tests.support import handmade as hand
from tests.support.handmade import B, C, Step
from tests.support.stage1 import LEAKS, SECONDS, failure_of, run, shell, started

pytestmark = pytest.mark.root


def test_namespaces_are_its_own(rootfs: Path) -> None:
    kinds = ("mnt", "uts", "ipc", "pid", "net", "cgroup")
    script = "; ".join(f"ls -l /proc/self/ns/{kind}" for kind in kinds)
    out = shell(rootfs, f"echo $$; {script}")
    assert out.startswith("1\n")
    for kind in kinds:
        assert kind in out
        assert os.readlink(f"/proc/self/ns/{kind}") not in out


def test_hostname_and_sysctl(rootfs: Path) -> None:
    inside = (
        (s.HOSTNAME, C, "box"),
        (s.DOMAINNAME, C, "example"),
        (s.SYSCTL, C, "kernel.msgmax", "4321"),
        (s.SYSCTL, C, "net/ipv4/ip_forward", "1"),
        (s.LOOPBACK, C),
    )
    script = "cd /proc/sys/; cat kernel/hostname kernel/domainname kernel/msgmax net/ipv4/ip_forward"
    assert shell(rootfs, script, inside=inside) == "box\nexample\n4321\n1\n"


def test_only_standard_descriptors_reach_the_program(rootfs: Path) -> None:
    # ls's own look into the directory is the one of the lowest free number
    done = run(hand.container(rootfs, "/bin/ls", "/proc/self/fd"), before=LEAKS)
    assert done.stdout.split() == ["0", "1", "2", "3"]


def test_preserved_descriptors_reach_the_program(rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "gift").write_text("for you\n")
    plan = hand.container(rootfs, "/bin/sh", "-c", "cat <&40; ls /proc/self/fd")
    plan = [(s.CLOSE_FDS, C, 41) if step[:2] == (s.CLOSE_FDS, C) else step for step in plan]
    gifts = f"os.dup2(os.open({str(tmp_path / 'gift')!r}, os.O_RDONLY), 40); os.dup2(40, 41)"
    assert run(plan, before=gifts).stdout.split() == ["for", "you", "0", "1", "2", "3", "40"]


def test_masks_and_read_only_paths(rootfs: Path) -> None:
    script = """
    cat /proc/keys; ls -A /sys/firmware; echo x > /proc/sys/kernel/msgmax && echo written
    touch /sys/firmware/x && echo made
    [ -c /proc/keys ] && echo null; exit 0
    """
    done = run(hand.container(rootfs, "/bin/sh", "-c", script))
    assert done.stdout == "null\n"


def test_a_mask_is_the_true_null_whatever_the_image_brings(rootfs: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("untouched")
    (rootfs / "secret").write_text("hidden")
    plan: list[Step] = [
        (s.CLONE, B, hand.SIX, -1),
        (s.PROPAGATION, C, "/", hand.MS_SLAVE | hand.MS_REC),
        (s.ROOT_BIND, C, rootfs, 1),
        (s.SYMLINK, C, str(canary), "/dev/null"),
        (s.PIVOT, C),
        (s.MASK, C, "/secret"),
        (s.EXEC, C, "/bin/true", ("true",), hand.ENV),
    ]
    failed = failure_of(plan)
    assert isinstance(failed, StartFailed)
    assert "masking /secret" in failed.message


def test_capabilities_and_no_new_privs(rootfs: Path) -> None:
    words = shell(rootfs, "cat /proc/self/status")
    status = dict(line.split(":\t") for line in words.splitlines() if line.startswith(("Cap", "NoNewPrivs")))
    default = f"{hand.DEFAULT_CAPS:016x}"
    assert status == {
        "CapInh": "0" * 16,
        "CapPrm": default,
        "CapEff": default,
        "CapBnd": default,
        "CapAmb": "0" * 16,
        "NoNewPrivs": "1",
    }


def test_user_groups_and_ambient_capabilities(rootfs: Path) -> None:
    bind = 1 << 10
    last = ((s.USER, C, 1000, 100, b"\x05\0\0\0\x14\0\0\0"), (s.CAPS, C, bind, bind, bind, bind), (s.UMASK, C, 0o27))
    out = shell(rootfs, "id -u; id -g; id -G; umask; cat /proc/self/status", last=last)
    assert out.startswith("1000\n100\n100 5 20\n0027\n")
    for name in ("Inh", "Prm", "Eff", "Amb"):
        assert f"Cap{name}:\t{bind:016x}" in out


def test_a_directory_that_only_its_user_may_enter(rootfs: Path) -> None:
    (rootfs / "mine").mkdir(mode=0o700)
    os.chown(rootfs / "mine", 1000, 1000)
    change = 1 << 6 | 1 << 7  # CAP_SETGID, CAP_SETUID: enough to become the user, not to look where root may not
    last = ((s.CAPS, C, change, change, 0, 0), (s.CHDIR, C, "/mine"), (s.USER, C, 1000, 1000, b""))
    assert shell(rootfs, "pwd", last=last) == "/mine\n"
    done = run(hand.container(rootfs, "/bin/true", last=(*last[:2], (s.USER, C, 1001, 1001, b""))))
    assert done.returncode == 125


def test_rlimits_and_oom_score(rootfs: Path) -> None:
    inside = ((s.RLIMIT, C, 7, 100, 200), (s.OOM_SCORE, C, 500))
    assert shell(rootfs, "ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj", inside=inside) == "100\n200\n500\n"


def test_read_only_root(rootfs: Path) -> None:
    plan = hand.container(rootfs, "/bin/sh", "-c", "touch /x")
    plan.insert(plan.index((s.PIVOT, C)) + 1, (s.ROOT_READ_ONLY, C))
    done = run(plan)
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr


def test_bind_mounts_and_their_attributes(rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("data\n")
    (tmp_path / "single").write_text("single\n")
    inside = (
        (s.BIND, C, tmp_path / "data", "/srv/data", 1, 1, 0, 1),
        (s.BIND, C, tmp_path / "single", "/etc/single", 0, 0, 0, 1),
        (s.MKDIR_IN, C, "/tmp/made", 0o750, 7, 8),
    )
    script = "cat /srv/data/file /etc/single; touch /srv/data/new 2>/dev/null || echo no; ls -nd /tmp/made"
    out = shell(rootfs, script, inside=inside)
    assert out.startswith("data\nsingle\nno\ndrwxr-x---")
    assert " 7 " in out
    assert " 8 " in out


def test_overlay_root_with_many_layers(tmp_path: Path, rootfs: Path) -> None:
    odd = tmp_path / ("x" * 100) / ("a:b,c\\" + "y" * 180)
    odd.mkdir(parents=True)
    (odd / "odd").write_text("odd\n")
    for name in ("top", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    (tmp_path / "top" / "word").write_text("top\n")
    plan = hand.container(rootfs, "/bin/sh", "-c", "cat /word /odd; echo new > /new")
    overlay = (tmp_path / "merged", (tmp_path / "top", odd, rootfs), tmp_path / "upper", tmp_path / "work", 1)
    plan = [(s.ROOT_OVERLAY, C, *overlay) if step[0] == s.ROOT_BIND else step for step in plan]
    done = run(plan)
    assert (done.stdout, done.stderr) == ("top\nodd\n", "")
    assert (tmp_path / "upper" / "new").read_text() == "new\n"
    assert list((tmp_path / "merged").iterdir()) == []


@pytest.mark.peers
def test_overlay_root_before_linux_6_7(tmp_path: Path, rootfs: Path) -> None:
    for name in ("top", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    plan = hand.container(rootfs, "/bin/true")
    overlay = (tmp_path / "merged", (tmp_path / "top", rootfs), tmp_path / "upper", tmp_path / "work", 0)
    plan = [(s.ROOT_OVERLAY, C, *overlay) if step[0] == s.ROOT_BIND else step for step in plan]
    # the first fsconfig(2) of all is the overlay's first layer
    refuse = ("strace", "-f", "-o", str(tmp_path / "trace"), "-e", "inject=fsconfig:error=EINVAL:when=1")
    assert run(plan, wrapper=refuse).returncode == 0
    assert 'mount("overlay"' in (tmp_path / "trace").read_text()


@pytest.mark.parametrize(("script", "code"), [("true", 0), ("exit 7", 7), ("kill -9 $$; sleep 1", 0), ("exit 300", 44)])
def test_exit_code_is_the_programs(rootfs: Path, script: str, code: int) -> None:
    # PID 1 does not die of its own SIGKILL
    assert run(hand.container(rootfs, "/bin/sh", "-c", script)).returncode == code


def test_a_killed_program_is_128_and_its_signal(rootfs: Path) -> None:
    plan = hand.container(rootfs, "/bin/sh", "-c", "kill -9 $$", flags=hand.SIX & ~hand.NEWPID)
    plan = [step for step in plan if step[:3] != (s.MOUNT, C, "proc")]
    assert run(plan).returncode == 137


def test_exit_code_with_sigchld_ignored(rootfs: Path) -> None:
    ignore = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
    assert run(hand.container(rootfs, "/bin/sh", "-c", "exit 5"), before=ignore).returncode == 5


def test_program_starts_with_default_signals(rootfs: Path) -> None:
    words = run(
        hand.container(rootfs, "/bin/cat", "/proc/self/status"),
        before="import signal; signal.signal(1, signal.SIG_IGN)",
    )
    status = dict(line.split(":\t") for line in words.stdout.splitlines() if line.startswith("Sig"))
    assert status["SigIgn"] == status["SigBlk"] == status["SigCgt"] == "0" * 16


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT])
def test_signals_are_passed_on(rootfs: Path, number: signal.Signals) -> None:
    script = f"trap 'echo got; exit 3' {number.value}; echo ready; while :; do sleep 0.05; done"
    with started(hand.container(rootfs, "/bin/sh", "-c", script)) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(number)
        assert child.stdout.readline() == b"got\n"
        assert child.wait(SECONDS) == 3


def test_container_ends_with_its_supervisor(rootfs: Path) -> None:
    with started(hand.container(rootfs, "/bin/sh", "-c", "echo ready; sleep 60")) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        child.kill()
        # the pipe's end is the program's end
        assert child.stdout.read() == b""
