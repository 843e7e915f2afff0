"""What the metadata service of a pod serves: the reified manifest, and the image manifests that its apps are from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyrkt.base import fastjson
from pyrkt.metadata.documents import routes
from pyrkt.metadata.table import encode
from pyrkt.spec import appc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyrkt.store import ImageRecord, Store


def table(uuid: str, token: str, manifest: appc.PodManifest, images: Mapping[str, bytes]) -> bytes:
    """Return the table of pod ``uuid``, whose manifest is served as it is written in its directory."""
    return encode(uuid, token, routes(uuid, said(manifest), images))


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
