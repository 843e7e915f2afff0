"""Records: frozen values with named fields."""

from __future__ import annotations

import copy
import pickle
from typing import Any, ClassVar

import pytest

from pyrkt.base.record import Record


class Point(Record):
    """A record with a default."""

    kind: ClassVar[str] = "point"

    x: int
    y: int = 0


class Named(Point):
    """A record that adds a field to another's."""

    name: str = ""


def test_fields_defaults_and_inheritance() -> None:
    point = Named(x=1, name="a")
    assert (point.x, point.y, point.name, point.kind) == (1, 0, "a", "point")
    assert list(Named._fields) == ["x", "y", "name"]
    assert not hasattr(point, "__dict__")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        pytest.param({}, "Point needs x", id="missing"),
        pytest.param({"x": 1, "z": 2}, "Point has no field z", id="unknown"),
    ],
)
def test_refuses_missing_and_unknown_fields(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(TypeError, match=problem):
        Point(**values)


def test_is_frozen() -> None:
    point = Point(x=1)
    with pytest.raises(AttributeError, match="frozen"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError, match="frozen"):
        del point.x


def test_equality_is_by_type_and_value() -> None:
    assert Point(x=1) == Point(x=1, y=0)
    assert Point(x=1) != Point(x=2)
    assert Point(x=1) != Named(x=1)
    assert Point(x=1) != (1, 0)
    assert len({Point(x=1), Point(x=1), Point(x=2)}) == 2


def test_repr_is_the_call_that_makes_it() -> None:
    assert repr(Point(x=1)) == "Point(x=1, y=0)"


def test_replace_and_copies() -> None:
    point = Named(x=1, name="a")
    assert point.replace(y=5) == Named(x=1, y=5, name="a")
    assert copy.deepcopy(point) == point
    assert pickle.loads(pickle.dumps(point)) == point
