"""Layers become trees: each unpacked alone, in parallel if the caller likes, then fitted to those below it.

Unpacked alone a layer does not know what lies below. Three things depend on that: directories that it uses without
an entry for them would hide the real ones' mode and owner; so would its root; and hard links may lead to files of a
lower layer. ``assemble`` sets them right. A tree that needed it is one of that stack only, and named by its chainID;
every other tree is named by its diffID and shared by all images that have the layer.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from pyrkt.base.errors import CannotCreate, ImageRefused, printable
from pyrkt.image.unpack import fit
from pyrkt.image.unpack.files import Files, Form
from pyrkt.image.unpack.limits import DEFAULT, Limits
from pyrkt.image.unpack.stream import ahead, plain
from pyrkt.image.unpack.tar import Archive
from pyrkt.image.unpack.worker import in_worker
from pyrkt.spec.digest import Digest, algorithm, hexpart
from pyrkt.store.rootfs import Rootfs, is_opaque
from pyrkt.store.trees import entries_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from pyrkt.store.layout import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerResult:
    """What came out of one layer.

    ``size`` is that of the plain tar in bytes, ``implied`` the directories without an entry, ``crosslinks`` hard
    links (path, target) to files of lower layers, ``has_root`` that the root has an entry, ``checked`` the digest of
    the entries on disk (``store.trees.entries_digest``), ``notes`` what was left out, for people.
    """

    diff_id: Digest
    size: int
    entries: int
    implied: tuple[str, ...] = ()
    crosslinks: tuple[tuple[str, str], ...] = ()
    has_root: bool = False
    checked: str = ""
    notes: tuple[str, ...] = ()

    @property
    def needs_lower(self) -> bool:
        """Whether the tree depends on what lies below it."""
        return bool(self.implied or self.crosslinks)

    def dump(self) -> dict[str, Any]:
        """Return JSON values that parse to this. Names are any bytes: JSON has no place for them, Latin-1 has."""
        value = asdict(self)
        value["implied"] = [_text(path) for path in self.implied]
        value["crosslinks"] = [[_text(path), _text(target)] for path, target in self.crosslinks]
        return value

    @classmethod
    def parse(cls, value: dict[str, Any]) -> LayerResult:
        """Return what ``dump`` has made ``value`` of, and a pipe of ours has carried."""
        return cls(
            diff_id=Digest(value["diff_id"]),
            size=value["size"],
            entries=value["entries"],
            implied=tuple(_name(path) for path in value["implied"]),
            crosslinks=tuple((_name(path), _name(target)) for path, target in value["crosslinks"]),
            has_root=value["has_root"],
            checked=value["checked"],
            notes=tuple(value["notes"]),
        )


class Counted:
    """Pieces on their way through, their digest and their number."""

    def __init__(self, pieces: Iterable[bytes], algorithm: str) -> None:
        """Pass ``pieces`` on."""
        self._pieces = pieces
        self.hash = hashlib.new(algorithm)
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        """Yield each piece after it was counted."""
        update = self.hash.update
        for piece in self._pieces:
            update(piece)
            self.size += len(piece)
            yield piece


def unpack_layer(  # noqa: PLR0913 - all but two have the default that nearly every caller wants
    chunks: Iterable[bytes] | BinaryIO,
    into: Path,
    *,
    form: Literal["overlay", "flat"] = "overlay",
    limits: Limits = DEFAULT,
    owner: Literal["keep", "caller"] = "keep",
    lower: Rootfs | None = None,
    diff_id: Digest | None = None,
    alone: bool = False,
) -> LayerResult:
    """Unpack one layer, packed as it may be, into the directory ``into``, in a child that cannot leave it.

    ``form`` "overlay" keeps whiteouts as overlayfs wants them; "flat" applies them to what lies in ``into``.
    ``owner`` "caller" leaves every file to the caller, who need not be root and can read them all. With ``lower``,
    the merged tree below, the result is fitted to it at once. ``diff_id`` is what the plain tar must hash to, if
    that is known; only with that proof may an archive lack its end mark, which otherwise tells that it was cut.
    ``alone`` tells that no other layer is unpacked meanwhile: then a second core may inflate and hash.
    An unbuffered file as ``chunks`` is read by the child itself.
    Raises: ImageRefused, naming the entry; CannotCreate. What is in ``into`` is then worth nothing.
    """

    def job(pieces: Iterator[bytes], root: int) -> dict[str, Any]:
        counted = Counted(plain(pieces, limits), algorithm(diff_id) if diff_id else "sha256")
        plain_pieces = ahead(counted) if alone else counted
        archive, files = extract(plain_pieces, form, keep_owner=owner == "keep", limits=limits, root=root)
        found = f"{counted.hash.name}:{counted.hash.hexdigest()}"
        check_end(archive, proven=found == diff_id)
        made = LayerResult(
            diff_id=Digest(found),
            size=counted.size,
            entries=archive.entries,
            implied=tuple(os.fsdecode(path) for path in files.implied),
            crosslinks=tuple((os.fsdecode(path), os.fsdecode(target)) for path, target in files.crosslinks),
            has_root=files.has_root,
            checked=entries_digest("."),
            notes=tuple(files.notes),
        )
        return made.dump()

    result = LayerResult.parse(in_worker(chunks, into, job))
    if diff_id is not None and result.diff_id != diff_id:
        raise ImageRefused(
            f"a layer unpacks to {result.diff_id}, not to {diff_id} as the image says",
            hint="the image is damaged or forged; tell who publishes it",
        )
    if lower is not None and form == "overlay" and result.needs_lower:
        fit.to_lower(into, result.implied, result.crosslinks, lower)
        result = replace(result, checked=entries_digest(into))
    return result


def extract(
    pieces: Iterable[bytes], form: Form, *, keep_owner: bool, limits: Limits, root: int
) -> tuple[Archive, Files]:
    """Make all entries of a plain archive below the current directory."""
    archive = Archive(pieces, limits)
    files = Files(form, keep_owner=keep_owner, limits=limits, root=root)
    while (entry := archive.next()) is not None:
        files.add(entry, archive)
    archive.drain()
    files.finish()
    return archive, files


def check_end(archive: Archive, *, proven: bool) -> None:
    """Refuse an archive that stops where another entry could follow, unless its digest proves that this is all."""
    if not archive.ended and not proven:
        raise ImageRefused(
            "the archive has no end: it was cut off",
            hint="fetch it again; if it stays so, tell who publishes the image",
        )


def _text(path: str) -> str:
    return os.fsencode(path).decode("latin-1")


def _name(text: str) -> str:
    return os.fsdecode(text.encode("latin-1"))


# -- trees


@dataclass(frozen=True, slots=True)
class Staged:
    """A layer that was unpacked into ``stage`` (from ``store.trees.stage()``), by ``unpack_layer`` without lower."""

    result: LayerResult
    stage: Path


def tree_id(digest: Digest) -> str:
    """Return the id of the tree that a diffID or a chainID names."""
    return f"{algorithm(digest)}-{hexpart(digest)}"


def chain_ids(diff_ids: Sequence[Digest]) -> list[Digest]:
    """Return the chainID of each layer: what it and all below it make. Source: image-spec 1.1, config.md."""
    chain: list[Digest] = []
    for diff_id in diff_ids:
        if chain:
            text = f"{chain[-1]} {diff_id}"
            chain.append(Digest(f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"))
        else:
            chain.append(diff_id)
    return chain


def stored(store: Store, diff_ids: Sequence[Digest]) -> list[str | None]:
    """Return, for each layer of an image, the tree that serves for it; None where it must be unpacked."""
    found: list[str | None] = []
    below_plain = True  # whether the root that the layers below make is known to be an ordinary one
    for index, (diff_id, chain_id) in enumerate(zip(diff_ids, chain_ids(diff_ids), strict=True)):
        found.append(_stored(store, tree_id(diff_id), tree_id(chain_id), alone=index == 0, below_plain=below_plain))
        below_plain = found[-1] is not None and _plain_root(store.trees.path(found[-1] or ""))
    return found


def _stored(store: Store, own: str, chain: str, *, alone: bool, below_plain: bool) -> str | None:
    if store.trees.has(own):
        meta = store.trees.meta(own)
        if alone or (not meta.get("needs_lower") and (meta.get("has_root") or below_plain)):
            return own
    return chain if not alone and store.trees.has(chain) else None


def _plain_root(path: Path) -> bool:
    status = path.lstat()
    return (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o755, os.geteuid(), os.getegid())


def assemble(store: Store, layers: Sequence[Staged | str], diff_ids: Sequence[Digest]) -> tuple[str, ...]:
    """Make the trees of an image from its layers, bottom first; return the ids to mount, bottom first.

    Each of ``layers`` is what was unpacked, or the id that ``stored`` gave. The result has no tree twice (overlayfs
    refuses that) and none that a layer above hides altogether, so it may be shorter than ``layers``.
    Raises: ImageRefused if a hard link leads nowhere; CannotCreate. Call it inside ``store.hold()``.
    """
    commits: list[tuple[Path, str, dict[str, Any]]] = []
    ids: list[str] = []
    paths: list[Path] = []
    for layer, diff_id, chain_id in zip(layers, diff_ids, chain_ids(diff_ids), strict=True):
        if isinstance(layer, str):
            ids.append(layer)
            paths.append(store.trees.path(layer))
        else:
            fitted = _fit(layer, paths)
            ids.append(tree_id(chain_id if fitted else diff_id))
            paths.append(layer.stage)
            commits.append((layer.stage, ids[-1], _meta(layer.result, fitted=fitted)))
        if is_opaque(os.fsencode(paths[-1])):
            # overlayfs merges the roots of all layers, marked or not.
            ids, paths = ids[-1:], paths[-1:]
    store.trees.commit_all(commits)
    # Of a tree that is there twice, the upper one hides all of the lower one.
    return tuple(reversed(dict.fromkeys(reversed(ids))))


def _fit(layer: Staged, below: list[Path]) -> bool:
    """Fit a layer to those below; tell whether that made it another tree than it is alone."""
    if not below:
        for path, target in layer.result.crosslinks:
            raise ImageRefused(f"{printable(path)}: a hard link to {printable(target)}, which no layer has")
        return False
    lower = Rootfs(tuple(str(path) for path in below))
    inherits = not layer.result.has_root and not _plain_root(below[-1])
    try:
        if inherits:
            fit.inherit_root(layer.stage, lower)
        if layer.result.needs_lower:
            fit.to_lower(layer.stage, layer.result.implied, layer.result.crosslinks, lower)
    except OSError as error:
        raise CannotCreate(f"fitting a layer to those below: {error.strerror}") from error
    return inherits or layer.result.needs_lower


def _meta(result: LayerResult, *, fitted: bool) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "diff_id": result.diff_id,
        "size": result.size,
        "entries_count": result.entries,
        "needs_lower": result.needs_lower and not fitted,
        "has_root": result.has_root or fitted,
    }
    if not fitted:
        meta["entries"] = result.checked
    return meta
