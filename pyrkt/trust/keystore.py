"""The trust store, in rkt's layout: which OpenPGP keys may sign images of which names.

Below each configuration directory: ``trustedkeys/root.d/FINGERPRINT`` signs every image and
``trustedkeys/prefix.d/NAME/FINGERPRINT`` those named NAME or below it. A key file of the local directory stands over
the same file of the system directory, the user's over both, and an *empty* one takes the key away.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyrkt.base import log
from pyrkt.base.atomic import write_file
from pyrkt.base.errors import CannotCreate, NotFound, NotTrusted, PyrktError, UsageError, printable
from pyrkt.spec.appc import is_identifier
from pyrkt.trust import openpgp

if TYPE_CHECKING:
    from pyrkt.base.dirs import ConfigDirs

_FINGERPRINT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
ROOT = ""
"""The scope of a key that may sign every image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """A key and what it may sign: ``prefix`` is an appc name, "" for all; ``path`` the file it was read from."""

    fingerprint: str
    prefix: str
    path: Path
    data: bytes


class Keystore:
    """The trusted keys below the configuration directories ``dirs``; every question reads the files afresh."""

    def __init__(self, dirs: ConfigDirs) -> None:
        """Remember where to look; the directories need not exist."""
        self._layers = tuple(Path(path) / "trustedkeys" for path in dirs.lightest_first())
        # Root's changes are for everybody, another user's for himself, as `pyrkt trust` says.
        mine = dirs.user if dirs.user and os.geteuid() != 0 else dirs.local
        self._mine = Path(mine) / "trustedkeys"

    def keys_for(self, name: str) -> tuple[TrustedKey, ...]:
        """Return the keys that may sign the image ``name``: those of root.d, of ``name`` and of its parents.

        A prefix covers whole path components: "example.com/app" does not cover "example.com/app2". A file that
        cannot be used is reported as a warning and does not hide the others.
        """
        keys, problems = self._scan((ROOT, *_parents(name)))
        for problem in problems:
            log.warn(problem)
        return tuple(keys.values())

    def all(self) -> tuple[TrustedKey, ...]:
        """Return every trusted key once per scope, root's first."""
        found: list[TrustedKey] = []
        for scope in self._scopes():
            found += self._scan((scope,))[0].values()
        return tuple(found)

    def problems(self) -> tuple[str, ...]:
        """Return one line for each file in the store that is not a usable key."""
        return tuple(problem for scope in self._scopes() for problem in self._scan((scope,))[1])

    def add(self, key: bytes, prefix: str | None, root: bool = False) -> Path:  # noqa: FBT001, FBT002 - as agreed
        """Trust ``key`` for images below ``prefix``, or with ``root`` for all; return the file written.

        Raises: UsageError if it is not one public key or the prefix is no appc name; NotTrusted if it is expired or
        revoked, so that no image could be verified by it; CannotCreate if the file cannot be written.
        """
        scope = _scope(prefix, root=root)
        cert = openpgp.one_certificate(key)
        if problem := openpgp.state(cert):
            raise NotTrusted(
                f"key {cert.fingerprint} is {problem}", hint="ask its owner for the current key, then add that one"
            )
        path = _directory(self._mine, scope) / cert.fingerprint
        _write(path, key if key.startswith(b"-----BEGIN") else str(cert).encode())
        return path

    def remove(self, fingerprint: str, prefix: str | None = None, root: bool = False) -> tuple[Path, ...]:  # noqa: FBT001, FBT002 - as agreed
        """Trust the key ``fingerprint`` no longer: for ``prefix``, with ``root`` for all images, with neither anywhere.

        What a lighter directory (of the system) trusts is masked by an empty file. Returns the files removed or made.
        Raises: NotFound if no such key is trusted there; CannotCreate if a file cannot be changed.
        """
        wanted = fingerprint.replace(" ", "").lower()
        scopes = [_scope(prefix, root=root)] if prefix or root else self._scopes()
        changed = [path for scope in scopes if (path := self._remove(wanted, scope))]
        if not changed:
            raise NotFound(f"no trusted key has the fingerprint {printable(fingerprint)}")
        return tuple(changed)

    def _remove(self, fingerprint: str, scope: str) -> Path | None:
        if fingerprint not in self._scan((scope,))[0]:
            return None
        path = _directory(self._mine, scope) / fingerprint
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise CannotCreate(f"cannot remove {path}: {error.strerror}") from error
        if fingerprint in self._scan((scope,))[0]:
            _write(path, b"")
        return path

    def _scan(self, scopes: tuple[str, ...]) -> tuple[dict[str, TrustedKey], list[str]]:
        """Return the keys of ``scopes``, from the widest to the narrowest, by fingerprint; and what is wrong."""
        keys: dict[str, TrustedKey] = {}
        problems: list[str] = []
        for scope in scopes:
            for layer in self._layers:
                for path in _files(_directory(layer, scope), problems):
                    try:
                        data = _read(path)
                        if not data:
                            keys.pop(path.name, None)
                            continue
                        _check_name(path, data)
                    except (PyrktError, OSError) as error:
                        # An unusable file must not leave standing what it was put there to replace.
                        keys.pop(path.name, None)
                        problems.append(f"{path}: {_reason(error)}")
                        continue
                    keys[path.name] = TrustedKey(fingerprint=path.name, prefix=scope, path=path, data=data)
        return keys, problems

    def _scopes(self) -> list[str]:
        found: set[str] = set()
        for layer in self._layers:
            top = layer / "prefix.d"
            for directory, _, names in os.walk(top):
                if any(_FINGERPRINT.fullmatch(name) for name in names):
                    found.add(Path(directory).relative_to(top).as_posix())
        return [ROOT, *sorted(scope for scope in found if is_identifier(scope))]


