"""OpenPGP's envelope: what is read, what is refused, and that nothing else happens."""

from __future__ import annotations

import base64
import bz2
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.base.errors import ImageRefused
from pyrkt.trust import packets, symmetric
from pyrkt.trust.packets import Malformed, Packet


@given(st.lists(st.builds(Packet, st.integers(0, 63), st.binary(max_size=300)), max_size=5))
def test_parses_what_it_writes(items: list[Packet]) -> None:
    assert packets.parse(b"".join(map(bytes, items))) == items


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(Malformed):
        packets.parse(data)
    assert symmetric.is_encrypted(data) in (True, False)


@given(st.binary(max_size=200))
def test_any_armour_is_read_or_refused(body: bytes) -> None:
    with suppress(Malformed):
        packets.dearmour(b"-----BEGIN PGP MESSAGE-----\n" + body + b"\n-----END PGP MESSAGE-----\n")


@given(st.binary(max_size=300), st.sampled_from([b"\n", b"\r\n"]))
def test_armour(data: bytes, newline: bytes) -> None:
    rows = base64.encodebytes(data).replace(b"\n", newline)
    lines = [b"words before", b"-----BEGIN PGP SIGNATURE-----", b"Version: x", b"Comment: y", b"", rows + b"=abcd"]
    text = newline.join([*lines, b"-----END PGP SIGNATURE-----", b"after"])
    assert packets.dearmour(text * 2) == [packets.Block("SIGNATURE", data)] * 2


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"\x88\x01x", [Packet(2, b"x")], id="old, one octet"),
        pytest.param(b"\x89\x00\x01x", [Packet(2, b"x")], id="old, two"),
        pytest.param(b"\x8a\x00\x00\x00\x01x", [Packet(2, b"x")], id="old, four"),
        pytest.param(b"\xa3xyz", [Packet(8, b"xyz")], id="old, until the end"),
        pytest.param(b"\xcb\xe1ab\xe0c\x01d", [Packet(11, b"abcd")], id="new, in parts"),
        pytest.param(b"\xc2\xc0\x00" + bytes(192), [Packet(2, bytes(192))], id="new, two octets"),
    ],
)
def test_framing(data: bytes, expected: list[Packet]) -> None:
    assert packets.parse(data) == expected


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"x", id="text"),
        pytest.param(b"\x88", id="no length"),
        pytest.param(b"\x88\x02x", id="cut short"),
        pytest.param(b"\xc2\xff\xff\xff\xff\xffx", id="4 GiB"),
        pytest.param(b"\xc2\xe0ab\x00", id="signature in parts"),
        pytest.param(b"\xcb\xe1ab", id="parts without end"),
        pytest.param(b"\x88\x00" * 4097, id="too many"),
    ],
)
def test_refused_framing(data: bytes) -> None:
    with pytest.raises(Malformed):
        packets.parse(data)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\x00" + b"data", id="stored"),
        pytest.param(b"\x01" + zlib.compress(b"data", wbits=-15), id="zip"),
        pytest.param(b"\x02" + zlib.compress(b"data"), id="zlib"),
        pytest.param(b"\x03" + bz2.compress(b"data"), id="bzip2"),
    ],
)
def test_uncompress(body: bytes) -> None:
    assert packets.uncompress(Packet(8, body), 4) == b"data"
    with pytest.raises(Malformed, match="more than 3"):
        packets.uncompress(Packet(8, body), 3)


@pytest.mark.parametrize("body", [b"", b"\x09abc", b"\x01\xff\xff\xff", b"\x02abc", b"\x03abc"])
def test_uncompress_refuses(body: bytes) -> None:
    with pytest.raises(ImageRefused):
        packets.uncompress(Packet(8, body), 100)


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (b"\x8c\x0d\x04\x09\x03\x02", True),
        (b"\xc3\x0d\x04\x09\x03\x02", True),
        (b"\xc3\x0d\x05\x09\x03\x02", True),
        (b"\x85\x01\x0c\x03", True),
        (b"\xca\x03PGP\x8c\x0d\x04\x09", True),
        (b"-----BEGIN PGP MESSAGE-----\n\n", True),
        (b"-----BEGIN PGP SIGNATURE-----\n\n", False),
        (b"\x1f\x8b\x08\x00", False),
        (b"BZh91AY", False),
        (b"\xfd7zXZ\x00", False),
        (b"\x28\xb5\x2f\xfd", False),
        (b"manifest" + bytes(56), False),
        (b"", False),
        (b"\x8c", False),
    ],
)
def test_what_looks_encrypted(data: bytes, verdict: bool) -> None:
    assert symmetric.is_encrypted(data) is verdict
