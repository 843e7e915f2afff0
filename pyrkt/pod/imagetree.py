"""Stored images as ordinary files: rendered trees, bundles, and archives to carry elsewhere."""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING

from pyrkt.base import fastjson, log
from pyrkt.base.errors import CannotCreate, NotTrusted, UsageError
from pyrkt.base.undo import Undo
from pyrkt.bundle.options import RunOptions
from pyrkt.bundle.write import ROOTFS, write
from pyrkt.image.unpack.flatten import flatten
from pyrkt.image.unpack.limits import Limits
from pyrkt.image.unpack.stream import plain
from pyrkt.pod import configure, ids
from pyrkt.pod.export import new_directory
from pyrkt.store import Rootfs
from pyrkt.store.remove import remove_tree

if TYPE_CHECKING:
    from pathlib import Path

    from pyrkt.spec.digest import Digest
    from pyrkt.store import ImageRecord, Store


def write_image(
    store: Store, record: ImageRecord, target: Path, *, whole: bool, rootfs_only: bool, overwrite: bool
) -> None:
    """Write the manifest and the tree of an image to ``target``; with ``rootfs_only`` the tree is ``target`` itself.

    ``whole``: with the images it depends on, filtered by its whitelist. Raises: CannotCreate if ``target`` is there.
    """
    root = configure.rootfs(store, record) if whole else own_tree(store, record)
    if overwrite and target.exists():
        remove_tree(target)
    place = new_directory(target)
    with Undo() as undo:
        undo.push(remove_tree, place)
        if rootfs_only:
            place.rmdir()
            flatten(root, place)
        else:
            flatten(root, place / ROOTFS)
            with store.blobs.open(record.manifest) as file:
                (place / "manifest").write_bytes(file.read())
        undo.keep()


def own_tree(store: Store, record: ImageRecord) -> Rootfs:
    """Return the tree of an image without those that it depends on."""
    if record.kind == "oci" or not record.dependencies:
        return configure.rootfs(store, record)
    # A rendered tree is made for the image as a whole; its own files lie in the tree that bears its id.
    return Rootfs((os.fspath(store.trees.path(record.id)),))


def write_bundle(store: Store, record: ImageRecord, target: Path) -> None:
    """Write a bundle of an image with a real tree to ``target``: rootfs, runtime.json, config.json."""
    spaces = ids.rehearsed(private=False)
    options = RunOptions(
        name=configure.plain_name(record),
        implicit_volumes=False,
        userns=bool(spaces.uids),
        uid_mappings=spaces.uids,
        gid_mappings=spaces.gids,
    )
    root = configure.rootfs(store, record)
    bundle = configure.compose_image(record, store, options)
    if bundle.post_stop:
        log.warn("a bundle alone cannot run the post-stop handler of the image")
    with Undo() as undo:
        undo.push(remove_tree, target / ROOTFS)
        flatten(root, target / ROOTFS)
        write(target, bundle, root)
        undo.keep()


def export_image(store: Store, record: ImageRecord, target: Path) -> None:
    """Write an image to the file ``target``: by a temporary name, so that what is there is whole."""
    if record.kind == "appc" and target.suffix != ".aci":
        raise UsageError(f"{target}: the name of an ACI must end in .aci", hint=f"{target}.aci")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if record.kind == "appc":
            _export_aci(store, record, temporary)
        else:
            _export_layout(store, record, temporary)
        temporary.rename(target)
    except FileNotFoundError:
        raise CannotCreate(f"{target}: no such directory", hint=f"mkdir -p {target.parent}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _export_aci(store: Store, record: ImageRecord, target: Path) -> None:
    if record.encrypted:
        raise NotTrusted(
            f"image {record.id[:19]} was fetched encrypted, and its plain form is not kept",
            hint="pyrkt image render writes its files",
        )
    with target.open("wb") as file:
        for piece in plain(store.blobs.chunks(record.blobs[0]), Limits()):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _export_layout(store: Store, record: ImageRecord, target: Path) -> None:
    """Write an OCI image layout as a tar, the blobs as they were fetched. Source: image-spec 1.1, image-layout."""
    size = store.blobs.path(record.manifest).stat().st_size
    with store.blobs.open(record.manifest) as file:
        media_type = fastjson.loads(file.read(), "manifest").get(
            "mediaType", "application/vnd.oci.image.manifest.v1+json"
        )
    described = {
        "mediaType": media_type,
        "digest": record.manifest,
        "size": size,
        "annotations": {"org.opencontainers.image.ref.name": record.reference or record.name},
    }
    index = {"schemaVersion": 2, "manifests": [described]}
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(tar, "index.json", fastjson.dumps(index).encode())
        for digest in dict.fromkeys(record.all_blobs()):
            _add_blob(tar, store, digest)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def _add_blob(tar: tarfile.TarFile, store: Store, digest: Digest) -> None:
    entry = tarfile.TarInfo(f"blobs/{digest.replace(':', '/')}")
    entry.size = store.blobs.path(digest).stat().st_size
    with store.blobs.open(digest) as file:
        tar.addfile(entry, file)
