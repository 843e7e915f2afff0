"""ACIs: what may be in one, whose id it is, and how one is rendered on others."""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
from pathlib import Path

import pytest

from pyrkt.base.errors import ImageRefused
from pyrkt.image.unpack.aci import AciNode, parts, render, unpack_aci
from pyrkt.store import Rootfs, Store
from tests.strategies import archive, file, folder, hardlink, header, pax, symlink

OWNER = "keep" if os.geteuid() == 0 else "caller"
MANIFEST = file(b"manifest", b'{"acKind":"ImageManifest"}')
ROOTFS = folder(b"rootfs")


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_unpacks(pack, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data = archive(
        MANIFEST, ROOTFS, file(b"rootfs/a", b"1"), hardlink(b"rootfs/b", b"rootfs/a"), file(b"rootfs/.wh.c", b"2")
    )
    result = unpack_aci([pack(data)], tmp_path, owner=OWNER)  # type: ignore[arg-type]
    assert result.image_id == "sha512-" + hashlib.sha512(data).hexdigest()
    assert result.manifest == b'{"acKind":"ImageManifest"}'
    assert result.size == len(data)
    assert sorted(os.listdir(tmp_path)) == [".wh.c", "a", "b"]
    assert (tmp_path / "a").stat().st_nlink == 2


@pytest.mark.parametrize("entries", [
    pytest.param((folder(b"./"), file(b"./manifest", b"{}"), folder(b"./rootfs/"), file(b"./rootfs/a")), id="dot-slash"),
    pytest.param((file(b"rootfs/a"), MANIFEST), id="no-entry-for-rootfs"),
    pytest.param((MANIFEST, ROOTFS, symlink(b"rootfs/l", b"/etc"), file(b"rootfs/a")), id="absolute-link"),
])  # fmt: skip
def test_accepts(entries: tuple[bytes, ...], tmp_path: Path) -> None:
    unpack_aci([archive(*entries)], tmp_path, owner=OWNER)  # type: ignore[arg-type]
    assert (tmp_path / "a").exists()


@pytest.mark.parametrize(("entries", "problem"), [
    pytest.param((ROOTFS,), "no manifest", id="no-manifest"),
    pytest.param((MANIFEST,), "no rootfs", id="no-rootfs"),
    pytest.param((MANIFEST, ROOTFS, MANIFEST), "manifest: is there twice", id="manifest-twice"),
    pytest.param((MANIFEST, ROOTFS, file(b"rootfs/a"), file(b"rootfs//a")), "is there twice", id="file-twice"),
    pytest.param((MANIFEST, ROOTFS, folder(b"rootfs/d"), folder(b"rootfs/d/")), "is there twice", id="directory-twice"),
    pytest.param((MANIFEST, ROOTFS, folder(b"./rootfs")), "is there twice", id="rootfs-twice"),
    pytest.param((MANIFEST, ROOTFS, file(b"other")), "does not belong", id="other-file"),
    pytest.param((MANIFEST, ROOTFS, file(b"rootfs-evil/a")), "does not belong", id="rootfs-evil"),
    pytest.param((MANIFEST, ROOTFS, file(b"manifest.json")), "does not belong", id="manifest-json"),
    pytest.param((MANIFEST, ROOTFS, file(b"/rootfs/a")), "does not belong", id="absolute"),
    pytest.param((MANIFEST, ROOTFS, file(b"rootfs/../a")), "leads out", id="dotdot"),
    pytest.param((MANIFEST, ROOTFS, file(b"../a")), "leads out", id="dotdot-first"),
    pytest.param((MANIFEST, symlink(b"rootfs", b"/etc")), "rootfs must be a directory", id="rootfs-symlink"),
    pytest.param((MANIFEST, file(b"rootfs")), "rootfs must be a directory", id="rootfs-file"),
    pytest.param((symlink(b"manifest", b"/etc/passwd"), ROOTFS), "must be a regular file", id="manifest-symlink"),
    pytest.param((ROOTFS, file(b"rootfs/m"), hardlink(b"manifest", b"rootfs/m")), "must be a regular file", id="manifest-hardlink"),
    pytest.param((folder(b"manifest"), ROOTFS), "must be a regular file", id="manifest-directory"),
    pytest.param((header(b"manifest", b"6"), ROOTFS), "must be a regular file", id="manifest-fifo"),
    pytest.param((file(b"manifest/x"), ROOTFS), "must be a regular file", id="below-manifest"),
    pytest.param((file(b"manifest", b" " * (5 << 20)), ROOTFS), "the manifest has", id="manifest-huge"),
    pytest.param((MANIFEST, ROOTFS, hardlink(b"rootfs/a", b"manifest")), "outside of rootfs", id="link-to-manifest"),
    pytest.param((MANIFEST, ROOTFS, hardlink(b"rootfs/a", b"/etc/passwd")), "outside of rootfs", id="link-absolute"),
    pytest.param((MANIFEST, ROOTFS, hardlink(b"rootfs/a", b"rootfs/../../etc/passwd")), "leads out", id="link-dotdot"),
    pytest.param((MANIFEST, ROOTFS, hardlink(b"rootfs/a", b"rootfs-evil/x")), "outside of rootfs", id="link-rootfs-evil"),
    pytest.param((MANIFEST, ROOTFS, hardlink(b"rootfs/a", b"rootfs/none")), "is not there", id="link-to-nothing"),
    pytest.param((MANIFEST, ROOTFS, hardlink(b"rootfs/a", b"rootfs")), "outside of rootfs", id="link-to-rootfs"),
    pytest.param((MANIFEST, ROOTFS, pax((b"path", b"etc/passwd")), file(b"rootfs/a")), "does not belong", id="pax-path"),
])  # fmt: skip
def test_refuses(entries: tuple[bytes, ...], problem: str, tmp_path: Path) -> None:
    with pytest.raises(ImageRefused, match=problem):
        unpack_aci([archive(*entries)], tmp_path, owner=OWNER)  # type: ignore[arg-type]


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageRefused, match="has no end"):
        unpack_aci([MANIFEST + ROOTFS], tmp_path, owner=OWNER)  # type: ignore[arg-type]


