"""Layers that mean harm, through the command: refused in one line and nothing kept, or made inside and nowhere else.

How the reader of archives judges hundreds more is in tests/unit/image/unpack/test_attacks.py; here stands what reaches
a user: the exit code, the words, the time, the memory, and what is left behind.
"""

# ruff: noqa: E501 - one case a line: the names and verdicts are to be read down the page

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from pyrkt.base.errors import ImageRefused
from tests.strategies import archive, base256, file, folder, gnu, hardlink, header, octal, padded, pax, symlink
from tests.support import hostile
from tests.support.hostile import Workshop
from tests.support.pods import Pyrkt

pytestmark = pytest.mark.root

Make = Callable[[Workshop], str]
Made = dict[str, str | None]


@pytest.fixture
def tool(tmp_path: Path) -> Pyrkt:
    return Pyrkt(tmp_path)


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    with hostile.workshop(tmp_path) as made:
        yield made


def bad(name: str, make: Make, text: str) -> Any:
    return pytest.param(make, text, id=name)


def packed(data: Callable[[], bytes]) -> Make:
    """Return a case of one layer whose compressed form is ``data()``; its diffID is that of a harmless one."""
    return lambda w: w.oci(packed=[data()])


def bomb(pack: Callable[[bytes], bytes], mib: int) -> Make:
    """Return a case of one file of ``mib`` MiB of zeros; packed in pieces, for one of all takes long to make."""

    def make(w: Workshop) -> str:
        data = pack(header(b"bomb", size=mib << 20)) + pack(bytes(8 << 20)) * (mib // 8) + pack(bytes(1024))
        return w.oci(packed=[data])

    return make


TITLE, RED, NEWLINE, TURN = b"\x1b]0;owned\x07", b"\x1b[31m", b"a\nhint: all is well", "\u202egnp.exe".encode()
SPARSE = ((b"GNU.sparse.size", b"9" * 18), (b"GNU.sparse.map", b"0,1"))

REFUSED = [
    # names
    bad("name-dotdot", lambda w: w.layer(file(b"../a")), "leads out of the image"),
    bad("name-dotdot-far", lambda w: w.layer(file(w.up + b"/file", b"dead")), "leads out of the image"),
    bad("name-dotdot-absolute", lambda w: w.layer(file(b"/" + w.up[:60] + b"x")), "leads out of the image"),
    bad("name-dotdot-harmless", lambda w: w.layer(folder(b"a"), file(b"a/../b")), "leads out of the image"),
    bad("name-dotdot-pax", lambda w: w.layer(pax((b"path", w.up + b"/x")), file(b"a")), "leads out of the image"),
    bad("name-dotdot-gnu", lambda w: w.layer(gnu(b"L", w.up), folder(b"a")), "leads out of the image"),
    bad("name-nul", lambda w: w.layer(pax((b"path", b"a\0b")), file(b"a")), "NUL"),
    bad("name-5000", lambda w: w.layer(gnu(b"L", b"n" * 5000), file(b"a")), "bytes"),
    bad("name-5000-in-parts", lambda w: w.layer(gnu(b"L", b"n/" * 2500), file(b"a")), "bytes"),
    bad("name-deep-2000", lambda w: w.layer(gnu(b"L", b"a/" * 2000), folder(b"a")), "deep"),
    bad("name-deep-3000-by-steps", lambda w: w.layer(*[folder(b"a/" * n) for n in range(1, 50)], gnu(b"L", b"a/" * 3000), folder(b"a")), "bytes"),
    bad("name-root-is-link", lambda w: w.layer(symlink(b"./", w.out)), "root of an image must be a directory"),
    bad("name-escape-sequence", lambda w: w.layer(file(b"../" + TITLE + RED)), r"\x1b]0;owned\x07"),
    bad("name-newline", lambda w: w.layer(file(b"../" + NEWLINE)), r"\n"),
    bad("name-right-to-left", lambda w: w.layer(file(b"../" + TURN)), r"\u202e"),
    bad("name-not-utf8", lambda w: w.layer(file(b"../\xff\xfe\x9b31m")), "leads out of the image"),
    bad("name-below-file", lambda w: w.layer(file(b"a"), file(b"a/b")), "not a directory"),
    # links
    bad("sym-loop", lambda w: w.layer(symlink(b"a", b"b"), symlink(b"b", b"a"), file(b"a/x")), "too many symlinks"),
    bad("sym-escape-sequence", lambda w: w.layer(symlink(b"a" + RED, b"b"), symlink(b"b", b"a" + RED), file(b"b/x")), "too many symlinks"),
    bad("hard-dotdot", lambda w: w.layer(hardlink(b"a", w.up[:90])), "leads out of the image"),
    bad("hard-dotdot-pax", lambda w: w.layer(pax((b"linkpath", w.up + b"/file")), hardlink(b"a", b"x")), "leads out of the image"),
    bad("hard-to-root", lambda w: w.layer(hardlink(b"a", b"/")), "hard link to the root"),
    bad("hard-to-nothing", lambda w: w.layer(hardlink(b"a", b"etc/nothing")), "etc/nothing"),
    bad("hard-outside-through-link", lambda w: w.layer(pax((b"linkpath", w.out)), symlink(b"s", b"x"), hardlink(b"a", b"s/file")), "s/file"),
    bad("hard-to-dir-below", lambda w: w.oci(tars=[archive(folder(b"d")), archive(hardlink(b"a", b"d"))]), "hard link"),
    # whiteouts
    bad("wh-bare", lambda w: w.layer(file(b".wh.")), "whiteout of nothing"),
    bad("wh-dot", lambda w: w.layer(file(b".wh..")), "whiteout of nothing"),
    bad("wh-dotdot", lambda w: w.layer(folder(b"a"), file(b"a/.wh...")), "whiteout of nothing"),
    bad("wh-below-dotdot", lambda w: w.layer(file(b"../.wh.canary")), "leads out of the image"),
    bad("wh-as-directory", lambda w: w.layer(file(b".wh.d/x")), "name of a whiteout"),
    # devices and types
    bad("dev-number", lambda w: w.layer(header(b"a", b"3", device=(1 << 12, 0))), "device number out of range"),
    bad("dev-negative", lambda w: w.layer(header(b"a", b"4", put={329: base256(-1, 8)})), "device number out of range"),
    bad("type-control", lambda w: w.layer(header(b"a", b"\x1b")), r"\x1b"),
    # framing
    bad("frame-checksum", lambda w: w.layer(header(b"a", checksum=b"000000\0 ")), "checksum"),
    bad("frame-cut-header", lambda w: w.oci(tars=[file(b"a", b"1") + header(b"b")[:300]]), "cut off"),
    bad("frame-cut-data", lambda w: w.oci(tars=[file(b"a", b"x" * 2000)[:1500]]), "cut off"),
    bad("frame-html", lambda w: w.oci(tars=[b"<html>503</html>" * 60]), "not a tar archive"),
    bad("size-negative", lambda w: w.layer(header(b"a", put={124: base256(-512, 12)})), "negative size"),
    bad("size-2-63", lambda w: w.layer(header(b"a", put={124: base256(1 << 63, 12)})), "beyond 64 bits"),
    bad("size-lies", lambda w: w.layer(header(b"a", size=1 << 40)), "claims to have"),
    bad("size-more-than-there-is", lambda w: w.layer(header(b"a", size=1 << 20)), "cut off"),
    bad("size-octal-lies", lambda w: w.layer(header(b"a", put={124: b"-0000000001\0"})), "is no number"),
    bad("pax-size-negative", lambda w: w.layer(pax((b"size", b"-1")), file(b"a")), "size is no number"),
    bad("pax-size-digits", lambda w: w.layer(pax((b"size", b"9" * 5000)), file(b"a")), "size is no number"),
    bad("pax-size-desync", lambda w: w.layer(pax((b"size", b"0")), file(b"a", header(b"smuggled") * 2, size=1024)[:512], b"\1" * 512), "checksum"),
    bad("pax-length", lambda w: w.layer(pax(b"99999999 path=x\n"), file(b"a")), "wrong length"),
    bad("pax-global-path", lambda w: w.layer(pax((b"path", b"x"), kind=b"g"), file(b"a")), "global extended header"),
    bad("pax-owner", lambda w: w.layer(pax((b"uid", b"4294967296")), file(b"a")), "owner out of range"),
    bad("pax-xattr-flood", lambda w: w.layer(pax((b"SCHILY.xattr.user.a", b"x" * 70000)), file(b"a")), "extended attributes"),
    bad("sparse-huge", lambda w: w.layer(pax(*SPARSE), file(b"s", b"a")), "does not fit"),
    bad("sparse-overlap", lambda w: w.layer(pax((b"GNU.sparse.size", b"9"), (b"GNU.sparse.map", b"0,2,1,2")), file(b"s", b"abcd")), "runs backwards"),
    bad("sparse-old-endless", lambda w: w.layer(header(b"s", b"S", put={482: b"\1", 483: octal(9, 12)}) + (bytes(504) + b"\1" + bytes(7)) * 3000), "sparse map"),
    # streams
    bad("gzip-cut", packed(lambda: gzip.compress(os.urandom(5000))[:-900]), "not a tar archive"),
    bad("gzip-cut-data", packed(lambda: gzip.compress(archive(file(b"a", os.urandom(5000))))[:-900]), "cut"),
    bad("gzip-crc", packed(lambda: gzip.compress(hostile.HARMLESS)[:-8] + b"\0\0\0\0\0\x08\0\0"), "damaged"),
    bad("gzip-garbage-after", packed(lambda: gzip.compress(hostile.HARMLESS) + b"garbage garbage"), "damaged"),
    bad("gzip-in-gzip", packed(lambda: gzip.compress(gzip.compress(archive(file(b"a", os.urandom(2000)))))), "not a tar archive"),
    bad("gzip-empty-members", packed(lambda: gzip.compress(b"") * 100_100), "empty members"),
    bad("zstd-cut", packed(lambda: zstandard.compress(archive(file(b"a", os.urandom(5000))))[:-900]), "cut off"),
    bad("zstd-window", packed(lambda: b"\x28\xb5\x2f\xfd\x04\xf8" + b"\1\0\0" * 20), "damaged"),
    bad("zstd-empty-blocks", packed(lambda: b"\x28\xb5\x2f\xfd\x00\x58" + b"\0\0\0" * 500_000), "empty blocks"),
    bad("zstd-skippable-cut", packed(lambda: b"\x50\x2a\x4d\x18\xff\xff\xff\xff" + bytes(100)), "cut off"),
    bad("bzip2-cut", packed(lambda: bz2.compress(hostile.HARMLESS)[:-5]), "cut off"),
    bad("xz-cut", packed(lambda: lzma.compress(hostile.HARMLESS)[:-5]), "cut off"),
    bad("xz-memory", packed(lambda: lzma.compress(hostile.HARMLESS, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}])), "damaged"),
    # bombs
    bad("bomb-gzip", bomb(lambda data: gzip.compress(data, 9), 160), "over 1000 times as much"),
    bad("bomb-zstd", bomb(zstandard.compress, 160), "over 1000 times as much"),
    bad("bomb-bzip2", bomb(bz2.compress, 160), "over 1000 times as much"),
    bad("bomb-xz", bomb(lzma.compress, 160), "over 1000 times as much"),
    bad("bomb-nested", bomb(lambda data: zstandard.compress(gzip.compress(data)), 160), "not a tar archive"),
    bad("bomb-second-layer", lambda w: w.oci(tars=[hostile.HARMLESS, b""], packed=[gzip.compress(hostile.HARMLESS), zstandard.compress(header(b"b", size=200 << 20) + bytes(200 << 20))]), "over 1000 times as much"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "text"), REFUSED)
