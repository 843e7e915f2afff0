"""Quantities as people and specifications write them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.base.errors import InvalidSpec
from pyrkt.base.units import human_bytes, quantity, quantity_milli


@pytest.mark.parametrize(
    ("text", "milli"),
    [
        ("0", 0),
        ("1", 1000),
        ("750m", 750),
        ("1.5", 1500),
        (".5", 500),
        ("5.", 5000),
        ("0.0001", 1),
        ("128M", 128_000_000_000),
        ("128Mi", 128 * 1024 * 1024 * 1000),
        ("1k", 1_000_000),
        ("1K", 1_000_000),
        ("1.5Gi", 1610612736 * 1000),
        ("1e3", 1_000_000),
        ("1E3", 1_000_000),
        ("1e+3", 1_000_000),
        ("25e-1", 2500),
        ("1E", 10**21),
        ("1Ei", (1 << 60) * 1000),
        ("9223372036854775807", ((1 << 63) - 1) * 1000),
    ],
)
def test_reads(text: str, milli: int) -> None:
    assert quantity_milli(text) == milli


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1_0",
        "\u0661",
        "0x10",
        "1kB",
        "1KiB",
        "1mm",
        "1iK",
        "Mi",
        ".",
        "1.2.3",
        "1e",
        "1e+-3",
        "1e--3",
        "1e100",
        "1e3M",
        "1e2E3",
        "1e99",
        "99E",
        "9223372036854775808",
        "9" * 50,
        "1\n",
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        quantity(text, "--memory")
    assert caught.value.document == "--memory"
    assert "128M" in caught.value.hint


@given(st.text(max_size=12) | st.from_regex(r"[0-9.]{1,6}[eE]?[+-]?[0-9]{0,2}(Ki|Mi|[kKMGTPEm])?", fullmatch=True))
def test_any_text_is_read_or_refused_never_a_traceback(text: str) -> None:
    try:
        assert 0 <= quantity(text) < 1 << 63
    except InvalidSpec:
        pass


@given(st.integers(0, 10**6), st.integers(0, 999), st.sampled_from(["", "k", "M", "Ki", "Mi", "m"]))
def test_rounds_up_exactly(whole: int, thousandths: int, unit: str) -> None:
    milli = {"": 1000, "k": 10**6, "M": 10**9, "Ki": 1000 << 10, "Mi": 1000 << 20, "m": 1}[unit]
    exact = (whole + Fraction(thousandths, 1000)) * milli
    assert quantity_milli(f"{whole}.{thousandths:03}{unit}") == -(-exact.numerator // exact.denominator)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1.0KiB"),
        (1536, "1.5KiB"),
        (100 * 1024, "100KiB"),
        (1023 * 1024 + 1000, "1.0MiB"),
        (3355443, "3.2MiB"),
        (1 << 30, "1.0GiB"),
        (1 << 60, "1024PiB"),
    ],
)
def test_for_people(count: int, text: str) -> None:
    assert human_bytes(count) == text
