"""OpenPGP's envelope: ASCII armour and packet framing (RFC 9580, sections 4 and 6), with bounds on everything.

The library parses packets too, but it unpacks compressed ones without limit and stops at the first signature of
a file. So the outermost layer is read here, and only what has the expected form is handed on.
"""

from __future__ import annotations

import base64
import binascii
import bz2
import re
import zlib
from dataclasses import dataclass
from enum import IntEnum

from pyrkt.base.errors import ImageRefused

MAX_PACKETS = 4096


class Tag(IntEnum):
    """Packet types that matter here (RFC 9580, section 5; AED is LibrePGP's)."""

    PKESK = 1
    SIGNATURE = 2
    SKESK = 3
    ONE_PASS_SIGNATURE = 4
    SECRET_KEY = 5
    PUBLIC_KEY = 6
    SECRET_SUBKEY = 7
    COMPRESSED = 8
    SED = 9
    MARKER = 10
    LITERAL = 11
    SEIPD = 18
    AED = 20
    PADDING = 21


class Malformed(ImageRefused):
    """The bytes are not OpenPGP packets, or break their framing."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet: its type as a number (unknown ones are passed on) and its body."""

    tag: int
    body: bytes

    def __bytes__(self) -> bytes:
        """Return the packet in the new format with a four-octet length, whatever it came in."""
        return bytes((0xC0 | self.tag, 0xFF)) + len(self.body).to_bytes(4, "big") + self.body


@dataclass(frozen=True, slots=True)
class Block:
    """One armoured block: ``kind`` is what stands after BEGIN PGP ("SIGNATURE", "PUBLIC KEY BLOCK")."""

    kind: str
    data: bytes


_BEGIN = re.compile(rb"^-----BEGIN PGP ([A-Z0-9 ,/]{1,40})-----[ \t]*\r?$", re.MULTILINE)
_HEADER = re.compile(rb"[A-Za-z][A-Za-z0-9-]*: ?.*")


def is_armoured(data: bytes) -> bool:
    """Tell whether ``data`` is text with an armoured block; every binary packet begins with a byte over 127."""
    return bool(data) and data[0] < 0x80 and b"-----BEGIN PGP " in data


def dearmour(data: bytes) -> list[Block]:
    """Return the armoured blocks of ``data``; text around them is ignored, as every implementation does.

    Of a clearsigned message only the fact is told: a Block of kind SIGNED MESSAGE without data.
    The checksum is not looked at: RFC 9580 section 6.1 says it proves nothing. Raises: Malformed.
    """
    blocks: list[Block] = []
    position = 0
    while begin := _BEGIN.search(data, position):
        kind = begin[1].decode("ascii")
        if kind == "SIGNED MESSAGE":
            return [Block(kind, b"")]
        end = data.find(b"-----END PGP " + begin[1] + b"-----", begin.end())
        if end < 0:
            raise Malformed(f"armoured {kind} has no end")
        blocks.append(Block(kind, armoured_body(data[begin.end() : end])))
        position = end + 1
        if len(blocks) > MAX_PACKETS:
            raise Malformed("too many armoured blocks")
    return blocks


def armoured_body(text: bytes) -> bytes:
    """Return the bytes between BEGIN and END of an armoured block, after its headers."""
    lines = [line.strip() for line in text.lstrip(b"\r\n").split(b"\n")]
    start = 0
    while start < len(lines) and _HEADER.fullmatch(lines[start]):
        start += 1
    rows = [line for line in lines[start:] if line and not (line[:1] == b"=" and len(line) == 5)]
    try:
        return base64.b64decode(b"".join(rows), validate=True)
    except binascii.Error as error:
        raise Malformed(f"armour is not base64: {error}") from None


def parse(data: bytes) -> list[Packet]:
    """Return the packets of ``data``, nested ones still inside the body of theirs. Raises: Malformed."""
    packets: list[Packet] = []
    position = 0
    while position < len(data):
        packet, position = packet_at(data, position)
        packets.append(packet)
        if len(packets) > MAX_PACKETS:
            raise Malformed(f"more than {MAX_PACKETS} OpenPGP packets")
    return packets


