"""Hostile and odd layers, each with a name: refused, or made as the container ecosystem reads them; never outside.

Every case runs twice: in a chroot, and (as for an ordinary user) below a descriptor with openat2.
"""

# ruff: noqa: E501 - one case a line: the names and verdicts are to be read down the page

from __future__ import annotations

import bz2
import functools
import gzip
import hashlib
import io
import lzma
import os
import stat
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from pyrkt.base.errors import ImageRefused, PyrktError
from pyrkt.image.unpack.layers import LayerResult, unpack_layer
from pyrkt.image.unpack.limits import Limits
from tests.strategies import archive, base256, file, folder, gnu, hardlink, header, octal, padded, pax, record, symlink

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = os.geteuid() == 0
Made = dict[str, str | None]
SMALL = Limits(total=1 << 30, entries=5000)


def describe(path: Path) -> str | None:  # noqa: PLR0911 - one for each kind
    """Say what is at ``path``: d, f:CONTENT, l:TARGET, w (whiteout), p (fifo), c and b (device), None."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    match stat.S_IFMT(status.st_mode):
        case stat.S_IFDIR:
            return (
                "o"
                if b"y" in (attribute(path, "trusted.overlay.opaque"), attribute(path, "user.overlay.opaque"))
                else "d"
            )
        case stat.S_IFREG:
            return "f:" + path.read_bytes()[:80].decode("latin-1")
        case stat.S_IFLNK:
            return f"l:{path.readlink()}"
        case stat.S_IFCHR:
            return "w" if status.st_rdev == 0 else "c"
        case stat.S_IFIFO:
            return "p"
        case _:
            return "b"


def attribute(path: Path, name: str) -> bytes | None:
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        return None


def everything(path: Path) -> str:
    """Hash all there is to know about a tree."""
    digest = hashlib.sha256()
    for top, folders, files in os.walk(path):
        folders.sort()
        for name in sorted([*folders, *files, "."]):
            here = Path(top, name)
            s = here.lstat()
            digest.update(
                repr((str(here), s.st_mode, s.st_uid, s.st_gid, s.st_size, s.st_mtime_ns, s.st_nlink)).encode()
            )
            digest.update(repr(os.listxattr(here, follow_symlinks=False)).encode())
            if stat.S_ISREG(s.st_mode):
                digest.update(here.read_bytes())
    return digest.hexdigest()


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A tree beside the one that is unpacked into; many cases aim at it."""
    home = tmp_path / "canary"
    (home / "etc").mkdir(parents=True)
    (home / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (home / "file").write_text("alive")
    (home / "file").chmod(0o600)
    return home


@pytest.fixture(params=[pytest.param(True, marks=pytest.mark.root, id="chroot"), pytest.param(False, id="beneath")])
def stage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if not request.param:

        def refuse(_path: str) -> None:
            raise PermissionError

        monkeypatch.setattr(os, "chroot", refuse)
    home = tmp_path / "stage" / "fs"
    home.mkdir(parents=True)
    return home


def unpack(data: bytes, stage: Path, limits: Limits = SMALL) -> LayerResult:
    chunks = (data[at : at + 4000] for at in range(0, len(data), 4000))
    return unpack_layer(chunks, stage, limits=limits, owner="keep" if ROOT else "caller")


def legal(name: str, data: bytes, made: Made, **marks: Any) -> Any:
    return pytest.param(data, made, id=name, **marks)


UP = b"../" * 12
OUT = b"/tmp/pyrkt-escape"
root_only = pytest.mark.root

# The target of an escape is a relative path to the canary, which lies at ../../canary of the root.
CANARY = b"../../canary"

LEGAL = [
    # names
    legal("name-plain", archive(file(b"a", b"1")), {"a": "f:1"}),
    legal("name-dot-slash", archive(folder(b"./"), file(b"./a", b"1")), {"a": "f:1"}),
    legal("name-absolute", archive(file(b"/etc/passwd", b"1")), {"etc/passwd": "f:1"}),
    legal("name-many-slashes", archive(file(b"//a///b", b"1")), {"a/b": "f:1"}),
    legal("name-inner-dots", archive(file(b"a/./b/./c", b"1"), file(b"a/b/d", b"2")), {"a/b/c": "f:1", "a/b/d": "f:2"}),
    legal("name-dot-last", archive(folder(b"a/a/."), file(b"a/a/b", b"1"), file(b"a/b", b"2")), {"a/a/b": "f:1", "a/b": "f:2"}),
    legal("name-three-dots", archive(file(b".../..x/x..", b"1")), {".../..x/x..": "f:1"}),
    legal("name-spaces", archive(file(b" a b /c ", b"1")), {" a b /c ": "f:1"}),
    legal("name-backslash", archive(file(b"a\\..\\b", b"1")), {"a\\..\\b": "f:1"}),
    legal("name-newline", archive(file(b"a\nb", b"1")), {"a\nb": "f:1"}),
    legal("name-not-utf8", archive(file(b"\xff\xfe", b"1")), {"\udcff\udcfe": "f:1"}),
    legal("name-escape-sequence", archive(file(b"\x1b[31mred", b"1")), {"\x1b[31mred": "f:1"}),
    legal("name-prefix", archive(file(b"c", b"1", prefix=b"a/b")), {"a/b/c": "f:1"}),
    legal("name-100-bytes", archive(file(b"n" * 100, b"1")), {"n" * 100: "f:1"}),
    legal("name-255-bytes", archive(gnu(b"L", b"n" * 255), file(b"x", b"1")), {"n" * 255: "f:1"}),
    legal("name-trailing-slash-file-v7", archive(file(b"a/", kind=b"\0")), {"a": "d"}),
    legal("name-trailing-slash-file", archive(file(b"a/")), {"a": "d"}),
    legal("name-dash", archive(file(b"-rf", b"1")), {"-rf": "f:1"}),
    legal("name-deep-200", archive(gnu(b"L", b"a/" * 200 + b"f"), file(b"x", b"1")), {"a/" * 200 + "f": "f:1"}),
    legal("name-root-mode", archive(folder(b"/", mode=0o700), file(b"a")), {"a": "f:"}),
    # order and duplicates
    legal("dup-file", archive(file(b"a", b"1"), file(b"a", b"22")), {"a": "f:22"}),
    legal("dup-file-then-dir", archive(file(b"a", b"1"), folder(b"a"), file(b"a/b", b"2")), {"a": "o", "a/b": "f:2"}),
    legal("dup-dir-then-file", archive(file(b"a/b/c", b"1"), file(b"a", b"2")), {"a": "f:2"}),
    legal("dup-dir-keeps-content", archive(file(b"a/b", b"1"), folder(b"a"), folder(b"a/")), {"a/b": "f:1"}),
    legal("dup-link-then-file", archive(symlink(b"a", b"b"), file(b"a", b"1")), {"a": "f:1", "b": None}),
    legal("dup-file-then-link", archive(file(b"a", b"1"), symlink(b"a", b"b")), {"a": "l:b"}),
    legal("dup-dir-then-link", archive(file(b"a/b", b"1"), symlink(b"a", b"c"), file(b"a/x", b"2")), {"a": "l:c", "c/x": "f:2"}),
    legal("order-child-first", archive(file(b"a/b", b"1"), folder(b"a", mode=0o711)), {"a": "d", "a/b": "f:1"}),
    legal("order-closed-dir", archive(folder(b"a", mode=0), file(b"a/b", b"1")), {"a/b": "f:1"}),
    # symlinks
    legal("sym-dangling", archive(symlink(b"a", b"nothing")), {"a": "l:nothing"}),
    legal("sym-absolute", archive(symlink(b"a", b"/etc/passwd")), {"a": "l:/etc/passwd"}),
    legal("sym-up", archive(symlink(b"a", UP + b"etc")), {"a": "l:" + (UP + b"etc").decode()}),
    legal("sym-usrmerge", archive(folder(b"usr/lib"), symlink(b"lib", b"usr/lib"), file(b"lib/x", b"1")), {"lib": "l:usr/lib", "usr/lib/x": "f:1"}),
    legal("sym-usrmerge-absolute", archive(folder(b"usr/lib"), symlink(b"lib", b"/usr/lib"), file(b"lib/x", b"1")), {"usr/lib/x": "f:1"}),
    legal("sym-usrmerge-lower-only", archive(symlink(b"lib", b"usr/lib"), file(b"lib/x", b"1")), {"lib": "l:usr/lib", "usr/lib/x": "f:1"}),
    legal("sym-then-write-through-up", archive(symlink(b"a", CANARY), file(b"a/file", b"dead")), {"canary/file": "f:dead"}),
    legal("sym-then-write-through-absolute", archive(symlink(b"a", b"/etc"), file(b"a/passwd", b"1")), {"etc/passwd": "f:1"}),
    legal("sym-then-write-on-it", archive(symlink(b"a", CANARY + b"/file"), file(b"a", b"dead")), {"a": "f:dead"}),
    legal("sym-then-dir-on-it", archive(symlink(b"a", CANARY), folder(b"a"), file(b"a/file", b"1")), {"a": "o", "a/file": "f:1"}),
    legal("sym-chain", archive(symlink(b"a", b"b"), symlink(b"b", b"/c"), symlink(b"c", b"../../d"), file(b"a/x", b"1")), {"d/x": "f:1"}),
    legal("sym-via-dot", archive(symlink(b"a", b"."), file(b"a/a/a/x", b"1")), {"x": "f:1"}),
    legal("sym-to-root", archive(symlink(b"a", b"/"), file(b"a/x", b"1")), {"x": "f:1"}),
    legal("sym-dotdot-in-the-middle", archive(folder(b"d/e"), symlink(b"a", b"d/e/../../.."), file(b"a/x", b"1")), {"x": "f:1"}),
    legal("sym-chmod-through", archive(symlink(b"a", CANARY + b"/file", mode=0o6777)), {"a": "l:../../canary/file"}),
    legal("sym-chmod-dir-through", archive(symlink(b"a", CANARY), folder(b"a/etc", mode=0o7777)), {"canary/etc": "d"}),
    legal("sym-swap-after-use", archive(folder(b"a"), file(b"a/x", b"1"), symlink(b"a", CANARY), file(b"a/file", b"2")), {"a": "l:../../canary", "canary/file": "f:2"}),
    legal("sym-swap-back-and-forth", archive(*[part for _ in range(20) for part in (symlink(b"a", CANARY), file(b"a/file"), folder(b"a"), file(b"a/y"))]), {"a": "o", "a/y": "f:"}),
    legal("sym-realpath-overflow", archive(*[part for n in range(30) for part in (folder(b"d" * 40), symlink(b"l%d" % n, b"d" * 40 + b"/.." * 2))], file(b"l29/x", b"1")), {"x": "f:1"}),
    legal("sym-to-proc", archive(symlink(b"a", b"/proc/1/root"), file(b"a/pyrkt-escape", b"1")), {"proc/1/root/pyrkt-escape": "f:1"}),
    legal("sym-to-proc-self-fd", archive(symlink(b"a", b"/proc/self/fd/0"), file(b"a/x", b"1")), {"proc/self/fd/0/x": "f:1"}),
    # hard links
    legal("hard-plain", archive(file(b"a", b"1"), hardlink(b"b", b"a")), {"a": "f:1", "b": "f:1"}),
    legal("hard-absolute", archive(file(b"a", b"1"), hardlink(b"b", b"/a")), {"b": "f:1"}),
    legal("hard-to-symlink", archive(symlink(b"a", CANARY + b"/file"), hardlink(b"b", b"a")), {"b": "l:../../canary/file"}),
    legal("hard-to-symlink-then-write", archive(symlink(b"a", CANARY + b"/file"), hardlink(b"b", b"a"), file(b"b", b"2")), {"b": "f:2"}),
    legal("hard-to-itself", archive(file(b"a", b"1"), hardlink(b"a", b"./a")), {"a": "f:1"}),
    legal("hard-then-write", archive(file(b"a", b"1"), hardlink(b"b", b"a"), file(b"b", b"2")), {"a": "f:1", "b": "f:2"}),
    legal("hard-through-symlink", archive(symlink(b"s", CANARY), file(b"canary/file", b"1"), hardlink(b"b", b"s/file")), {"b": "f:1"}),
    legal("hard-to-lower", archive(hardlink(b"b", b"etc/passwd")), {"b": None}),
    legal("hard-to-lower-outside", archive(symlink(b"s", CANARY), hardlink(b"b", b"s/file")), {"b": None}),
    legal("hard-to-proc", archive(hardlink(b"b", b"/proc/self/exe")), {"b": None, "proc": None}),
    legal("hard-with-size", archive(file(b"a", b"1"), hardlink(b"b", b"a", size=1)), {"b": "f:1"}),
    legal("hard-other-owner", archive(file(b"a", b"1"), hardlink(b"b", b"a", uid=9, mode=0o4777)), {"b": "f:1"}),
    # whiteouts
    legal("wh-file", archive(file(b".wh.a")), {"a": "w", ".wh.a": None}),
    legal("wh-below", archive(file(b"d/.wh.a")), {"d": "d", "d/a": "w"}),
    legal("wh-opaque", archive(folder(b"d"), file(b"d/.wh..wh..opq"), file(b"d/x", b"1")), {"d": "o", "d/x": "f:1"}),
    legal("wh-opaque-last", archive(file(b"d/x", b"1"), folder(b"d"), file(b"d/.wh..wh..opq")), {"d": "o", "d/x": "f:1"}),
    legal("wh-opaque-root", archive(file(b".wh..wh..opq"), file(b"x", b"1")), {"": "o", "x": "f:1"}),
    legal("wh-then-file", archive(file(b".wh.a"), file(b"a", b"1")), {"a": "f:1"}),
    legal("wh-after-sibling", archive(file(b"a", b"1"), file(b".wh.a")), {"a": "f:1"}),
    legal("wh-then-dir-hides-lower", archive(file(b".wh.a"), folder(b"a"), file(b"a/x", b"1")), {"a": "o", "a/x": "f:1"}),
    legal("wh-then-implied-dir", archive(file(b".wh.a"), file(b"a/x", b"1")), {"a": "o", "a/x": "f:1"}),
    legal("wh-after-dir-hides-lower", archive(folder(b"a"), file(b"a/x", b"1"), file(b".wh.a")), {"a": "o", "a/x": "f:1"}),
    legal("wh-twice", archive(file(b".wh.a"), file(b".wh.a")), {"a": "w"}),
    legal("wh-aufs", archive(folder(b".wh..wh.plnk"), file(b".wh..wh.aufs"), file(b".wh..wh.orph")), {".wh..wh.plnk": None, ".wh..wh.aufs": None}),
    legal("wh-through-symlink", archive(symlink(b"s", CANARY), file(b"s/.wh.file")), {"canary/file": "w"}),
    legal("wh-opaque-through-symlink", archive(symlink(b"s", CANARY), file(b"s/.wh..wh..opq")), {"canary": "o"}),
    legal("wh-of-a-symlink", archive(symlink(b"s", CANARY), file(b".wh.s")), {"s": "l:../../canary"}),
    legal("wh-as-directory", archive(folder(b".wh.a")), {"a": "w"}),
    legal("wh-as-symlink", archive(symlink(b".wh.a", CANARY)), {"a": "w"}),
    legal("wh-with-content", archive(file(b".wh.a", b"x" * 600), file(b"b", b"1")), {"a": "w", "b": "f:1"}),
    legal("wh-upper-case", archive(file(b".WH.a", b"1")), {".WH.a": "f:1"}),
    # devices
    legal("dev-fifo", archive(header(b"p", b"6")), {"p": "p"}),
    legal("dev-char", archive(header(b"null", b"3", device=(1, 3))), {"null": "c"}, marks=root_only),
    legal("dev-block", archive(header(b"sda", b"4", device=(8, 0))), {"sda": "b"}, marks=root_only),
    legal("dev-write-through", archive(header(b"null", b"3", device=(1, 3)), file(b"null", b"1")), {"null": "f:1"}),
    legal("dev-zero-zero", archive(header(b"a", b"3")), {"a": "w"}),
    # extended attributes
    legal("xattr-user", archive(pax((b"SCHILY.xattr.user.a", b"1")), file(b"a")), {"a": "f:"}),
    legal("xattr-trusted", archive(pax((b"SCHILY.xattr.trusted.overlay.opaque", b"y")), folder(b"a")), {"a": "d"}),
    legal("xattr-overlay-redirect", archive(pax((b"SCHILY.xattr.trusted.overlay.redirect", b"/etc")), folder(b"a")), {"a": "d"}),
    legal("xattr-user-overlay", archive(pax((b"SCHILY.xattr.user.overlay.opaque", b"y")), folder(b"a")), {"a": "d"}),
    legal("xattr-user-overlay-whiteout", archive(pax((b"SCHILY.xattr.user.overlay.whiteout", b"y")), file(b"a")), {"a": "f:"}),
    legal("xattr-libarchive-overlay", archive(pax((b"LIBARCHIVE.xattr.trusted%2Eoverlay%2Eopaque", b"eQ")), folder(b"a")), {"a": "d"}),
    legal("xattr-selinux", archive(pax((b"SCHILY.xattr.security.selinux", b"system_u:object_r:etc_t:s0\0")), file(b"a")), {"a": "f:"}),
    legal("xattr-ima", archive(pax((b"SCHILY.xattr.security.ima", b"\1x")), file(b"a")), {"a": "f:"}),
    legal("xattr-no-prefix", archive(pax((b"SCHILY.xattr.system", b"x")), file(b"a")), {"a": "f:"}),
    legal("xattr-on-symlink", archive(pax((b"SCHILY.xattr.user.a", b"1")), symlink(b"a", CANARY + b"/file")), {"a": "l:../../canary/file"}),
    legal("xattr-through-symlink", archive(symlink(b"a", CANARY), pax((b"SCHILY.xattr.user.a", b"1")), folder(b"a/etc")), {"canary/etc": "d"}),
    legal("xattr-bad-acl", archive(pax((b"SCHILY.xattr.system.posix_acl_access", b"nonsense")), file(b"a")), {"a": "f:"}),
    legal("xattr-capability-on-dir", archive(pax((b"SCHILY.xattr.security.capability", b"x" * 20)), folder(b"a")), {"a": "d"}),
    # framing
    legal("frame-trailing-zeros", archive(file(b"a", b"1")) + bytes(51200), {"a": "f:1"}),
    legal("frame-data-after-end", archive(file(b"a", b"1")) + file(b"b", b"2"), {"a": "f:1", "b": None}),
    legal("frame-lone-zero-block", file(b"a", b"1") + bytes(512), {"a": "f:1"}),
    legal("frame-signed-checksum", archive(file(b"\xff" * 90, b"1", checksum=b"%06o\0 " % (sum(header(b"\xff" * 90, size=1)[:148]) + 256 + sum(header(b"\xff" * 90, size=1)[156:]) - 90 * 256))), {"\udcff" * 90: "f:1"}),
    legal("frame-v7", archive(file(b"a", b"1", magic=b"\0" * 8)), {"a": "f:1"}),
    legal("frame-gnu-magic", archive(file(b"a", b"1", magic=b"ustar  \0", prefix=b"no/prefix")), {"a": "f:1", "no": None}),
    legal("frame-contiguous", archive(file(b"a", b"1", kind=b"7")), {"a": "f:1"}),
    legal("frame-dir-with-size", archive(folder(b"d", size=4096), file(b"a", b"1")), {"d": "d", "a": "f:1"}),
    legal("frame-data-like-header", archive(file(b"a", header(b"evil", size=0)), file(b"b", b"1")), {"evil": None, "b": "f:1"}),
    legal("frame-volume-label", archive(header(b"label", b"V"), file(b"a", b"1")), {"label": None, "a": "f:1"}),
    legal("frame-long-link", archive(gnu(b"K", b"t" * 300), symlink(b"a", b"short")), {"a": "l:" + "t" * 300}),
    legal("frame-base256-size", archive(file(b"a", b"1", put={124: base256(1, 12)})), {"a": "f:1"}),
    legal("frame-empty", bytes(1024), {}),
    legal("frame-empty-size-field", archive(file(b"a", put={124: b" " * 12}), file(b"b", b"1")), {"a": "f:", "b": "f:1"}),
    # PAX
    legal("pax-path", archive(pax((b"path", b"long/" + b"n" * 200)), file(b"short", b"1")), {"long/" + "n" * 200: "f:1", "short": None}),
    legal("pax-size-overrides", archive(pax((b"size", b"3")), file(b"a", b"123", size=0), file(b"b", b"1")), {"a": "f:123", "b": "f:1"}),
    legal("pax-linkpath", archive(pax((b"linkpath", b"t")), symlink(b"a", b"s")), {"a": "l:t"}),
    legal("pax-last-counts", archive(pax((b"path", b"x"), (b"path", b"y")), file(b"z", b"1")), {"y": "f:1", "x": None}),
    legal("pax-empty-value", archive(pax((b"path", b"")), file(b"a", b"1")), {"a": "f:1"}),
    legal("pax-unknown-key", archive(pax((b"VENDOR.what", b"ever"), (b"comment", b"\xff\0\n")), file(b"a", b"1")), {"a": "f:1"}),
    legal("pax-value-with-newline", archive(pax((b"path", b"a\nb")), file(b"x", b"1")), {"a\nb": "f:1"}),
    legal("pax-value-with-record", archive(pax((b"comment", b"\n10 path=x\n")), file(b"a", b"1")), {"a": "f:1", "x": None}),
    legal("pax-only-next", archive(pax((b"path", b"x")), file(b"a", b"1"), file(b"b", b"2")), {"x": "f:1", "b": "f:2"}),
    legal("pax-global-comment", archive(pax((b"comment", b"0123"), kind=b"g"), file(b"a", b"1")), {"a": "f:1"}),
    legal("pax-sun", archive(pax((b"path", b"x"), kind=b"X"), file(b"a", b"1")), {"x": "f:1"}),
    legal("pax-mtime-negative", archive(pax((b"mtime", b"-1.5")), file(b"a")), {"a": "f:"}),
    legal("pax-mtime-fraction", archive(pax((b"mtime", b"1.123456789123")), file(b"a")), {"a": "f:"}),
    legal("pax-uname-lies", archive(pax((b"uname", b"root"), (b"gname", b"shadow")), file(b"a", uid=7, put={265: b"root"})), {"a": "f:"}),
    legal("pax-gnu-name-wins", archive(pax((b"path", b"x")), gnu(b"L", b"y"), file(b"z", b"1")), {"y": "f:1"}),
    # ids, modes, times
    legal("uid-largest", archive(file(b"a", uid=(1 << 32) - 2, gid=(1 << 32) - 2)), {"a": "f:"}),
    legal("mode-type-bits", archive(file(b"a", mode=0o100644)), {"a": "f:"}),
    legal("mode-none", archive(file(b"a", b"1", mode=0)), {"a": "f:1"}),
    legal("mtime-zero", archive(file(b"a", mtime=0)), {"a": "f:"}),
    legal("mtime-negative", archive(file(b"a", put={136: base256(-5, 12)})), {"a": "f:"}),
    legal("mtime-far", archive(file(b"a", put={136: base256(1 << 39, 12)})), {"a": "f:"}),
    # sparse files
    legal("sparse-old", archive(header(b"s", b"S", size=4, magic=b"ustar  \0", put={386: octal(2, 12) + octal(2, 12) + octal(6, 12) + octal(2, 12), 483: octal(10, 12)}) + padded(b"abcd")), {"s": "f:\0\0ab\0\0cd\0\0"}),
    legal("sparse-0.0", archive(pax((b"GNU.sparse.size", b"6"), (b"GNU.sparse.numblocks", b"2"), (b"GNU.sparse.offset", b"1"), (b"GNU.sparse.numbytes", b"1"), (b"GNU.sparse.offset", b"4"), (b"GNU.sparse.numbytes", b"1")), file(b"s", b"ab")), {"s": "f:\0a\0\0b\0"}),
    legal("sparse-0.1", archive(pax((b"GNU.sparse.size", b"6"), (b"GNU.sparse.name", b"t"), (b"GNU.sparse.map", b"1,1,4,1")), file(b"GNUSparseFile.0/s", b"ab")), {"t": "f:\0a\0\0b\0"}),
    legal("sparse-1.0", archive(pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"6"), (b"GNU.sparse.name", b"t")), file(b"s", padded(b"2\n1\n1\n4\n1\n") + b"ab")), {"t": "f:\0a\0\0b\0"}),
    legal("sparse-nothing", archive(pax((b"GNU.sparse.size", b"6"), (b"GNU.sparse.numblocks", b"0")), file(b"s")), {"s": "f:\0\0\0\0\0\0"}),
    # compression
    legal("gz-plain", gzip.compress(archive(file(b"a", b"1"))), {"a": "f:1"}),
    legal("gz-members", gzip.compress(file(b"a", b"1")) + gzip.compress(file(b"b", b"2")) + gzip.compress(bytes(1024)), {"a": "f:1", "b": "f:2"}),
    legal("gz-members-split-a-block", b"".join(gzip.compress(archive(file(b"a", b"1"))[at : at + 100]) for at in range(0, 2048, 100)), {"a": "f:1"}),
    legal("gz-empty-members", gzip.compress(b"") * 50 + gzip.compress(archive(file(b"a", b"1"))) + gzip.compress(b"") * 50, {"a": "f:1"}),
    legal("gz-zero-padding", gzip.compress(archive(file(b"a", b"1"))) + bytes(5000), {"a": "f:1"}),
    legal("gz-with-name", b"\x1f\x8b\x08\x08\0\0\0\0\0\3../../evil\0" + zlib.compress(archive(file(b"a", b"1")), wbits=-15) + struct.pack("<II", zlib.crc32(archive(file(b"a", b"1"))), 2048), {"a": "f:1"}),
    legal("zstd-plain", zstandard.compress(archive(file(b"a", b"1"))), {"a": "f:1"}),
    legal("zstd-frames", zstandard.compress(file(b"a", b"1")) + zstandard.compress(archive(file(b"b", b"2"))), {"a": "f:1", "b": "f:2"}),
    legal("zstd-skippable-first", b"\x51\x2a\x4d\x18\4\0\0\0toc!" + zstandard.compress(archive(file(b"a", b"1"))), {"a": "f:1"}),
    legal("zstd-skippable-last", zstandard.compress(archive(file(b"a", b"1"))) + b"\x50\x2a\x4d\x18\4\0\0\0toc!", {"a": "f:1"}),
    legal("bz2-streams", bz2.compress(file(b"a", b"1")) + bz2.compress(archive(file(b"b", b"2"))), {"a": "f:1", "b": "f:2"}),
    legal("xz-streams", lzma.compress(file(b"a", b"1")) + bytes(8) + lzma.compress(archive(file(b"b", b"2"))), {"a": "f:1", "b": "f:2"}),
]  # fmt: skip


