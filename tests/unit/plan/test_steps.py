"""The bytes of a plan: what stage1 reads, written and read back; and the table behind them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.base.errors import InvalidSpec
from pyrkt.plan import explain
from pyrkt.plan.steps import BEFORE, CHILD, Plan, Step, decode, encode
from pyrkt.spec import steps
from pyrkt.spec.steps import TABLE
from tests.unit.plan.hosts import changed, compiled

ROOT = Path(__file__).parents[3]
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "s": TEXT,
    "i": st.integers(-(2**63), 2**63 - 1),
    "b": st.binary(max_size=16),
    "l": st.lists(TEXT, max_size=3).map(tuple),
}


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Draw any plan that the table allows."""
    found = []
    for code in draw(st.lists(st.sampled_from(sorted(TABLE)), max_size=8)):
        _, kinds, phases = TABLE[code]
        phase = draw(st.sampled_from([phase for phase in range(5) if phases >> phase & 1]))
        found.append(Step(code=code, phase=phase, args=tuple(draw(KINDS[kind]) for kind in kinds)))
    return Plan(steps=tuple(found))


def test_the_table_is_made_from_the_one_of_stage1() -> None:
    subprocess.run([sys.executable, str(ROOT / "scripts/gen-steps"), "--check"], check=True)


def test_every_step_can_be_explained() -> None:
    assert set(explain._CALLS) == set(TABLE)


def test_the_bytes_are_those_that_stage1_reads() -> None:
    plan = Plan(
        steps=(
            Step(code=steps.MKDIR, phase=BEFORE, args=("/a", 0o755)),
            Step(code=steps.EXEC, phase=CHILD, args=("b", ("b", "c"), ())),
        )
    )
    assert (
        encode(plan)
        == (
            b"PKRT" + b"\x01\0\0\0" + b"\x02\0\0\0" + b"\x3d\0\0\0"  # magic, version, flags, count, total
            b"\x02\0\x00\x02" + b"\x03\0\0\0\x08\0\0\0" + b"/a\0" + b"\xed\x01\0\0\0\0\0\0"
            b"\x6d\0\x02\x03" + b"\x02\0\0\0\x04\0\0\0\0\0\0\0" + b"b\0" + b"b\0c\0"
        )
    )


@given(plans())
def test_what_is_written_is_read_back(plan: Plan) -> None:
    assert decode(encode(plan)) == plan


def test_causes_go_beside_the_bytes() -> None:
    plan = compiled(changed())
    assert decode(encode(plan), plan.causes).causes == plan.causes


def test_paths_that_are_no_text_survive() -> None:
    plan = Plan(steps=(Step(code=steps.CHDIR, phase=CHILD, args=("/\udcff",)),))
    assert b"/\xff\0" in encode(plan)
    assert decode(encode(plan)) == plan


@given(plans(), st.data())
def test_damaged_bytes_are_refused_or_another_plan(plan: Plan, data: st.DataObject) -> None:
    whole = bytearray(encode(plan))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    try:
        found = decode(bytes(whole))
    except InvalidSpec:
        return
    assert encode(found) == bytes(whole)


@given(st.binary(max_size=64))
def test_any_bytes_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(InvalidSpec, match=r"^plan: "):
        decode(data)


@given(plans(), st.integers(1, 40))
def test_a_shortened_plan_is_refused(plan: Plan, cut: int) -> None:
    with pytest.raises(InvalidSpec, match=r"^plan: "):
        decode(encode(plan)[:-cut])


def test_a_step_with_the_wrong_arguments_is_our_mistake() -> None:
    with pytest.raises(TypeError, match="CHDIR takes 1 arguments, not 0"):
        encode(Plan(steps=(Step(code=steps.CHDIR, phase=CHILD),)))


@pytest.mark.parametrize(
    ("text", "quoted"),
    [("/a-b", "/a-b"), ("", "''"), ("a b", "'a b'"), ("it's", "'it'\\''s'"), ("\x1b[1m", "'\\x1b[1m'")],
)
def test_words_are_safe_for_shells_and_terminals(text: str, quoted: str) -> None:
    assert explain.quote(text) == quoted


