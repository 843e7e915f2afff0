"""The metadata service by itself, without a pod; and what its clients say."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import os
import re
import socket
import subprocess
import uuid as uuids
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pyrkt.kernel.namespaces import enter
from pyrkt.metadata.table import JSON, TEXT, Route, encode
from tests.support.oci import eventually
from tests.support.stage1 import BINARY

if TYPE_CHECKING:
    from tests.support.pods import Pyrkt

UUID = "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"
TOKEN = "00112233445566778899aabbccddeeff"
BASE = f"/{TOKEN}/acMetadata/v1"
KEY = bytes(range(64))
US_ASCII, JSON_TYPE = "text/plain; charset=us-ascii", "application/json"
SECONDS = 20
ROUTES = (
    Route(path="pod/annotations", kind=JSON, body=b"null"),
    Route(path="pod/uuid", kind=TEXT, body=UUID.encode()),
    Route(path="apps/web/image/manifest", kind=JSON, body=b'{"a":"' + b"x" * 3_000_000 + b'"}'),
)


def signature(key: bytes, uuid: str, content: bytes) -> str:
    """Return what the service must answer to a request to sign."""
    return base64.b64encode(hmac.new(key, uuids.UUID(uuid).bytes + content, hashlib.sha512).digest()).decode()


def form(**fields: str | bytes) -> bytes:
    """Return a form as its sender writes it."""
    return urlencode(fields).encode()


@dataclass
class Said:
    """One answer."""

    status: int
    kind: str
    body: bytes


@dataclass
class Server:
    """A running service, or the address of one."""

    address: tuple[str, int]
    pid: int = 0
    token: str = TOKEN
    place: int = 0
    """A process in whose network namespace the address is; 0 for the caller's own."""

    def connect(self) -> socket.socket:
        """Return a new connection."""
        if not self.place:
            return socket.create_connection(self.address, SECONDS)
        with ThreadPoolExecutor(1) as alone:  # only this thread goes there
            return alone.submit(self._connect_there).result()

    def _connect_there(self) -> socket.socket:
        namespace = os.open(f"/proc/{self.place}/ns/net", os.O_RDONLY)
        try:
            enter(namespace, "network")
        finally:
            os.close(namespace)
        return socket.create_connection(self.address, SECONDS)

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, base: str = "") -> Said:
        """Ask on a connection of its own; a body is a form. ``base`` is before the path, if it is not the right one."""
        base = base or f"/{self.token}/acMetadata/v1"
        client = http.client.HTTPConnection(*self.address, timeout=SECONDS)
        client.sock = self.connect()
        headers = {"Metadata-Flavor": "AppContainer"}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            client.request(method, f"{base}/{path}", body, headers)
            answer = client.getresponse()
            return Said(answer.status, answer.getheader("Content-Type", ""), answer.read())
        finally:
            client.close()

    def raw(self, data: bytes, *, end: bool = True) -> bytes:
        """Send bytes and no more (``end``), read until the service ends the connection."""
        with self.connect() as connection:
            connection.sendall(data)
            if end:
                connection.shutdown(socket.SHUT_WR)
            return read_all(connection)

    def status(self, field: str) -> str:
        """Return a field of the process in proc(5), status."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{field}:"))

    def pss(self) -> int:
        """Return what it takes, in KiB."""
        lines = Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("Pss:")))


def read_all(connection: socket.socket) -> bytes:
    """Read to the end."""
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def process(
    directory: Path, listener: socket.socket, table: bytes, key: bytes = KEY, parent: int | None = None
) -> subprocess.Popen[bytes]:
    """Start the service as stage1 does, with this process as its parent."""
    (directory / "table").write_bytes(table)
    (directory / "key").write_bytes(key)
    with (directory / "table").open("rb") as opened, (directory / "key").open("rb") as secret:
        return subprocess.Popen(
            [BINARY, "metadata", str(os.getpid() if parent is None else parent)],
            stdin=listener.fileno(),
            stdout=opened,
            stderr=secret,
        )


@contextmanager
def served(directory: Path, routes: Sequence[Route] = ROUTES) -> Iterator[Server]:
    """A service for ``routes``; it must still run at the end."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        listener.setblocking(False)
        child = process(directory, listener, encode(UUID, TOKEN, routes))
        try:
            server = Server(listener.getsockname(), child.pid)
            yield server
            assert server.ask("pod/uuid").body == UUID.encode()
            assert child.poll() is None
        finally:
            child.kill()
            child.wait()


def service_of(tool: Pyrkt, uuid: str) -> Server:
    """Return the service of a running pod, as its apps reach it."""
    directory = tool.directory(uuid)
    app = next(iter(sorted((directory / "apps").iterdir())))
    config = json.loads((app / "config.json").read_text())
    url = next(text for text in config["process"]["env"] if text.startswith("AC_METADATA_URL="))
    match = re.fullmatch(r"AC_METADATA_URL=http://(127\.\d+\.\d+\.\d+):(\d+)/([0-9a-f]{32})", url)
    assert match, url
    assert eventually(lambda: server_pid(directory) != 0)  # it has its name a moment after it was made
    first = int((directory / "pid").read_text().split()[0])
    return Server((match[1], int(match[2])), server_pid(directory), match[3], first)


def server_pid(pod: Path) -> int:
    """Return the process that serves the pod in the directory ``pod``; 0 if none does."""
    return child_of(int((pod / "supervisor").read_text().split()[0]), "pyrkt-metadata")


def child_of(parent: int, called: str) -> int:
    """Return the child of ``parent`` that is ``called`` so and lives; 0 if there is none."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = entry.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        state, above = rest.split()[:2]
        if (name, above) == (called, str(parent)) and state not in {"Z", "X"}:
            return int(entry.parent.name)
    return 0
