"""Go's durations, as ``events --interval`` takes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.runtime import events

MS, S = 10**6, 10**9


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[("5s", 5 * S), ("100ms", 100 * MS), ("1m30s", 90 * S), ("1.5h", 5400 * S), ("0", 0), ("-5s", -5 * S)],
        *[("+1ms", MS), ("1us", 1000), ("1\u00b5s", 1000), ("1\u03bcs", 1000), ("7ns", 7), (".5s", S // 2), ("1.s", S)],
        ("1h2m3s4ms5us6ns", 3723 * S + 4 * MS + 5 * 1000 + 6),
    ],
)
def test_duration(text: str, expected: int) -> None:
    assert events.duration_ns(text) == expected


@pytest.mark.parametrize("text", ["", "-", "5", "s", "5x", "1..5s", "5 s", "1e3s", ".s", "5s1", "\u0665s", "5sm"])
def test_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        events.duration_ns(text)


@given(st.text(alphabet="0123456789.-+nuµmsh x", max_size=10))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        assert isinstance(events.duration_ns(text), int)
    except ValueError:
        return
