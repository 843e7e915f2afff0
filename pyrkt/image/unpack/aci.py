"""ACIs: one archive with ``manifest`` and ``rootfs/``, and the rendering of images that are made of others."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from pyrkt.base.errors import CannotCreate, ImageRefused
from pyrkt.image.unpack import tar
from pyrkt.image.unpack.files import Files
from pyrkt.image.unpack.flatten import merge
from pyrkt.image.unpack.layers import Counted, check_end
from pyrkt.image.unpack.limits import DEFAULT, Limits
from pyrkt.image.unpack.stream import ahead, plain
from pyrkt.image.unpack.tar import Archive, Entry, shown
from pyrkt.image.unpack.worker import in_worker
from pyrkt.store.rootfs import Rootfs
from pyrkt.store.trees import entries_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pyrkt.store.layout import Store

MAX_MANIFEST = 4 << 20
_MAX_PARTS = 1024  # dependencies may form diamonds on diamonds, whose rendering doubles at each
_RULE = "an ACI holds one manifest and one rootfs, each name once (appc 0.8.11, Image Layout)"


@dataclass(frozen=True, slots=True, kw_only=True)
class AciResult:
    """What came out of an ACI: ``image_id`` "sha512-<hex>" of the plain tar, the manifest's bytes, its ``size``.

    ``checked`` is the digest of the entries on disk, for ``Trees.commit``'s meta ``entries``.
    """

    image_id: str
    manifest: bytes
    size: int
    entries: int
    checked: str
    notes: tuple[str, ...] = ()


def unpack_aci(
    chunks: Iterable[bytes] | BinaryIO,
    into: Path,
    *,
    limits: Limits = DEFAULT,
    owner: Literal["keep", "caller"] = "keep",
) -> AciResult:
    """Unpack an ACI, compressed or not: what is in its ``rootfs`` goes to ``into``, the manifest is returned.

    As ``unpack_layer`` in all else; there are no whiteouts, and a name given twice is refused.
    Raises: ImageRefused, naming the entry; CannotCreate. What is in ``into`` is then worth nothing.
    """

    def job(pieces: Iterator[bytes], root: int) -> dict[str, Any]:
        counted = Counted(plain(pieces, limits), "sha512")
        archive = Archive(ahead(counted), limits)
        files = Files("plain", keep_owner=owner == "keep", limits=limits, root=root)
        manifest = _extract(archive, files)
        files.finish()
        check_end(archive, proven=False)
        return {
            "image_id": f"sha512-{counted.hash.hexdigest()}",
            "manifest": manifest.decode("latin-1"),
            "size": counted.size,
            "entries": archive.entries,
            "checked": entries_digest("."),
            "notes": list(files.notes),
        }

    value = in_worker(chunks, into, job)
    return AciResult(**{**value, "manifest": value["manifest"].encode("latin-1"), "notes": tuple(value["notes"])})


def _extract(archive: Archive, files: Files) -> bytes:
    manifest: bytes | None = None
    rootfs = False
    seen: set[bytes] = set()
    while (entry := archive.next()) is not None:
        parts = files.split(entry.name)
        name = b"/".join(parts)
        if entry.name.startswith(b"/") or (parts and parts[0] not in {b"manifest", b"rootfs"}):
            raise ImageRefused(f"{shown(entry.name)}: does not belong into an ACI", hint=_RULE)
        if name in seen:
            raise ImageRefused(f"{shown(entry.name)}: is there twice", hint=_RULE)
        seen.add(name)
        if not parts:
            if entry.type != tar.DIRECTORY:
                raise ImageRefused(f"{shown(entry.name)}: is no directory", hint=_RULE)
        elif parts[0] == b"manifest":
            manifest = _manifest(entry, parts, archive)
        else:
            rootfs = True
            _below_rootfs(entry, parts, files, archive)
    archive.drain()
    if manifest is None:
        raise ImageRefused("the archive has no manifest", hint=_RULE)
    if not rootfs:
        raise ImageRefused("the archive has no rootfs", hint=_RULE)
    return manifest


def _manifest(entry: Entry, parts: list[bytes], archive: Archive) -> bytes:
    if len(parts) > 1 or entry.type != tar.REGULAR or entry.segments is not None:
        raise ImageRefused(f"{shown(entry.name)}: the manifest must be a regular file", hint=_RULE)
    if entry.size > MAX_MANIFEST:
        raise ImageRefused(f"the manifest has {entry.size} bytes, more than {MAX_MANIFEST}")
    return b"".join(bytes(piece) for piece in archive.data())


def _below_rootfs(entry: Entry, parts: list[bytes], files: Files, archive: Archive) -> None:
    if len(parts) == 1 and entry.type != tar.DIRECTORY:
        raise ImageRefused("rootfs must be a directory", hint=_RULE)
    if entry.type == tar.LINK:
        target = files.split(entry.link)
        if target[:1] != [b"rootfs"] or len(target) < 2 or entry.link.startswith(b"/"):
            raise ImageRefused(
                f"{shown(entry.name)}: a hard link to {shown(entry.link)}, outside of rootfs", hint=_RULE
            )
        entry.link = b"/".join(target[1:])
    entry.name = b"/".join(parts[1:]) or b"."
    files.add(entry, archive)


# -- rendering


@dataclass(frozen=True, slots=True, kw_only=True)
class AciNode:
    """An unpacked ACI, whose tree has its ``id``, with what it depends on, in the manifest's order."""

    id: str
    dependencies: tuple[AciNode, ...] = ()
    path_whitelist: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """One image's share of a rendered tree: what passes every whitelist between it and the image rendered."""

    id: str
    whitelists: tuple[frozenset[bytes], ...]

    def keeps(self, path: bytes) -> bool:
        """Tell whether ``path`` (no leading slash) stays; so do the directories that a listed path lies in."""
        return all(path in whitelist for whitelist in self.whitelists)


