"""Copy single files with all that belongs to them: data with its holes, owner, attributes, mode, times."""

from __future__ import annotations

import os
import stat
from errno import EINVAL, ENOSYS, ENXIO, EOPNOTSUPP, EPERM, EXDEV
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyrkt.store.rootfs import Entry

_NOT_COPIED = ("trusted.overlay.", "user.overlay.", "security.selinux")
_CHUNK = 1 << 20
_MOST = 1 << 30


def is_own(name: str) -> bool:
    """Tell whether the extended attribute ``name`` belongs to overlayfs or to this host, not to the file."""
    return name.startswith(_NOT_COPIED)


def copy_metadata(source: bytes, target: int, *, keep_owner: bool = True) -> None:
    """Give the file open at ``target`` owner, attributes, mode and times of ``source``, itself no symlink."""
    status = os.lstat(source)
    found = os.fstat(target)
    if keep_owner and (found.st_uid, found.st_gid) != (status.st_uid, status.st_gid):
        os.fchown(target, status.st_uid, status.st_gid)  # before the rest: it clears setuid and capabilities
    copy_xattrs(source, target)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def copy_xattrs(source: bytes, target: int) -> None:
    """Give ``target`` the attributes of ``source``, but for overlayfs's own."""
    for name in os.listxattr(source, follow_symlinks=False):
        if is_own(name):
            continue
        try:
            os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False))
        except OSError as error:
            # Another file system may lack attributes; capabilities it must not lose while the caller could keep them.
            if error.errno not in {EOPNOTSUPP, EPERM} or (name == "security.capability" and os.geteuid() == 0):
                raise


def copy_file(entry: Entry, directory: int, name: bytes, *, keep_owner: bool = True) -> None:
    """Copy what is no directory, with all that belongs to it, to ``name`` in ``directory``, where nothing may be."""
    status = entry.status
    if stat.S_ISREG(status.st_mode):
        source = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            target = os.open(name, flags, 0o600, dir_fd=directory)
            try:
                copy_data(source, target, status.st_size)
                copy_metadata(entry.path, target, keep_owner=keep_owner)
            finally:
                os.close(target)
        finally:
            os.close(source)
        return
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(entry.path), name, dir_fd=directory)
    else:
        os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=directory)
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=directory)
    found = os.lstat(name, dir_fd=directory)
    if keep_owner and (found.st_uid, found.st_gid) != (status.st_uid, status.st_gid):
        os.chown(name, status.st_uid, status.st_gid, dir_fd=directory, follow_symlinks=False)
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=directory, follow_symlinks=False)


def copy_data(source: int, target: int, size: int) -> None:
    """Copy ``size`` bytes between open files; holes stay holes, and blocks are shared where the file system can."""
    position = 0
    while position < size:
        try:
            position = os.lseek(source, position, os.SEEK_DATA)
            end = os.lseek(source, position, os.SEEK_HOLE)
        except OSError as error:
            if error.errno != ENXIO:  # nothing but a hole up to the end
                raise
            break
        _copy_range(source, target, position, end)
        position = end
    os.ftruncate(target, size)


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    position = start
    try:
        while position < end:
            copied = os.copy_file_range(source, target, min(end - position, _MOST), position, position)
            if not copied:
                break
            position += copied
    except OSError as error:
        if error.errno not in {EXDEV, EINVAL, ENOSYS, EOPNOTSUPP}:
            raise
    while position < end:
        data = os.pread(source, min(end - position, _CHUNK), position)
        if not data:
            return  # it was cut meanwhile
        position += os.pwrite(target, data, position)
