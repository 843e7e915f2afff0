"""Commands on images: list, manifests, trees, archives, unpack, verify, gc, trust; bundles that others run."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrkt.base.dirs import ConfigDirs
from pyrkt.base.errors import Busy
from pyrkt.cli.progress import progress
from pyrkt.pod.ask import App, PodAsk, Pull
from pyrkt.pod.directory import Pods
from pyrkt.pod.images import Source
from pyrkt.pod.prepare import prepare
from pyrkt.store import ImageRecord, Store
from pyrkt.store.gc import collect
from tests.support import keys
from tests.support.oci import ours, peer
from tests.support.pods import Pyrkt, end, make_aci, make_layout, sha512

pytestmark = [pytest.mark.root, pytest.mark.peers]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pyrkt]:
    """A store with one OCI image and one ACI."""
    tool = Pyrkt(tmp_path_factory.mktemp("images"))
    make_layout(tool.base / "layout", "--config.workingdir", "/tmp", "--config.label", "who=me")
    tool.ok("fetch", f"oci:{tool.base}/layout:bb")
    tool.ok("fetch", str(make_aci(tool.base / "box.aci")))
    yield tool
    assert tool.clean() == []


def oci(tool: Pyrkt) -> str:
    return f"oci:{tool.base}/layout:bb"


def images(tool: Pyrkt) -> dict[str, dict[str, object]]:
    found = json.loads(tool.ok("image", "list", "--format=json"))
    return {record["kind"]: record for record in found}


def test_fetch_prints_an_id_or_json(stored: Pyrkt) -> None:
    out = stored.ok("fetch", oci(stored))
    assert len(out.strip()) == len("sha256-") + 32
    whole = stored.ok("fetch", "--full", oci(stored)).strip()
    assert whole.startswith(out.strip())
    record = json.loads(stored.ok("fetch", "--json", oci(stored)))
    assert record["id"] == whole
    assert record["insecure"] == ["image"]


def test_an_image_is_refused_without_a_signature_unless_that_is_asked_for(stored: Pyrkt) -> None:
    strict = Pyrkt(stored.base, insecure="")
    answer = strict.call("fetch", str(stored.base / "box.aci"))
    assert answer.code == 78
    assert "hint:" in answer.err
    assert answer.err.count("\n") == 2


def test_list(stored: Pyrkt) -> None:
    lines = stored.ok("image", "list").splitlines()
    assert lines[0].split() == ["ID", "NAME", "SIZE", "IMPORT", "TIME", "LAST", "USED"]
    assert len(lines) == 3
    assert stored.ok("image", "list", "--fields=id,latest", "--no-legend").split()[1] in {"true", "false"}
    by_size = [
        int(line)
        for line in stored.ok(
            "image", "list", "--fields=size", "--sort=size", "--order=desc", "--full", "--no-legend"
        ).split()
    ]
    assert by_size == sorted(by_size, reverse=True)
    assert stored.call("image", "list", "--fields=colour").code == 2


def test_cat_manifest_to_the_byte(stored: Pyrkt) -> None:
    identity = str(images(stored)["oci"]["id"])
    out = subprocess.run(
        stored.argv("image", "cat-manifest", "--no-pretty-print", identity), capture_output=True, check=True
    ).stdout
    assert hashlib.sha256(out).hexdigest() == identity.removeprefix("sha256-")
    assert json.loads(stored.ok("image", "cat-manifest", "example.com/box"))["acKind"] == "ImageManifest"


def test_render_and_extract(stored: Pyrkt, tmp_path: Path) -> None:
    stored.ok("image", "render", "example.com/box", str(tmp_path / "r"))
    assert (tmp_path / "r/rootfs/bin/busybox").is_file()
    assert json.loads((tmp_path / "r/manifest").read_text())["name"] == "example.com/box"
    stored.ok("image", "extract", "--rootfs-only", "example.com/box", str(tmp_path / "e"))
    assert (tmp_path / "e/bin/sh").is_symlink()
    assert stored.call("image", "render", "example.com/box", str(tmp_path / "e")).code == 73
    stored.ok("image", "render", "--overwrite", "example.com/box", str(tmp_path / "e"))
    assert (tmp_path / "e/rootfs").is_dir()


def test_export_of_an_aci_has_the_same_id(stored: Pyrkt, tmp_path: Path) -> None:
    answer = stored.call("image", "export", "example.com/box", str(tmp_path / "x.tar"))
    assert (answer.code, "must end in .aci" in answer.err, list(tmp_path.glob("x*"))) == (2, True, [])
    stored.ok("image", "export", "example.com/box", str(tmp_path / "x.aci"))
    assert f"sha512-{sha512(tmp_path / 'x.aci')}" == images(stored)["appc"]["id"]
    assert stored.call("image", "export", "example.com/box", str(tmp_path / "x.aci")).code == 73


def test_export_of_an_oci_image_is_a_layout_that_skopeo_reads(stored: Pyrkt, tmp_path: Path) -> None:
    stored.ok("image", "export", oci(stored), str(tmp_path / "x.tar"))
    (tmp_path / "layout").mkdir()
    with tarfile.open(tmp_path / "x.tar") as tar:
        assert "oci-layout" in tar.getnames()
    subprocess.run(["tar", "-xf", tmp_path / "x.tar", "-C", tmp_path / "layout"], check=True)
    done = subprocess.run(["skopeo", "inspect", "--raw", f"oci:{tmp_path}/layout"], capture_output=True, check=True)
    assert hashlib.sha256(done.stdout).hexdigest() == str(images(stored)["oci"]["id"]).removeprefix("sha256-")


@pytest.mark.parametrize("kind", ["oci", "appc"])
@pytest.mark.parametrize("runtime", ["runc", "crun", "pyrkt-oci"])
def test_an_unpacked_image_is_a_bundle_for_every_runtime(
    stored: Pyrkt, tmp_path: Path, kind: str, runtime: str
) -> None:
    reference = oci(stored) if kind == "oci" else str(stored.base / "box.aci")
    alone = Pyrkt(tmp_path)
    alone.ok("image", "unpack", reference, str(tmp_path / "bundle"))
    assert not alone.data.exists(), "no store is needed"
    assert sorted(path.name for path in (tmp_path / "bundle").iterdir()) == [
        "config.json",
        "files",
        "rootfs",
        "runtime.json",
    ]
    assert not list(tmp_path.glob(".pyrkt-unpack-*"))
    tool = ours(tmp_path) if runtime == "pyrkt-oci" else peer(runtime, tmp_path)
    config = json.loads((tmp_path / "bundle/config.json").read_text())
    config["process"]["args"] = ["/bin/sh", "-c", "echo ran in $PWD"]
    (tmp_path / "bundle/config.json").write_text(json.dumps(config))
    try:
        answer = tool.run(tmp_path / "bundle")
        assert answer.out == f"ran in {'/tmp' if kind == 'oci' else '/'}\n", answer.err
    finally:
        tool.clean()


def test_unpack_takes_what_is_stored_without_the_network(stored: Pyrkt, tmp_path: Path) -> None:
    stored.ok("image", "unpack", "example.com/box", str(tmp_path / "bundle"))
    assert (tmp_path / "bundle/rootfs/bin/busybox").exists()


def test_unpack_of_what_is_refused_leaves_nothing(stored: Pyrkt, tmp_path: Path) -> None:
    strict = Pyrkt(tmp_path, insecure="")
    answer = strict.call("image", "unpack", str(stored.base / "box.aci"), str(tmp_path / "bundle"))
    assert answer.code == 78
    assert list(tmp_path.iterdir()) == []


def test_verify_finds_what_was_changed(stored: Pyrkt) -> None:
    assert "successfully verified" in stored.ok("image", "verify")
    (tree,) = stored.data.glob("trees/*/fs/data/seed")
    before = tree.stat()
    tree.write_text("changed since\n")
    answer = stored.call("image", "verify", oci(stored))
    assert answer.code == 65
    assert "has changed" in answer.out
    tree.write_text("from the image\n")
    os.utime(tree, ns=(before.st_atime_ns, before.st_mtime_ns))
    stored.ok("image", "verify", oci(stored))


@pytest.mark.parametrize("kind", ["oci", "appc"])
def test_what_is_damaged_is_discarded_and_fetched_anew(tmp_path: Path, stored: Pyrkt, kind: str) -> None:
    tool, image = Pyrkt(tmp_path), oci(stored) if kind == "oci" else str(stored.base / "box.aci")
    tool.ok("fetch", image)
    (tree,) = tool.data.glob("trees/*/fs/etc/passwd")
    blob = max(tool.data.glob("blobs/*/*"), key=lambda path: path.stat().st_size)
    for path in (tree, blob):
        path.chmod(0o600)
        path.write_bytes(b"damaged")
    tool.ok("fetch", image)
    answer = tool.call("image", "verify", "--discard")
    assert (answer.code, answer.out.count("has changed"), answer.out.count("discarded")) == (65, 2, 2), answer
    tool.ok("run", image, "--exec=/bin/true")
    tool.ok("fetch", image)
    tool.ok("image", "verify")
    assert tree.read_bytes().startswith(b"root:")


@pytest.mark.parametrize("kind", ["oci", "appc"])
@pytest.mark.parametrize("damage", ["deleted", "changed", "gone"])
def test_a_damaged_tree_is_made_anew_without_the_network(tmp_path: Path, stored: Pyrkt, kind: str, damage: str) -> None:
    tool, image = Pyrkt(tmp_path), oci(stored) if kind == "oci" else str(stored.base / "box.aci")
    tool.ok("fetch", image)
    (file,) = tool.data.glob("trees/*/fs/etc/passwd")
    before = file.read_bytes(), file.stat().st_mtime_ns
    if damage == "changed":
        file.write_bytes(b"damaged")
    elif damage == "deleted":
        file.unlink()
    else:
        shutil.rmtree(file.parents[2])
    assert tool.call("image", "verify").code == 65
    out = tool.ok("image", "verify", "--repair")
    assert "made anew" in out
    assert "successfully verified 1 image(s)" in out
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before
    assert tool.ok("run", image, "--exec=/bin/cat", "--", "/etc/passwd").encode() == before[0]
    assert tool.clean() == []


def test_what_cannot_be_made_anew_stays_a_problem(tmp_path: Path, stored: Pyrkt) -> None:
    tool = Pyrkt(tmp_path)
    tool.ok("fetch", oci(stored))
    (file,) = tool.data.glob("trees/*/fs/etc/passwd")
    file.unlink()
    layer = max(tool.data.glob("blobs/*/*"), key=lambda path: path.stat().st_size)
    layer.chmod(0o600)
    layer.write_bytes(b"damaged")
    answer = tool.call("image", "verify", "--repair")
    assert (answer.code, "made anew" in answer.out) == (65, False)
    tool.call("image", "verify", "--discard")
    tool.ok("fetch", oci(stored))
    tool.ok("image", "verify")
    uuid = tool.ok("prepare", oci(stored), "--", "true").strip()
    file.unlink()
    answer = tool.call("image", "verify", "--repair")
    assert (answer.code, "stays: a pod uses it" in answer.out) == (65, True)
    tool.ok("rm", uuid)
    tool.ok("image", "verify", "--repair")


def test_what_a_pod_uses_is_not_discarded(tmp_path: Path, stored: Pyrkt) -> None:
    tool = Pyrkt(tmp_path)
    uuid = tool.ok("prepare", oci(stored), "--", "true").strip()
    (tree,) = tool.data.glob("trees/*/fs/etc/passwd")
    tree.write_bytes(b"damaged")
    assert "stays: a pod uses it" in tool.call("image", "verify", "--discard").out
    tool.ok("rm", uuid)
    assert "discarded" in tool.call("image", "verify", "--discard").out
    assert not list(tool.data.glob("trees/*"))


def test_gc_keeps_what_pods_use_and_rm_breaks_no_pod(tmp_path: Path, stored: Pyrkt) -> None:
    tool = Pyrkt(tmp_path)
    tool.ok("fetch", oci(stored))
    uuid = tool.ok("prepare", oci(stored), "--", "echo", "still there").strip()
    answer = tool.call("image", "rm", oci(stored))
    assert answer.code == 0
    assert "1 image(s) successfully removed" in answer.err
    tool.ok("image", "gc", "--all")
    assert tool.ok("run-prepared", uuid) == "still there\n"
    tool.ok("rm", uuid)
    assert "tree" in tool.ok("image", "gc", "--all")
    assert not list((tool.data / "trees").iterdir())
    assert not list((tool.data / "blobs").glob("*/*"))


def test_gc_waits_while_a_pod_is_made(tmp_path: Path, stored: Pyrkt) -> None:
    """From finding its image until the pod says which trees it uses, they are kept."""

    class Watched(Source):
        def fetch(self, text: str, signature: str = "") -> ImageRecord:
            record = super().fetch(text, signature)
            with pytest.raises(Busy):
                collect(Store(self.store.root), grace=0)
            return record

    tool = Pyrkt(tmp_path)
    dirs = ConfigDirs(system="/nonexistent", local="/nonexistent")
    source = Watched(str(tool.data), dirs, Pull(insecure=frozenset({"image"})), progress(quiet=True))
    made = prepare(PodAsk(apps=(App(image=oci(stored)),)), Pods(str(tool.data)), source)
    os.close(made.pod.descriptor)
    assert all(source.store.trees.has(tree) for tree in Path(made.pod.path, "trees").read_text().split())


def test_trust_then_fetch_what_that_key_signed(tmp_path: Path) -> None:
    tool = Pyrkt(tmp_path, insecure="")
    aci = make_aci(tmp_path / "box.aci")
    with keys.gpg_home() as gpg:
        gpg.key("signer")
        (tmp_path / "key.asc").write_bytes(gpg.public("signer"))
        Path(f"{aci}.asc").write_bytes(gpg.sign("signer", aci.read_bytes()))
    answer = tool.call("trust", str(tmp_path / "key.asc"))
    assert answer.code == 2
    assert "without bounds" in answer.err
    answer = tool.call("trust", "--prefix=example.com/box", str(tmp_path / "key.asc"))
    assert answer.code == 77, "nobody was there to look at the fingerprint"
    assert tool.call("fetch", str(aci)).code == 78
    out = tool.ok("trust", "--prefix=example.com/box", "--skip-fingerprint-review", str(tmp_path / "key.asc"))
    assert "Added key for prefix example.com/box" in out
    record = json.loads(tool.ok("fetch", "--json", str(aci)))
    assert [signer["format"] for signer in record["signers"]] == ["openpgp"]
    assert tool.ok("run", "example.com/box", "--", "-c", "echo proven") == "proven\n"
    assert tool.clean() == []


@pytest.mark.parametrize(("answer", "added"), [(b"yes\n", True), (b"no\n", False), (b"maybe\nyes\n", True)])
def test_trust_asks_on_a_terminal(tmp_path: Path, answer: bytes, added: bool) -> None:
    tool = Pyrkt(tmp_path)
    with keys.gpg_home() as gpg:
        gpg.key("signer")
        (tmp_path / "key.asc").write_bytes(gpg.public("signer"))
    master, slave = pty.openpty()
    try:
        process = tool.popen("trust", "--root", str(tmp_path / "key.asc"), stdin=slave, stdout=slave, stderr=slave)
        os.write(master, answer)
        assert end(process) == 0
    finally:
        os.close(slave)
        os.close(master)
    assert bool(list((tmp_path / "etc").glob("trustedkeys/root.d/*"))) is added


def test_doctor_names_a_remedy_for_each_lack(stored: Pyrkt) -> None:
    answer = stored.call("doctor", "--format=json")
    facts = json.loads(answer.out)
    assert {"kernel", "user namespaces", "overlayfs", "seccomp", "controller memory", "stage1", "disk space"} <= {
        fact["name"] for fact in facts
    }
    assert all(fact["remedy"] for fact in facts if fact["verdict"] != "ok")
    assert answer.code == int(any(fact["verdict"] == "missing" for fact in facts))


def test_config_shows_what_is_merged_and_no_secret(tmp_path: Path) -> None:
    tool = Pyrkt(tmp_path)
    (tmp_path / "etc/auth.d").mkdir(parents=True)
    (tmp_path / "etc/auth.d/a.json").write_text(
        json.dumps(
            {
                "rktKind": "auth",
                "rktVersion": "v1",
                "domains": ["a.test", "b.test"],
                "type": "basic",
                "credentials": {"user": "u", "password": "secret"},
            }
        )
    )
    out = tool.ok("config")
    assert [entry["domains"] for entry in json.loads(out)["stage0"]] == [["a.test"], ["b.test"]]
    assert "secret" not in out


def test_the_data_directory_of_the_configuration_is_used(tmp_path: Path) -> None:
    (tmp_path / "etc/paths.d").mkdir(parents=True)
    (tmp_path / "etc/paths.d/a.json").write_text(
        json.dumps({"rktKind": "paths", "rktVersion": "v1", "data": f"{tmp_path}/other"})
    )
    command = [word for word in Pyrkt(tmp_path).argv("version", "--format=json") if not word.startswith("--dir=")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["data"] == f"{tmp_path}/other"
