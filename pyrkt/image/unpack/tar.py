"""tar, read strictly: headers to entries. Pure; every number is checked, nothing in an archive can raise but a refusal.

Reads ustar, PAX, GNU (long names, base-256 numbers, sparse files of all four kinds) and V7. Where readers disagree
about what an archive holds (CVE-2025-62518 was such a case) it takes the view of Go's archive/tar, by which the
diffIDs of nearly all images were made, or refuses. Sources: POSIX.1-2017 pax; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes
from zlib import adler32

from pyrkt.base.errors import ImageRefused, printable
from pyrkt.image.unpack.limits import DEFAULT, Limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLOCK = 512
REGULAR, LINK, SYMLINK, CHARACTER, DIRECTORY, FIFO, BLOCK_DEVICE = b"0", b"1", b"2", b"3", b"5", b"6", b"4"
_DATA = {b"0", b"\0", b"7", b"S"}
_KNOWN = {REGULAR, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO}
_MAX_ID = (1 << 32) - 2  # (uid_t) -1 means "leave it" to chown(2)
_MAX_TIME = 1 << 40  # seconds; 34,000 years, beyond what any file system stores
_MAX_MAJOR, _MAX_MINOR = (1 << 12) - 1, (1 << 20) - 1  # include/linux/kdev_t.h
_ZEROS = bytes(BLOCK)
_EXTENDED_TYPES = {b"x", b"g", b"X", b"L", b"K"}
_SECOND = 1_000_000_000
_CACHED = 4096


@dataclass(slots=True)
class Entry:
    """One entry. ``type`` is one of the constants above; ``size`` bytes of data follow in the archive.

    ``name`` and ``link`` are as written; ``mtime`` is in nanoseconds since 1970. A sparse file has ``segments``,
    (offset, length) of each piece of its data in order, and ``real_size``.
    """

    name: bytes
    type: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[str, bytes] = field(default_factory=dict)
    segments: list[tuple[int, int]] | None = None
    real_size: int = 0


def shown(name: bytes) -> str:
    """Return a name from an archive as it may be printed."""
    text = printable(name.decode("utf-8", "backslashreplace"))
    return text if len(text) <= 200 else f"{text[:200]}…"


class Archive:
    """An archive that comes in pieces. Take an entry by ``next``; then, if it has data, that by ``view`` or ``data``.

    What is not taken is skipped. ``ended`` tells, after the last entry, whether the archive had its end mark.
    """

    def __init__(self, pieces: Iterable[bytes], limits: Limits = DEFAULT) -> None:
        """Read ``pieces``, which may be cut anywhere."""
        self._pieces = iter(pieces)
        self._limits = limits
        self._buffer = b""
        self._position = 0
        self._left = 0  # bytes of the current entry's data
        self._padding = 0  # bytes after them, up to the next block
        self._globals: dict[str, bytes] = {}
        self._common: dict[bytes, tuple[int, int, int]] = {}
        self._times: dict[bytes, int] = {}
        self.entries = 0
        self.ended = False

    # -- bytes

    def _fill(self) -> bool:
        """Take the next piece; the buffer before it must have been used up."""
        for piece in self._pieces:
            if piece:
                self._buffer, self._position = piece, 0
                return True
        self._buffer, self._position = b"", 0
        return False

    def _exactly(self, size: int, what: str) -> bytes:
        start = self._position
        found = self._buffer[start : start + size]
        if len(found) == size:
            self._position = start + size
            return found
        parts, missing = [found], size - len(found)
        while missing:
            if not self._fill():
                raise ImageRefused(f"the archive is cut off in {what}", hint=_AGAIN)
            parts.append(self._buffer[:missing])
            missing -= len(parts[-1])
            self._position = len(parts[-1])
        return b"".join(parts)

    def _skip(self, size: int) -> int:
        """Skip ``size`` bytes; return how many of them were not there any more."""
        while size:
            here = len(self._buffer) - self._position
            if size <= here:
                self._position += size
                return 0
            size -= here
            if not self._fill():
                break
        return size

    def view(self) -> memoryview | None:
        """Return all data of the current entry without a copy, if it is in memory; else None."""
        start, size = self._position, self._left
        if start + size > len(self._buffer):
            return None
        self._position, self._left = start + size, 0
        return memoryview(self._buffer)[start : start + size]

    def data(self) -> Iterator[memoryview]:
        """Yield the data of the current entry as it comes."""
        while self._left:
            start = self._position
            take = min(self._left, len(self._buffer) - start)
            if take:
                self._position, self._left = start + take, self._left - take
                yield memoryview(self._buffer)[start : start + take]
            elif not self._fill():
                raise ImageRefused("the archive is cut off in the data of a file", hint=_AGAIN)

    def drain(self) -> None:
        """Take what follows the end mark: it is part of what the archive's digest covers."""
        while self._fill():
            pass

    # -- entries

    def next(self) -> Entry | None:
        """Return the next entry; None at the end of the archive. Raises: ImageRefused."""
        extended: dict[str, bytes] = {}
        long_name = long_link = b""
        waiting = False
        while (block := self._header()) is not None:
            kind = block[156:157]
            if kind not in _EXTENDED_TYPES:
                if kind == b"V":  # the name of the tape
                    self._begin(_size(block), BLOCK)
                    continue
                return self._entry(block, extended, long_name, long_link)
            body = self._extended(block)
            if kind == b"L":
                long_name = body.partition(b"\0")[0]
            elif kind == b"K":
                long_link = body.partition(b"\0")[0]
            elif kind == b"g":
                self._learn_globals(body)
                continue
            else:
                extended = parse_pax(body)
            waiting = True
        if waiting:
            raise ImageRefused("the archive ends with an extended header that belongs to no entry")
        return None

    def _header(self) -> bytes | None:
        skip = self._left + self._padding
        if skip:
            padding, self._left, self._padding = self._padding, 0, 0
            if missing := self._skip(skip):
                if missing > padding:
                    raise ImageRefused("the archive is cut off in the data of a file", hint=_AGAIN)
                return None  # Go takes it for the end, and so umoci insert writes no filling after the last file
        start = self._position
        block = self._buffer[start : start + BLOCK]
        if len(block) == BLOCK:
            self._position = start + BLOCK
        elif self._position < len(self._buffer) or self._fill():
            block = self._exactly(BLOCK, "a header")
        else:
            return None
        if block == _ZEROS:
            self._end()
            return None
        if not checksum_fits(block):
            raise ImageRefused(
                "not a tar archive: the checksum of a header is wrong"
                if not self.entries
                else f"the checksum of the header after entry {self.entries} is wrong",
                hint=_AGAIN,
            )
        return block

    def _end(self) -> None:
        """Read the second block of the end mark; a lone one at the very end will do, as for GNU tar and Go."""
        more = self._position < len(self._buffer) or self._fill()
        if more and self._exactly(BLOCK, "its end mark") != _ZEROS:
            raise ImageRefused("the archive goes on after half an end mark")
        self.ended = True

    def _begin(self, size: int, multiple: int) -> None:
        if size > self._limits.total:
            raise ImageRefused(f"an entry claims to have {size} bytes", hint="a decompression bomb?")
        self._left, self._padding = size, -size % multiple

    def _extended(self, block: bytes) -> bytes:
        size = _size(block)
        if size > self._limits.extended:
            raise ImageRefused(f"an extended header of {size} bytes")
        self._begin(size, BLOCK)
        body = self._exactly(size, "an extended header")
        self._left = 0
        return body

    def _entry(self, block: bytes, extended: dict[str, bytes], long_name: bytes, long_link: bytes) -> Entry:
        self.entries += 1
        if self.entries > self._limits.entries:
            raise ImageRefused(f"more than {self._limits.entries} entries", hint="a decompression bomb?")
        words = block[100:124]
        common = self._common.get(words)
        if common is None:
            common = self._learn(words)
        time = block[136:148]
        mtime = self._times.get(time)
        if mtime is None:
            mtime = self._learn_time(time)
        kind = block[156:157]
        name = block[:100].partition(b"\0")[0]
        if block[257:263] == b"ustar\0" and block[345] and not _is_star(block):
            name = block[345:500].partition(b"\0")[0] + b"/" + name
        entry = Entry(name, kind, common[0], common[1], common[2], _size(block), mtime)
        if kind not in _DATA:
            entry.link = block[157:257].partition(b"\0")[0]
        if self._globals or extended:
            self._apply({**self._globals, **extended} if self._globals else extended, entry)
        if long_name:
            entry.name = long_name
        if long_link:
            entry.link = long_link
        if kind == REGULAR and entry.segments is None and entry.name[-1:] != b"/":
            self._begin(entry.size, BLOCK)  # nine entries in ten
        else:
            self._settle(entry, block)
        return entry

    def _learn(self, words: bytes) -> tuple[int, int, int]:
        if len(self._common) >= _CACHED:
            self._common.clear()
        uid, gid = number(words[8:16], "uid"), number(words[16:24], "gid")
        if not (0 <= uid <= _MAX_ID and 0 <= gid <= _MAX_ID):
            raise ImageRefused(f"an owner out of range: {uid}:{gid}")
        common = self._common[words] = (number(words[:8], "mode") & 0o7777, uid, gid)
        return common

    def _learn_time(self, text: bytes) -> int:
        if len(self._times) >= _CACHED:
            self._times.clear()
        seconds = number(text, "time")
        if abs(seconds) > _MAX_TIME:
            raise ImageRefused(f"a time out of range: {seconds}")
        mtime = self._times[text] = seconds * _SECOND
        return mtime

    def _settle(self, entry: Entry, block: bytes) -> None:
        """Find out what the entry really is, and how many bytes of the archive are its data."""
        if entry.type in _DATA:
            self._settle_data(entry, block)
            return
        if entry.type not in _KNOWN:
            raise ImageRefused(f"{shown(entry.name)}: an entry of unknown type '{shown(entry.type)}'")
        if entry.size and entry.type not in {LINK, DIRECTORY}:
            # Go ignores the size, GNU tar skips that many bytes: two readers would see two archives.
            raise ImageRefused(f"{shown(entry.name)}: an entry without data claims {entry.size} bytes of it")
        entry.size = 0
        if entry.type in {CHARACTER, BLOCK_DEVICE}:
            major, minor = number(block[329:337], "device"), number(block[337:345], "device")
            if not (0 <= major <= _MAX_MAJOR and 0 <= minor <= _MAX_MINOR):
                raise ImageRefused(f"{shown(entry.name)}: a device number out of range: {major}:{minor}")
            entry.device = (major, minor)

    def _settle_data(self, entry: Entry, block: bytes) -> None:
        if entry.type == b"S":
            self._old_sparse(entry, block)
        elif entry.segments is not None:
            self._begin(entry.size, BLOCK)
            self._new_sparse(entry)
        elif entry.name.endswith(b"/"):
            # V7 had no type for directories. With data behind it readers would not agree where the next entry is.
            if entry.size:
                raise ImageRefused(f"{shown(entry.name)}: a directory with {entry.size} bytes of data")
            entry.type = DIRECTORY
            return
        else:
            self._begin(entry.size, BLOCK)
        entry.type = REGULAR

    # -- PAX

    def _learn_globals(self, body: bytes) -> None:
        records = parse_pax(body)
        for key in records:
            # POSIX applies it to every entry that follows, Go to none.
            if key in {"path", "linkpath", "size"} or key.startswith(("GNU.", "SCHILY.", "LIBARCHIVE.")):
                raise ImageRefused(f"a global extended header sets {shown(key.encode('utf-8', 'replace'))}")
        self._globals |= records
        if sum(map(len, self._globals)) + sum(map(len, self._globals.values())) > self._limits.extended:
            raise ImageRefused(f"global extended headers of more than {self._limits.extended} bytes")

    def _apply(self, records: dict[str, bytes], entry: Entry) -> None:
        sparse: dict[str, bytes] = {}
        total = 0
        for key, value in records.items():
            if key.startswith(("SCHILY.xattr.", "LIBARCHIVE.xattr.")):
                name, content = _xattr(key, value)
                total += len(name) + len(content)
                entry.xattrs[name] = content
            elif key.startswith("GNU.sparse."):
                sparse[key[11:]] = value
            elif value:  # an empty value takes back a global one: the header's own counts
                _SETTERS.get(key, _ignore)(entry, value)
        if total > self._limits.xattrs:
            raise ImageRefused(f"{shown(entry.name)}: {total} bytes of extended attributes")
        if sparse:
            self._sparse_records(sparse, entry)

    def _sparse_records(self, sparse: dict[str, bytes], entry: Entry) -> None:
        if "name" in sparse:
            entry.name = _text(sparse["name"])
        if "realsize" in sparse or "size" in sparse:
            entry.real_size = decimal(sparse.get("realsize") or sparse.get("size", b""), "sparse size")
        if sparse.get("major") == b"1" and sparse.get("minor") == b"0":
            entry.segments = []  # the map comes at the beginning of the data
        elif "map" in sparse:
            entry.segments = _pairs([decimal(text, "sparse map") for text in sparse["map"].split(b",")])
            _check_segments(entry, self._limits)
        elif sparse.get("numblocks") == b"0":
            entry.segments = [(entry.real_size, 0)]
            _check_segments(entry, self._limits)
        elif "major" in sparse:
            raise ImageRefused(f"{shown(entry.name)}: a sparse file of unknown format")

    # -- sparse files

    def _old_sparse(self, entry: Entry, block: bytes) -> None:
        """Old GNU format: four pairs in the header, 21 in each block after it."""
        numbers = [number(block[at : at + 12], "sparse map") for at in range(386, 482, 12)]
        entry.real_size = number(block[483:495], "sparse size")
        more, taken = block[482], 0
        while more:
            taken += BLOCK
            if taken > self._limits.extended:
                raise ImageRefused(f"{shown(entry.name)}: a sparse map of {taken} bytes")
            extra = self._exactly(BLOCK, "a sparse map")
            numbers += [number(extra[at : at + 12], "sparse map") for at in range(0, 504, 12)]
            more = extra[504]
        self._begin(entry.size, BLOCK)
        entry.segments = [(offset, length) for offset, length in _pairs(numbers) if length or offset]
        _check_segments(entry, self._limits)

    def _new_sparse(self, entry: Entry) -> None:
        """PAX format 1.0: lines of decimal numbers, filled up to a block, in front of the data."""
        if entry.segments:
            return
        lines: list[bytes] = []
        text, taken, wanted = b"", 0, 1
        while len(lines) < wanted:
            taken += BLOCK
            if taken > min(self._left, self._limits.extended):
                raise ImageRefused(f"{shown(entry.name)}: a damaged sparse map")
            *whole, text = (text + self._exactly(BLOCK, "a sparse map")).split(b"\n")
            if len(text) > 20 and len(lines) + len(whole) < wanted:
                raise ImageRefused(f"{shown(entry.name)}: a damaged sparse map")
            lines += whole
            if wanted == 1 and lines:
                wanted += 2 * decimal(lines[0], "sparse map")
        self._left -= taken
        entry.size -= taken
        entry.segments = _pairs([decimal(line, "sparse map") for line in lines[1:wanted]])
        _check_segments(entry, self._limits)