def _parents(name: str) -> Iterator[str]:
    """Yield the prefixes of ``name``, whole components each, shortest first, ``name`` itself last."""
    if not is_identifier(name):
        return
    parts = name.split("/")
    for count in range(1, len(parts) + 1):
        yield "/".join(parts[:count])


def _scope(prefix: str | None, *, root: bool) -> str:
    if root == bool(prefix):
        raise UsageError("give either a prefix or root", hint="--prefix=example.com/app, or --root for every image")
    if prefix and not is_identifier(prefix):
        raise UsageError(f"{printable(prefix)!r} is not an appc name", hint="such as example.com/app")
    return prefix or ROOT


def _directory(layer: Path, scope: str) -> Path:
    return layer / "prefix.d" / scope if scope else layer / "root.d"


def _files(directory: Path, problems: list[str]) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        problems.append(f"{directory}: {error.strerror}")
        return
    for name in names:
        path = directory / name
        if _FINGERPRINT.fullmatch(name):
            yield path
        elif not path.is_dir() and not name.endswith(".tmp"):
            problems.append(f"{path}: not named by a fingerprint (40 lowercase hex digits); ignored")


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not stop us
    with open(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise UsageError("not a regular file")
        if mode & stat.S_IWOTH:
            raise UsageError("anybody may write it; its mode should be 0644")
        return file.read(openpgp.MAX_KEY + 1)


def _check_name(path: Path, data: bytes) -> None:
    actual = openpgp.fingerprint(data)
    if actual != path.name:
        raise UsageError(f"fingerprint mismatch: it holds the key {actual}")


def _reason(error: PyrktError | OSError) -> str:
    return error.message if isinstance(error, PyrktError) else str(error.strerror)


def _write(path: Path, data: bytes) -> None:
    try:
        for directory in reversed([path.parent, *path.parent.parents]):
            if not directory.is_dir():
                directory.mkdir()
                directory.chmod(0o755)  # the umask is not asked: everybody may see whom this host trusts
        write_file(path, data, mode=0o644)
    except OSError as error:
        raise CannotCreate(f"cannot write {path}: {error.strerror}") from error