def test_is_refused(tool: Pyrkt, workshop: Workshop, make: Make, text: str) -> None:
    ended = hostile.call(tool.argv("fetch", make(workshop)))
    hostile.assert_refused(ended, ImageRefused, text)
    hostile.assert_nothing_stored(tool)


def test_a_refused_image_leaves_no_bundle_and_no_pod(tool: Pyrkt, workshop: Workshop) -> None:
    name = workshop.oci(tars=[hostile.HARMLESS, archive(file(b"../a"))])
    target = tool.base / "bundle"
    for words in (["image", "unpack", name, str(target)], ["run", name], ["prepare", name], ["plan", name]):
        hostile.assert_refused(hostile.call(tool.argv(*words)), ImageRefused, "leads out of the image")
        hostile.assert_nothing_stored(tool)
        assert set(os.listdir(tool.base)) <= {"canary", "data", "workshop"}
    target.mkdir()
    ended = hostile.call(tool.argv("image", "unpack", name, str(target)))
    hostile.assert_refused(ended, ImageRefused, "leads out of the image")


def fine(name: str, make: Make, made: Made) -> Any:
    return pytest.param(make, made, id=name)


def two(lower: bytes, upper: bytes) -> Make:
    return lambda w: w.oci(tars=[archive(lower), archive(upper)])


