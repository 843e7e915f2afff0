"""Locks: who holds them, who is told so, and what may not be one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyrkt.base.errors import Busy, CannotCreate
from pyrkt.kernel import lock


def test_exclusive_lock_is_seen_and_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "l")
    assert not lock.is_held(path)
    held = lock.acquire(path, exclusive=True)
    assert lock.is_held(path)
    with pytest.raises(Busy):
        lock.acquire(path, exclusive=True, wait=False)
    os.close(held)
    assert not lock.is_held(path)


def test_shared_locks_live_together_but_keep_writers_out(tmp_path: Path) -> None:
    path = str(tmp_path / "l")
    first = lock.acquire(path, exclusive=False)
    second = lock.acquire(path, exclusive=False, wait=False)
    assert not lock.is_held(path)
    with pytest.raises(Busy):
        lock.acquire(path, exclusive=True, wait=False)
    os.close(first)
    os.close(second)
    os.close(lock.acquire(path, exclusive=True, wait=False))


def test_directory_can_be_locked(tmp_path: Path) -> None:
    held = lock.acquire(str(tmp_path), exclusive=True, directory=True)
    assert lock.is_held(str(tmp_path))
    os.close(held)


def test_lock_survives_exec_where_it_is_inheritable(tmp_path: Path) -> None:
    path = str(tmp_path / "l")
    held = lock.acquire(path, exclusive=True)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[held])
    os.close(held)
    try:
        assert lock.is_held(path)
    finally:
        child.communicate(b"\n")
    assert not lock.is_held(path)


@pytest.mark.parametrize("kind", ["fifo", "symlink"])
def test_a_planted_special_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "l"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises((CannotCreate, OSError)):
        lock.acquire(str(path), exclusive=True)
    assert not (tmp_path / "elsewhere").exists()