def parts(node: AciNode) -> list[Part]:
    """Return what makes the tree of ``node``, lowest first: depth first in listed order, each image after its own.

    An image that is a dependency twice is there twice, each time with the whitelists of that branch.
    Raises: ImageRefused if images depend on each other in a ring, or on more than 1024 others.
    Source: appc 0.8.11, "Dependency Matching" and pathWhitelist.
    """
    found: list[Part] = []
    _collect(node, (), (), found)
    return found


def _collect(
    node: AciNode, above: tuple[str, ...], whitelists: tuple[frozenset[bytes], ...], found: list[Part]
) -> None:
    if node.id in above:
        raise ImageRefused(f"image {node.id[:19]} depends on itself")
    if node.path_whitelist:
        whitelists = (*whitelists, _closed(node.path_whitelist))
    for dependency in node.dependencies:
        _collect(dependency, (*above, node.id), whitelists, found)
    found.append(Part(node.id, whitelists))
    if len(found) > _MAX_PARTS or len(above) > 64:
        raise ImageRefused(f"image {node.id[:19]} depends on too many others")


def _closed(paths: tuple[str, ...]) -> frozenset[bytes]:
    found: set[bytes] = set()
    for path in paths:
        names = [name for name in os.fsencode(path).split(b"/") if name not in {b"", b"."}]
        found.update(b"/".join(names[:count]) for count in range(1, len(names) + 1))
    return frozenset(found)


def render(store: Store, node: AciNode) -> tuple[str, ...]:
    """Return the ids of the trees that make the root file system of ``node``, bottom first; make what is missing.

    An image without dependencies and whitelist is its own tree; all else becomes one flat tree, made once.
    Raises: ImageRefused, CannotCreate. Call it inside ``store.hold()``.
    """
    todo = parts(node)
    if len(todo) == 1 and not node.path_whitelist:
        return (node.id,)
    text = "\n".join(f"{part.id} {sorted(sorted(w) for w in part.whitelists)}" for part in todo)
    identity = f"sha512-{hashlib.sha512(text.encode()).hexdigest()}"
    if store.trees.has(identity):
        return (identity,)
    stage = store.trees.stage()
    try:
        for part in todo:
            merge(Rootfs((str(store.trees.path(part.id)),)), stage, part.keeps)
        store.trees.commit(stage, identity, {"rendered": [part.id for part in todo]})
    except BaseException as error:
        store.trees.discard(stage)
        if isinstance(error, OSError):
            raise CannotCreate(f"rendering {node.id[:19]}: {error.strerror}") from error
        raise
    return (identity,)