def test_json_tells_the_actor_the_call_and_the_cause() -> None:
    rows = explain.as_json(compiled(changed(hostname="h")))
    row = next(row for row in rows if row["step"] == "HOSTNAME")
    assert row == {
        "index": row["index"],
        "actor": "first process",
        "step": "HOSTNAME",
        "args": ["h"],
        "cause": "/hostname",
        "call": "hostname h",
    }


HEADER = b"PKRT\x01\0\0\0\x01\0\0\0"


def one(code: int, phase: int, *args: bytes) -> bytes:
    """Return a plan of one step with these bytes as its arguments."""
    step = code.to_bytes(2, "little") + bytes([phase, len(args)])
    step += b"".join(len(arg).to_bytes(4, "little") for arg in args) + b"".join(args)
    return HEADER + (16 + len(step)).to_bytes(4, "little") + step


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        pytest.param(one(steps.UMASK, CHILD, bytes(4)), "a number of 4 bytes", id="short-number"),
        pytest.param(one(steps.CHDIR, CHILD, b"/"), "does not end with its only NUL", id="no-nul"),
        pytest.param(one(steps.CHDIR, CHILD, b"/\0a\0"), "does not end with its only NUL", id="two-nuls"),
        pytest.param(one(steps.ON_FAILURE, BEFORE, b"a"), "does not end with NUL", id="list-no-nul"),
        pytest.param(one(steps.CHDIR, CHILD), "with 0 arguments", id="no-arguments"),
        pytest.param(one(steps.CHDIR, BEFORE, b"/\0"), "in phase 0", id="wrong-phase"),
        pytest.param(one(9999, CHILD), "damaged", id="no-such-step"),
        pytest.param(
            one(steps.SETSID, CHILD)[:12] + b"\x15\0\0\0" + one(steps.SETSID, CHILD)[16:] + b"x",
            "after the last",
            id="more",
        ),
    ],
)
def test_refuses_what_is_not_written_here(data: bytes, problem: str) -> None:
    with pytest.raises(InvalidSpec, match=problem):
        decode(data)


@given(st.sampled_from(sorted(TABLE)), st.data())
def test_every_step_reads_as_one_line(code: int, data: st.DataObject) -> None:
    """Whatever its arguments, as far as they are of the kind that the compiler gives it."""
    _, kinds, phases = TABLE[code]
    phase = next(phase for phase in range(5) if phases >> phase & 1)
    number = st.integers(0, 2**31)
    if code == steps.MKNOD:
        number = st.just(0o020666)
    if code == steps.IO_PRIORITY:
        number = st.integers(1, 3).map(lambda kind: kind << 13)
    words = st.text("ab ", max_size=3)
    makers: dict[str, st.SearchStrategy[Any]] = {
        "s": words,
        "i": number,
        "b": words.map(str.encode),
        "l": st.lists(words, min_size=1, max_size=3).map(tuple),
    }
    step = Step(code=code, phase=phase, args=tuple(data.draw(makers[kind]) for kind in kinds))
    text = explain.call(step)
    assert text
    assert "\n" not in text
    assert explain.as_json(Plan(steps=(step,)))[0]["call"] == text


def test_what_is_no_text_is_shown_in_hex() -> None:
    plan = Plan(steps=(Step(code=steps.SECCOMP, phase=CHILD, args=(0, b"\xff\x00")),))
    assert explain.as_json(plan)[0]["args"] == [0, {"hex": "ff00"}]


def test_an_overlay_is_one_mount() -> None:
    args = ("/m", ("/b", "/a"), "/u", "/w", 3)
    step = Step(code=steps.ROOT_OVERLAY, phase=CHILD, args=args)
    assert explain.call(step) == (
        "mount -t overlay -o lowerdir=/b:/a,upperdir=/u,workdir=/w,volatile,userxattr overlay /m"
    )