# -- rendering

A, B, C, D = ("sha512-" + letter * 128 for letter in "abcd")


def test_order_is_that_of_the_specification() -> None:
    c_on_d = AciNode(id=C, dependencies=(AciNode(id=D),))
    assert [part.id for part in parts(AciNode(id=A, dependencies=(AciNode(id=B), c_on_d)))] == [B, D, C, A]
    b_on_d = AciNode(id=B, dependencies=(AciNode(id=D),))
    assert [part.id for part in parts(AciNode(id=A, dependencies=(b_on_d, c_on_d)))] == [D, B, D, C, A]


def test_rings_and_explosions_are_refused() -> None:
    ring = AciNode(id=A, dependencies=(AciNode(id=B, dependencies=(AciNode(id=A),)),))
    with pytest.raises(ImageRefused, match="depends on itself"):
        parts(ring)
    node = AciNode(id="sha512-" + "0" * 128)
    for number in range(1, 30):
        node = AciNode(id=f"sha512-{number:0128x}", dependencies=(node, node))
    with pytest.raises(ImageRefused, match="too many others"):
        parts(node)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "data").open()
    contents = {
        A: archive(MANIFEST, ROOTFS, file(b"rootfs/a", b"A"), file(b"rootfs/all", b"A"), folder(b"rootfs/sym"), file(b"rootfs/sym/a", b"A")),
        B: archive(MANIFEST, ROOTFS, file(b"rootfs/all", b"B"), file(b"rootfs/b/x", b"B"), file(b"rootfs/b/y", b"B"), hardlink(b"rootfs/b/z", b"rootfs/b/x")),
        C: archive(MANIFEST, ROOTFS, file(b"rootfs/all", b"C"), folder(b"rootfs/real"), symlink(b"rootfs/sym", b"real"), file(b"rootfs/c", b"C")),
    }  # fmt: skip
    for identity, data in contents.items():
        stage = store.trees.stage()
        unpack_aci([data], stage, owner=OWNER)  # type: ignore[arg-type]
        store.trees.commit(stage, identity, {})
    return store


def names(store: Store, trees: tuple[str, ...]) -> list[str]:
    (top,) = (store.trees.path(tree) for tree in trees)
    return sorted(str(path.relative_to(top)) for path in top.rglob("*"))


def test_an_image_alone_is_its_own_tree(store: Store) -> None:
    assert render(store, AciNode(id=A)) == (A,)


def test_later_images_replace_what_is_there(store: Store) -> None:
    trees = render(store, AciNode(id=A, dependencies=(AciNode(id=B), AciNode(id=C))))
    view = Rootfs((str(store.trees.path(trees[0])),))
    assert view.read("all") == b"A"
    assert names(store, trees) == ["a", "all", "b", "b/x", "b/y", "b/z", "c", "real", "sym", "sym/a"]
    assert view.lookup("real/a") is None  # the symlink was replaced, not followed
    x, z = view.lookup("b/x"), view.lookup("b/z")
    assert x is not None
    assert z is not None
    assert x.status.st_ino == z.status.st_ino
    assert render(store, AciNode(id=A, dependencies=(AciNode(id=B), AciNode(id=C)))) == trees
    assert render(store, AciNode(id=A, dependencies=(AciNode(id=C), AciNode(id=B)))) != trees


def test_whitelists_filter_their_branch(store: Store) -> None:
    b = AciNode(id=B, path_whitelist=("/b/x", "/b/z", "/all"))
    assert names(store, render(store, b)) == ["all", "b", "b/x", "b/z"]
    trees = render(store, AciNode(id=A, dependencies=(b,), path_whitelist=("/a", "/b/x", "/b/y", "/b/")))
    assert names(store, trees) == ["a", "b", "b/x"]


def test_an_image_on_two_ways_is_filtered_on_each_by_its_own_whitelists(store: Store) -> None:
    first = AciNode(id=A, dependencies=(AciNode(id=B),), path_whitelist=("/a", "/b/x", "/all"))
    second = AciNode(id=C, dependencies=(AciNode(id=B),), path_whitelist=("/c", "/b/y"))
    top = AciNode(id=D, dependencies=(first, second))
    stage = store.trees.stage()
    unpack_aci([archive(MANIFEST, ROOTFS, file(b"rootfs/d", b"D"))], stage, owner=OWNER)  # type: ignore[arg-type]
    store.trees.commit(stage, D, {})
    trees = render(store, top)
    assert names(store, trees) == ["a", "all", "b", "b/x", "b/y", "c", "d"]
    (tree,) = trees
    assert Rootfs((str(store.trees.path(tree)),)).read("all") == b"A"  # C's and B's, that come later, are filtered


def test_whitelists_do_not_reach_other_branches(store: Store) -> None:
    b = AciNode(id=B, path_whitelist=("/all",))
    assert names(store, render(store, AciNode(id=A, dependencies=(b, AciNode(id=C))))) == [
        "a",
        "all",
        "c",
        "real",
        "sym",
        "sym/a",
    ]
