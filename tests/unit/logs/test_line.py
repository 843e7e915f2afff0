"""Lines of the CRI: read as they are written, and anything else taken as it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.logs.line import STAMP, Line, parse, stamp_of
from pyrkt.logs.times import moment

STAMPED = b"2026-01-02T03:04:05.123456789Z"


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        pytest.param(b" stdout F text", Line(STAMPED, "stdout", True, b"text"), id="whole"),
        pytest.param(b" stderr P te xt", Line(STAMPED, "stderr", False, b"te xt"), id="part"),
        pytest.param(b" stdout F ", Line(STAMPED, "stdout", True, b""), id="empty"),
        pytest.param(b" stdout F:other \xff\0", Line(STAMPED, "stdout", True, b"\xff\0"), id="tag-of-others"),
        pytest.param(b" stderr F:lost 3 28", Line(STAMPED, "stderr", True, b"", 3, 28), id="lost"),
        pytest.param(b" stderr F:lost x", Line(STAMPED, "stderr", True, b"x"), id="lost-by-whom"),
    ],
)
def test_lines(raw: bytes, line: Line) -> None:
    assert parse(STAMPED + raw) == line


@pytest.mark.parametrize(
    "raw", [b"", b"pyrkt: no such thing", STAMPED, STAMPED + b" stdin F x", STAMPED + b" stdout X x", b"Z" * 50]
)
def test_other_words_are_the_supervisors(raw: bytes) -> None:
    assert parse(raw, b"then") == Line(b"then", "stderr", True, raw)


@given(st.binary().filter(lambda data: b"\n" not in data))
def test_any_text_survives(text: bytes) -> None:
    assert parse(STAMPED + b" stdout F " + text).text == text
    assert parse(text, b"then").text in text


@given(st.integers(0, 253402300799 * 10**9), st.integers(0, 253402300799 * 10**9))
def test_times_compare_as_they_are_written(one: int, two: int) -> None:
    assert len(stamp_of(one)) == STAMP
    assert (one < two) == (stamp_of(one) < stamp_of(two))


@given(st.integers(0, 4102444800 * 10**9))
def test_a_time_that_was_printed_is_read_back(when: int) -> None:
    assert moment(stamp_of(when).decode(), 0) == when


SECOND = 10**9


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("90", -90 * SECOND),
        ("1.5", -1_500_000_000),
        ("10m", -600 * SECOND),
        ("1h30m", -5400 * SECOND),
        ("1.5h", -5400 * SECOND),
        ("2d", -172800 * SECOND),
        ("250ms", -250_000_000),
        ("@0", 0),
        ("@1.25", 1_250_000_000),
        ("1970-01-01T00:00:07Z", 7 * SECOND),
        ("1970-01-01T01:00:07+01:00", 7 * SECOND),
        ("1970-01-01 00:00:07.5Z", 7_500_000_000),
        ("1970-01-01T01:00:07.000000001+01:00", 7 * SECOND + 1),
        ("1970-01-02T00:00:00Z", 86400 * SECOND),
    ],
)
def test_times_and_durations(text: str, value: int) -> None:
    assert moment(text, 0) == value


def test_a_time_without_a_zone_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC-2")
    time.tzset()
    try:
        assert moment("1970-01-01T03:00:00", 0) == 3600 * SECOND
        assert moment("1970-01-02", 0) == (86400 - 7200) * SECOND
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("text", ["", "x", "10x", "m", "-5", "1e3", "@", "@x", "10m5", "2026-13-01", "@" + "9" * 30])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever
        moment(text, 0)
