"""The HTTP client against servers that misbehave, over real sockets and real TLS on loopback."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest

from pyrkt.base.errors import ImageRefused, NotTrusted, PyrktError, Unavailable
from pyrkt.image.http import Client, NotTLS, Request, resumable
from pyrkt.image.wire import Interrupted, Limits
from tests.support.tls import Authority
from tests.support.web import Asked, Line, Route, Web

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyrkt.image.http import Answer

QUICK = Limits(connect=2, idle=1, answer=2, document=2, rate=2000, window=1, tries=3, pause=0.01, longest_pause=0.3)
HTTP = frozenset({"http"})


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def web() -> Iterator[Web]:
    with Web() as server:
        yield server


@pytest.fixture
def other() -> Iterator[Web]:
    with Web() as server:
        yield server


@pytest.fixture
def secure(authority: Authority) -> Iterator[Web]:
    with Web(authority.server_context(authority.issue("server"))) as server:
        yield server


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(insecure=HTTP, limits=QUICK) as made:
        yield made


def trusting(folder: Path, authority: Authority, web: Web) -> tuple[str, ...]:
    directory = folder / "certs.d" / web.host
    directory.mkdir(parents=True)
    (directory / "ca.crt").write_bytes(authority.cert.read_bytes())
    return (str(folder / "certs.d"),)


def get(client: Client, url: str, limit: int = 1 << 20, authorization: str = "") -> tuple[Answer, bytes]:
    return client.get(Request(url=url, authorization=authorization), limit)


def test_one_connection_serves_several_requests(web: Web, client: Client) -> None:
    web.files["/a"] = b"content"
    for _ in range(3):
        answer, body = get(client, f"{web.url}/a")
        assert (answer.status, body) == (200, b"content")
    assert web.connections == 1
    assert web.log[0].headers["user-agent"].startswith("pyrkt/")


def test_a_connection_that_the_server_closed_in_between_is_no_failure(web: Web, client: Client) -> None:
    def once(_: Asked, line: Line) -> None:
        line.reply(200, b"x")
        line.hang_up()

    web.routes["/a"] = once
    for _ in range(4):
        assert get(client, f"{web.url}/a")[1] == b"x"
    assert len(web.asked("/a")) == 4


def test_plain_http_needs_leave(web: Web) -> None:
    with Client(limits=QUICK) as strict, pytest.raises(NotTrusted, match="plain http is not allowed"):
        get(strict, f"{web.url}/a")
    assert not web.connections


def redirect(target: str, status: int = 302) -> Route:
    def route(_: Asked, line: Line) -> None:
        line.reply(status, Location=target)

    return route


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host_carries_no_authorization(web: Web, other: Web, client: Client, status: int) -> None:
    web.routes["/a"] = redirect(f"{other.url}/b", status)
    other.files["/b"] = b"elsewhere"
    assert get(client, f"{web.url}/a", authorization="Bearer secret")[1] == b"elsewhere"
    assert web.log[0].headers["authorization"] == "Bearer secret"
    assert "authorization" not in other.log[0].headers


def test_a_redirect_within_the_host_keeps_the_authorization(web: Web, client: Client) -> None:
    web.routes["/a"] = redirect("b")
    web.files["/b"] = b"here"
    assert get(client, f"{web.url}/a", authorization="Bearer secret")[1] == b"here"
    assert web.asked("/b")[0].headers["authorization"] == "Bearer secret"


def test_authorization_once_dropped_does_not_come_back(web: Web, other: Web, client: Client) -> None:
    web.routes["/a"] = redirect(f"{other.url}/b")
    other.routes["/b"] = redirect(f"{web.url}/c")
    web.files["/c"] = b"round"
    assert get(client, f"{web.url}/a", authorization="Bearer secret")[1] == b"round"
    assert "authorization" not in web.asked("/c")[0].headers


@pytest.mark.parametrize(
    ("target", "error", "problem"),
    [
        pytest.param("/a", Unavailable, "redirects more than 5 times", id="loop"),
        pytest.param("file:///etc/passwd", Unavailable, "may be fetched", id="file"),
        pytest.param("http://169.254.169.254/secrets", NotTrusted, "link-local", id="metadata"),
        pytest.param("http://u:p@127.0.0.1/", Unavailable, "may be fetched", id="password"),
        pytest.param("http://127.0.0.1:99999/", Unavailable, "not a URL", id="port"),
        pytest.param("http://[::1/", Unavailable, "Invalid IPv6 URL", id="brackets"),
        pytest.param("http://127.0.0.1/a b", Unavailable, "percent-encode", id="space"),
    ],
)
def test_redirects_that_are_not_followed(
    web: Web, client: Client, target: str, error: type[PyrktError], problem: str
) -> None:
    web.routes["/a"] = redirect(target)
    with pytest.raises(error, match=problem):
        get(client, f"{web.url}/a")


def test_a_redirect_from_https_to_http_is_not_followed(
    web: Web, secure: Web, authority: Authority, tmp_path: Path
) -> None:
    secure.routes["/a"] = redirect(f"{web.url}/b")
    certs_d = trusting(tmp_path, authority, secure)
    with (
        Client(certs_d=certs_d, insecure=HTTP, limits=QUICK) as client,
        pytest.raises(NotTrusted, match="https to http"),
    ):
        get(client, f"{secure.url}/a")
    assert not web.connections


def drip(_: Asked, line: Line) -> None:
    """Send a byte now and then, for ever."""
    line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n")
    while not line.ended.wait(0.02):
        line.send(b"x")


def drip_head(_: Asked, line: Line) -> None:
    line.send(b"HTTP/1.1 200 OK\r\n")
    while not line.ended.wait(0.05):
        line.send(b"X-A: b\r\n")


def endless(_: Asked, line: Line) -> None:
    line.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not line.ended.is_set():
        line.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")


def endless_trailer(_: Asked, line: Line) -> None:
    line.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
    while not line.ended.is_set():
        line.send(b"X-A: b\r\n" * 1000)


def silent(_: Asked, line: Line) -> None:
    line.ended.wait(20)
    line.hang_up()


def raw(data: bytes) -> Route:
    def route(_: Asked, line: Line) -> None:
        line.send(data)
        line.hang_up()

    return route


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        pytest.param(drip, "less than 2000 bytes a second|no whole answer", id="slow-body"),
        pytest.param(drip_head, "no whole answer|less than 2000", id="slow-head"),
        pytest.param(silent, r"no answer in time \(3 tries\)", id="silent"),
        pytest.param(endless, "sends more", id="endless"),
        pytest.param(endless_trailer, "more than its answer can hold", id="endless-trailer"),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 70_000), "head of more than 64 KiB|header line", id="long-line"
        ),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\n" + b"X: yyyyyyyyyyyyyyy\r\n" * 9000), "does not answer as HTTP", id="many-headers"
        ),
        pytest.param(raw(b"HTTP/1.1 100 C\r\n\r\n" * 9000), "head of more than 64 KiB", id="endless-100"),
        pytest.param(raw(b"SSH-2.0-OpenSSH\r\n"), "does not answer as HTTP", id="not-http"),
        pytest.param(raw(b""), r"without an answer \(3 tries\)", id="hangs-up"),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"), r"after 5 of 10 bytes \(3 tries\)", id="short"
        ),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"), "announces", id="announces-much"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "127.0.0.1", id="bad-chunk"),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabcde"), "127.0.0.1", id="negative-chunk"
        ),
        pytest.param(raw(b"HTTP/1.1 abc OK\r\n\r\n"), "does not answer as HTTP", id="bad-status"),
    ],
)
def test_a_hostile_server_ends_in_one_line_and_in_time(web: Web, client: Client, route: Route, problem: str) -> None:
    web.routes["/a"] = route
    began = time.monotonic()
    with pytest.raises(Unavailable, match=problem) as caught:
        get(client, f"{web.url}/a", limit=300_000)
    assert time.monotonic() - began < 12
    assert caught.value.message.startswith(web.host)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(web: Web, client: Client, status: int) -> None:
    turn = itertools.count()

    def route(_: Asked, line: Line) -> None:
        line.reply(status if next(turn) < 2 else 200, b"done")

    web.routes["/a"] = route
    assert get(client, f"{web.url}/a")[1] == b"done"
    assert len(web.log) == 3


def test_trying_again_ends(web: Web, client: Client) -> None:
    web.routes["/a"] = lambda _, line: line.reply(503)
    with pytest.raises(Unavailable, match=r"503 Service Unavailable \(3 tries\)"):
        get(client, f"{web.url}/a")
    assert len(web.log) == 3


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        pytest.param(lambda: "1", (0.3, 0.6), id="seconds-capped"),
        pytest.param(lambda: "0", (0.0, 0.25), id="at-once"),
        pytest.param(lambda: formatdate(time.time() + 30, usegmt=True), (0.3, 0.6), id="date-capped"),
        pytest.param(lambda: formatdate(time.time() - 30, usegmt=True), (0.0, 0.25), id="date-past"),
        pytest.param(lambda: "whenever", (0.0, 0.25), id="garbage"),
    ],
)
def test_retry_after_is_honoured_within_reason(
    web: Web, client: Client, value: object, seconds: tuple[float, float]
) -> None:
    assert callable(value)
    turn = itertools.count()

    def route(_: Asked, line: Line) -> None:
        if next(turn):
            line.reply(200, b"done")
        else:
            line.reply(429, Retry_After=str(value()))

    web.routes["/a"] = route
    began = time.monotonic()
    assert get(client, f"{web.url}/a")[1] == b"done"
    assert seconds[0] <= time.monotonic() - began < seconds[1]


DATA = bytes(range(256)) * 4096  # 1 MiB


def cut(pieces: Iterator[int], data: bytes = DATA, *, ranges: bool = True) -> Route:
    """Send, of what is asked, only as many bytes as ``pieces`` says next; then hang up."""

    def route(asked: Asked, line: Line) -> None:
        wanted = asked.headers.get("range", "bytes=0-") if ranges else "bytes=0-"
        start = int(wanted[6:-1])
        part = data[start:]
        line.send(f"HTTP/1.1 {206 if start else 200} OK\r\nContent-Length: {len(part)}\r\n".encode())
        if start:
            line.send(f"Content-Range: bytes {start}-{len(data) - 1}/{len(data)}\r\n".encode())
        line.send(b"\r\n" + part[: next(pieces)])
        line.hang_up()

    return route


def load(client: Client, url: str, size: int | None = len(DATA), start: int = 0) -> bytes:
    def open_at(offset: int) -> Answer:
        return client.open(Request(url=url, headers={"Range": f"bytes={offset}-"} if offset else {}))

    return b"".join(resumable(client, open_at, size, limit=1 << 21, start=start))


def test_a_broken_body_goes_on_where_it_broke(web: Web, client: Client) -> None:
    web.routes["/a"] = cut(iter([400_000, 300_000, 1 << 30]))
    assert load(client, f"{web.url}/a") == DATA
    assert [asked.headers.get("range") for asked in web.log] == [None, "bytes=400000-", "bytes=700000-"]


def test_a_server_without_ranges_starts_again_and_what_is_known_is_skipped(web: Web, client: Client) -> None:
    web.routes["/a"] = cut(iter([400_000, 1 << 30]), ranges=False)
    assert load(client, f"{web.url}/a") == DATA


def test_a_kept_part_is_not_asked_for_again(web: Web, client: Client) -> None:
    web.files["/a"] = DATA
    assert load(client, f"{web.url}/a", start=1_000_000) == DATA[1_000_000:]
    assert web.log[0].headers["range"] == "bytes=1000000-"


def test_a_server_that_always_breaks_off_is_given_up(web: Web, client: Client) -> None:
    web.routes["/a"] = cut(itertools.repeat(10))
    with pytest.raises(Unavailable, match=r"\(3 tries\)"):
        load(client, f"{web.url}/a")
    assert len(web.log) == 3


@pytest.mark.parametrize(
    ("answer", "error", "problem"),
    [
        pytest.param(
            b"200 OK\r\nContent-Length: 7\r\n\r\n1234567", ImageRefused, "7 bytes are announced", id="announces-less"
        ),
        pytest.param(b"200 OK\r\nContent-Length: 3000000\r\n\r\n", ImageRefused, "are announced", id="announces-more"),
        pytest.param(
            b"206 P\r\nContent-Length: 9\r\nContent-Range: bytes 5-13/14\r\n\r\n123456789",
            Unavailable,
            "sends from 5",
            id="other-part",
        ),
        pytest.param(
            b"206 P\r\nContent-Length: 9\r\nContent-Range: bytes 0-8/9\r\n\r\n123456789",
            ImageRefused,
            "9 bytes",
            id="other-size",
        ),
        pytest.param(
            b"206 P\r\nContent-Length: 9\r\n\r\n123456789", Unavailable, "without saying which", id="no-range"
        ),
    ],
)
def test_a_body_of_another_size_than_declared_is_refused(
    web: Web, client: Client, answer: bytes, error: type[PyrktError], problem: str
) -> None:
    web.routes["/a"] = raw(b"HTTP/1.1 " + answer)
    with pytest.raises(error, match=problem):
        load(client, f"{web.url}/a")


def test_more_than_declared_without_a_length_stops_at_the_first_byte_too_many(web: Web, client: Client) -> None:
    web.routes["/a"] = endless
    with pytest.raises(Unavailable, match="more than the"):
        load(client, f"{web.url}/a")


def test_tls_with_an_authority_of_certs_d(secure: Web, authority: Authority, tmp_path: Path) -> None:
    secure.files["/a"] = b"private"
    with Client(certs_d=trusting(tmp_path, authority, secure), limits=QUICK) as client:
        assert get(client, f"{secure.url}/a")[1] == b"private"


def test_an_unknown_authority_is_refused_and_the_searched_directory_named(secure: Web, tmp_path: Path) -> None:
    with Client(certs_d=(str(tmp_path),), limits=QUICK) as client, pytest.raises(Unavailable) as caught:
        get(client, f"{secure.url}/a")
    assert "unable to get local issuer certificate" in caught.value.message
    assert f"{tmp_path}/{secure.host}" in caught.value.message
    assert f"{tmp_path}/{secure.host}/ca.crt" in caught.value.hint
    assert not secure.log


def test_insecure_tls_believes_anybody(secure: Web) -> None:
    secure.files["/a"] = b"private"
    with Client(insecure=frozenset({"tls"}), limits=QUICK) as client:
        assert get(client, f"{secure.url}/a")[1] == b"private"


@pytest.mark.parametrize(
    ("hosts", "days", "reason"),
    [
        pytest.param(("elsewhere.test",), 1, "IP address mismatch", id="other-name"),
        pytest.param(("127.0.0.1",), -1, "certificate has expired", id="expired"),
    ],
)
def test_a_wrong_certificate_is_refused_with_its_reason(
    authority: Authority, tmp_path: Path, hosts: tuple[str, ...], days: int, reason: str
) -> None:
    with Web(authority.server_context(authority.issue("wrong", hosts, days=days))) as server:
        certs_d = trusting(tmp_path, authority, server)
        with Client(certs_d=certs_d, limits=QUICK) as client, pytest.raises(Unavailable, match=reason):
            get(client, f"{server.url}/a")
        assert not server.log


def test_a_client_certificate_is_shown_where_it_is_asked_for(authority: Authority, tmp_path: Path) -> None:
    with Web(authority.server_context(authority.issue("server"), ask_client=True)) as server:
        server.files["/a"] = b"for members"
        certs_d = trusting(tmp_path, authority, server)
        with Client(certs_d=certs_d, limits=QUICK) as client, pytest.raises(Unavailable, match="no client certificate"):
            get(client, f"{server.url}/a")
        member = authority.issue("member", client=True)
        for path in (member.cert, member.key):
            (tmp_path / "certs.d" / server.host / path.name).write_bytes(path.read_bytes())
        with Client(certs_d=certs_d, limits=QUICK) as client:
            assert get(client, f"{server.url}/a")[1] == b"for members"


def test_https_to_a_server_of_plain_http_says_so(web: Web) -> None:
    with Client(limits=QUICK) as client, pytest.raises(NotTLS, match="does not speak TLS"):
        get(client, f"https://{web.host}/a")


def test_nobody_there_is_said_at_once(client: Client) -> None:
    with Web() as server:
        host = server.host
    began = time.monotonic()
    with pytest.raises(Unavailable, match="Connection refused") as caught:
        get(client, f"http://{host}/")
    assert not isinstance(caught.value, Interrupted)
    assert time.monotonic() - began < 1


def tunnel_to(port: int) -> Route:
    """Be a proxy: connect to ``port`` of this machine, and carry bytes both ways."""

    def route(_: Asked, line: Line) -> None:
        with socket.create_connection(("127.0.0.1", port)) as onward:
            line.send(b"HTTP/1.1 200 Connected\r\n\r\n")

            def back() -> None:
                while data := onward.recv(65536):
                    line.sock.sendall(data)

            thread = threading.Thread(target=back)
            thread.start()
            while data := line.sock.recv(65536):
                onward.sendall(data)
            onward.shutdown(socket.SHUT_RDWR)
            thread.join()
        line.hang_up()

    return route


def test_a_proxy_tunnels_https_and_is_asked_for_http(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """registry.test is not to be found by name here, so only the proxy can have led there."""
    pair = authority.issue("tunnelled", ("registry.test",))
    with Web(authority.server_context(pair)) as hidden, Web() as proxy:
        hidden.files["/a"] = b"through the tunnel"
        target = f"registry.test:{hidden.port}"
        proxy.routes[target] = tunnel_to(hidden.port)
        proxy.files["/plain"] = b"by proxy"
        monkeypatch.setenv("https_proxy", f"http://user:pass@{proxy.host}")
        monkeypatch.setenv("http_proxy", proxy.host)
        directory = tmp_path / target
        directory.mkdir()
        (directory / "ca.crt").write_bytes(authority.cert.read_bytes())
        with Client(certs_d=(str(tmp_path),), insecure=HTTP, limits=QUICK) as client:
            assert get(client, f"https://{target}/a")[1] == b"through the tunnel"
            assert get(client, "http://registry.test/plain")[1] == b"by proxy"
        assert proxy.log[0].method == "CONNECT"
        assert proxy.log[0].headers["proxy-authorization"] == "Basic dXNlcjpwYXNz"
        assert "proxy-authorization" not in hidden.log[0].headers
        proxy.routes[target] = lambda _, line: line.reply(403)
        with Client(limits=QUICK) as client, pytest.raises(Unavailable, match="refuses with 403"):
            get(client, f"https://{target}/a")
