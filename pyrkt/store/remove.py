"""Remove a tree that may be hostile: as deep as it likes, without permissions, and never outside of itself."""

from __future__ import annotations

import os
import stat
from errno import EACCES, ELOOP, ENOENT, ENOTDIR

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str | os.PathLike[str]) -> None:
    """Remove ``path`` and all below it; a symlink itself, never what it points to. What is missing is fine.

    Holds two descriptors however deep the tree is: the way up is ``..``, which must lead back to the very directory
    it came down from. (``shutil.rmtree`` recurses, and 3,000 levels end it.) Raises: OSError.
    """
    parent, name = os.path.split(os.path.abspath(path))
    top = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove_at(top, name)
    finally:
        os.close(top)


def remove_at(top: int, name: str) -> None:
    """Remove ``name`` in the directory open at ``top``, as ``remove_tree`` does."""
    here = _emptied(top, name)
    if here < 0:
        return
    above: list[tuple[str, os.stat_result]] = [(name, os.fstat(top))]  # the name of `here`, and its parent
    try:
        while True:
            below = _first_directory(here)
            if below:
                deeper = _emptied(here, below)
                if deeper >= 0:
                    above.append((below, os.fstat(here)))
                    os.close(here)
                    here = deeper
                continue
            name, expected = above.pop()
            up = os.open("..", _DIRECTORY, dir_fd=here)
            os.close(here)
            here = up
            if not os.path.samestat(os.fstat(here), expected):
                raise OSError(ELOOP, "directory was moved while it was being removed", name)
            os.rmdir(name, dir_fd=here)
            if not above:
                return
    finally:
        os.close(here)


def _emptied(parent: int, name: str) -> int:
    """Unlink ``name``, or open it as a directory after removing what in it is none; -1 if nothing is left of it."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return -1
    except OSError as error:  # EISDIR, or EPERM as POSIX wants it
        try:
            descriptor = _open(parent, name)
        except OSError as opened:
            if opened.errno == ENOENT:
                return -1
            raise (error if opened.errno in {ENOTDIR, ELOOP} else opened) from None
    else:
        return -1
    # Entries that do not go are directories, which the caller meets one by one.
    with os.scandir(descriptor) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=descriptor)
    return descriptor


def _open(parent: int, name: str) -> int:
    try:
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            os.chmod(f"/proc/self/fd/{handle}", 0o700)  # by name it would follow a symlink put here meanwhile
        finally:
            os.close(handle)
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o700 != 0o700 and os.geteuid() != 0:
        try:
            os.fchmod(descriptor, 0o700)
        except OSError as error:
            os.close(descriptor)
            raise PermissionError(EACCES, os.strerror(EACCES), name) from error
    return descriptor


def _first_directory(descriptor: int) -> str:
    with os.scandir(descriptor) as entries:
        for entry in entries:
            return entry.name
    return ""
