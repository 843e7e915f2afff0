"""The bytes of a record: canonical JSON, its digests, and the line; each computed a second time, by others."""

from __future__ import annotations

import hashlib
import json
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.tpm import record

EVENT = {"eventType": "plan", "digest": "sha256:00", "app": "a", "timestamp": 7, "list": ["b", "a"], "none": []}
VALUES = st.recursive(
    st.text() | st.integers(-(2**53) + 1, 2**53 - 1) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.from_regex(r"[a-zA-Z]{1,6}", fullmatch=True), inner),
    max_leaves=12,
)
EVENTS = st.dictionaries(st.from_regex(r"[a-zA-Z]{1,6}", fullmatch=True), VALUES, max_size=5)


def test_a_line_byte_for_byte() -> None:
    content = b'{"app":"a","digest":"sha256:00","eventType":"plan","list":["b","a"],"none":[],"timestamp":7}'
    hashes = [(name, hashlib.new(name, content).hexdigest()) for name in ("sha256", "sha384", "sha512")]
    listed = ",".join(f'{{"hashAlg":"{name}","digest":"{value}"}}' for name, value in hashes).encode()
    assert record.line(3, EVENT) == (
        b'\x1e{"recnum":3,"pcr":15,"digests":[' + listed + b'],"content_type":"pyrkt","content":' + content + b"}\n"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        # the characters of RFC 8785, 3.2.2.2
        pytest.param('€$\x0f\nA\'B"\\\\"/', '"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"', id="escapes"),
        pytest.param("\b\t\n\f\r\x00\x1e\x1f", '"\\b\\t\\n\\f\\r\\u0000\\u001e\\u001f"', id="controls"),
        pytest.param("\x7f\u2028\U0001f600", '"\x7f\u2028\U0001f600"', id="as-they-are"),
        pytest.param({"b": True, "a": False, "B": 2**53 - 1}, '{"B":9007199254740991,"a":false,"b":true}', id="order"),
    ],
)
def test_canonical_as_rfc_8785_has_it(value: Any, text: str) -> None:
    assert record.canonical({"v": value}) == f'{{"v":{text}}}'.encode()


@given(EVENTS)
def test_the_library_would_write_the_same(event: dict[str, Any]) -> None:
    text = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert record.canonical(event) == text.encode()


@given(EVENTS)
def test_no_content_can_look_like_the_end_of_a_record(event: dict[str, Any]) -> None:
    line = record.line(0, event)
    assert line.count(record.SEPARATOR) == 1
    assert line.count(record.END) == 1
    assert line.startswith(record.SEPARATOR)
    assert line.endswith(record.END)


def test_digests_are_those_of_coreutils() -> None:
    data = b"\x00\xff" * 5000
    for name, value in record.digests(data).items():
        done = subprocess.run([f"{name}sum"], input=data, capture_output=True, check=True)
        assert done.stdout.split()[0].decode() == value
    assert record.sha256(data) == f"sha256:{record.digests(data)['sha256']}"
