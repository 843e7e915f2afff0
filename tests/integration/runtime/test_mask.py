"""Masked and read-only paths: what they cover, what leads to them, and that nobody inside takes them away."""

from __future__ import annotations

import ctypes
import os
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support import mounts, oci

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


@pytest.fixture
def box() -> Iterator[Bundle]:
    with mounts.open_bundle() as made:
        for name in ("dir", "dir2", "dir3", "ro"):
            (made.rootfs / name).mkdir()
            (made.rootfs / name / "secret").write_text("secret\n")
        (made.rootfs / "file").write_text("secret\n")
        made.config["root"]["readonly"] = False
        made.config["linux"]["maskedPaths"] += ["/dir", "/file", "/missing", "/file/missing", "/dir2/../dir2", "/dir3"]
        made.config["linux"]["readonlyPaths"] += ["/ro", "/missing", "/file/missing"]
        yield made


@pytest.mark.parametrize("users", [False, True], ids=["root", "userns"])
@pytest.mark.parametrize("readonly", [False, True], ids=["writable", "read-only"])
def test_masked_paths_are_empty_and_stay(runtime: Runtime, box: Bundle, users: bool, readonly: bool) -> None:
    box.config["root"]["readonly"] = readonly
    if users:
        mounts.map_users(box)
    script = (
        "cat /file; ls -a /dir /dir2 /dir3; cat /ro/secret; stat -c %d /dir /dir2 /dir3 | busybox sort -u | wc -l;"
        "touch /dir/x; rm -f /file; rm -rf /dir; busybox umount /file; busybox umount /dir;"
        "touch /ro/x; echo > /ro/secret"
    )
    answer = runtime.run(box.script(script).path)
    empty = "".join(f"{name}:\n.\n..\n\n" for name in ("/dir", "/dir2", "/dir3")).removesuffix("\n")
    assert answer.out == f"{empty}secret\n1\n"  # one tmpfs serves all directories
    for text in (
        "touch: /dir/x: Read-only file system",
        "can't unmount /file: Operation not permitted",
        "can't unmount /dir: Operation not permitted",
        "touch: /ro/x: Read-only file system",
        "can't create /ro/secret: Read-only file system",
    ):
        assert text in answer.err
    assert (box.rootfs / "file").read_text() == "secret\n"


def test_what_is_given_twice_is_masked_once(runtime: Runtime, box: Bundle) -> None:
    box.config["linux"]["maskedPaths"] += ["/dir", "//file", "/dir/"]
    answer = runtime.run(
        box.script("grep -c ' /dir ' /proc/self/mountinfo; grep -c ' /file ' /proc/self/mountinfo").path
    )
    assert answer.out == "1\n1\n"


def test_links_of_the_image_mask_what_they_lead_to_inside(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("kept\n")
    (box.rootfs / "to-file").symlink_to("/file")
    (box.rootfs / "to-dir").symlink_to("dir2/../dir3")
    (box.rootfs / "out").symlink_to(f"../../../../../../..{outside}")
    (box.rootfs / "loop").symlink_to("loop")
    linux = box.config["linux"]
    linux["maskedPaths"] = ["/to-file", "/to-dir", "/out"]
    linux["readonlyPaths"] = ["/out"]
    assert runtime.run(box.script("cat /file; ls /dir3").path).out == ""
    assert outside.read_text() == "kept\n"
    linux["maskedPaths"] = ["/loop"]
    answer = runtime.run(box.runs("true").path)
    assert answer.code == 1
    assert "masking /loop (config.json: /linux/maskedPaths/0)" in answer.err


def test_a_read_only_path_keeps_its_other_flags_and_what_is_mounted_below(runtime: Runtime, box: Bundle) -> None:
    mounts.add_tmpfs(box, "/ro", "nosuid", "nodev", "noexec", "mode=755")
    mounts.add_tmpfs(box, "/ro/below", "mode=755")
    answer = runtime.run(box.script("touch /ro/below/x; cat /proc/self/mountinfo").path)
    assert "touch: /ro/below/x: Read-only file system" in answer.err
    assert {"ro", "nosuid", "nodev", "noexec"} <= mounts.seen(answer.out)["/ro"].options


def test_an_exec_sees_no_more(runtime: Runtime, box: Bundle) -> None:
    name = runtime.new_id()
    assert runtime.detached("run", "-d", "-b", str(box.runs("sleep", "300").path), name).code == 0
    answer = runtime.call("exec", name, "sh", "-c", "cat /file /proc/keys; ls /dir; echo x > /proc/sys/kernel/hostname")
    assert answer.out == ""
    assert "Read-only file system" in answer.err


def test_a_racer_on_a_shared_volume_turns_no_mask_aside(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    """The masked path is a directory on a volume where somebody keeps exchanging it for a link to the host's."""
    canary, volume = tmp_path / "canary", box.path / "volume"
    canary.mkdir()
    (canary / "kept").touch()
    (volume / "x").mkdir(parents=True)
    (volume / "y").symlink_to(f"../../../../../../..{canary}")
    libc, stop = ctypes.CDLL(None), threading.Event()

    def exchange() -> None:
        while not stop.is_set():
            libc.renameat2(-100, os.fsencode(volume / "x"), -100, os.fsencode(volume / "y"), 2)

    mounts.add(box, "/v", volume, "rbind")
    mounts.add_tmpfs(box, "/v/x/mounted", "size=64k")
    box.config["linux"]["maskedPaths"] = ["/v/x"]
    racer = threading.Thread(target=exchange)
    racer.start()
    try:
        for _ in range(25):
            # the link leads to a place of that name inside, which may be made there
            answer = runtime.run(box.script(f"ls {canary} /v/x /v/y").path)
            assert "kept" not in answer.out
            assert "Traceback" not in answer.err
    finally:
        stop.set()
        racer.join()
    assert [entry.name for entry in canary.iterdir()] == ["kept"]
    assert not [point for point in oci.mounts() if str(tmp_path) in point or str(box.path) in point]