_AGAIN = "fetch it again; if it stays so, tell who publishes the image"


def checksum_fits(block: bytes) -> bool:
    """Tell whether the checksum in the header ``block`` is that of its bytes, taken unsigned or signed."""
    try:
        stored = number(block[148:156], "checksum")
    except ImageRefused:
        return False
    blank = block[:148] + b"        " + block[156:]
    if blank.isascii():
        # The low half of Adler-32 is 1 plus the sum modulo 65521, which 512 ASCII bytes do not reach.
        return (adler32(blank) & 0xFFFF) - 1 == stored
    unsigned = sum(blank)
    return stored in {unsigned, unsigned - 256 * sum(byte > 127 for byte in blank)}


def _is_star(block: bytes) -> bool:
    """Tell whether star(1) wrote the header: it has times where others have the end of the prefix."""
    return block[508:512] == b"tar\0"


def number(text: bytes, what: str) -> int:
    """Return the number in a header field: octal digits, or base-256 if its first bit is set.

    An empty field is 0. Raises: ImageRefused.
    """
    first = text[0]
    if first & 0x80:
        value = int.from_bytes(text, "big", signed=False) & ((1 << (8 * len(text) - 1)) - 1)
        if first & 0x40:
            value -= 1 << (8 * len(text) - 1)
        if abs(value) >> 63:
            raise ImageRefused(f"a header with a {what} beyond 64 bits")
        return value
    digits = text.partition(b"\0")[0].strip(b" ")
    if not digits:
        return 0
    if not digits.isdigit():
        raise ImageRefused(f"a header whose {what} is no number: '{shown(digits)}'")
    try:
        return int(digits, 8)
    except ValueError:
        raise ImageRefused(f"a header whose {what} is not octal: '{shown(digits)}'") from None


