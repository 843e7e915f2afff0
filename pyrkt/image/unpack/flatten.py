"""Flatten: merged or filtered trees as one real tree, for who cannot use overlayfs or wants files to keep."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from pyrkt.base.errors import CannotCreate
from pyrkt.image.unpack.copy import copy_file, copy_metadata
from pyrkt.kernel import process
from pyrkt.kernel.path import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2
from pyrkt.store.remove import remove_at

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyrkt.store.rootfs import Entry, Rootfs

_BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def flatten(rootfs: Rootfs, into: Path) -> None:
    """Copy the merged tree ``rootfs`` to the directory ``into``, which is made, or is empty.

    Hard links, holes, attributes, owners and times are kept; as an ordinary user everything is the caller's and
    device nodes are left out. Raises: CannotCreate. What is in ``into`` is then a part only.
    """
    try:
        into.mkdir(mode=0o700, exist_ok=True)
        if os.listdir(into):
            raise CannotCreate(f"{into}: there is something in it already", hint="name an empty or new directory")
        merge(rootfs, into, lambda _path: True)
    except OSError as error:
        raise CannotCreate(f"{into}: {error.strerror}: {error.filename or ''}".rstrip(": ")) from error


def merge(rootfs: Rootfs, into: Path, keep: Callable[[bytes], bool]) -> None:
    """Copy what ``keep(path)`` wants of ``rootfs`` over what is in ``into``; a directory it refuses is not entered.

    What is there already is replaced, symlinks included, unless it and the new one are both directories.
    Paths are without a leading slash. Raises: OSError.
    """
    top = os.open(into, _DIRECTORY)
    try:
        _Copier(rootfs, top, keep).run()
    finally:
        os.close(top)


class _Copier:
    def __init__(self, rootfs: Rootfs, top: int, keep: Callable[[bytes], bool]) -> None:
        self._rootfs, self._top, self._keep = rootfs, top, keep
        self._links: dict[tuple[int, int], bytes] = {}  # (device, inode) -> the name it was first copied to
        self._root = process.gives_files_away()

    def run(self) -> None:
        done: list[tuple[Entry, bytes]] = []
        todo = [(self._rootfs.root(), b"")]
        while todo:
            directory, path = todo.pop()
            done.append((directory, path))
            here = self._open(path)
            try:
                for name in self._rootfs.names(directory):
                    entry = self._rootfs.child(directory, name)
                    below = path + b"/" + name if path else name
                    if entry is None or not self._keep(below):
                        continue
                    if entry.is_dir:
                        self._make_directory(here, name)
                        todo.append((entry, below))
                    else:
                        self._copy(entry, here, name, below)
            finally:
                os.close(here)
        # Last, and deepest first: filling a directory changes its time, and its mode may shut us out.
        for directory, path in reversed(done):
            here = self._open(path)
            try:
                self._metadata(directory, here)
            finally:
                os.close(here)

    def _open(self, path: bytes) -> int:
        return openat2(self._top, os.fsdecode(path) or ".", _DIRECTORY, 0, _BENEATH)

    def _metadata(self, entry: Entry, target: int) -> None:
        copy_metadata(entry.path, target, keep_owner=self._root)

    @staticmethod
    def _make_directory(here: int, name: bytes) -> None:
        try:
            if stat.S_ISDIR(os.lstat(name, dir_fd=here).st_mode):
                return
            os.unlink(name, dir_fd=here)
        except FileNotFoundError:
            pass
        os.mkdir(name, 0o700, dir_fd=here)

    def _copy(self, entry: Entry, here: int, name: bytes, path: bytes) -> None:
        try:
            os.lstat(name, dir_fd=here)
            remove_at(here, os.fsdecode(name))
        except FileNotFoundError:
            pass
        identity = (entry.status.st_dev, entry.status.st_ino)
        first = self._links.get(identity)
        if first is not None:
            parent, _, base = first.rpartition(b"/")
            there = self._open(parent)
            try:
                os.link(base, name, src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False)
            finally:
                os.close(there)
            return
        try:
            copy_file(entry, here, name, keep_owner=self._root)
        except PermissionError:
            if self._root or not (stat.S_ISCHR(entry.status.st_mode) or stat.S_ISBLK(entry.status.st_mode)):
                raise
            return
        if entry.status.st_nlink > 1:
            self._links[identity] = path
