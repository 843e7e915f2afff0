"""Decompressors: the same bytes whichever library, however the stream is cut, with bounded pieces."""

# ruff: noqa: PT017 - one case a line; either outcome is right

from __future__ import annotations

import bz2
import gzip
import itertools
import lzma
import threading
import zlib
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.base.errors import ImageRefused
from pyrkt.image.unpack import stream
from pyrkt.image.unpack.stream import PIECE, ahead, plain, sniff

if TYPE_CHECKING:
    from collections.abc import Iterator

isal_zlib = pytest.importorskip("isal.isal_zlib")

PACKERS = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("kind", PACKERS)
@given(
    contents=st.lists(st.binary(max_size=3000).map(lambda data: data * 40), min_size=1, max_size=4),
    size=st.integers(1, 5000),
)
def test_unpacks_members_one_after_another(kind: str, contents: list[bytes], size: int) -> None:
    packed = b"".join(map(PACKERS[kind], contents))
    assert sniff(packed) == kind
    pieces = list(plain(cut(packed, size)))
    assert b"".join(pieces) == b"".join(contents)
    assert all(len(piece) <= PIECE for piece in pieces)


@pytest.mark.parametrize("kind", PACKERS)
@given(data=st.binary(max_size=2000), at=st.integers(0, 10_000))
def test_a_cut_stream_is_never_taken_for_a_whole_one(kind: str, data: bytes, at: int) -> None:
    packed = PACKERS[kind](data)
    at %= len(packed)
    if at < 6:
        return  # too short to be known as packed; the parser of archives refuses it
    with pytest.raises(ImageRefused):
        list(plain([packed[:at]]))


@pytest.mark.parametrize("kind", PACKERS)
@given(data=st.binary(min_size=1, max_size=2000), at=st.integers(6, 10_000), value=st.integers(1, 255))
def test_a_flipped_byte_is_refused_or_harmless(kind: str, data: bytes, at: int, value: int) -> None:
    packed = bytearray(PACKERS[kind](data))
    at = 6 + at % (len(packed) - 6)
    packed[at] ^= value
    try:
        found = b"".join(plain([bytes(packed)]))
    except ImageRefused:
        return
    assert found == data  # such as the time in a gzip header


def outcome(data: bytes) -> bytes | None:
    try:
        return b"".join(plain(cut(data, 777)))
    except ImageRefused:
        return None


@given(
    contents=st.lists(st.binary(max_size=5000), min_size=1, max_size=3),
    level=st.integers(0, 9),
    damage=st.lists(st.tuples(st.integers(10, 6000), st.integers(0, 255)), max_size=2),
    tail=st.sampled_from([b"", bytes(20), b"tail"]),
)
def test_isal_and_zlib_agree(contents: list[bytes], level: int, damage: list[tuple[int, int]], tail: bytes) -> None:
    packed = bytearray(b"".join(gzip.compress(data, level) for data in contents) + tail)
    for at, value in damage:
        packed[10 + at % (len(packed) - 10)] = value
    found: list[bytes | None] = []
    for library in (zlib, isal_zlib):
        stream._fast, kept = library, stream._fast
        try:
            found.append(outcome(bytes(packed)))
        finally:
            stream._fast = kept
    assert found[0] == found[1]


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18", b"BZh9", b"\xfd7zXZ\0"]),
)
def test_any_bytes_are_read_or_refused(data: bytes, magic: bytes) -> None:
    try:
        list(plain([magic + data]))
    except ImageRefused as error:
        assert error.message.isprintable()


class TestAhead:
    """Pieces that another thread makes."""

    def test_all_come_in_their_order(self) -> None:
        pieces = [bytes([number % 251]) * (number % 7) for number in range(1000)]
        assert list(ahead(iter(pieces))) == pieces

    def test_an_error_comes_where_it_happened(self) -> None:
        def broken() -> Iterator[bytes]:
            yield from (b"a", b"b")
            raise ImageRefused("damaged")

        taken = ahead(broken())
        assert [next(taken), next(taken)] == [b"a", b"b"]
        with pytest.raises(ImageRefused, match="damaged"):
            next(taken)

    def test_it_runs_only_so_far_ahead(self) -> None:
        """A bomb must not unpack into memory while its first files are made."""
        made = 0

        def endless() -> Iterator[bytes]:
            nonlocal made
            while True:
                made += 1
                yield b"x"

        taken = ahead(endless())
        for number in range(1, 50):
            next(taken)
            assert made <= number + 10
        taken.close()  # type: ignore[attr-defined]

    def test_who_stops_taking_leaves_no_thread(self) -> None:
        before = set(threading.enumerate())
        taken = ahead(itertools.repeat(b"x"))
        next(taken)
        (maker,) = set(threading.enumerate()) - before
        taken.close()  # type: ignore[attr-defined]
        maker.join(10)
        assert not maker.is_alive()
