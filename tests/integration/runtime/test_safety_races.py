"""Names that change between the look and the act: mount points, masks, devices, the pseudo-terminals' directory.

A second container with a shared volume, or a process in a joined mount namespace, can do that (CVE-2021-30465,
CVE-2025-31133, CVE-2025-52565, CVE-2025-52881). Each round is a container; what it sees must be what its configuration
says, or it must not start; and what the names were exchanged for, a tree outside its root, is never touched.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import bundle, hostile
from tests.support.races import ROUNDS, racer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


@pytest.fixture
def box(tmp_path: Path) -> Bundle:
    found = bundle.make(tmp_path / "bundle", "true")
    found.config["root"]["readonly"] = False
    del found.config["linux"]["namespaces"][1]  # the network: making and removing one takes longer than all else
    return found


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A tree outside the root that must stay as it is."""
    directory = tmp_path / "canary"
    for name in ("pts", "shm", "in", "x"):
        (directory / name).mkdir(parents=True)
    (directory / "file").write_text("canary")
    before = hostile.everything(directory)
    yield directory
    assert hostile.everything(directory) == before


def rounds(runtime: Runtime, box: Bundle, canary: Path, script: str, good: str) -> None:
    """Run the bundle again and again: it prints ``good``, or is refused in one line; the canary is mounted nowhere."""
    box.script(f"{script}; cat /proc/self/mountinfo; ls / /tmp")
    started = 0
    for _ in range(ROUNDS):
        answer = runtime.run(box.path)
        if answer.code == 1 and not answer.out:
            assert answer.err.count("\n") == 1, answer.err
            assert answer.err.removesuffix("\n").isprintable()
            continue
        assert answer.out.startswith(good), answer
        lines = [line.split() for line in answer.out.splitlines()]
        # what is mounted there, not where: a link of the image's leads to a place in the image
        assert not [line for line in lines if len(line) > 9 and line[3].startswith(str(canary))], answer.out
        started += 1
    assert started or ROUNDS < 10, "not one round came to the container"


def link(path: Path, target: Path | str) -> Path:
    path.symlink_to(target)
    return path


def up(canary: Path) -> str:
    """Return the canary from anywhere below, as a relative name."""
    return "../" * 30 + str(canary).lstrip("/")


@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
def test_a_mount_point(runtime: Runtime, box: Bundle, canary: Path, relative: bool) -> None:
    (box.rootfs / "data/in").mkdir(parents=True)
    target = up(canary) if relative else canary
    with_mount(box, {"destination": "/data/in", "type": "tmpfs", "source": "tmpfs", "options": ["mode=711"]})
    with racer(box.rootfs / "data", link(box.rootfs / "other", target)):
        rounds(runtime, box, canary, "true", "")


def test_a_mount_point_that_has_to_be_made(runtime: Runtime, box: Bundle, canary: Path) -> None:
    (box.rootfs / "data").mkdir(parents=True)
    with_mount(box, {"destination": "/data/a/b/c", "type": "tmpfs", "source": "tmpfs", "options": ["mode=711"]})
    with racer(box.rootfs / "data", link(box.rootfs / "other", canary)):
        rounds(runtime, box, canary, "true", "")


def test_a_volume_on_a_volume(runtime: Runtime, box: Bundle, canary: Path, tmp_path: Path) -> None:
    """As it was with runc: the volume is shared, and the second mount lies in it."""
    volume = tmp_path / "volume"
    (volume / "inner").mkdir(parents=True)
    (tmp_path / "bound").mkdir()
    (tmp_path / "bound/mark").write_text("bound\n")
    (box.rootfs / "vol").mkdir()
    with_mount(box, {"destination": "/vol", "type": "bind", "source": str(volume), "options": ["rbind"]})
    with_mount(
        box, {"destination": "/vol/inner", "type": "bind", "source": str(tmp_path / "bound"), "options": ["bind"]}
    )
    with racer(volume / "inner", link(volume / "other", "/")):
        rounds(
            runtime, box, canary, "[ -e /mark ] && echo mounted on the root; [ -x /bin/busybox ] && echo root", "root\n"
        )


