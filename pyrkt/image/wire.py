"""One HTTP connection that cannot be held up: every byte is waited for by the clock, every header is counted.

``http.client`` does the protocol; its time-outs, though, are per system call (a server that sends a byte a second
never meets one) and it takes 6 MiB of headers. So the socket below it measures.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyrkt.base.errors import Unavailable

if TYPE_CHECKING:
    import ssl
    from collections.abc import Buffer  # type: ignore[attr-defined]

    from pyrkt.image.proxy import Proxy


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long and how much a server may keep us: seconds and bytes."""

    connect: float = 20.0
    """For the connection, and again for the TLS handshake."""
    idle: float = 30.0
    """For the next byte."""
    answer: float = 60.0
    """For the head of an answer."""
    document: float = 120.0
    """For the whole of a small document."""
    rate: int = 1024
    """Bytes a second that a body has to reach ..."""
    window: float = 20.0
    """... over this much time spent waiting for the server; our own work does not count."""
    headers: int = 64 << 10
    """Bytes of one answer's head."""
    tries: int = 5
    pause: float = 1.0
    """Before the second try; doubled for each further one."""
    longest_pause: float = 60.0


class Interrupted(Unavailable):
    """The connection broke; asking again may help."""


class Watch:
    """When a transfer is given up: by the clock for a head or a document, by the rate for a body."""

    __slots__ = ("_ends", "_limits", "_received", "_waited", "room")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.restart(limits.answer)

    def restart(self, seconds: float | None) -> None:
        """Begin anew: all must be over in ``seconds``; None for no such end, only the rate."""
        self._ends = time.monotonic() + seconds if seconds is not None else None
        self._received, self._waited = 0, 0.0
        self.room = 1 << 62

    def patience(self) -> float:
        """Return how many seconds to wait for the next byte. Raises: Unavailable if the time is over."""
        if self._ends is None:
            return self._limits.idle
        left = self._ends - time.monotonic()
        if left <= 0:
            raise Unavailable("gave no whole answer in the time allowed")
        return min(left, self._limits.idle)

    def got(self, count: int, waited: float) -> None:
        """Take note of ``count`` bytes that were waited for. Raises: Unavailable if they are too slow or too many."""
        self.room -= count
        if self.room < 0:
            raise Unavailable("sends more than its answer can hold")
        self._received += count
        self._waited += waited
        if self._waited >= self._limits.window:
            if self._received < self._limits.rate * self._waited:
                raise Unavailable(f"sends less than {self._limits.rate} bytes a second")
            self._received, self._waited = 0, 0.0


class _Reader(io.RawIOBase):
    """The receiving end that a response buffers; closing it closes the socket only if that was asked for too."""

    def __init__(self, owner: TimedSocket) -> None:
        self._owner = owner

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        return self._owner.receive(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._owner.release()


class TimedSocket:
    """What ``http.client`` uses of a socket, under a Watch."""

    def __init__(self, raw: socket.socket, watch: Watch) -> None:
        self.raw, self._watch = raw, watch
        self._readers, self._closing = 0, False

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the receiving end."""
        self._readers += 1
        return io.BufferedReader(_Reader(self), 64 << 10)

    def receive(self, buffer: Buffer) -> int:
        """Read into ``buffer`` what is there, or wait for it."""
        self.raw.settimeout(self._watch.patience())
        began = time.monotonic()
        count = self.raw.recv_into(buffer)
        self._watch.got(count, time.monotonic() - began)
        return count

    def sendall(self, data: bytes) -> None:
        """Send all of ``data``."""
        self.raw.settimeout(self._watch.patience())
        self.raw.sendall(data)

    def release(self) -> None:
        """Forget a reader; the last one closes the socket if it is to be closed."""
        self._readers -= 1
        if self._closing and self._readers <= 0:
            self.raw.close()

    def close(self) -> None:
        """Close, as soon as no response reads any more."""
        self._closing = True
        if self._readers <= 0:
            self.raw.close()


class _HeadReader:
    """Lines of an answer's head, up to a number of bytes in all."""

    def __init__(self, whole: io.BufferedReader, limit: int) -> None:
        self.whole, self._left = whole, limit

    def readline(self, limit: int = -1) -> bytes:
        line = self.whole.readline(min(self._left + 1, limit if limit >= 0 else self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise Unavailable("sends a head of more than 64 KiB")
        return line

    def close(self) -> None:
        self.whole.close()


class _Response(http.client.HTTPResponse):
    """An answer whose head has a limit."""

    head_limit = 64 << 10

    def begin(self) -> None:
        whole = self.fp
        self.fp = _HeadReader(whole, self.head_limit)  # type: ignore[assignment]
        try:
            super().begin()
        except BaseException:
            whole.close()
            self.fp = None  # type: ignore[assignment]
            raise
        if isinstance(self.fp, _HeadReader):  # else there is no body, and all is closed
            self.fp = whole


class Connection(http.client.HTTPConnection):
    """A connection to ``host:port``, by a proxy and under TLS if given. Opened at the first request."""

    response_class = _Response

    def __init__(
        self,
        host: str,
        port: int,
        *,
        limits: Limits,
        proxy: Proxy | None = None,
        context: ssl.SSLContext | None = None,
        at: tuple[str, int] | None = None,
    ) -> None:
        super().__init__(host, port)
        self._at = at or (host, port)
        self.watch = Watch(limits)
        self.used = False
        """Whether it has answered before: then the server may close it at any time."""
        self._limits, self._proxy, self._context = limits, proxy, context

    @property
    def plain_proxy(self) -> Proxy | None:
        """The proxy that is itself asked for a whole URL, as those of plain http are; None for a tunnel."""
        return self._proxy if self._context is None else None

    def connect(self) -> None:
        """Connect. Raises: OSError (ssl.SSLError among them), Unavailable for a proxy's refusal."""
        at = (self._proxy.host, self._proxy.port) if self._proxy else self._at
        raw = socket.create_connection(at, self._limits.connect)
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                if self._proxy is not None:
                    self._open_tunnel(TimedSocket(raw, self.watch), self._proxy)
                raw.settimeout(self._limits.connect)
                raw = self._context.wrap_socket(raw, server_hostname=self.host)
        except BaseException:
            raw.close()
            raise
        # All of a socket that http.client uses.
        self.sock = TimedSocket(raw, self.watch)

    def _open_tunnel(self, sock: TimedSocket, proxy: Proxy) -> None:
        target = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
        if proxy.authorization:
            head += f"Proxy-Authorization: {proxy.authorization}\r\n"
        sock.sendall((head + "\r\n").encode("ascii"))
        response = _Response(sock, method="CONNECT")  # type: ignore[arg-type]
        response.begin()
        if response.status != 200:
            raise Unavailable(f"the proxy {proxy.host}:{proxy.port} refuses with {response.status}")
        response.close()

    def send_request(
        self, method: str, target: str, headers: dict[str, str], body: bytes | None
    ) -> http.client.HTTPResponse:
        """Send a request and return its answer, the body unread."""
        self.watch.restart(self._limits.answer)
        self.request(method, target, body=body, headers=headers)
        response = self.getresponse()
        self.used = True
        return response
