"""Protocol buffers, as far as criu's messages need them: numbers, texts, and messages within messages.

Source: protobuf.dev, "Encoding". A message is (field number, value) pairs here; a field may come several times.
"""

from __future__ import annotations

from pyrkt.base.errors import PyrktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Value = int | str | bytes

_NUMBER, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_LONGEST = 10  # bytes of a varint


def encode(fields: Sequence[tuple[int, Value]]) -> bytes:
    """Return the bytes of a message; a negative number is one of 64 bits."""
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts += [_varint(number << 3 | _NUMBER), _varint(value & (1 << 64) - 1)]
            continue
        data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        parts += [_varint(number << 3 | _BYTES), _varint(len(data)), data]
    return b"".join(parts)


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def decode(data: bytes) -> dict[int, list[int | bytes]]:
    """Return the values of each field of a message. Raises: PyrktError if it is none."""
    found: dict[int, list[int | bytes]] = {}
    at = 0
    while at < len(data):
        key, at = _number(data, at)
        kind, value = key & 7, 0
        if kind == _NUMBER:
            value, at = _number(data, at)
            found.setdefault(key >> 3, []).append(value)
            continue
        size = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}.get(kind, -1)
        if kind == _BYTES:
            size, at = _number(data, at)
        if size < 0 or at + size > len(data):
            raise PyrktError("a message that is cut short, or none")
        found.setdefault(key >> 3, []).append(data[at : at + size])
        at += size
    return found


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(_LONGEST):
        if at + place >= len(data):
            break
        byte = data[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise PyrktError("a message that is cut short, or none")


def number(message: dict[int, list[int | bytes]], field: int, default: int = 0) -> int:
    """Return the last value of a number, signed if it is a negative one of 32 or 64 bits."""
    value = message.get(field, [default])[-1]
    if not isinstance(value, int):
        raise PyrktError("a message with a text in the place of a number")
    return value - (1 << 64) if value >= 1 << 63 else value


def text(message: dict[int, list[int | bytes]], field: int) -> str:
    """Return the last value of a text, "" if there is none."""
    value = message.get(field, [b""])[-1]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def inner(message: dict[int, list[int | bytes]], field: int) -> dict[int, list[int | bytes]]:
    """Return the last value of a message within the message, an empty one if there is none."""
    value = message.get(field, [b""])[-1]
    return decode(value) if isinstance(value, bytes) else {}
