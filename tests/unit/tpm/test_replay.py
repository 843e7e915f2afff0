"""Reading back: every change of a log is found, and the registers are what others compute from it."""

from __future__ import annotations

import random
import re
import stat
import subprocess
from pathlib import Path

import pytest

from pyrkt.tpm import log, record, replay

# Extends a register of zeros by the digests in the log, with nothing but a shell, sed, openssl and coreutils.
REPLAY = r"""
register=$(printf '%0*d' $((bits / 4)) 0)
for digest in $(tr -d '\036' <"$log" | sed -n 's/.*{"hashAlg":"'"$bank"'","digest":"\([0-9a-f]*\)"}.*/\1/p'); do
  register=$(printf %s%s "$register" "$digest" | tr a-f A-F | basenc --base16 -d \
    | openssl dgst "-$bank" -binary | od -An -v -tx1 | tr -d ' \n')
done
echo "$register"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log of three launches."""
    path = tmp_path / "measurements.log"
    for number in range(3):
        log.append(str(path), [{"eventType": kind, "pod": str(number)} for kind in ("image", "plan", "stage1")])
    return path


def problems(path: Path) -> list[str]:
    return replay.problems(replay.read(str(path)))


@pytest.mark.parametrize(("bank", "bits"), [("sha256", 256), ("sha384", 384), ("sha512", 512)])
def test_a_shell_and_openssl_come_to_the_same_register(path: Path, bank: str, bits: int) -> None:
    done = subprocess.run(
        ["sh", "-c", REPLAY],
        env={"PATH": "/usr/bin:/bin", "log": str(path), "bank": bank, "bits": str(bits)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == replay.registers(replay.read(str(path)).records())[bank].hex()


def test_the_digest_is_of_the_bytes_behind_content(path: Path) -> None:
    for text in path.read_text().split("\x1e")[1:]:
        content = text[text.index('"content":') + len('"content":') : -2]
        for bank in record.ALGORITHMS:
            done = subprocess.run([f"{bank}sum"], input=content.encode(), capture_output=True, check=True)
            assert f'{{"hashAlg":"{bank}","digest":"{done.stdout.split()[0].decode()}"}}' in text


def test_registers_of_nothing_are_zeros() -> None:
    assert replay.registers(()) == {"sha256": bytes(32), "sha384": bytes(48), "sha512": bytes(64)}


def test_a_whole_log_has_no_problem(path: Path) -> None:
    assert problems(path) == []
    assert replay.interruptions(replay.read(str(path))) == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        pytest.param(b'"pod":"1"', b'"pod":"9"', "its digests are not those of its content", id="content"),
        pytest.param(b'"recnum":4', b'"recnum":5', "record 5 where 4 has to be", id="number"),
        pytest.param(b'"pcr":15', b'"pcr":16', "not written as pyrkt writes it", id="register"),
        pytest.param(b'"content_type":"pyrkt"', b'"content_type":"other"', "not written as", id="type"),
        pytest.param(b'"recnum":4,', b'"recnum": 4,', "not written as pyrkt writes it", id="blank"),
        pytest.param(b"}\n\x1e", b"}\x1e", "ends in the middle of a record", id="end"),
        pytest.param(b"\n\x1e{", b"\n{", "no record of a measurement log", id="separator"),
        pytest.param(b'"digests":[', b'"digests":[7,', "not written as pyrkt writes it", id="digests"),
        pytest.param(b'"digests":[', b'"digest":[', "its digests are not", id="no-digests"),
    ],
)
def test_what_was_changed_is_found(path: Path, old: bytes, new: bytes, said: str) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    assert any(said in problem for problem in problems(path)), problems(path)


def test_a_record_that_is_missing_or_moved_is_found(path: Path) -> None:
    first, *rest = path.read_bytes().split(b"\x1e")
    whole = [b"\x1e" + piece for piece in rest]
    for index in range(len(whole) - 1):
        path.write_bytes(b"".join([*whole[:index], *whole[index + 1 :]]))
        assert problems(path), index
        path.write_bytes(b"".join([*whole[:index], whole[index + 1], whole[index], *whole[index + 2 :]]))
        assert problems(path), index
    assert first == b""


def test_any_byte_that_is_changed_is_found(path: Path) -> None:
    data = path.read_bytes()
    dice = random.Random(1)  # a fixed seed: the same bytes each time
    for _ in range(400):
        at = dice.randrange(len(data))
        other = (data[at] + dice.randrange(1, 256)) % 256
        reading = replay.Reading(path="log", entries=replay.entries(data[:at] + bytes([other]) + data[at + 1 :]))
        assert replay.problems(reading), (at, other)


def test_any_cut_but_between_records_is_found_without_the_mark(path: Path) -> None:
    data = path.read_bytes()
    ends = {match.end() for match in re.finditer(b"\n", data)}
    for size in range(1, len(data), 7):
        reading = replay.Reading(path="log", entries=replay.entries(data[:size]))
        assert bool(replay.problems(reading)) == (size not in ends)
        assert replay.problems(replay.Reading(path="log", entries=reading.entries, marked=True)) == []


def test_a_forged_interruption_is_found(path: Path) -> None:
    last = replay.read(str(path)).records()[-1]
    times = {name: last.content[name] for name in ("bootId", "timestamp")}
    with path.open("ab") as file:
        file.write(record.line(10, {"eventType": "interrupted", "torn": 50} | times))
    assert problems(path) == [f"byte {last.offset + len(last.text)}: speaks of a torn record that is not there"]


def test_the_mark_tells_of_a_writer(path: Path) -> None:
    path.chmod(0o600 | stat.S_ISVTX)
    assert replay.interruptions(replay.read(str(path))) == 1


def test_reading_and_writing_back_is_the_same(path: Path) -> None:
    data = path.read_bytes()
    assert b"".join(entry.text for entry in replay.entries(data)) == data
    assert b"".join(record.line(i, e.content) for i, e in enumerate(replay.entries(data))) == data
