"""An HTTP client for fetching what strangers serve: bounded in time and size, and careful with credentials.

Credentials go to the scheme, host and port they are for, and to no redirect away from it (CVE-2020-15157). A
redirect never leads from https to http. Plain http is spoken only where the user allowed it by
``--insecure-options=http`` (CVE-2014-5277 was a convenient "then try http").
"""

from __future__ import annotations

import email.utils
import http.client
import os
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import urljoin, urlsplit

import pyrkt
from pyrkt.base import log
from pyrkt.base.errors import ImageRefused, InvalidSpec, NotTrusted, Unavailable, printable
from pyrkt.image import certs
from pyrkt.image.proxy import proxy_for
from pyrkt.image.wire import Connection, Interrupted, Limits

if TYPE_CHECKING:
    from types import TracebackType

CHUNK = 256 << 10
"""Bytes a read; larger gains nothing (facts: 64 KiB to 1 MiB measure the same), smaller costs system calls."""
MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRANSIENT = frozenset({429, 500, 502, 503, 504})
_LINK_LOCAL = ("169.254.", "fe80:")  # where clouds serve their machines' secrets


class Origin(NamedTuple):
    """To whom one talks: what credentials and certificates are bound to."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        """Return ``host:port``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def origin_of(url: str) -> Origin:
    """Return the origin of ``url``. Raises: InvalidSpec unless it is an http or https URL without a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidSpec(f"{printable(url[:200])!r} is not a URL: {error}", document="URL") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise InvalidSpec(f"{printable(url[:200])!r} is not a URL that may be fetched", document="URL")
    if not (url.isascii() and url.isprintable() and " " not in url):
        raise InvalidSpec(f"{printable(url[:200])!r} has characters that a URL has to percent-encode", document="URL")
    return Origin(parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80))


class Answer:
    """What a server answers: the head, and the body to be read once. Close it, or use it as a context."""

    def __init__(self, response: http.client.HTTPResponse, connection: Connection, url: str, pool: _Pool) -> None:
        self.status, self.url = response.status, url
        self.length = response.length
        """Bytes the body has by its head; None if that does not say."""
        self._response, self._connection, self._pool = response, connection, pool
        self._origin = origin_of(url)

    def header(self, name: str) -> str:
        """Return the header ``name``, or ""."""
        return self._response.headers.get(name, "")

    def headers(self, name: str) -> list[str]:
        """Return every header ``name``."""
        return self._response.headers.get_all(name, [])

    def chunks(self, limit: int, seconds: float | None = None) -> Iterator[bytes]:
        """Yield the body, which has ``seconds`` to arrive if given, and the rate of Limits to keep in any case.

        Raises: Interrupted when the connection breaks, Unavailable beyond ``limit`` bytes or when it is too slow.
        """
        if self.length is not None and self.length > limit:
            raise Unavailable(f"{self._origin}: announces {self.length} bytes where {limit} at most are due")
        self._connection.watch.restart(seconds)
        self._connection.watch.room = 2 * limit + (1 << 20)  # what chunked coding, or its endless trailer, may add
        received = 0
        while chunk := self._guarded(self._read):
            received += len(chunk)
            if received > limit:
                raise Unavailable(f"{self._origin}: sends more than the {limit} bytes that are due")
            yield chunk
        if self.length is not None and received < self.length:
            raise Interrupted(f"{self._origin}: the connection ended after {received} of {self.length} bytes")

    def _read(self) -> bytes:
        return self._response.read(CHUNK)

    def read(self, limit: int, seconds: float | None = None) -> bytes:
        """Return the whole body, of ``limit`` bytes at most, within ``seconds`` (default: Limits.document)."""
        return b"".join(self.chunks(limit, self._pool.limits.document if seconds is None else seconds))

    def excerpt(self) -> bytes:
        """Return the beginning of an error's body, as far as it comes; never fails."""
        try:
            self._connection.watch.restart(self._pool.limits.answer)
            return self._response.read(64 << 10)
        except (OSError, http.client.HTTPException, Unavailable):
            return b""

    def _guarded(self, read: Callable[[], bytes]) -> bytes:
        try:
            return read()
        except Unavailable as error:
            raise type(error)(f"{self._origin}: {error.message}") from None
        except TimeoutError:
            raise Interrupted(f"{self._origin}: sent nothing for {self._pool.limits.idle:g} seconds") from None
        except http.client.IncompleteRead:
            raise Interrupted(f"{self._origin}: the connection ended within the answer") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Interrupted(f"{self._origin}: {_reason(error)}") from None

    def close(self) -> None:
        """Give the connection back if the answer was read to its end, else close it."""
        if self._response.isclosed() and self._connection.sock is not None:
            self._pool.give(self._origin, self._connection)
        else:
            self._connection.close()
            self._response.close()

    def __enter__(self) -> Self:
        """Return the answer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


class _Pool:
    """Idle connections by origin: one at most, since a worker does one thing at a time."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._idle: dict[Origin, Connection] = {}

    def take(self, origin: Origin) -> Connection | None:
        return self._idle.pop(origin, None)

    def give(self, origin: Origin, connection: Connection) -> None:
        if previous := self._idle.pop(origin, None):
            previous.close()
        self._idle[origin] = connection

    def close(self) -> None:
        for connection in self._idle.values():
            connection.close()
        self._idle.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to ask for. ``authorization`` is for the origin of ``url`` alone."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] | None = None
    authorization: str = ""
    body: bytes | None = None