def _size(block: bytes) -> int:
    size = number(block[124:136], "size")
    if size < 0:
        raise ImageRefused(f"a header with a negative size: {size}")
    return size


def decimal(text: bytes, what: str) -> int:
    """Return a number of a PAX record: decimal digits, nothing else. Raises: ImageRefused."""
    if not text.isdigit() or len(text) > 19:
        raise ImageRefused(f"an extended header whose {what} is no number: '{shown(text[:40])}'")
    return int(text)


def nanoseconds(text: bytes) -> int:
    """Return a PAX time, decimal seconds with sign and fraction, in nanoseconds. Raises: ImageRefused."""
    negative = text.startswith(b"-")
    whole, _, fraction = text.removeprefix(b"-").partition(b".")
    if len(text) > 64 or not (whole + fraction).isdigit():  # "nan" and "1_0" are numbers only to Python
        raise ImageRefused(f"an extended header whose time is no number: '{shown(text[:40])}'")
    seconds = int(whole or b"0")
    if seconds > _MAX_TIME:
        raise ImageRefused(f"a time out of range: {seconds}")
    value = seconds * _SECOND + int(fraction[:9].ljust(9, b"0"))
    return -value if negative else value


def parse_pax(body: bytes) -> dict[str, bytes]:
    """Return the records of an extended header: lines ``length key=value``, where length counts the whole line.

    Of a key given twice the last counts; the old sparse format, which repeats keys, comes back as one ``map``.
    Raises: ImageRefused.
    """
    records: dict[str, bytes] = {}
    pieces: list[bytes] = []
    position, end = 0, len(body)
    while position < end:
        if body[position] == 0 and not body[position:].strip(b"\0"):
            break  # some writers fill the block
        blank = body.find(b" ", position, position + 9)
        if blank < 0:
            raise ImageRefused("an extended header with a record of no length")
        stop = position + decimal(body[position:blank], "length")
        if stop > end or stop <= blank + 1 or body[stop - 1] != 0x0A:
            raise ImageRefused("an extended header with a record of wrong length")
        key, equals, value = body[blank + 1 : stop - 1].partition(b"=")
        position = stop
        if not equals or not key or b"\0" in key:
            raise ImageRefused("an extended header with a record of no key")
        if key in {b"GNU.sparse.offset", b"GNU.sparse.numbytes"}:
            if (key[11:12] == b"o") != (len(pieces) % 2 == 0):
                raise ImageRefused("an extended header with a damaged sparse map")
            pieces.append(value)
        else:
            records[key.decode("utf-8", "surrogateescape")] = value
    if pieces:
        records["GNU.sparse.map"] = b",".join(pieces)
    return records


