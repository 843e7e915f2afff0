"""Rootfs: stacked trees read as the one file system that they make, without mounting anything."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from errno import ENODATA, ENOENT, ENOTDIR, EOPNOTSUPP
from typing import TYPE_CHECKING

from pyrkt.base.errors import ImageRefused, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LINKS = 40
"""Symlinks on the way to one file; the kernel's own limit (path_resolution(7))."""
OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of the merged tree: where its file lies, and its lstat. A directory has all its parts, top first."""

    path: bytes
    status: os.stat_result
    parts: tuple[bytes, ...] = ()

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symlink."""
        return stat.S_ISLNK(self.status.st_mode)


def is_whiteout(status: os.stat_result) -> bool:
    """Tell whether ``status`` is that of overlayfs's mark "deleted here": a character device 0:0."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(path: bytes) -> bool:
    """Tell whether the directory hides what lower layers have in it."""
    for name in OPAQUE:
        try:
            if os.getxattr(path, name, follow_symlinks=False) == b"y":
                return True
        except OSError as error:
            if error.errno not in {ENODATA, EOPNOTSUPP}:
                raise
    return False


class Rootfs:
    """The merged tree of ``lowers``, bottom first.

    Every path is resolved inside: ``..`` stops at the root, absolute symlinks begin at it, as for a process that
    lives there. The trees must not change meanwhile, which the store promises.
    """

    def __init__(self, lowers: tuple[str, ...]) -> None:
        """Take the directories ``lowers``, bottom first."""
        self.lowers = lowers

    def root(self) -> Entry:
        """Return the root directory. Raises: FileNotFoundError if a layer is gone."""
        parts = tuple(os.fsencode(lower) for lower in reversed(self.lowers))
        return Entry(parts[0], os.lstat(parts[0]), parts)

    @staticmethod
    def child(directory: Entry, name: bytes) -> Entry | None:
        """Return the entry ``name`` (one plain component) of ``directory``; None if there is none."""
        first: tuple[bytes, os.stat_result] | None = None
        parts: list[bytes] = []
        for part in directory.parts:
            path = part + b"/" + name
            try:
                status = os.lstat(path)
            except OSError as error:
                if error.errno in {ENOENT, ENOTDIR}:
                    continue
                raise
            if not stat.S_ISDIR(status.st_mode):
                if first is None and not is_whiteout(status):
                    return Entry(path, status)
                break
            first = first or (path, status)
            parts.append(path)
            if is_opaque(path):
                break
        return Entry(*first, tuple(parts)) if first else None

    def names(self, directory: Entry) -> Iterator[bytes]:
        """Yield the names in ``directory``, sorted, without what is deleted."""
        found: set[bytes] = set()
        for part in directory.parts:
            found.update(os.listdir(part))
        for name in sorted(found):
            if self.child(directory, name) is not None:
                yield name

    def lookup(self, path: str | bytes, *, follow: bool = True) -> Entry | None:
        """Return what ``path`` leads to; None if it leads to nothing. ``follow`` is for the last component.

        Raises: ImageRefused on more than 40 symlinks.
        """
        return self._walk(path, follow=follow)[1]

    def leads_to(self, path: str | bytes) -> str:
        """Return the path, without links, that ``path`` leads to, be something there or not.

        Raises: ImageRefused on more than 40 symlinks.
        """
        return "/" + os.fsdecode(b"/".join(self._walk(path, follow=True)[0]))

    def _walk(self, path: str | bytes, *, follow: bool) -> tuple[list[bytes], Entry | None]:
        todo = [part for part in os.fsencode(path).split(b"/") if part not in {b"", b"."}][::-1]
        names: list[bytes] = []
        trail: list[Entry | None] = [self.root()]
        links, lost = 0, False
        while todo:
            name = todo.pop()
            if name == b"..":
                del names[-1:], trail[max(len(trail) - 1, 1) :]
                continue
            parent = trail[-1]
            entry = self.child(parent, name) if parent is not None and parent.is_dir else None
            if entry is None or not entry.is_link or not (todo or follow):
                names.append(name)
                trail.append(entry)
                lost = lost or entry is None  # for good: the kernel does not come back from nothing by ".." either
                continue
            links += 1
            if links > MAX_LINKS:
                raise ImageRefused(f"{printable(os.fsdecode(path))}: too many symlinks in the image")
            target = os.readlink(entry.path)
            if target.startswith(b"/"):
                del names[:], trail[1:]
            todo.extend(part for part in reversed(target.split(b"/")) if part not in {b"", b"."})
        return names, None if lost else trail[-1]

    def is_dir(self, path: str | bytes) -> bool:
        """Tell whether ``path`` leads to a directory."""
        entry = self.lookup(path)
        return entry is not None and entry.is_dir

    def owner(self, path: str | bytes) -> tuple[int, int] | None:
        """Return (uid, gid) of what ``path`` leads to; None if it leads to nothing."""
        entry = self.lookup(path)
        return (entry.status.st_uid, entry.status.st_gid) if entry else None

    def read(self, path: str | bytes, limit: int = 1 << 20) -> bytes | None:
        """Return the content of the regular file that ``path`` leads to; None if there is no such file.

        Raises: ImageRefused if it has more than ``limit`` bytes.
        """
        entry = self.lookup(path)
        if entry is None or not stat.S_ISREG(entry.status.st_mode):
            return None
        descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb", buffering=0) as file:
            data = file.read(limit + 1) if entry.status.st_size <= limit else b"x" * (limit + 1)
        if len(data) > limit:
            raise ImageRefused(f"{printable(os.fsdecode(path))} of the image is larger than {limit} bytes")
        return data
