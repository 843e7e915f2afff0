"""GVariant's text, as annotations have it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.cgroup import dbus
from pyrkt.cgroup.variant import parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("'inactive-or-failed'", ("s", "inactive-or-failed"), id="text"),
        pytest.param('"it\'s"', ("s", "it's"), id="double-quotes"),
        pytest.param(r"'a\n\'b\x41\u00e4'", ("s", "a\n'bAä"), id="escapes"),
        pytest.param("true", ("b", True), id="boolean"),
        pytest.param(" -5 ", ("i", -5), id="int32"),
        pytest.param("0x10", ("i", 16), id="hexadecimal"),
        pytest.param("1.5", ("d", 1.5), id="double"),
        pytest.param("1e3", ("d", 1000.0), id="exponent"),
        pytest.param("uint64 123456789", ("t", 123456789), id="uint64"),
        pytest.param("uint64 18446744073709551615", ("t", (1 << 64) - 1), id="infinity"),
        pytest.param("byte 255", ("y", 255), id="byte"),
        pytest.param("objectpath '/a'", ("o", "/a"), id="objectpath"),
        pytest.param("['a', 'b']", ("as", ["a", "b"]), id="array"),
        pytest.param("[uint32 1, 2]", ("au", [1, 2]), id="one-names-the-type"),
        pytest.param("[1, byte 2]", ("ay", [1, 2]), id="a-later-one-names-the-type"),
        pytest.param("@as []", ("as", []), id="empty-array"),
        pytest.param("@at [1]", ("at", [1]), id="array-of-a-type"),
        pytest.param("('a', 1)", ("(si)", ("a", 1)), id="tuple"),
        pytest.param("('a',)", ("(s)", ("a",)), id="tuple-of-one"),
        pytest.param("[('a', 'rw'), ('b', 'r')]", ("a(ss)", [("a", "rw"), ("b", "r")]), id="device-allow"),
        pytest.param("<'x'>", ("v", ("s", "x")), id="variant"),
        pytest.param("[<'x'>, <1>]", ("av", [("s", "x"), ("i", 1)]), id="variants"),
    ],
)
def test_reads(text: str, value: Any) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("", "missing", id="nothing"),
        pytest.param("inactive", "written in quotes", id="bare-word"),
        pytest.param("'open", "closing ' is missing", id="unclosed-text"),
        pytest.param("['a'", "missing", id="unclosed-array"),
        pytest.param("['a' 'b']", "missing", id="no-comma"),
        pytest.param("5 6", "comes after", id="two"),
        pytest.param("byte 256", "does not fit", id="too-big"),
        pytest.param("3000000000", "does not fit in the type i", id="too-big-for-the-default"),
        pytest.param("uint32 'a'", "a text where u", id="text-for-number"),
        pytest.param("boolean 1", "a number where b", id="number-for-boolean"),
        pytest.param("uint32 uint64 5", "a value of type t", id="two-types"),
        pytest.param("['a', 1]", "a number where s", id="mixed"),
        pytest.param("[]", "needs its type", id="array-of-nothing"),
        pytest.param("@(ss) ('a',)", "a tuple of 1", id="short-tuple"),
        pytest.param("@z 5", "is no type", id="no-type"),
        pytest.param("@asas 5", "is no type", id="two-types-in-one"),
        pytest.param(r"'\ud800'", "no character", id="half-a-character"),
        pytest.param(r"'\x00'", "no character", id="nul"),
        pytest.param("1.x", "no number", id="no-number"),
        pytest.param("<'a', 'b'>", "holds one value", id="two-in-a-variant"),
        pytest.param("[" * 40, "too deep", id="deep"),
        pytest.param(r"'\xzz'", "no character", id="no-escape"),
    ],
)
def test_refuses_and_says_why(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse(text)


@given(st.text("'\"[](){}<>@,uint64 true0x-1.easv\\") | st.text(st.characters(exclude_characters="\0", codec="utf-8")))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        kind, value = parse(text)
    except ValueError:
        return
    dbus.put(bytearray(), "v", (kind, value))
