"""OpenPGP by gpg itself: keys, signatures and encryption for the tests, in a home of their own."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


class Gpg:
    """A gpg home below ``folder``; close it, since gpg leaves an agent running."""

    def __init__(self, folder: Path) -> None:
        if not shutil.which("gpg"):
            pytest.skip("needs gpg")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self.home = folder

    def run(self, *arguments: str) -> bytes:
        """Run gpg; return what it printed."""
        done = subprocess.run(
            ["gpg", "--homedir", str(self.home), "--batch", "--quiet", "--yes", "--pinentry-mode=loopback", *arguments],
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def make_key(self, name: str, *, expires: str = "never") -> bytes:
        """Make a signing key; return its public half, armoured."""
        address = f"{name}@example.com"
        self.run("--passphrase=", "--quick-generate-key", f"{name} <{address}>", "rsa2048", "sign", expires)
        return self.run("--armor", "--export", address)

    def sign(self, path: Path, name: str) -> bytes:
        """Return the armoured detached signature of a file."""
        return self.run("--passphrase=", "--armor", "--local-user", f"{name}@example.com", "--output", "-",
                        "--detach-sign", str(path))  # fmt: skip

    def encrypt(self, path: Path, passphrase: str) -> bytes:
        """Return the file encrypted with AES-256 under a passphrase, as the appc specification shows it."""
        return self.run("--passphrase", passphrase, "--symmetric", "--cipher-algo", "AES256", "--digest-algo",
                        "sha256", "--output", "-", str(path))  # fmt: skip

    def close(self) -> None:
        """Stop the agent."""
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], check=False)
