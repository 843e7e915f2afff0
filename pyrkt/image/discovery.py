"""Meta discovery: from an appc name to the URLs of its image, signature and keys (appc 0.8.11, discovery.md).

The page at ``https://NAME?ac-discovery=1`` says by ``<meta name="ac-discovery" content="PREFIX TEMPLATE">`` where
images of names that begin with PREFIX lie, and by ``ac-discovery-pubkeys`` where their keys do. Where the page is
missing or says nothing fitting, the parent path is asked, up to the host.
"""

from __future__ import annotations

import html
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urljoin

from pyrkt.base.errors import NoPermission, NotFound, Unavailable
from pyrkt.image.http import Client, NobodyThere, NotTLS, Origin, Request, origin_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyrkt.image.credentials import Credentials
    from pyrkt.image.reference import AppcRef

_Found = TypeVar("_Found")
_PAGE = 1 << 20
MAX_KEY = 1 << 20
"""Bytes of a public key."""
_TAGS = 64
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_META = re.compile(r"<meta\s([^<>]*)>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""([a-zA-Z-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""")
_VARIABLE = re.compile(r"\{[^{}]*\}")

# uname -m, and what appc calls it (appc 0.8.11, labels).
ARCHITECTURES = {
    "x86_64": "amd64", "i386": "i386", "i686": "i386", "aarch64": "aarch64", "armv7l": "armv7l", "armv6l": "armv6l",
    "ppc64le": "ppc64le", "s390x": "s390x",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an image and its detached signature are said to lie."""

    image: str
    signature: str


@dataclass(frozen=True, slots=True)
class Meta:
    """One tag: ``kind`` is "ac-discovery" or "ac-discovery-pubkeys"."""

    kind: str
    prefix: str
    target: str


def images(client: Client, reference: AppcRef, machine: str, credentials: Credentials) -> list[Endpoint]:
    """Return where the image may lie, best first; ``machine`` is the host's ``uname -m``, for its default labels.

    Raises: NotFound if no page says so, with what was asked; Unavailable, NoPermission.
    """
    values = {"os": "linux", "arch": ARCHITECTURES.get(machine, machine), "version": "latest"}
    values |= reference.wanted() | {"name": reference.name}

    def pick(metas: list[Meta]) -> list[Endpoint]:
        found = []
        for meta in metas:
            if meta.kind == "ac-discovery" and reference.name.startswith(meta.prefix):
                image = fill(meta.target, values | {"ext": "aci"})
                signature = fill(meta.target, values | {"ext": "aci.asc"})
                if image and signature and image != signature:
                    found.append(Endpoint(image, signature))
        return sorted(found, key=lambda endpoint: not endpoint.image.startswith("https:"))

    return _walk(client, reference.name, credentials, pick)


def keys(client: Client, name: str, credentials: Credentials) -> list[str]:
    """Return the URLs of the keys that sign images called ``name`` or below it. Raises: as ``images``."""

    def pick(metas: list[Meta]) -> list[str]:
        return [meta.target for meta in metas if meta.kind == "ac-discovery-pubkeys" and name.startswith(meta.prefix)]

    return _walk(client, name, credentials, pick)


def fetch_key(client: Client, url: str, credentials: Credentials) -> bytes:
    """Return the public key at ``url``. Raises: NotFound, NoPermission, Unavailable."""
    answer, body = client.get(Request(url=url, authorization=authorization(url, credentials)), MAX_KEY)
    if answer.status in {401, 403}:
        raise NoPermission(f"{url}: answers {answer.status}", hint="credentials for the host belong into auth.d")
    if answer.status in {404, 410}:
        raise NotFound(f"{url}: answers {answer.status}", hint="give a key file: pyrkt trust --prefix=NAME KEYFILE")
    if answer.status != 200:
        raise Unavailable(f"{url}: answers {answer.status}")
    return body


def _walk(
    client: Client, name: str, credentials: Credentials, pick: Callable[[list[Meta]], list[_Found]]
) -> list[_Found]:
    asked: list[str] = []
    parts = name.split("/")
    for count in range(len(parts), 0, -1):
        path = "/".join(parts[:count])
        page = _page(client, path, credentials, asked)
        if page is not None and (found := pick(page)):
            return found
    raise NotFound(
        f"{name}: discovery found nothing; asked {', '.join(asked)}",
        hint="the page needs a meta tag ac-discovery whose prefix begins the name and whose template can be filled",
    )


def _page(client: Client, path: str, credentials: Credentials, asked: list[str]) -> list[Meta] | None:
    """Return the tags of the page at ``path``; None if there is no such page."""
    url = f"https://{path}?ac-discovery=1"
    try:
        return _metas(client, url, credentials, asked)
    except (NotTLS, NobodyThere):
        if "http" not in client.insecure:
            raise
        return _metas(client, f"http://{path}?ac-discovery=1", credentials, asked)


def _metas(client: Client, url: str, credentials: Credentials, asked: list[str]) -> list[Meta] | None:
    answer, body = client.get(Request(url=url, authorization=authorization(url, credentials)), _PAGE)
    asked.append(f"{url} ({answer.status})")
    if answer.status in {401, 403}:
        raise NoPermission(f"{url}: answers {answer.status}", hint="credentials for the host belong into auth.d")
    if answer.status >= 500:
        raise Unavailable(f"{url}: answers {answer.status}")
    return parse(body.decode("utf-8", "replace"), answer.url) if answer.status == 200 else None


def authorization(url: str, credentials: Credentials) -> str:
    """Return what to say to the host of ``url``: its credential for ACIs, with the port or, on 443, without."""
    origin: Origin = origin_of(url)
    found = credentials.for_host(str(origin)) or (credentials.for_host(origin.host) if origin.port == 443 else None)
    return found.header() if found else ""


def parse(text: str, base: str) -> list[Meta]:
    """Return the tags of discovery in the page ``text``, in order; relative targets are taken from ``base``."""
    found: list[Meta] = []
    for tag in _META.finditer(_COMMENT.sub("", text)):
        attributes: dict[str, str] = {}
        for match in _ATTRIBUTE.finditer(tag[1]):
            value = next((group for group in match.groups()[1:] if group is not None), "")
            attributes.setdefault(match[1].lower(), html.unescape(value))
        kind = attributes.get("name", "").lower()
        words = attributes.get("content", "").split()
        if kind in {"ac-discovery", "ac-discovery-pubkeys"} and len(words) == 2:
            with suppress(ValueError):  # urljoin's, of brackets that do not match: then there is no such place
                target = words[1] if "://" in words[1].partition("{")[0] else urljoin(base, words[1])
                found.append(Meta(kind, words[0], target))
        if len(found) == _TAGS:
            break
    return found


def fill(template: str, values: Mapping[str, str]) -> str:
    """Return ``template`` with its variables replaced; "" if one has no value (the template is then not for us)."""

    def value(match: re.Match[str]) -> str:
        # A version such as "1 2" or "1?x" must not change which part of the URL it is.
        return quote(values[match[0][1:-1]], safe="/:@!$&'()*+,;=~") if match[0][1:-1] in values else match[0]

    # A template's braces in turn: a value that holds braces is not looked at again.
    filled = _VARIABLE.sub(value, template)
    return "" if any(match[0][1:-1] not in values for match in _VARIABLE.finditer(template)) else filled
