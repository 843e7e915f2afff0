"""Layouts as buildah and umoci write them, by every road that these tools have into one, and what runs of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyrkt.store import Rootfs, Store
from pyrkt.store.gc import verify
from tests.support import skopeo
from tests.support.pods import Pyrkt, make_aci, make_layout, umoci

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.root, pytest.mark.peers]


class Buildah:
    """buildah with storage of its own below ``home``."""

    def __init__(self, home: Path) -> None:
        self.home = home
        assert shutil.which("buildah"), "buildah is not installed: apt-get install buildah"

    def __call__(self, *words: str) -> str:
        """Run buildah; return what it printed. Fails the test with its words."""
        place = ("--root", f"{self.home}/root", "--runroot", f"{self.home}/run", "--storage-driver", "vfs")
        done = subprocess.run(["buildah", *place, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"buildah {' '.join(words)}: {done.stderr}"
        return done.stdout.strip()


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """An image "box" of two layers, the upper one of which deletes what the lower one has."""
    made = Buildah(tmp_path_factory.mktemp("buildah"))
    policy = made.home / "policy.json"
    policy.write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
    for number, command in enumerate(("seed", "change")):
        name = made("from", "--signature-policy", str(policy), "scratch" if not number else "localhost/box")
        root = Path(made("mount", name))
        if command == "seed":
            (root / "bin").mkdir()
            shutil.copy(skopeo.BUSYBOX, root / "bin/busybox")
            (root / "bin/sh").symlink_to("busybox")
            (root / "gone").mkdir()
            (root / "gone/file").write_text("x")
            (root / "kept").write_text("from below\n")
            os.chown(root / "kept", 1000, 1001)
        else:
            shutil.rmtree(root / "gone")
            (root / "who").write_text("buildah\n")
        made(
            "config",
            "--cmd",
            '["sh", "-c", "cat /who; echo $COLOUR"]',
            "--env",
            "PATH=/bin",
            "--env",
            "COLOUR=red",
            name,
        )
        made("umount", name)
        made("commit", "--quiet", "--signature-policy", str(policy), name, "localhost/box")
        made("rm", name)
    yield made
    made("rmi", "--all", "--force")


def assert_whole(tool: Pyrkt, reference: str) -> None:
    """Fetch ``reference``, look at the tree that its two layers make, and run it."""
    tool.ok("fetch", reference)
    store = Store(tool.data)
    assert verify(store) == []
    (record,) = store.images.all()
    rootfs = Rootfs(tuple(str(store.trees.path(tree)) for tree in record.trees))
    assert rootfs.lookup("/gone") is None
    assert rootfs.owner("/kept") == (1000, 1001)
    assert tool.ok("run", reference) == "buildah\nred\n"


@pytest.mark.parametrize("form", ["oci", "v2s2"])
@pytest.mark.parametrize("compressed", ["compressed", "plain"])
def test_a_layout_that_buildah_pushes(tmp_path: Path, buildah: Buildah, form: str, compressed: str) -> None:
    """A Docker manifest in an OCI layout is turned into an OCI one on the way, by buildah itself."""
    packed = [] if compressed == "compressed" else ["--disable-compression"]
    policy = f"--signature-policy={buildah.home}/policy.json"
    if form == "oci":
        buildah("push", "--quiet", policy, *packed, "localhost/box", f"oci:{tmp_path}/layout:1")
    else:
        buildah("push", "--quiet", policy, "--format=v2s2", *packed, "localhost/box", f"dir:{tmp_path}/dir")
        skopeo.run("copy", "-q", "--insecure-policy", f"dir:{tmp_path}/dir", f"oci:{tmp_path}/layout:1")
    assert_whole(Pyrkt(tmp_path), f"oci:{tmp_path}/layout:1")


def test_a_list_that_buildah_pushes(tmp_path: Path, buildah: Buildah) -> None:
    buildah("manifest", "create", "several", "localhost/box")
    policy = f"--signature-policy={buildah.home}/policy.json"
    buildah("manifest", "push", "--all", policy, "several", f"oci:{tmp_path}/layout:1")
    index = json.loads((tmp_path / "layout/index.json").read_text())
    assert "index" in index["manifests"][0]["mediaType"]
    assert_whole(Pyrkt(tmp_path), f"oci:{tmp_path}/layout:1")


def inserted(folder: Path, layout: Path) -> None:
    (folder / "note").write_text("umoci insert\n")
    umoci("insert", "--image", f"{layout}:bb", str(folder / "note"), "/note")


def inserted_opaque(folder: Path, layout: Path) -> None:
    (folder / "new").mkdir()
    (folder / "new/note").write_text("umoci insert\n")
    umoci("insert", "--image", f"{layout}:bb", "--opaque", str(folder / "new"), "/data")
    (folder / "note").write_text("umoci insert\n")
    umoci("insert", "--image", f"{layout}:bb", str(folder / "note"), "/note")


def repacked(folder: Path, layout: Path) -> None:
    umoci("unpack", "--image", f"{layout}:bb", str(folder / "bundle"))
    (folder / "bundle/rootfs/note").write_text("umoci insert\n")
    shutil.rmtree(folder / "bundle/rootfs/data")
    umoci("repack", "--image", f"{layout}:bb", str(folder / "bundle"))


def whited_out(folder: Path, layout: Path) -> None:
    inserted(folder, layout)
    umoci("insert", "--image", f"{layout}:bb", "--whiteout", "/data")


@pytest.mark.parametrize(
    ("change", "data"),
    [
        pytest.param(inserted, b"from the image\n", id="insert"),
        pytest.param(inserted_opaque, None, id="insert-opaque"),
        pytest.param(repacked, None, id="repack"),
        pytest.param(whited_out, None, id="whiteout"),
    ],
)
def test_a_layout_that_umoci_changes(tmp_path: Path, change: Callable[[Path, Path], None], data: bytes | None) -> None:
    tool, layout = Pyrkt(tmp_path), make_layout(tmp_path / "layout")
    change(tmp_path, layout)
    tool.ok("fetch", f"oci:{layout}:bb")
    store = Store(tool.data)
    assert verify(store) == []
    (record,) = store.images.all()
    rootfs = Rootfs(tuple(str(store.trees.path(tree)) for tree in record.trees))
    assert (rootfs.read("/note"), rootfs.read("/data/seed")) == (b"umoci insert\n", data)
    assert tool.ok("run", f"oci:{layout}:bb", "--", "cat", "/note") == "umoci insert\n"


def test_a_run_takes_what_lies_there_now(tmp_path: Path) -> None:
    """Also the third one, for which the second pod has left a record."""
    tool, layout = Pyrkt(tmp_path), make_layout(tmp_path / "layout")
    (tmp_path / "note").write_text("first\n")
    umoci("insert", "--image", f"{layout}:bb", str(tmp_path / "note"), "/note")
    words = ("run", f"oci:{layout}:bb", "--", "cat", "/note")
    assert [tool.ok(*words) for _ in range(3)] == ["first\n"] * 3
    (tmp_path / "note").write_text("second\n")
    umoci("insert", "--image", f"{layout}:bb", str(tmp_path / "note"), "/note")
    assert [tool.ok(*words) for _ in range(3)] == ["second\n"] * 3


@pytest.mark.parametrize("how", ["path", "url"])
def test_a_run_takes_the_file_that_lies_there_now(tmp_path: Path, how: str) -> None:
    tool = Pyrkt(tmp_path)
    for answer in ("first", "second"):
        aci = make_aci(tmp_path / "box.aci", app={"exec": ["/bin/sh", "-c", f"echo {answer}"]})
        name = str(aci) if how == "path" else aci.as_uri()
        assert [tool.ok("run", name) for _ in range(3)] == [f"{answer}\n"] * 3
