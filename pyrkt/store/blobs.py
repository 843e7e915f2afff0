"""Blobs: files named by the digest of their content, so that a name is a proof."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

from pyrkt.base import atomic
from pyrkt.base.errors import CannotCreate, ImageRefused, NotFound, PyrktError
from pyrkt.kernel import lock
from pyrkt.spec.digest import Digest, algorithm, hasher, hexpart, parse_digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from pyrkt.store.layout import Store

_CHUNK = 1 << 20


def disk_error(error: OSError, about: str) -> PyrktError:
    """Return what to raise for ``error`` while writing ``about`` below the data directory."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return CannotCreate(
            f"{about}: {error.strerror}", hint="make room: pyrkt gc, pyrkt image gc; or use another --dir"
        )
    return CannotCreate(f"{about}: {error.strerror}")


class Blobs:
    """The verbatim files: ``blobs/<algorithm>/<hex>``. Each appears whole, durable and proven, or not at all."""

    def __init__(self, store: Store) -> None:
        """Belong to ``store``."""
        self._store = store

    def path(self, digest: Digest) -> Path:
        """Return where the blob ``digest`` lies, or would."""
        return self._store.root / "blobs" / algorithm(digest) / hexpart(digest)

    def has(self, digest: Digest) -> bool:
        """Tell whether the blob is stored."""
        return os.path.lexists(self.path(digest))

    def size(self, digest: Digest) -> int:
        """Return the blob's size in bytes. Raises: NotFound."""
        try:
            return self.path(digest).lstat().st_size
        except FileNotFoundError:
            raise _missing(digest) from None

    def open(self, digest: Digest) -> BinaryIO:
        """Return the blob, open for reading. Raises: NotFound."""
        try:
            # Buffering would only copy: everybody reads by the megabyte.
            return open(self.path(digest), "rb", buffering=0, opener=_no_follow)
        except FileNotFoundError:
            raise _missing(digest) from None

    def read(self, digest: Digest, limit: int) -> bytes:
        """Return the content of a small blob. Raises: NotFound; ImageRefused if it has more than ``limit`` bytes."""
        with self.open(digest) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise ImageRefused(f"blob {digest} is larger than {limit} bytes")
        return data

    def chunks(self, digest: Digest) -> Iterator[bytes]:
        """Yield the content in pieces of up to 1 MiB. Raises: NotFound."""
        with self.open(digest) as file:
            while piece := file.read(_CHUNK):
                yield piece

    def all(self) -> Iterator[Digest]:
        """Yield the digest of every stored blob."""
        for kind in ("sha256", "sha512"):
            try:
                names = os.listdir(self._store.root / "blobs" / kind)
            except FileNotFoundError:
                continue
            for name in names:
                yield parse_digest(f"{kind}:{name}", document=f"blobs/{kind}")

    def partial(self, digest: Digest) -> Path:
        """Return where the beginning of a blob waits for the rest of its download."""
        return self._store.root / "partial" / f"{algorithm(digest)}-{hexpart(digest)}"

    def writer(self, digest: Digest | None = None, size: int | None = None, *, resume: bool = False) -> BlobWriter:
        """Return a writer, to be used by ``with``, for the blob that must have ``digest`` and ``size`` (if given).

        With ``resume`` (which needs a digest) the writer takes up what an earlier one left, keeps what it wrote if
        it fails, and excludes every other resuming writer of the same blob: the second waits for the first.
        """
        return BlobWriter(self._store, self, digest, size, resume=resume)

    def admit(self, path: Path, descriptor: int, digest: Digest) -> None:
        """Make the file at ``path``, open as ``descriptor`` and proven to have ``digest``, a blob, durably.

        Raises: CannotCreate.
        """
        target = self.path(digest)
        try:
            if not target.parent.is_dir():
                target.parent.mkdir(mode=0o700, exist_ok=True)
                atomic.sync_directory(target.parent.parent)
            os.fchmod(descriptor, 0o400)
            os.fsync(descriptor)
            atomic.move(path, target)
        except OSError as error:
            raise disk_error(error, f"storing {digest}") from error

    def put(self, data: bytes) -> Digest:
        """Store ``data``; return its sha256 digest."""
        with self.writer(size=len(data)) as writer:
            writer.write(data)
            return writer.commit()


