"""Steps that fail say which they are and why; after them the host is as before."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyrkt.base.errors import NotExecutable, ProgramMissing, StartFailed
from pyrkt.spec import steps as s
from pyrkt.stage1 import launch
from tests.support import handmade as hand
from tests.support.handmade import B, C, E, Step
from tests.support.stage1 import SECONDS, START, failure_of, run, said

pytestmark = pytest.mark.root


def test_failing_steps_say_which_and_why(rootfs: Path) -> None:
    cases: list[tuple[Step, str]] = [
        (
            (s.MOUNT, C, "nosuchfs", "x", "/tmp", 0, "", 0),
            'error mounting "x" to rootfs at "/tmp" (step {}): creating the file system',
        ),
        (
            (s.MOUNT, C, "tmpfs", "x", "/gone", 0, "", 0),
            'error mounting "x" to rootfs at "/gone" (step {}): finding the target',
        ),
        (
            (s.MOUNT, C, "tmpfs", "x", "/tmp", 0, "size=much", 0),
            'error mounting "x" to rootfs at "/tmp" (step {}): setting an option',
        ),
        (
            (s.BIND, C, "/no/such/dir", "/tmp", 0, 0, 0, 1),
            'error mounting "/no/such/dir" to rootfs at "/tmp" (step {}): opening the source',
        ),
        ((s.SYSCTL, C, "no.such", "1"), "setting the kernel parameter no.such to '1' (step {}): No such file"),
        ((s.SYSCTL, C, "../1/comm", "1"), "setting the kernel parameter ../1/comm to '1' (step {}): "),
        ((s.APPARMOR, C, "profile"), "applying the AppArmor profile profile (step {}): "),
        ((s.SETNS, C, 9, 0), "joining a namespace (step {}): Bad file descriptor"),
        (
            (s.MKNOD, C, "/dev/null", 0o20666, os.makedev(1, 5), 0, 0),
            "making the device /dev/null (step {}): it is not",
        ),
        ((s.MKNOD, C, "/etc/..", 0o20666, os.makedev(1, 5), 0, 0), "making the device /etc/.. (step {}): "),
        ((s.SECCOMP, C, 0, b"1234567"), "loading the seccomp filter (step {}): Invalid argument"),
        (
            (s.HOOK, C, "/bin/false", ("false",), (), 0, "{", b"}"),
            "running the hook /bin/false (step {}): it failed with code 1",
        ),
        (
            (s.HOOK, C, "/no/hook", ("hook",), (), 0, "{", b"}"),
            "running the hook /no/hook (step {}): it failed with code 127",
        ),
        (
            (s.HOOK, C, "/bin/sleep", ("sleep", "9"), (), 1, "{", b"}"),
            "running the hook /bin/sleep (step {}): it took too long",
        ),
    ]
    for step, words in cases:
        plan = hand.container(rootfs, "/bin/true", inside=(step,))
        assert words.format(plan.index(step)) in said(failure_of(plan))


@pytest.mark.parametrize(
    ("program", "kind", "number"),
    [
        ("/no/such", ProgramMissing, errno.ENOENT),
        ("nosuch", ProgramMissing, errno.ENOENT),
        ("/bin/true/x", ProgramMissing, errno.ENOTDIR),
        ("/etc", NotExecutable, errno.EACCES),
        ("/etc/plain", NotExecutable, errno.EACCES),
        ("/etc/words", NotExecutable, errno.ENOEXEC),
    ],
)
def test_programs_that_cannot_be_executed(rootfs: Path, program: str, kind: type[StartFailed], number: int) -> None:
    (rootfs / "etc" / "plain").write_text("x")
    (rootfs / "etc" / "words").write_text("x")
    (rootfs / "etc" / "words").chmod(0o755)
    error = failure_of(hand.container(rootfs, program))
    assert type(error) is kind
    assert os.strerror(number) in said(error)
    # and in the foreground, where nobody is told to say why, the code alone
    assert run(hand.container(rootfs, program)).returncode == kind.exit_code


def test_on_failure_has_all_that_is_needed_to_say_why(rootfs: Path) -> None:
    code = (
        "import sys; from pyrkt.stage1 import launch; e = launch.failed(sys.argv[1:]); "
        "print(e.message); sys.exit(e.exit_code)"
    )
    say = (s.ON_FAILURE, B, (sys.executable, "-c", code, "--"))
    plan = hand.container(rootfs, "/no/such", before=(say,))
    read, write = os.pipe()
    os.write(write, hand.encode(plan))
    os.close(write)
    causes = [f"config.json: place {index}" for index in range(len(plan))]
    start = f"{START}; launch.run(open({read}, 'rb').read(), tuple({causes!r}))"
    done = subprocess.run(
        [sys.executable, "-c", start], pass_fds=[read], capture_output=True, text=True, check=False, timeout=SECONDS
    )
    os.close(read)
    index = len(plan) - 1
    assert done.stdout == f"executing /no/such (config.json: place {index}): No such file or directory\n"
    assert done.returncode == 127


def test_a_damaged_plan_is_refused() -> None:
    error = failure_of([(s.CLONE, B, 0, -1)])
    assert "stage1 refused the plan" in said(error)


def test_a_plan_that_could_change_is_refused(rootfs: Path) -> None:
    data = hand.encode(hand.container(rootfs, "/bin/true"))
    descriptor = os.memfd_create("open", 0)
    os.write(descriptor, data)
    done = subprocess.run([launch.binary(), str(descriptor), "-"], pass_fds=[descriptor], check=False, timeout=SECONDS)
    os.close(descriptor)
    assert done.returncode == 125


def test_after_steps_run_whatever_happens(rootfs: Path, tmp_path: Path) -> None:
    after = (
        (s.RMDIR, E, tmp_path / "full"),
        (s.UNLINK, E, tmp_path / "gone"),
        (s.RENAME, E, tmp_path / "run", tmp_path / "exited"),
        (s.EXIT_FILE, E, tmp_path / "code"),
        (s.RMDIR, E, tmp_path / "empty"),
    )
    for program, code in (("/bin/false", "1\n"), ("/no/such", "127\n")):
        for name in ("full/inside", "run", "empty"):
            (tmp_path / name).mkdir(parents=True, exist_ok=True)
        run(hand.container(rootfs, program, after=after))
        assert (tmp_path / "code").read_text() == code
        assert not (tmp_path / "empty").exists()
        assert (tmp_path / "full").exists()
        (tmp_path / "exited").rmdir()
