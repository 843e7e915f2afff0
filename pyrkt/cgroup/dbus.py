"""D-Bus, as much as talking to systemd takes: its wire format, the greeting, calls, and the signals after them.

Ours rather than a library's because engines with the systemd driver pay for it with each container: this takes 1 ms to
import, the smallest library 15 (docs/dependencies.md).
Source: the D-Bus specification 0.41, "Marshaling", "Message Protocol", "Authentication Protocol".
"""

from __future__ import annotations

import _socket
import os
import struct
import time

from pyrkt.base.errors import PyrktError, Unavailable
from pyrkt.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CALL, RETURN, ERROR, SIGNAL = 1, 2, 3, 4
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SIGNATURE = 1, 2, 3, 4, 5, 6, 8
_FIELD_TYPES = {_PATH: "o", _INTERFACE: "s", _MEMBER: "s", _DESTINATION: "s", _SIGNATURE: "g"}
_NO_REPLY = 1
_VERSION = 1
_HEAD_SIZE = 16
_MAX_MESSAGE = 1 << 27
_MAX_DEPTH = 32
_LINE = 4096
# letter: (struct's letter, size, which is its alignment, too)
_FIXED = {
    "y": ("B", 1),
    "b": ("I", 4),
    "n": ("h", 2),
    "q": ("H", 2),
    "i": ("i", 4),
    "u": ("I", 4),
    "x": ("q", 8),
    "t": ("Q", 8),
    "d": ("d", 8),
}
_ALIGNMENT = {"s": 4, "o": 4, "g": 1, "v": 1, "a": 4, "(": 8, "{": 8}


