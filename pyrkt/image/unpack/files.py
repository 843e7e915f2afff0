"""Entries of an archive become files below the current directory, and nowhere else.

No name of an archive is ever handed to the kernel as it stands. Its directory is resolved here, component by
component, symlinks included, to a path that has neither ``..`` nor a symlink in it and begins in the root; only that
is used. A symlink of the image therefore leads inside, as it will when the container runs (``lib -> usr/lib`` and
then ``lib/x`` is how many images are made), and the chroot, or openat2, stands behind it as a second wall.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Literal

from pyrkt.base.errors import CannotCreate, ImageRefused
from pyrkt.image.unpack import tar
from pyrkt.image.unpack.tar import Archive, Entry, shown
from pyrkt.kernel.path import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2
from pyrkt.store.remove import remove_at
from pyrkt.store.rootfs import MAX_LINKS, is_whiteout

if TYPE_CHECKING:
    from pyrkt.image.unpack.limits import Limits

Form = Literal["overlay", "flat", "plain"]
"""How deletions are kept: as overlayfs's marks, done at once to what lies there, or not known at all (ACI)."""

WHITEOUT, OPAQUE_MARK, AUFS = b".wh.", b".wh..wh..opq", b".wh..wh."
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
_NAME_MAX = 255
_MAX_NOTES = 20
_MAX_REPLACED = 1000  # directories that one layer makes and then replaces; each costs a walk over what is known
_IMPLIED = Entry(b"", tar.DIRECTORY, 0o755, 0, 0, 0, 0)
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
_ACLS = {"system.posix_acl_access", "system.posix_acl_default"}


