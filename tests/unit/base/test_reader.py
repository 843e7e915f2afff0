"""Reader: every complaint names document, place and rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pyrkt.base.errors import InvalidSpec
from pyrkt.base.reader import Reader, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable


def reader(value: Any) -> Reader:
    return Reader(value, "doc")


DOCUMENT = {"a": {"b": [1, "two", None, 2.5, True]}, "n": None, "map": {"k": "v"}}


def test_reads_what_is_there() -> None:
    r = reader(DOCUMENT)
    items = r["a"]["b"].items()
    assert items[0].integer(0, 5) == 1
    assert items[1].text() == "two"
    assert items[1].choice(("one", "two")) == "two"
    assert items[3].number(0, 3) == 2.5
    assert items[4].boolean() is True
    assert r["map"].text_map() == {"k": "v"}
    assert reader(["a", "b"]).texts() == ("a", "b")
    assert [(name, value.where) for name, value in r["map"].members()] == [("k", "map.k")]
    assert [(name, value.where) for name, value in reader({"x": 1}).members()] == [("x", "x")]


def test_absent_and_null_give_the_default() -> None:
    for r in (reader(DOCUMENT)["n"], reader(DOCUMENT)["missing"]["deeper"]):
        assert not r.present
        assert r.text("t") == "t"
        assert r.choice(("t",), "t") == "t"
        assert r.integer(0, 1, 1) == 1
        assert r.number(0, 1, 0.5) == 0.5
        assert r.boolean(default=False) is False
        assert r.items() == []
        assert r.members() == []
        assert r.texts() == ()
        assert r.text_map() == {}


@pytest.mark.parametrize("value", [3, 3.0], ids=["integer", "whole-float"])
def test_whole_numbers_are_integers(value: float) -> None:
    assert reader(value).integer(0, 5) == 3


@pytest.mark.parametrize(
    ("ask", "problem"),
    [
        pytest.param(lambda: reader(1).text(), "doc: expected a string, got an integer", id="text"),
        pytest.param(lambda: reader("a\0b").text(), "doc: contains a NUL character", id="nul"),
        pytest.param(reader({})["x"].text, "doc: x: is required (a string)", id="required"),
        pytest.param(reader({"x": None})["x"].text, "doc: x: expected a string, got null", id="null"),
        pytest.param(lambda: reader("z").choice(("a", "b")), "doc: 'z' is none of a, b", id="choice"),
        pytest.param(lambda: reader(6).integer(0, 5), "doc: must be between 0 and 5, got 6", id="integer-range"),
        pytest.param(lambda: reader(-1).integer(0, 5), "doc: must be between 0 and 5, got -1", id="negative"),
        pytest.param(lambda: reader(2.5).integer(0, 5), "doc: expected an integer, got a number", id="fraction"),
        pytest.param(lambda: reader(True).integer(0, 5), "doc: expected an integer, got a boolean", id="bool-int"),
        pytest.param(lambda: reader(True).number(0, 5), "doc: expected a number, got a boolean", id="bool-number"),
        pytest.param(lambda: reader(9).number(0, 5), "doc: must be between 0 and 5, got 9", id="number-range"),
        pytest.param(lambda: reader(1).boolean(), "doc: expected a boolean, got an integer", id="boolean"),
        pytest.param(lambda: reader([])["x"], "doc: expected an object, got an array", id="member-of-array"),
        pytest.param(lambda: reader("x").members(), "doc: expected an object, got a string", id="members"),
        pytest.param(reader({"a": {}})["a"].items, "doc: a: expected an array, got an object", id="items"),
        pytest.param(lambda: reader({"a\0b": "v"}).text_map(), "has a NUL character in its name", id="nul-name"),
        pytest.param(lambda: reader(object()).text(), "doc: expected a string, got a value", id="no-json"),
    ],
)
def test_refuses_and_says_where(ask: Callable[[], object], problem: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        ask()
    assert problem in caught.value.message


def test_complaints_cite_the_rule_and_keep_hints() -> None:
    r = reader({"a": [{"b": 1}]}).citing("spec 7")
    error = r["a"].items()[0]["b"].fail("is \x1b bad", hint="do it well")
    assert error.message == "doc: a[0].b: is \\x1b bad (spec 7)"
    assert (error.where, error.rule, error.hint) == ("a[0].b", "spec 7", "do it well")


def test_kinds_are_named_as_json_names_them() -> None:
    values: list[Any] = [{}, [], "", True, 1, 1.0, None]
    assert [kind_of(each) for each in values] == [
        "an object",
        "an array",
        "a string",
        "a boolean",
        "an integer",
        "a number",
        "null",
    ]
