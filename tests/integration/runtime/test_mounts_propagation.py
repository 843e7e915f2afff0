"""Propagation: of the root as rootfsPropagation says, of volumes as their options say, seen inside and outside."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import mounts, oci

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root
TMPFS = ("mount", "-t", "tmpfs", "pyrkt-test")


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A shared tmpfs of the host's with a directory to mount on."""
    with mounts.mounted(tmp_path / "volume") as top:
        subprocess.run(["mount", "--make-shared", top], check=True)
        for name in ("host", "inside"):
            (top / name).mkdir()
        yield top


def started(runtime: Runtime, box: Bundle) -> tuple[str, Path]:
    """Start a container that sleeps and may mount; return its id and its root as the host sees it."""
    for kind in ("bounding", "effective", "permitted"):
        box.config["process"]["capabilities"][kind].append("CAP_SYS_ADMIN")
    name = runtime.new_id()
    answer = runtime.detached("run", "-d", "-b", str(box.runs("sleep", "300").path), name)
    assert answer.code == 0, answer.err
    return name, Path(f"/proc/{runtime.state(name)['pid']}/root")


def table(name: str, runtime: Runtime) -> dict[str, mounts.Seen]:
    return mounts.seen(runtime.call("exec", name, "cat", "/proc/self/mountinfo").out)


def kinds(found: mounts.Seen) -> set[str]:
    return {field.split(":")[0] for field in found.fields}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("shared", {"shared"}),
        ("rshared", {"shared"}),
        ("slave", set()),  # of a host's mount that is not shared
        ("private", set()),
        ("rprivate", set()),
        ("unbindable", {"unbindable"}),
        ("runbindable", {"unbindable"}),
        ("", set()),
    ],
)
def test_the_root_is_what_the_configuration_says(
    runtime: Runtime, box: Bundle, wanted: str, expected: set[str]
) -> None:
    box.config["linux"]["rootfsPropagation"] = wanted
    answer = runtime.run(box.runs("cat", "/proc/self/mountinfo").path)
    assert answer.code == 0, answer.err
    assert kinds(mounts.seen(answer.out)["/"]) - {"master"} == expected


@pytest.mark.parametrize(("wanted", "arrives"), [("slave", True), ("rslave", True), ("", True), ("private", False)])
def test_what_the_host_mounts_below_the_root_arrives_in_a_slave(
    runtime: Runtime, box: Bundle, volume: Path, wanted: str, arrives: bool
) -> None:
    root = volume / "rootfs"
    subprocess.run(["cp", "-a", box.rootfs, root], check=True)
    (root / "later").mkdir()
    box.config["root"]["path"] = str(root)
    box.config["linux"]["rootfsPropagation"] = wanted
    name, inside = started(runtime, box)
    subprocess.run([*TMPFS, root / "later"], check=True)
    (root / "later/file").touch()
    assert (inside / "later/file").exists() == arrives
    runtime.call("exec", name, *TMPFS, "/tmp")
    assert str(root / "tmp") not in oci.mounts()


@pytest.mark.parametrize(
    ("option", "inward", "outward"),
    [("rshared", True, True), ("shared", True, True), ("rslave", True, False), ("rprivate", False, False)],
)
def test_volumes_pass_on_what_their_options_say(
    runtime: Runtime, box: Bundle, volume: Path, option: str, inward: bool, outward: bool
) -> None:
    box.config["linux"]["rootfsPropagation"] = "rshared"  # engines ask for it with a shared volume, as runc needs it
    mounts.add(box, "/var", volume, "rbind", option)
    name, inside = started(runtime, box)
    subprocess.run([*TMPFS, volume / "host"], check=True)
    (volume / "host/file").touch()
    assert (inside / "var/host/file").exists() == inward
    assert runtime.call("exec", name, *TMPFS, "/var/inside").code == 0
    assert (str(volume / "inside") in oci.mounts()) == outward


def test_nothing_mounted_for_the_container_appears_on_the_host(runtime: Runtime, box: Bundle, volume: Path) -> None:
    root = volume / "rootfs"
    subprocess.run(["cp", "-a", box.rootfs, root], check=True)
    box.config["root"]["path"] = str(root)
    before = oci.mounts()
    for wanted in ("", "shared", "slave", "private", "unbindable"):
        box.config["linux"]["rootfsPropagation"] = wanted
        name, _ = started(runtime, box)
        assert [point for point in oci.mounts() if point.startswith(str(root))] == []
        assert runtime.call("delete", "--force", name).code == 0
    assert [point for point in oci.mounts() if str(volume) in point] == [p for p in before if str(volume) in p]


def test_a_volume_may_be_private_shared_or_unbindable_by_itself(runtime: Runtime, box: Bundle, volume: Path) -> None:
    for place, option in enumerate(("private", "slave", "shared", "unbindable", "rprivate")):
        mounts.add(box, f"/tmp/{place}", volume, "rbind", option)
    box.config["root"]["readonly"] = False
    name, _ = started(runtime, box)
    found = table(name, runtime)
    assert [kinds(found[f"/tmp/{place}"]) for place in range(5)] == [
        set(),
        {"master"},
        {"shared", "master"},
        {"unbindable"},
        set(),
    ]
