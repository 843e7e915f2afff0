"""--pidfd-socket: whoever listens there gets the process itself, not a number that may be used again."""

from __future__ import annotations

import array
import os
import signal
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyrkt.kernel import pidfd
from tests.support import oci

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


class Listener:
    """A socket that takes one descriptor."""

    def __init__(self) -> None:
        self.path = Path(f"/tmp/pyrkt-test-pidfd-{os.getpid()}.sock")
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(self.path))
        self.server.listen(1)
        self.server.settimeout(20)

    def receive(self) -> int:
        connection, _ = self.server.accept()
        with connection:
            _, control, _, _ = connection.recvmsg(64, socket.CMSG_SPACE(struct.calcsize("i")))
        descriptors = array.array("i")
        descriptors.frombytes(control[0][2][: descriptors.itemsize])
        return descriptors[0]


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    yield found
    found.server.close()
    found.path.unlink()


def pid_of(descriptor: int) -> int:
    fields = Path(f"/proc/self/fdinfo/{descriptor}").read_text().split()
    return int(fields[fields.index("Pid:") + 1])


@pytest.mark.parametrize("verb", [["create"], ["run", "-d"]], ids=" ".join)
def test_of_the_first_process(runtime: Runtime, box: Bundle, listener: Listener, verb: list[str]) -> None:
    box.save()
    name = runtime.new_id()
    answer = runtime.detached(*verb, "--pidfd-socket", str(listener.path), "-b", str(box.path), name)
    assert answer.code == 0, answer.err
    descriptor = listener.receive()
    assert pid_of(descriptor) == runtime.state(name)["pid"]
    # One that waits to be started ends by what would end its program, though it is PID 1.
    pidfd.send_signal(descriptor, signal.SIGTERM if verb == ["create"] else signal.SIGKILL)
    assert pidfd.wait(descriptor, 10)
    os.close(descriptor)
    assert oci.eventually(lambda: runtime.state(name)["status"] == "stopped")


def test_of_an_execd_process(runtime: Runtime, box: Bundle, listener: Listener, tmp_path: Path) -> None:
    box.save()
    name = runtime.new_id()
    assert runtime.detached("run", "-d", "-b", str(box.path), name).code == 0
    words = ("--pidfd-socket", str(listener.path), "--pid-file", str(tmp_path / "pid"))
    assert runtime.detached("exec", "-d", *words, name, "sleep", "300").code == 0
    descriptor = listener.receive()
    assert pid_of(descriptor) == int((tmp_path / "pid").read_text())
    pidfd.send_signal(descriptor, signal.SIGKILL)
    assert pidfd.wait(descriptor, 10)
    os.close(descriptor)
    assert runtime.state(name)["status"] == "running"


def test_nobody_listens(runtime: Runtime, box: Bundle) -> None:
    box.save()
    name = runtime.new_id()
    answer = runtime.detached("create", "--pidfd-socket", "/tmp/pyrkt-test-nobody", "-b", str(box.path), name)
    assert answer.code == 1
    assert "sending a pidfd to /tmp/pyrkt-test-nobody" in answer.err
    assert runtime.call("state", name).code == 1
