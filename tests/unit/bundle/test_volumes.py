"""Volumes: which goes where, in what order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyrkt.base.errors import InvalidSpec, NotFound, UsageError
from pyrkt.bundle.options import VolumeMount
from pyrkt.bundle.volumes import OwnVolume, Point, check_source, covers, place
from pyrkt.spec.runtime import Mount
from tests.unit.bundle.support import make_rootfs

if TYPE_CHECKING:
    from pathlib import Path

    from pyrkt.bundle.volumes import Placed

RW, RO = ("rbind", "rprivate", "rw"), ("rbind", "rprivate", "ro", "rro")


def bind(target: str, source: str, options: tuple[str, ...] = RW) -> Mount:
    return Mount(destination=target, type="bind", source=source, options=options)


def placed(tmp_path: Path, points: list[Point], *wanted: VolumeMount, implicit: bool = True) -> Placed:
    return place(points, wanted, rootfs=make_rootfs(tmp_path), implicit=implicit)


DB = Point(name="db", path="/db")
DB_RO = Point(name="db", path="/db", readonly=True)


@pytest.mark.parametrize(
    ("points", "wanted", "mounts"),
    [
        pytest.param([], [], (), id="nothing"),
        pytest.param([DB], [VolumeMount(name="db", source="/s")], (bind("/db", "/s"),), id="by-name"),
        pytest.param([DB], [VolumeMount(target="/db", source="/s")], (bind("/db", "/s"),), id="by-target"),
        pytest.param([], [VolumeMount(name="db", source="/s")], (), id="no-point-of-that-name"),
        pytest.param([], [VolumeMount(target="/x/", source="/s")], (bind("/x", "/s"),), id="no-point-needed"),
        pytest.param([DB_RO], [VolumeMount(name="db", source="/s")], (bind("/db", "/s", RO),), id="point-read-only"),
        pytest.param(
            [DB_RO],
            [VolumeMount(name="db", source="/s", readonly=False)],
            (bind("/db", "/s"),),
            id="volume-beats-point",
        ),
        pytest.param(
            [DB], [VolumeMount(name="db", source="/s", readonly=True)], (bind("/db", "/s", RO),), id="volume-read-only"
        ),
        pytest.param(
            [DB],
            [VolumeMount(name="db", source="/s", readonly=True, recursive=False)],
            (bind("/db", "/s", ("bind", "rprivate", "ro")),),
            id="not-recursive",
        ),
        pytest.param(
            [],
            [VolumeMount(target="/a/b/c", source="/1"), VolumeMount(target="/a", source="/2")],
            (bind("/a", "/2"), bind("/a/b/c", "/1")),
            id="parents-first",
        ),
        pytest.param(
            [],
            [VolumeMount(target="/a/../b/./c//", source="/1")],
            (bind("/b/c", "/1"),),
            id="detours",
        ),
        pytest.param(
            [],
            [VolumeMount(target="/x", kind="empty", source="/pod/shared/x")],
            (bind("/x", "/pod/shared/x"),),
            id="empty-one-of-the-pod",
        ),
        pytest.param(
            [DB, Point(name="db2", path="/db2")],
            [VolumeMount(name="db", source="/s"), VolumeMount(name="db2", source="/t")],
            (bind("/db", "/s"), bind("/db2", "/t")),
            id="two",
        ),
        pytest.param(
            [DB],
            [VolumeMount(name="db", source="/s"), VolumeMount(name="db", target="/else", source="/s")],
            (bind("/db", "/s"), bind("/else", "/s")),
            id="one-volume-twice",
        ),
    ],
)
def test_places(tmp_path: Path, points: list[Point], wanted: list[VolumeMount], mounts: tuple[Mount, ...]) -> None:
    result = placed(tmp_path, points, *wanted)
    assert result.mounts == mounts
    assert result.targets == tuple(each.destination for each in mounts)
    assert result.own == ()


def test_what_nobody_serves_becomes_an_empty_volume_with_the_images_data(tmp_path: Path) -> None:
    result = placed(tmp_path, [Point(name="v", path="/data/"), DB_RO])
    assert result.own == (OwnVolume(path="volumes/0-data", seed="/data"), OwnVolume(path="volumes/1-db", seed="/db"))
    assert result.mounts == (bind("/data", "volumes/0-data"), bind("/db", "volumes/1-db", RO))
    assert result.warnings == ()


def test_it_stays_in_place_where_the_tree_is_the_bundles_own(tmp_path: Path) -> None:
    assert placed(tmp_path, [DB], implicit=False).mounts == ()


def test_an_empty_volume_is_made_as_asked(tmp_path: Path) -> None:
    result = placed(tmp_path, [], VolumeMount(target="/a/b-c", kind="empty", mode=0o700, uid=1, gid=2))
    assert result.own == (OwnVolume(path="volumes/0-a-b-c", mode=0o700, uid=1, gid=2),)
    assert result.mounts == (bind("/a/b-c", "volumes/0-a-b-c"),)


def test_warns_of_hidden_files(tmp_path: Path) -> None:
    result = placed(tmp_path, [], VolumeMount(target="/data", source="/s"), VolumeMount(target="/work", source="/s"))
    assert result.warnings == ("the volume on /data hides files of the image",)


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        pytest.param([VolumeMount(target="x", source="/s")], "is not an absolute path", id="relative"),
        pytest.param([VolumeMount(target="/", source="/s")], "the root itself", id="root"),
        pytest.param([VolumeMount(target="/a/..", source="/s")], "the root itself", id="root-by-detour"),
        pytest.param([VolumeMount(target="/a\0b", source="/s")], "is not an absolute path", id="nul"),
        pytest.param(
            [VolumeMount(target="/a", source="/s"), VolumeMount(target="/a/", source="/t")],
            "two volumes are mounted on /a",
            id="twice",
        ),
    ],
)
def test_refuses(tmp_path: Path, wanted: list[VolumeMount], problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        placed(tmp_path, [], *wanted)
    assert problem in caught.value.message


def test_two_points_at_one_place_are_refused(tmp_path: Path) -> None:
    both = [VolumeMount(name="a", source="/1"), VolumeMount(name="b", source="/2")]
    points = [Point(name="a", path="/x"), Point(name="b", path="/x")]
    with pytest.raises(UsageError, match="two volumes are mounted on /x"):
        placed(tmp_path, points, *both)


@pytest.mark.parametrize(
    ("targets", "path", "covered"),
    [
        (("/etc",), "/etc/hosts", True),
        (("/etc/hosts",), "/etc/hosts", True),
        (("/etc/hosts.d",), "/etc/hosts", False),
        (("/et",), "/etc/hosts", False),
        ((), "/etc/hosts", False),
    ],
)
def test_covers(targets: tuple[str, ...], path: str, covered: bool) -> None:
    assert covers(targets, path) is covered


def test_sources_must_be_there_and_no_symlink(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    (real / "inner").mkdir()
    check_source(str(real))
    check_source(str(real / "inner") + "/")
    with pytest.raises(NotFound, match="No such file"):
        check_source(str(tmp_path / "none"))
    for path in (tmp_path / "link", tmp_path / "link/inner"):
        with pytest.raises(InvalidSpec, match="leads through a symlink") as caught:
            check_source(str(path))
        assert "real" in caught.value.hint
    with pytest.raises(InvalidSpec, match="is not an absolute path"):
        check_source("relative")
    assert not (tmp_path / "none").exists()
