"""What the demonstration serves, all of it on loopback: a site, a registry, and the proxy that gives them names."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from demo_inputs import Failed

if TYPE_CHECKING:
    from collections.abc import Iterator

START_S, POLL_S = 20.0, 0.05


class Site(http.server.SimpleHTTPRequestHandler):
    """The site example.com: discovery pages, images, signatures; quiet."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def guess_type(self, path: str | os.PathLike[str]) -> str:
        """Serve a file without a suffix, a discovery page, as HTML."""
        return super().guess_type(path) if Path(path).suffix else "text/html"


def serve_site(web: Path, state: Path) -> int:
    """Serve ``web`` over HTTPS in a thread; return the port."""

    def handler(*args: object) -> Site:
        return Site(*args, directory=str(web))  # type: ignore[arg-type]

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(state / "server.crt", state / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return int(server.server_address[1])


def serve_proxy(ports: dict[str, int]) -> int:
    """Serve CONNECT for the names in ``ports`` alone; return the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def connection(client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            head = b""
            while b"\r\n\r\n" not in head and len(head) < 1 << 16:
                head += client.recv(4096) or b"\r\n\r\n"
            method, _, rest = head.decode("latin-1").partition(" ")
            name = rest.partition(":")[0]
            if method != "CONNECT" or name not in ports:
                client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                return
            with socket.create_connection(("127.0.0.1", ports[name])) as server:
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=copy, args=(server, client), daemon=True)
                back.start()
                copy(client, server)
                back.join()

    def accept() -> None:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=connection, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(listener.getsockname()[1])


@contextlib.contextmanager
def registry(program: str, state: Path) -> Iterator[int]:
    """Run Debian's docker-registry over TLS on a free port of loopback, which is what is yielded."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    (state / "registry").mkdir(exist_ok=True)
    config = state / "registry.yml"
    config.write_text(
        json.dumps(  # YAML is a superset of JSON
            {
                "version": "0.1",
                "log": {"level": "error", "accesslog": {"disabled": True}},
                "storage": {"filesystem": {"rootdirectory": str(state / "registry")}},
                "http": {
                    "addr": f"127.0.0.1:{port}",
                    "tls": {"certificate": str(state / "server.crt"), "key": str(state / "server.key")},
                },
            }
        )
    )
    with (state / "registry.log").open("wb") as log:
        server = subprocess.Popen([program, "serve", config], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _await(server, port, state / "registry.log")
        yield port
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _await(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if server.poll() is not None or time.monotonic() > deadline:
            words = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise Failed(f"docker-registry does not serve: {words[-1]}")
        time.sleep(POLL_S)