def aimed(*parts: bytes) -> Make:
    """Return a case in which ``s`` is a symlink to the canary when ``parts`` come."""
    return lambda w: w.layer(pax((b"linkpath", w.out)), symlink(b"s", b"x"), *parts)


def across(*parts: bytes) -> Make:
    """Return a case in which ``s`` is a symlink to the canary in the layer below ``parts``."""
    return lambda w: w.oci(tars=[archive(pax((b"linkpath", w.out)), symlink(b"s", b"x")), archive(*parts)])


OVERLAY = tuple(pax((b"SCHILY.xattr." + name, value)) for name, value in (
    (b"trusted.overlay.opaque", b"y"), (b"trusted.overlay.redirect", b"/etc"), (b"user.overlay.opaque", b"y"),
    (b"trusted.overlay.metacopy", b""), (b"trusted.overlay.origin", b"\0\xfb" + bytes(30)),
))  # fmt: skip
CANARY = "{canary}"

CONTAINED = [
    fine("name-absolute", lambda w: w.layer(file(b"/etc/passwd", b"1")), {"etc/passwd": "f:1"}),
    fine("name-absolute-canary", lambda w: w.layer(pax((b"path", w.out + b"/file")), file(b"x", b"1")), {CANARY + "/file": "f:1"}),
    fine("name-control", lambda w: w.layer(file(b"\x1b[31m\n", b"1")), {"\x1b[31m\n": "f:1"}),
    fine("name-deep-500", lambda w: w.layer(gnu(b"L", b"a/" * 500 + b"f"), file(b"x", b"1")), {"a/" * 500 + "f": "f:1"}),
    fine("sym-write-through", aimed(file(b"s/file", b"dead")), {CANARY + "/file": "f:dead"}),
    fine("sym-write-on", aimed(file(b"s", b"dead")), {"s": "f:dead", CANARY: None}),
    fine("sym-dir-through", aimed(folder(b"s/etc", mode=0o7777)), {CANARY + "/etc": "d7777"}),
    fine("sym-relative-up", lambda w: w.layer(pax((b"linkpath", w.up)), symlink(b"s", b"x"), file(b"s/file", b"1")), {CANARY + "/file": "f:1"}),
    fine("sym-to-proc", lambda w: w.layer(symlink(b"s", b"/proc/1/root" ), file(b"s/x", b"1")), {"proc/1/root/x": "f:1"}),
    fine("sym-lower-write-through", across(file(b"s/file", b"dead")), {CANARY: None, "s/file": "f:dead"}),
    fine("sym-lower-whiteout", across(file(b".wh.s"), file(b"s/file", b"1")), {"s/file": "f:1", CANARY: None}),
    fine("wh-through-link", aimed(file(b"s/.wh.file")), {CANARY + "/file": None}),
    fine("wh-opaque-through-link", aimed(file(b"s/.wh..wh..opq")), {CANARY: "d"}),
    fine("wh-through-lower-link", across(file(b"s/.wh.file")), {"s/file": None}),
    fine("wh-opaque-root", two(file(b"gone", b"1"), file(b".wh..wh..opq") + file(b"x", b"1")), {"gone": None, "x": "f:1"}),
    fine("wh-of-link", two(symlink(b"s", b"/etc") + folder(b"etc"), file(b".wh.s")), {"s": None, "etc": "d"}),
    fine("wh-aufs", lambda w: w.layer(folder(b".wh..wh.plnk"), file(b".wh..wh.aufs"), file(b"x", b"1")), {".wh..wh.plnk": None, "x": "f:1"}),
    fine("wh-device", two(file(b"a", b"1"), header(b"a", b"3")), {"a": None}),
    fine("hard-to-link", lambda w: w.layer(pax((b"linkpath", w.out + b"/file")), symlink(b"s", b"x"), hardlink(b"h", b"s"), file(b"h", b"dead")), {"h": "f:dead", CANARY: None}),
    fine("dev-nodes", lambda w: w.layer(header(b"kmem", b"3", device=(1, 2)), header(b"sda", b"4", device=(8, 0)), header(b"p", b"6")), {"kmem": "c", "sda": "b", "p": "p"}),
    fine("overlay-xattrs", two(file(b"d/lower", b"1") + folder(b"etc"), b"".join(each + folder(b"d") for each in OVERLAY)), {"d/lower": "f:1", "d": "d"}),
    fine("setuid-of-others", lambda w: w.layer(file(b"su", b"1", mode=0o6755, uid=12345)), {"su": "f6755:1"}),
    fine("setuid-after-link", lambda w: w.layer(file(b"a", b"1"), hardlink(b"su", b"a", mode=0o4755)), {"su": "f:1"}),
    fine("pax-path-record-in-value", lambda w: w.layer(pax((b"comment", b"\n10 path=x\n")), file(b"a", b"1")), {"a": "f:1", "x": None}),
    fine("header-in-data", lambda w: w.layer(file(b"a", header(b"evil")), padded(b"")), {"evil": None}),
    fine("data-after-end", lambda w: w.oci(tars=[hostile.HARMLESS + file(b"b", b"2")]), {"a": "f:1", "b": None}),
    fine("empty-tar", lambda w: w.oci(tars=[hostile.HARMLESS, b""]), {"a": "f:1"}),
    fine("gzip-name", lambda w: w.oci(packed=[b"\x1f\x8b\x08\x08\0\0\0\0\0\3../../evil\0" + gzip.compress(hostile.HARMLESS)[10:]]), {"a": "f:1", "evil": None}),
    fine("media-type-lies", lambda w: w.oci(packed=[zstandard.compress(hostile.HARMLESS)]), {"a": "f:1"}),
    fine("same-layer-twice", two(file(b"a", b"1"), file(b"a", b"1")), {"a": "f:1"}),
]  # fmt: skip


