"""Terminals: relayed, or handed to a console socket."""

from __future__ import annotations

import array
import os
import signal
import socket
import subprocess
import termios
from pathlib import Path

import pytest

from pyrkt.spec import steps as s
from tests.support import handmade as hand
from tests.support import tty
from tests.support.handmade import C
from tests.support.stage1 import SECONDS, failure_of, read_until, run, said, started

pytestmark = pytest.mark.root


def test_terminal_is_relayed(rootfs: Path) -> None:
    script = """
    tty; stty size; trap 'stty size' WINCH; echo ready
    while ! read a; do :; done
    echo "<$a>"; ls -l /dev/console; exit 4
    """
    plan = hand.container(rootfs, "/bin/sh", "-c", script, inside=((s.TERMINAL, C, 0, 0, "", 0),))
    master, outer = os.openpty()
    tty.set_size(outer, 33, 77)
    settings = termios.tcgetattr(outer)
    with started(plan, stdin=outer, stdout=outer, stderr=outer) as child:
        seen = read_until(master, b"ready")
        assert b"/dev/pts/0\r\n33 77\r\n" in seen
        tty.set_size(outer, 44, 88)
        child.send_signal(signal.SIGWINCH)
        read_until(master, b"44 88")
        os.write(master, b"hello\r")
        seen = read_until(master, b"console")
        assert b"<hello>" in seen
        assert child.wait(SECONDS) == 4
    assert termios.tcgetattr(outer) == settings
    os.close(master)
    os.close(outer)


def test_control_c_reaches_the_container(rootfs: Path) -> None:
    plan = hand.container(
        rootfs,
        "/bin/sh",
        "-c",
        "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done",
        inside=((s.TERMINAL, C, 0, 0, "", 0),),
    )
    master, outer = os.openpty()
    with started(plan, stdin=outer, stdout=outer, stderr=outer) as child:
        read_until(master, b"ready")
        os.write(master, b"\x03")
        read_until(master, b"caught")
        assert child.wait(SECONDS) == 5
    os.close(master)
    os.close(outer)


def test_terminal_with_a_pipe_as_input(rootfs: Path) -> None:
    plan = hand.container(rootfs, "/bin/sh", "-c", "cat; echo end", inside=((s.TERMINAL, C, 10, 20, "", 0),))
    with started(plan, stdin=subprocess.PIPE) as child:
        out, _ = child.communicate(b"words\n", SECONDS)
    assert out.endswith(b"words\nend\n")  # a pipe wants no terminal's CR


def test_a_flood_of_output_arrives_whole(rootfs: Path) -> None:
    plan = hand.container(
        rootfs, "/bin/sh", "-c", "head -c 300000 /dev/zero; echo end", inside=((s.TERMINAL, C, 0, 0, "", 0),)
    )
    done = run(plan)
    assert done.stdout.count("\0") == 300000
    assert done.stdout.endswith("end\n")


@pytest.mark.parametrize("depth", [1, 12])
def test_terminal_goes_to_the_console_socket(rootfs: Path, tmp_path: Path, depth: int) -> None:
    directory = tmp_path.joinpath(*["a-long-directory"] * depth)
    directory.mkdir(parents=True)
    listener = socket.socket(socket.AF_UNIX)
    short = os.open(directory, os.O_PATH)
    listener.bind(f"/proc/self/fd/{short}/console")
    os.close(short)
    listener.listen()
    plan = hand.container(
        rootfs, "/bin/sh", "-c", "stty size; exit 8", inside=((s.TERMINAL, C, 24, 80, directory / "console", 0),)
    )
    with started(plan) as child:
        listener.settimeout(SECONDS)
        connection, _ = listener.accept()
        data, control, _flags, _address = connection.recvmsg(64, socket.CMSG_SPACE(4))
        assert data
        fds = array.array("i")
        fds.frombytes(control[0][2][:4])
        assert b"24 80" in read_until(fds[0], b"80")
        assert child.wait(SECONDS) == 8
        os.close(fds[0])
        connection.close()
    listener.close()


def test_a_console_socket_that_nobody_listens_on(rootfs: Path, tmp_path: Path) -> None:
    plan = hand.container(rootfs, "/bin/true", inside=((s.TERMINAL, C, 0, 0, tmp_path / "none", 0),))
    assert "reaching the console socket: No such file" in said(failure_of(plan))


def test_a_terminal_multiplexer_of_the_images_making(rootfs: Path) -> None:
    plan = hand.container(rootfs, "/bin/true", inside=((s.TERMINAL, C, 0, 0, "", 0),))
    plan = [step for step in plan if step[:3] != (s.MOUNT, C, "devpts")]
    node = (s.MKNOD, C, "/dev/pts/ptmx", 0o20666, os.makedev(1, 5), 0, 0)
    plan.insert(plan.index((s.PIVOT, C)) - 1, node)
    assert "setting the terminal up" in said(failure_of(plan))
