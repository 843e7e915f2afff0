"""Fit an unpacked layer to the layers below it: what it implies, its root, and hard links that leave it."""

from __future__ import annotations

import os
from errno import EEXIST, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY
from typing import TYPE_CHECKING

from pyrkt.base.errors import ImageRefused
from pyrkt.image.unpack.copy import copy_file, copy_metadata
from pyrkt.image.unpack.tar import shown
from pyrkt.kernel.path import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2
from pyrkt.store.remove import remove_at
from pyrkt.store.rootfs import Entry, Rootfs, is_opaque

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def to_lower(stage: Path, implied: Sequence[str], crosslinks: Sequence[tuple[str, str]], lower: Rootfs) -> None:
    """Change the tree at ``stage`` so that it is right on top of ``lower``.

    An implied directory takes mode, owner, times and attributes of the one that it would hide. Where ``lower`` has a
    symlink to a directory in its place (``lib -> usr/lib``), its content moves to where the link leads, as if the
    layer had been unpacked on top. A hard link's target is copied up, then linked.
    Raises: ImageRefused if a hard link leads nowhere; OSError.
    """
    top = os.open(stage, _DIRECTORY)
    try:
        todo = sorted(os.fsencode(path) for path in implied)[::-1]
        while todo:
            path = todo.pop()
            below = _hidden_by(top, path, lower)
            if below is None:
                continue
            if below.is_dir:
                _inherit(top, path, below)
            elif below.is_link:
                todo = _follow(top, path, lower, todo)
        for link, target in crosslinks:
            _copy_up(top, os.fsencode(link), os.fsencode(target), lower)
    finally:
        os.close(top)


def inherit_root(stage: Path, lower: Rootfs) -> None:
    """Give the root of ``stage`` mode, owner and attributes of that below."""
    top = os.open(stage, _DIRECTORY)
    try:
        copy_metadata(lower.root().path, top)
    finally:
        os.close(top)


def _open(top: int, path: bytes) -> int:
    return openat2(top, os.fsdecode(path) or ".", _DIRECTORY, 0, _BENEATH)


def _hidden_by(top: int, path: bytes, lower: Rootfs) -> Entry | None:
    """Return what ``lower`` has at ``path``, unless the layer hides it anyway; links on the way are not followed."""
    entry: Entry | None = lower.root()
    done: list[bytes] = []
    for part in path.split(b"/"):
        if entry is None or not entry.is_dir or is_opaque(f"/proc/self/fd/{top}/".encode() + b"/".join(done)):
            return None
        entry = lower.child(entry, part)
        done.append(part)
    return entry


def _inherit(top: int, path: bytes, below: Entry) -> None:
    here = _open(top, path)
    try:
        copy_metadata(below.path, here)
    finally:
        os.close(here)


def _follow(top: int, path: bytes, lower: Rootfs, todo: list[bytes]) -> list[bytes]:
    """Move the content of the directory ``path`` to where the symlink in its place leads; return what is left to do."""
    real = _real_directory(lower, path)
    if real is None or real == path or real.startswith(path + b"/"):
        return todo  # it leads to no directory: the layer's own replaces it
    made = _make_directories(top, real)
    source, target = _open(top, path), _open(top, real)
    try:
        _merge(source, target)
    finally:
        os.close(source)
        os.close(target)
    _remove_at(top, path)
    moved = [real + other[len(path) :] for other in todo if other.startswith(path + b"/")]
    kept = [other for other in todo if not other.startswith(path + b"/")]
    return sorted({*kept, *moved, *made}, reverse=True)


def _real_directory(lower: Rootfs, path: bytes) -> bytes | None:
    """Return the path, without symlinks, of the directory that ``path`` leads to."""
    entry = lower.lookup(path)
    if entry is None or not entry.is_dir:
        return None
    for layer in lower.lowers:
        prefix = os.fsencode(layer) + b"/"
        if entry.path.startswith(prefix):
            return entry.path[len(prefix) :]
    return None


def _make_directories(top: int, path: bytes) -> list[bytes]:
    """Make ``path`` and what it lies in, where missing; return what was made, which is implied like the rest."""
    made: list[bytes] = []
    parts = path.split(b"/")
    for count in range(1, len(parts) + 1):
        here = b"/".join(parts[:count])
        try:
            os.close(_open(top, here))
        except OSError as error:
            if error.errno == ENOENT:
                parent = _open(top, b"/".join(parts[: count - 1]))
                try:
                    os.mkdir(parts[count - 1], 0o755, dir_fd=parent)
                finally:
                    os.close(parent)
                made.append(here)
            else:
                raise ImageRefused(f"{shown(path)}: {shown(here)} of the layer is no directory") from error
    return made


def _merge(source: int, target: int) -> None:
    """Move everything in ``source`` into ``target``; directories that both have become one."""
    for name in (os.fsencode(text) for text in os.listdir(source)):
        try:
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
        except OSError as error:
            if error.errno in {EISDIR, ENOTDIR}:
                remove_at(target, os.fsdecode(name))
                os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
                continue
            if error.errno not in {EEXIST, ENOTEMPTY}:
                raise
            deeper_source = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=source)
            deeper_target = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=target)
            try:
                _merge(deeper_source, deeper_target)
            finally:
                os.close(deeper_source)
                os.close(deeper_target)


def _remove_at(top: int, path: bytes) -> None:
    parent, _, name = path.rpartition(b"/")
    above = _open(top, parent)
    try:
        remove_at(above, os.fsdecode(name))
    finally:
        os.close(above)


def _copy_up(top: int, path: bytes, target: bytes, lower: Rootfs) -> None:
    """Make ``path`` a hard link to ``target``, whose file is copied from below so that both are one file again."""
    parent, _, name = path.rpartition(b"/")
    try:
        here = _open(top, parent)
    except OSError as error:
        if error.errno in {ENOENT, ENOTDIR}:
            return  # a later entry of the layer replaced the directory
        raise
    try:
        if _exists(here, name):
            return  # replaced by a later entry
        entry = lower.lookup(target, follow=False)
        if entry is None or entry.is_dir:
            raise ImageRefused(f"{shown(path)}: a hard link to {shown(target)}, which no layer has")
        real = _real_directory(lower, target.rpartition(b"/")[0] or b"/") if b"/" in target else b""
        for made in _make_directories(top, real) if real else ():
            below = _hidden_by(top, made, lower)
            if below is not None and below.is_dir:
                _inherit(top, made, below)
        beside = _open(top, real or b"")
        try:
            base = target.rpartition(b"/")[2]
            if not _exists(beside, base):
                copy_file(entry, beside, base)
            os.link(base, name, src_dir_fd=beside, dst_dir_fd=here, follow_symlinks=False)
        finally:
            os.close(beside)
    finally:
        os.close(here)


def _exists(directory: int, name: bytes) -> bool:
    try:
        os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return False
    return True
