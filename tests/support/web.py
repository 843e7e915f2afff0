"""A web server on loopback: it serves files, or does to its client whatever a test's table says."""

from __future__ import annotations

import hashlib
import socket
import socketserver
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Self, cast
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as it came in; header names are in lower case."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes = b""


@dataclass(slots=True)
class Line:
    """The connection to a client: ``send`` anything at all, or ``reply`` as HTTP has it."""

    out: BinaryIO
    sock: socket.socket
    alive: bool = True
    ended: threading.Event = field(default_factory=threading.Event)

    def send(self, data: bytes) -> None:
        """Send raw bytes."""
        self.out.write(data)
        self.out.flush()

    def hang_up(self) -> None:
        """Close the connection after this request."""
        self.alive = False

    def reply(self, status: int, body: bytes = b"", *, head: bool = False, **headers: str) -> None:
        """Send a whole answer; header names are written with _ for -."""
        lines = [f"HTTP/1.1 {status} Whatever"]
        headers = {"Content_Length": str(len(body))} | headers
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if head else body))


Route = Callable[[Asked, Line], None]


class Web:
    """The server: ``routes`` by path first, then ``files`` by path (with ETag, Range and If-Range), else 404."""

    def __init__(self, context: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        self.routes: dict[str, Route] = {}
        self.files: dict[str, bytes] = {}
        self.log: list[Asked] = []
        self.connections = 0
        self.stopping = threading.Event()
        web = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                web.converse(self.request, cast("BinaryIO", self.rfile), cast("BinaryIO", self.wfile))

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 64

            def finish_request(self, request: object, client_address: object) -> None:
                sock = cast("socket.socket", request)
                if context is not None:
                    sock.settimeout(10)
                    sock = context.wrap_socket(sock, server_side=True)
                with sock:
                    super().finish_request(sock, client_address)

            def handle_error(self, request: object, client_address: object) -> None:
                """Clients that give up are what the tests are about."""

        self._server = Server((host, port), Handler)
        self.port = int(self._server.server_address[1])
        self.host = f"{host}:{self.port}"
        self.url = f"{'https' if context else 'http'}://{self.host}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def converse(self, sock: socket.socket, source: BinaryIO, out: BinaryIO) -> None:
        """Answer the requests of one connection."""
        self.connections += 1
        line = Line(out, sock, ended=self.stopping)
        while line.alive and (asked := _read_request(source)) is not None:
            if asked.method == "?":
                line.reply(400)
                return
            self.log.append(asked)
            self._answer(asked, line)

    def _answer(self, asked: Asked, line: Line) -> None:
        if asked.path in self.routes:
            self.routes[asked.path](asked, line)
        elif asked.path in self.files:
            send_file(asked, line, self.files[asked.path])
        else:
            line.reply(404, b"not here")

    def asked(self, path: str) -> list[Asked]:
        """Return the requests for ``path`` so far."""
        return [asked for asked in self.log if asked.path == path]


def send_file(asked: Asked, line: Line, data: bytes) -> None:
    """Answer with ``data`` as a decent web server does."""
    etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
    wanted = asked.headers.get("range", "")
    if asked.headers.get("if-none-match") == etag:
        line.reply(304, ETag=etag)
    elif wanted.startswith("bytes=") and asked.headers.get("if-range", etag) == etag:
        start = int(wanted[6:].partition("-")[0])
        if start >= len(data):
            line.reply(416, Content_Range=f"bytes */{len(data)}")
            return
        span = f"bytes {start}-{len(data) - 1}/{len(data)}"
        line.reply(206, data[start:], ETag=etag, Content_Range=span, head=asked.method == "HEAD")
    else:
        line.reply(200, data, ETag=etag, Accept_Ranges="bytes", head=asked.method == "HEAD")


def _read_request(source: BinaryIO) -> Asked | None:
    first = source.readline(65537).decode("latin-1").split()
    if len(first) != 3:
        return Asked(method="?", path="", query={}, headers={}) if first else None
    headers: dict[str, str] = {}
    while text := source.readline(65537).decode("latin-1").strip():
        name, _, value = text.partition(":")
        headers[name.lower()] = value.strip()
    body = source.read(int(headers.get("content-length", "0")))
    if first[0] == "CONNECT":
        return Asked(method=first[0], path=first[1], query={}, headers=headers)
    target = urlsplit(first[1])
    return Asked(method=first[0], path=unquote(target.path), query=parse_qs(target.query), headers=headers, body=body)