@pytest.mark.parametrize(("data", "made"), LEGAL)
def test_is_made_inside(data: bytes, made: Made, stage: Path, canary: Path) -> None:
    before = everything(canary)
    unpack(data, stage)
    assert {name: describe(stage / name) for name in made} == made
    assert everything(canary) == before
    assert not Path(os.fsdecode(OUT)).exists()


def hostile(name: str, data: bytes, problem: str, limits: Limits = SMALL) -> Any:
    return pytest.param(data, problem, limits, id=name)


def sized(size: bytes) -> bytes:
    return archive(header(b"a", put={124: size}))


HOSTILE = [
    # names
    hostile("name-dotdot", archive(file(b"../a")), "leads out of the image"),
    hostile("name-dotdot-many", archive(file(UP + b"tmp/pyrkt-escape")), "leads out of the image"),
    hostile("name-dotdot-middle", archive(file(b"a/../../b")), "leads out of the image"),
    hostile("name-dotdot-harmless", archive(file(b"a/../b")), "leads out of the image"),
    hostile("name-dotdot-last", archive(folder(b"a/..")), "leads out of the image"),
    hostile("name-dotdot-only", archive(folder(b"..")), "leads out of the image"),
    hostile("name-dotdot-absolute", archive(file(b"/../../tmp/pyrkt-escape")), "leads out of the image"),
    hostile("name-dotdot-after-known", archive(file(b"a/b"), file(b"a/../../x")), "leads out of the image"),
    hostile("name-dotdot-pax", archive(pax((b"path", b"../x")), file(b"a")), "leads out of the image"),
    hostile("name-dotdot-gnu", archive(gnu(b"L", b"../x"), file(b"a")), "leads out of the image"),
    hostile("name-dotdot-prefix", archive(file(b"x", prefix=b"..")), "leads out of the image"),
    hostile("name-dotdot-sparse", archive(pax((b"GNU.sparse.size", b"0"), (b"GNU.sparse.numblocks", b"0"), (b"GNU.sparse.name", b"../x")), file(b"s")), "leads out of the image"),
    hostile("name-empty-file", archive(file(b"")), "root of an image must be a directory"),
    hostile("name-root-file", archive(file(b"/", kind=b"2")), "root of an image must be a directory"),
    hostile("name-root-symlink", archive(symlink(b"./", CANARY)), "root of an image must be a directory"),
    hostile("name-nul-pax", archive(pax((b"path", b"a\0/../../x")), file(b"a")), "NUL"),
    hostile("name-256-bytes", archive(gnu(b"L", b"n" * 256), file(b"a")), "a name of 256 bytes"),
    hostile("name-5000-bytes", archive(gnu(b"L", b"n/" * 2500), file(b"a")), "a name of"),
    hostile("name-deep-2000", archive(gnu(b"L", b"a/" * 2000 + b"f"), file(b"a")), "2001 directories deep"),
    hostile("name-depth-by-links", archive(gnu(b"L", b"a/" * 500), folder(b"x"), symlink(b"s", b"a/" * 45), gnu(b"L", b"a/" * 500 + b"b"), symlink(b"x", b"/"), gnu(b"K", b"a/" * 500), symlink(b"t", b"x"), gnu(b"L", b"t/" + b"z/" * 400 + b"f"), file(b"a")), "too many directories deep"),
    hostile("name-below-file", archive(file(b"a"), file(b"a/b")), "a is not a directory"),
    hostile("name-below-fifo", archive(header(b"a", b"6"), file(b"a/b")), "a is not a directory"),
    # symlinks
    hostile("sym-loop", archive(symlink(b"a", b"b"), symlink(b"b", b"a"), file(b"a/x")), "too many symlinks"),
    hostile("sym-self", archive(symlink(b"a", b"a"), file(b"a/x")), "too many symlinks"),
    hostile("sym-50-chain", archive(*[symlink(b"l%d" % n, b"l%d" % (n + 1)) for n in range(50)], file(b"l0/x")), "too many symlinks"),
    hostile("sym-empty", archive(symlink(b"a", b"")), "a symlink to a name of 0 bytes"),
    hostile("sym-long", archive(gnu(b"K", b"x" * 4096), symlink(b"a", b"")), "a symlink to a name of 4096 bytes"),
    hostile("sym-nul", archive(pax((b"linkpath", b"a\0b")), symlink(b"a", b"x")), "NUL"),
    hostile("sym-with-data", archive(symlink(b"a", b"b", size=600)), "claims 600 bytes"),
    hostile("sym-dotdot-name", archive(symlink(b"a", CANARY), file(b"a/../x")), "leads out of the image"),
    # hard links
    hostile("hard-dotdot", archive(hardlink(b"a", b"../../canary/file")), "leads out of the image"),
    hostile("hard-dotdot-absolute", archive(hardlink(b"a", b"/../../canary/file")), "leads out of the image"),
    hostile("hard-to-dir", archive(folder(b"d"), hardlink(b"a", b"d")), "which is no file"),
    hostile("hard-to-root", archive(hardlink(b"a", b"/")), "hard link to the root"),
    hostile("hard-empty", archive(hardlink(b"a", b"")), "hard link to the root"),
    hostile("hard-to-whiteout", archive(file(b".wh.x"), hardlink(b"a", b"x")), "which is no file"),
    hostile("hard-loop", archive(symlink(b"l", b"l"), hardlink(b"a", b"l/x")), "too many symlinks"),
    hostile("hard-replaces-its-target", archive(file(b"d/x"), hardlink(b"d", b"d/x")), "cannot be made"),
    # whiteouts
    hostile("wh-bare", archive(file(b".wh.")), "whiteout of nothing"),
    hostile("wh-dot", archive(file(b".wh..")), "whiteout of nothing"),
    hostile("wh-dotdot", archive(file(b"a/.wh...")), "whiteout of nothing"),
    hostile("wh-with-dotdot", archive(file(b"../.wh.canary")), "leads out of the image"),
    hostile("wh-in-directory-name", archive(file(b".wh.d/x")), "name of a whiteout"),
    hostile("wh-below-file", archive(file(b"a"), file(b"a/.wh.b")), "is not a directory"),
    # devices and types
    hostile("dev-major", archive(header(b"a", b"3", device=(1 << 12, 0))), "device number out of range"),
    hostile("dev-minor", archive(header(b"a", b"4", device=(0, 1 << 20))), "device number out of range"),
    hostile("dev-negative", archive(header(b"a", b"3", put={329: base256(-1, 8)})), "device number out of range"),
    hostile("dev-with-data", archive(header(b"a", b"6", size=1)), "claims 1 bytes"),
    hostile("type-unknown", archive(header(b"a", b"Z")), "unknown type"),
    hostile("type-multi-volume", archive(header(b"a", b"M")), "unknown type"),
    hostile("type-control", archive(header(b"a", b"\x1b")), r"unknown type '\\x1b'"),
    # framing
    hostile("frame-checksum", archive(header(b"a", checksum=b"000000\0 ")), "checksum"),
    hostile("frame-checksum-empty", archive(header(b"a", checksum=b" " * 8)), "checksum"),
    hostile("frame-checksum-text", archive(header(b"a", checksum=b"checksum")), "checksum"),
    hostile("frame-second-checksum", archive(file(b"a"), header(b"b", checksum=b"000001\0 ")), "after entry 1 is wrong"),
    hostile("frame-no-end", file(b"a", b"1"), "has no end"),
    hostile("frame-half-end", file(b"a") + bytes(512) + file(b"b") + bytes(1024), "half an end mark"),
    hostile("frame-cut-header", file(b"a", b"1") + header(b"b")[:300], "cut off in a header"),
    hostile("frame-cut-data", file(b"a", b"x" * 2000)[:1500], "cut off in the data"),
    hostile("frame-cut-padding", file(b"a", b"1")[:600], "has no end"),
    hostile("frame-no-padding", file(b"a", b"1")[:513], "has no end"),
    hostile("frame-cut-last-byte", file(b"a", b"12")[:513], "cut off in the data"),
    hostile("frame-cut-end", file(b"a") + bytes(700), "cut off in its end mark"),
    hostile("frame-not-tar", b"<html>503 Service Unavailable</html>" * 30, "not a tar archive"),
    hostile("frame-nothing", b"", "is empty"),
    hostile("frame-size-negative", sized(base256(-1, 12)), "negative size"),
    hostile("frame-size-minus-512", sized(base256(-512, 12)), "negative size"),
    hostile("frame-size-2-63", sized(base256(1 << 63, 12)), "beyond 64 bits"),
    hostile("frame-size-huge", sized(base256(1 << 62, 12)), "claims to have"),
    hostile("frame-size-octal-huge", sized(b"7" * 12), "claims to have"),
    hostile("frame-size-sign", sized(b"-0000000001\0"), "is no number"),
    hostile("frame-size-underscore", sized(b"0000000_001\0"), "is no number"),
    hostile("frame-size-hex", sized(b"0x000000001\0"), "is no number"),
    hostile("frame-size-nine", sized(b"00000000009\0"), "not octal"),
    hostile("frame-size-arabic", sized(b"0\xd9\xa1\0"), "is no number"),
    hostile("frame-directory-data", archive(file(b"a/", b"1")), "a directory with 1 bytes"),
    hostile("frame-longname-huge", archive(header(b"x", b"L", size=1 << 30)), "an extended header of"),
    hostile("frame-longname-last", archive(gnu(b"L", b"x")), "belongs to no entry"),
    hostile("frame-entries", archive(*[file(b"a")] * 20), "more than 10 entries", Limits(entries=10)),
    hostile("frame-replaces-dirs", archive(*[folder(b"d"), file(b"d")] * 1200), "again and again"),
    # PAX
    hostile("pax-size-negative", archive(pax((b"size", b"-1")), file(b"a")), "size is no number"),
    hostile("pax-size-text", archive(pax((b"size", b"1e3")), file(b"a")), "size is no number"),
    hostile("pax-size-huge", archive(pax((b"size", b"9" * 19)), file(b"a")), "claims to have"),
    hostile("pax-size-long", archive(pax((b"size", b"9" * 5000)), file(b"a")), "size is no number"),
    hostile("pax-size-underscore", archive(pax((b"size", b"1_0")), file(b"a")), "size is no number"),
    hostile("pax-size-desync", archive(pax((b"size", b"0")), file(b"a", header(b"smuggled") * 2, size=1024)[:512], b"\1" * 512), "checksum of the header after entry 1"),
    hostile("pax-length-zero", archive(pax(b"0 path=x\n"), file(b"a")), "wrong length"),
    hostile("pax-length-short", archive(pax(b"3 path=x\n"), file(b"a")), "wrong length"),
    hostile("pax-length-long", archive(pax(b"99 path=x\n"), file(b"a")), "wrong length"),
    hostile("pax-length-huge", archive(pax(b"99999999 path=x\n"), file(b"a")), "wrong length"),
    hostile("pax-length-none", archive(pax(b"path=xxxxxxxxxx\n"), file(b"a")), "no length"),
    hostile("pax-length-negative", archive(pax(b"-9 path=x\n"), file(b"a")), "length is no number"),
    hostile("pax-no-newline", archive(pax(b"9 path=xy"), file(b"a")), "wrong length"),
    hostile("pax-no-equals", archive(pax(b"7 path\n"), file(b"a")), "no key"),
    hostile("pax-empty-key", archive(pax(b"5 =x\n"), file(b"a")), "no key"),
    hostile("pax-nul-key", archive(pax((b"SCHILY.xattr.user.a\0b", b"1")), file(b"a")), "no key"),
    hostile("pax-regex-bomb", archive(pax(b"9" * 100000), file(b"a")), "no length"),
    hostile("pax-huge", archive(header(b"x", b"x", size=2 << 20)), "an extended header of 2097152 bytes"),
    hostile("pax-last", archive(pax((b"path", b"x"))), "belongs to no entry"),
    hostile("pax-global-path", archive(pax((b"path", b"x"), kind=b"g"), file(b"a")), "global extended header sets path"),
    hostile("pax-global-size", archive(pax((b"size", b"512"), kind=b"g"), file(b"a")), "global extended header sets size"),
    hostile("pax-global-flood", archive(*[pax((b"k%d" % n, b"v" * 60000), kind=b"g") for n in range(20)], file(b"a")), "global extended headers of more"),
    hostile("pax-mtime-nan", archive(pax((b"mtime", b"nan")), file(b"a")), "time is no number"),
    hostile("pax-mtime-inf", archive(pax((b"mtime", b"inf")), file(b"a")), "time is no number"),
    hostile("pax-mtime-exponent", archive(pax((b"mtime", b"1e400")), file(b"a")), "time is no number"),
    hostile("pax-mtime-underscore", archive(pax((b"mtime", b"1_0")), file(b"a")), "time is no number"),
    hostile("pax-mtime-huge", archive(pax((b"mtime", b"9" * 30)), file(b"a")), "time out of range"),
    hostile("pax-mtime-dots", archive(pax((b"mtime", b"1.2.3")), file(b"a")), "time is no number"),
    hostile("pax-uid-negative", archive(pax((b"uid", b"-1")), file(b"a")), "owner is no number"),
    hostile("pax-uid-2-32", archive(pax((b"uid", b"4294967296")), file(b"a")), "owner out of range"),
    hostile("pax-xattr-huge", archive(pax((b"SCHILY.xattr.user.a", b"x" * 70000)), file(b"a")), "bytes of extended attributes"),
    hostile("pax-xattr-many", archive(pax(*[(b"SCHILY.xattr.user.%d" % n, b"x" * 100) for n in range(1000)]), file(b"a")), "bytes of extended attributes"),
    hostile("pax-xattr-base64", archive(pax((b"LIBARCHIVE.xattr.user.a", b"A")), file(b"a")), "not base64"),
    hostile("uid-minus-one", archive(file(b"a", uid=(1 << 32) - 1)), "an owner out of range"),
    hostile("uid-negative", archive(file(b"a", put={108: base256(-1, 8)})), "an owner out of range"),
    hostile("uid-2-32", archive(file(b"a", uid=1 << 32)), "an owner out of range"),
    hostile("uid-text", archive(file(b"a", put={108: b"root\0\0\0\0"})), "uid is no number"),
    hostile("mode-text", archive(file(b"a", put={100: b"rwxr-xr-"})), "mode is no number"),
    hostile("mtime-2-62", archive(file(b"a", put={136: base256(1 << 62, 12)})), "time out of range"),
    # sparse files
    hostile("sparse-backwards", archive(pax((b"GNU.sparse.size", b"9"), (b"GNU.sparse.map", b"4,1,1,1")), file(b"s", b"ab")), "runs backwards"),
    hostile("sparse-overlap", archive(pax((b"GNU.sparse.size", b"9"), (b"GNU.sparse.map", b"0,2,1,2")), file(b"s", b"abcd")), "runs backwards"),
    hostile("sparse-beyond", archive(pax((b"GNU.sparse.size", b"2"), (b"GNU.sparse.map", b"1,2")), file(b"s", b"ab")), "does not fit"),
    hostile("sparse-too-little", archive(pax((b"GNU.sparse.size", b"9"), (b"GNU.sparse.map", b"0,5")), file(b"s", b"ab")), "does not fit"),
    hostile("sparse-odd", archive(pax((b"GNU.sparse.size", b"9"), (b"GNU.sparse.map", b"0,1,2")), file(b"s", b"a")), "odd number"),
    hostile("sparse-negative", archive(pax((b"GNU.sparse.size", b"9"), (b"GNU.sparse.map", b"-1,1")), file(b"s", b"a")), "sparse map is no number"),
    hostile("sparse-real-size-huge", archive(pax((b"GNU.sparse.size", b"9" * 18), (b"GNU.sparse.map", b"0,1")), file(b"s", b"a")), "does not fit"),
    hostile("sparse-map-endless", archive(pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"6")), file(b"s", b"999999\n" + b"1\n" * 2000)), "damaged sparse map"),
    hostile("sparse-map-no-newline", archive(pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"6")), file(b"s", b"9" * 2048)), "damaged sparse map"),
    hostile("sparse-version", archive(pax((b"GNU.sparse.major", b"2"), (b"GNU.sparse.minor", b"0")), file(b"s")), "unknown format"),
    hostile("sparse-old-negative", archive(header(b"s", b"S", size=1, put={386: base256(-5, 12) + octal(1, 12), 483: octal(9, 12)}) + padded(b"a")), "runs backwards"),
    hostile("sparse-old-endless", archive(header(b"s", b"S", put={482: b"\1", 483: octal(9, 12)}) + (bytes(504) + b"\1" + bytes(7)) * 3000), "sparse map of"),
    # compression
    hostile("gz-cut", gzip.compress(archive(file(b"a", os.urandom(5000))))[:-900], "cut"),
    hostile("gz-cut-trailer", gzip.compress(archive(file(b"a", b"1")))[:-1], "the gzip stream is cut off"),
    hostile("gz-cut-after-header", gzip.compress(b"")[:10], "the gzip stream is cut off"),
    hostile("gz-crc", gzip.compress(archive(file(b"a", b"1")))[:-8] + b"\0\0\0\0\0\x08\0\0", "the gzip stream is damaged"),
    hostile("gz-length", gzip.compress(archive(file(b"a", b"1")))[:-4] + b"\1\0\0\0", "the gzip stream is damaged"),
    hostile("gz-garbage-after", gzip.compress(archive(file(b"a", b"1"))) + b"garbage garbage garbage", "damaged"),
    hostile("gz-not-deflate", b"\x1f\x8b\x09" + bytes(50), "damaged"),
    hostile("gz-empty-members-flood", gzip.compress(b"") * 100_100, "empty members"),
    hostile("gz-in-gz", gzip.compress(gzip.compress(archive(file(b"a", os.urandom(2000))))), "not a tar archive"),
    hostile("zstd-cut", zstandard.compress(archive(file(b"a", os.urandom(5000))))[:-900], "cut off"),
    hostile("zstd-garbage-after", zstandard.compress(archive(file(b"a", b"1"))) + b"garbage", "damaged"),
    hostile("zstd-window", b"\x28\xb5\x2f\xfd\x04\xf8" + b"\1\0\0" * 20, "damaged"),
    hostile("zstd-checksum", zstandard.ZstdCompressor(write_checksum=True).compress(archive(file(b"a", b"1")))[:-4] + b"\0\0\0\0", "damaged"),
    hostile("zstd-skippable-cut", b"\x50\x2a\x4d\x18\xff\xff\xff\xff" + bytes(100), "cut off"),
    hostile("zstd-dictionary", b"\x28\xb5\x2f\xfd\x23\x01\x02\x03\x04\x01\x09\x00\x00a", "damaged"),
    hostile("bz2-cut", bz2.compress(archive(file(b"a", b"1")))[:-5], "cut off"),
    hostile("xz-cut", lzma.compress(archive(file(b"a", b"1")))[:-5], "cut off"),
    hostile("xz-memory", lzma.compress(archive(file(b"a", b"1")), format=lzma.FORMAT_XZ, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}]), "damaged"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "problem", "limits"), HOSTILE)