class Files:
    """Makes the entries of one archive below the current directory.

    ``implied`` holds the directories that the archive has things in but no entry for, ``crosslinks`` hard links
    (path, target) to files that must be in a lower layer, ``has_root`` that it has an entry for its root, ``notes``
    what was left out, for people.
    """

    def __init__(self, form: Form, *, keep_owner: bool, limits: Limits, root: int = -1) -> None:
        """Work in the current directory, which is the root too if ``root`` is -1, else what ``root`` is open on."""
        self._form, self._keep, self._limits, self._root = form, keep_owner, limits, root
        self._known: set[bytes] = {b""}  # paths that are directories, no symlinks
        self._resolved: dict[bytes, bytes] = {b"": b""}  # directories as archives write them -> such paths
        self._directories: dict[bytes, Entry] = {}  # what they shall have in the end; filling changes their times
        self._implied: dict[bytes, None] = {}
        self._made: set[bytes] = set()  # by this archive; only kept where whiteouts must spare it
        self._parent, self._parent_fd = b"", root
        self._replaced = 0
        # In a directory of ours new files are ours; in one that was there before, setgid may decide otherwise.
        self._own = (os.geteuid(), os.getegid()) if form != "flat" else (-1, -1)
        self.crosslinks: list[tuple[bytes, bytes]] = []
        self.has_root = False
        self.notes: dict[str, None] = {}

    @property
    def implied(self) -> list[bytes]:
        """The implied directories, parents first."""
        return sorted(self._implied)

    def note(self, text: str) -> None:
        """Tell, once, what was left out."""
        if len(self.notes) < _MAX_NOTES:
            self.notes[text] = None

    # -- names

    def split(self, name: bytes) -> list[bytes]:
        """Return the components of a name from the archive. Raises: ImageRefused."""
        if len(name) > self._limits.name:
            raise ImageRefused(f"{shown(name)}: a name of {len(name)} bytes")
        parts = [part for part in name.split(b"/") if part not in {b"", b"."}]
        if b".." in parts:
            raise ImageRefused(f"{shown(name)}: the name leads out of the image", hint=_HOSTILE)
        if len(parts) > self._limits.depth:
            raise ImageRefused(f"{shown(name)}: {len(parts)} directories deep")
        if self._form != "plain" and any(part.startswith(WHITEOUT) for part in parts[:-1]):
            raise ImageRefused(f"{shown(name)}: a directory cannot have the name of a whiteout", hint=_HOSTILE)
        return parts

    def locate(self, name: bytes, *, create: bool = True) -> tuple[bytes, bytes] | None:
        """Return the real directory of ``name``, and its last component (empty for the root itself).

        Missing directories are made, or, without ``create``, give None.
        """
        if name[-1:] == b"/":
            name = name.rstrip(b"/")
        above, _, last = name.rpartition(b"/")
        found = self._resolved.get(above)
        if found is not None and last not in {b"", b".", b".."} and len(name) <= self._limits.name:
            return found, last
        parts = self.split(name)
        if not parts:
            return b"", b""
        base = parts.pop()
        found = self._resolve(parts, name, create=create)
        if found is None:
            return None
        if last not in {b"", b"."}:  # of "a/a/." the directory is "a", not "a/a"
            self._resolved[above] = found
        return found, base

    def _resolve(self, parts: list[bytes], name: bytes, *, create: bool) -> bytes | None:
        real: list[bytes] = []
        todo = parts[::-1]
        links = 0
        while todo:
            part = todo.pop()
            if part == b"..":  # of a link's target; at the root it stays there
                if not real and self._form == "plain":
                    raise ImageRefused(f"{shown(name)}: leads out of rootfs by a symlink", hint=_HOSTILE)
                del real[-1:]
                continue
            path = b"/".join((*real, part))
            target = b"" if path in self._known else self._step(path, name, create=create)
            if target is None:
                return None
            if not target:
                real.append(part)
                if len(real) > self._limits.depth:
                    raise ImageRefused(f"{shown(name)}: too many directories deep")
                continue
            links += 1
            if links > MAX_LINKS:
                raise ImageRefused(f"{shown(name)}: too many symlinks on the way", hint=_HOSTILE)
            if target.startswith(b"/"):
                real.clear()
            todo.extend(part for part in reversed(target.split(b"/")) if part not in {b"", b"."})
        return b"/".join(real)

    def _step(self, path: bytes, name: bytes, *, create: bool) -> bytes | None:
        """Return the target if ``path`` is a symlink; else have it be a directory, and return nothing (b"")."""
        status = self._lstat(path)
        if status is not None and stat.S_ISLNK(status.st_mode):
            here, at = self._at(path)
            return os.readlink(here, dir_fd=at)
        if status is not None and stat.S_ISDIR(status.st_mode):
            self._known.add(path)
            return b""
        if not create:
            return None
        whiteout = status is not None and self._form == "overlay" and is_whiteout(status)
        if status is not None and not whiteout:
            raise ImageRefused(f"{shown(name)}: {shown(path)} is not a directory", hint=_HOSTILE)
        here, at = self._at(path)
        if whiteout:
            os.unlink(here, dir_fd=at)
        os.mkdir(here, 0o755, dir_fd=at)
        if self._form == "flat":
            self._remember(path)
        self._known.add(path)
        self._directories[path] = _IMPLIED
        if whiteout:
            self._hide_lower(path)  # what was there is deleted, so it has nothing to inherit either
        else:
            self._implied[path] = None
        return b""

    def _at(self, path: bytes) -> tuple[bytes, int | None]:
        """Return how to call ``path``, which has no symlinks on its way: (name, directory descriptor)."""
        if self._root < 0:
            return path or b".", None
        parent, _, name = path.rpartition(b"/")
        if parent != self._parent:
            self._close_parent()
            self._parent_fd = (
                openat2(self._root, os.fsdecode(parent), os.O_PATH | os.O_DIRECTORY, 0, _BENEATH)
                if parent
                else self._root
            )
            self._parent = parent
        return name or b".", self._parent_fd

    def _close_parent(self) -> None:
        if self._parent_fd != self._root:
            os.close(self._parent_fd)
        self._parent, self._parent_fd = b"", self._root

    def _lstat(self, path: bytes) -> os.stat_result | None:
        here, at = self._at(path)
        try:
            return os.lstat(here, dir_fd=at)
        except FileNotFoundError:
            return None

    def _remember(self, path: bytes) -> None:
        """Note that ``path`` and what it lies in belong to this archive: its own whiteouts spare them."""
        while path and path not in self._made:
            self._made.add(path)
            path = path.rpartition(b"/")[0]

    # -- what was there before

    def _clear(self, path: bytes) -> os.stat_result | None:
        """Remove what is at ``path``, whatever it is; return what it was."""
        status = self._lstat(path)
        if status is None:
            return None
        here, at = self._at(path)
        if stat.S_ISDIR(status.st_mode):
            self._close_parent()
            here, at = self._at(path)
            _remove(here, at)
            self._forget(path)
        else:
            os.unlink(here, dir_fd=at)
            if stat.S_ISLNK(status.st_mode):
                self._resolved = {b"": b""}
        return status

    def _forget(self, path: bytes) -> None:
        self._known = {b""}
        self._resolved = {b"": b""}
        if path not in self._directories:
            return
        self._replaced += 1
        if self._replaced > _MAX_REPLACED:
            raise ImageRefused(f"{shown(path)}: replaces directories again and again", hint=_HOSTILE)
        below = path + b"/"
        for kept in (self._directories, self._implied):
            for other in [other for other in kept if other == path or other.startswith(below)]:
                kept.pop(other, None)

    # -- entries

    def add(self, entry: Entry, archive: Archive) -> None:
        """Make one entry. Raises: ImageRefused naming it; CannotCreate if the disk is full."""
        try:
            place = self.locate(entry.name)
            if place is None or not place[1]:
                self._add_root(entry)
                return
            parent, name = place
            if len(name) > _NAME_MAX:
                raise ImageRefused(f"{shown(entry.name)}: a name of {len(name)} bytes")
            path = parent + b"/" + name if parent else name
            if name[:4] == WHITEOUT and self._form != "plain":
                self._whiteout(parent, name, entry)
                return
            _MAKERS[entry.type](self, entry, path, archive)
            if self._form == "flat":
                self._remember(path)
        except (ImageRefused, CannotCreate):
            raise
        except OSError as error:
            raise self.refusal(entry.name, error) from error

    @staticmethod
    def refusal(name: bytes, error: OSError) -> ImageRefused | CannotCreate:
        """Return what to raise for ``error``: is the machine to blame, or the archive?"""
        if error.errno in _DISK:
            return CannotCreate(
                f"unpacking {shown(name)}: {os.strerror(error.errno or 0)}",
                hint="make room: pyrkt gc, pyrkt image gc; or use another --dir",
            )
        return ImageRefused(f"{shown(name)}: cannot be made: {os.strerror(error.errno or 0)}")

    def _add_root(self, entry: Entry) -> None:
        if entry.type != tar.DIRECTORY:
            raise ImageRefused(f"{shown(entry.name)}: the root of an image must be a directory", hint=_HOSTILE)
        self._directories[b""] = entry
        self.has_root = True

    def _regular(self, entry: Entry, path: bytes, archive: Archive) -> None:
        mode = entry.mode if self._keep else self._mode(entry)
        # Nearly every file: open(2) gives it its mode at once, and its owner is right already.
        simple = mode < 0o1000 and not entry.xattrs and (not self._keep or (entry.uid, entry.gid) == self._own)
        here, at = (path, None) if self._root < 0 else self._at(path)
        try:
            file = os.open(here, _CREATE, mode if simple else 0o600, dir_fd=at)
        except FileExistsError:
            self._clear(path)
            here, at = self._at(path)
            file = os.open(here, _CREATE, mode if simple else 0o600, dir_fd=at)
        try:
            if entry.segments is not None:
                _write_sparse(file, entry, archive)
            elif entry.size:
                data = archive.view()
                for piece in archive.data() if data is None else (data,):
                    _write(file, piece)
            if not simple:
                self._attributes(file, entry)
            os.utime(file, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(file)

    def _attributes(self, file: int, entry: Entry) -> None:
        if self._keep:
            os.fchown(file, entry.uid, entry.gid)  # clears setuid and file capabilities: so it comes first
        if entry.xattrs:
            self._set_xattrs(file, entry)
        os.fchmod(file, self._mode(entry))

    def _mode(self, entry: Entry) -> int:
        """Return the mode; an ordinary user must get at his own files, as root does at files of mode 0."""
        if self._keep:
            return entry.mode
        return entry.mode | (0o700 if entry.type == tar.DIRECTORY else 0o400)

    def _set_xattrs(self, file: int, entry: Entry) -> None:
        for name, value in entry.xattrs.items():
            if not _allowed(name, entry.type):
                self.note(f"extended attribute {shown(name.encode('utf-8', 'surrogateescape'))} left out")
                continue
            try:
                os.setxattr(file, name, value)
            except OSError as error:
                if name == "security.capability" and os.geteuid() == 0 and self._root < 0:
                    raise
                if error.errno in _DISK - {errno.ENOSPC}:  # ext4 says ENOSPC of a value that is too large
                    raise
                self.note(
                    f"extended attribute {shown(name.encode('utf-8', 'surrogateescape'))} left out: {error.strerror}"
                )

    def _directory(self, entry: Entry, path: bytes, archive: Archive) -> None:
        here, at = self._at(path)
        try:
            os.mkdir(here, 0o700, dir_fd=at)
        except FileExistsError:
            status = self._lstat(path)
            if status is None or not stat.S_ISDIR(status.st_mode):
                # Not followed if it is a symlink: the entry says that it is a directory now.
                self._clear(path)
                here, at = self._at(path)
                os.mkdir(here, 0o700, dir_fd=at)
                self._hide_lower(path)
        self._known.add(path)
        self._implied.pop(path, None)
        self._directories[path] = entry

    def _symlink(self, entry: Entry, path: bytes, archive: Archive) -> None:
        if not entry.link or len(entry.link) >= self._limits.name:
            raise ImageRefused(f"{shown(entry.name)}: a symlink to a name of {len(entry.link)} bytes")
        here, at = self._at(path)
        try:
            os.symlink(entry.link, here, dir_fd=at)
        except FileExistsError:
            self._clear(path)
            here, at = self._at(path)
            os.symlink(entry.link, here, dir_fd=at)
        self._own_and_date(entry, here, at)

    def _own_and_date(self, entry: Entry, here: bytes, at: int | None) -> None:
        if self._keep and (entry.uid, entry.gid) != self._own:
            os.chown(here, entry.uid, entry.gid, dir_fd=at, follow_symlinks=False)
        os.utime(here, ns=(entry.mtime, entry.mtime), dir_fd=at, follow_symlinks=False)

    def _link(self, entry: Entry, path: bytes, archive: Archive) -> None:
        if not self.split(entry.link):
            raise ImageRefused(f"{shown(entry.name)}: a hard link to the root")
        place = self.locate(entry.link, create=False)
        target = b"/".join(filter(None, place)) if place else b""
        if target == path:
            return
        status = self._lstat(target) if target else None
        if status is None:
            if self._form != "overlay":
                raise ImageRefused(f"{shown(entry.name)}: a hard link to {shown(entry.link)}, which is not there")
            self._clear(path)
            self.crosslinks.append((path, b"/".join(self.split(entry.link))))
            return
        if stat.S_ISDIR(status.st_mode) or (self._form == "overlay" and is_whiteout(status)):
            raise ImageRefused(
                f"{shown(entry.name)}: a hard link to {shown(entry.link)}, which is no file", hint=_HOSTILE
            )
        self._clear(path)
        self._make_link(target, path)

    def _make_link(self, target: bytes, path: bytes) -> None:
        if self._root < 0:
            os.link(target, path, follow_symlinks=False)
            return
        name, at = self._at(target)
        source = os.dup(at if at is not None else self._root)
        try:
            here, at = self._at(path)
            os.link(name, here, src_dir_fd=source, dst_dir_fd=at, follow_symlinks=False)
        finally:
            os.close(source)

    def _device(self, entry: Entry, path: bytes, archive: Archive) -> None:
        kind = {tar.CHARACTER: stat.S_IFCHR, tar.BLOCK_DEVICE: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}[entry.type]
        self._clear(path)
        here, at = self._at(path)
        try:
            os.mknod(here, kind | 0o600, os.makedev(*entry.device), dir_fd=at)
        except PermissionError:
            self.note("device nodes left out: only root can make them")
            return
        self._own_and_date(entry, here, at)
        if self._root < 0:
            os.chmod(here, entry.mode)
        else:
            os.chmod(here, entry.mode, dir_fd=at)

    # -- deletions

    def _hide_lower(self, path: bytes) -> None:
        """Mark the directory as one that has nothing from lower layers."""
        if self._form != "overlay":
            return
        here, at = self._at(path)
        file = os.open(here, _OPEN_DIRECTORY, dir_fd=at)
        try:
            # Not trusted.*: what root has stored, an overlay in a user namespace must understand too.
            os.setxattr(file, "user.overlay.opaque", b"y")
        finally:
            os.close(file)

    def _whiteout(self, parent: bytes, name: bytes, entry: Entry) -> None:
        hidden = name[len(WHITEOUT) :]
        if hidden in {b"", b".", b".."}:
            raise ImageRefused(f"{shown(entry.name)}: a whiteout of nothing", hint=_HOSTILE)
        if name == OPAQUE_MARK:
            if self._form == "flat":
                self._purge(parent)
            else:
                self._hide_lower(parent)
            return
        if name.startswith(AUFS):
            return  # aufs kept its own files under such names
        path = parent + b"/" + hidden if parent else hidden
        status = self._lstat(path)
        if self._form == "flat":
            if status is not None and path not in self._made:
                self._clear(path)
            elif status is not None and stat.S_ISDIR(status.st_mode):
                self._purge(path)
        elif status is None:
            here, at = self._at(path)
            os.mknod(here, stat.S_IFCHR, os.makedev(0, 0), dir_fd=at)
            os.utime(here, ns=(0, 0), dir_fd=at, follow_symlinks=False)
        elif stat.S_ISDIR(status.st_mode):
            self._hide_lower(path)

    def _purge(self, path: bytes) -> None:
        """Remove what is below ``path`` unless this archive has made it."""
        todo = [path]
        while todo:
            above = todo.pop()
            here, at = self._at(above)
            file = os.open(here, _OPEN_DIRECTORY, dir_fd=at)
            try:
                names = [os.fsencode(name) for name in os.listdir(file)]
            finally:
                os.close(file)
            for name in names:
                below = above + b"/" + name if above else name
                if below not in self._made:
                    self._clear(below)
                elif (status := self._lstat(below)) is not None and stat.S_ISDIR(status.st_mode):
                    todo.append(below)

    # -- the end

    def finish(self) -> None:
        """Give all directories what their entries say; deepest first, since setting one needs those above it."""
        for path in sorted(self._directories, reverse=True):
            entry = self._directories[path]
            try:
                here, at = self._at(path)
                file = os.open(here, _OPEN_DIRECTORY, dir_fd=at)
                try:
                    self._attributes(file, entry)
                    os.utime(file, ns=(entry.mtime, entry.mtime))
                finally:
                    os.close(file)
            except OSError as error:
                raise self.refusal(entry.name or path, error) from error


_HOSTILE = "the image is hostile or badly made; do not use it"


def _remove(name: bytes, at: int | None) -> None:
    if at is not None:
        remove_at(at, os.fsdecode(name))
        return
    top = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove_at(top, os.fsdecode(name))
    finally:
        os.close(top)


def _allowed(name: str, kind: bytes) -> bool:
    """Tell whether an image may set the attribute: it must steer neither overlayfs nor the host's labels."""
    if name == "security.capability":
        return kind == tar.REGULAR
    if name in _ACLS:
        return True
    return name.startswith("user.") and not name.startswith("user.overlay.") and len(name) <= _NAME_MAX


def _write(file: int, data: memoryview) -> None:
    while data:
        data = data[os.write(file, data) :]


def _write_sparse(file: int, entry: Entry, archive: Archive) -> None:
    os.ftruncate(file, entry.real_size)
    segments = iter(entry.segments or ())
    left = 0
    for piece in archive.data():
        data = piece
        while data:
            while not left:
                offset, left = next(segments)
                os.lseek(file, offset, os.SEEK_SET)
            part = data[:left]
            _write(file, part)
            left -= len(part)
            data = data[len(part) :]


_MAKERS = {
    tar.REGULAR: Files._regular,
    tar.DIRECTORY: Files._directory,
    tar.SYMLINK: Files._symlink,
    tar.LINK: Files._link,
    tar.CHARACTER: Files._device,
    tar.BLOCK_DEVICE: Files._device,
    tar.FIFO: Files._device,
}
