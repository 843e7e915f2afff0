"""Downloads of files that nothing names by digest: resumed and cached by what the server says of their identity.

A file lies in ``partial/url-HASH`` while it comes, and ``partial/url-HASH.json`` beside it says which file of the
server that is (ETag or Last-Modified) and, afterwards, which image it became and how long that is fresh.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from pyrkt.base import atomic, fastjson
from pyrkt.base.errors import ImageRefused, InvalidSpec, NoPermission, NotFound, Unavailable
from pyrkt.base.reader import Reader
from pyrkt.image.http import Request
from pyrkt.image.wire import Interrupted
from pyrkt.kernel import lock
from pyrkt.store.blobs import disk_error

if TYPE_CHECKING:
    from pathlib import Path

    from pyrkt.image.http import Answer, Client
    from pyrkt.image.workers import Progress
    from pyrkt.store import Store

MAX_SIZE = 64 << 30
"""Bytes of a file from a URL; the limit of what it may unpack to as well."""
_MAX_AGE = re.compile(r"(?:^|,)\s*max-age=([0-9]{1,9})\s*(?:,|$)", re.IGNORECASE)
_YEAR = 365 * 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What is remembered of a URL. ``fresh_until`` is in seconds since 1970; ``image`` is the id it became.

    ``insecure`` are the checks of the connection ("tls", "http") that were off when this was learnt.
    """

    url: str
    etag: str = ""
    last_modified: str = ""
    fresh_until: float = 0.0
    image: str = ""
    insecure: tuple[str, ...] = ()

    @property
    def validator(self) -> str:
        """What proves that the rest of a file belongs to its beginning: a strong ETag, else Last-Modified, else ""."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


class Download:
    """One URL's file; hold it by ``open_download``."""

    def __init__(self, store: Store, url: str, insecure: Collection[str]) -> None:
        self.url = url
        self._insecure = tuple(sorted({"http", "tls"} & set(insecure)))
        self.most = MAX_SIZE
        """Bytes that may come; a caller who knows better takes less."""
        self.path: Path = store.root / "partial" / f"url-{hashlib.sha256(url.encode()).hexdigest()}"
        self._note_path = self.path.with_suffix(".json")
        self.note = self._read()
        if not set(self.note.insecure) <= set(self._insecure):
            # Anybody may have sent it: neither the beginning of a file nor the word that nothing has changed.
            self.drop()
            self.note = Note(url=url)

    def _read(self) -> Note:
        document = str(self._note_path)
        try:
            r = Reader(fastjson.loads(self._note_path.read_bytes(), document), document)
            return Note(
                url=r["url"].text(),
                etag=r["etag"].text(""),
                last_modified=r["last_modified"].text(""),
                fresh_until=float(r["fresh_until"].number(0, 1 << 53, 0.0)),
                image=r["image"].text(""),
                insecure=r["insecure"].texts(),
            )
        except (FileNotFoundError, InvalidSpec):
            return Note(url=self.url)  # what cannot be read is not known

    def remember(self, **changes: str | float | tuple[str, ...]) -> None:
        """Change the note."""
        self.note = replace(self.note, **changes)  # type: ignore[arg-type]
        atomic.write_file(self._note_path, fastjson.dumps(asdict(self.note)), durable=False)

    def load(self, client: Client, authorization: str, progress: Progress, name: str) -> bool:
        """Bring the whole file; False if the server says that the image remembered is still the one.

        Raises: NotFound, NoPermission, Unavailable; what has come by then stays for the next time.
        """
        tries = 0
        while True:
            had = self._size()
            try:
                return self._load_once(client, authorization, progress, name)
            except Interrupted as error:
                tries = 0 if self._size() - had >= 1 << 20 else tries + 1
                if tries >= client.limits.tries:
                    raise Unavailable(f"{error.message} ({tries} tries)") from None
                client.pause(self.url, error.message, client.limits.pause * 2**tries)

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def _load_once(self, client: Client, authorization: str, progress: Progress, name: str) -> bool:
        have = self._size() if self.note.validator else 0
        headers = {}
        if have:
            headers = {"Range": f"bytes={have}-", "If-Range": self.note.validator}
        elif self.note.image and self.note.etag:
            headers = {"If-None-Match": self.note.etag}
        elif self.note.image and self.note.last_modified:
            headers = {"If-Modified-Since": self.note.last_modified}
        with client.open(Request(url=self.url, headers=headers, authorization=authorization)) as answer:
            if answer.status == 304 and self.note.image:
                doubts = {*self.note.insecure, *self._insecure}
                self.remember(fresh_until=_fresh_until(answer), insecure=tuple(sorted(doubts)))
                return False
            if answer.status == 416 and have:
                self.path.unlink()
                raise Interrupted(f"{self.url}: it became shorter")
            _check_status(answer, self.url)
            start = have if answer.status == 206 and _starts_at(answer, have) else 0
            if answer.status == 206 and start != have:
                self.path.unlink()
                raise Interrupted(f"{self.url}: sends another part than was asked for")
            self.remember(
                etag=answer.header("etag")[:1024],
                last_modified=answer.header("last-modified")[:64],
                fresh_until=_fresh_until(answer),
                image="",
                insecure=self._insecure,
            )
            progress.start(name, start + (answer.length or 0))
            progress.advance(name, start)
            self._write(answer, start, progress, name)
        progress.done(name)
        return True

    def _write(self, answer: Answer, start: int, progress: Progress, name: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(self.path, flags, 0o600)
        try:
            os.ftruncate(file, start)
            os.lseek(file, start, os.SEEK_SET)
            for chunk in answer.chunks(MAX_SIZE - start):
                start += len(chunk)
                if start > self.most:
                    raise ImageRefused(f"{self.url}: is larger than its dependant says: {self.most} bytes were due")
                try:
                    atomic.write_all(file, chunk)
                except OSError as error:
                    raise disk_error(error, f"writing {self.url}") from error
                progress.advance(name, len(chunk))
        finally:
            os.close(file)

    def drop(self) -> None:
        """Remove the file, and what is remembered of it: it was refused."""
        self.path.unlink(missing_ok=True)
        self._note_path.unlink(missing_ok=True)


@contextmanager
def open_download(store: Store, url: str, insecure: Collection[str] = ()) -> Iterator[Download]:
    """Hold the download of ``url``, by a client with the checks ``insecure`` off: another process waits for it."""
    name = f"url-{hashlib.sha256(url.encode()).hexdigest()}"
    with store.hold():
        held = lock.acquire(str(store.lock_path(name)), exclusive=True)
        try:
            yield Download(store, url, insecure)
        finally:
            os.close(held)


def _check_status(answer: Answer, url: str) -> None:
    if answer.status in {401, 403}:
        raise NoPermission(f"{url}: answers {answer.status}", hint="credentials for the host belong into auth.d")
    if answer.status in {404, 410}:
        raise NotFound(f"{url}: answers {answer.status}")
    if answer.status not in {200, 206}:
        raise Unavailable(f"{url}: answers {answer.status}")


def _starts_at(answer: Answer, offset: int) -> bool:
    return answer.header("content-range").lower().startswith(f"bytes {offset}-")


def _fresh_until(answer: Answer) -> float:
    """Return until when the answer may be used unasked (RFC 9111, 5.2.2.1): 0 if the server does not say."""
    control = answer.header("cache-control").lower()
    match = _MAX_AGE.search(control)
    if not match or "no-store" in control or "no-cache" in control:
        return 0.0
    return time.time() + min(int(match[1]), _YEAR)
