"""The documents of the metadata service, from a pod's manifest and those of its images.

Source: appc 0.8.11, executor, "App Container Metadata Service"; the ACE validator for the order of merged annotations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyrkt.base import fastjson
from pyrkt.base.reader import Reader
from pyrkt.metadata.table import JSON, TEXT, Route

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any


IMAGE_MANIFEST = "apps/{}/image/manifest"
"""The path of an app's image manifest."""


def routes(uuid: str, pod: bytes, images: Mapping[str, bytes]) -> tuple[Route, ...]:
    """Return what is served for pod ``uuid``: ``pod`` is its manifest, ``images`` holds each app's image manifest.

    Raises: InvalidSpec if one of them is no such document.
    """
    manifest = Reader(fastjson.loads(pod, "pod manifest"), "pod manifest")
    annotations = manifest["annotations"]
    found = [
        # null where the manifest has none: both are one value
        Route(path="pod/annotations", kind=JSON, body=_json(annotations.value if annotations.present else None)),
        Route(path="pod/manifest", kind=JSON, body=pod),
        Route(path="pod/uuid", kind=TEXT, body=uuid.encode()),
    ]
    for app in manifest["apps"].items():
        name = app["name"].text()
        found += _of_app(name, app, images[name])
    return tuple(found)


def _of_app(name: str, app: Reader, image: bytes) -> Iterator[Route]:
    manifest = Reader(fastjson.loads(image, "image manifest"), "image manifest")
    merged = merge(manifest["annotations"], app["annotations"])
    yield Route(path=f"apps/{name}/annotations", kind=JSON, body=_json(merged))
    yield Route(path=IMAGE_MANIFEST.format(name), kind=JSON, body=image)
    yield Route(path=f"apps/{name}/image/id", kind=TEXT, body=app["image"]["id"].text().encode())


def merge(image: Reader, app: Reader) -> list[dict[str, Any]]:
    """Return the image's annotations with those of the pod's app: one of the same name in its place, others behind."""
    found = {item["name"].text(): item["value"].text() for item in (*image.items(), *app.items())}
    return [{"name": name, "value": value} for name, value in found.items()]


def _json(value: object) -> bytes:
    return fastjson.dumps(value).encode()
