"""The process that answers a pod's apps, by itself: what it says, whom it lets wait, what it cannot do."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from pyrkt.metadata.table import encode
from tests.support.metadata import (
    BASE,
    JSON_TYPE,
    KEY,
    ROUTES,
    TOKEN,
    US_ASCII,
    UUID,
    Said,
    Server,
    form,
    process,
    read_all,
    served,
    signature,
)
from tests.support.oci import eventually
from tests.support.stage1 import BINARY

GET = f"GET {BASE}/pod/uuid HTTP/1.1\r\nHost: x\r\n".encode()
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=us-ascii\r\n"
    b"Content-Length: 36\r\nCache-Control: no-store\r\n"
)
ANSWER = HEAD + b"\r\n" + UUID.encode()
SANITIZED = "PYRKT_TEST_STAGE1" in os.environ


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with served(tmp_path) as running:
        yield running


def test_each_route_with_its_type(server: Server) -> None:
    kinds = (JSON_TYPE, US_ASCII)
    for route in ROUTES:
        assert server.ask(route.path) == Said(200, kinds[route.kind], route.body)


def test_signs_and_verifies(server: Server) -> None:
    content = "Old MacDonald & \0 +% Äß".encode()
    signed = server.ask("pod/hmac/sign", "POST", form(content=content))
    assert signed == Said(200, US_ASCII, signature(KEY, UUID, content).encode())
    right: dict[str, str | bytes] = {"content": content, "uuid": UUID, "signature": signed.body}
    assert server.ask("pod/hmac/verify", "POST", form(**right)) == Said(200, US_ASCII, b"")
    wrongs: list[dict[str, str | bytes]] = [
        {"content": content[:-1]},
        {"uuid": UUID.replace("a", "b")},
        {"signature": signed.body[:-1] + b"A"},
    ]
    for wrong in wrongs:
        assert server.ask("pod/hmac/verify", "POST", form(**right | wrong)).status == 403


@pytest.mark.parametrize("size", [0, 1, 111, 112, 128, 8000, 8192, 30_000, 65_536 - len("content=")])
def test_signs_any_size(server: Server, size: int) -> None:
    content = bytes(random.Random(size).choices(b"abcdefghij", k=size))
    assert server.ask("pod/hmac/sign", "POST", form(content=content)).body == signature(KEY, UUID, content).encode()


def test_one_connection_for_many_requests(server: Server) -> None:
    with server.connect() as connection:
        for _ in range(300):
            connection.sendall(GET + b"\r\n")
            assert connection.recv(4096) == ANSWER


def test_requests_behind_one_another(server: Server) -> None:
    assert server.raw((GET + b"\r\n") * 500 + GET + b"Connection: close\r\n\r\n", end=False) == (
        ANSWER * 500 + HEAD + b"Connection: close\r\n\r\n" + UUID.encode()
    )


def test_a_request_in_the_smallest_pieces(server: Server) -> None:
    body = form(content=b"abc")
    request = f"POST {BASE}/pod/hmac/sign HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    with server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request:
            connection.sendall(bytes([byte]))
        assert read_all(connection).endswith(signature(KEY, UUID, b"abc").encode())


def test_whoever_stops_sending_still_gets_the_answer(server: Server) -> None:
    assert server.raw(GET + b"\r\n") == ANSWER
    assert server.raw(GET) == b""


def test_says_go_on_before_a_body(server: Server) -> None:
    head = (
        f"POST {BASE}/pod/hmac/sign HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n".encode()
    )
    with server.connect() as connection:
        connection.sendall(head)
        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"content=a")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(GET + b"X: " + b"a" * 100_000, 431, id="huge-header"),
        pytest.param(GET + b"X: a\r\n" * 20_000, 431, id="many-headers"),
        pytest.param(b"GET /" + b"a" * 100_000, 414, id="huge-path"),
        pytest.param(b"a" * 100_000, 414, id="no-line"),
        pytest.param(GET + b"Content-Length: 65537\r\n\r\n" + b"a" * 65537, 413, id="huge-body"),
        pytest.param(GET + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400, id="two-lengths"),
        pytest.param(GET + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n", 411, id="chunked"),
        pytest.param(GET + b"Transfer-Encoding: gzip\r\n\r\n", 501, id="gzip"),
        pytest.param(GET + b"A: b\0c\r\n\r\n", 400, id="nul"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, id="tls"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, id="http2"),
    ],
)
def test_refuses_and_the_refusal_arrives(server: Server, request_: bytes, status: int) -> None:
    with server.connect() as connection:
        connection.sendall(request_)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.endswith(b"Content-Length: 0\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        pytest.param("GET", "pod/hmac/sign", None, 405, id="sign-by-get"),
        pytest.param("POST", "pod/uuid", b"", 405, id="uuid-by-post"),
        pytest.param("DELETE", "pod/uuid", None, 405, id="delete"),
        pytest.param("GET", "apps/other/image/id", None, 404, id="no-such-app"),
        pytest.param("GET", "pod/uui%64%", None, 400, id="percent"),
        pytest.param("POST", "pod/hmac/sign", b"content=%4", 400, id="percent-in-form"),
        pytest.param("POST", "pod/hmac/sign", b"contents=a", 400, id="no-content"),
        pytest.param("POST", "pod/hmac/sign", b"content=a&content=b", 400, id="two-contents"),
        pytest.param("POST", "pod/hmac/verify", b"content=a&uuid=x&signature=b", 400, id="no-uuid"),
    ],
)
def test_refuses_and_goes_on(server: Server, method: str, path: str, body: bytes | None, status: int) -> None:
    assert server.ask(path, method, body).status == status


@pytest.mark.parametrize("base", ["/x", f"/{TOKEN[:-1]}0/acMetadata/v1", "/acMetadata/v1", f"/{UUID}/acMetadata/v1"])
def test_tells_nothing_without_the_token(server: Server, base: str) -> None:
    assert server.ask("pod/uuid", base=base) == Said(401, US_ASCII, b"")


def test_a_hundred_at_once(server: Server) -> None:
    content = b"c" * 20_000
    with ThreadPoolExecutor(100) as pool:
        gets = [pool.submit(server.ask, "pod/uuid") for _ in range(100)]
        posts = [pool.submit(server.ask, "pod/hmac/sign", "POST", form(content=content)) for _ in range(30)]
        assert {get.result().body for get in gets} == {UUID.encode()}
        assert {post.result().body for post in posts} == {signature(KEY, UUID, content).encode()}


def test_those_who_never_finish_keep_nobody_waiting(server: Server) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(server.connect()) for _ in range(200)]
        for connection in slow:
            connection.sendall(b"GET /")
        for _ in range(20):
            assert server.ask("pod/uuid").body == UUID.encode()
        posts = [stack.enter_context(server.connect()) for _ in range(20)]
        for connection in posts:
            connection.sendall(GET + b"Content-Length: 60000\r\n\r\n" + b"a" * 30_000)
        for _ in range(20):
            assert server.ask("pod/uuid").body == UUID.encode()
        # the first have made room for the last
        assert slow[0].recv(1) == b""


def test_one_who_does_not_read_keeps_nobody_waiting(server: Server) -> None:
    with server.connect() as lazy:
        lazy.sendall(f"GET {BASE}/apps/web/image/manifest HTTP/1.0\r\n\r\n".encode())
        for _ in range(20):
            assert server.ask("pod/uuid").body == UUID.encode()
        assert len(read_all(lazy)) > 3_000_000


def test_whoever_goes_in_the_middle_is_forgotten(server: Server) -> None:
    for _ in range(100):
        with server.connect() as gone:
            gone.sendall(f"GET {BASE}/apps/web/image/manifest HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert eventually(lambda: len(os.listdir(f"/proc/{server.pid}/fd")) == 1, 5)


def test_noise(server: Server) -> None:
    noise = random.Random(4)
    for _ in range(300):
        pieces = [
            noise.randbytes(noise.randrange(40)),
            GET,
            b"\r\n",
            b"POST ",
            b"%",
            BASE.encode(),
            b"Content-Length: ",
        ]
        with server.connect() as connection:
            try:
                connection.sendall(b"".join(noise.choices(pieces, k=noise.randrange(1, 12))))
                connection.shutdown(socket.SHUT_WR)
                read_all(connection)
            except ConnectionError:
                pass


def test_its_memory_comes_back(server: Server) -> None:
    assert server.ask("pod/uuid").status == 200  # it has come to its loop
    before = server.pss()
    with ExitStack() as stack:
        for _ in range(60):
            connection = stack.enter_context(server.connect())
            connection.sendall(GET + b"Content-Length: 65000\r\n\r\n" + b"a" * 60_000)
        assert server.ask("pod/uuid").status == 200
        busy = server.pss()
    assert eventually(lambda: len(os.listdir(f"/proc/{server.pid}/fd")) == 1, 5)
    after = server.pss()
    print(f"PSS before, busy, after: {before} {busy} {after} KiB")
    if not SANITIZED:
        assert busy - before < 700
        assert after - before < 64


def test_it_can_do_nothing_else(server: Server) -> None:
    assert server.ask("pod/uuid").status == 200  # it has come to its loop
    assert server.status("Name") == "pyrkt-metadata"
    assert server.status("Uid").split() == ["65534"] * 4
    assert server.status("Gid").split() == ["65534"] * 4
    assert server.status("Groups") == ""
    assert {server.status(f"Cap{kind}") for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert server.status("NoNewPrivs") == "1"
    assert server.status("Seccomp") == "2"
    assert eventually(lambda: os.listdir(f"/proc/{server.pid}/fd") == ["0"], 5)
    assert os.readlink(f"/proc/{server.pid}/cwd") == "/"
    assert TOKEN not in Path(f"/proc/{server.pid}/cmdline").read_text()
    assert os.stat(f"/proc/{server.pid}/status").st_uid == 0  # not dumpable
    limits = Path(f"/proc/{server.pid}/limits").read_text()
    assert [line.split()[-3:-1] for line in limits.splitlines() if line.startswith(("Max processes", "Max core"))] == [
        ["0", "0"],
        ["0", "0"],
    ]


def test_ends_with_its_parent(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        for name, data in (("table", encode(UUID, TOKEN, ROUTES)), ("key", KEY)):
            (tmp_path / name).write_bytes(data)
        code = (
            "import os, subprocess, sys, time; table, key = (open(name, 'rb') for name in sys.argv[2:]);"
            "child = subprocess.Popen([sys.argv[1], 'metadata', str(os.getpid())], stdout=table, stderr=key);"
            "os.write(1, b'%d\\n' % child.pid); time.sleep(60)"
        )
        words = [sys.executable, "-c", code, BINARY, str(tmp_path / "table"), str(tmp_path / "key")]
        with subprocess.Popen(words, stdin=listener.fileno(), stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            assert Server(listener.getsockname(), child).ask("pod/uuid").status == 200
            parent.kill()
        assert eventually(lambda: not Path(f"/proc/{child}").exists() or _is_dead(child), 5)


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"Z", "X"}
    except OSError:
        return True


@pytest.mark.parametrize(
    ("table", "key", "parent"),
    [
        pytest.param(encode(UUID, TOKEN, ROUTES)[:-1], KEY, None, id="cut-table"),
        pytest.param(b"", KEY, None, id="no-table"),
        pytest.param(encode(UUID, TOKEN, ROUTES), KEY[:-1], None, id="short-key"),
        pytest.param(encode(UUID, TOKEN, ROUTES), KEY + b"x", None, id="long-key"),
        pytest.param(encode(UUID, TOKEN, ROUTES), KEY, 1, id="orphan"),
    ],
)
def test_does_not_begin_with_what_is_wrong(tmp_path: Path, table: bytes, key: bytes, parent: int | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = process(tmp_path, listener, table, key, parent)
        assert child.wait(20) == 125


def test_signals_of_the_terminal_are_not_for_it(tmp_path: Path) -> None:
    """It inherits the supervisor's mask, in which all are blocked."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    try:
        with served(tmp_path) as server:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR1):
                os.kill(server.pid, number)
            assert server.ask("pod/uuid").status == 200
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
