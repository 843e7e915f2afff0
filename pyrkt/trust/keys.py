"""The secrets that open encrypted images: private keys (RSA, EC) and OpenPGP passphrases, and where they come from.

A secret never stands on a command line, where every user of the host can read it: files and descriptors name it.
"""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pyrkt.base import log
from pyrkt.base.errors import NoPermission, NotFound, NotTrusted, PyrktError, UsageError, printable

if TYPE_CHECKING:
    from pyrkt.base.dirs import ConfigDirs

MAX_KEY_FILE = 1 << 20
MAX_SECRET = 64 << 10
MIN_RSA_BITS = 2048
_GRAMMAR = "KEYFILE, KEYFILE:file=PASSWORDFILE, KEYFILE:fd=N, passphrase:file=F or passphrase:fd=N"
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateKey:
    """A private key and the file it came from."""

    key: Key = field(repr=False)
    source: str

    @property
    def kind(self) -> str:
        """Return the kind of key for people: "RSA 2048" or "EC P-256"."""
        return f"RSA {self.key.key_size}" if isinstance(self.key, rsa.RSAPrivateKey) else f"EC {curve_name(self.key)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Passphrase:
    """A passphrase for OpenPGP symmetric encryption and where it was read."""

    secret: bytes = field(repr=False)
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecryptionKeys:
    """What the caller can decrypt with; ``problems`` are files that were meant as keys and could not be used."""

    private: tuple[PrivateKey, ...] = ()
    passphrases: tuple[Passphrase, ...] = ()
    problems: tuple[str, ...] = ()

    @classmethod
    def load(cls, specs: Sequence[str], dirs: ConfigDirs) -> DecryptionKeys:
        """Return the keys that ``specs`` (of --decryption-key) name, and those of decryptionkeys.d in ``dirs``.

        In decryptionkeys.d ``*.pem``, ``*.key`` and ``*.der`` are private keys, ``*.pass`` passphrases; an encrypted
        ``NAME.pem`` is opened by the first line of ``NAME.pass``. Files that others may read are not used.
        Raises: UsageError, NotFound, NoPermission or NotTrusted about a spec; trouble in a directory is a warning.
        """
        private: list[PrivateKey] = []
        passphrases: list[Passphrase] = []
        descriptors = _Descriptors()
        for spec in specs:
            found = _from_spec(spec, descriptors)
            if isinstance(found, PrivateKey):
                private.append(found)
            else:
                passphrases.append(found)
        problems: list[str] = []
        for directory in reversed(dirs.lightest_first()):
            _from_directory(Path(directory) / "decryptionkeys.d", private, passphrases, problems)
        for problem in problems:
            log.warn(problem)
        return cls(private=tuple(private), passphrases=tuple(passphrases), problems=tuple(problems))


def curve_name(key: ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) -> str:
    """Return the curve as JOSE and NIST call it ("P-256"), or as the library does if they have no name for it."""
    return {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}.get(key.curve.name, key.curve.name)


def parse_private_key(data: bytes, password: Callable[[], bytes] | None, source: str) -> PrivateKey:
    """Return the private key in ``data``: PEM (PKCS #8, PKCS #1, SEC 1, each maybe encrypted) or DER.

    ``password`` gives the password if one is needed. Raises: NotTrusted (wrong or missing password) or UsageError.
    """
    if _is_encrypted(data):
        if password is None:
            raise NotTrusted(
                f"{source}: the key is encrypted and no password was given",
                hint=f"--decryption-key {source}:file=PASSWORDFILE, or :fd=N",
            )
        key = _load(data, password(), source)
    else:
        key = _load(data, None, source)
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < MIN_RSA_BITS:
        raise UsageError(f"{source}: an RSA key of {key.key_size} bits protects nothing; {MIN_RSA_BITS} is the least")
    return PrivateKey(key=key, source=source)


def _is_encrypted(data: bytes) -> bool:
    if not _PEM.search(data):
        return _needs_password(data)
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in data or b"\nProc-Type: 4,ENCRYPTED" in data


def _needs_password(data: bytes) -> bool:
    try:
        serialization.load_der_private_key(data, None)
    except TypeError:  # how the library says that the key is encrypted
        return True
    except (ValueError, UnsupportedAlgorithm):
        return False
    return False


def _load(data: bytes, password: bytes | None, source: str) -> Key:
    block = _PEM.search(data)
    if block and b"PRIVATE KEY" not in block[1]:
        raise UsageError(f"{source}: a PEM {block[1].decode()} is no private key", hint=_what_is_needed(block[1]))
    if block and block[1].startswith(b"PGP"):
        raise UsageError(f"{source}: an OpenPGP key; pyrkt opens layers with RSA and EC keys in PEM or DER")
    loads = serialization.load_pem_private_key if block else serialization.load_der_private_key
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old ciphers in PEM files: the owner's choice, and he was not asked
            key = loads(data[block.start() :] if block else data, password)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if password is not None:
            raise NotTrusted(f"{source}: the password does not open this key") from None
        raise UsageError(
            f"{source}: not a private key in PEM or DER", hint=printable(str(error).partition("\n")[0][:120])
        ) from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise UsageError(f"{source}: neither an RSA nor an EC key")
    return key


