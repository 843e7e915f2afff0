"""Terminals beside those of test_oci_terminal: whose they are, how large, and where standard input is none."""

from __future__ import annotations

import array
import json
import os
import pty
import select
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


class Console:
    """What conmon does: a socket that takes the master of the container's terminal."""

    def __init__(self) -> None:
        self.path = Path(f"/tmp/pyrkt-test-tty-{os.getpid()}.sock")
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(self.path))
        self.server.listen(1)
        self.server.settimeout(20)

    def text(self, word: bytes) -> bytes:
        """Return what is printed there, up to ``word``."""
        connection, _ = self.server.accept()
        with connection:
            _, control, _, _ = connection.recvmsg(64, socket.CMSG_SPACE(struct.calcsize("i")))
        descriptors = array.array("i")
        descriptors.frombytes(control[0][2][: descriptors.itemsize])
        found = read_until(descriptors[0], word)
        os.close(descriptors[0])
        return found


def read_until(descriptor: int, word: bytes) -> bytes:
    data, deadline = b"", time.monotonic() + 20
    while word not in data and time.monotonic() < deadline:
        if select.select([descriptor], [], [], 0.1)[0]:
            try:
                data += os.read(descriptor, 4096)
            except OSError:  # EIO: the other side has closed
                break
    return data


@pytest.fixture
def console() -> Iterator[Console]:
    found = Console()
    yield found
    found.server.close()
    found.path.unlink()


def test_without_one_of_the_callers(runtime: Runtime, box: Bundle) -> None:
    """Standard input that is no terminal: the container has one all the same."""
    box.config["process"]["terminal"] = True
    answer = runtime.run(box.script("for fd in 0 1 2; do test -t $fd && readlink /proc/self/fd/$fd; done").path)
    assert (answer.code, answer.out.split()) == (0, ["/dev/pts/0"] * 3), answer.err


@pytest.mark.parametrize(("uid", "gid"), [(0, 0), (1000, 100)])
def test_it_is_its_users(runtime: Runtime, box: Bundle, uid: int, gid: int) -> None:
    """And of the group that the mount of /dev/pts names, which is that of tty."""
    box.config["process"] |= {"user": {"uid": uid, "gid": gid}}
    name = runtime.new_id()
    assert runtime.detached("run", "-d", "-b", str(box.save().path), name).code == 0
    answer = runtime.call("exec", "-t", name, "sh", "-c", "stat -c %u:%g $(tty)")
    assert (answer.code, answer.out.strip()) == (0, f"{uid}:5"), answer.err


def test_the_size_is_the_process_files(runtime: Runtime, box: Bundle, tmp_path: Path, console: Console) -> None:
    name = runtime.new_id()
    assert runtime.detached("run", "-d", "-b", str(box.save().path), name).code == 0
    process = {"terminal": True, "consoleSize": {"height": 10, "width": 110}, "args": ["stty", "size"], "cwd": "/"}
    (tmp_path / "process.json").write_text(json.dumps(process | {"env": ["PATH=/bin"]}))
    words = ("-t", "-d", "--console-socket", str(console.path), "-p", str(tmp_path / "process.json"))
    answer = runtime.detached("exec", *words, name)
    assert answer.code == 0, answer.err
    assert b"10 110" in console.text(b"10 110")


def test_what_is_typed_for_a_program_that_does_not_start_stays(runtime: Runtime, box: Bundle) -> None:
    """It belongs to the caller's terminal until the program runs."""
    box.config["process"]["terminal"] = True
    box.runs("/nonexistent")
    master, slave = pty.openpty()
    os.write(master, b"typed ahead\n")
    command = runtime.argv("run", "-b", str(box.path), runtime.new_id())
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=subprocess.PIPE) as process:
        assert process.wait(30) == 1
        assert process.stderr is not None
        assert b"no such file or directory" in process.stderr.read()
    assert os.read(slave, 64) == b"typed ahead\n"
    os.close(master)
    os.close(slave)