class Client:
    """Makes requests. Not shared between threads or processes; ``fresh()`` makes another for a worker."""

    def __init__(
        self,
        *,
        certs_d: tuple[str, ...] = (),
        insecure: frozenset[str] = frozenset(),
        limits: Limits | None = None,
        say: Callable[[str], None] = log.note,
        connect_to: Mapping[str, str] | None = None,
    ) -> None:
        """Take the certs.d directories, which of "http" and "tls" are allowed, and where to say that one waits.

        ``connect_to`` maps "host:port" to the "host:port" to connect to instead; names and certificates stay.
        """
        self.limits = limits or Limits()
        self.insecure = insecure
        self._certs_d, self._say, self._connect_to = certs_d, say, dict(connect_to or {})
        self._pool = _Pool(self.limits)
        self._contexts: dict[Origin, tuple[ssl.SSLContext, certs.HostCerts]] = {}

    def fresh(self) -> Client:
        """Return a client of the same settings without connections: a forked worker must not share them."""
        return Client(
            certs_d=self._certs_d,
            insecure=self.insecure,
            limits=self.limits,
            say=self._say,
            connect_to=self._connect_to,
        )

    def close(self) -> None:
        """Close what is idle."""
        self._pool.close()

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def open(self, request: Request) -> Answer:
        """Make ``request``, follow its redirects, try again what may pass, and return the answer whatever its status.

        Raises: Unavailable (Interrupted where the connection broke) with host and reason; NotTrusted for plain http
        that was not allowed; InvalidSpec for a URL that may not be fetched, Unavailable for one in a redirect.
        """
        url, authorization = request.url, request.authorization
        for _hop in range(MAX_REDIRECTS + 1):
            answer = self._persist(request, url, authorization)
            location = answer.header("location")
            if request.method == "POST" or answer.status not in _REDIRECTS or not location:
                return answer
            answer.excerpt()
            answer.close()
            target = self._redirected(url, location)
            if origin_of(target) != origin_of(request.url):
                authorization = ""
            url = target
        raise Unavailable(f"{origin_of(request.url)}: redirects more than {MAX_REDIRECTS} times")

    def get(self, request: Request, limit: int) -> tuple[Answer, bytes]:
        """Return the answer to ``request`` and its whole body, ``limit`` bytes at most; a broken one is tried again."""
        tries = _Tries(self, str(origin_of(request.url)))
        while True:
            with self.open(request) as answer:
                try:
                    return answer, answer.read(limit) if answer.status < 300 else answer.excerpt()
                except Interrupted as error:
                    tries.failed(error)

    def _redirected(self, url: str, location: str) -> str:
        source = origin_of(url)
        try:
            target = urljoin(url, location).partition("#")[0]
            aim = origin_of(target)
        except InvalidSpec as error:
            raise Unavailable(f"{source}: redirects to what is no place to go: {error.problem}") from None
        except ValueError as error:  # urljoin's own, of brackets that do not match
            raise Unavailable(f"{source}: redirects to {printable(location[:200])!r}: {error}") from None
        if source.scheme == "https" and aim.scheme == "http":
            raise NotTrusted(f"{source}: redirects from https to http ({aim}), which is not followed")
        if aim.host != source.host and aim.host.startswith(_LINK_LOCAL):
            raise NotTrusted(f"{source}: redirects to the link-local address {aim.host}, which is not followed")
        return target

    def pause(self, who: str, why: str, seconds: float) -> None:
        """Wait ``seconds``, a little more or less so that many clients do not come back at once."""
        seconds = min(seconds, self.limits.longest_pause) * random.uniform(1.0, 1.25)  # noqa: S311 - no secret
        why = why.removeprefix(f"{who}: ")
        if seconds >= 0.5:
            self._say(f"{who}: {why}; trying again in {seconds:.0f} seconds")
        time.sleep(seconds)

    def _persist(self, request: Request, url: str, authorization: str) -> Answer:
        origin = origin_of(url)
        tries = _Tries(self, str(origin))
        while True:
            try:
                answer = self._once(request, url, origin, authorization)
            except Interrupted as error:
                tries.failed(error)
                continue
            if answer.status not in _TRANSIENT or request.method == "POST":
                return answer
            wait = _retry_after(answer.header("retry-after"), self.limits.longest_pause)
            reason = f"{origin}: answers {answer.status} {http.client.responses.get(answer.status, '')}"
            answer.excerpt()
            answer.close()
            tries.failed(Unavailable(reason), wait)

    def _once(self, request: Request, url: str, origin: Origin, authorization: str) -> Answer:
        headers = {"User-Agent": f"pyrkt/{pyrkt.__version__}", "Accept-Encoding": "identity", **(request.headers or {})}
        if authorization:
            headers["Authorization"] = authorization
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        log.debug(f"{request.method} {url}")
        while True:
            connection = self._pool.take(origin) or self._connection(origin)
            proxy = connection.plain_proxy
            if proxy is not None:
                target = url
                if proxy.authorization:
                    headers["Proxy-Authorization"] = proxy.authorization
            reused = connection.used
            try:
                response = connection.send_request(request.method, target, headers, request.body)
            except BaseException as error:  # noqa: BLE001 - all of it is raised again
                connection.close()
                if reused and isinstance(error, ConnectionError | http.client.BadStatusLine):
                    continue  # the server had closed the idle connection: no failure, and no try used up
                raise self._explained(origin, error) from None
            return Answer(response, connection, url, self._pool)

    def _connection(self, origin: Origin) -> Connection:
        aim = self._connect_to.get(str(origin), "")
        proxy = None if aim else proxy_for(origin.scheme, origin.host, origin.port, os.environ)
        context = None
        if origin.scheme == "https":
            context, _ = self._context(origin)
        elif "http" not in self.insecure:
            raise NotTrusted(
                f"{origin}: plain http is not allowed",
                hint="--insecure-options=http allows it; anybody may then listen",
            )
        at = origin_of(f"http://{aim}")[1:] if aim else None
        return Connection(origin.host, origin.port, limits=self.limits, proxy=proxy, context=context, at=at)

    def _context(self, origin: Origin) -> tuple[ssl.SSLContext, certs.HostCerts]:
        if origin not in self._contexts:
            found = certs.find(origin.host, origin.port, self._certs_d)
            self._contexts[origin] = (certs.context(found, verify="tls" not in self.insecure), found)
        return self._contexts[origin]

    def _explained(self, origin: Origin, error: BaseException) -> BaseException:
        """Return the complaint for what a connection or a request failed with."""
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return self._tls_complaint(origin, error)
        if isinstance(error, Unavailable):
            return type(error)(f"{origin}: {error.message}", hint=error.hint)
        if isinstance(error, socket.gaierror | ConnectionRefusedError):
            return NobodyThere(f"{origin}: {_reason(error)}")
        if isinstance(error, OSError):
            return Interrupted(f"{origin}: {_reason(error)}{self._shown(origin, error)}")
        if isinstance(error, http.client.HTTPException | ValueError):
            return Unavailable(f"{origin}: does not answer as HTTP does: {_reason(error)}")
        return error  # Ctrl-C and the like

    def _tls_complaint(self, origin: Origin, error: ssl.SSLError) -> Unavailable:
        _, found = self._context(origin)
        if isinstance(error, ssl.SSLCertVerificationError):
            place = f"{found.searched[0]}/ca.crt" if found.searched else "certs.d"
            return Unavailable(
                f"{origin}: its certificate is refused: {error.verify_message}; {certs.refusal(found)}",
                hint=f"put its authority's certificate into {place}",
            )
        if error.reason in _NOT_TLS:
            return NotTLS(f"{origin}: does not speak TLS", hint="--insecure-options=http allows plain http")
        return Unavailable(f"{origin}: {_reason(error)}{self._shown(origin, error)}")

    def _shown(self, origin: Origin, error: OSError) -> str:
        """Return the remark that no client certificate was shown, where that may be why the server hung up.

        In TLS 1.3 the server judges it after our first request, whose sending may fail before its alert is read.
        """
        if origin.scheme != "https" or not isinstance(error, ssl.SSLError | ConnectionError):
            return ""
        _, found = self._context(origin)
        return "" if found.clients else f"; no client certificate in {', '.join(found.searched)}"


