"""Root file systems that want out."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pyrkt.base.errors import StartFailed
from pyrkt.kernel.process import capabilities, start_time
from pyrkt.spec import steps as s
from pyrkt.stage1 import launch
from tests.support import handmade as hand
from tests.support.handmade import B, C
from tests.support.stage1 import LEAKS, failure_of, run, said, shell

pytestmark = pytest.mark.root


@pytest.mark.parametrize("name", ["/dev", "/dev/pts", "/dev/console"])
def test_nothing_is_made_outside_through_links(rootfs: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    if name == "/dev":
        (rootfs / "dev").rmdir()
        (rootfs / "dev").symlink_to(outside)
        plan = hand.container(rootfs, "/bin/true")
        plan = [step for step in plan if step[:3] != (s.MOUNT, C, "tmpfs")]
    else:
        (rootfs / "up").symlink_to(f"../../../../..{outside}")
        make = (s.MKNOD, C, "/up/node", 0o20666, os.makedev(1, 3), 0, 0)
        link = (s.SYMLINK, C, "text", "/up/link")
        plan = hand.container(rootfs, "/bin/true", inside=(make, link, (s.MKDIR_IN, C, "/up/dir", 0o755, 0, 0)))
    run(plan)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("kind", ["proc", "sysfs"])
def test_proc_and_sys_must_be_true_directories(rootfs: Path, kind: str) -> None:
    name = {"proc": "proc", "sysfs": "sys"}[kind]
    (rootfs / name).rmdir()
    (rootfs / name).symlink_to("tmp")
    words = said(failure_of(hand.container(rootfs, "/bin/true")))
    assert f'to rootfs at "/{name}" ' in words
    assert f'filesystem "{kind}" must be mounted on ordinary directory' in words
    assert os.strerror(errno.ELOOP) in words


def test_a_link_into_proc_is_no_mount_point(rootfs: Path) -> None:
    (rootfs / "harmless").symlink_to("/proc/sys")
    words = said(
        failure_of(hand.container(rootfs, "/bin/true", inside=((s.BIND, C, "/etc", "/harmless", 0, 0, 0, 0),)))
    )
    assert "procfs" in words


@pytest.mark.parametrize("way", ["1/root/bin/true", "../bin/true", "bin/true"])
def test_no_program_is_found_through_a_descriptor_of_ours(rootfs: Path, way: str) -> None:
    (rootfs / "link").symlink_to("/proc/self/fd")
    every = capabilities()["permitted"]
    for number in range(3, 20):
        plan = hand.container(rootfs, f"/link/{number}/{way}")
        at = plan.index((s.CAPS, C, hand.DEFAULT_CAPS, hand.DEFAULT_CAPS, 0, 0))
        plan[at] = (s.CAPS, C, every, every, 0, 0)
        plan.remove((s.CAPS_BOUND, C, hand.DEFAULT_CAPS))
        assert run(plan, before=LEAKS).returncode == 127, number


@pytest.mark.parametrize("directory", ["/proc/self/fd/7", "/proc/self/fd/8/.."])
def test_the_working_directory_lies_inside(rootfs: Path, directory: str) -> None:
    plan = hand.container(rootfs, "/bin/ls", "-d", "home")
    plan.insert(plan.index((s.PIVOT, C)) + 1, (s.CHDIR, C, directory))
    done = run(plan, before=LEAKS)
    assert (done.returncode, done.stdout) == (125, "")


def test_own_executable_cannot_be_written(rootfs: Path) -> None:
    before = Path(launch.binary()).read_bytes()
    for program in ("/proc/self/exe", "/proc/1/exe"):
        run(hand.container(rootfs, "/bin/sh", "-c", f"echo pwned > {program}"))
    plan = hand.pod(hand.app("a", rootfs, "/bin/sh", "-c", "echo x > /proc/1/exe && echo pwned; ls -l /proc/1/ 2>&1"))
    done = run(plan)
    assert "pwned" not in done.stdout
    assert Path(launch.binary()).read_bytes() == before
    # an executable that is stage1 itself: by the time it could be asked for, it is the sealed copy
    assert run(hand.container(rootfs, "/proc/self/exe")).returncode != 0


def test_device_number_decides_not_the_name(rootfs: Path) -> None:
    assert shell(rootfs, "echo x > /dev/null; head -c 3 /dev/zero | cat | ls -l /dev/full").startswith("crw-rw-rw-")


def test_a_number_used_again_is_not_who_it_was(rootfs: Path) -> None:
    me, started = os.getpid(), start_time(os.getpid())
    assert run(hand.container(rootfs, "/bin/true", before=((s.STILL, B, me, started),))).returncode == 0
    for pid, time in ((me, started - 1), (2**22 - 1, started)):
        error = failure_of(hand.container(rootfs, "/bin/true", before=((s.STILL, B, pid, time),)))
        assert f"namespaces of process {pid}" in said(error)
        assert isinstance(error, StartFailed)
        assert error.hint == "the container has ended meanwhile"
