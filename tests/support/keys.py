"""Keys, signatures and encrypted files for tests, made by others: gpg, and the cryptography library."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

PAST = 1_700_000_000
"""2023-11-14: when tests make keys that have to be old by now."""
DAY = 86_400

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class Gpg:
    """A GnuPG home of its own; its path is short, because the agent's socket lies in it."""

    def __init__(self, home: Path) -> None:
        """Use ``home``, an empty directory of mode 0700."""
        self.home = home

    def run(self, *arguments: str | Path, stdin: bytes = b"", at: int = 0) -> bytes:
        """Run gpg without asking anybody; ``at`` is the time it believes in, in unix seconds (0: the real one)."""
        clock = ["--faked-system-time", f"{at}!"] if at else []
        command: list[str | Path] = [
            "gpg",
            "--homedir",
            self.home,
            "--batch",
            "--quiet",
            "--no-tty",
            "--yes",
            "--pinentry-mode=loopback",
        ]
        done = subprocess.run(
            [*command, "--passphrase=", *clock, *arguments], input=stdin, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def key(self, name: str, *, kind: str = "ed25519", use: str = "sign", days: int = 0, at: int = PAST) -> str:
        """Make a key ``name <name@example.com>`` that ends after ``days`` (0: never); return its fingerprint."""
        term = f"{days}d" if days else "never"
        self.run("--quick-generate-key", f"{name} <{name}@example.com>", kind, use, term, at=at)
        return self.fingerprints(name)[0]

    def subkey(self, fingerprint: str, *, kind: str = "ed25519", use: str = "sign", days: int = 0) -> None:
        """Add a subkey made at PAST."""
        self.run("--quick-add-key", fingerprint, kind, use, f"{days}d" if days else "never", at=PAST)

    def fingerprints(self, name: str) -> list[str]:
        """Return the fingerprints of key and subkeys, lowercase."""
        listing = self.run("--with-colons", "--list-keys", name).decode()
        return [line.split(":")[9].lower() for line in listing.splitlines() if line.startswith("fpr:")]

    def public(self, name: str) -> bytes:
        """Return the armoured public key."""
        return self.run("--armor", "--export", name)

    def secret(self, name: str) -> bytes:
        """Return the armoured private key."""
        return self.run("--armor", "--export-secret-keys", name)

    def sign(self, name: str, data: bytes, *options: str, at: int = 0) -> bytes:
        """Return an armoured detached signature over ``data``; ``options`` go to gpg."""
        return self.run("--local-user", name, *options, "--armor", "--detach-sign", stdin=data, at=at)

    def message(self, name: str, data: bytes, *options: str) -> bytes:
        """Return ``data`` as a signed message, as simple signing has it."""
        return self.run("--local-user", name, *options, "--sign", stdin=data)

    def encrypt(self, data: bytes, passphrase: str, *options: str, file: Path | None = None) -> bytes:
        """Return ``data``, or the content of ``file``, encrypted under ``passphrase``."""
        command: list[str | Path] = [
            "gpg",
            "--homedir",
            self.home,
            "--batch",
            "--quiet",
            "--no-tty",
            "--pinentry-mode=loopback",
        ]
        done = subprocess.run(
            [*command, "--passphrase", passphrase, *options, "--symmetric", *([file] if file else [])],
            input=data,
            capture_output=True,
            check=True,
        )
        return done.stdout

    def revoke(self, fingerprint: str, reason: int) -> None:
        """Revoke the key by the certificate gpg made with it; ``reason``: 1 compromised, 2 superseded, 3 retired."""
        dialogue = f"y\n{reason}\n\ny\n".encode()
        certificate = self._dialogue("--gen-revoke", fingerprint, dialogue)
        self.run("--import", stdin=certificate)

    def revoke_subkey(self, name: str) -> None:
        """Revoke the first subkey of ``name``."""
        self._dialogue("--edit-key", name, b"key 1\nrevkey\ny\n2\n\ny\nsave\n")

    def _dialogue(self, verb: str, name: str, answers: bytes) -> bytes:
        command: list[str | Path] = [
            "gpg",
            "--homedir",
            self.home,
            "--no-tty",
            "--quiet",
            "--pinentry-mode=loopback",
            "--passphrase=",
        ]
        done = subprocess.run(
            [*command, "--command-fd=0", "--yes", "--armor", verb, name],
            input=answers,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


@contextmanager
def gpg_home() -> Iterator[Gpg]:
    """Give a fresh GnuPG home; afterwards its agent has ended and it is gone."""
    home = Path(tempfile.mkdtemp(prefix="pk", dir="/tmp"))
    try:
        yield Gpg(home)
    finally:
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], capture_output=True, check=False)
        while home.exists():  # the agent takes its sockets away while it ends, at times just before we do
            shutil.rmtree(home, ignore_errors=True)


def pem(key: Key, form: str = "PKCS8", password: bytes = b"", encoding: str = "PEM") -> bytes:
    """Return ``key`` as a file: ``form`` "PKCS8" or "TraditionalOpenSSL" (PKCS #1, SEC 1)."""
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(
        getattr(serialization.Encoding, encoding), getattr(serialization.PrivateFormat, form), protection
    )


def public_pem(key: Key) -> bytes:
    """Return the public half, for those who encrypt."""
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def unarmoured(text: bytes) -> bytes:
    """Return the bytes of an armoured block, read by Python's own base64."""
    body = re.sub(rb"\A.*?\n\n|\n=[A-Za-z0-9+/]{4}\n.*\Z", b"", text, flags=re.DOTALL)
    return base64.b64decode(body)