def test_is_refused(data: bytes, problem: str, limits: Limits, stage: Path, canary: Path) -> None:
    before = everything(canary)
    with pytest.raises(ImageRefused, match=problem) as caught:
        unpack(data, stage, limits)
    assert caught.value.message.isprintable()
    assert everything(canary) == before
    assert not Path(os.fsdecode(OUT)).exists()


def test_there_are_enough_cases() -> None:
    names = [case.id for case in (*LEGAL, *HOSTILE)]
    assert len(names) >= 120
    assert len(set(names)) == len(names)


# -- bombs: bounded in memory and time

MIB, MIBS = 1 << 20, 120


@functools.cache
def packed(kind: str) -> bytes:
    """Return a file of 120 MiB of zeros, packed in members of one MiB (one member of all takes long to make)."""
    packers: dict[str, Callable[[bytes], bytes]] = {
        "gz": gzip.compress,
        "bz2": bz2.compress,
        "xz": lzma.compress,
        "zstd": zstandard.compress,
    }
    pack = packers[kind]
    return pack(header(b"bomb", size=MIBS * MIB)) + pack(bytes(MIB)) * MIBS + pack(bytes(1024))


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zstd"])
def test_bomb_stops_at_its_ratio(kind: str, stage: Path) -> None:
    data = packed(kind)
    started = time.monotonic()
    with pytest.raises(ImageRefused, match="times as much"):
        unpack(data, stage, Limits(ratio=100))
    assert time.monotonic() - started < 20
    assert sum(path.stat().st_size for path in stage.iterdir()) <= (64 << 20) + (1 << 20) + 100 * len(data)


