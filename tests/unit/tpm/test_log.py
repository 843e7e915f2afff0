"""Appending: whole launches in the order of the lock, and what a writer that dies or fails leaves."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pyrkt
from pyrkt.base.errors import CannotCreate, InvalidSpec
from pyrkt.tpm import log, replay

WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from pyrkt.tpm.log import append
path, name, launches, size = sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
sys.stdin.readline()
for launch in range(launches):
    append(path, [{"eventType": "plan", "pod": name, "launch": launch, "part": part, "fill": "x" * size}
                  for part in ("1", "2", "3")])
"""
PLACE = str(Path(pyrkt.__file__).parents[1])


def event(number: int = 1, **more: Any) -> dict[str, Any]:
    return {"eventType": "plan", "number": number, **more}


def numbers(path: Path) -> list[tuple[int, Any]]:
    """Return (record number, what its event has as a number) of every record."""
    return [
        (entry.value["recnum"], entry.content.get("number"))
        for entry in replay.read(str(path)).records()
        if entry.value is not None
    ]


def problems(path: Path) -> list[str]:
    return replay.problems(replay.read(str(path)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The log, in a directory that is not there yet."""
    return tmp_path / "log/pyrkt/measurements.log"


def writers(path: Path, count: int, launches: int, size: int = 10) -> Iterator[subprocess.Popen[bytes]]:
    """Start processes that wait for a line and then append."""
    for index in range(count):
        yield subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", WRITER, PLACE, str(path), f"pod{index}", str(launches), str(size)],
            stdin=subprocess.PIPE,
        )


def test_records_are_numbered_and_know_when(path: Path) -> None:
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
    log.append(str(path), [event(1), event(2)])
    log.append(str(path), [event(3)])
    assert numbers(path) == [(0, None), (1, 1), (2, 2), (3, 3)]
    assert problems(path) == []
    for entry in replay.read(str(path)).records():
        assert entry.content["bootId"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
        assert before <= entry.content["timestamp"] <= time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_each_piece_is_json_as_rfc_7464_has_it(path: Path) -> None:
    log.append(str(path), [event(text="line\nbreak \x1e")])
    begin, one = path.read_bytes().removeprefix(b"\x1e").split(b"\x1e")
    assert json.loads(begin)["content"]["eventType"] == "begin"
    assert json.loads(one)["content"]["text"] == "line\nbreak \x1e"


def test_long_records_are_found_from_the_end(path: Path) -> None:
    for number, size in enumerate((10, 8_000, 100_000, 3)):
        log.append(str(path), [event(number, fill="é" * size)])
    assert [number for number, _ in numbers(path)] == [0, 1, 2, 3, 4]
    assert problems(path) == []


def test_sixteen_at_once_lose_and_tear_nothing(path: Path) -> None:
    processes = list(writers(path, 16, 5, 2_000))
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(60) for process in processes] == [0] * 16
    assert problems(path) == []
    found = [entry.content for entry in replay.read(str(path)).records()][1:]
    assert len(found) == 16 * 5 * 3
    # What one append wrote stands together, and the launches of one process in their order.
    launches = [(found[index]["pod"], found[index]["launch"]) for index in range(0, len(found), 3)]
    for index, (pod, launch) in enumerate(launches):
        together = found[3 * index : 3 * index + 3]
        assert [(one["pod"], one["launch"], one["part"]) for one in together] == [(pod, launch, p) for p in "123"]
    assert [launch for pod, launch in launches if pod == "pod7"] == list(range(5))


@pytest.mark.parametrize("kept", [1, 2, 100, 400, -1])
def test_what_was_torn_stays_apart(path: Path, kept: int) -> None:
    """As a writer leaves it that dies within its write: the beginning of what it had to say, and the mark."""
    log.append(str(path), [event(1)])
    whole = path.stat().st_size
    log.append(str(path), [event(2)])
    size = path.stat().st_size
    torn = (whole + kept if kept > 0 else size + kept) - whole
    os.truncate(path, whole + torn)
    path.chmod(0o600 | stat.S_ISVTX)
    assert problems(path) == []
    assert replay.interruptions(replay.read(str(path))) == 1
    log.append(str(path), [event(3)])
    assert problems(path) == []
    found = replay.read(str(path))
    assert [entry.event for entry in found.records()] == ["begin", "plan", "interrupted", "plan"]
    assert found.records()[2].content["torn"] == torn
    assert [number for number, _ in numbers(path)] == [0, 1, 2, 3]
    assert replay.interruptions(found) == 1


def test_a_log_whose_first_record_was_torn_begins_again(path: Path) -> None:
    log.append(str(path), [event(1)])
    os.truncate(path, 77)
    path.chmod(0o600 | stat.S_ISVTX)
    log.append(str(path), [event(2)])
    assert problems(path) == []
    assert [entry.event for entry in replay.read(str(path)).records()] == ["begin", "interrupted", "plan"]


def test_a_log_of_another_boot_is_put_aside(path: Path) -> None:
    log.append(str(path), [event(1)])
    mine = log.boot_id()
    old = path.read_bytes().replace(mine.encode(), b"0" * 32)
    path.write_bytes(old)
    processes = list(writers(path, 8, 2))
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(60) for process in processes] == [0] * 8
    assert path.with_name(f"{path.name}.{'0' * 32}").read_bytes() == old
    assert problems(path) == []
    assert len(replay.read(str(path)).records()) == 1 + 8 * 2 * 3
    assert sorted(entry.name for entry in path.parent.iterdir()) == [path.name, f"{path.name}.{'0' * 32}"]


def test_one_put_aside_before_is_never_overwritten(path: Path) -> None:
    log.append(str(path), [event(1)])
    path.write_bytes(path.read_bytes().replace(log.boot_id().encode(), b"0" * 32))
    aside = path.with_name(f"{path.name}.{'0' * 32}")
    aside.write_text("kept")
    with pytest.raises(FileExistsError):
        log.append(str(path), [event(2)])
    assert aside.read_text() == "kept"


def test_a_full_disk_leaves_the_log_as_it_was(path: Path) -> None:
    log.append(str(path), [event(1)])
    before = path.read_bytes()
    script = f'ulimit -f {-(-len(before) // 512)}; exec "$@"'  # in blocks of 512 bytes: a part of it can be written
    done = subprocess.run(
        ["sh", "-c", script, "-", sys.executable, "-I", "-S", "-c", WRITER, PLACE, str(path), "pod", "1", "5000"],
        input=b"\n",
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert b"OSError: [Errno" in done.stderr
    assert path.read_bytes() == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    log.append(str(path), [event(2)])
    assert problems(path) == []


@pytest.mark.parametrize(
    ("place", "kind", "code"),
    [
        pytest.param("directory", OSError, errno.EISDIR, id="directory"),
        pytest.param("symlink", OSError, errno.ELOOP, id="symlink"),
        pytest.param("fifo", CannotCreate, 0, id="fifo"),
    ],
)
def test_nothing_else_is_taken_for_the_log(path: Path, place: str, kind: type[Exception], code: int) -> None:
    path.parent.mkdir(parents=True)
    if place == "directory":
        path.mkdir()
    elif place == "symlink":
        path.symlink_to(path.parent / "other")
    else:
        os.mkfifo(path)
    with pytest.raises(kind) as caught:
        log.append(str(path), [event()])
    if code:
        assert isinstance(caught.value, OSError)
        assert caught.value.errno == code
    assert not (path.parent / "other").exists()


@pytest.mark.parametrize("text", [b"what is this\n", b'\x1e{"recnum":x,"bootId":""}\n', b'\x1e{"recnum":1}\n'])
def test_a_strangers_file_is_not_written_to(path: Path, text: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(text)
    with pytest.raises(InvalidSpec, match="does not end in a record"):
        log.append(str(path), [event()])
    assert path.read_bytes() == text
