"""The key that all pods of a data directory sign with: made once, so a signature outlives its pod and the next boot."""

from __future__ import annotations

import os
import stat

from pyrkt.base.atomic import sync_directory, write_all
from pyrkt.base.errors import InvalidSpec, NoPermission, NotFound

SIZE = 64
"""Bytes: what HMAC-SHA512 can make use of without hashing its key first (RFC 2104, section 3)."""


def path(data: str) -> str:
    """Return where the key of the data directory ``data`` lies."""
    return f"{data}/metadata/key"


def ensure(data: str) -> None:
    """Make the key if there is none, else check it.

    Whoever comes first makes it; nobody ever sees a part of it.
    Raises: NoPermission if others could read or change it, InvalidSpec if it is no key.
    """
    try:
        _check(path(data))
    except FileNotFoundError:
        _make(path(data))
        try:
            _check(path(data))
        except FileNotFoundError:
            raise NotFound(f"{path(data)}: is gone again", hint="who removes it? signatures depend on it") from None


def _check(file: str) -> None:
    status = os.lstat(file)
    if not stat.S_ISREG(status.st_mode) or status.st_size != SIZE:
        raise InvalidSpec(
            f"is not a key of {SIZE} bytes",
            document=file,
            hint="put it back from a backup; a new one, made if it is away, makes older signatures invalid",
        )
    hint = f"make sure that nobody has read it, then: chmod 0600 {file}"
    if status.st_uid != os.geteuid():
        raise NoPermission(f"{file}: belongs to uid {status.st_uid}, not to you (uid {os.geteuid()})", hint=hint)
    if stat.S_IMODE(status.st_mode) != 0o600:
        mode = stat.S_IMODE(status.st_mode)
        raise NoPermission(f"{file}: has mode {mode:04o} in the place of 0600", hint=hint)


def _make(file: str) -> None:
    directory = os.path.dirname(file)
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        pass
    temporary = f"{file}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.fchmod(descriptor, 0o600)
            write_all(descriptor, os.urandom(SIZE))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            os.link(temporary, file)  # a rename would take the place of another's, who has signed by it already
        except FileExistsError:
            pass
    finally:
        os.unlink(temporary)
    sync_directory(directory)
