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
        fitting = _Fitting(top, lower)
        fitting.directories([os.fsencode(path) for path in implied])
        for link, target in crosslinks:
            fitting.link(os.fsencode(link), os.fsencode(target))
        fitting.finish()
    finally:
        os.close(top)


def inherit_root(stage: Path, lower: Rootfs) -> None:
    """Give the root of ``stage`` mode, owner and attributes of that below."""
    top = os.open(stage, _DIRECTORY)
    try:
        copy_metadata(lower.root().path, top)
    finally:
        os.close(top)


class _Fitting:
    def __init__(self, top: int, lower: Rootfs) -> None:
        self._top, self._lower = top, lower
        self._models: dict[bytes, Entry] = {}  # implied directories -> those that they hide
        self._times: dict[bytes, tuple[int, int]] = {}  # of directories before we put something into them

    def _open(self, path: bytes) -> int:
        return openat2(self._top, os.fsdecode(path) or ".", _DIRECTORY, 0, _BENEATH)

    def _open_to_change(self, path: bytes) -> int:
        descriptor = self._open(path)
        if path not in self._times:
            status = os.fstat(descriptor)
            self._times[path] = (status.st_atime_ns, status.st_mtime_ns)
        return descriptor

    # -- directories

    def directories(self, paths: list[bytes]) -> None:
        """Find what each implied directory hides; move the content of those that hide a symlink."""
        todo = sorted(paths, reverse=True)
        while todo:  # parents first
            path = todo.pop()
            below = self._hidden_by(path)
            if below is None:
                continue
            if below.is_dir:
                self._models[path] = below
            elif below.is_link:
                todo = self._follow(path, todo)

    def _hidden_by(self, path: bytes) -> Entry | None:
        """Return what lies at ``path`` below, unless the layer hides it anyway; links on the way are not followed."""
        entry: Entry | None = self._lower.root()
        done: list[bytes] = []
        for part in path.split(b"/"):
            if entry is None or not entry.is_dir or self._is_opaque(b"/".join(done)):
                return None
            entry = self._lower.child(entry, part)
            done.append(part)
        return entry

    def _is_opaque(self, path: bytes) -> bool:
        descriptor = self._open(path)
        try:
            return is_opaque(b"/proc/self/fd/%d/" % descriptor)
        finally:
            os.close(descriptor)

    def _follow(self, path: bytes, todo: list[bytes]) -> list[bytes]:
        """Move the content of ``path`` to where the symlink in its place leads; return what is left to do."""
        real = self._real_directory(path)
        if real is None or real == path or real.startswith(path + b"/"):
            return todo  # it leads to no directory: the layer's own replaces it
        made = self._make_directories(real)
        source, target = self._open(path), self._open_to_change(real)
        try:
            _merge(source, target)
        finally:
            os.close(source)
            os.close(target)
        parent, _, name = path.rpartition(b"/")
        above = self._open_to_change(parent)
        try:
            remove_at(above, os.fsdecode(name))
        finally:
            os.close(above)
        moved = [real + other[len(path) :] for other in todo if other.startswith(path + b"/")]
        kept = [other for other in todo if not other.startswith(path + b"/")]
        return sorted({*kept, *moved, *made}, reverse=True)

    def _real_directory(self, path: bytes) -> bytes | None:
        """Return the path, without symlinks, of the directory that ``path`` leads to."""
        entry = self._lower.lookup(path)
        if entry is None or not entry.is_dir:
            return None
        for layer in self._lower.lowers:
            prefix = os.fsencode(layer)
            if entry.path == prefix:
                return b""
            if entry.path.startswith(prefix + b"/"):
                return entry.path[len(prefix) + 1 :]
        return None

    def _make_directories(self, path: bytes) -> list[bytes]:
        """Make ``path`` and what it lies in, where missing; return what was made, which is implied like the rest."""
        made: list[bytes] = []
        parts = path.split(b"/") if path else []
        for count in range(1, len(parts) + 1):
            here = b"/".join(parts[:count])
            try:
                os.close(self._open(here))
            except OSError as error:
                if error.errno != ENOENT:
                    raise ImageRefused(f"{shown(path)}: {shown(here)} of the layer is no directory") from error
                parent = self._open_to_change(b"/".join(parts[: count - 1]))
                try:
                    os.mkdir(parts[count - 1], 0o755, dir_fd=parent)
                    os.utime(parts[count - 1], ns=(0, 0), dir_fd=parent)
                finally:
                    os.close(parent)
                made.append(here)
        return made

    # -- hard links

    def link(self, path: bytes, target: bytes) -> None:
        """Make ``path`` a hard link to ``target``, whose file is copied from below, so that both are one file again."""
        parent, _, name = path.rpartition(b"/")
        try:
            here = self._open_to_change(parent)
        except OSError as error:
            if error.errno in {ENOENT, ENOTDIR}:
                return  # a later entry of the layer replaced the directory
            raise
        try:
            if not _exists(here, name):  # else a later entry replaced the link
                self._link(path, target, here, name)
        finally:
            os.close(here)

    def _link(self, path: bytes, target: bytes, here: int, name: bytes) -> None:
        entry = self._lower.lookup(target, follow=False)
        above, _, base = target.rpartition(b"/")
        real = self._real_directory(above)
        if entry is None or entry.is_dir or real is None:
            raise ImageRefused(f"{shown(path)}: a hard link to {shown(target)}, which no layer has")
        self.directories(self._make_directories(real))
        beside = self._open_to_change(real)
        try:
            if not _exists(beside, base):
                copy_file(entry, beside, base)
            os.link(base, name, src_dir_fd=beside, dst_dir_fd=here, follow_symlinks=False)
        finally:
            os.close(beside)

    def finish(self) -> None:
        """Give all directories their times, and those that are implied what they inherit."""
        for path, times in self._times.items():
            self._to(path, None, times)
        for path, below in self._models.items():
            self._to(path, below, (0, 0))

    def _to(self, path: bytes, below: Entry | None, times: tuple[int, int]) -> None:
        try:
            here = self._open(path)
        except FileNotFoundError:
            return  # moved away
        try:
            if below is None:
                os.utime(here, ns=times)
            else:
                copy_metadata(below.path, here)
        finally:
            os.close(here)


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


def _exists(directory: int, name: bytes) -> bool:
    try:
        os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return False
    return True
