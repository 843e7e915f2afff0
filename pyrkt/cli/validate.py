"""``pyrkt validate``: whether a document is what its specification says, all of what is wrong, each with its place."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyrkt.base import fastjson
from pyrkt.base.errors import InvalidSpec, NotFound, PyrktError, printable
from pyrkt.base.reader import kind_of
from pyrkt.cli import show
from pyrkt.spec import appc, image, pair, runtime
from pyrkt.trust.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

_STRICT: dict[str, Callable[[bytes, str], object]] = {
    "appc-image": appc.parse_image_manifest,
    "appc-pod": appc.parse_pod_manifest,
    "containers-policy": Policy.parse,
    "oci-image-config": image.parse_config,
    "oci-index": lambda data, document: image.parse_manifest(data, None, document),
    "oci-manifest": lambda data, document: image.parse_manifest(data, None, document),
    "oci-runtime": runtime.parse_config,
}
"""Our readers: stricter than a schema can be. The documents that have none are judged by their schema alone."""
_TYPES = (*sorted(_STRICT), "oci-2015-config", "oci-2015-runtime", "oci-layout")


@click.command()
@click.option("--type", "kind", type=click.Choice(_TYPES), help="What the files are. Default: what they look like.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
def validate(kind: str | None, files: tuple[str, ...]) -> None:
    """Judge documents: manifests of images and pods, indexes, image configurations, bundles, layouts, policies.

    A directory stands for the config.json (and runtime.json) of the bundle in it.
    """
    bad = 0
    for path in _documents(files):
        chosen, problems = judge(_read(path), str(path), kind)
        if chosen == "oci-2015-config" and not problems:
            problems = _judge_pair(path)
        bad += bool(problems)
        for problem in problems or [f"{path}: valid ({_schema(chosen)['title']})"]:
            show.out(f"{printable(problem)}\n")
    if bad:
        raise InvalidSpec(f"{bad} document(s) are not valid", hint="each line above names the place in one")


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
        bundle = [path / name for name in ("config.json", "runtime.json") if (path / name).exists()]
        found += bundle if path.is_dir() and bundle else [path]
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file", hint="name a JSON document or the directory of a bundle") from None


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
