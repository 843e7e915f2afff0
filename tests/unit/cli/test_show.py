"""Tables and JSON as they are printed."""

from __future__ import annotations

import pytest

from pyrkt.cli import show


def test_table() -> None:
    rows = [["1234", "running"], ["", "x"]]
    assert show.table(["UUID", "STATE"], rows) == "UUID  STATE\n1234  running\n      x\n"
    assert show.table(["UUID", "STATE"], rows, legend=False) == "1234  running\n      x\n"
    assert show.table(["UUID", "STATE"], []) == "UUID  STATE\n"


def test_a_name_cannot_reach_the_terminal() -> None:
    assert show.table(["A"], [["\x1b[2J"]]) == "A\n\\x1b[2J\n"


def test_pairs() -> None:
    assert show.pairs([("state", "running"), ("exited", False)]) == "state=running\nexited=false\n"


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (0, "just now"),
        (-50, "just now"),
        (30, "30 seconds ago"),
        (60, "1 minute ago"),
        (7200, "2 hours ago"),
        (90000, "1 day ago"),
    ],
)
def test_ages(age: float, text: str) -> None:
    assert show.moment(1000000, now=1000000 + age) == text