def packet_at(data: bytes, position: int) -> tuple[Packet, int]:
    """Return (packet, where the next begins) at ``position``. Raises: Malformed."""
    header = data[position]
    if not header & 0x80:
        raise Malformed(f"no OpenPGP packet at byte {position}")
    if header & 0x40:
        return _new_format(data, position)
    tag, kind = header >> 2 & 15, header & 3
    if kind == 3:  # "until the end": how gpg writes a compressed packet it makes on the fly
        return Packet(tag, data[position + 1 :]), len(data)
    start = position + 1 + (1 << kind)
    size = int.from_bytes(_take(data, position + 1, 1 << kind), "big")
    return Packet(tag, _take(data, start, size)), start + size


def _new_format(data: bytes, position: int) -> tuple[Packet, int]:
    tag = data[position] & 63
    position += 1
    parts: list[bytes] = []
    while True:
        size, position, partial = new_length(data, position)
        parts.append(_take(data, position, size))
        position += size
        if not partial:
            return Packet(tag, b"".join(parts)), position
        if tag not in (Tag.COMPRESSED, Tag.SED, Tag.LITERAL, Tag.SEIPD, Tag.AED):
            raise Malformed(f"packet of type {tag} comes in parts")  # RFC 9580, 4.2.1.4: only data packets may


def head_at(data: bytes, position: int) -> tuple[int, int]:
    """Return (type, where its body begins) of the packet at ``position``, which need not be there in full."""
    header = data[position]
    if not header & 0x80:
        raise Malformed(f"no OpenPGP packet at byte {position}")
    if header & 0x40:
        return header & 63, new_length(data, position + 1)[1]
    return header >> 2 & 15, position + 1 + (1 << (header & 3) if header & 3 != 3 else 0)


def new_length(data: bytes, position: int) -> tuple[int, int, bool]:
    """Return (length, where the body begins, whether more parts follow) of a new-format length at ``position``."""
    first = _take(data, position, 1)[0]
    if first < 192:
        return first, position + 1, False
    if first < 224:
        return (first - 192 << 8) + _take(data, position + 1, 1)[0] + 192, position + 2, False
    if first < 255:
        return 1 << (first & 31), position + 1, True
    return int.from_bytes(_take(data, position + 1, 4), "big"), position + 5, False


def _take(data: bytes, position: int, size: int) -> bytes:
    part = data[position : position + size]
    if len(part) != size:
        raise Malformed("OpenPGP packet is cut short")
    return part


def uncompress(packet: Packet, limit: int) -> bytes:
    """Return what a COMPRESSED packet holds, at most ``limit`` bytes. Raises: Malformed if it is more, or damaged."""
    if not packet.body:
        raise Malformed("compressed packet is empty")
    algorithm, body = packet.body[0], packet.body[1:]
    try:
        if algorithm == 0:
            plain = body
        elif algorithm in (1, 2):
            plain = zlib.decompressobj(-15 if algorithm == 1 else 15).decompress(body, limit + 1)
        elif algorithm == 3:
            plain = bz2.BZ2Decompressor().decompress(body, limit + 1)
        else:
            raise Malformed(f"unknown compression {algorithm}")
    except (zlib.error, OSError, ValueError) as error:
        raise Malformed(f"compressed packet is damaged: {error}") from None
    if len(plain) > limit:
        raise Malformed(f"compressed packet unpacks to more than {limit} bytes")
    return plain


def literal(packet: Packet) -> tuple[str, bytes]:
    """Return (format letter, content) of a LITERAL packet (RFC 9580, section 5.9)."""
    body = packet.body
    if len(body) < 2 or len(body) < 6 + body[1]:
        raise Malformed("literal packet is cut short")
    return chr(body[0]), body[6 + body[1] :]
