"""The outer shell of a layer: whatever it is packed with, plain bytes come out, in bounded pieces."""

from __future__ import annotations

import bz2
import lzma
import zlib
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol, cast

import zstandard

from pyrkt.base.errors import ImageRefused
from pyrkt.base.units import human_bytes
from pyrkt.image.unpack.limits import DEFAULT, Limits

try:
    # igzip inflates at twice zlib's speed (775 MB/s against 354, measured); its objects behave the same.
    from isal import isal_zlib
except ImportError:  # no wheel for this machine
    _fast: Any = zlib
else:
    _fast = isal_zlib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import IO

PIECE = 256 << 10
"""Bytes of plain data that are in memory at once; larger ones are not faster."""
_FEED = 32 << 10
_EMPTY_MEMBERS, _LEAST_BLOCK = 100_000, 16  # headers without content would cost hours instead of memory

_SKIPPABLE = tuple(bytes((low, 0x2A, 0x4D, 0x18)) for low in range(0x50, 0x60))
_ZSTD = b"\x28\xb5\x2f\xfd"
_LONGEST_MAGIC = 6


def sniff(beginning: bytes) -> str:
    """Return how a stream that begins so is packed: gzip, zstd, bzip2, xz, or "" for plain.

    Registries and tools lie in media types (zstd under a gzip type is common), so only the bytes count.
    Source: RFC 1952 2.3.1; RFC 8878 3.1; bzip2 and xz file formats.
    """
    if beginning.startswith(b"\x1f\x8b"):
        return "gzip"
    if beginning.startswith((_ZSTD, *_SKIPPABLE)):
        return "zstd"
    if beginning.startswith(b"BZh"):
        return "bzip2"
    if beginning.startswith(b"\xfd7zXZ\0"):
        return "xz"
    return ""