class CallFailed(PyrktError):
    """The other side answered a call with an error; ``name`` is such as "org.freedesktop.systemd1.NoSuchUnit"."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message or name)
        self.name = name


class Message(Record):
    """One message: ``kind`` is CALL, RETURN, ERROR or SIGNAL, ``body`` its arguments."""

    kind: int
    serial: int = 0
    reply_to: int = 0
    path: str = ""
    interface: str = ""
    member: str = ""
    error: str = ""
    signature: str = ""
    body: tuple[Any, ...] = ()


# --- the wire format ---


def split(signature: str) -> list[str]:
    """Return the complete types that ``signature`` is made of: "sa(sv)" is "s", "a(sv)". Raises ValueError."""
    found, at = [], 0
    while at < len(signature):
        end = _end_of_type(signature, at, 0)
        found.append(signature[at:end])
        at = end
    return found


def _end_of_type(signature: str, at: int, depth: int) -> int:
    if at >= len(signature) or depth > _MAX_DEPTH:
        raise ValueError(f"{signature!r} is no signature")
    letter = signature[at]
    if letter in _FIXED or letter in "sogv":
        return at + 1
    if letter == "a":
        return _end_of_type(signature, at + 1, depth + 1)
    closing = {"(": ")", "{": "}"}.get(letter)
    if closing is None:
        raise ValueError(f"{signature!r} is no signature")
    at += 1
    count = 0
    while at < len(signature) and signature[at] != closing:
        at, count = _end_of_type(signature, at, depth + 1), count + 1
    if at >= len(signature) or not count or (letter == "{" and count != 2):
        raise ValueError(f"{signature!r} is no signature")
    return at + 1


def _alignment(kind: str) -> int:
    return _FIXED[kind[0]][1] if kind[0] in _FIXED else _ALIGNMENT[kind[0]]


def _pad(into: bytearray, to: int) -> None:
    into += bytes(-len(into) % to)


def put(into: bytearray, kind: str, value: Any) -> None:
    """Append ``value`` of the complete type ``kind``; a variant is given as (type, value), a dict as a dict.

    Raises: ValueError for what does not fit.
    """
    _pad(into, _alignment(kind))
    letter = kind[0]
    if letter in _FIXED:
        try:
            into += struct.pack("<" + _FIXED[letter][0], value)
        except struct.error as error:
            raise ValueError(f"{value!r}: {error}") from None
    elif letter in "so":
        data = value.encode("utf-8")
        if b"\0" in data:
            raise ValueError(f"{value!r} has a NUL in it")
        into += struct.pack("<I", len(data)) + data + b"\0"
    elif letter == "g":
        data = value.encode("ascii")
        into += bytes((len(data),)) + data + b"\0"
    elif letter == "v":
        put(into, "g", value[0])
        put(into, *value)
    elif letter == "a":
        _put_array(into, kind[1:], value)
    else:
        for part, item in zip(split(kind[1:-1]), value, strict=True):
            put(into, part, item)


def _put_array(into: bytearray, kind: str, value: Any) -> None:
    at = len(into)
    into += bytes(4)
    _pad(into, _alignment(kind))
    start = len(into)
    if kind == "y":
        into += bytes(value)
    else:
        for item in value.items() if isinstance(value, dict) else value:
            put(into, kind, item)
    into[at : at + 4] = struct.pack("<I", len(into) - start)


def encode(message: Message, destination: str = "", flags: int = 0) -> bytes:
    """Return a call as it goes over the wire."""
    body = bytearray()
    for kind, value in zip(split(message.signature), message.body, strict=True):
        put(body, kind, value)
    fields = (
        (_PATH, message.path),
        (_INTERFACE, message.interface),
        (_MEMBER, message.member),
        (_DESTINATION, destination),
        (_SIGNATURE, message.signature),
    )
    data = bytearray(struct.pack("<cBBBII", b"l", message.kind, flags, _VERSION, len(body), message.serial))
    put(data, "a(yv)", [(code, (_FIELD_TYPES[code], text)) for code, text in fields if text])
    _pad(data, 8)
    return bytes(data + body)


class _Cursor:
    """Reads values off a message; whoever wrote it may have been wrong."""

    def __init__(self, data: bytes, at: int, order: str) -> None:
        self.data, self.at, self.order = data, at, order

    def take(self, count: int) -> bytes:
        found = self.data[self.at : self.at + count]
        if len(found) != count:
            raise ValueError("cut short")
        self.at += count
        return found

    def align(self, to: int) -> None:
        self.take(-self.at % to)

    def number(self, letter: str) -> Any:
        form, size = _FIXED[letter]
        self.align(size)
        return struct.unpack(self.order + form, self.take(size))[0]

    def value(self, kind: str, depth: int = 0) -> Any:
        letter = kind[0]
        if depth > 2 * _MAX_DEPTH:
            raise ValueError("too deep")
        if letter in _FIXED:
            found = self.number(letter)
            return bool(found) if letter == "b" else found
        if letter in "sog":
            size = self.take(1)[0] if letter == "g" else self.number("u")
            return self.take(size + 1)[:-1].decode("utf-8", "replace")
        if letter == "v":
            (inner,) = split(self.value("g"))
            return self.value(inner, depth + 1)
        if letter == "a":
            return self._array(kind[1:], depth)
        self.align(8)
        return tuple(self.value(part, depth + 1) for part in split(kind[1:-1]))

    def _array(self, kind: str, depth: int) -> Any:
        size = self.number("u")
        self.align(_alignment(kind))
        if kind == "y":
            return self.take(size)
        end, found = self.at + size, []
        while self.at < end:
            found.append(self.value(kind, depth + 1))
        return dict(found) if kind[0] == "{" else found


def size_of(head: bytes) -> int:
    """Return how many bytes the message has of which ``head`` is the first 16. Raises ValueError."""
    order = {b"l": "<", b"B": ">"}.get(head[:1], "")
    if not order or head[3] != _VERSION:
        raise ValueError("no D-Bus message")
    body, _, fields = struct.unpack(order + "III", head[4:16])
    size: int = _HEAD_SIZE + fields + -fields % 8 + body
    if size > _MAX_MESSAGE:
        raise ValueError("too long a message")
    return size


def decode(data: bytes) -> Message:
    """Return the message in ``data``. Raises ValueError."""
    try:
        return _decoded(data)
    except (TypeError, IndexError) as error:  # a header field of another type than it has, an empty signature
        raise ValueError(f"no D-Bus message: {error}") from None


def _decoded(data: bytes) -> Message:
    order = "<" if data[:1] == b"l" else ">"
    cursor = _Cursor(data, 8, order)
    serial = cursor.number("u")
    fields = dict(cursor.value("a(yv)"))
    cursor.align(8)
    signature = str(fields.get(_SIGNATURE, ""))
    return Message(
        kind=data[1],
        serial=serial,
        reply_to=int(fields.get(_REPLY_SERIAL, 0)),
        path=str(fields.get(_PATH, "")),
        interface=str(fields.get(_INTERFACE, "")),
        member=str(fields.get(_MEMBER, "")),
        error=str(fields.get(_ERROR_NAME, "")),
        signature=signature,
        body=tuple(cursor.value(kind) for kind in split(signature)),
    )


# --- the connection ---


def socket_of(address: str) -> str:
    """Return the socket in a D-Bus address ("unix:path=/run/x;..."), with a NUL first if it is an abstract one.

    "" if there is none of these. Source: D-Bus specification, "Server Addresses".
    """
    for one in address.split(";"):
        transport, _, rest = one.partition(":")
        keys = dict(pair.partition("=")[::2] for pair in rest.split(","))
        if transport == "unix" and "path" in keys:
            return _unescaped(keys["path"])
        if transport == "unix" and "abstract" in keys:
            return "\0" + _unescaped(keys["abstract"])
    return ""


def _unescaped(text: str) -> str:
    head, *rest = text.split("%")
    try:
        data = head.encode() + b"".join(bytes((int(part[:2], 16),)) + part[2:].encode() for part in rest)
    except ValueError:
        return text
    return os.fsdecode(data)


class Bus:
    """A connection to ``destination`` through a message bus, or, where that is "", to it directly."""

    def __init__(self, path: str, destination: str = "", seconds: float = 30.0) -> None:
        """Connect to the socket ``path`` and be greeted. Raises: Unavailable."""
        self.path, self.destination = path, destination
        self._serial, self._buffer, self._deadline = 0, b"", time.monotonic() + seconds
        self._seconds = seconds
        self.signals: list[Message] = []
        self.subscribed = False
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            self._socket.settimeout(seconds)
            self._socket.connect(path)
            self._greet()
        except (OSError, ValueError) as error:
            self._socket.close()
            raise self._lost(error) from None
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _lost(self, error: Exception) -> Unavailable:
        reason = getattr(error, "strerror", None) or str(error) or "no answer"
        return Unavailable(f"{self.path.replace(chr(0), '@')}: {reason}", hint="is systemd alive? see systemctl status")

    def _greet(self) -> None:
        """Say who we are: the kernel tells it of a unix socket, so that it holds in user namespaces, too.

        BEGIN goes out before the answer, as systemd's own tools send it: a message that systemd reads in one piece with
        BEGIN lies there until the next one comes.
        """
        self._socket.sendall(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")
        while not (line := self._line()).startswith(b"OK"):
            if line != b"DATA":
                raise ValueError(f"refused to talk to us: {line.decode('ascii', 'replace')}")
        if self.destination:
            self.call("Hello", destination="org.freedesktop.DBus", path="/org/freedesktop/DBus")

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            more = self._receive()
            if len(self._buffer) > _LINE:
                raise ValueError("no D-Bus")
            self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _receive(self) -> bytes:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(0, "no answer in time")
        self._socket.settimeout(left)
        more: bytes = self._socket.recv(1 << 16)
        if not more:
            raise ValueError("closed the connection")
        return more

    def _next(self) -> Message:
        if not self._buffer:
            self._buffer = self._receive()
        if self._buffer.startswith(b"ER"):
            self._line()  # systemd before 246 had no use for DATA
        while len(self._buffer) < _HEAD_SIZE or len(self._buffer) < size_of(self._buffer[:_HEAD_SIZE]):
            self._buffer += self._receive()
        size = size_of(self._buffer[:_HEAD_SIZE])
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return decode(data)

    def call(
        self,
        member: str,
        signature: str = "",
        *body: Any,
        path: str = "/org/freedesktop/systemd1",
        interface: str = "",
        destination: str = "",
    ) -> tuple[Any, ...]:
        """Call a method and return its answer; signals that come before it are kept.

        Raises: CallFailed, Unavailable.
        """
        to = destination or self.destination
        self._serial += 1
        self._deadline = time.monotonic() + self._seconds
        message = Message(
            kind=CALL,
            serial=self._serial,
            path=path,
            interface=interface or to,
            member=member,
            signature=signature,
            body=body,
        )
        try:
            self._socket.sendall(encode(message, to))
            while (answer := self._next()).reply_to != self._serial:
                self.signals += [answer] if answer.kind == SIGNAL else []
        except (OSError, ValueError) as error:
            raise self._lost(error) from None
        if answer.kind == ERROR:
            raise CallFailed(answer.error, str(answer.body[0]) if answer.body else "")
        return answer.body

    def signal(self) -> Message:
        """Return the oldest signal not yet returned; wait for one. Raises: Unavailable."""
        try:
            while not self.signals:
                message = self._next()
                self.signals += [message] if message.kind == SIGNAL else []
        except (OSError, ValueError) as error:
            raise self._lost(error) from None
        return self.signals.pop(0)