def _what_is_needed(kind: bytes) -> str:
    return "the private key is needed, not the certificate" if kind == b"CERTIFICATE" else "the private key is needed"


class _Descriptors:
    """Descriptors given by number: each can be read once, but may be named for several keys."""

    def __init__(self) -> None:
        self._read: dict[int, bytes] = {}

    def __getitem__(self, number: int) -> bytes:
        if number not in self._read:
            try:
                with open(number, "rb", closefd=False) as file:
                    self._read[number] = file.read(MAX_SECRET + 1)
            except OSError as error:
                raise UsageError(f"cannot read the secret from descriptor {number}: {error.strerror}") from None
        return self._read[number]


def _from_spec(spec: str, descriptors: _Descriptors) -> PrivateKey | Passphrase:
    name, colon, how = spec.partition(":")
    if not name:
        raise UsageError("empty decryption key", hint=_GRAMMAR)
    secret = _secret(name, how, descriptors) if colon else None
    if name == "passphrase":
        if secret is None:
            raise UsageError("passphrase of what?", hint="passphrase:file=F or passphrase:fd=N")
        return Passphrase(secret=secret(), source=printable(f"passphrase:{how}"))
    return parse_private_key(_read(Path(name), MAX_KEY_FILE), secret, printable(name))


def _secret(name: str, how: str, descriptors: _Descriptors) -> Callable[[], bytes]:
    kind, equals, value = how.partition("=")
    if equals and kind == "file" and value:
        return lambda: _first_line(_read(Path(value), MAX_SECRET), value)
    if equals and kind == "fd" and value.isascii() and value.isdecimal() and len(value) < 8:
        return lambda: _first_line(descriptors[int(value)], f"descriptor {value}")
    if kind in ("file", "fd"):
        raise UsageError(f"decryption key {printable(name)}: {kind}= needs a value", hint=_GRAMMAR)
    # The secret itself is not repeated in the message: messages land in logs.
    raise UsageError(
        f"decryption key {printable(name)}: a password on the command line can be read by every user of this host",
        hint=f"put it in a file or a descriptor: {printable(name)}:file=F or {printable(name)}:fd=N",
    )


def _first_line(data: bytes, source: str) -> bytes:
    """Return a secret as files hold it: without the line end an editor puts behind it."""
    secret = data.removesuffix(b"\n").removesuffix(b"\r")
    if not secret:
        raise UsageError(f"{printable(source)}: the secret is empty")
    if len(secret) > MAX_SECRET:
        raise UsageError(f"{printable(source)}: the secret is longer than {MAX_SECRET >> 10} KiB")
    return secret


def _read(path: Path, limit: int, *, private: bool = False) -> bytes:
    """Return the content of ``path``. With ``private`` refuse a file that others may read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            if private and not stat.S_ISREG(mode):
                raise UsageError(f"{path}: not a regular file")
            if private and mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise NoPermission(f"{path}: others may read this secret; not used", hint=f"chmod 600 {path}")
            data = file.read(limit + 1)
    except FileNotFoundError:
        raise NotFound(f"{printable(str(path))}: no such key file", hint=_GRAMMAR) from None
    except OSError as error:
        raise NoPermission(f"{printable(str(path))}: {error.strerror}") from None
    if len(data) > limit:
        raise UsageError(f"{printable(str(path))}: larger than {limit >> 10} KiB")
    return data


def _from_directory(
    directory: Path, private: list[PrivateKey], passphrases: list[Passphrase], problems: list[str]
) -> None:
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        problems.append(f"{directory}: {error.strerror}")
        return
    for path in (directory / name for name in names):
        try:
            if path.suffix in (".pem", ".key", ".der"):
                private.append(parse_private_key(_read(path, MAX_KEY_FILE, private=True), _beside(path), str(path)))
            elif path.suffix == ".pass" and not _has_key(path, names):
                secret = _first_line(_read(path, MAX_SECRET, private=True), str(path))
                passphrases.append(Passphrase(secret=secret, source=str(path)))
        except PyrktError as error:
            problems.append(error.message)


def _has_key(path: Path, names: list[str]) -> bool:
    """Tell whether ``path`` is the password of the private key beside it, not a passphrase of its own."""
    return any(path.stem + suffix in names for suffix in (".pem", ".key", ".der"))


def _beside(path: Path) -> Callable[[], bytes] | None:
    password = path.with_suffix(".pass")
    if not password.exists():
        return None
    return lambda: _first_line(_read(password, MAX_SECRET, private=True), str(password))
