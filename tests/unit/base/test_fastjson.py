"""Strict JSON in, canonical JSON out, and the same as the standard library where both agree."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.base import fastjson
from pyrkt.base.errors import InvalidSpec

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), 1 << 63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=5)
    ),
    max_leaves=30,
)


@given(JSON)
def test_what_is_written_reads_back(value: Any) -> None:
    assert fastjson.loads(fastjson.dumps(value)) == value
    assert fastjson.loads(fastjson.pretty(value).encode()) == value
    assert json.loads(fastjson.dumps(value, sort=True)) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_never_a_traceback(data: bytes) -> None:
    try:
        value = fastjson.loads(data)
    except InvalidSpec:
        return
    assert json.loads(data.decode()) == value


@given(st.text(st.sampled_from('[]{}",:\\0 1eE+-.tfnu"a'), max_size=60))
def test_text_that_looks_like_json_agrees_with_the_standard_library(text: str) -> None:
    try:
        value = fastjson.loads(text)
    except InvalidSpec:
        return
    assert json.loads(text) == value


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        pytest.param(b"", "not JSON: line 1 column 1", id="empty"),
        pytest.param(b'{"a": 1,\n "a": 2}', "duplicate key 'a'", id="duplicate"),
        pytest.param(b'{"x": {"b": 1, "c": 2, "b": 3}}', "duplicate key 'b'", id="duplicate-inside"),
        pytest.param(b"NaN", "NaN is not JSON", id="nan"),
        pytest.param(b"[-Infinity]", "-Infinity is not JSON", id="infinity"),
        pytest.param(b"1e999", "number out of range", id="overflow"),
        pytest.param(b"-1e999", "number out of range", id="underflow"),
        pytest.param(b"9" * 5000, "number of 5000 digits", id="long-number"),
        pytest.param(b"\xff\xfe{\x00}\x00", "not UTF-8 at byte 0", id="utf-16"),
        pytest.param(b"\xef\xbb\xbf{}", "not JSON: line 1 column 1", id="byte-order-mark"),
        pytest.param(b'"\\ud800"', "half a surrogate pair", id="surrogate"),
        pytest.param(b'{"\\udfff": 1}', "half a surrogate pair", id="surrogate-in-key"),
        pytest.param(b"{} {}", "text after the value: line 1 column 3", id="trailing"),
        pytest.param(b"\n\n{,}", "not JSON", id="comma"),
        pytest.param(b'{"a"\n: tru}', "not JSON: line 2", id="line-number"),
        pytest.param(b'"a\nb"', "not JSON: Invalid control character at", id="raw-line-break"),
        pytest.param(b"[" * 101 + b"]" * 101, "nested more than 100 levels", id="deep"),
        pytest.param(b'{"a":' * 5000, "nested more than 100 levels", id="deep-objects"),
        pytest.param(b" " * ((16 << 20) + 1), "larger than 16 MiB", id="large"),
    ],
)
def test_refuses_and_says_why(data: bytes, problem: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        fastjson.loads(data, "manifest")
    assert caught.value.message.startswith("manifest: ")
    assert problem in caught.value.message


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b'"' + b"[" * 200 + b'"', id="brackets-in-a-string"),
        pytest.param(b'["\\"' + b"[" * 200 + b'"]', id="escaped-quote"),
        pytest.param(b"[" + b"[]," * 200 + b"[]]", id="wide"),
        pytest.param(b"[" * 100 + b"]" * 100, id="just-deep-enough"),
        pytest.param(b' \t\r\n{"a": "\\u00e9\\ud83d\\ude00"} \n', id="blanks-and-pairs"),
        pytest.param(b"18446744073709551615", id="unsigned-64-bit"),
    ],
)
def test_reads_what_only_looks_bad(data: bytes) -> None:
    assert fastjson.loads(data) == json.loads(data)


def test_an_open_string_full_of_brackets_is_refused_where_it_ends() -> None:
    with pytest.raises(InvalidSpec, match="Unterminated string"):
        fastjson.loads('"' + "[" * 200)


def test_a_caller_near_the_end_of_the_stack_gets_an_answer() -> None:
    def deeper(levels: int) -> Any:
        return deeper(levels - 1) if levels else fastjson.loads("[" * 90 + "]" * 90)

    depth = 0
    frame: Any = sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    with pytest.raises(InvalidSpec, match="nested too deep"):
        deeper(sys.getrecursionlimit() - depth - 60)


@pytest.mark.parametrize("value", [None, True, False, 7, 1.5, "a", [], {}, [{}], {"b": [1], "a": {}}])
def test_pretty_is_what_the_standard_library_writes(value: Any) -> None:
    assert fastjson.pretty(value) == json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def test_keys_keep_their_order_or_are_sorted() -> None:
    assert fastjson.dumps({"b": 1, "a": [True, None]}) == '{"b":1,"a":[true,null]}'
    assert fastjson.dumps({"b": 1, "a": 2}, sort=True) == '{"a":2,"b":1}'


def test_only_json_types_are_written() -> None:
    with pytest.raises(TypeError, match="set is not a JSON type"):
        fastjson.dumps([{1}])
