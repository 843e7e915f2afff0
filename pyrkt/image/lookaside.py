"""Lookaside stores: where simple signatures of registry images lie, by the files of registries.d.

Source: containers-registries.d(5) and the signature layout of containers/image: signature N of an image is at
``BASE/NAMESPACE/NAME@ALGORITHM=HEX/signature-N``. The files are YAML of two or three plain levels; what goes beyond
is refused, since a signature store that was overlooked reads as "not signed".
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from pyrkt.base.errors import InvalidSpec, NoPermission, Unavailable
from pyrkt.image.http import Client, Request
from pyrkt.spec.digest import Digest, algorithm, hexpart
from pyrkt.trust.policy import MAX_SIGNATURES, Signature

if TYPE_CHECKING:
    from pyrkt.base.dirs import ConfigDirs
    from pyrkt.trust.policy import DockerImage

_LIMIT = 4 << 20
"""Bytes of a signature (containers/image has the same cap)."""
_NAMES = frozenset({
    "lookaside", "lookaside-staging", "sigstore", "sigstore-staging", "use-sigstore-attachments"
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stores:
    """What registries.d says: the store of each scope, and of all others ("" if none is named)."""

    scopes: dict[str, str]
    default: str


def directories(dirs: ConfigDirs) -> tuple[str, ...]:
    """Return the directory that counts for the caller: ours, else his own, else the machine's."""
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    own = [f"{path}/registries.d" for path in reversed(dirs.lightest_first())]
    return (*own, f"{config}/containers/registries.d", "/etc/containers/registries.d")


def load(dirs: ConfigDirs) -> Stores:
    """Return what the ``*.yaml`` of the first registries.d that exists say. Raises: InvalidSpec, NoPermission."""
    found = Stores({}, "")
    for directory in directories(dirs):
        try:
            names = sorted(name for name in os.listdir(directory) if name.endswith(".yaml"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            raise NoPermission(f"{directory}: {error.strerror}") from None
        for name in names:
            path = f"{directory}/{name}"
            with open(path, encoding="utf-8", errors="strict") as file:
                found = _merged(found, parse(file.read(), path), path)
        break
    return found


def _merged(found: Stores, more: Stores, path: str) -> Stores:
    if twice := set(found.scopes) & set(more.scopes):
        raise InvalidSpec(f"scope {min(twice)!r} is in another file too", document=path)
    if found.default and more.default:
        raise InvalidSpec("default-docker is in another file too", document=path)
    return Stores(found.scopes | more.scopes, found.default or more.default)


def parse(text: str, document: str) -> Stores:
    """Read one file. Raises: InvalidSpec."""
    scopes: dict[str, str] = {}
    default = ""
    for keys, value, number in _lines(text, document):
        where = f"line {number}"
        if keys[-1] not in _NAMES or not ((keys[0] == "docker" and len(keys) == 3) or keys[:-1] == ["default-docker"]):
            raise InvalidSpec(f"unknown setting {'.'.join(keys)!r}", document=document, where=where)
        if keys[-1] in {"lookaside", "sigstore"}:
            if keys[0] == "default-docker":
                default = value
            elif scopes.setdefault(keys[1], value) != value:
                raise InvalidSpec(f"two stores for {keys[1]!r}", document=document, where=where)
    return Stores(scopes, default)


def _lines(text: str, document: str) -> list[tuple[list[str], str, int]]:
    """Return (path of keys, value, line number) of every setting in a block mapping of YAML."""
    found: list[tuple[list[str], str, int]] = []
    open_keys: list[tuple[int, str]] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.split(" #")[0].rstrip()
        if not line.strip() or line.lstrip().startswith("#") or line == "---":
            continue
        indent = len(line) - len(line.lstrip(" "))
        key, value = _pair(line.strip(), document, number)
        while open_keys and open_keys[-1][0] >= indent:
            open_keys.pop()
        if bool(indent) != bool(open_keys):
            raise InvalidSpec("indented as nothing before it", document=document, where=f"line {number}")
        path = [*(name for _, name in open_keys), key]
        if value:
            found.append((path, value, number))
        else:
            open_keys.append((indent, key))
    return found


def _pair(line: str, document: str, number: int) -> tuple[str, str]:
    if line.endswith(":"):
        key, value = line[:-1], ""
    else:
        key, separator, value = line.partition(": ")
        value = _scalar(value.strip())
        if not separator or not value or value[0] in "[{&*|>!%@`":
            raise InvalidSpec("more YAML than pyrkt reads here", document=document, where=f"line {number}")
    key = _scalar(key.strip())
    if not key or key[0] in "-[{?&*!":
        raise InvalidSpec("more YAML than pyrkt reads here", document=document, where=f"line {number}")
    return key, value


def _scalar(text: str) -> str:
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"" else text


def store_for(image: DockerImage, stores: Stores) -> str:
    """Return the URL of the signature store of ``image``: that of its most exact scope, or the built-in default."""
    for scope in image.scopes():
        if scope in stores.scopes:
            return stores.scopes[scope]
    if stores.default:
        return stores.default
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return "file:///var/lib/containers/sigstore" if os.geteuid() == 0 else f"file://{data}/containers/sigstore"


def signatures(client: Client, image: DockerImage, digest: Digest, dirs: ConfigDirs) -> list[Signature]:
    """Return the signatures that the lookaside store of ``image`` has for the manifest ``digest``.

    Raises: Unavailable if the store cannot be read (then nobody knows whether there are any), InvalidSpec for
    registries.d or a store's URL.
    """
    base = store_for(image, load(dirs))
    scheme = urlsplit(base).scheme
    if scheme not in {"file", "http", "https"}:
        raise InvalidSpec(f"{base!r} is not a file, http or https URL", document="registries.d", where="lookaside")
    found: list[Signature] = []
    for number in range(1, MAX_SIGNATURES + 2):
        url = f"{base.rstrip('/')}/{quote(image.repo)}@{algorithm(digest)}={hexpart(digest)}/signature-{number}"
        blob = _read_file(url) if scheme == "file" else _read_url(client, url)
        if blob is None:
            break
        found.append(Signature("simple", blob, url))
    return found


def _read_file(url: str) -> bytes | None:
    path = unquote(urlsplit(url).path)
    try:
        with open(path, "rb") as file:
            return file.read(_LIMIT)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from None


def _read_url(client: Client, url: str) -> bytes | None:
    answer, body = client.get(Request(url=url), _LIMIT)
    if answer.status in {404, 410}:
        return None
    if answer.status != 200:
        raise Unavailable(f"{url}: the signature store answers {answer.status}")
    return body
