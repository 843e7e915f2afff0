"""How lines are shown, and the keys that detach."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.logs.attach import Detach, Keys, targets
from pyrkt.logs.line import Line
from pyrkt.logs.show import Json, Text

STAMP = b"2026-01-02T03:04:05.123456789Z"


def line(text: bytes, stream: str = "stdout", *, whole: bool = True, **more: int) -> Line:
    return Line(STAMP, stream, whole, text, **more)


def shown(writer: Text | Json, *lines: Line) -> list[tuple[int, bytes]]:
    found = [piece for one in lines for piece in writer.show("app", one)]
    return [*found, *writer.end()]


def test_plain_text_is_what_was_written() -> None:
    assert shown(Text(), line(b"a\0"), line(b"b", "stderr"), line(b"c", whole=False)) == [
        (1, b"a\0\n"),
        (2, b"b\n"),
        (1, b"c"),
    ]


def test_before_whole_lines_stand_names_and_times() -> None:
    parts = [line(b"a", whole=False), line(b"e", "stderr"), line(b"b"), line(b"c", whole=False)]
    assert shown(Text(names=True), *parts) == [(2, b"app: e\n"), (1, b"app: ab\n"), (1, b"app: c\n")]
    assert shown(Text(times=True), line(b"x")) == [(1, STAMP + b" x\n")]
    assert shown(Text(names=True, times=True), line(b"x")) == [(1, STAMP + b" app: x\n")]


def test_a_line_without_end_is_not_gathered_for_ever() -> None:
    writer = Text(names=True)
    pieces = [piece for _ in range(300) for piece in writer.show("app", line(b"x" * 16384, whole=False))]
    assert len(pieces) == 300 // 64
    assert all(len(data) == (1 << 20) + 6 for _, data in pieces)


def test_lost_lines_are_told() -> None:
    assert shown(Text(), line(b"", "stderr", lost=3, errno=28)) == [
        (2, b"pyrkt: app: 3 lines are missing here: No space left on device\n")
    ]
    ((_, data),) = shown(Json(), line(b"", "stderr", lost=1, errno=5))
    assert json.loads(data)["lost"] == 1
    assert json.loads(data)["message"] == "1 line is missing here: Input/output error"


@given(st.binary(), st.booleans())
def test_json_says_every_byte(text: bytes, whole: bool) -> None:
    ((where, data),) = shown(Json(), line(text, whole=whole))
    assert where == 1
    assert data.count(b"\n") == 1
    value = json.loads(data)
    assert list(value)[:5] == ["time", "app", "stream", "partial", "message"]
    assert (value["time"], value["app"], value["stream"], value["partial"]) == (
        STAMP.decode(),
        "app",
        "stdout",
        not whole,
    )
    if "bytes" in value:
        assert base64.b64decode(value["bytes"]) == text
    else:
        assert value["message"].encode() == text


def test_the_keys_that_detach() -> None:
    keys = Keys()
    assert keys.typed(b"ab") == b"ab"
    assert keys.typed(b"c\x10") == b"c"
    assert keys.typed(b"d") == b"\x10d"
    assert keys.typed(b"\x10") == b""
    assert keys.typed(b"\x10") == b"\x10"
    with pytest.raises(Detach):
        keys.typed(b"\x11")
    with pytest.raises(Detach):
        Keys().typed(b"x\x10\x11y")


@given(st.lists(st.binary().filter(lambda data: b"\x11" not in data)))
def test_what_is_typed_arrives(pieces: list[bytes]) -> None:
    keys = Keys()
    arrived = b"".join(keys.typed(piece) for piece in pieces)
    typed = b"".join(pieces)
    assert typed in (arrived, arrived + b"\x10")


def test_endpoints_as_rkt_lists_them() -> None:
    assert [target["name"] for target in targets(31, "/x")] == ["stdin", "stdout", "stderr", "tty"]
    assert list(targets(16, "/x")) == [{"name": "tty", "domain": "unixpacket", "address": "/x"}]
