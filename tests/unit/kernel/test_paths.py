"""openat2: no name leads out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from errno import EINVAL, ELOOP, ENODEV, EXDEV
from pathlib import Path

import pytest

from pyrkt.base.errors import KernelError
from pyrkt.kernel import mount, path


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "secret").write_text("outside")
    inside = tmp_path / "root"
    (inside / "etc").mkdir(parents=True)
    (inside / "secret").write_text("inside")
    (inside / "up").symlink_to("../secret")
    (inside / "absolute").symlink_to("/secret")
    (inside / "magic").symlink_to("/proc/self/root")
    descriptor = os.open(inside, os.O_PATH)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("name", ["../secret", "/secret", "up", "absolute", "etc/../../secret"])
def test_beneath_refuses_to_leave(root: int, name: str) -> None:
    with pytest.raises(KernelError) as caught:
        path.open_beneath(root, name, os.O_RDONLY)
    assert caught.value.errno == EXDEV


def test_magic_links_are_refused() -> None:
    proc = os.open("/proc", os.O_PATH)
    with pytest.raises(KernelError) as caught:
        path.open_beneath(proc, "self/root", os.O_PATH)
    assert caught.value.errno == ELOOP
    os.close(proc)


def test_descriptors_are_closed_on_exec(root: int) -> None:
    opened = path.open_beneath(root, "new", os.O_WRONLY | os.O_CREAT, 0o600)
    assert not os.get_inheritable(opened)
    os.close(opened)


def test_mount_calls_name_what_failed() -> None:
    with pytest.raises(KernelError) as caught:
        mount.new_filesystem("no-such-fs")
    assert caught.value.errno in {ENODEV, 1}
    with pytest.raises(KernelError) as caught:
        mount.detach("/proc/self/none/such")
    assert caught.value.errno != EINVAL or os.geteuid() == 0
