"""The data directory: who may use it, blobs, trees and records that are whole or not there."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pyrkt.base.errors import (
    Busy,
    CannotCreate,
    ImageRefused,
    InvalidSpec,
    NoPermission,
    NotFound,
    UsageError,
)
from pyrkt.base.fastjson import loads
from pyrkt.base.reader import Reader
from pyrkt.spec.digest import Digest
from pyrkt.store import ImageRecord, Signer, Store
from pyrkt.store.gc import collect, plan, verify
from pyrkt.store.remove import remove_tree

DATA = b"layer" * 1000
SHA256 = Digest("sha256:" + hashlib.sha256(DATA).hexdigest())
SHA512 = Digest("sha512:" + hashlib.sha512(DATA).hexdigest())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data").open()


def record(store: Store, digit: str = "a", **changes: object) -> ImageRecord:
    manifest = store.blobs.put(f"manifest {digit}".encode())
    made = ImageRecord(
        id="sha256-" + digit * 64, kind="oci", name="registry.test/app",
        reference="docker://registry.test/app:1", manifest=manifest, imported=1000.5, last_used=2000.0,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def tree(store: Store, digit: str, content: str = "x") -> str:
    stage = store.trees.stage()
    (stage / "file").write_text(content)
    identity = "sha256-" + digit * 64
    store.trees.commit(stage, identity, {"size": len(content)})
    return identity


def fill(store: Store, data: bytes, size: int | None = None, *, resume: bool = False) -> Digest:
    with store.blobs.writer(SHA256, size, resume=resume) as writer:
        writer.write(data)
        return writer.commit()


class TestDirectory:
    def test_is_private_and_versioned(self, store: Store) -> None:
        assert store.root.stat().st_mode & 0o7777 == 0o700
        assert (store.root / "version").read_text() == "1\n"
        assert all(
            (store.root / name).stat().st_mode & 0o077 == 0 for name in os.listdir(store.root) if name != "version"
        )

    def test_may_be_opened_again(self, store: Store) -> None:
        Store(store.root).open()

    def test_refuses_one_that_others_may_write(self, store: Store) -> None:
        store.root.chmod(0o777)
        with pytest.raises(NoPermission, match="others may write"):
            Store(store.root).open()

    def test_tightens_one_that_others_may_read(self, store: Store) -> None:
        store.root.chmod(0o755)
        Store(store.root).open()
        assert store.root.stat().st_mode & 0o7777 == 0o700

    @pytest.mark.root
    def test_refuses_one_of_somebody_else(self, store: Store) -> None:
        os.chown(store.root, 12345, 0)
        with pytest.raises(NoPermission, match="uid 12345"):
            Store(store.root).open()

    def test_refuses_a_newer_layout(self, store: Store) -> None:
        (store.root / "version").write_text("2\n")
        with pytest.raises(InvalidSpec, match="version"):
            Store(store.root).open()

    def test_refuses_to_move_in_with_strangers(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("")
        with pytest.raises(CannotCreate, match=r"thesis\.tex"):
            Store(tmp_path).open()

    def test_refuses_a_symlink(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(store.root)
        with pytest.raises(CannotCreate, match="not a directory"):
            Store(tmp_path / "link").open()

    def test_refuses_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(CannotCreate):
            Store(tmp_path / "file").open()

    def test_finishes_what_a_killed_first_open_began(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir(mode=0o700)
        (tmp_path / "data" / "version.1.ab.tmp").write_text("")
        (tmp_path / "data" / "blobs").mkdir()
        Store(tmp_path / "data").open()


class TestBlobs:
    @pytest.mark.parametrize("digest", [SHA256, SHA512, None])
    def test_stores_what_matches(self, store: Store, digest: Digest | None) -> None:
        with store.blobs.writer(digest, len(DATA)) as writer:
            writer.write(DATA[:7])
            writer.write(memoryview(DATA)[7:])
            stored = writer.commit()
        assert stored == (digest or SHA256)
        assert store.blobs.path(stored).read_bytes() == DATA
        assert b"".join(store.blobs.chunks(stored)) == DATA
        assert store.blobs.read(stored, len(DATA)) == DATA
        assert list(store.blobs.all()) == [stored]
        assert os.listdir(store.tmp) == []

    def test_without_commit_nothing_is_stored(self, store: Store) -> None:
        with store.blobs.writer(SHA256) as writer:
            writer.write(DATA)
        assert not store.blobs.has(SHA256)
        assert os.listdir(store.tmp) == []

    def test_refuses_other_content(self, store: Store) -> None:
        with pytest.raises(ImageRefused, match="has digest"):
            fill(store, b"other")
        assert list(store.blobs.all()) == []

    def test_stops_at_the_declared_size(self, store: Store) -> None:
        with pytest.raises(ImageRefused, match="more than the 10 bytes"), store.blobs.writer(SHA256, 10) as writer:
            writer.write(b"x" * 11)

    def test_refuses_a_short_one(self, store: Store) -> None:
        with pytest.raises(ImageRefused, match="4 bytes instead of the 5000"):
            fill(store, b"laye", 5000)

    def test_resumes_where_another_stopped(self, store: Store) -> None:
        with pytest.raises(ImageRefused, match="1234 bytes instead"):
            fill(store, DATA[:1234], len(DATA), resume=True)
        assert store.blobs.partial(SHA256).stat().st_size == 1234
        with store.blobs.writer(SHA256, len(DATA), resume=True) as writer:
            assert writer.written == 1234
            writer.write(DATA[1234:])
            writer.commit()
        assert store.blobs.path(SHA256).read_bytes() == DATA
        assert not store.blobs.partial(SHA256).exists()

    def test_a_wrong_beginning_does_not_spoil_the_next_attempt(self, store: Store) -> None:
        store.blobs.partial(SHA256).write_bytes(b"wrong")
        with pytest.raises(ImageRefused):
            fill(store, DATA[5:], len(DATA), resume=True)
        assert not store.blobs.partial(SHA256).exists()

    def test_what_never_began_leaves_nothing(self, store: Store) -> None:
        with pytest.raises(ImageRefused, match="0 bytes instead"):
            fill(store, b"", len(DATA), resume=True)
        assert not store.blobs.partial(SHA256).exists()

    def test_a_server_may_begin_again(self, store: Store) -> None:
        store.blobs.partial(SHA256).write_bytes(b"wrong")
        with store.blobs.writer(SHA256, len(DATA), resume=True) as writer:
            writer.restart()
            writer.write(DATA)
            writer.commit()
        assert store.blobs.has(SHA256)

    def test_a_beginning_longer_than_the_blob_is_dropped(self, store: Store) -> None:
        store.blobs.partial(SHA256).write_bytes(b"x" * (len(DATA) + 1))
        with store.blobs.writer(SHA256, len(DATA), resume=True) as writer:
            assert writer.written == 0

    def test_the_second_of_two_finds_the_work_done(self, store: Store) -> None:
        inside, seen = threading.Event(), []

        def second() -> None:
            inside.wait()
            with Store(store.root).blobs.writer(SHA256, len(DATA), resume=True) as writer:
                seen.append((writer.complete, writer.commit()))

        thread = threading.Thread(target=second)
        thread.start()
        with store.blobs.writer(SHA256, len(DATA), resume=True) as writer:
            inside.set()
            time.sleep(0.05)
            assert seen == []
            writer.write(DATA)
            writer.commit()
        thread.join()
        assert seen == [(True, SHA256)]

    def test_missing(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.blobs.open(SHA256)
        with pytest.raises(NotFound):
            store.blobs.size(SHA256)

    def test_does_not_follow_a_planted_link(self, store: Store) -> None:
        store.blobs.put(b"other")
        store.blobs.path(SHA256).symlink_to("/etc/passwd")
        with pytest.raises(OSError, match="symbolic link"):
            store.blobs.open(SHA256)

    def test_a_read_is_limited(self, store: Store) -> None:
        with pytest.raises(ImageRefused):
            store.blobs.read(store.blobs.put(DATA), 10)


class TestImages:
    def test_comes_back_as_it_was(self, store: Store) -> None:
        put = record(
            store, kind="appc", id="sha512-" + "0f" * 64, name="example.com/app", labels={"version": "1", "os": "x"},
            config=SHA256, blobs=(SHA256, SHA512), trees=("sha256-" + "0" * 64,), dependencies=("sha512-" + "1" * 128,),
            signers=(Signer(format="openpgp", fingerprint="AB", name="Ä <a@example.com>"),), encrypted=True,
            insecure=("image", "http"), size=12, latest=True,
        )  # fmt: skip
        assert store.images.put(put) == put
        assert store.images.find(put.id) == put
        assert store.images.all() == [put]
        assert ImageRecord.parse(Reader(loads(str(put.dump()).replace("'", '"').replace("True", "true")), "x")) == put

    def test_use_is_noted_and_does_not_revive(self, store: Store) -> None:
        image = store.images.put(record(store))
        store.images.touch(image.id)
        assert abs(store.images.get(image.id).last_used - time.time()) < 60
        store.images.remove(image.id)
        store.images.touch(image.id)
        assert store.images.all() == []
        with pytest.raises(NotFound):
            store.images.remove(image.id)

    def test_the_references_of_one_image_add_up(self, store: Store) -> None:
        store.images.put(record(store))
        store.images.put(record(store, reference="docker://registry.test/app:2"))
        kept = store.images.put(record(store, reference="docker://registry.test/app:3"))
        assert kept.aliases == ("docker://registry.test/app:2", "docker://registry.test/app:1")
        assert store.images.find("docker://registry.test/app:1").id == kept.id

    def test_a_tag_that_moved_means_the_last_fetch(self, store: Store) -> None:
        store.images.put(record(store, "a", imported=3.0))
        store.images.put(record(store, "b", imported=5.0))
        assert store.images.find("docker://registry.test/app:1").id == "sha256-" + "b" * 64

    def test_a_broken_record_does_not_hide_the_others(self, store: Store) -> None:
        image = store.images.put(record(store))
        (store.root / "images" / ("sha256-" + "d" * 64 + ".json")).write_text("{")
        (store.root / "images" / "junk.json").write_text("{}")
        assert store.images.all() == [image]
        assert len(verify(store)) == 2


@pytest.fixture
def several(store: Store) -> Store:
    put = store.images.put
    put(record(store, "a"))
    put(record(store, "b", name="registry.test/tool", reference="docker://registry.test/tool:2.0"))
    put(record(store, "c", name="localhost:5000/tool", reference="docker://localhost:5000/tool:2.0"))
    appc = {"kind": "appc", "name": "example.com/web"}
    labels = {"os": "linux", "arch": "amd64"}
    put(record(store, "d", **appc, reference="example.com/web:1.0", labels=labels | {"version": "1.0"}, imported=1.0))
    put(record(store, "e", **appc, reference="example.com/web:2.0", labels=labels | {"version": "2.0"}, imported=2.0))
    put(
        record(
            store, "f", **(appc | {"name": "example.com/db"}), reference="example.com/db", labels=labels, latest=True
        )
    )
    put(
        record(store, "1", **(appc | {"name": "example.com/db"}), reference="example.com/db:9", labels={"version": "9"})
    )
    put(
        record(
            store, "2", id="sha512-" + "a" * 128, **(appc | {"name": "example.com/both"}), reference="example.com/both"
        )
    )
    return store


@pytest.mark.parametrize(("text", "digit"), [
    pytest.param("sha256-" + "a" * 64, "a", id="id"),
    pytest.param("sha256-aa", "a", id="id-prefix"),
    pytest.param("sha256:bb", "b", id="id-colon"),
    pytest.param("cc", "c", id="bare-hex"),
    pytest.param("docker://registry.test/app:1", "a", id="reference"),
    pytest.param("registry.test/app:1", "a", id="reference-without-scheme"),
    pytest.param("registry.test/app", "a", id="oci-name"),
    pytest.param("app", "a", id="end-of-name"),
    pytest.param("app:1", "a", id="end-of-name-tag"),
    pytest.param("localhost:5000/tool", "c", id="port-is-not-a-tag"),
    pytest.param("localhost:5000/tool:2.0", "c", id="port-and-tag"),
    pytest.param("localhost:5000/to", "c", id="beginning-of-name"),
    pytest.param("example.com/web:1.0", "d", id="appc-version"),
    pytest.param("example.com/web:2.0,os=linux", "e", id="appc-version-label"),
    pytest.param("example.com/web,version=1.0,arch=amd64", "d", id="appc-version-as-label"),
    pytest.param("example.com/db", "f", id="appc-latest"),
    pytest.param("db:9", "1", id="appc-shortened"),
])  # fmt: skip
def test_finds(several: Store, text: str, digit: str) -> None:
    assert several.images.find(text).id == "sha256-" + digit * 64


@pytest.mark.parametrize(("text", "error", "problem"), [
    pytest.param("sha256-", UsageError, "too short", id="no-digits"),
    pytest.param("sha256-a", UsageError, "too short", id="one-digit"),
    pytest.param("tool", UsageError, "any of 2 images: sha256-bbbbbbbbbbbb", id="two-ends"),
    pytest.param("example.com/web", UsageError, "any of 2", id="two-versions"),
    pytest.param("aaa", UsageError, "any of 2", id="two-ids"),
    pytest.param("sha256-99", NotFound, "no image", id="unknown-id"),
    pytest.param("example.com/web:3.0", NotFound, "no image", id="unknown-version"),
    pytest.param("example.com/web:1.0,os=plan9", NotFound, "no image", id="unknown-label"),
    pytest.param("", NotFound, "no image", id="empty"),
    pytest.param("/etc/passwd", NotFound, "no image", id="path"),
    pytest.param("sha256-../../etc", NotFound, "no image", id="id-with-dots"),
])  # fmt: skip
def test_does_not_find(several: Store, text: str, error: type[Exception], problem: str) -> None:
    with pytest.raises(error, match=problem):
        several.images.find(text)


class TestTrees:
    def test_commits_by_one_rename(self, store: Store) -> None:
        identity = tree(store, "1", "hello")
        assert store.trees.has(identity)
        assert (store.trees.path(identity) / "file").read_text() == "hello"
        assert store.trees.meta(identity)["size"] == 5
        assert store.trees.all() == [identity]
        assert os.listdir(store.tmp) == []

    def test_the_second_commit_of_one_id_changes_nothing(self, store: Store) -> None:
        identity = tree(store, "1", "first")
        tree(store, "1", "second")
        assert (store.trees.path(identity) / "file").read_text() == "first"
        assert os.listdir(store.tmp) == []

    @pytest.mark.parametrize("identity", ["../x", "sha256-" + "A" * 64, "", "sha256-" + "a" * 63 + "/"])
    def test_refuses_what_is_no_id(self, store: Store, identity: str) -> None:
        with pytest.raises(UsageError):
            store.trees.path(identity)

    def test_missing(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.trees.meta("sha256-" + "9" * 64)


class TestGc:
    def test_keeps_what_images_and_pods_use(self, store: Store) -> None:
        used, by_pod, by_caller, unused = (tree(store, digit) for digit in "1234")
        image = store.images.put(record(store, trees=(used,), blobs=(store.blobs.put(b"layer"),)))
        lonely = store.blobs.put(b"lonely")
        pod = store.root / "pods" / "run" / "5f2b"
        pod.mkdir(parents=True)
        (pod / "trees").write_text(by_pod + "\n")
        store.blobs.partial(SHA256).write_bytes(b"beginning")
        (store.tmp / "junk").mkdir()
        (store.tmp / "junk" / "file").write_text("")
        removed = collect(store, {by_caller}, grace=0)
        assert sorted(removed) == sorted(
            [f"tree {unused}", f"blob {lonely}", "leftover junk", f"partial {SHA256.replace(':', '-')}"]
        )
        assert store.trees.all() == sorted([used, by_pod, by_caller])
        assert sorted(store.blobs.all()) == sorted(image.all_blobs())
        assert os.listdir(store.tmp) == os.listdir(store.root / "partial") == []
        assert verify(store) == []

    def test_plans_without_touching(self, store: Store) -> None:
        identity = tree(store, "1")
        assert [str(removal) for removal in plan(store, (), 0)] == [f"tree {identity}"]
        assert store.trees.has(identity)

    def test_grace(self, store: Store) -> None:
        store.blobs.put(b"fresh")
        assert collect(store, grace=60) == []
        assert plan(store, (), 60, now=time.time() - 3600) == []  # the clock was set back
        assert len(plan(store, (), 60, now=time.time() + 61)) == 1

    def test_does_not_run_beside_a_writer(self, store: Store) -> None:
        other = Store(store.root)
        with other.hold(), pytest.raises(Busy):
            collect(store)
        with other.blobs.writer() as writer:
            writer.write(b"x")
            with pytest.raises(Busy):
                collect(store, grace=0)
            writer.commit()
        assert len(collect(store, grace=0)) == 1

    def test_an_unreadable_record_protects_what_it_may_need(self, store: Store) -> None:
        identity = tree(store, "1")
        (store.root / "images" / ("sha256-" + "d" * 64 + ".json")).write_text("{")
        assert collect(store, grace=0) == []
        assert store.trees.has(identity)

    def test_removes_locks_that_nobody_holds(self, store: Store) -> None:
        image = store.images.put(record(store))
        collect(store)
        assert os.listdir(store.root / "locks") == ["gc"]
        assert store.images.get(image.id).id == image.id


class TestVerify:
    def test_finds_a_changed_blob(self, store: Store) -> None:
        image = store.images.put(record(store, blobs=(store.blobs.put(DATA),)))
        path = store.blobs.path(SHA256)
        path.chmod(0o600)
        path.write_bytes(b"evil")
        (problem,) = verify(store)
        assert str(problem).startswith(f"image {image.id}: blob {SHA256} has changed")

    def test_finds_a_missing_blob(self, store: Store) -> None:
        store.images.put(record(store, blobs=(SHA512,)))
        assert "not in the store" in verify(store)[0].text

    @pytest.mark.parametrize("damage", ["cut", "gone", "more", "mode", "link", "tree"])
    def test_finds_a_changed_tree(self, store: Store, damage: str) -> None:
        identity = tree(store, "1", "hello")
        store.images.put(record(store, trees=(identity,)))
        assert verify(store) == []
        file = store.trees.path(identity) / "file"
        match damage:
            case "cut":
                os.truncate(file, 0)
            case "gone":
                file.unlink()
            case "more":
                (file.parent / "dir").mkdir()
            case "mode":
                file.chmod(0o4755)
            case "link":
                file.unlink()
                file.symlink_to("/etc/passwd")
            case "tree":
                remove_tree(file.parent.parent)
        assert len(verify(store)) == 1


class TestRemoveTree:
    def test_removes_what_rmtree_cannot(self, tmp_path: Path) -> None:
        here = os.open(tmp_path, os.O_RDONLY)
        os.mkdir("top", dir_fd=here)
        for _ in range(3000):
            below = os.open("top" if _ == 0 else "d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
            os.mkdir("d", dir_fd=here)
            os.symlink("/", "link", dir_fd=here)
        os.close(here)
        remove_tree(tmp_path / "top")
        assert os.listdir(tmp_path) == []

    def test_stays_inside(self, tmp_path: Path) -> None:
        (tmp_path / "canary").mkdir()
        (tmp_path / "canary" / "file").write_text("alive")
        (tmp_path / "tree" / "locked").mkdir(parents=True)
        (tmp_path / "tree" / "locked" / "file").write_text("")
        (tmp_path / "tree" / "link").symlink_to(tmp_path / "canary")
        (tmp_path / "tree" / "locked").chmod(0)
        remove_tree(tmp_path / "tree")
        (tmp_path / "link").symlink_to(tmp_path / "canary")
        remove_tree(tmp_path / "link")
        remove_tree(tmp_path / "nothing")
        assert os.listdir(tmp_path) == ["canary"]
        assert (tmp_path / "canary" / "file").read_text() == "alive"
