"""Files that are put aside while they are read; several apps by time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.logs import files
from pyrkt.logs.files import Log
from pyrkt.logs.line import Line, stamp_of
from pyrkt.logs.merge import Choice, Logs


class Writer:
    """A log as stage1 writes it; ``keep`` files at most."""

    def __init__(self, directory: Path, app: str = "a", keep: int = 5) -> None:
        self.path, self.keep, self.count = directory / f"{app}.log", keep, 0

    def write(self, *texts: str, stream: str = "stdout", tag: str = "F", at: int | None = None) -> None:
        with self.path.open("ab") as file:
            for text in texts:
                self.count += 1
                stamp = stamp_of((self.count if at is None else at) * 10**9)
                file.write(stamp + f" {stream} {tag} {text}\n".encode())

    def rotate(self) -> None:
        for number in range(self.keep - 1, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{number - 1}") if number > 1 else self.path
            if older.exists():
                older.rename(self.path.with_name(f"{self.path.name}.{number}"))


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def log(directory: int) -> Iterator[Log]:
    found = Log(directory, "a")
    yield found
    found.close()


def texts(lines: object) -> list[str]:
    return [line.text.decode() for line in lines]  # type: ignore[attr-defined]


def test_nothing_is_there_yet(log: Log, tmp_path: Path) -> None:
    assert texts(log.read()) == []
    Writer(tmp_path).write("one")
    assert texts(log.read()) == ["one"]
    assert texts(log.read()) == []


def test_all_files_from_the_oldest_on(log: Log, tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    for number in range(12):
        writer.write(f"{number}")
        if number % 2:
            writer.rotate()
    (tmp_path / "a.log.x").write_text("other\n")
    (tmp_path / "a.log.txt").write_text("other\n")
    assert texts(log.read()) == [str(number) for number in range(4, 12)]
    assert not log.gap


def test_rotation_while_reading(log: Log, tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write("1", "2")
    assert texts(log.read()) == ["1", "2"]
    writer.write("3")
    writer.rotate()
    assert texts(log.read()) == ["3"]  # no new file yet
    writer.write("4")
    writer.rotate()
    writer.write("5")
    writer.rotate()
    writer.write("6")
    assert texts(log.read()) == ["4", "5", "6"]
    assert not log.gap


def test_rotation_that_was_too_fast(log: Log, tmp_path: Path) -> None:
    writer = Writer(tmp_path, keep=3)
    writer.write("1")
    assert texts(log.read()) == ["1"]
    for number in range(2, 9):
        writer.rotate()
        writer.write(str(number))
    assert texts(log.read()) == ["6", "7", "8"]
    assert log.gap


def test_a_line_comes_when_it_is_whole(log: Log, tmp_path: Path) -> None:
    stamp = stamp_of(0)
    with (tmp_path / "a.log").open("ab", buffering=0) as file:
        file.write(stamp + b" stdout F half")
        assert texts(log.read()) == []
        file.write(b" and half\n")
        assert texts(log.read()) == ["half and half"]
        file.write(stamp + b" stdout F torn")
        assert texts(log.read()) == []
    (tmp_path / "a.log").rename(tmp_path / "a.log.1")
    Writer(tmp_path).write("new")
    assert texts(log.read()) == ["torn", "new"]


def test_a_file_that_somebody_empties(log: Log, tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write("1", "2", "3")
    assert texts(log.read()) == ["1", "2", "3"]
    os.truncate(tmp_path / "a.log", 0)
    writer.write("4")
    assert texts(log.read()) == ["4"]


def everything(_: Line) -> bool:
    return True


@pytest.mark.parametrize("block", [1, 7, 100, 1 << 17])
@pytest.mark.parametrize("count", [0, 1, 3, 7, 100])
def test_the_last_lines(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, count: int) -> None:
    monkeypatch.setattr(files, "_BLOCK", block)
    writer = Writer(tmp_path)
    for number in range(8):
        writer.write(f"{number}")
        if number in (2, 5, 7):
            writer.rotate()
    writer.write("8")
    with (tmp_path / "a.log").open("ab") as file:
        file.write(stamp_of(10**10) + b" stdout F hal")
    assert texts(log.tail(count, everything)) == [str(number) for number in range(9)][::-1][:count][::-1]
    with (tmp_path / "a.log").open("ab") as file:
        file.write(b"f\n")
    assert texts(log.read()) == ["half"]


def test_the_parts_of_a_line_count_as_one(log: Log, tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write("one")
    writer.write("t", "w", tag="P")
    writer.write("o")
    writer.write("three")
    assert texts(log.tail(2, everything)) == ["t", "w", "o", "three"]
    writer.write("rest", tag="P")
    assert texts(log.tail(2, everything)) == ["three", "rest"]


@given(st.lists(st.binary(max_size=20).map(lambda data: data.replace(b"\n", b"")), max_size=30), st.integers(1, 40))
def test_backwards_is_forwards_the_other_way(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], block: int
) -> None:
    path = tmp_path_factory.mktemp("b") / "f"
    path.write_bytes(b"".join(line + b"\n" for line in lines) + b"rest")
    file = os.open(path, os.O_RDONLY)
    before, files._BLOCK = files._BLOCK, block
    try:
        size = files._whole(file)
        assert size == sum(len(line) + 1 for line in lines)
        assert list(files._backwards(file, size)) == lines[::-1]
    finally:
        files._BLOCK = before
        os.close(file)


# --- several apps ---


def said(lines: object) -> list[str]:
    return [f"{app}:{line.text.decode()}" for app, line in lines]  # type: ignore[attr-defined]


def test_several_apps_by_time(tmp_path: Path) -> None:
    one, two = Writer(tmp_path, "a"), Writer(tmp_path, "b")
    for number in range(6):
        (one if number % 3 else two).write(str(number), at=number)
    with Logs(str(tmp_path)) as logs:
        assert said(logs.begin()) == ["b:0", "a:1", "a:2", "b:3", "a:4", "a:5"]
        one.write("7", at=7)
        two.write("6", at=6)
        Writer(tmp_path, "c").write("8", at=8)
        assert said(logs.more()) == ["b:6", "a:7", "c:8"]
    with Logs(str(tmp_path), ["b"]) as logs:
        assert said(logs.begin()) == ["b:0", "b:3", "b:6"]


@pytest.mark.parametrize(
    ("choice", "count", "expected"),
    [
        pytest.param({"since": 3}, None, ["b:3", "a:4", "a:5"], id="since"),
        pytest.param({"until": 2}, None, ["b:0", "a:1", "a:2"], id="until"),
        pytest.param({"since": 1, "until": 3}, None, ["a:1", "a:2", "b:3"], id="both"),
        pytest.param({}, 2, ["a:4", "a:5"], id="tail"),
        pytest.param({"until": 3}, 2, ["a:2", "b:3"], id="tail-until"),
        pytest.param({"stream": "stderr"}, None, ["a:1", "a:5"], id="stream"),
        pytest.param({"stream": "stderr"}, 1, ["a:5"], id="tail-stream"),
        pytest.param({}, 0, [], id="none"),
    ],
)
def test_what_is_chosen(tmp_path: Path, choice: dict[str, int | str], count: int | None, expected: list[str]) -> None:
    one, two = Writer(tmp_path, "a"), Writer(tmp_path, "b")
    for number in range(6):
        (one if number % 3 else two).write(str(number), at=number, stream="stderr" if number in (1, 5) else "stdout")
    wanted = Choice(
        **{key: value if isinstance(value, str) else stamp_of(value * 10**9) for key, value in choice.items()}  # type: ignore[arg-type]
    )
    with Logs(str(tmp_path), choice=wanted) as logs:
        assert said(logs.begin(count)) == expected
        two.write("9", at=9, stream="stderr")
        assert said(logs.more()) == ([] if "until" in choice else ["b:9"])


def test_old_files_are_passed_over(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    for number in range(4):
        writer.write(str(number), at=number * 1000)
        os.utime(tmp_path / "a.log", (number * 1000, number * 1000))
        writer.rotate()
    writer.write("4", at=4000)
    with Logs(str(tmp_path), choice=Choice(since=stamp_of(2500 * 10**9))) as logs:
        assert said(logs.begin()) == ["a:3", "a:4"]


def test_a_gap_is_told_once(tmp_path: Path) -> None:
    writer = Writer(tmp_path, keep=2)
    writer.write("1")
    with Logs(str(tmp_path)) as logs:
        assert said(logs.begin()) == ["a:1"]
        for number in range(5):
            writer.rotate()
            writer.write(str(number))
        logs.more()
        assert logs.gaps() == ["a"]
        assert logs.gaps() == []
