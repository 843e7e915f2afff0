"""Reads steps.h and writes steps.py from it: ``python tests/unit/stage1/table.py`` after a change of the table."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve()
STAGE1 = HERE.parents[3] / "pyrkt" / "stage1"
LETTERS = {"B": 1, "P": 2, "C": 4, "A": 8, "E": 16}
_STEP = re.compile(r'STEP\((\d+), (\w+), "([sibl]*)",\s*([BPCAE |\n]+?),\s*((?:"[^"]*"\s*)+)\)')
_DETAIL = re.compile(r'DETAIL\((\d+), (\w+), "([^"]*)"\)')


def steps() -> list[tuple[int, str, str, int, str]]:
    """Return code, name, kinds, phases and words of every step of steps.h."""
    found = []
    for code, name, kinds, phases, words in _STEP.findall((STAGE1 / "steps.h").read_text()):
        mask = sum(LETTERS[letter.strip()] for letter in phases.split("|"))
        found.append((int(code), name, kinds, mask, "".join(re.findall(r'"([^"]*)"', words))))
    return found


def details() -> list[tuple[int, str, str]]:
    """Return number, name and words of every detail of details.h."""
    text = (STAGE1 / "details.h").read_text()
    return [(int(number), name, words) for number, name, words in _DETAIL.findall(text)]


def module() -> str:
    """Return the text of steps.py."""
    table = steps()
    lines = [
        '"""The step table of steps.h and details.h for Python; written by tests/unit/stage1/table.py, not by hand."""',
        "",
        *(f"{name} = {code}" for code, name, _kinds, _phases, _words in table),
        "",
        "# code: (name, kinds of the arguments, phases as a mask)",
        "TABLE = {",
        *(f'    {code}: ("{name}", "{kinds}", {phases}),' for code, name, kinds, phases, _words in table),
        "}",
        "",
        "# what stage1 was doing within the step that failed",
        "DETAILS = {",
        *(f'    {number}: "{words}",' for number, _name, words in details()),
        "}",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    target = STAGE1 / "steps.py"
    target.write_text(module())
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", str(target)], check=True)
