"""``pyrkt validate``: whether a document is what its specification says, all of what is wrong, each with its place.

Of an archive, an ACI, the first thing that is wrong is said: what comes after it in a stream means nothing.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyrkt.base import fastjson
from pyrkt.base.errors import ImageRefused, InvalidSpec, NotFound, PyrktError, printable
from pyrkt.base.reader import kind_of
from pyrkt.cli import show
from pyrkt.net import conf
from pyrkt.spec import appc, image, pair, runtime
from pyrkt.trust.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

_STRICT: dict[str, Callable[[bytes, str], object]] = {
    "appc-image": appc.parse_image_manifest,
    "appc-pod": appc.parse_pod_manifest,
    "cni-network": conf.parse,
    "cni-network-list": conf.parse,
    "containers-policy": Policy.parse,
    "oci-image-config": image.parse_config,
    "oci-index": lambda data, document: image.parse_manifest(data, None, document),
    "oci-manifest": lambda data, document: image.parse_manifest(data, None, document),
    "oci-runtime": runtime.parse_config,
}
"""Our readers: stricter than a schema can be. The documents that have none are judged by their schema alone."""
_ACI = "appc-aci"
_TYPES = (_ACI, *sorted(_STRICT), "oci-2015-config", "oci-2015-runtime", "oci-layout")
_MAGIC = ((0, b"\x1f\x8b"), (0, b"BZh"), (0, b"\xfd7zXZ\0"), (257, b"ustar"))
"""How an archive begins: gzip, bzip2, xz; the tar itself. Source: appc 0.8.11, Image Archives."""
_OPENPGP = {0x8C, 0xC3}
"""The first byte of a message under a passphrase (RFC 9580, 4.2 and 5.3): no JSON, and no tar, begins so."""
_BEGINNING = 512


@click.command()
@click.option("--type", "kind", type=click.Choice(_TYPES), help="What the files are. Default: what they look like.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
def validate(kind: str | None, files: tuple[str, ...]) -> None:
    """Judge documents: manifests of images and pods, indexes, image configurations, bundles, layouts, policies, ACIs.

    A directory stands for the config.json (and runtime.json) of the bundle in it, or the manifest of the image in it.
    """
    bad = 0
    for path in _documents(files):
        if kind == _ACI or (kind is None and _is_archive(path)):
            title, problems = "ACI", judge_aci(path)
        else:
            chosen, problems = judge(_read(path), str(path), kind)
            if chosen == "oci-2015-config" and not problems:
                problems = _judge_pair(path)
            title = _schema(chosen)["title"]
        bad += bool(problems)
        for problem in problems or [f"{path}: valid ({title})"]:
            show.out(f"{printable(problem)}\n")
    if bad:
        raise InvalidSpec(f"{bad} document(s) are not valid", hint="each line above names the place in one")


def _is_archive(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            begin = file.read(_BEGINNING)
    except FileNotFoundError:
        raise _absent(path) from None
    if begin and begin[0] in _OPENPGP:
        raise InvalidSpec(
            "is encrypted: nothing of it can be judged", document=str(path), hint="pyrkt fetch --decryption-key"
        )
    return any(begin.startswith(magic, offset) for offset, magic in _MAGIC)


def judge_aci(path: Path) -> list[str]:
    """Return what is wrong with an ACI: with its archive, which is unpacked for it as fetch does, or its manifest."""
    from pyrkt.image.unpack.aci import unpack_aci
    from pyrkt.kernel.process import gives_files_away
    from pyrkt.store.remove import remove_tree

    place = tempfile.mkdtemp(prefix="pyrkt-validate-")
    try:
        with path.open("rb", buffering=0) as file:
            found = unpack_aci(file, Path(place), owner="keep" if gives_files_away() else "caller")
    except ImageRefused as error:
        return [f"{path}: {error.message}"]
    finally:
        remove_tree(place)
    try:
        return judge(found.manifest, f"{path}: manifest", "appc-image")[1]
    except InvalidSpec as error:
        return [error.message]


def _judge_pair(path: Path) -> list[str]:
    """Return what is wrong with the halves of a bundle of 2015 together; one alone is judged by its schema."""
    other = path.with_name("runtime.json")
    if path.name != "config.json" or not other.exists():
        return []
    try:
        pair.parse_pair(_read(path), _read(other), str(path.parent))
    except InvalidSpec as error:
        return [error.message]
    return []


def _documents(names: tuple[str, ...]) -> list[Path]:
    found: list[Path] = []
    for path in map(Path, names):
        inside = [path / name for name in ("config.json", "runtime.json", "manifest") if (path / name).exists()]
        found += inside if path.is_dir() and inside else [path]
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise _absent(path) from None


def _absent(path: Path) -> NotFound:
    return NotFound(f"{path}: no such file", hint="name a JSON document, an ACI or the directory of a bundle")


def judge(data: bytes, document: str, kind: str | None = None) -> tuple[str, list[str]]:
    """Return what the document is (one of _TYPES), and a line for each thing that is wrong with it.

    Raises: InvalidSpec if it is not JSON, or nothing we know.
    """
    value = fastjson.loads(data, document)
    chosen = kind or recognise(value, document)
    problems = [
        f"{document}: {place}: {text}" if place else f"{document}: {text}" for place, text in _by_schema(chosen, value)
    ]
    if not problems and chosen in _STRICT:
        try:
            _STRICT[chosen](data, document)
        except PyrktError as error:
            problems.append(error.message)
    return chosen, problems


def recognise(value: Any, document: str) -> str:
    """Return the type of a document by the members that only this type has."""
    if not isinstance(value, dict):
        raise InvalidSpec(f"expected an object, got {kind_of(value)}", document=document)
    kind = {"ImageManifest": "appc-image", "PodManifest": "appc-pod"}.get(str(value.get("acKind")))
    if kind:
        return kind
    old = str(value.get("ociVersion", value.get("version", ""))).startswith("0.")
    for members, name in (
        ({"imageLayoutVersion"}, "oci-layout"),
        ({"schemaVersion", "layers"}, "oci-manifest"),
        ({"schemaVersion", "manifests"}, "oci-index"),
        ({"rootfs", "architecture"}, "oci-image-config"),
        ({"ociVersion"} if not old else {"process"}, "oci-2015-config" if old else "oci-runtime"),
        ({"linux", "mounts"}, "oci-2015-runtime"),
        ({"default"}, "containers-policy"),
        ({"name", "plugins"}, "cni-network-list"),
        ({"name", "type"}, "cni-network"),
    ):
        if members <= value.keys():
            return name
    raise InvalidSpec("looks like no document we know", document=document, hint="say what it is by --type")


@cache
def _schema(kind: str) -> dict[str, Any]:
    """Return the schema: in an installed package it lies inside, in a source tree beside it."""
    package = Path(__file__).resolve().parents[1]
    name = f"{kind}.schema.json"
    path = next(place for place in (package / "spec/schemas" / name, package.parent / "specs" / name) if place.exists())
    schema: dict[str, Any] = fastjson.loads(path.read_bytes(), name)
    return schema


def _by_schema(kind: str, value: Any) -> list[tuple[str, str]]:
    from jsonschema import Draft202012Validator

    errors = sorted(
        Draft202012Validator(_schema(kind)).iter_errors(value), key=lambda error: list(map(str, error.path))
    )
    return [(error.json_path.removeprefix("$").removeprefix("."), error.message[:300]) for error in errors]