def _pairs(numbers: list[int]) -> list[tuple[int, int]]:
    if len(numbers) % 2:
        raise ImageRefused("a sparse map with an odd number of numbers")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _check_segments(entry: Entry, limits: Limits) -> None:
    position = data = 0
    for offset, length in entry.segments or ():
        if offset < position or length < 0:
            raise ImageRefused(f"{shown(entry.name)}: a sparse map that runs backwards")
        position = offset + length
        data += length
    if position > entry.real_size or entry.real_size > limits.total or data != entry.size:
        raise ImageRefused(f"{shown(entry.name)}: a sparse map that does not fit its file")


def _xattr(key: str, value: bytes) -> tuple[str, bytes]:
    if key.startswith("SCHILY.xattr."):
        return key[13:], value
    try:
        # libarchive: the name percent-encoded, the value base64 without its padding
        name = unquote_to_bytes(key[17:].encode("utf-8", "surrogateescape"))
        content = binascii.a2b_base64(value + b"=" * (-len(value) % 4))
    except binascii.Error as error:
        raise ImageRefused(f"an extended attribute that is not base64: {error}") from None
    if b"\0" in name:
        raise ImageRefused("an extended attribute with a NUL in its name")
    return name.decode("utf-8", "surrogateescape"), content


def _text(value: bytes) -> bytes:
    if b"\0" in value:
        raise ImageRefused(f"a name with a NUL in it: '{shown(value)}'")
    return value


def _set_name(entry: Entry, value: bytes) -> None:
    entry.name = _text(value)


def _set_link(entry: Entry, value: bytes) -> None:
    entry.link = _text(value)


def _set_size(entry: Entry, value: bytes) -> None:
    entry.size = decimal(value, "size")


def _set_uid(entry: Entry, value: bytes) -> None:
    entry.uid = _id(value)


def _set_gid(entry: Entry, value: bytes) -> None:
    entry.gid = _id(value)


def _set_mtime(entry: Entry, value: bytes) -> None:
    entry.mtime = nanoseconds(value)


def _ignore(entry: Entry, value: bytes) -> None:
    """Names of owners above all: the image's ids count, not what the host calls them."""


def _id(value: bytes) -> int:
    found = decimal(value, "owner")
    if found > _MAX_ID:
        raise ImageRefused(f"an owner out of range: {found}")
    return found


_SETTERS = {
    "path": _set_name,
    "linkpath": _set_link,
    "size": _set_size,
    "uid": _set_uid,
    "gid": _set_gid,
    "mtime": _set_mtime,
}
