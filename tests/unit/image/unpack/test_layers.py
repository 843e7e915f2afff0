"""Layers that were unpacked alone, fitted to one another: directories without entries, links that leave the layer."""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from pyrkt.base.errors import ImageRefused
from pyrkt.image.unpack.flatten import flatten
from pyrkt.image.unpack.layers import Staged, assemble, chain_ids, stored, tree_id, unpack_layer
from pyrkt.spec.digest import Digest
from pyrkt.store import Rootfs, Store
from pyrkt.store.rootfs import is_opaque
from tests.strategies import archive, file, folder, hardlink, pax, symlink

OWNER = "keep" if os.geteuid() == 0 else "caller"


def digest(data: bytes) -> Digest:
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data").open()


def build(store: Store, *layers: bytes) -> tuple[str, ...]:
    """Do what a pull does: unpack what is missing, then assemble."""
    diff_ids = [digest(layer) for layer in layers]
    todo: list[Staged | str] = []
    with store.hold():
        for layer, diff_id, tree in zip(layers, diff_ids, stored(store, diff_ids), strict=True):
            if tree is not None:
                todo.append(tree)
                continue
            stage = store.trees.stage()
            todo.append(Staged(unpack_layer([layer], stage, owner=OWNER, diff_id=diff_id), stage))  # type: ignore[arg-type]
        return assemble(store, todo, diff_ids)


def rootfs(store: Store, trees: tuple[str, ...]) -> Rootfs:
    return Rootfs(tuple(str(store.trees.path(tree)) for tree in trees))


def mode(view: Rootfs, path: str) -> int:
    entry = view.lookup(path, follow=False)
    assert entry is not None
    return stat.S_IMODE(entry.status.st_mode)


BASE = archive(
    folder(b"./", mtime=9), folder(b"tmp", mode=0o1777, mtime=5), folder(b"usr", mtime=6), folder(b"usr/lib", mtime=7),
    symlink(b"lib", b"usr/lib"), file(b"usr/lib/libc", b"C" * 700), file(b"etc/passwd", b"root"),
)  # fmt: skip


def test_ids_are_those_of_the_specification(store: Store) -> None:
    layers = [BASE, archive(folder(b"etc"), file(b"etc/x", b"1"))]
    one, two = (digest(layer) for layer in layers)
    assert chain_ids([one, two]) == [one, digest(f"{one} {two}".encode())]
    assert build(store, *layers) == (tree_id(one), tree_id(two))
    assert stored(store, [one, two]) == [tree_id(one), tree_id(two)]


def test_implied_directory_keeps_what_it_hides(store: Store) -> None:
    upper = archive(file(b"tmp/x", b"1"), file(b"usr/lib/y", b"2"))
    trees = build(store, BASE, upper)
    view = rootfs(store, trees)
    assert mode(view, "tmp") == 0o1777
    top = store.trees.path(trees[1])
    assert [(top / name).stat().st_mtime for name in ("tmp", "usr", "usr/lib")] == [5, 6, 7]
    assert trees[1] == tree_id(chain_ids([digest(BASE), digest(upper)])[1])
    assert build(store, BASE, upper) == trees
    # On another base it is another tree; alone it is its own, which no other image may take for theirs.
    other = build(store, archive(folder(b"tmp", mode=0o700)), upper)
    assert mode(rootfs(store, other), "tmp") == 0o700
    assert build(store, upper) == (tree_id(digest(upper)),)
    assert build(store, BASE, upper) == trees
    assert mode(rootfs(store, (tree_id(digest(upper)),)), "tmp") == 0o755


def test_implied_directory_over_a_symlink_goes_where_it_leads(store: Store) -> None:
    view = rootfs(store, build(store, BASE, archive(file(b"lib/mod/x", b"1"), file(b"lib/y", b"2"))))
    entry = view.lookup("lib", follow=False)
    assert entry is not None
    assert entry.is_link
    assert view.read("usr/lib/mod/x") == b"1"
    assert view.read("lib/y") == b"2"
    assert view.read("usr/lib/libc") == b"C" * 700


def test_implied_directory_over_a_symlink_merges(store: Store) -> None:
    upper = archive(
        file(b"lib/d/x", b"1"), file(b"usr/lib/d/y", b"2"), file(b"lib/z", b"3"), file(b"usr/lib/z/w", b"4"),
        folder(b"usr/lib/e"), file(b"lib/e", b"5"),
    )  # fmt: skip
    view = rootfs(store, build(store, BASE, upper))
    assert view.read("usr/lib/d/x") == b"1"
    assert view.read("usr/lib/d/y") == b"2"
    assert view.read("usr/lib/z") == b"3"
    assert view.read("usr/lib/e") == b"5"