@pytest.mark.parametrize(("make", "made"), CONTAINED)
def test_is_made_inside(tool: Pyrkt, workshop: Workshop, make: Make, made: Made) -> None:
    target = tool.base / "bundle"
    ended = hostile.call(tool.argv("image", "unpack", make(workshop), str(target)))
    assert ended.code == 0, ended.err
    assert ended.err.decode().replace("\n", "").isprintable()
    inside = str(workshop.canary).lstrip("/")
    found = {name: hostile.describe(target / "rootfs" / name.replace(CANARY, inside)) for name in made}
    assert found == made
    for top, folders, files in os.walk(target / "rootfs"):
        for name in (*folders, *files):
            attributes = os.listxattr(Path(top, name), follow_symlinks=False)
            assert not [each for each in attributes if each.startswith(("trusted.", "user.overlay."))]
    assert sorted(os.listdir(tool.base)) == ["bundle", "canary", "workshop"]


def test_the_overlay_form_takes_no_word_of_the_image(tool: Pyrkt, workshop: Workshop) -> None:
    """What marks a tree in the store is ours: an image that says trusted.overlay.redirect would read the host's."""
    parts = b"".join(each + folder(b"d") for each in OVERLAY)
    tool.ok("fetch", workshop.oci(tars=[archive(folder(b"d"), file(b"d/x")), archive(parts)]))
    for path in (tool.data / "trees").rglob("*"):
        assert not [each for each in os.listxattr(path, follow_symlinks=False) if "overlay" in each]
    assert len(os.listdir(tool.data / "trees")) == 2


def test_there_are_enough_cases() -> None:
    names = [case.id for case in (*REFUSED, *CONTAINED)]
    assert len(set(names)) == len(names)
    assert len(names) >= 80
