"""Undo: the way back, last first, whatever fails on it."""

from __future__ import annotations

import pytest

from pyrkt.base.errors import NotFound
from pyrkt.base.undo import Undo


def failing(name: str) -> None:
    raise OSError(f"cannot undo {name}")


def test_goes_back_last_first_when_the_work_fails() -> None:
    done: list[str] = []
    with pytest.raises(NotFound), Undo() as undo:  # noqa: PT012 - the block is what is tested
        undo.push(done.append, "first")
        undo.push(done.append, "second")
        raise NotFound("work")
    assert done == ["second", "first"]


def test_keeps_what_succeeded() -> None:
    done: list[str] = []
    with Undo() as undo:
        undo.push(done.append, "first")
        undo.keep()
        undo.push(done.append, "after")
    assert done == ["after"]


def test_a_way_back_that_fails_is_noted_and_the_others_go_on() -> None:
    done: list[str] = []
    with pytest.raises(NotFound) as caught, Undo() as undo:  # noqa: PT012 - the block is what is tested
        undo.push(done.append, "first")
        undo.push(failing, "second")
        raise NotFound("work")
    assert done == ["first"]
    assert caught.value.__notes__ == ["undoing: cannot undo second"]


def test_without_another_error_the_first_failure_is_raised_after_all_are_done() -> None:
    done: list[str] = []
    with pytest.raises(OSError, match="cannot undo second"), Undo() as undo:  # noqa: PT012 - the same
        undo.push(done.append, "zeroth")
        undo.push(failing, "first")
        undo.push(failing, "second")
    assert done == ["zeroth"]
