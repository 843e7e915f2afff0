"""Terminals: one handed over by the console socket, one relayed to the caller's own."""

from __future__ import annotations

import array
import fcntl
import os
import pty
import select
import socket
import struct
import subprocess
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import bundle, oci

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    found = oci.ours(tmp_path)
    with oci.nothing_left(tmp_path):
        yield found
        found.clean()


@pytest.fixture
def box(tmp_path: Path) -> Bundle:
    made = bundle.make(tmp_path / "bundle")
    made.config["process"]["terminal"] = True
    return made.save()


def read_until(descriptor: int, word: bytes, seconds: float = 10.0) -> bytes:
    data, deadline = b"", time.monotonic() + seconds
    while word not in data and time.monotonic() < deadline:
        if not select.select([descriptor], [], [], 0.1)[0]:
            continue
        try:
            chunk = os.read(descriptor, 4096)
        except OSError:  # EIO: the other side has closed
            break
        if not chunk:
            break
        data += chunk
    return data


class Console:
    """What conmon does: a socket that takes the master of the container's terminal."""

    def __init__(self, path: Path) -> None:
        self.path, self.server = path, socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen(1)
        self.server.settimeout(10)

    def receive(self) -> int:
        connection, _ = self.server.accept()
        with connection:
            data, control, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(struct.calcsize("i")))
        assert data
        ((level, kind, payload),) = control
        assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        descriptors = array.array("i")
        descriptors.frombytes(payload[: descriptors.itemsize])
        return descriptors[0]


@pytest.fixture
def console() -> Iterator[Console]:
    path = Path(f"/tmp/pyrkt-test-{os.getpid()}.sock")  # sun_path takes 107 bytes
    found = Console(path)
    yield found
    found.server.close()
    path.unlink()


def test_the_console_socket_gets_the_master(runtime: Runtime, box: Bundle, console: Console) -> None:
    box.config["process"]["consoleSize"] = {"height": 33, "width": 77}
    box.script(
        "tty; stty size; test -t 0 && test -t 1 && test -t 2 && echo all; ls -l /dev/console; read x; echo got $x"
    )
    name = runtime.new_id()
    created = runtime.detached("create", "--console-socket", str(console.path), "-b", str(box.path), name)
    assert created.code == 0, created.err
    master = console.receive()
    try:
        assert runtime.call("start", name).code == 0
        text = read_until(master, b"/dev/console")
        assert b"/dev/pts/0" in text or b"/dev/console" in text
        assert b"33 77" in text
        assert b"all" in text
        os.write(master, b"hello\n")
        assert b"got hello" in read_until(master, b"got hello")
    finally:
        os.close(master)
    assert oci.eventually(lambda: runtime.state(name)["status"] == "stopped")


def test_a_terminal_belongs_to_its_user(runtime: Runtime, box: Bundle, console: Console) -> None:
    box.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    box.script("stat -c 'owner %u %a' $(tty); echo > $(tty) && echo can-write")
    name = runtime.new_id()
    assert runtime.detached("run", "-d", "--console-socket", str(console.path), "-b", str(box.path), name).code == 0
    master = console.receive()
    text = read_until(master, b"can-write")
    os.close(master)
    assert b"owner 1000 620" in text
    assert b"can-write" in text


@pytest.mark.parametrize(
    ("words", "terminal", "message"),
    [
        (["create"], True, "will detach without setting console socket"),
        (["run", "-d"], True, "will detach without setting console socket"),
        (["create", "--console-socket", "/tmp/x"], False, "will not detach or allocate tty"),
        (["run", "--console-socket", "/tmp/x"], True, "will not detach or allocate tty"),
    ],
)
def test_a_terminal_that_nobody_could_reach_is_refused(
    runtime: Runtime, box: Bundle, words: list[str], terminal: bool, message: str
) -> None:
    box.config["process"]["terminal"] = terminal
    answer = runtime.call(*words, "-b", str(box.save().path), runtime.new_id())
    assert answer.code == 1
    assert message in answer.err


def test_a_missing_console_socket_is_one_line(runtime: Runtime, box: Bundle) -> None:
    answer = runtime.call("create", "--console-socket", "/tmp/pyrkt-test-none", "-b", str(box.path), runtime.new_id())
    assert answer.code == 1
    assert answer.err.count("\n") == 1
    assert "no such file" in answer.err


def test_the_foreground_relays_a_terminal_of_its_own(runtime: Runtime, box: Bundle) -> None:
    box.script("stty size; tty; read x; echo got $x; read y; stty size; exit 6")
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 99, 0, 0))
    before = termios.tcgetattr(slave)
    with subprocess.Popen(
        runtime.argv("run", "-b", str(box.path), runtime.new_id()),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - there is one thread
    ) as process:
        text = read_until(master, b"/dev/")
        assert b"31 99" in text
        os.write(master, b"hello\n")
        assert b"got hello" in read_until(master, b"got hello")
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 55, 0, 0))
        time.sleep(0.2)
        os.write(master, b"\n")
        assert b"44 55" in read_until(master, b"44 55")
        assert process.wait(10) == 6
    assert termios.tcgetattr(slave)[3] == before[3]  # the caller's terminal is as it was
    os.close(master)
    os.close(slave)


def test_exec_with_a_terminal(runtime: Runtime, box: Bundle, console: Console) -> None:
    box.config["process"]["terminal"] = False
    box.runs("sleep", "60")
    name = runtime.new_id()
    assert runtime.detached("run", "-d", "-b", str(box.path), name).code == 0
    words = ("exec", "-t", "-d", "--console-socket", str(console.path), name, "sh", "-c", "tty; read x; echo got $x")
    answer = runtime.detached(*words)
    assert answer.code == 0, answer.err
    master = console.receive()
    assert b"/dev/pts/" in read_until(master, b"/dev/pts/")
    os.write(master, b"you\n")
    assert b"got you" in read_until(master, b"got you")
    os.close(master)
