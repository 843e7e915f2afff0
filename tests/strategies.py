"""Archives for tests, written byte by byte: well-behaved tools refuse to write most of these."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

BLOCK = 512


def octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def base256(value: int, width: int) -> bytes:
    encoded = bytearray((value & ((1 << (8 * width)) - 1)).to_bytes(width, "big"))
    encoded[0] |= 0x80
    return bytes(encoded)


def header(
    name: bytes, kind: bytes = b"0", *, size: int = 0, mode: int = 0o644, uid: int = 0, gid: int = 0, mtime: int = 1,
    link: bytes = b"", device: tuple[int, int] = (0, 0), prefix: bytes = b"", put: dict[int, bytes] | None = None,
    checksum: bytes | None = None, magic: bytes = b"ustar\x0000",
) -> bytes:  # fmt: skip
    """Return one header block; ``put`` overwrites bytes by offset before the checksum is made."""
    block = bytearray(BLOCK)

    def at(offset: int, data: bytes) -> None:
        block[offset : offset + len(data)] = data

    at(0, name[:100])
    at(100, octal(mode, 8))
    at(108, octal(uid, 8) if uid < 1 << 21 else base256(uid, 8))
    at(116, octal(gid, 8) if gid < 1 << 21 else base256(gid, 8))
    at(124, octal(size, 12) if 0 <= size < 1 << 33 else base256(size, 12))
    at(136, octal(mtime, 12) if 0 <= mtime < 1 << 33 else base256(mtime, 12))
    at(156, kind)
    at(157, link[:100])
    at(257, magic)
    at(329, octal(device[0], 8))
    at(337, octal(device[1], 8))
    at(345, prefix)
    for offset, data in (put or {}).items():
        at(offset, data)
    at(148, b" " * 8)
    at(148, checksum if checksum is not None else b"%06o\0 " % sum(block))
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def file(name: bytes, data: bytes = b"", **options: object) -> bytes:
    return header(name, **({"size": len(data)} | options)) + padded(data)  # type: ignore[arg-type]


def folder(name: bytes, **options: object) -> bytes:
    return header(name, b"5", **({"mode": 0o755} | options))  # type: ignore[arg-type]


def symlink(name: bytes, target: bytes, **options: object) -> bytes:
    return header(name, b"2", link=target, **({"mode": 0o777} | options))  # type: ignore[arg-type]


def hardlink(name: bytes, target: bytes, **options: object) -> bytes:
    return header(name, b"1", link=target, **options)  # type: ignore[arg-type]


def record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    while len(b"%d" % length) + len(body) != length:
        length = len(b"%d" % length) + len(body)
    return b"%d" % length + body


def pax(*records: tuple[bytes, bytes] | bytes, kind: bytes = b"x") -> bytes:
    body = b"".join(item if isinstance(item, bytes) else record(*item) for item in records)
    return header(b"././@PaxHeader", kind, size=len(body)) + padded(body)


def gnu(kind: bytes, name: bytes) -> bytes:
    return header(b"././@LongLink", kind, size=len(name) + 1) + padded(name + b"\0")


def archive(*parts: bytes) -> bytes:
    return b"".join(parts) + bytes(2 * BLOCK)


class Item(NamedTuple):
    """One entry as hypothesis makes it."""

    kind: bytes
    name: bytes
    link: bytes = b""
    data: bytes = b""
    mode: int = 0o644

    def encode(self) -> bytes:
        name, link = self.name, self.link
        head = b"".join(gnu(kind, text) for kind, text in ((b"L", name), (b"K", link)) if len(text) > 100)
        size = len(self.data) if self.kind == b"0" else 0
        return head + header(name, self.kind, size=size, link=link, mode=self.mode) + padded(self.data[:size])


_COMPONENTS = st.sampled_from(
    [b"a", b"b", b"c", b"d", b"..", b".", b"", b"etc", b"canary", b".wh.a", b".wh.b", b".wh..wh..opq", b".wh.", b"\xff"]
)
HOSTILE_NAMES = st.builds(
    lambda root, parts, slash: root + b"/".join(parts) + slash,
    st.sampled_from([b"", b"/", b"./", b"../", b"//", b"/../", b"../../../"]),
    st.lists(_COMPONENTS, min_size=1, max_size=5),
    st.sampled_from([b"", b"", b"/"]),
)
HOSTILE_ITEMS = st.builds(
    Item,
    st.sampled_from([b"0", b"5", b"2", b"1", b"6", b"3", b"7", b"\0"]),
    HOSTILE_NAMES,
    HOSTILE_NAMES,
    st.binary(max_size=20),
    st.sampled_from([0o644, 0o755, 0, 0o7777, 0o4755]),
)
"""Anything goes: names and links that lead everywhere, in any order, with whiteouts in between."""

_PLAIN = st.lists(st.sampled_from([b"a", b"b", b"c", b"\xc3\xa4", b"x" * 120]), min_size=1, max_size=4).map(b"/".join)


@st.composite
def legal_archives(draw: st.DrawFn) -> list[Item]:
    """Make archives that every tool reads alike: parents first, each name once, links only to what is there."""
    folders: list[bytes] = []
    files: list[bytes] = []
    seen: set[bytes] = set()
    items: list[Item] = []

    def parent_of(name: bytes) -> None:
        above = name.rpartition(b"/")[0]
        if above and above not in seen:
            parent_of(above)
            seen.add(above)
            folders.append(above)
            items.append(Item(b"5", above + b"/", mode=draw(st.sampled_from([0o755, 0o700, 0o1777]))))

    for name in draw(st.lists(_PLAIN, max_size=12, unique=True)):
        if name in seen or any(other == name or name.startswith(other + b"/") for other in seen - set(folders)):
            continue
        parent_of(name)
        kind = draw(st.sampled_from([b"0", b"0", b"5", b"2", b"1", b"6"]))
        seen.add(name)
        if kind == b"5":
            folders.append(name)
            items.append(Item(kind, name + b"/", mode=0o755))
        elif kind == b"2":
            items.append(
                Item(kind, name, draw(st.sampled_from([b"a", b"../b", b"/etc", b"nothing", b"."])), mode=0o777)
            )
        elif kind == b"1" and files:
            items.append(Item(kind, name, draw(st.sampled_from(files))))
        elif kind == b"6":
            items.append(Item(kind, name, mode=0o600))
        else:
            files.append(name)
            mode = draw(st.sampled_from([0o644, 0o755, 0o400, 0o4755, 0o2711]))
            items.append(Item(b"0", name, data=draw(st.binary(max_size=1200)), mode=mode))
    return items