def test_bomb_stops_at_its_size(stage: Path) -> None:
    with pytest.raises(ImageRefused, match="claims to have"):
        unpack(packed("zstd"), stage, Limits(total=100 << 20))
    many = gzip.compress(b"".join(file(b"f%d" % n, bytes(1 << 20)) for n in range(50)))
    with pytest.raises(ImageRefused, match=r"unpacks to more than 20\.0MiB"):
        unpack(many, stage, Limits(total=20 << 20))


MEASURED = """
import resource, sys
from pathlib import Path
from pyrkt.base.errors import ImageRefused
from pyrkt.image.unpack.layers import unpack_layer
from pyrkt.image.unpack.limits import Limits
try:
    unpack_layer([Path(sys.argv[1]).read_bytes()], Path(sys.argv[2]), owner="caller", limits=Limits(ratio=100))
except ImageRefused as error:
    print(error.message)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zstd", "runs"])
def test_bomb_takes_no_memory(kind: str, tmp_path: Path) -> None:
    # 128 KiB from four bytes each: 1 MiB of such input is 32 GiB at once.
    run = struct.pack("<I", 1 << 1 | (128 << 10) << 3)[:3] + b"\0"
    data = b"\x28\xb5\x2f\xfd\x00\x58" + run * 200_000 if kind == "runs" else packed(kind)
    (tmp_path / "bomb").write_bytes(data)
    (tmp_path / "fs").mkdir()
    command: list[str | Path] = [sys.executable, "-c", MEASURED, tmp_path / "bomb", tmp_path / "fs"]
    said, kib = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "times as much" in said
    assert int(kib) < 256 << 10


def test_empty_zstd_blocks_do_not_take_for_ever(stage: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ImageRefused, match="empty blocks"):
        unpack(b"\x28\xb5\x2f\xfd\x00\x58" + b"\0\0\0" * 5_000_000, stage)
    assert time.monotonic() - started < 20


def test_every_512_cut_of_a_small_archive_is_refused(stage: Path) -> None:
    whole = archive(
        folder(b"d"), file(b"d/a", b"x" * 700), pax((b"path", b"n" * 150)), file(b"s", b"1"), symlink(b"l", b"d"),
        hardlink(b"h", b"d/a"),
    )  # fmt: skip
    for cut in range(0, len(whole) - 512, 512):
        with pytest.raises(ImageRefused):
            unpack(whole[:cut], stage)
    unpack(whole[:-512], stage)
    unpack(whole, stage)


def test_the_right_digest_proves_an_archive_without_end(stage: Path) -> None:
    data = file(b"a", b"1")
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    result = unpack_layer([data], stage, owner="caller", diff_id=digest)  # type: ignore[arg-type]
    assert result.diff_id == digest
    with pytest.raises(ImageRefused, match="unpacks to"):
        unpack_layer([archive(data)], stage, owner="caller", diff_id=digest)  # type: ignore[arg-type]


def test_what_the_source_raises_comes_through(stage: Path) -> None:
    def broken() -> Any:
        yield archive(file(b"a"))
        raise PyrktError("the network is gone")

    with pytest.raises(PyrktError, match="the network is gone"):
        unpack_layer(broken(), stage, owner="caller")


def test_a_file_is_read_by_the_child(stage: Path, tmp_path: Path) -> None:
    (tmp_path / "layer").write_bytes(gzip.compress(archive(file(b"a", b"1"))))
    with (tmp_path / "layer").open("rb", buffering=0) as source:
        result = unpack_layer(source, stage, owner="caller")
    assert result.size == 2048
    assert describe(stage / "a") == "f:1"


def test_the_diff_id_covers_what_follows_the_end(stage: Path) -> None:
    data = archive(file(b"a")) + b"trailer" * 1000
    result = unpack(gzip.compress(data), stage)
    assert result.diff_id == "sha256:" + hashlib.sha256(data).hexdigest()
    assert result.size == len(data)


def test_implied_directories_and_links_are_told(stage: Path) -> None:
    result = unpack(archive(folder(b"."), file(b"a/b/c"), folder(b"a"), hardlink(b"x", b"bin/sh")), stage)
    assert result.implied == ("a/b",)
    assert result.crosslinks == (("x", "bin/sh"),)
    assert result.has_root
    assert result.entries == 4


def test_record_lengths_count_themselves() -> None:
    assert record(b"path", b"x" * 90) == b"99 path=" + b"x" * 90 + b"\n"
    assert io.BytesIO(record(b"path", b"x" * 92)).read().startswith(b"102 path=")
