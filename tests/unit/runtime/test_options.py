"""Command lines in runc's grammar: what is read, and the complaints that engines look for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.base.errors import UsageError
from pyrkt.runtime import options
from pyrkt.runtime.options import NUMBER, SWITCH, TEXT, TEXTS, HelpWanted, Verb, flag

FLAGS = (
    flag("bundle b", TEXT, "where"),
    flag("force f", SWITCH, "hard"),
    flag("count", NUMBER, "how many", "3"),
    flag("env e", TEXTS, "variables"),
)


@pytest.mark.parametrize(
    ("words", "values", "arguments"),
    [
        pytest.param([], {"bundle": "", "force": False, "count": 3, "env": []}, [], id="nothing"),
        pytest.param(["--bundle", "/b", "x"], {"bundle": "/b"}, ["x"], id="two-words"),
        pytest.param(["-bundle=/b", "x"], {"bundle": "/b"}, ["x"], id="one-dash-equals"),
        pytest.param(["-b", "", "x"], {"bundle": ""}, ["x"], id="empty-value"),
        pytest.param(["--bundle=", "x"], {"bundle": ""}, ["x"], id="empty-after-equals"),
        pytest.param(["x", "--force"], {"force": True}, ["x"], id="flag-after-argument"),
        pytest.param(["--force=false", "x"], {"force": False}, ["x"], id="switch-off"),
        pytest.param(["-e", "A=1", "--env=B=2"], {"env": ["A=1", "B=2"]}, [], id="several"),
        pytest.param(["--count", "7"], {"count": 7}, [], id="number"),
        pytest.param(["--count=-1"], {"count": -1}, [], id="negative"),
        pytest.param(["--count", "0x10"], {"count": 16}, [], id="hexadecimal"),
        pytest.param(["--", "--force"], {"force": False}, ["--force"], id="end-of-flags"),
        pytest.param(["-", "x"], {}, ["-", "x"], id="a-dash-is-an-argument"),
    ],
)
def test_parse(words: list[str], values: dict[str, Any], arguments: list[str]) -> None:
    found, rest = options.parse(FLAGS, words, ordered=False)
    assert rest == arguments
    assert {name: found[name] for name in values} == values


def test_an_ordered_verb_ends_at_its_first_argument() -> None:
    found, rest = options.parse(FLAGS, ["-f", "id", "ls", "-b", "--help"], ordered=True)
    assert found["force"]
    assert rest == ["id", "ls", "-b", "--help"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--nope"], "flag provided but not defined: -nope"),
        (["-x"], "flag provided but not defined: -x"),
        (["--bundle"], "flag needs an argument: -bundle"),
        (["--count", "x"], 'invalid value "x" for flag -count: parse error'),
        (["--count", "1.5"], 'invalid value "1.5" for flag -count: parse error'),
        (["--count", " 1"], 'invalid value " 1" for flag -count: parse error'),
        (["--count", "9223372036854775808"], 'invalid value "9223372036854775808" for flag -count: value out of range'),
        (["--count", "٣"], 'invalid value "٣" for flag -count: parse error'),
        (["--force=maybe"], 'invalid boolean value "maybe" for -force: parse error'),
    ],
)
def test_complaints_are_those_of_go(words: list[str], complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        options.parse(FLAGS, words, ordered=False)
    assert caught.value.message == complaint


@pytest.mark.parametrize("word", ["-h", "--help", "-help"])
def test_help_is_wanted(word: str) -> None:
    with pytest.raises(HelpWanted):
        options.parse(FLAGS, [word], ordered=False)


@given(st.lists(st.text(max_size=8), max_size=6), st.booleans())
def test_any_words_are_read_or_refused(words: list[str], ordered: bool) -> None:
    try:
        _, rest = options.parse(FLAGS, words, ordered=ordered)
    except (UsageError, HelpWanted):
        return
    assert len(rest) <= len(words)


@pytest.mark.parametrize(
    ("least", "most", "given_arguments", "complaint"),
    [
        (1, 1, [], 'oci: "state" requires exactly 1 argument(s)'),
        (1, 1, ["a", "b"], 'oci: "state" requires exactly 1 argument(s)'),
        (1, 2, [], 'oci: "state" requires a minimum of 1 argument(s)'),
        (1, 2, ["a", "b", "c"], 'oci: "state" requires a maximum of 2 argument(s)'),
    ],
)
def test_counts(least: int, most: int, given_arguments: list[str], complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        options.check_count(Verb(name="state", summary="", least=least, most=most), given_arguments, "oci")
    assert caught.value.message == complaint


def test_any_number_of_arguments() -> None:
    options.check_count(Verb(name="ps", summary="", least=1, most=-1), ["a"] * 50, "oci")


def test_help_begins_with_the_program_and_lists_every_flag() -> None:
    text = options.help_of(Verb(name="do", summary="does", flags=FLAGS, about="More."), "oci")
    assert text.startswith("NAME:\n   oci do - does\n\nUSAGE:\n   oci do [command options] <container-id>\n")
    assert "   --bundle value, -b value  where\n" in text
    assert "(default: 3)" in text