@pytest.mark.parametrize("target", [b"nothing", b"/etc/passwd", b"loop", b"../../../nowhere"])
def test_implied_directory_over_a_useless_symlink_replaces_it(store: Store, target: bytes) -> None:
    base = archive(symlink(b"d", target), symlink(b"loop", b"loop"), file(b"etc/passwd"))
    if target == b"loop":
        with pytest.raises(ImageRefused, match="too many symlinks"):
            build(store, base, archive(file(b"d/x", b"1")))
        return
    assert rootfs(store, build(store, base, archive(file(b"d/x", b"1")))).read("d/x") == b"1"


def test_hard_link_into_a_lower_layer(store: Store) -> None:
    upper = archive(folder(b"bin"), hardlink(b"bin/a", b"usr/lib/libc"), hardlink(b"bin/b", b"/usr/lib/libc"))
    trees = build(store, BASE, upper)
    view = rootfs(store, trees)
    assert view.read("bin/a") == b"C" * 700
    numbers = {entry.status.st_ino for name in ("bin/a", "bin/b", "usr/lib/libc") if (entry := view.lookup(name))}
    assert len(numbers) == 1
    top = store.trees.path(trees[1])
    assert ((top / "usr/lib").stat().st_mtime, (top / "bin").stat().st_mtime) == (7, 1)


def test_hard_link_through_a_lower_symlink(store: Store) -> None:
    view = rootfs(store, build(store, BASE, archive(hardlink(b"a", b"lib/libc"))))
    assert view.read("a") == b"C" * 700


@pytest.mark.parametrize(("base", "upper"), [
    pytest.param(BASE, archive(hardlink(b"a", b"nothing")), id="missing"),
    pytest.param(BASE, archive(hardlink(b"a", b"usr")), id="directory"),
    pytest.param(archive(symlink(b"s", b"/etc"), symlink(b"t", b"../../../../etc")), archive(hardlink(b"a", b"s/passwd")), id="outside"),
    pytest.param(archive(symlink(b"t", b"../../../../../etc")), archive(hardlink(b"a", b"t/passwd")), id="outside-up"),
    pytest.param(None, archive(hardlink(b"a", b"b")), id="nothing-below"),
])  # fmt: skip
def test_hard_link_to_nowhere_is_refused(store: Store, base: bytes | None, upper: bytes) -> None:
    with pytest.raises(ImageRefused, match="hard link to"):
        build(store, *filter(None, [base, upper]))
    assert store.trees.all() == []


def test_hard_link_that_was_replaced_later(store: Store) -> None:
    upper = archive(
        hardlink(b"d/a", b"usr/lib/libc"), file(b"d/a", b"1"), hardlink(b"e/a", b"usr/lib/libc"), file(b"e", b"2")
    )
    view = rootfs(store, build(store, BASE, upper))
    assert (view.read("d/a"), view.read("e")) == (b"1", b"2")


def test_whiteouts_and_opaque_directories(store: Store) -> None:
    base = archive(file(b"d/a", b"1"), file(b"d/b", b"1"), file(b"e/a", b"1"), file(b"f/a", b"1"))
    upper = archive(
        folder(b"d"), file(b"d/.wh.a"), folder(b"e"), file(b"e/.wh..wh..opq"), file(b"e/new", b"2"), file(b".wh.f"),
        file(b"f/new", b"2"),
    )  # fmt: skip
    view = rootfs(store, build(store, base, upper))
    assert [view.read(name) for name in ("d/a", "d/b", "e/a", "e/new", "f/a", "f/new")] == [
        None, b"1", None, b"2", None, b"2",
    ]  # fmt: skip


def test_opaque_implied_directory_keeps_its_mode_but_not_its_content(store: Store) -> None:
    base = archive(folder(b"d", mode=0o711), file(b"d/a"), folder(b"d/sub", mode=0o700))
    view = rootfs(store, build(store, base, archive(file(b"d/.wh..wh..opq"), file(b"d/sub/x"))))
    assert mode(view, "d") == 0o711
    assert mode(view, "d/sub") == 0o755
    assert view.lookup("d/a") is None


def test_opaque_root_drops_all_below(store: Store) -> None:
    trees = build(store, BASE, archive(file(b".wh..wh..opq"), file(b"x", b"1")), archive(folder(b"y")))
    assert len(trees) == 2
    assert rootfs(store, trees).lookup("usr") is None


def test_the_root_keeps_an_unusual_mode(store: Store) -> None:
    base = archive(folder(b"./", mode=0o555))
    upper = archive(file(b"x"))
    trees = build(store, base, upper)
    assert mode(rootfs(store, trees), "/") == 0o555
    assert build(store, base, upper) == trees
    assert build(store, BASE, upper)[1] == tree_id(digest(upper))
    assert stored(store, [digest(base), digest(upper)]) == [tree_id(digest(base)), trees[1]]


