"""The key: made once, whole, by whoever comes first; and never used if others could have it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pyrkt.base.errors import InvalidSpec, NoPermission, PyrktError
from pyrkt.metadata import key


def test_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    key.ensure(str(tmp_path))
    file = Path(key.path(str(tmp_path)))
    made = file.read_bytes()
    assert len(made) == 64
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    key.ensure(str(tmp_path))
    assert file.read_bytes() == made
    assert os.listdir(file.parent) == ["key"]


def test_the_umask_does_not_matter(tmp_path: Path) -> None:
    old = os.umask(0o277)
    try:
        key.ensure(str(tmp_path))
    finally:
        os.umask(old)
    key.ensure(str(tmp_path))


def test_many_at_once_have_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, found = Path(key.path(str(tmp_path))), []
    everybody = threading.Barrier(8)
    make = key._make

    def together(path: str) -> None:
        everybody.wait(10)  # all have seen that there is none
        make(path)

    monkeypatch.setattr(key, "_make", together)

    def one() -> None:
        key.ensure(str(tmp_path))
        found.append(file.read_bytes())

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert os.listdir(file.parent) == ["key"]


def _cut(file: Path) -> None:
    file.write_bytes(b"k" * 63)


def _grown(file: Path) -> None:
    file.write_bytes(b"k" * 65)


def _link(file: Path) -> None:
    file.rename(file.with_name("other"))
    file.symlink_to("other")


def _fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


def _directory(file: Path) -> None:
    file.unlink()
    file.mkdir(0o600)


@pytest.mark.parametrize(
    ("damage", "kind", "words"),
    [
        pytest.param(lambda file: file.chmod(0o640), NoPermission, "mode 0640", id="group"),
        pytest.param(lambda file: file.chmod(0o604), NoPermission, "mode 0604", id="others"),
        pytest.param(_cut, InvalidSpec, "not a key of 64 bytes", id="cut"),
        pytest.param(_grown, InvalidSpec, "not a key of 64 bytes", id="grown"),
        pytest.param(lambda file: file.write_bytes(b""), InvalidSpec, "not a key of 64 bytes", id="empty"),
        pytest.param(_link, InvalidSpec, "not a key of 64 bytes", id="link"),
        pytest.param(_fifo, InvalidSpec, "not a key of 64 bytes", id="fifo"),
        pytest.param(_directory, InvalidSpec, "not a key of 64 bytes", id="directory"),
    ],
)
def test_refuses(tmp_path: Path, damage: Callable[[Path], None], kind: type[PyrktError], words: str) -> None:
    key.ensure(str(tmp_path))
    file = Path(key.path(str(tmp_path)))
    damage(file)
    with pytest.raises(kind) as caught:
        key.ensure(str(tmp_path))
    assert words in str(caught.value)
    assert str(file) in str(caught.value)
    assert caught.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_refuses_anothers(tmp_path: Path) -> None:
    key.ensure(str(tmp_path))
    os.chown(key.path(str(tmp_path)), 1000, 1000)
    with pytest.raises(NoPermission, match="belongs to uid 1000"):
        key.ensure(str(tmp_path))