def plain(chunks: Iterable[bytes], limits: Limits = DEFAULT) -> Iterator[bytes]:
    """Yield the plain bytes of the stream ``chunks``, in pieces of at most 256 KiB (of any size if not packed).

    Several members, frames or streams after one another are one, as all the formats say.
    Raises: ImageRefused if the stream is damaged, cut, followed by something else, or unpacks beyond ``limits``.
    """
    source = iter(chunks)
    beginning = b""
    for chunk in source:
        beginning += chunk
        if len(beginning) >= _LONGEST_MAGIC:
            break
    if not beginning:
        raise ImageRefused("the archive is empty")
    kind = sniff(beginning)
    counted = _Counter(beginning, source)
    unpacked = _UNPACKERS[kind](counted, limits) if kind else iter(counted)
    total = 0
    try:
        for piece in unpacked:
            total += len(piece)
            _check_size(total, counted.total, limits)
            yield piece
    except (zlib.error, _fast.error, lzma.LZMAError, zstandard.ZstdError, OSError, EOFError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # not the decompressor's: the pipe or the disk
        raise ImageRefused(f"the {kind} stream is damaged: {error}", hint=_AGAIN) from error


_AGAIN = "fetch it again; if it stays so, tell who publishes the image"


def _check_size(total: int, packed: int, limits: Limits) -> None:
    if total > limits.total:
        raise ImageRefused(f"unpacks to more than {human_bytes(limits.total)}", hint="a decompression bomb?")
    if total > limits.ratio_free and total > limits.ratio * packed:
        raise ImageRefused(
            f"{human_bytes(packed)} unpack to more than {human_bytes(total)}, over {limits.ratio} times as much",
            hint="a decompression bomb?",
        )


class _Counter:
    """The packed bytes, cut small, and how many of them were taken."""

    def __init__(self, beginning: bytes, rest: Iterator[bytes]) -> None:
        self._beginning, self._rest = beginning, rest
        self.total = 0

    def __iter__(self) -> Iterator[bytes]:
        self.total += len(self._beginning)
        yield self._beginning
        for chunk in self._rest:
            if chunk:
                self.total += len(chunk)
                yield chunk

    def slices(self) -> Iterator[bytes]:
        """Yield at most 32 KiB at a time: what a member leaves unused is copied, once for each tiny member."""
        for chunk in self:
            for start in range(0, len(chunk), _FEED):
                yield chunk[start : start + _FEED]


def _cut(kind: str) -> ImageRefused:
    return ImageRefused(f"the {kind} stream is cut off", hint=_AGAIN)


def _gunzip(source: _Counter, limits: Limits) -> Iterator[bytes]:
    """Yield the content of all members of a gzip file."""
    return _inflate(source, _fast.decompressobj)


def _inflate(source: _Counter, make: Callable[..., Any]) -> Iterator[bytes]:
    member = make(wbits=31)  # 16 + 15: a gzip header and trailer, with its checksum, are required
    fresh, empty = True, 0  # fresh: nothing of this member has come yet
    for piece in source.slices():
        data = piece
        while data:
            if fresh and not data.strip(b"\0"):
                break  # tapes and some mirrors pad with zeros; gzip(1) ignores them too
            output = member.decompress(data, PIECE)
            fresh = False
            if output:
                yield output
                empty = 0
            if member.eof:
                data = member.unused_data
                member, fresh, empty = make(wbits=31), True, empty + 1
                if empty > _EMPTY_MEMBERS:
                    raise ImageRefused("the gzip stream consists of empty members", hint="a decompression bomb?")
            else:
                data = member.unconsumed_tail
    if not fresh:
        # What is inside the decompressor still comes out without input; then the end must have been seen.
        while output := member.decompress(b"", PIECE):
            yield output
        if not member.eof:
            raise _cut("gzip")


_AHEAD = 8


def ahead(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield ``pieces``, which a thread makes, at most eight of them ahead.

    Inflating and hashing need no interpreter: while another core does them, this thread makes files. It helps where
    a core would be idle else (an eighth of the time for one layer on two cores), and costs a little where none is.
    """
    made: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
    room: SimpleQueue[int] = SimpleQueue()  # 1: for one more, 0: no more are wanted
    for _ in range(_AHEAD):
        room.put(1)

    def make() -> None:
        try:
            for piece in pieces:
                if not room.get():
                    return
                made.put(piece)
            made.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again where the pieces are taken
            made.put(error)

    Thread(target=make, daemon=True).start()
    try:
        while (piece := made.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            room.put(1)
            yield piece
    finally:
        room.put(0)


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


def _streams(source: _Counter, kind: str, make: Callable[[], _Decompressor]) -> Iterator[bytes]:
    """Yield the content of bzip2 or xz streams, one after another."""
    stream: _Decompressor | None = None
    for piece in source.slices():
        data = piece
        while data or (stream is not None and not stream.needs_input):
            if stream is None:
                data = data.lstrip(b"\0")  # xz pads streams with zeros, in fours
                if not data:
                    break
                stream = make()
            output = stream.decompress(data, PIECE)
            data = b""
            if output:
                yield output
            if stream.eof:
                data, stream = stream.unused_data, None
    if stream is not None:
        raise _cut(kind)


def _bunzip2(source: _Counter, limits: Limits) -> Iterator[bytes]:
    return _streams(source, "bzip2", bz2.BZ2Decompressor)


def _unxz(source: _Counter, limits: Limits) -> Iterator[bytes]:
    # Without a limit a 100-byte file may ask for 4 GiB of dictionary (CVE-2021-20291 was such a hang).
    return _streams(source, "xz", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=limits.window))


def _unzstd(source: _Counter, limits: Limits) -> Iterator[bytes]:
    walk = _Frames(source)
    # decompressobj would return all that one call unpacks: 256 KiB of input may be 8 GiB.
    unpacker = zstandard.ZstdDecompressor(max_window_size=limits.window)
    reader = unpacker.stream_reader(cast("IO[bytes]", walk), read_across_frames=True)
    while output := reader.read(PIECE):
        yield output
    if not walk.complete:
        raise _cut("zstd")


class _Frames:
    """Passes zstd frames on and walks along their blocks: the library does not tell a cut stream from its end.

    Source: RFC 8878 3.1.
    """

    def __init__(self, source: _Counter) -> None:
        self._source = source
        self._chunks = iter(source)
        self._headers = 0
        self._pending = b""
        self._head = b""  # the bytes of a header that is not whole yet
        self._skip = 0  # bytes of content up to the next header
        self._next: Callable[[bytes], int] = self._frame
        self._checksum = 0

    @property
    def complete(self) -> bool:
        """Whether the stream may end here: between frames."""
        return self._next == self._frame and not self._head and not self._skip

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes of the stream, as a file would."""
        if not self._pending:
            self._pending = next(self._chunks, b"")
            self._walk(self._pending)
        data, self._pending = self._pending[:size], self._pending[size:]
        return data

    def _walk(self, data: bytes) -> None:
        position, end = 0, len(data)
        while position < end:
            if self._skip:
                step = min(self._skip, end - position)
                self._skip -= step
                position += step
                continue
            # A header is at most 18 bytes; take what is missing of it, byte by byte only across chunks.
            window = self._head + data[position : position + 18]
            used = self._next(window)
            if not used:
                self._head = window
                return
            position += used - len(self._head)
            self._head = b""
            self._headers += 1
        if self._headers > _EMPTY_MEMBERS and self._headers * _LEAST_BLOCK > self._source.total:
            raise ImageRefused("the zstd stream consists of empty blocks", hint="a decompression bomb?")

    def _frame(self, window: bytes) -> int:
        if len(window) < 5:
            return 0
        if window[:4] in _SKIPPABLE:
            if len(window) < 8:
                return 0
            self._skip = int.from_bytes(window[4:8], "little")
            return 8
        if window[:4] != _ZSTD:
            raise zstandard.ZstdError("something that is no frame follows")
        flags = window[4]
        single = flags >> 5 & 1
        size = 5 + (not single) + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]
        if len(window) < size:
            return 0
        self._checksum = 4 * (flags >> 2 & 1)
        self._next = self._block
        return size

    def _block(self, window: bytes) -> int:
        if len(window) < 3:
            return 0
        header = int.from_bytes(window[:3], "little")
        self._skip = 1 if header >> 1 & 3 == 1 else header >> 3  # an RLE block stores one byte
        if header & 1:
            self._skip += self._checksum
            self._next = self._frame
        return 3


_UNPACKERS: dict[str, Callable[[_Counter, Limits], Iterator[bytes]]] = {
    "gzip": _gunzip,
    "zstd": _unzstd,
    "bzip2": _bunzip2,
    "xz": _unxz,
}
