"""The data directory: where everything lies, who may use it, and the lock that keeps gc away from writers."""

from __future__ import annotations

import os
import stat
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pyrkt.base import atomic
from pyrkt.base.errors import CannotCreate, InvalidSpec, NoPermission
from pyrkt.kernel import lock
from pyrkt.store.blobs import Blobs
from pyrkt.store.index import Images
from pyrkt.store.trees import Trees

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = 1
"""Of the layout below; a later pyrkt that changes it raises the number and migrates."""
DIRECTORIES = ("blobs", "images", "locks", "metadata", "partial", "pods", "tmp", "trees")


class Store:
    """The images of one data directory: ``store.blobs``, ``store.trees``, ``store.images``.

    Making the value touches nothing; ``open`` checks the directory and makes it where it is missing. Readers take
    no lock. Everything that writes does so inside ``hold``, which only gc waits for.
    """

    def __init__(self, root: str | Path) -> None:
        """Name the data directory ``root``."""
        self.root = Path(os.path.abspath(root))
        self.blobs = Blobs(self)
        self.trees = Trees(self)
        self.images = Images(self)
        self._guard = threading.Lock()
        self._holders = 0
        self._lock = -1

    @property
    def tmp(self) -> Path:
        """Where writers make things before they are whole; gc empties it."""
        return self.root / "tmp"

    def lock_path(self, name: str) -> Path:
        """Return the lock file ``name``, a plain file name."""
        return self.root / "locks" / name

    def open(self) -> Self:
        """Make the data directory or check it; return self.

        Raises: NoPermission if it is not the caller's alone, CannotCreate if it cannot be made or holds something
        else, InvalidSpec if a later pyrkt has changed its layout.
        """
        try:
            self.root.parent.mkdir(parents=True, exist_ok=True)
            self.root.mkdir(mode=0o700, exist_ok=True)
            self._check_owner()
            self._check_version()
            for name in DIRECTORIES:
                (self.root / name).mkdir(mode=0o700, exist_ok=True)
        except PermissionError as error:
            raise NoPermission(
                f"{self.root}: {error.strerror}", hint="choose a directory of your own with --dir"
            ) from error
        except OSError as error:
            raise CannotCreate(f"{self.root}: {error.strerror}", hint="choose another directory with --dir") from error
        return self

    def _check_owner(self) -> None:
        # Setuid programs of images lie below: nobody else may get in, nor change what was verified (CVE-2021-41091).
        status = self.root.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise CannotCreate(f"{self.root}: not a directory", hint="choose another directory with --dir")
        if status.st_uid != os.geteuid():
            raise NoPermission(
                f"{self.root}: belongs to uid {status.st_uid}, not to you (uid {os.geteuid()})",
                hint="choose a directory of your own with --dir",
            )
        if status.st_mode & 0o022:
            raise NoPermission(
                f"{self.root}: others may write to it (mode {stat.S_IMODE(status.st_mode):04o})",
                hint=f"make sure nobody has, then: chmod 0700 {self.root}",
            )

    def _check_version(self) -> None:
        path = self.root / "version"
        try:
            found = path.read_bytes()[:20].strip()
        except FileNotFoundError:
            self._adopt(path)
            return
        if found != str(VERSION).encode():
            raise InvalidSpec(
                f"version {found!r} of the data directory is not one that this pyrkt knows ({VERSION})",
                document=str(path),
                hint="use the pyrkt that made it, or another --dir",
            )
        if stat.S_IMODE(self.root.lstat().st_mode) & 0o077:
            self.root.chmod(0o700)

    def _adopt(self, version: Path) -> None:
        strange = [name for name in os.listdir(self.root) if name not in DIRECTORIES and not name.startswith("version")]
        if strange:
            raise CannotCreate(
                f"{self.root}: holds {strange[0]!r}, so it is not a data directory of pyrkt",
                hint="choose an empty or new directory with --dir",
            )
        self.root.chmod(0o700)
        atomic.write_file(version, f"{VERSION}\n")

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep gc away: what is stored or found inside is not collected before the block ends.

        A fetch holds from its first blob to its image record, and a pod from finding its image until its ``trees``
        file is written. May be nested and used by several threads; the kernel lets go if the process dies.
        """
        with self._guard:
            if self._holders == 0:
                self._lock = lock.acquire(str(self.lock_path("gc")), exclusive=False)
            self._holders += 1
        try:
            yield
        finally:
            with self._guard:
                self._holders -= 1
                if self._holders == 0:
                    os.close(self._lock)
                    self._lock = -1

    @contextmanager
    def alone(self, *, wait: bool) -> Iterator[None]:
        """Be the only one who writes: what gc needs. Raises: Busy if ``wait`` is off and a writer is at work."""
        with self._guard:
            # A second descriptor would wait for the first one of this very process, for ever.
            if self._holders:
                raise RuntimeError("gc inside hold()")
            descriptor = lock.acquire(str(self.lock_path("gc")), exclusive=True, wait=wait)
            try:
                yield
            finally:
                os.close(descriptor)
