"""A seccomp agent: gets listeners and states over a socket, and answers the calls that wait for it."""

from __future__ import annotations

import array
import fcntl
import json
import os
import select
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# include/uapi/linux/seccomp.h: struct seccomp_notif (id, pid, flags, data), struct seccomp_notif_resp
_NOTIF, _RESPONSE = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
_RECEIVE = 3 << 30 | _NOTIF.size << 16 | ord("!") << 8
_SEND = 3 << 30 | _RESPONSE.size << 16 | ord("!") << 8 | 1
_CONTINUE = 1


class Agent:
    """Answers every call with ``errno``, or lets it go on if that is 0; ``states`` are what it was sent."""

    def __init__(self, path: Path, errno: int) -> None:
        self.path, self.errno = path, errno
        self.states: list[dict[str, Any]] = []
        self.calls: list[int] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._listeners: list[int] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """End the agent; calls that wait for it then do not exist."""
        self._stop.set()
        self._thread.join()
        self._socket.close()
        for listener in self._listeners:
            os.close(listener)
        self._listeners = []

    def _serve(self) -> None:
        while not self._stop.is_set():
            door = self._socket.fileno()
            ready, _, _ = select.select([door, *self._listeners], [], [], 0.05)
            for one in ready:
                if one == door:
                    self._accept()
                else:
                    self._answer(one)

    def _accept(self) -> None:
        connection, _ = self._socket.accept()
        with connection:
            words, control, *_ = connection.recvmsg(65536, socket.CMSG_SPACE(16))
        self.states.append(json.loads(words))
        fds = array.array("i")
        for _level, _kind, data in control:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        self._listeners += fds.tolist()

    def _answer(self, listener: int) -> None:
        buffer = bytearray(_NOTIF.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, buffer)
            notified = _NOTIF.unpack(buffer)
            self.calls.append(notified[3])
            answer = _RESPONSE.pack(notified[0], 0, -self.errno, 0 if self.errno else _CONTINUE)
            fcntl.ioctl(listener, _SEND, bytearray(answer))
        except OSError:
            # Who called is gone; with its last process the listener has nothing more to say.
            self._listeners.remove(listener)
            os.close(listener)


def serving(path: Path, errno: int = 0) -> Iterator[Agent]:
    """Yield an agent at ``path``."""
    agent = Agent(path, errno)
    try:
        yield agent
    finally:
        agent.close()
