"""Files are the old one or the new one, whole."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from pyrkt.base import atomic

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("data", [b"bytes", "text"], ids=["bytes", "text"])
@pytest.mark.parametrize("durable", [True, False], ids=["durable", "quick"])
def test_writes_the_whole_file_with_its_mode(tmp_path: Path, data: bytes | str, durable: bool) -> None:
    path = tmp_path / "file"
    old = os.umask(0o077)
    try:
        atomic.write_file(path, data, mode=0o644, durable=durable)
    finally:
        os.umask(old)
    assert path.read_bytes() == (data.encode() if isinstance(data, str) else data)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["file"]


def test_replaces_a_file_but_never_follows_a_symlink(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    link = tmp_path / "link"
    link.symlink_to(victim)
    atomic.write_file(link, b"new")
    assert victim.read_text() == "precious"
    assert not link.is_symlink()
    assert link.read_text() == "new"


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(IsADirectoryError):
        atomic.write_file(tmp_path / "directory", b"new")
    with pytest.raises(UnicodeEncodeError):
        atomic.write_file(tmp_path / "file", "\ud800")
    assert os.listdir(tmp_path) == ["directory"]


def test_a_relative_path_is_below_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    atomic.write_file("file", b"new")
    (tmp_path / "sub").mkdir()
    atomic.move("file", "sub/file")
    atomic.move("sub/file", "file")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_write_all_writes_through_a_pipe_that_takes_parts() -> None:
    source, sink = os.pipe()
    os.set_blocking(sink, False)
    with pytest.raises(BlockingIOError):
        atomic.write_all(sink, b"x" * (1 << 20))
    assert len(os.read(source, 1 << 21)) >= 4096
    os.close(source)
    os.close(sink)


def test_moves_within_a_directory_and_between_two(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "one").mkdir()
    atomic.move(tmp_path / "a" / "one", tmp_path / "a" / "two")
    atomic.move(tmp_path / "a" / "two", tmp_path / "b" / "three")
    assert (tmp_path / "b" / "three").is_dir()
    (tmp_path / "b" / "three" / "full").touch()
    (tmp_path / "a" / "four").mkdir()
    with pytest.raises(OSError, match="not empty"):
        atomic.move(tmp_path / "a" / "four", tmp_path / "b" / "three")
