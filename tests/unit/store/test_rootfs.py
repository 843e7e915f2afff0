"""The merged tree: whiteouts and opaque directories count, and no path leads outside."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pyrkt.base.errors import ImageRefused
from pyrkt.store import Rootfs


@pytest.fixture
def rootfs(tmp_path: Path) -> Rootfs:
    (tmp_path / "canary").write_text("outside")
    low, high = tmp_path / "low", tmp_path / "high"
    for layer in (low, high):
        (layer / "etc").mkdir(parents=True)
    (low / "etc" / "passwd").write_text("root:x:0:0")
    (low / "etc" / "hidden").write_text("low")
    (low / "etc" / "both").write_text("low")
    (high / "etc" / "both").write_text("high")
    (low / "etc" / "absolute").symlink_to("/etc/passwd")
    (low / "etc" / "up").symlink_to("../../../../../etc/passwd")
    (low / "etc" / "outside").symlink_to(f"{tmp_path}/canary")
    (low / "etc" / "dots").symlink_to("../" * 30 + f"{tmp_path}/canary")
    (low / "loop").symlink_to("loop")
    (low / "alias").symlink_to("etc/")
    (low / "lib").mkdir()
    (low / "lib" / "old").write_text("")
    (high / "lib").symlink_to("usr/lib")
    (high / "usr" / "lib").mkdir(parents=True)
    (high / "usr" / "lib" / "new").write_text("new")
    (low / "srv").mkdir()
    (low / "srv" / "old").write_text("")
    (high / "srv").mkdir()
    os.setxattr(high / "srv", "user.overlay.opaque", b"y")
    (low / "file").write_text("low")
    (high / "file").mkdir()
    return Rootfs((str(low), str(high)))


@pytest.mark.parametrize(("path", "content"), [
    pytest.param("/etc/passwd", b"root:x:0:0", id="lower"),
    pytest.param("etc/passwd", b"root:x:0:0", id="relative"),
    pytest.param("//etc/./passwd", b"root:x:0:0", id="dots-and-slashes"),
    pytest.param("/etc/both", b"high", id="upper-wins"),
    pytest.param("/etc/absolute", b"root:x:0:0", id="absolute-link"),
    pytest.param("/etc/up", b"root:x:0:0", id="dotdot-stops-at-root"),
    pytest.param("/alias/passwd", b"root:x:0:0", id="through-a-link"),
    pytest.param("/alias/../etc/both", b"high", id="dotdot-after-a-link"),
    pytest.param("/lib/new", b"new", id="link-over-directory"),
    pytest.param("../../etc/passwd", b"root:x:0:0", id="dotdot-first"),
    pytest.param("/lib/old", None, id="directory-replaced-by-link"),
    pytest.param("/srv/old", None, id="opaque"),
    pytest.param("/etc/outside", None, id="link-to-the-outside"),
    pytest.param("/etc/dots", None, id="dots-to-the-outside"),
    pytest.param("/etc", None, id="directory"),
    pytest.param("/file", None, id="file-replaced-by-directory"),
    pytest.param("/etc/passwd/x", None, id="below-a-file"),
    pytest.param("/nothing/at/all", None, id="missing"),
])  # fmt: skip
def test_reads(rootfs: Rootfs, path: str, content: bytes | None) -> None:
    assert rootfs.read(path) == content


@pytest.mark.parametrize(("path", "leads_to"), [
    pytest.param("/etc/passwd", "/etc/passwd", id="plain"),
    pytest.param("/etc/absolute", "/etc/passwd", id="absolute-link"),
    pytest.param("/etc/up", "/etc/passwd", id="dotdot-stops-at-root"),
    pytest.param("/alias/new/file", "/etc/new/file", id="below-a-link-and-not-there"),
    pytest.param("/nothing/at/../all", "/nothing/all", id="not-there"),
    pytest.param("/../..", "/", id="root"),
])  # fmt: skip
def test_leads_to(rootfs: Rootfs, path: str, leads_to: str) -> None:
    assert rootfs.leads_to(path) == leads_to


def test_a_dangling_link_leads_to_a_place_inside(rootfs: Rootfs, tmp_path: Path) -> None:
    assert rootfs.leads_to("/etc/outside") == f"{tmp_path}/canary"  # that path, below the root
    assert rootfs.read("/nothing/../etc/passwd") is None, "the kernel does not come back from nothing"


def test_a_loop_is_refused(rootfs: Rootfs) -> None:
    with pytest.raises(ImageRefused, match="too many symlinks"):
        rootfs.read("/loop")


def test_a_read_is_limited(rootfs: Rootfs) -> None:
    with pytest.raises(ImageRefused, match="larger than 4 bytes"):
        rootfs.read("/etc/passwd", limit=4)


def test_kinds_and_owners(rootfs: Rootfs) -> None:
    assert rootfs.is_dir("/")
    assert rootfs.is_dir("/alias")
    assert rootfs.is_dir("/file")
    assert not rootfs.is_dir("/etc/passwd")
    assert not rootfs.is_dir("/nothing")
    assert rootfs.owner("/etc") == (os.geteuid(), os.getegid())
    assert rootfs.owner("/nothing") is None


def test_a_fifo_does_not_block(rootfs: Rootfs) -> None:
    os.mkfifo(Path(rootfs.lowers[0]) / "pipe")
    assert rootfs.read("/pipe") is None


@pytest.mark.root
def test_whiteouts(rootfs: Rootfs) -> None:
    high = Path(rootfs.lowers[1])
    os.mknod(high / "etc" / "hidden", stat.S_IFCHR | 0o600, os.makedev(0, 0))
    os.mknod(high / "alias", stat.S_IFCHR | 0o600, os.makedev(0, 0))
    assert rootfs.read("/etc/hidden") is None
    assert rootfs.lookup("/alias", follow=False) is None
    etc = rootfs.lookup("/etc")
    assert etc is not None
    assert list(rootfs.names(etc)) == [b"absolute", b"both", b"dots", b"outside", b"passwd", b"up"]
