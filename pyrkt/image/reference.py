"""References: every way to name an image, parsed to a value that prints itself in one normal form.

    docker://[host[:port]/]name[:tag][@digest]   a registry (``docker:`` does too)
    oci:DIR[:TAG]                                an OCI image layout
    example.com/app[:version][,label=value...]   an appc name, found by discovery
    https://..., http://...                      an ACI at a URL
    FILE, file://...                             an ACI in a file
    sha512-HEX, sha256-HEX                       an image that is in the store already

``parse(str(reference)) == reference``. Sources: appc 0.8.11, types and discovery; the distribution project's
reference grammar; rkt 1.30, "Image reference forms".
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from pyrkt.base.errors import InvalidSpec, printable
from pyrkt.spec.digest import Digest, parse_digest

if TYPE_CHECKING:
    from collections.abc import Callable

HUB = "docker.io"
"""The host that a name without one means, as every peer has it. Its API and credentials go by other names:"""
HUB_API = "registry-1.docker.io"
HUB_ALIASES = ("index.docker.io", "registry-1.docker.io")
HUB_CREDENTIALS = "https://index.docker.io/v1/"
_HUB_NAMESPACE = "library"

MAX_LENGTH, MAX_PATH = 16384, 4095
"""Bytes of a reference, which has room for a percent-encoded path; and of that path (PATH_MAX less its NUL)."""

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:.]+\])(?::([0-9]{{1,5}}))?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_LAYOUT_TAG = re.compile(r"[A-Za-z0-9]+(?:(?:[-._:@/+]|--)[A-Za-z0-9]+)*")
_IDENTIFIER = re.compile(r"[a-z0-9]+(?:[-._~/][a-z0-9]+)*")
_ID = re.compile(r"(sha(?:256|512))[-:]([0-9a-f]*)")
_ID_LENGTH = {"sha256": 64, "sha512": 128}
_DOCKER_RULE = "distribution reference grammar"
_APPC_RULE = "appc 0.8.11, types"


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerRef:
    """A repository of a registry, and a tag or a digest in it; where both are there the digest decides."""

    host: str
    repository: str
    tag: str = ""
    digest: Digest | None = None

    @property
    def name(self) -> str:
        """``host/repository``: what signatures and stored images call it."""
        return f"{self.host}/{self.repository}"

    @property
    def pointer(self) -> str:
        """What to ask the registry for: the digest if there is one, else the tag."""
        return self.digest or self.tag

    def __str__(self) -> str:
        """Return the whole reference, host and tag included."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"docker://{self.name}{tag}{digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutRef:
    """An OCI image layout: an absolute directory, and the name of an image in it ("" for the only one)."""

    path: str
    tag: str = ""

    def __str__(self) -> str:
        """Return ``oci:DIR[:TAG]``."""
        return f"oci:{self.path}" + (f":{self.tag}" if self.tag else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class AppcRef:
    """An appc name with what is asked of its labels; ``labels`` is sorted and never holds the version."""

    name: str
    version: str = ""
    labels: tuple[tuple[str, str], ...] = ()

    def wanted(self) -> dict[str, str]:
        """Return every label asked for, the version among them."""
        return dict(self.labels) | ({"version": self.version} if self.version else {})

    def __str__(self) -> str:
        """Return ``name:version,label=value``; characters of the grammar itself are percent-encoded in values."""
        version = f":{_encode(self.version)}" if self.version else ""
        return self.name + version + "".join(f",{name}={_encode(value)}" for name, value in self.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlRef:
    """An ACI at an http or https URL."""

    url: str

    def __str__(self) -> str:
        """Return the URL."""
        return self.url


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRef:
    """An ACI in a file, by its absolute path."""

    path: str

    def __str__(self) -> str:
        """Return the path; as a file URL where its characters would be refused in a reference."""
        return self.path if _is_plain(self.path) else "file://" + quote(self.path, errors="surrogateescape")


@dataclass(frozen=True, slots=True, kw_only=True)
class IdRef:
    """A stored image by (the beginning of) its id: ``sha512-HEX``, ``sha256-HEX``."""

    id: str

    def __str__(self) -> str:
        """Return the id."""
        return self.id


Reference = DockerRef | LayoutRef | AppcRef | UrlRef | FileRef | IdRef


def parse(text: str, cwd: str | None = None) -> Reference:
    """Return what ``text`` names; relative paths are taken from ``cwd`` (default: the current directory).

    An existing file wins over discovery of an appc name that is spelt the same, as in rkt.
    Raises: InvalidSpec if ``text`` follows none of the grammars.
    """
    if len(os.fsencode(_encodable(text))) > MAX_LENGTH:
        raise _bad(text[:64] + "...", f"longer than {MAX_LENGTH} bytes")
    if not _is_plain(text):
        raise _bad(text, "is empty, or has spaces around it or control characters in it")
    scheme, colon, rest = text.partition(":")
    if colon and scheme in _SCHEMES:
        return _SCHEMES[scheme](text, rest, cwd)
    if match := _ID.fullmatch(text):
        return _identity(text, match[1], match[2])
    if text.startswith(("/", "./", "../")):
        return _file(text, text, cwd)
    if (path := _existing(text, cwd)) is not None:
        return FileRef(path=path)
    return _appc(text)


def _is_plain(text: str) -> bool:
    # Lone surrogates (a file name that is not UTF-8, from argv) are unprintable and yet legal in a path.
    return bool(text) and text == text.strip() and not any(ord(c) < 32 or ord(c) == 127 for c in text)


def _encodable(text: str) -> str:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise _bad(text, "is not text that a path or a URL can hold") from None
    return text


def _bad(text: str, problem: str, *, rule: str = "", hint: str = "") -> InvalidSpec:
    return InvalidSpec(f"{printable(text)!r} {problem}", document="image reference", rule=rule, hint=hint)


def _docker(text: str, rest: str, _cwd: str | None) -> DockerRef:
    rest = rest.removeprefix("//")
    name, at, digest_text = rest.partition("@")
    digest = parse_digest(digest_text, "image reference") if at else None
    path, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        path, tag = name, ""
    elif not _TAG.fullmatch(tag):
        raise _bad(text, f"has the tag {tag!r}", rule=_DOCKER_RULE, hint="letters, digits, _ . - and 128 at most")
    host, repository = _split_host(text, path)
    if not _REPOSITORY.fullmatch(repository):
        hint = "names are lower case" if repository != repository.lower() else "docker://[host[:port]/]name[:tag]"
        raise _bad(text, f"has the repository name {repository!r}", rule=_DOCKER_RULE, hint=hint)
    if host == HUB and "/" not in repository:
        repository = f"{_HUB_NAMESPACE}/{repository}"
    if len(host) + len(repository) > 254:
        raise _bad(text, "has a name of more than 255 characters", rule=_DOCKER_RULE)
    return DockerRef(host=host, repository=repository, tag=tag or ("" if digest else "latest"), digest=digest)


def _split_host(text: str, path: str) -> tuple[str, str]:
    """Return (host, repository); the first part is a host if it could not be part of a repository's name."""
    first, slash, rest = path.partition("/")
    if not slash or not (set(first) & set(".:[") or first == "localhost" or first != first.lower()):
        host, repository = HUB, path
    else:
        host, repository = first.lower(), rest
    match = _HOST.fullmatch(host)
    if not match or (match[1] and not 0 < int(match[1]) < 65536):
        raise _bad(text, f"has the host {host!r}", rule=_DOCKER_RULE)
    return (HUB if host in HUB_ALIASES else host), repository


def _layout(text: str, rest: str, cwd: str | None) -> LayoutRef:
    path, colon, tag = rest.partition(":")
    if not path:
        raise _bad(text, "names no directory", hint="oci:DIR[:TAG]")
    if colon and not _LAYOUT_TAG.fullmatch(tag):
        raise _bad(text, f"has the tag {tag!r}", rule="image-spec 1.1, annotations, org.opencontainers.image.ref.name")
    absolute = _absolute(text, path, cwd)
    if ":" in absolute or not _is_plain(absolute):
        raise _bad(text, f"lies in {absolute!r}: a colon there would read as the start of a tag")
    return LayoutRef(path=absolute, tag=tag)


def _url(text: str, _rest: str, _cwd: str | None) -> UrlRef:
    try:
        parts = urlsplit(text)
        port = f":{parts.port}" if parts.port else ""
    except ValueError as error:
        raise _bad(text, f"is not a URL: {error}") from None
    if not text.isascii() or not text.isprintable() or set(text) & set(' \\"<>'):
        raise _bad(text, "has characters that a URL has to percent-encode")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    if not _HOST.fullmatch(host):
        raise _bad(text, "is a URL without a host", rule="RFC 3986")
    if "@" in parts.netloc:
        raise _bad(text, "carries a password", hint="put credentials into auth.d of the configuration directory")
    query = f"?{parts.query}" if parts.query else ""
    return UrlRef(url=f"{parts.scheme}://{host}{port}{parts.path or '/'}{query}")


def _file_url(text: str, rest: str, cwd: str | None) -> FileRef:
    path = rest
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host not in {"", "localhost"}:
            raise _bad(text, f"names a file on the host {host!r}", hint="file:///absolute/path")
        path = slash + path
    return _file(text, unquote(path, errors="surrogateescape"), cwd)


def _file(text: str, path: str, cwd: str | None) -> FileRef:
    if not path or "\0" in path:
        raise _bad(text, "names no file")
    return FileRef(path=_absolute(text, path, cwd))


def _absolute(text: str, path: str, cwd: str | None) -> str:
    try:
        # Joined, not normalised: "a/../b" is not "b" where a is a link.
        absolute = path if path.startswith("/") else f"{(cwd or os.getcwd()).rstrip('/')}/{path}"
    except FileNotFoundError:
        raise _bad(text, "is relative to a directory that was removed") from None
    if len(os.fsencode(_encodable(absolute))) > MAX_PATH:
        raise _bad(text[:64] + "...", f"is a path of more than {MAX_PATH} bytes")
    return absolute


def _existing(text: str, cwd: str | None) -> str | None:
    try:
        path = os.path.join(cwd or os.getcwd(), text)
    except FileNotFoundError:
        return None
    return path if os.path.isfile(path) else None


def _identity(text: str, algorithm: str, digits: str) -> IdRef:
    if not 2 <= len(digits) <= _ID_LENGTH[algorithm]:
        raise _bad(text, f"is an image id of {len(digits)} digits", hint=f"2 to {_ID_LENGTH[algorithm]} hex digits")
    return IdRef(id=f"{algorithm}-{digits}")


def _appc(text: str) -> AppcRef:
    head, *pairs = text.split(",")
    name, colon, version = head.partition(":")
    if not _IDENTIFIER.fullmatch(name) or name in _NOT_NAMES:
        hint = "names are lower case" if _IDENTIFIER.fullmatch(name.lower()) else "example.com/app[:version]"
        raise _bad(text, f"is no image name: {name!r}, and no file of that name is here", rule=_APPC_RULE, hint=hint)
    labels: dict[str, str] = {}
    for label, value in [("version", version)] * bool(colon) + [_label(text, pair) for pair in pairs]:
        if label in labels:
            raise _bad(text, f"gives the label {label!r} twice", rule=_APPC_RULE)
        labels[label] = _value(text, label, value)
    version = labels.pop("version", "")
    return AppcRef(name=name, version=version, labels=tuple(sorted(labels.items())))


def _label(text: str, pair: str) -> tuple[str, str]:
    label, equals, value = pair.partition("=")
    if not equals or not _IDENTIFIER.fullmatch(label) or label == "name":
        raise _bad(text, f"has the label {pair!r}", rule=_APPC_RULE, hint="name:version,label=value")
    return label, value


def _value(text: str, label: str, value: str) -> str:
    if ":" in value:
        raise _bad(text, f"has a colon in {label}", hint="one colon, between name and version; write others as %3A")
    plain = unquote(value, errors="replace")
    if not plain or not plain.isprintable() or "\ufffd" in plain:
        raise _bad(text, f"gives {label} no printable value")
    return plain


def _encode(value: str) -> str:
    return quote(value, safe="!$&'()*+;@/")


_SCHEMES: dict[str, Callable[[str, str, str | None], Reference]] = {
    "docker": _docker,
    "oci": _layout,
    "http": _url,
    "https": _url,
    "file": _file_url,
}
_NOT_NAMES = frozenset(_SCHEMES) | frozenset(_ID_LENGTH)  # with a version these would read as something else
