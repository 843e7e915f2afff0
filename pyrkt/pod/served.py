"""What the metadata service of a pod serves: the reified manifest, and the image manifests that its apps are from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyrkt.base import fastjson
from pyrkt.base.atomic import write_file
from pyrkt.metadata.documents import IMAGE_MANIFEST, routes
from pyrkt.metadata.table import decode, encode
from pyrkt.pod.service import FILE
from pyrkt.spec import appc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyrkt.store import ImageRecord, Store


def table(uuid: str, token: str, manifest: appc.PodManifest, images: Mapping[str, bytes]) -> bytes:
    """Return the table of pod ``uuid``, whose manifest is served as it is written in its directory."""
    return encode(uuid, token, routes(uuid, said(manifest), images))


def renew(path: str, manifest: appc.PodManifest, added: Mapping[str, bytes]) -> None:
    """Have the running pod in the directory ``path`` serve ``manifest`` from when its next app is added or removed on.

    ``added`` holds the image manifests of the apps that are new in it. The token stays.
    """
    with open(f"{path}/{FILE}", "rb") as file:
        uuid, token, old = decode(file.read())
    names = {IMAGE_MANIFEST.format(app.name): app.name for app in manifest.apps}
    kept = {names[route.path]: route.body for route in old if route.path in names}
    write_file(f"{path}/{FILE}", table(uuid, token, manifest, {**kept, **added}), durable=False)


def said(manifest: appc.PodManifest) -> bytes:
    """Return the text of a pod's manifest."""
    return fastjson.dumps(manifest.dump()).encode()


def images(manifest: appc.PodManifest, records: Sequence[ImageRecord], store: Store) -> dict[str, bytes]:
    """Return each app's image manifest, by the app's name; ``records`` are in the order of the apps."""
    return {
        app.name: _stored(record, store) if record.kind == "appc" else _in_appcs_words(app)
        for app, record in zip(manifest.apps, records, strict=True)
    }


def _stored(record: ImageRecord, store: Store) -> bytes:
    """Return the manifest of an ACI, byte for byte as its author signed it."""
    with store.blobs.open(record.manifest) as file:
        return file.read()


def _in_appcs_words(app: appc.PodApp) -> bytes:
    """Return a manifest for an image that has none of appc's: what runs, under its name and with its labels."""
    manifest = appc.ImageManifest(name=app.image_name or app.name, labels=app.image_labels, app=app.app)
    return fastjson.dumps(manifest.dump()).encode()