def _missing(digest: Digest) -> NotFound:
    return NotFound(f"blob {digest} is not in the store", hint="fetch the image again")


def _no_follow(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)


class BlobWriter:
    """One blob on its way in. Nothing is visible before ``commit`` has proven size and digest and synced the file.

    ``written`` counts the bytes so far, with those of an earlier writer when resuming; ``complete`` tells that
    another writer has stored the same blob while this one waited: then there is nothing left to do.
    """

    def __init__(self, store: Store, blobs: Blobs, digest: Digest | None, size: int | None, *, resume: bool) -> None:
        """Prepare; ``Blobs.writer`` explains the arguments."""
        self._store, self._blobs = store, blobs
        self._digest, self._size, self._resume = digest, size, resume
        self._hold = store.hold()
        self._path = Path()
        self._file = self._lock = -1
        self._hash = hasher(digest) if digest else hashlib.sha256()
        self.written = 0
        self.complete = False

    def __enter__(self) -> Self:
        self._hold.__enter__()
        try:
            self._open()
        except BaseException as error:
            self._close()
            self._hold.__exit__(None, None, None)
            if isinstance(error, OSError) and not isinstance(error, PyrktError):
                raise disk_error(error, "starting a blob") from error
            raise
        return self

    def _open(self) -> None:
        if not self._resume:
            self._path = self._store.tmp / f"blob-{os.getpid()}-{os.urandom(8).hex()}"
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            return
        if self._digest is None:
            raise ValueError("only a blob of known digest can be resumed")
        self._path = self._blobs.partial(self._digest)
        self._lock = lock.acquire(str(self._store.lock_path(f"blob-{self._path.name}")), exclusive=True)
        if self._blobs.has(self._digest):
            self.complete = True
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o600)
        if self._size is not None and os.fstat(self._file).st_size > self._size:
            self.restart()
        while piece := os.read(self._file, _CHUNK):
            self._hash.update(piece)
            self.written += len(piece)

    def restart(self) -> None:
        """Forget what was written: the server sends the blob from its beginning."""
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        self._hash = hasher(self._digest) if self._digest else hashlib.sha256()
        self.written = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append ``data``. Raises: ImageRefused beyond the declared size, CannotCreate if the disk is full."""
        self.written += len(data)
        if self._size is not None and self.written > self._size:
            self._spoilt()
            raise ImageRefused(
                f"{self._digest or 'blob'}: more than the {self._size} bytes that were declared",
                hint="the image or the registry is damaged; tell who publishes it",
            )
        self._hash.update(data)
        try:
            atomic.write_all(self._file, data)
        except OSError as error:
            # How much of it has arrived is unknown, but what was written before is good.
            raise disk_error(error, f"writing {self._digest or 'a blob'}") from error

    def commit(self) -> Digest:
        """Prove, sync and name the blob; return its digest. Raises: ImageRefused, CannotCreate."""
        if self.complete and self._digest is not None:
            return self._digest
        if self._size is not None and self.written != self._size:
            raise ImageRefused(
                f"{self._digest or 'blob'}: {self.written} bytes instead of the {self._size} that were declared"
            )
        digest = Digest(f"{self._hash.name}:{self._hash.hexdigest()}")
        if self._digest is not None and digest != self._digest:
            self._spoilt()
            raise ImageRefused(
                f"{self._digest}: the content has digest {digest}",
                hint="it was damaged or exchanged on its way; try again, then tell who publishes it",
            )
        self._blobs.admit(self._path, self._file, digest)
        self._path = Path()
        return digest

    def _spoilt(self) -> None:
        # A wrong beginning would make every later attempt fail too.
        self._resume = False

    def _close(self) -> None:
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # What nothing came of is no beginning; but a blob may be empty.
            begun = self.written or self._size == 0
            if self._file >= 0 and self._path.name and not (self._resume and begun):
                self._path.unlink(missing_ok=True)
        finally:
            self._close()
            self._hold.__exit__(None, None, None)
