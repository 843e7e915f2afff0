"""Trees: unpacked layers, each a directory under its id, shared read-only by every image and pod that needs it."""

from __future__ import annotations

import hashlib
import os
import re
from errno import EEXIST, ENOTEMPTY
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrkt.base import atomic, fastjson
from pyrkt.base.errors import InvalidSpec, NotFound, UsageError
from pyrkt.kernel.libc import call
from pyrkt.store.blobs import disk_error
from pyrkt.store.remove import remove_tree

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyrkt.store.layout import Store

_ID = re.compile(r"[0-9a-z]+-[0-9a-f]{64,128}", re.ASCII)
FILES, META = "fs", "meta.json"


class Trees:
    """``trees/<id>/fs`` is the tree itself, ``trees/<id>/meta.json`` what is known of it.

    A tree appears by one rename, after everything in it has been synced: if it is there, it is whole. ``meta``
    records ``entries`` (its digest by ``entries_digest``), by which ``verify`` finds a tree that was damaged since.
    """

    def __init__(self, store: Store) -> None:
        """Belong to ``store``."""
        self._store = store

    def _home(self, identity: str) -> Path:
        if not _ID.fullmatch(identity):
            raise UsageError(f"{identity!r} is not a tree id")
        return self._store.root / "trees" / identity

    def has(self, identity: str) -> bool:
        """Tell whether the tree is stored."""
        return self._home(identity).is_dir()

    def path(self, identity: str) -> Path:
        """Return the directory that overlayfs takes as a lower layer."""
        return self._home(identity) / FILES

    def meta(self, identity: str) -> dict[str, Any]:
        """Return what was recorded when the tree was committed. Raises: NotFound, InvalidSpec."""
        path = self._home(identity) / META
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise NotFound(f"tree {identity} is not in the store", hint="fetch the image again") from None
        value = fastjson.loads(data, str(path))
        if not isinstance(value, dict):
            raise InvalidSpec("not an object", document=str(path))
        return value

    def all(self) -> list[str]:
        """Return the ids of all trees."""
        try:
            names = os.listdir(self._store.root / "trees")
        except FileNotFoundError:
            return []
        return sorted(name for name in names if _ID.fullmatch(name))

    def stage(self) -> Path:
        """Return a new empty directory, private and outside of ``trees``, to unpack into.

        The caller ends it by ``commit`` or ``discard``, inside ``Store.hold``; gc removes what a killed one left.
        """
        home = self._store.tmp / f"tree-{os.getpid()}-{os.urandom(8).hex()}"
        try:
            home.mkdir(mode=0o700)
            files = home / FILES
            files.mkdir(mode=0o755)
            files.chmod(0o755)  # an image without an entry for its root has this one; the umask has no say
            os.utime(files, ns=(0, 0))
        except OSError as error:
            raise disk_error(error, "starting a tree") from error
        return files

    def commit(self, stage: Path, identity: str, meta: dict[str, Any]) -> None:
        """Make the staged directory the tree ``identity``; if that exists by now, drop the staged one."""
        self.commit_all([(stage, identity, meta)])

    def commit_all(self, staged: Iterable[tuple[Path, str, dict[str, Any]]]) -> None:
        """As ``commit`` for several: one sync serves them all. Raises: CannotCreate."""
        todo = list(staged)
        if not todo:
            return
        try:
            for stage, _, meta in todo:
                meta.setdefault("entries", entries_digest(stage))
                atomic.write_file(stage.parent / META, fastjson.pretty(meta), durable=False)
            descriptor = os.open(self._store.tmp, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                call("syncfs", descriptor, about=str(self._store.tmp))
            finally:
                os.close(descriptor)
            for stage, identity, _ in todo:
                self._move_in(stage, self._home(identity))
            atomic.sync_directory(self._store.root / "trees")
        except OSError as error:
            raise disk_error(error, "storing a tree") from error

    def _move_in(self, stage: Path, home: Path) -> None:
        try:
            os.rename(stage.parent, home)
        except OSError as error:
            if error.errno not in {EEXIST, ENOTEMPTY}:
                raise
            self.discard(stage)  # another process was faster; the id says that its tree is the same

    def discard(self, stage: Path) -> None:
        """Remove a staged directory."""
        remove_tree(stage.parent)

    def remove(self, identity: str) -> None:
        """Remove a tree that nothing uses: gone from ``trees`` at once, deleted thereafter."""
        grave = self._store.tmp / f"grave-{os.getpid()}-{os.urandom(8).hex()}"
        try:
            os.rename(self._home(identity), grave)
        except FileNotFoundError:
            return
        remove_tree(grave)


def entries_digest(path: str | os.PathLike[str]) -> str:
    """Return a digest over the metadata of all entries below ``path``: "sha256:<hex>".

    Name, mode, owner, size, time of change, device number and link target of each, in order of their names; not the
    content of files. So it finds files that are missing, cut, added or rewritten, at a hundredth of the cost of
    reading them; it does not find bits that flipped on the disk, nor somebody who restores size and time.
    """
    digest = hashlib.sha256()
    _digest_directory(os.fsencode(path), b"", digest)
    return f"sha256:{digest.hexdigest()}"


def _digest_directory(root: bytes, top: bytes, digest: hashlib._Hash) -> None:
    pending = [top]
    while pending:
        prefix = pending.pop()
        lines: list[bytes] = []
        below: list[bytes] = []
        try:
            scanned = os.scandir(root + b"/" + prefix)
        except PermissionError:
            digest.update(b"%b\0closed\n" % prefix)  # to an ordinary user, whose image has directories of mode 0
            continue
        with scanned as entries:
            for entry in entries:
                name = prefix + entry.name
                s = entry.stat(follow_symlinks=False)
                size, target = s.st_size, b""
                if entry.is_dir(follow_symlinks=False):
                    size = 0  # of a directory it depends on the file system
                    below.append(name + b"/")
                elif entry.is_symlink():
                    target = os.readlink(entry.path)
                lines.append(
                    b"%b\0%o %d %d %d %d %d %b\n"
                    % (name, s.st_mode, s.st_uid, s.st_gid, size, s.st_mtime_ns, s.st_rdev, target)
                )
        lines.sort()
        digest.update(b"".join(lines))
        below.sort(reverse=True)
        pending.extend(below)
