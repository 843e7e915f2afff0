"""Trees of stored images made anew, from the blobs that were proven when they were stored: no network, no keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyrkt.base.errors import ImageRefused, NotTrusted
from pyrkt.image.aci import nodes
from pyrkt.image.unpack.aci import render, unpack_aci
from pyrkt.image.unpack.layers import Staged, assemble, stored, unpack_layer
from pyrkt.kernel import process
from pyrkt.spec.image import Manifest, parse_config, parse_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from pyrkt.spec.digest import Digest
    from pyrkt.spec.image import Descriptor
    from pyrkt.store import ImageRecord, Store

_MAX_DOCUMENT = 8 << 20


def remake(store: Store, record: ImageRecord) -> None:
    """Make the trees of ``record`` that are missing, and those of the images that it depends on.

    Raises: NotTrusted for an image that was encrypted, whose key is not here; NotFound if a blob is gone, ImageRefused
    if it has changed; CannotCreate.
    """
    with store.hold():
        if record.kind == "appc":
            _remake_aci(store, record)
        else:
            _remake_layers(store, record)


def _check_plain(record: ImageRecord) -> None:
    if record.encrypted:
        raise NotTrusted(
            f"image {record.id[:19]} was encrypted, and its plain form is stored as a tree only",
            hint="fetch it again with its key: pyrkt fetch --pull-policy=update --decryption-key=KEY",
        )


def _owner() -> Literal["keep", "caller"]:
    return "keep" if process.gives_files_away() else "caller"


def _remake_aci(store: Store, record: ImageRecord) -> None:
    for identity in record.dependencies:
        _remake_aci(store, store.images.get(identity))
    if not store.trees.has(record.id):
        _check_plain(record)
        stage = store.trees.stage()
        try:
            result = unpack_aci(store.blobs.chunks(record.blobs[0]), stage, owner=_owner())
            if result.image_id != record.id:
                raise ImageRefused(f"blob {record.blobs[0]} makes image {result.image_id[:19]}, not {record.id[:19]}")
            meta = {"entries": result.checked, "size": result.size, "entries_count": result.entries}
            store.trees.commit(stage, record.id, meta)
        except BaseException:
            store.trees.discard(stage)
            raise
    render(store, nodes([record], store)[0])


def _remake_layers(store: Store, record: ImageRecord) -> None:
    manifest = parse_manifest(store.blobs.read(record.manifest, _MAX_DOCUMENT), "", f"manifest of {record.id[:19]}")
    if not isinstance(manifest, Manifest) or not record.config:
        raise ImageRefused(f"image {record.id[:19]} has no layers of its own", hint="fetch the image again")
    data = store.blobs.read(record.config, _MAX_DOCUMENT)
    diff_ids = parse_config(data, f"config of {record.id[:19]}").diff_ids
    known = stored(store, diff_ids)
    if None in known:
        _check_plain(record)
        _unpack(store, manifest.layers, known, diff_ids)


def _unpack(
    store: Store, layers: Sequence[Descriptor], known: Sequence[str | None], diff_ids: Sequence[Digest]
) -> None:
    stages = {number: store.trees.stage() for number, tree in enumerate(known) if tree is None}
    try:
        staged: list[Staged | str] = []
        for number, tree in enumerate(known):
            if tree is not None:
                staged.append(tree)
                continue
            chunks = store.blobs.chunks(layers[number].digest)
            result = unpack_layer(
                chunks, stages[number], owner=_owner(), diff_id=diff_ids[number], alone=len(stages) == 1
            )
            staged.append(Staged(result, stages[number]))
        assemble(store, staged, diff_ids)
    except BaseException:
        for stage in stages.values():
            store.trees.discard(stage)
        raise
