"""Root file systems and configurations that mean harm: nothing outside the root is touched, and one line says why."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import bundle, oci

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    found = oci.ours(tmp_path)
    with oci.nothing_left(tmp_path):
        yield found
        found.clean()
    assert not list(found.root.glob("pyrkt-test*"))


@pytest.fixture
def box(tmp_path: Path) -> Bundle:
    return bundle.make(tmp_path / "bundle")


def fingerprint(directory: Path) -> str:
    """Return a hash of everything below ``directory``: names, kinds, owners, modes, contents."""
    total = hashlib.sha256()
    for path in sorted([directory, *directory.rglob("*")]):
        info = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        total.update(repr((str(path), info.st_mode, info.st_uid, info.st_gid, content)).encode())
    return total.hexdigest()


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "canary"
    for name in ("pts", "shm", "fs", "sys"):
        (directory / name).mkdir(parents=True)
    (directory / "file").write_text("untouched")
    before = fingerprint(directory)
    yield directory
    assert fingerprint(directory) == before


def replaced(box: Bundle, name: str, target: Path) -> None:
    path = box.rootfs / name
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    path.symlink_to(target)


@pytest.mark.parametrize("name", ["dev", "proc", "sys"])
def test_a_link_in_the_place_of_a_mount_point_leads_nowhere(
    runtime: Runtime, box: Bundle, canary: Path, name: str
) -> None:
    replaced(box, name, canary)
    answer = runtime.run(box.runs("true").path)
    assert "Traceback" not in answer.err
    if answer.code:
        assert answer.code == 1
        assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda m: m.update(destination="/link"), id="target-is-a-link"),
        pytest.param(lambda m: m.update(destination="/link/sub"), id="parent-is-a-link"),
        pytest.param(lambda m: m.update(destination="/dangling/x/y"), id="parent-dangles"),
        pytest.param(lambda m: m.update(destination="/../../../canary"), id="dots"),
        pytest.param(lambda m: m.update(destination="relative"), id="relative"),
    ],
)
def test_mount_points_stay_inside(
    runtime: Runtime, box: Bundle, canary: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    (box.rootfs / "link").symlink_to(canary)
    (box.rootfs / "dangling").symlink_to(canary / "made")
    mount: dict[str, Any] = {"type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]}
    change(mount)
    box.config["mounts"].append(mount)
    box.config["root"]["readonly"] = False
    answer = runtime.run(box.runs("true").path)
    assert answer.code in (0, 1)
    assert str(canary) not in "\n".join(oci.mounts())


@pytest.mark.parametrize("destination", ["/proc", "/proc/self", "/proc/sys/kernel", "/proc/self/attr"])
def test_nothing_is_mounted_over_procfs(runtime: Runtime, box: Bundle, canary: Path, destination: str) -> None:
    mount = {"destination": destination, "type": "bind", "source": str(canary), "options": ["rbind"]}
    box.config["mounts"].append(mount)
    answer = runtime.run(box.runs("true").path)
    assert answer.code == 1
    assert answer.err.count("\n") == 1


def test_a_masked_path_that_is_a_link_masks_nothing_outside(runtime: Runtime, box: Bundle, canary: Path) -> None:
    (box.rootfs / "masked").symlink_to(canary / "file")
    box.config["linux"]["maskedPaths"].append("/masked")
    box.config["linux"]["readonlyPaths"].append("/masked")
    runtime.run(box.runs("cat", "/masked").path)
    assert (canary / "file").read_text() == "untouched"


def test_a_planted_null_device_does_not_serve_as_mask(runtime: Runtime, box: Bundle, canary: Path) -> None:
    box.config["mounts"] = [m for m in box.config["mounts"] if not m["destination"].startswith("/dev")]
    (box.rootfs / "dev/null").symlink_to(canary / "file")
    answer = runtime.run(box.runs("sh", "-c", "cat /proc/keys; echo x > /proc/keys").path)
    assert "untouched" not in answer.out


def test_devices_are_made_inside_whatever_links_there_are(runtime: Runtime, box: Bundle, canary: Path) -> None:
    (box.rootfs / "sub").symlink_to(canary)
    box.config["root"]["readonly"] = False
    box.config["linux"]["devices"] = [
        {"path": "/sub/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666, "uid": 0, "gid": 0}
    ]
    answer = runtime.run(box.runs("true").path)
    assert answer.code in (0, 1)
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("change", "where"),
    [
        pytest.param(lambda c: c.update(process=None), "process", id="no-process"),
        pytest.param(lambda c: c.update(root=None), "root", id="no-root"),
        pytest.param(lambda c: c["process"].update(args=[]), "process.args", id="no-args"),
        pytest.param(lambda c: c["process"].update(args=["a\0b"]), "process.args[0]", id="nul"),
        pytest.param(lambda c: c["process"]["user"].update(uid=-1), "process.user.uid", id="uid"),
        pytest.param(lambda c: c["process"]["user"].update(uid=1 << 32), "process.user.uid", id="uid-wraps"),
        pytest.param(lambda c: c["process"].update(cwd="relative"), "process.cwd", id="cwd"),
        pytest.param(lambda c: c.update(ociVersion="invalid"), "ociVersion", id="version"),
        pytest.param(lambda c: c["linux"].update(sysctl={"kernel.core_pattern": "|x"}), "sysctl", id="sysctl"),
        pytest.param(lambda c: c["linux"].update(cgroupsPath="/"), "cgroupsPath", id="cgroups-top"),
        pytest.param(lambda c: c["linux"]["resources"].update(memory={"limit": "x"}), "memory.limit", id="limit"),
        pytest.param(lambda c: c["process"].update(apparmorProfile="x"), "apparmorProfile", id="apparmor"),
    ],
)
def test_a_wrong_configuration_is_named_and_leaves_nothing(
    runtime: Runtime, box: Bundle, change: Callable[[dict[str, Any]], None], where: str
) -> None:
    change(box.config)
    answer = runtime.run(box.save().path)
    assert answer.code == 1
    assert where in answer.err
    assert answer.err.count("\n") == 1
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 200_000, b'{"a":1,"a":2}', b'{"ociVersion":NaN}'],
    ids=["empty", "cut", "array", "null", "utf16", "deep", "twice", "nan"],
)
def test_a_damaged_configuration_is_one_line(runtime: Runtime, box: Bundle, content: bytes) -> None:
    (box.path / "config.json").write_bytes(content)
    answer = runtime.run(box.path)
    assert answer.code == 1
    assert answer.err.count("\n") == 1
    assert "config.json" in answer.err


def test_a_configuration_that_is_no_file_does_not_block(runtime: Runtime, box: Bundle) -> None:
    (box.path / "config.json").unlink()
    assert "config.json not found" in runtime.run(box.path).err
    os.mkfifo(box.path / "config.json")
    assert runtime.run(box.path).code == 1


def test_cgroups_cannot_be_mounted_or_left(runtime: Runtime, box: Bundle) -> None:
    options = ["nosuid", "noexec", "nodev", "relatime", "ro"]
    box.config["mounts"].append(
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}
    )
    box.script(
        "mount -t cgroup -o memory none /tmp; for f in $(ls -d /sys/fs/cgroup/*/release_agent"
        " /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs 2>/dev/null); do echo 0 > $f; done; echo end"
    )
    answer = runtime.run(box.path)
    assert answer.out == "end\n"
    assert "Operation not permitted" in answer.err or "permission denied" in answer.err
    assert "Read-only file system" in answer.err


def test_the_terminal_of_the_caller_takes_no_input_from_within(runtime: Runtime, box: Bundle) -> None:
    keys = runtime.run(box.runs("cat", "/proc/keys").path)
    assert keys.out == ""


def test_the_callers_groups_stay_outside(runtime: Runtime, box: Bundle) -> None:
    words = runtime.argv("run", "-b", str(box.runs("id", "-G").path), runtime.new_id())
    done = subprocess.run(words, capture_output=True, text=True, check=False, extra_groups=[4, 27], timeout=30)
    assert done.stdout == "0\n"


def test_a_damaged_container_does_not_harm_the_others(runtime: Runtime, box: Bundle) -> None:
    name = runtime.new_id()
    assert runtime.detached("run", "-d", "-b", str(box.runs("sleep", "60").path), name).code == 0
    broken = runtime.root / "broken"
    broken.mkdir()
    (broken / "state.json").write_text(json.dumps({"format": 99}))
    assert runtime.call("list", "-q").out == f"{name}\n"
    assert runtime.call("state", name).code == 0
    assert runtime.call("delete", "--force", "broken").code == 0
    assert not broken.exists()
