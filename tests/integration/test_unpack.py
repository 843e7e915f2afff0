"""Whole images on a real kernel: our trees under overlayfs, flattened, and what umoci makes of the same layers."""

# ruff: noqa: E501 - entries of archives read best in rows

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyrkt.image.unpack.flatten import flatten
from pyrkt.image.unpack.layers import Staged, assemble, stored, unpack_layer
from pyrkt.spec.digest import Digest
from pyrkt.store import ImageRecord, Rootfs, Store
from pyrkt.store.gc import verify
from tests.strategies import archive, file, folder, hardlink, header, pax, symlink

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # v2, effective: CAP_NET_BIND_SERVICE


def base_layer() -> bytes:
    """Return a layer of real files and of everything odd that a base image has."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as out:

        def add(name: str, **fields: Any) -> None:
            info = tarfile.TarInfo(name)
            data = fields.pop("data", b"")
            info.mtime, info.size, info.mode = 1_600_000_000, len(data), 0o755
            for key, value in fields.items():
                setattr(info, key, value)
            out.addfile(info, io.BytesIO(data))

        for name in (
            "bin",
            "etc",
            "home",
            "home/me",
            "opt",
            "opt/old",
            "opt/old/deep",
            "usr",
            "usr/lib",
            "usr/share",
            "var",
        ):
            add(name, type=tarfile.DIRTYPE, mtime=1_500_000_000)
        add("tmp", type=tarfile.DIRTYPE, mode=0o1777)
        add("root", type=tarfile.DIRTYPE, mode=0o700)
        add("home/me", type=tarfile.DIRTYPE, uid=1000, gid=1000, mode=0o2750)
        add("lib", type=tarfile.SYMTYPE, linkname="usr/lib", mode=0o777)
        add("usr/lib/libc.so", data=os.urandom(300_000))
        add("usr/lib/libc.so.6", type=tarfile.LNKTYPE, linkname="usr/lib/libc.so")
        add("bin/su", data=b"#!/bin/sh\n", mode=0o4755)
        add("bin/wall", data=b"x", mode=0o2755, gid=5)
        add(
            "bin/ping",
            data=b"y",
            pax_headers={"SCHILY.xattr.security.capability": CAPABILITY.decode("latin-1")}
            if max(CAPABILITY) < 128
            else {},
        )
        add("etc/passwd", data=b"root:x:0:0::/root:/bin/sh\n", mode=0o644, mtime=1_600_000_000.25)
        add("etc/shadow", data=b"root:*:1::::::\n", mode=0o640, gid=42)
        add("etc/motd", data=b"hello\n", mode=0o644)
        add("etc/mtab", type=tarfile.SYMTYPE, linkname="/proc/mounts", mode=0o777)
        add("opt/old/a", data=b"1")
        add("opt/old/deep/b", data=b"2")
        add("var/pipe", type=tarfile.FIFOTYPE, mode=0o600)
        add("var/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
        add("var/" + "long" * 50, data=b"name")
        add("var/Grüße", data="ä".encode(), pax_headers={"SCHILY.xattr.user.note": "kept"})
        for path in sorted(Path("/usr/lib/python3.11/json").rglob("*.py")):
            add(f"usr/share/{path.name}", data=path.read_bytes(), mode=0o644)
    return buffer.getvalue()


@functools.cache
def image() -> list[bytes]:
    """Return the layers of an image, bottom first."""
    return [
        base_layer(),
        archive(
            file(b"tmp/new", b"1"), folder(b"opt", mtime=9), file(b"opt/.wh.old"), folder(b"opt/new"), file(b"etc/.wh.motd"),
            file(b"usr/share/.wh.nothing"), file(b"etc/passwd", b"root:x:0:0::/:/bin/sh\n", mtime=77),
        ),
        archive(
            folder(b"home", mtime=3), folder(b"home/me", uid=1000, gid=1000, mode=0o700), file(b"home/me/.wh..wh..opq"),
            file(b"home/me/.profile", b"x", uid=1000, gid=1000), hardlink(b"bin/wall2", b"bin/wall"),
            pax((b"SCHILY.xattr.security.capability", CAPABILITY)), file(b"bin/web", b"z", mode=0o755),
            file(b"var/log/app/x", b"log"), symlink(b"opt/new/l", b"../../etc"), header(b"var/fifo2", b"6"),
            folder(b"opt/old"), file(b"opt/old/again", b"3"),
        ),
        archive(file(b"root/x", b"1", mode=0o600), file(b"var/.wh.null"), folder(b"./", mode=0o755, mtime=8)),
    ]  # fmt: skip


def store_image(store: Store, layers: list[bytes]) -> tuple[str, ...]:
    diff_ids = [Digest("sha256:" + hashlib.sha256(layer).hexdigest()) for layer in layers]
    with store.hold():
        todo: list[Staged | str] = []
        for layer, diff_id, tree in zip(layers, diff_ids, stored(store, diff_ids), strict=True):
            stage = store.trees.stage()
            todo.append(tree or Staged(unpack_layer([gzip.compress(layer)], stage, diff_id=diff_id), stage))
        return assemble(store, todo, diff_ids)


def snapshot(top: Path) -> dict[str, tuple[Any, ...]]:
    """Return all there is to know about each path below ``top``; of the root, whose times tools disagree on, less."""
    found: dict[str, tuple[Any, ...]] = {}
    first: dict[tuple[int, int], str] = {}
    for here, folders, files in os.walk(top):
        for name in sorted([*folders, *files]):
            path = Path(here, name)
            relative = str(path.relative_to(top))
            s = path.lstat()
            content: object = None
            if stat.S_ISREG(s.st_mode):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            elif stat.S_ISLNK(s.st_mode):
                content = str(path.readlink())
            xattrs = {
                key: os.getxattr(path, key, follow_symlinks=False)
                for key in os.listxattr(path, follow_symlinks=False)
                if not key.startswith(("trusted.overlay.", "user.rootlesscontainers", "user.umoci"))
            }
            same = first.setdefault((s.st_dev, s.st_ino), relative) if not stat.S_ISDIR(s.st_mode) else ""
            found[relative] = (
                oct(s.st_mode), s.st_uid, s.st_gid, s.st_mtime_ns, s.st_rdev, content, xattrs, s.st_nlink if same else 0,
            )  # fmt: skip
    return found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data").open()


@pytest.fixture
def mounted(store: Store, tmp_path: Path) -> Iterator[Path]:
    trees = store_image(store, image())
    target = tmp_path / "mnt"
    target.mkdir()
    lower = ":".join(str(store.trees.path(tree)) for tree in reversed(trees))
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", f"ro,userxattr,lowerdir={lower}", target], check=True)
    yield target
    subprocess.run(["umount", target], check=True)


def differences(one: dict[str, tuple[Any, ...]], two: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    return {name: (one.get(name), two.get(name)) for name in {*one, *two} if one.get(name) != two.get(name)}


def test_overlayfs_and_flattening_agree(store: Store, mounted: Path, tmp_path: Path) -> None:
    trees = store_image(store, image())
    flatten(Rootfs(tuple(str(store.trees.path(tree)) for tree in trees)), tmp_path / "flat")
    flat = snapshot(tmp_path / "flat")
    assert differences(snapshot(mounted), flat) == {}
    assert flat["tmp"][0] == oct(stat.S_IFDIR | 0o1777)
    assert flat["bin/su"][0] == oct(stat.S_IFREG | 0o4755)
    assert flat["bin/web"][6] == {"security.capability": CAPABILITY}
    assert "opt/old/a" not in flat
    assert "opt/old/again" in flat


@pytest.mark.peers
def test_umoci_makes_the_same(store: Store, mounted: Path, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    write_layout(layout, image())
    subprocess.run(["umoci", "unpack", "--image", f"{layout}:v1", tmp_path / "bundle"], check=True, capture_output=True)
    ours, theirs = snapshot(mounted), snapshot(tmp_path / "bundle" / "rootfs")
    found = differences(ours, theirs)
    # umoci gives the time of unpacking to directories without an entry, and to one that a whiteout was applied in.
    for name, mtime in (("var/log", 0), ("var/log/app", 0), ("var", 1_500_000_000_000_000_000)):
        mine, other = found.pop(name)
        assert mine[3] == mtime
        assert mine[:3] == other[:3]
    assert found == {}


def write_layout(layout: Path, layers: list[bytes]) -> None:
    """Write an OCI image layout by the specification, with one image, v1."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media: str) -> dict[str, Any]:
        name = hashlib.sha256(data).hexdigest()
        (blobs / name).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{media}", "digest": f"sha256:{name}", "size": len(data)}

    descriptors = [put(gzip.compress(layer, 1), "layer.v1.tar+gzip") for layer in layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]},
        "history": [{"created_by": "test"} for _ in layers],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(json.dumps(config).encode(), "config.v1+json"),
        "layers": descriptors,
    }
    entry = put(json.dumps(manifest).encode(), "manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "v1"}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def test_every_part_of_the_stack_verifies(store: Store) -> None:
    layers = image()
    trees = store_image(store, layers)
    manifest = store.blobs.put(b"manifest")
    store.images.put(
        ImageRecord(id="sha256-" + "1" * 64, kind="oci", name="a", reference="a", manifest=manifest, trees=trees)
    )
    assert verify(store) == []
    assert store_image(store, layers) == trees
    assert verify(store) == []


NOBODY = """
import os, sys
from pathlib import Path
from pyrkt.image.unpack.flatten import flatten
from pyrkt.image.unpack.layers import unpack_layer
from pyrkt.store import Rootfs
os.setgroups([]); os.setgid(65534); os.setuid(65534)
home = Path(sys.argv[1])
data = Path(sys.argv[2]).read_bytes()
(home / "fs").mkdir()
result = unpack_layer([data], home / "fs", owner="caller")
print(result.notes)
flatten(Rootfs((str(home / "fs"),)), home / "flat")
"""


def test_an_ordinary_user_unpacks_what_he_may(tmp_path: Path) -> None:
    home = Path("/tmp") / f"pyrkt-test-{os.getpid()}"
    home.mkdir()
    try:
        os.chown(home, 65534, 65534)
        layer = archive(
            folder(b"closed", mode=0), file(b"closed/x", b"1", uid=7), file(b"su", b"2", mode=0o4755), file(b".wh.gone"),
            folder(b"d"), file(b"d/.wh..wh..opq"), header(b"null", b"3", device=(1, 3)), symlink(b"out", b"/etc"),
            file(b"out/y", b"3"), pax((b"SCHILY.xattr.security.capability", CAPABILITY)), file(b"cap", b"4"),
            hardlink(b"hard", b"su"), header(b"fifo", b"6"), *[file(b"deep/" + b"p/" * 40 + b"%d" % n) for n in range(9)],
        )  # fmt: skip
        (home / "layer.tar").write_bytes(layer)
        run = subprocess.run(
            [sys.executable, "-c", NOBODY, home, home / "layer.tar"], capture_output=True, text=True, check=True
        )
        assert "device nodes left out" in run.stdout
        assert "security.capability left out" in run.stdout
        fs = home / "fs"
        assert (fs / "closed").stat().st_mode & 0o777 == 0o700
        assert (fs / "closed/x").read_text() == "1"
        assert (fs / "su").stat().st_mode & 0o7777 == 0o4755
        assert {path.lstat().st_uid for path in fs.rglob("*")} == {65534}
        assert (fs / "gone").lstat().st_rdev == 0
        assert os.getxattr(fs / "d", "user.overlay.opaque") == b"y"
        assert not (fs / "null").exists()
        assert (fs / "etc/y").read_text() == "3"
        assert (fs / "hard").stat().st_ino == (fs / "su").stat().st_ino
        assert not (home / "flat" / "gone").exists()
        assert (home / "flat" / "su").read_text() == "2"
    finally:
        shutil.rmtree(home)


def test_owners_modes_and_attributes_are_kept(tmp_path: Path) -> None:
    unpack_layer(
        [archive(
            pax((b"SCHILY.xattr.security.capability", CAPABILITY), (b"SCHILY.xattr.user.a", b"1")),
            file(b"cap", uid=5, gid=6, mode=0o4755, mtime=99), folder(b"d", uid=7, gid=8, mode=0o2711, mtime=98),
            symlink(b"l", b"x", uid=9, gid=10, mtime=97), header(b"n", b"3", device=(5, 1), uid=11, mode=0o620, mtime=96),
            file(b"big", uid=(1 << 32) - 2, gid=(1 << 32) - 2),
        )],
        tmp_path,
    )  # fmt: skip
    found = {path.name: path.lstat() for path in tmp_path.iterdir()}
    assert {name: (oct(s.st_mode & 0o7777), s.st_uid, s.st_gid, s.st_mtime) for name, s in found.items()} == {
        "cap": ("0o4755", 5, 6, 99),
        "d": ("0o2711", 7, 8, 98),
        "l": ("0o777", 9, 10, 97),
        "n": ("0o620", 11, 0, 96),
        "big": ("0o644", (1 << 32) - 2, (1 << 32) - 2, 1),
    }
    assert os.getxattr(tmp_path / "cap", "security.capability") == CAPABILITY
    assert os.getxattr(tmp_path / "cap", "user.a") == b"1"


def test_the_child_opens_nothing_of_the_image(tmp_path: Path) -> None:
    """The image has a module that Python would like to import, at every place where it might look."""
    layer = archive(
        *[file(b"%s/%s.py" % (place, name), b"raise SystemExit(99)")
          for place in (b"usr/lib/python3.11", b"usr/lib/python3/dist-packages", b".", b"usr/local/lib/python3.11")
          for name in (b"encodings/idna", b"json", b"traceback", b"linecache", b"lzma", b"bz2", b"zstandard")],
        file(b"../x"),
    )  # fmt: skip
    script = (
        "import sys; from pathlib import Path; from pyrkt.image.unpack.layers import unpack_layer\n"
        "from pyrkt.base.errors import ImageRefused\n"
        "try: unpack_layer([Path(sys.argv[1]).read_bytes()], Path(sys.argv[2]))\n"
        "except ImageRefused as error: print(error.message)"
    )
    (tmp_path / "layer.tar").write_bytes(gzip.compress(layer))
    (tmp_path / "fs").mkdir()
    trace = tmp_path / "trace"
    run = subprocess.run(
        ["strace", "-f", "-o", trace, "-e", "trace=openat,open,execve,chroot", sys.executable, "-c", script,
         tmp_path / "layer.tar", tmp_path / "fs"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout == "../x: the name leads out of the image\n"
    lines = trace.read_text().splitlines()
    (at,) = (number for number, line in enumerate(lines) if " chroot(" in line)
    child = lines[at].split()[0]
    after = [line for line in lines[at:] if line.startswith(child) and "openat(" in line]
    assert after
    assert [line for line in after if "O_CREAT" not in line and '"."' not in line] == []
