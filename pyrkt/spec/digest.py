"""Digest: the name of content by its hash, as OCI and Docker write it ("sha256:<64 hex digits>")."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NewType

from pyrkt.base.errors import InvalidSpec, printable

if TYPE_CHECKING:
    from hashlib import _Hash

Digest = NewType("Digest", str)
"""Checked text: whoever holds a Digest may use its parts as file names (CVE-2024-3727 was a digest that was not)."""

# The two algorithms that image-spec 1.1 registers and requires; lower case only, no other length.
_SYNTAX = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)


def parse_digest(text: str, document: str = "digest") -> Digest:
    """Return ``text`` as a Digest.

    Raises: InvalidSpec, naming ``document``, if it is anything but sha256 or sha512 in lower-case hex.
    Source: image-spec 1.1, descriptor.md, "Digests" and "Registered Algorithms".
    """
    if _SYNTAX.fullmatch(text):
        return Digest(text)
    raise InvalidSpec(printable(problem_of(text)), document=document, rule="image-spec 1.1, Digests")


def problem_of(text: str) -> str:
    """Return why ``text`` is not a Digest; empty if it is one."""
    if _SYNTAX.fullmatch(text):
        return ""
    name, colon, encoded = text.partition(":")
    shown = text if len(text) <= 150 else f"{text[:150]}…"
    if not colon:
        return f"{shown!r} is not a digest (algorithm:hex)"
    if name not in {"sha256", "sha512"}:
        return f"{name[:40]!r} is not a digest algorithm in use: sha256, sha512"
    if len(encoded) != hashlib.new(name).digest_size * 2:
        return f"{shown!r} has {len(encoded)} digits instead of {hashlib.new(name).digest_size * 2}"
    return f"{shown!r} is not lower-case hexadecimal"


def algorithm(digest: Digest) -> str:
    """Return "sha256" or "sha512"."""
    return digest.partition(":")[0]


def hexpart(digest: Digest) -> str:
    """Return the 64 or 128 hex digits."""
    return digest.partition(":")[2]


def hasher(digest: Digest) -> _Hash:
    """Return a fresh hash object of the digest's algorithm, to be fed with the content."""
    return hashlib.new(algorithm(digest), usedforsecurity=True)


def of_bytes(data: bytes, name: str = "sha256") -> Digest:
    """Return the digest of ``data`` by the algorithm ``name``."""
    return Digest(f"{name}:{hashlib.new(name, data).hexdigest()}")


def of_hasher(hashed: _Hash) -> Digest:
    """Return the digest that a hash object stands at."""
    return Digest(f"{hashed.name}:{hashed.hexdigest()}")
