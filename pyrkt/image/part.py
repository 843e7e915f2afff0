"""Parts: blobs on their way in, proven before they are named, so that a fetch that fails stores nothing.

A blob goes to ``partial/`` and is proven there by the worker that loads it. Only when every part of the image is
right are they all moved to ``blobs/``; what a failed or killed fetch leaves is taken up by the next one.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, NamedTuple

from pyrkt.base.errors import Busy, ImageRefused, Unavailable
from pyrkt.kernel import lock
from pyrkt.spec.digest import Digest, of_hasher
from pyrkt.store.blobs import BlobWriter, disk_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pyrkt.store import Store


class Proof(NamedTuple):
    """Which file was proven to hold a blob: moved since, or written to, it is another."""

    inode: int
    size: int
    changed: int


class Part(BlobWriter):
    """The writer of one part, which holds the lock of its blob. ``complete``: the blob is stored already."""

    def __init__(self, store: Store, digest: Digest, size: int) -> None:
        """Prepare to take the blob ``digest`` of ``size`` bytes up where an earlier fetch left it."""
        super().__init__(store, store.blobs, digest, size, resume=True)
        self.digest, self.size = digest, size

    @property
    def path(self) -> Path:
        """Where its bytes are: among the blobs if it is stored, else among the parts."""
        return self._blobs.path(self.digest) if self.complete else self._path

    def prove(self) -> Proof | None:
        """Check size and digest of what was written; return what ``promote`` has to find. None if it is stored.

        Raises: ImageRefused; the part is then removed, for it would spoil every later attempt.
        """
        if self.complete:
            return None
        if self.written != self.size:
            raise ImageRefused(f"{self.digest}: {self.written} bytes instead of the {self.size} that were declared")
        if (found := of_hasher(self._hash)) != self.digest:
            self._spoilt()
            raise ImageRefused(
                f"{self.digest}: the content has digest {found}",
                hint="it was damaged or exchanged on its way; try again, then tell who publishes it",
            )
        return _proof(self._file)

    def spoil(self) -> None:
        """Let the part be removed in the end: its content was refused, and would be again."""
        self._spoilt()

    def chunks(self) -> Iterator[bytes]:
        """Yield what there is of it, from its beginning."""
        with open(self.path, "rb", buffering=0) as file:
            while chunk := file.read(1 << 20):
                yield chunk


def _proof(descriptor: int) -> Proof:
    status = os.fstat(descriptor)
    return Proof(status.st_ino, status.st_size, status.st_mtime_ns)


def promote(store: Store, digest: Digest, proof: Proof) -> None:
    """Make the proven part a blob, durably. One that another process has stored meanwhile will do.

    Raises: Unavailable if the part is not what was proven (another fetch of the same digest spoilt it).
    """
    part = store.blobs.partial(digest)
    held = lock.acquire(str(store.lock_path(f"blob-{part.name}")), exclusive=True)
    try:
        if store.blobs.has(digest):
            return
        descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if _proof(descriptor) != proof:
                raise Unavailable(f"{digest}: another fetch has changed it meanwhile", hint="fetch again")
            store.blobs.admit(part, descriptor, digest)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise Unavailable(f"{digest}: another fetch has removed it meanwhile", hint="fetch again") from None
    except OSError as error:
        raise disk_error(error, f"storing {digest}") from error
    finally:
        os.close(held)


def forget(store: Store, digests: Iterable[Digest]) -> None:
    """Remove the parts of an image that was refused, whole ones too: nobody will come for the rest.

    One that another process is at stays, since its image may be a good one.
    """
    for digest in digests:
        part = store.blobs.partial(digest)
        try:
            held = lock.acquire(str(store.lock_path(f"blob-{part.name}")), exclusive=True, wait=False)
        except Busy:
            continue
        try:
            part.unlink(missing_ok=True)
        finally:
            os.close(held)


def adopt(store: Store, path: Path) -> Digest:
    """Make the file at ``path``, which lies below the data directory, a blob; return its digest. Durably."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    hashed = hashlib.sha256()
    try:
        while chunk := os.read(descriptor, 1 << 20):
            hashed.update(chunk)
        digest = of_hasher(hashed)
        if store.blobs.has(digest):
            os.unlink(path)
            return digest
        store.blobs.admit(path, descriptor, digest)
    except OSError as error:
        raise disk_error(error, f"storing {path}") from error
    finally:
        os.close(descriptor)
    return digest