class _Tries:
    """How often something was tried, and how long to wait before it is tried again."""

    def __init__(self, client: Client, who: str) -> None:
        self._client, self._who, self._count = client, who, 0

    def failed(self, error: Unavailable, wait: float | None = None) -> None:
        """Wait (``wait`` seconds, if the server asked for them), or raise ``error`` if this was the last try."""
        limits = self._client.limits
        self._count += 1
        if self._count == limits.tries:
            raise type(error)(f"{error.message} ({self._count} tries)", hint=error.hint) from None
        own = limits.pause * 2 ** (self._count - 1)
        self._client.pause(self._who, error.message, own if wait is None else wait)


class NobodyThere(Unavailable):
    """The host has no such name, or nothing listens at its port."""


class NotTLS(Unavailable):
    """The server answers a TLS handshake with something else."""


_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "PACKET_LENGTH_TOO_LONG"})


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or str(error)).lower().replace('_', ' ')}"
    if isinstance(error, http.client.RemoteDisconnected):
        return "closed the connection without an answer"
    if isinstance(error, OSError):
        return error.strerror or printable(str(error)) or type(error).__name__
    return printable(str(error)[:200]) or type(error).__name__


def _retry_after(text: str, longest: float) -> float | None:
    """Return the seconds that ``Retry-After`` asks for, in either of its forms (RFC 9110, 10.2.3); None if none."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return min(float(text), longest)
    try:
        when = email.utils.parsedate_to_datetime(text)
    except (ValueError, IndexError):
        return None
    return max(0.0, min(when.timestamp() - time.time(), longest))


def resumable(
    client: Client, open_at: Callable[[int], Answer], size: int | None, *, limit: int, start: int = 0
) -> Iterator[bytes]:
    """Yield a body from byte ``start`` on, asking again from where the connection broke.

    ``open_at(offset)`` asks for the rest from ``offset`` and has judged the status: 206, or 200 for the whole.
    ``size`` is what the whole must have (a descriptor's size), None if unknown; ``limit`` bounds it then.
    The caller compares the digest: after a break the rest may come from another server.
    Raises: ImageRefused for another size than ``size``; Unavailable when trying again did not help.
    """
    offset, tries, mark = start, 0, start
    while True:
        with open_at(offset) as answer:
            try:
                for chunk in _rest(answer, offset, size, limit):
                    offset += len(chunk)
                    yield chunk
                if size is None or offset == size:
                    return
                raise Interrupted(f"{origin_of(answer.url)}: the answer ended after {offset} of {size} bytes")
            except Interrupted as error:
                # A server that gives a little and breaks off each time must not keep us for ever.
                tries = 0 if offset - mark >= 1 << 20 else tries + 1
                mark = offset
                if tries >= client.limits.tries:
                    raise Unavailable(f"{error.message} ({tries} tries)") from None
                who = str(origin_of(answer.url))
                why = error.message
        client.pause(who, why, client.limits.pause * 2**tries)


def _rest(answer: Answer, offset: int, size: int | None, limit: int) -> Iterator[bytes]:
    """Yield what follows ``offset``, whether the server sends that part or begins at the front."""
    whole = size if size is not None else limit
    skip = 0
    if answer.status == 206:
        begin, total = _content_range(answer)
        if begin != offset:
            raise Unavailable(f"{origin_of(answer.url)}: was asked for byte {offset} on, sends from {begin} on")
        if size is not None and total not in {None, size}:
            raise ImageRefused(f"{answer.url}: has {total} bytes, {size} were declared")
    else:
        skip = offset
    expected = whole - offset + skip
    if size is not None and answer.length is not None and answer.length != expected:
        raise ImageRefused(f"{answer.url}: {answer.length} bytes are announced, {expected} were declared")
    for chunk in answer.chunks(expected):
        if skip >= len(chunk):
            skip -= len(chunk)
            continue
        yield chunk[skip:] if skip else chunk
        skip = 0


def _content_range(answer: Answer) -> tuple[int, int | None]:
    """Return (first byte, whole size or None) of ``Content-Range: bytes A-B/N``."""
    unit, _, text = answer.header("content-range").strip().partition(" ")
    span, _, total = text.partition("/")
    begin = span.partition("-")[0].strip()
    if unit.lower() != "bytes" or not (begin.isascii() and begin.isdigit()):
        raise Unavailable(f"{origin_of(answer.url)}: sends a part without saying which")
    return int(begin), int(total) if total.isascii() and total.isdigit() else None
