"""Image identities as policies and signatures write them: references, the scopes above them, and what matches what.

Source: containers-policy.json(5), "signedIdentity"; the reference grammar of the distribution project. References must
be written in full, host first, as every signer does: no default host is filled in here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyrkt.base.errors import UsageError

if TYPE_CHECKING:
    from pyrkt.base.reader import Reader

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_NAME = rf"{_HOST}(?:/{_COMPONENT})+"
_REFERENCE = re.compile(
    rf"(?P<name>{_NAME})(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?"
    r"(?:@(?P<digest>[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-fA-F]{32,}))?"
)
_PREFIX = re.compile(rf"{_HOST}(?:/{_COMPONENT})*")
_MAX_NAME = 255


@dataclass(frozen=True, slots=True)
class Named:
    """A reference taken apart: ``name`` is host and repository; ``tag`` and ``digest`` may be empty."""

    name: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        """Return the reference in writing."""
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def name_only(self) -> bool:
        """Whether it says nothing about which image of the repository."""
        return not self.tag and not self.digest


@dataclass(frozen=True, slots=True)
class DockerImage:
    """An image as it was asked for in a registry. With a digest, the tag is only decoration, as for every client."""

    host: str
    repo: str
    tag: str = ""
    digest: str = ""

    transport = "docker"

    @property
    def named(self) -> Named | None:
        """Return what signatures have to match."""
        return Named(f"{self.host}/{self.repo}", "" if self.digest else self.tag or "latest", self.digest)

    def scopes(self) -> tuple[str, ...]:
        """Return where a policy may speak about this image, the most exact scope first."""
        named = Named(f"{self.host}/{self.repo}")
        found = [str(self.named)]
        name = named.name
        while "/" in name:
            found.append(name)
            name = name.rpartition("/")[0]
        found.append(name)
        # A port is no part of a wildcard; an address in brackets has no domains above it.
        host = name.partition(":")[0] if not name.startswith("[") else ""
        while "." in host:
            host = host.partition(".")[2]
            found.append(f"*.{host}")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class LayoutImage:
    """An image of a directory: ``transport`` "oci" (an image layout) or "dir"; ``path`` is absolute and resolved."""

    path: str
    transport: str = "oci"

    named = None
    """A directory has no reference of its own, so only exactReference and exactRepository can match."""

    def scopes(self) -> tuple[str, ...]:
        """Return the directory and those above it, except "/" (the scope "" is that)."""
        parts = self.path.rstrip("/").split("/")
        return tuple("/".join(parts[:count]) for count in range(len(parts), 1, -1))


Image = DockerImage | LayoutImage


def parse_named(text: str) -> Named | None:
    """Return the reference ``text``, or None if it is none written in full."""
    match = _REFERENCE.fullmatch(text)
    if not match or len(match["name"]) > _MAX_NAME:
        return None
    return Named(match["name"], match["tag"] or "", match["digest"] or "")


@dataclass(frozen=True, slots=True)
class Identity:
    """A signedIdentity: ``kind`` is its type, ``first`` and ``second`` its values, if it has any."""

    kind: str
    first: str = ""
    second: str = ""

    def matches(self, image: Image, reference: str) -> bool:
        """Tell whether a signature that names ``reference`` may vouch for ``image``."""
        signed = parse_named(reference)
        if signed is None:
            return False
        if self.kind == "exactReference":
            return not signed.name_only and str(signed) == self.first
        if self.kind == "exactRepository":
            return signed.name == self.first
        return image.named is not None and self._matches(image.named, signed)

    def _matches(self, asked: Named, signed: Named) -> bool:
        if self.kind == "matchRepository":
            return signed.name == asked.name
        if self.kind == "matchExact":
            return not signed.name_only and str(signed) == str(asked)
        if self.kind == "remapIdentity":
            asked = _remap(asked, self.first, self.second)
        return _repo_digest_or_exact(asked, signed)

    def __str__(self) -> str:
        """Return it as an error shows it."""
        return " ".join(part for part in (self.kind, self.first, self.second) if part)


DEFAULT = Identity("matchRepoDigestOrExact")
_VALUES = {
    "matchExact": (),
    "matchRepoDigestOrExact": (),
    "matchRepository": (),
    "exactReference": ("dockerReference",),
    "exactRepository": ("dockerRepository",),
    "remapIdentity": ("prefix", "signedPrefix"),
}


def parse(r: Reader) -> Identity:
    """Return the signedIdentity ``r``; strict. Raises: InvalidSpec."""
    kind = r["type"].choice(tuple(_VALUES))
    names = _VALUES[kind]
    for name, value in r.members():
        if name not in ("type", *names):
            raise value.fail(f"unknown member of {kind}")
    values = [_value(r[name]) for name in names]
    return Identity(kind, *values)


def _value(r: Reader) -> str:
    text = r.text()
    named = parse_named(text)
    name = r.where.rpartition(".")[2]
    if name == "dockerReference" and (named is None or named.name_only):
        raise r.fail(f"{text!r} is no reference with host and tag or digest")
    if name == "dockerRepository" and (named is None or not named.name_only):
        raise r.fail(f"{text!r} is no repository with its host")
    if name in ("prefix", "signedPrefix") and not _PREFIX.fullmatch(text):
        raise r.fail(f"{text!r} is neither a host nor a namespace or repository with its host")
    return text


def _remap(asked: Named, prefix: str, signed_prefix: str) -> Named:
    if asked.name == prefix or asked.name.startswith(prefix + "/"):
        return Named(signed_prefix + asked.name[len(prefix) :], asked.tag, asked.digest)
    return asked


def _repo_digest_or_exact(asked: Named, signed: Named) -> bool:
    if signed.name_only:
        return False
    if asked.digest:  # that the digest is right is checked against the manifest itself
        return signed.name == asked.name
    return str(signed) == str(asked)


def check_image(image: Image) -> None:
    """Raise UsageError if ``image`` could not be written as a reference, so that no scope is searched for it."""
    if isinstance(image, LayoutImage):
        if not image.path.startswith("/"):
            raise UsageError(f"{image.path!r} is not absolute")
    elif parse_named(str(image.named)) is None:
        raise UsageError(f"{str(image.named)!r} is no image reference")
