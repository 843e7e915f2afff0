"""What every test of stage1 has: a root file system, and the duty to leave nothing behind."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrkt.stage1 import launch
from tests.support.stage1 import BINARY

APPLETS = (
    "sh",
    "true",
    "false",
    "ls",
    "cat",
    "sleep",
    "id",
    "echo",
    "ps",
    "kill",
    "tty",
    "stty",
    "touch",
    "mkdir",
    "head",
)


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """A root file system that is busybox."""
    path = tmp_path / "rootfs"
    for name in ("bin", "proc", "sys", "dev", "tmp", "etc"):
        (path / name).mkdir(parents=True)
    shutil.copy2("/bin/busybox", path / "bin" / "busybox")
    for name in APPLETS:
        (path / "bin" / name).symlink_to("busybox")
    return path


@pytest.fixture(autouse=True)
def _leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # every process that a test starts, however far it goes, carries this mark in what it was started with
    monkeypatch.setenv("PYRKT_TEST_MARK", str(tmp_path))
    monkeypatch.setattr(launch, "binary", lambda: BINARY)

    def left() -> list[str]:
        mark = os.fsencode(f"PYRKT_TEST_MARK={tmp_path}\0")
        return [str(path.parent) for path in Path("/proc").glob("[0-9]*/environ") if mark in _read(path)]

    yield
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    deadline = time.monotonic() + 2
    while left() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left() == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
