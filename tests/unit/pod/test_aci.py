"""The manifest and the archive of an exported app."""

from __future__ import annotations

import os
import struct
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pyrkt.base import fastjson
from pyrkt.base.errors import CannotCreate, InvalidSpec
from pyrkt.pod import aci
from pyrkt.spec.runtime import IdMapping
from pyrkt.store import Rootfs

NONE = aci.Ids((), ())


def mapped(*ranges: tuple[int, int, int]) -> tuple[IdMapping, ...]:
    return tuple(IdMapping(container_id=inside, host_id=host, size=size) for inside, host, size in ranges)


SHIFTED = aci.Ids(mapped((0, 1000, 1), (1, 100_000, 9)), mapped((0, 50_000, 10)))
V3 = struct.pack("<5I", 0x03000001, 1 << 10, 0, 0, 0)


def made(**app: Any) -> dict[str, Any]:
    entry = {"name": "web", "image": {"id": "sha256-1", "name": "example.com/web"}, "app": {"user": "0", "group": "0"}}
    value = fastjson.loads(aci.manifest({**entry, **app}, None), "")
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("example.com/web", "example.com/web"),
        ("registry.test:5000/Team/web_app", "registry.test-5000/team/web_app"),
        ("a--b", "a-b"),
        ("/x/", "x"),
        ("..", "app"),
        ("ünïcode", "n-code"),
    ],
)
def test_a_name_is_made_an_identifier(name: str, said: str) -> None:
    assert made(image={"id": "sha256-1", "name": name})["name"] == said


def test_an_image_without_a_name_has_the_apps() -> None:
    assert made(image={"id": "sha256-1"})["name"] == "web"


def test_what_ran_is_in_the_manifest_and_what_the_executor_sets_is_not() -> None:
    environment = [
        {"name": name, "value": "x"} for name in ("PATH", "AC_APP_NAME", "AC_METADATA_URL", "container", "a b")
    ]
    app = {"user": "7", "group": "8", "exec": ["sh", "-c", "true"], "environment": environment}
    value = made(
        app=app,
        image={"id": "sha256-1", "labels": [{"name": "os", "value": "linux"}, {"name": "arch", "value": "arm64"}]},
    )
    assert value["app"] == {**app, "environment": [{"name": "PATH", "value": "x"}]}
    assert value["labels"] == [{"name": "arch", "value": "aarch64"}, {"name": "os", "value": "linux"}]


def test_a_pod_manifest_that_makes_no_image_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="relative path"):
        made(app={"user": "0", "group": "0", "exec": ["bin/sh"]})


@pytest.mark.parametrize(("host", "inside"), [(1000, 0), (100_000, 1), (100_008, 9), (100_009, 65534), (0, 65534)])
def test_ids_are_those_that_the_app_saw(host: int, inside: int) -> None:
    assert SHIFTED.uid(host) == inside
    assert NONE.uid(host) == host


def test_a_capability_of_the_pods_root_is_one_of_root() -> None:
    v2 = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)
    assert SHIFTED.attribute("security.capability", V3 + struct.pack("<I", 1000)) == v2
    assert SHIFTED.attribute("security.capability", V3 + struct.pack("<I", 100_000)) is None
    assert NONE.attribute("security.capability", v2) == v2


def test_an_access_list_names_whom_it_named_in_the_pod() -> None:
    def acl(user: int, group: int) -> bytes:
        rows = [(1, 6, 0xFFFFFFFF), (2, 4, user), (8, 4, group), (16, 6, 0xFFFFFFFF)]
        return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in rows)

    assert SHIFTED.attribute("system.posix_acl_access", acl(100_001, 50_003)) == acl(2, 3)
    assert NONE.attribute("system.posix_acl_access", acl(5, 6)) == acl(5, 6)


def test_layers_become_one_tree_in_order(tmp_path: Path) -> None:
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    for directory in (lower, upper):
        (directory / "d").mkdir(parents=True)
    (lower / "d/kept").write_text("kept")
    (lower / "d/changed").write_text("old")
    (upper / "d/changed").write_text("new")
    os.link(upper / "d/changed", upper / "again")
    os.symlink("../nowhere", upper / "link")
    os.utime(upper / "d/changed", ns=(0, 1_500_000_000_123_456_789))
    name = os.fsencode(upper) + b"/d/\xff\n"
    Path(os.fsdecode(name)).write_text("")
    os.mkfifo(upper / "fifo")
    rootfs, target = Rootfs((str(lower), str(upper))), tmp_path / "x.aci"
    assert aci.write(target, b"{}", rootfs, NONE) == []
    with tarfile.open(target) as tar:
        names = tar.getnames()
        assert names == [
            *("manifest", "rootfs", "rootfs/again", "rootfs/d", "rootfs/d/changed", "rootfs/d/kept"),
            *("rootfs/d/\udcff\n", "rootfs/fifo", "rootfs/link"),
        ]
        assert tar.extractfile("rootfs/again").read() == b"new"  # type: ignore[union-attr]
        link = tar.getmember("rootfs/d/changed")
        assert (link.islnk(), link.linkname) == (True, "rootfs/again")
        assert tar.getmember("rootfs/again").pax_headers["mtime"] == "1500000000.123456789"
    aci.write(tmp_path / "y.aci", b"{}", rootfs, NONE)
    assert (tmp_path / "y.aci").read_bytes() == target.read_bytes()


def test_a_socket_is_left_out_and_told_of(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    os.mknod(tmp_path / "tree/sock", 0o140600)
    left = aci.write(tmp_path / "x.aci", b"{}", Rootfs((str(tmp_path / "tree"),)), NONE)
    assert left == ["/sock: a socket is left out"]


def test_nothing_is_written_where_there_is_no_directory(tmp_path: Path) -> None:
    with pytest.raises(CannotCreate, match="no such directory"):
        aci.write(tmp_path / "no/x.aci", b"{}", Rootfs((str(tmp_path),)), NONE)
