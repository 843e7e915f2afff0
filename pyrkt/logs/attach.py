"""Being attached to an app: the other end of the socket of stage1's attach.c, which describes the messages."""

from __future__ import annotations

import os
import select
import signal
import socket
from typing import TYPE_CHECKING

from pyrkt.base.errors import Busy, NotFound, PyrktError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

STDIN, STDOUT, STDERR, TTY_IN, TTY_OUT = 1, 2, 4, 8, 16
INPUT = STDIN | TTY_IN
NAMES = {STDIN: "stdin", STDOUT: "stdout", STDERR: "stderr", TTY_IN: "tty-in", TTY_OUT: "tty-out"}
_LARGEST, _INPUT = 1 << 16, 4096
_ANSWER_S = 10.0
_DETACH = b"\x10\x11"  # ctrl-p ctrl-q


def names(mask: int) -> list[str]:
    """Return the names of the endpoints in ``mask``."""
    return [name for bit, name in NAMES.items() if mask & bit]


class Link:
    """A connection to the attach socket ``path`` of a running app."""

    def __init__(self, path: str, about: str) -> None:
        """Connect. ``about`` names the app in complaints. Raises: NotFound if it does not run, Busy."""
        self.about = about
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(_ANSWER_S)
        try:
            # by its directory: the whole path may be longer than an address of a socket can be
            directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
            try:
                self.socket.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
            finally:
                os.close(directory)
        except (FileNotFoundError, ConnectionRefusedError):
            self.socket.close()
            raise NotFound(f"{about} does not run", hint="pyrkt status shows its apps") from None
        except (TimeoutError, BlockingIOError):
            self.socket.close()
            raise Busy(f"{about} has as many attached to it as it can have", hint="one of them must go first") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.socket.close()

    def ask(self, wanted: int) -> tuple[int, int]:
        """Attach to the endpoints ``wanted``; return the masks of those there are and of those given."""
        try:
            self.socket.send(bytes((*b"a", wanted)))
            answer = self.socket.recv(_LARGEST)
        except TimeoutError:
            raise Busy(f"{self.about} has as many attached to it as it can have", hint="one must go first") from None
        except OSError:
            answer = b""
        if len(answer) != 3 or answer[:1] != b"a":
            raise NotFound(f"{self.about} has just ended", hint="pyrkt logs shows what it has written")
        return answer[1], answer[2]

    def resize(self, rows: int, columns: int) -> None:
        """Tell the terminal of the app its size; where it cannot be said now, the next change will be."""
        try:
            self.socket.send(b"w" + rows.to_bytes(2, "little") + columns.to_bytes(2, "little"), socket.MSG_DONTWAIT)
        except OSError:
            return


class Detach(Exception):
    """The keys to detach were pressed."""


class Keys:
    """Finds ctrl-p ctrl-q in what is typed."""

    def __init__(self) -> None:
        """Begin with nothing typed."""
        self._held = b""

    def typed(self, data: bytes) -> bytes:
        """Return what of ``data`` is for the app; a ctrl-p waits for what comes after it. Raises: Detach."""
        data = self._held + data
        if _DETACH in data:
            raise Detach
        self._held = _DETACH[:1] if data.endswith(_DETACH[:1]) else b""
        return data.removesuffix(self._held) if self._held else data


class Pump:
    """Carries bytes between a link and our own standard descriptors.

    ``stdin``: the descriptor to read input from, -1 for none. ``keys``: ctrl-p ctrl-q detaches.
    ``screen``: a descriptor of the terminal whose size the app's is to have, -1 for none.
    """

    def __init__(self, link: Link, *, stdin: int = -1, keys: bool = False, screen: int = -1) -> None:
        """Nothing is carried yet."""
        self.link, self.stdin, self.screen = link, stdin, screen
        self._keys = Keys() if keys else None
        self._waiting = b""

    def run(self) -> bool:
        """Carry until the app has ended (True) or we are detached by the keys (False).

        Raises: PyrktError if the app's side has dropped us.
        """
        try:
            with _resized() as changed:
                self._fit()
                while self._step(changed):
                    pass
        except Detach:
            return False
        return True

    def _fit(self) -> None:
        if self.screen >= 0:
            size = os.get_terminal_size(self.screen)
            self.link.resize(size.lines, size.columns)

    def _step(self, changed: int) -> bool:
        poll = select.poll()
        poll.register(changed, select.POLLIN)
        poll.register(self.link.socket, select.POLLIN | (select.POLLOUT if self._waiting else 0))
        if self.stdin >= 0 and not self._waiting:
            poll.register(self.stdin, select.POLLIN)
        ready = dict(poll.poll())
        if changed in ready:
            os.read(changed, 4096)
            self._fit()
        if ready.get(self.link.socket.fileno(), 0) & select.POLLOUT:
            self._send()
        if ready.get(self.link.socket.fileno(), 0) & ~select.POLLOUT and not self._receive():
            return False
        if self.stdin in ready:
            self._type()
        return True

    def _type(self) -> None:
        data = os.read(self.stdin, _INPUT - 1)
        if not data:
            self.stdin = -1
            self._waiting = b"c"
        else:
            data = self._keys.typed(data) if self._keys else data
            self._waiting = b"i" + data if data else b""
        if self._waiting:
            self._send()

    def _send(self) -> None:
        try:
            self.link.socket.send(self._waiting, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            self.stdin = -1  # whatever is still to be read says why
        self._waiting = b""

    def _receive(self) -> bool:
        try:
            message = self.link.socket.recv(_LARGEST, socket.MSG_DONTWAIT)
        except (BlockingIOError, ConnectionResetError):
            return True  # reset: what we have sent will not be read, but what was sent to us is still there
        if message[:1] == b"x":
            return False
        if not message:
            raise PyrktError(
                f"{self.link.about} has let us go: this reader was too slow, or its supervisor was killed",
                hint="pyrkt logs -f loses nothing",
            )
        _write(2 if message[:1] == b"e" else 1, message[1:])
        return True


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


class _resized:  # noqa: N801 - reads as a state
    """While it lasts, the descriptor that it gives is readable whenever our window has changed."""

    def __enter__(self) -> int:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before = signal.signal(signal.SIGWINCH, _nothing)
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        return self._read

    def __exit__(self, *_error: object) -> None:
        signal.set_wakeup_fd(self._wakeup)
        signal.signal(signal.SIGWINCH, self._before)
        os.close(self._read)
        os.close(self._write)


def _nothing(*_: object) -> None:
    """The descriptor tells."""


def targets(there: int, path: str) -> Iterator[dict[str, str]]:
    """Yield the endpoints as rkt lists them: a terminal is one for both directions."""
    for name in dict.fromkeys("tty" if name.startswith("tty") else name for name in names(there)):
        yield {"name": name, "domain": "unixpacket", "address": path}
