"""One table for both languages."""

from __future__ import annotations

from pyrkt.stage1 import steps
from tests.unit.stage1 import table


def test_steps_py_is_steps_h() -> None:
    assert {code: (name, kinds, phases) for code, name, kinds, phases, _words in table.steps()} == steps.TABLE
    assert {name: code for code, name, *_ in table.steps()} == {
        name: value for name, value in vars(steps).items() if name.isupper() and name not in {"TABLE", "DETAILS"}
    }
    assert {number: words for number, _name, words in table.details()} == steps.DETAILS


def test_the_table_is_read_whole() -> None:
    text = (table.STAGE1 / "steps.h").read_text()
    assert text.count("\nSTEP(") == len(table.steps())
    assert (table.STAGE1 / "details.h").read_text().count("\nDETAIL(") == len(table.details())


def test_no_code_is_used_twice() -> None:
    codes = [code for code, *_ in table.steps()]
    assert len(codes) == len(set(codes))
    assert codes == sorted(codes)


def test_every_step_says_what_it_does_or_is_its_own_name() -> None:
    silent = {name for _code, name, _kinds, _phases, words in table.steps() if not words}
    assert silent == {"UMASK", "NO_NEW_PRIVS", "PERSONALITY"}