@pytest.mark.parametrize("name", ["null", "tty"])
def test_a_device_that_serves_as_mask(runtime: Runtime, box: Bundle, canary: Path, name: str) -> None:
    """/dev lies in the root, where another can reach it: a mask is /dev/null itself, or there is no container."""
    box.config["mounts"] = [one for one in box.config["mounts"] if not one["destination"].startswith("/dev")]
    box.config["linux"]["maskedPaths"] += ["/etc/passwd"]
    os.mknod(box.rootfs / "dev/null", 0o20666, os.makedev(1, 3))
    os.mknod(box.rootfs / "dev/tty", 0o20666, os.makedev(5, 0))
    with racer(box.rootfs / f"dev/{name}", link(box.rootfs / "dev/other", up(canary) + "/file")):
        rounds(runtime, box, canary, "cat /proc/keys /etc/passwd; echo x > /proc/keys; echo masked", "masked\n")


def test_a_masked_path(runtime: Runtime, box: Bundle, canary: Path) -> None:
    (box.rootfs / "secret").mkdir()
    (box.rootfs / "secret/file").write_text("hidden\n")
    box.config["linux"]["maskedPaths"] += ["/secret/file", "/secret"]
    box.config["linux"]["readonlyPaths"] += ["/secret"]
    with racer(box.rootfs / "secret", link(box.rootfs / "other", up(canary))):
        rounds(runtime, box, canary, "true", "")


def test_the_directory_of_the_terminals(runtime: Runtime, box: Bundle, canary: Path) -> None:
    box.config["mounts"] = [one for one in box.config["mounts"] if one["destination"] != "/dev"]
    for name in ("pts", "shm", "mqueue"):
        (box.rootfs / "dev" / name).mkdir()
    with racer(box.rootfs / "dev/pts", link(box.rootfs / "dev/other", up(canary) + "/pts")):
        rounds(runtime, box, canary, "true", "")


def test_the_directory_of_the_devices(runtime: Runtime, box: Bundle, canary: Path) -> None:
    with racer(box.rootfs / "dev", link(box.rootfs / "other", canary)):
        rounds(runtime, box, canary, "true", "")


def test_proc(runtime: Runtime, box: Bundle, canary: Path) -> None:
    """What is written below /proc (labels, limits, maps) goes to procfs, and what is masked lies in it."""
    (box.rootfs / "false-proc/self/attr").mkdir(parents=True)
    (box.rootfs / "false-proc/keys").write_text("false\n")
    box.config["linux"]["sysctl"] = {"kernel.domainname": "raced"}
    with racer(box.rootfs / "proc", box.rootfs / "false-proc"):
        box.script("[ $(stat -f -c %t /proc) = 9fa0 ] && cat /proc/sys/kernel/domainname && cat /proc/keys")
        started = 0
        for _ in range(ROUNDS):
            answer = runtime.run(box.path)
            # whose /proc is elsewhere finds nothing there, or what the other holds; never what should be hidden
            assert set(answer.out.split()) <= {"raced", "false"}, answer
            started += answer.out.startswith("raced")
        assert started or ROUNDS < 10


def test_a_device_of_the_configuration(runtime: Runtime, box: Bundle, canary: Path) -> None:
    (box.rootfs / "nodes").mkdir()
    box.config["linux"]["devices"] = [{"path": "/nodes/evil", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600}]
    with racer(box.rootfs / "nodes", link(box.rootfs / "other", canary)):
        rounds(runtime, box, canary, "true", "")


def test_the_working_directory(runtime: Runtime, box: Bundle, canary: Path) -> None:
    (box.rootfs / "work").mkdir()
    box.config["process"]["cwd"] = "/work"
    with racer(box.rootfs / "work", link(box.rootfs / "other", "/proc/1/fd/7")):
        rounds(runtime, box, canary, "true", "")


def with_mount(box: Bundle, mount: dict[str, Any]) -> None:
    box.config["mounts"].append(mount)
