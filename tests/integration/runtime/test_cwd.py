"""process.cwd: made where it is missing, entered by whoever may, and never outside the root."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support import mounts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


@pytest.fixture
def box() -> Iterator[Bundle]:
    with mounts.open_bundle() as made:
        yield made


@pytest.mark.parametrize("cwd", ["/", "/etc", "/etc/../var", "/made/by/us", "/link", "/dangling/deeper"])
@pytest.mark.parametrize("readonly", [True, False])
def test_it_is_made_and_entered(runtime: Runtime, box: Bundle, cwd: str, readonly: bool) -> None:
    (box.rootfs / "link").symlink_to("/etc")
    (box.rootfs / "dangling").symlink_to("/later")
    box.config["root"]["readonly"] = readonly
    box.config["process"]["cwd"] = cwd
    real = {"/etc/../var": "/var", "/link": "/etc", "/dangling/deeper": "/later/deeper"}.get(cwd, cwd)
    answer = runtime.run(box.script("readlink /proc/self/cwd").path)
    assert answer.out == f"{real}\n", answer.err
    assert (box.rootfs / real.lstrip("/")).is_dir()


def test_it_may_lie_on_a_mount(runtime: Runtime, box: Bundle) -> None:
    mounts.add_tmpfs(box, "/srv/data", "mode=755")
    box.config["process"]["cwd"] = "/srv/data/sub"
    assert runtime.run(box.script("readlink /proc/self/cwd").path).out == "/srv/data/sub\n"


def test_root_enters_what_the_user_may_not(runtime: Runtime, box: Bundle) -> None:
    (box.rootfs / "root").chmod(0o700)
    box.config["process"] |= {"cwd": "/root", "user": {"uid": 42, "gid": 42}}
    assert runtime.run(box.script("echo in").path).out == "in\n"


def test_the_user_enters_what_root_may_not(runtime: Runtime, box: Bundle) -> None:
    os.chown(box.rootfs / "root", 42, 42)
    (box.rootfs / "root").chmod(0o700)
    box.config["process"] |= {"cwd": "/root", "user": {"uid": 42, "gid": 42}}
    name = runtime.new_id()
    assert runtime.detached("run", "-d", "-b", str(box.runs("sleep", "300").path), name).code == 0
    assert runtime.call("exec", "--user", "0", name, "true").code == 0
    assert runtime.call("exec", "--cwd", "/root", name, "sh", "-c", "pwd").out == "/root\n"


@pytest.mark.parametrize("target", ["/proc/self/fd/7", "/proc/self/fd/8/../..", "/out"])
def test_nothing_outside_can_be_entered(runtime: Runtime, box: Bundle, tmp_path: Path, target: str) -> None:
    (box.rootfs / "out").symlink_to("/proc/self/fd/7")
    box.config["process"]["cwd"] = target
    opened = [os.open("/etc", os.O_RDONLY), os.open("/", os.O_RDONLY)]
    try:
        for number, descriptor in zip((7, 8), opened, strict=True):
            os.set_inheritable(descriptor, True)
            if descriptor != number and not os.path.exists(f"/proc/self/fd/{number}"):
                os.dup2(descriptor, number)
        answer = runtime.run(box.runs("ls", "../../../etc/shadow").path, close_fds=False)
    finally:
        for descriptor in opened:
            os.close(descriptor)
    assert answer.code == 1
    assert answer.out == ""


@pytest.mark.parametrize("cwd", ["relative", "", "/etc/passwd", "/loop"])
def test_what_is_no_directory_is_refused(runtime: Runtime, box: Bundle, cwd: str) -> None:
    (box.rootfs / "loop").symlink_to("loop")
    box.config["process"]["cwd"] = cwd
    answer = runtime.run(box.runs("true").path)
    assert answer.code == 1
    assert answer.err.count("\n") == 1