def test_no_tree_is_there_twice(store: Store) -> None:
    one, two, empty = archive(file(b"a", b"1")), archive(file(b"a", b"2"), file(b"b")), archive()
    trees = build(store, empty, one, empty, two, one, empty)
    assert trees == tuple(tree_id(digest(data)) for data in (two, one, empty))
    assert rootfs(store, trees).read("a") == b"1"


def test_with_lower_a_layer_is_fitted_at_once(store: Store, tmp_path: Path) -> None:
    (base,) = build(store, BASE)
    stage = store.trees.stage()
    result = unpack_layer([archive(file(b"tmp/x"))], stage, owner=OWNER, lower=rootfs(store, (base,)))  # type: ignore[arg-type]
    assert stat.S_IMODE((stage / "tmp").stat().st_mode) == 0o1777
    assert result.implied == ("tmp",)
    store.trees.discard(stage)


def test_flat_form_applies_whiteouts_to_what_is_there(tmp_path: Path) -> None:
    for layer in (
        archive(folder(b"d"), file(b"d/a", b"1"), file(b"d/b", b"1"), file(b"e/a"), file(b"f/g/h"), symlink(b"out", b"/etc")),
        archive(
            file(b"d/new", b"2"), file(b"d/.wh..wh..opq"), file(b"d/b", b"2"), file(b".wh.e"), file(b"f/g/new"),
            file(b".wh.f"), file(b"nothing/.wh.x"), file(b"out/.wh.passwd"),
        ),
    ):  # fmt: skip
        unpack_layer([layer], tmp_path, form="flat", owner=OWNER)  # type: ignore[arg-type]
    found = sorted(
        str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if not stat.S_ISDIR(path.lstat().st_mode)
    )
    assert found == ["d/b", "d/new", "f/g/new", "out"]
    assert (tmp_path / "d/b").read_text() == "2"
    assert Path("/etc/passwd").exists()


def test_hard_links_survive_flattening(store: Store, tmp_path: Path) -> None:
    trees = build(
        store,
        archive(folder(b"d", mode=0o750, mtime=77), file(b"d/a", b"1", mode=0o640, mtime=55), hardlink(b"b", b"d/a")),
        archive(symlink(b"l", b"d/a", mtime=3), file(b".wh.c"), pax((b"SCHILY.xattr.user.x", b"y")), file(b"x")),
    )
    flatten(rootfs(store, trees), tmp_path / "flat")
    flat = tmp_path / "flat"
    assert (flat / "d/a").stat().st_ino == (flat / "b").stat().st_ino
    assert stat.S_IMODE((flat / "d").stat().st_mode) == 0o750
    assert ((flat / "d").stat().st_mtime, (flat / "d/a").stat().st_mtime, (flat / "l").lstat().st_mtime) == (77, 55, 3)
    assert os.getxattr(flat / "x", "user.x") == b"y"
    assert sorted(os.listdir(flat)) == ["b", "d", "l", "x"]
    assert not is_opaque(os.fsencode(flat))


def test_holes_survive_flattening(store: Store, tmp_path: Path) -> None:
    (tree,) = build(
        store, archive(pax((b"GNU.sparse.size", b"50000000"), (b"GNU.sparse.map", b"40000000,3")), file(b"s", b"abc"))
    )
    flatten(rootfs(store, (tree,)), tmp_path / "flat")
    status = (tmp_path / "flat" / "s").stat()
    assert status.st_size == 50_000_000
    assert status.st_blocks < 1000
    with (tmp_path / "flat" / "s").open("rb") as copied:
        copied.seek(40_000_000)
        assert copied.read(4) == b"abc\0"


@pytest.mark.parametrize(
    "end",
    [pytest.param(bytes(511), id="no-mark"), pytest.param(b"", id="no-filling"), pytest.param(bytes(9), id="some")],
)
def test_an_archive_without_its_end_counts_if_its_digest_proves_it_whole(tmp_path: Path, end: bytes) -> None:
    """umoci insert leaves the mark out, and what fills the last block."""
    layer = file(b"a", b"1")[:513] + end
    made = unpack_layer([layer], tmp_path, owner=OWNER, diff_id=digest(layer))  # type: ignore[arg-type]
    assert (made.diff_id, made.entries) == (digest(layer), 1)
    assert (tmp_path / "a").read_bytes() == b"1"
    (tmp_path / "a").unlink()
    with pytest.raises(ImageRefused, match="has no end"):
        unpack_layer([layer], tmp_path, owner=OWNER)  # type: ignore[arg-type]
