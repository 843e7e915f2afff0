"""Mounts whose ids are mapped: by their own maps or the container's, one mount or the whole tree."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import mounts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root
OVERFLOW = 65534
FILES = {"foo": (100, 211), "bar": (101, 222), "baz": (102, 233)}
SECOND = {"foo": (200, 211), "bar": (201, 222), "baz": (202, 233)}
TOP = {"foo": (100, 211), "bar": (200, 222), "baz": (300, 233)}


def maps(*ranges: tuple[int, int, int], gids: tuple[tuple[int, int, int], ...] = ()) -> dict[str, Any]:
    def written(rows: tuple[tuple[int, int, int], ...]) -> list[dict[str, int]]:
        return [{"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in rows]

    return {"uidMappings": written(ranges), "gidMappings": written(gids or ranges)}


WIDE = maps((0, mounts.SHIFT, 65536))
MANY = maps(
    (100, 101_000, 3),
    (200, 102_000, 3),
    (300, 103_000, 3),
    gids=((210, 101_100, 10), (220, 102_200, 10), (230, 103_300, 10)),
)


@pytest.fixture
def box() -> Iterator[Bundle]:
    with mounts.open_bundle() as made:
        yield made
        subprocess.run(["umount", "-R", "-l", "-q", made.path / "tree/one"], check=False)
        subprocess.run(["umount", "-R", "-l", "-q", made.path / "tree/two"], check=False)


def owned(path: Path, files: dict[str, tuple[int, int]]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, (uid, gid) in files.items():
        (path / name).touch()
        os.chown(path / name, uid, gid)
    return path


@pytest.fixture
def tree(box: Bundle) -> Path:
    """Three directories, two of them mounted on the third."""
    top = owned(box.path / "tree", TOP)
    for name, files in (("one", FILES), ("two", SECOND)):
        (top / name).mkdir()
        subprocess.run(["mount", "--bind", owned(box.path / name, files), top / name], check=True)
    return top


def owners(runtime: Runtime, box: Bundle, *paths: str) -> list[tuple[int, int]]:
    """Return who owns foo, bar and baz in each of the directories."""
    names = " ".join(f"{path}/{name}" for path in paths for name in FILES)
    answer = runtime.run(box.script(f"stat -c '%u %g' {names}").path)
    assert answer.code == 0, answer.err
    found = [line.split() for line in answer.out.splitlines()]
    return [(int(uid), int(gid)) for uid, gid in found]


def test_ids_of_the_file_system_appear_as_mapped(runtime: Runtime, box: Bundle) -> None:
    mounts.add(box, "/tmp", owned(box.path / "source", {"foo": (0, 0), "bar": (1, 2), "baz": (7, 7)}), "bind", **WIDE)
    expected = [(0, 0), (1, 2), (7, 7)]
    assert owners(runtime, box, "/tmp") == [(uid + mounts.SHIFT, gid + mounts.SHIFT) for uid, gid in expected]
    answer = runtime.run(box.script("touch /tmp/new").path)
    assert "Value too large" in answer.err  # root of the host has no id there
    mounts.map_users(box)
    assert owners(runtime, box, "/tmp") == expected
    script = "touch /tmp/new && stat -c '%u %g' /tmp/new"
    assert runtime.run(box.script(script).path).out == "0 0\n"
    assert (box.path / "source/new").stat().st_uid == 0


@pytest.mark.parametrize("users", [False, True], ids=["root", "userns"])
def test_the_same_source_may_be_mapped_in_many_ways(runtime: Runtime, box: Bundle, users: bool) -> None:
    source = owned(box.path / "closed/source", FILES)
    source.parent.chmod(0o700)  # out of reach in the user namespace
    (box.path / "link").symlink_to("closed/source")
    mounts.add(box, "/v/1", source, "bind", **maps((100, 100_000, 100), gids=((200, 100_000, 100),)))
    mounts.add(box, "/v/2", source, "bind", **maps((100, 101_000, 100), gids=((200, 102_000, 100),)))
    mounts.add(box, "v/3", "link", "bind", **maps((100, 102_000, 100), gids=((200, 103_000, 100),)))
    mounts.add(box, "/v/4", source, "bind")
    box.config["root"]["readonly"] = False
    if users:
        mounts.map_users(box)
    base = 0 if users else mounts.SHIFT
    expected = [(base + n, base + g) for n, g in ((0, 11), (1, 22), (2, 33))]
    expected += [(base + 1000 + n, base + 2000 + g) for n, g in ((0, 11), (1, 22), (2, 33))]
    expected += [(base + 2000 + n, base + 3000 + g) for n, g in ((0, 11), (1, 22), (2, 33))]
    expected += [(OVERFLOW, OVERFLOW)] * 3 if users else list(FILES.values())
    assert owners(runtime, box, *(f"/v/{n}" for n in range(1, 5))) == expected


@pytest.mark.parametrize("users", [False, True], ids=["root", "userns"])
@pytest.mark.parametrize("options", [("rbind",), ("rbind", "idmap"), ("rbind", "ridmap")], ids=" ".join)
def test_one_mount_is_mapped_or_the_whole_tree(
    runtime: Runtime, box: Bundle, tree: Path, users: bool, options: tuple[str, ...]
) -> None:
    mounts.add(box, "/tmp", tree, *options, **MANY)
    if users:
        mounts.map_users(box)
    base = 0 if users else mounts.SHIFT
    groups = [base + 1101, base + 2202, base + 3303]
    expected = [(base + uid, gid) for uid, gid in zip((1000, 2000, 3000), groups, strict=True)]
    if "ridmap" in options:
        expected += [(base + 1000 + n, gid) for n, gid in enumerate(groups)]
        expected += [(base + 2000 + n, gid) for n, gid in enumerate(groups)]
    elif users:
        expected += [(OVERFLOW, OVERFLOW)] * 6
    else:
        expected += [*FILES.values(), *SECOND.values()]
    assert owners(runtime, box, "/tmp", "/tmp/one", "/tmp/two") == expected


@pytest.mark.parametrize("joined", [False, True], ids=["new", "joined"])
@pytest.mark.parametrize("option", ["idmap", "ridmap"])
def test_without_maps_of_its_own_a_mount_gets_the_containers(
    runtime: Runtime, box: Bundle, tree: Path, option: str, joined: bool
) -> None:
    mounts.map_users(box)
    if joined:
        name = runtime.new_id()
        assert runtime.detached("run", "-d", "-b", str(box.runs("sleep", "300").path), name).code == 0
        linux = box.config["linux"]
        del linux["uidMappings"], linux["gidMappings"]
        linux["namespaces"][-1]["path"] = f"/proc/{runtime.state(name)['pid']}/ns/user"
    mounts.add(box, "/tmp", tree, "rbind", option)
    below = [*FILES.values(), *SECOND.values()] if option == "ridmap" else [(OVERFLOW, OVERFLOW)] * 6
    assert owners(runtime, box, "/tmp", "/tmp/one", "/tmp/two") == [*TOP.values(), *below]


def test_a_mapped_mount_takes_flags_and_propagation_too(runtime: Runtime, box: Bundle) -> None:
    mounts.map_users(box)
    source = owned(box.path / "source", FILES)
    mounts.add(box, "/tmp", source, "bind", "ro", "noexec", "shared", **WIDE)
    answer = runtime.run(box.script("cat /proc/self/mountinfo; ls -ln /tmp/foo").path)
    found = mounts.seen(answer.out)["/tmp"]
    assert {"ro", "noexec", "idmapped"} <= found.options
    assert any(field.startswith("shared:") for field in found.fields)
    assert answer.out.splitlines()[-1].split()[2:4] == ["100", "211"]


def test_many_mapped_mounts_need_few_descriptors(runtime: Runtime, box: Bundle) -> None:
    mounts.map_users(box)
    source = owned(box.path / "source", {"foo": (0, 0)})
    for number in range(20):
        mounts.add(box, f"/v/{number}", source, "bind", **WIDE)
    box.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 20, "hard": 20}]
    answer = runtime.run(box.script("stat -c %u /v/19/foo; ls /proc/self/fd | wc -l").path)
    assert (answer.code, answer.out) == (0, "0\n4\n"), answer.err


@pytest.mark.parametrize(
    ("options", "members", "text"),
    [
        (("bind", "idmap"), {}, "idmap needs uidMappings and gidMappings"),
        (("bind",), {"uidMappings": WIDE["uidMappings"]}, "uidMappings and gidMappings come together"),
        ((), WIDE | {"type": "tmpfs"}, "only a bind mount can have its ids mapped"),
        (("rbind", "ridmap"), WIDE | {"source": "/proc"}, "cannot have its ids mapped"),
        (("bind",), WIDE | {"source": "/no/such"}, "no such file or directory"),
    ],
    ids=["no-maps", "half", "tmpfs", "procfs", "missing"],
)
def test_what_cannot_be_mapped_is_said(
    runtime: Runtime, box: Bundle, options: tuple[str, ...], members: dict[str, Any], text: str
) -> None:
    mount = {"destination": "/tmp", "source": str(box.path), "type": "bind", "options": list(options)}
    box.config["mounts"].append(mount | members)
    answer = runtime.run(box.runs("true").path)
    assert answer.code == 1
    assert text in answer.err
    assert answer.err.count("\n") == 1
