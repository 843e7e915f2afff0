"""Files that are either the old one or the new one, whole, whatever happens in between (design law 3)."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import PathLike


def write_file(path: str | PathLike[str], data: bytes | str, *, mode: int = 0o600, durable: bool = True) -> None:
    """Make ``path`` a file of ``mode`` that holds ``data``: temporary file, fsync, rename, fsync of the directory.

    ``durable=False`` leaves out both fsyncs, for state that a reboot voids anyhow (below /run).
    Raises: OSError of the step that failed; then ``path`` is as it was and no temporary file remains.
    """
    target = os.fspath(path)
    temporary = f"{target}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        try:
            os.fchmod(descriptor, mode)  # the umask is the caller's business, not this file's
            write_all(descriptor, data.encode() if isinstance(data, str) else data)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
    if durable:
        sync_directory(os.path.dirname(target) or ".")


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write the whole of ``data``; write(2) may take a part."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_directory(path: str | PathLike[str]) -> None:
    """Make the names in the directory ``path`` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move(source: str | PathLike[str], target: str | PathLike[str]) -> None:
    """Rename ``source`` to ``target`` durably. Raises OSError; EEXIST or ENOTEMPTY if a directory is there."""
    os.rename(source, target)
    sync_directory(os.path.dirname(os.fspath(target)) or ".")
    if os.path.dirname(os.fspath(source)) != os.path.dirname(os.fspath(target)):
        sync_directory(os.path.dirname(os.fspath(source)) or ".")
