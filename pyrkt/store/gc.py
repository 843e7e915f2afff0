"""gc and verify: what nothing uses goes; what is there is proven to be what it was."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pyrkt.base.errors import PyrktError
from pyrkt.kernel import lock
from pyrkt.spec.digest import Digest, hasher
from pyrkt.store.index import ImageRecord
from pyrkt.store.remove import remove_tree
from pyrkt.store.trees import entries_digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from pyrkt.store.layout import Store

DEFAULT_GRACE = 3600.0
"""Seconds that what nothing uses (any more, or yet) is kept."""


_LIFE = ("embryo", "prepare", "prepared", "run", "exited-garbage", "garbage")


@dataclass(frozen=True, slots=True)
class Removal:
    """One thing that gc takes away: a ``tree`` by id, or a ``blob``, ``partial`` or ``leftover`` by path."""

    kind: Literal["tree", "blob", "partial", "leftover"]
    name: str
    path: Path

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def plan(store: Store, in_use_trees: Collection[str], grace: float, now: float | None = None) -> list[Removal]:
    """Return what nothing uses and nothing has changed for ``grace`` seconds; touch nothing.

    A record that cannot be read stops the removal of blobs and trees: what it needed is not known.
    """
    clock = time.time() if now is None else now
    blobs: set[Digest] = set()
    trees = {*in_use_trees, *pod_trees(store)}
    unreadable = False
    for _, record in store.images.each():
        if isinstance(record, ImageRecord):
            blobs.update(record.all_blobs())
            trees.update(record.all_trees())
        else:
            unreadable = True

    def stale(path: Path) -> bool:
        try:
            age = clock - path.lstat().st_ctime
        except FileNotFoundError:
            return False
        # A file from the future is as old as a clock that was set back makes it: keep it.
        return age >= grace

    found: list[Removal] = []
    if not unreadable:
        found += [
            Removal("tree", name, store.trees.path(name).parent) for name in store.trees.all() if name not in trees
        ]
        found += [
            Removal("blob", digest, store.blobs.path(digest)) for digest in store.blobs.all() if digest not in blobs
        ]
    found += [Removal("leftover", path.name, path) for path in _children(store.tmp)]
    found += [
        Removal("leftover", path.name, path) for path in _children(store.root / "images") if path.suffix == ".tmp"
    ]
    found += [
        Removal("partial", path.name, path)
        for path in _children(store.root / "partial")
        if not lock.is_held(str(store.lock_path(f"blob-{path.name}")))
    ]
    return [removal for removal in found if stale(removal.path)]


def collect(
    store: Store, in_use_trees: Collection[str] = (), grace: float = DEFAULT_GRACE, *, wait: bool = False
) -> list[str]:
    """Remove what nothing uses; return what was removed, one line each.

    Raises: Busy if a fetch or the making of a pod goes on (with ``wait``, it waits for them); OSError.
    """
    with store.alone(wait=wait):
        removals = plan(store, in_use_trees, grace)
        for removal in removals:
            if removal.kind == "tree":
                store.trees.remove(removal.name)
            else:
                remove_tree(removal.path)
        # Nobody else is here: no lock below can be held but by a remover of one image, who needs it no more.
        for path in _children(store.root / "locks"):
            if path.name != "gc" and not lock.is_held(str(path)):
                path.unlink(missing_ok=True)
    return [str(removal) for removal in removals]


def _children(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def pod_trees(store: Store) -> set[str]:
    """Return the ids of the trees that pods use: each pod's directory below ``pods/`` lists them in ``trees``."""
    found: set[str] = set()
    homes = _children(store.root / "pods")
    # A pod moves while we look, but only forward: looking in that order too, we meet it wherever it is by then.
    homes.sort(key=lambda path: _LIFE.index(path.name) if path.name in _LIFE else len(_LIFE))
    for home in homes:
        for path in (home / "trees", *(pod / "trees" for pod in _children(home))):
            try:
                found.update(path.read_text("ascii", "replace").split())
            except (FileNotFoundError, NotADirectoryError):
                continue
    return found


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one image; ``damaged`` is what ``discard`` would take away, None if there is nothing left."""

    image: str
    text: str
    damaged: Removal | None = None

    def __str__(self) -> str:
        return f"image {self.image}: {self.text}"


def verify(store: Store) -> list[Problem]:
    """Return what is wrong with the store; nothing if every image is whole.

    Blobs are hashed again; trees are compared with the digest of their entries (``trees.entries_digest`` says what
    that finds and what not).
    """
    problems: list[Problem] = []
    seen: dict[Removal, str] = {}
    for identity, record in store.images.each():
        if not isinstance(record, ImageRecord):
            problems.append(Problem(identity, record.message))
            continue
        parts = [
            *((Removal("blob", digest, store.blobs.path(digest)), _blob_problem) for digest in record.all_blobs()),
            *((Removal("tree", tree, store.trees.path(tree).parent), _tree_problem) for tree in record.all_trees()),
        ]
        for part, check in parts:
            if part not in seen:
                seen[part] = "".join(check(store, part.name))
            if seen[part]:
                problems.append(Problem(identity, seen[part], part if part.path.exists() else None))
    return problems


def discard(store: Store, problems: Iterable[Problem]) -> list[str]:
    """Take away what is damaged, so that a fetch brings it anew; return what went, and what stays and why.

    While it lies there every fetch takes it for stored. Raises: OSError.
    """
    done: list[str] = []
    with store.alone(wait=True):
        used = pod_trees(store)
        for part in dict.fromkeys(problem.damaged for problem in problems):
            if part is None:
                continue
            if part.name in used:
                done.append(f"{part} stays: a pod uses it")
                continue
            if part.kind == "tree":
                store.trees.remove(part.name)
            else:
                remove_tree(part.path)
            done.append(f"{part} discarded")
    return done


def _blob_problem(store: Store, name: str) -> Iterator[str]:
    digest = Digest(name)
    try:
        found = hasher(digest)
        for piece in store.blobs.chunks(digest):
            found.update(piece)
        if f"{found.name}:{found.hexdigest()}" != digest:
            yield f"blob {digest} has changed: its digest is now {found.name}:{found.hexdigest()}"
    except PyrktError as error:
        yield error.message
    except OSError as error:
        yield f"blob {digest}: {error.strerror}"


def _tree_problem(store: Store, tree: str) -> Iterator[str]:
    try:
        meta = store.trees.meta(tree)
        if meta.get("entries") != entries_digest(store.trees.path(tree)):
            yield f"tree {tree} has changed since it was unpacked"
    except PyrktError as error:
        yield error.message
    except OSError as error:
        yield f"tree {tree}: {os.strerror(error.errno or 0)}"
