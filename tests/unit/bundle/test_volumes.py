"""Volumes: which goes where, in what order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyrkt.base.errors import InvalidSpec, NotFound, UsageError
from pyrkt.bundle.options import VolumeMount
from pyrkt.bundle.volumes import OwnVolume, Point, Seat, check_source, covers, place
from pyrkt.spec.runtime import Mount
from tests.unit.bundle.support import make_rootfs

if TYPE_CHECKING:
    from pathlib import Path

    from pyrkt.bundle.volumes import Placed

RW, RO = ("rbind", "rprivate", "rw"), ("rbind", "rprivate", "ro", "rro")


def bind(target: str, source: str, options: tuple[str, ...] = RW) -> Mount:
    return Mount(destination=target, type="bind", source=source, options=options)


def placed(
    tmp_path: Path, points: list[Point], *wanted: VolumeMount, implicit: bool = True, nested: bool = False
) -> Placed:
    return place(points, wanted, rootfs=make_rootfs(tmp_path), implicit=implicit, nested=nested)


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
    result = placed(tmp_path, points, *wanted, nested=True)
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


LINKS = {"absolute": "/job", "relative": "srv", "up": "../../../srv/www", "nowhere": "/none", "root": "/"}


@pytest.mark.parametrize(
    ("target", "destination"),
    [
        ("/absolute/x", "/job/x"),
        ("/relative/x", "/srv/x"),
        ("/relative/.././absolute//x", "/job/x"),
        ("/up/x", "/srv/www/x"),
        ("/nowhere/a/b", "/none/a/b"),
        ("/root/a", "/a"),
        ("/srv/../../../x", "/x"),
        ("/absolute", "/job"),
    ],
)
def test_targets_are_what_their_links_lead_to(tmp_path: Path, target: str, destination: str) -> None:
    for name, to in LINKS.items():
        (tmp_path / name).symlink_to(to)
    found = placed(tmp_path, [], VolumeMount(target=target, source="/s"))
    assert found.targets == (destination,)
    # A point of the image is the same place, however either is written.
    both = placed(tmp_path, [Point(name="p", path=destination)], VolumeMount(target=target, source="/s"))
    assert both.targets == (destination,)


def test_below_another_volume_the_images_links_are_hidden(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/link").symlink_to("/job")
    wanted = VolumeMount(target="/data/link/x", source="/1"), VolumeMount(target="/data", source="/2")
    assert placed(tmp_path, [], *wanted, nested=True).targets == ("/data", "/data/link/x")


def test_one_volume_within_another_is_an_error_unless_it_is_meant(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("/data")
    wanted = VolumeMount(target="/link/x", source="/1"), VolumeMount(target="/data", source="/2")
    with pytest.raises(UsageError, match="the volume on /data/x lies within the one on /data") as caught:
        placed(tmp_path, [], *wanted)
    assert "--nested-volumes" in caught.value.hint
    assert placed(tmp_path, [], *wanted, nested=True).targets == ("/data", "/data/x")
    beside = VolumeMount(target="/data-x", source="/1"), VolumeMount(target="/data", source="/2")
    assert placed(tmp_path, [], *beside).targets == ("/data", "/data-x")


def test_a_directory_takes_the_place_of_a_file(tmp_path: Path) -> None:
    found = placed(tmp_path, [Point(name="p", path="/bin/text")], VolumeMount(target="/bin/tool", source="/s"))
    assert found.replaced == ("/bin/text", "/bin/tool")
    assert found.warnings == (
        "the volume on /bin/text takes the place of a file of the image",
        "the volume on /bin/tool takes the place of a file of the image",
    )
    file = VolumeMount(target="/bin/tool", source="/s", is_file=True)
    assert placed(tmp_path, [], file).replaced == ()
    assert placed(tmp_path, [], file).warnings == ("the volume on /bin/tool hides files of the image",)
    with pytest.raises(UsageError, match="/data of the image is a directory"):
        placed(tmp_path, [], VolumeMount(target="/data", source="/s", is_file=True))


def test_seats_tell_of_the_volumes_in_the_users_words(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/job")
    found = placed(
        tmp_path, [DB_RO, Point(name="v", path="/data")], VolumeMount(name="x", target="/link/y", source="/s")
    )
    assert set(found.seats) == {
        Seat(name="x", path="/link/y", readonly=False),
        Seat(name="db", path="/db", readonly=True, implicit=True),
        Seat(name="v", path="/data", readonly=False, implicit=True),
    }


def test_warns_of_hidden_files(tmp_path: Path) -> None:
    result = placed(tmp_path, [], VolumeMount(target="/data", source="/s"), VolumeMount(target="/job", source="/s"))
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
    check_source(str(tmp_path / "link/inner"), linked=True)
    with pytest.raises(NotFound, match="No such file"):
        check_source(str(tmp_path / "link/none"), linked=True)
    with pytest.raises(InvalidSpec, match="is not an absolute path"):
        check_source("relative")
    assert not (tmp_path / "none").exists()
