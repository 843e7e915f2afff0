"""specs/requirements, docs/conformance.md and docs/rkt.md: every test that they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TABLES = sorted((ROOT / "specs" / "requirements").glob("*.md"))
LEVELS = {"must", "should", "may", "ours"}
_TEST = re.compile(r"`([\w/]+\.py)::(\w+)(?:\[([^\]]+)\])?`")


def rows(table: Path) -> list[tuple[int, list[str]]]:
    lines = enumerate(table.read_text().splitlines(), 1)
    cells = [
        (number, [cell.strip() for cell in line.split("|")[1:-1]]) for number, line in lines if line.startswith("|")
    ]
    return [(number, row) for number, row in cells if row[0] not in {"level", "---"}]


def missing(row: list[str]) -> list[str]:
    """Return what the last cell of ``row`` names and nobody has."""
    tests = _TEST.findall(row[2])
    if not tests:
        return [] if row[2] == "not yet" else [f"{row[2]!r} is neither a test nor 'not yet'"]
    found: list[str] = []
    for file, function, cases in tests:
        path = ROOT / "tests" / file
        text = path.read_text() if path.is_file() else ""
        if f"def {function}(" not in text:
            found.append(f"{file}::{function}")
        found += [f"{file}::{function}[{case}]" for case in cases.split(",") if case and f'"{case}"' not in text]
    return found


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.stem)
def test_tables_name_tests_that_exist(table: Path) -> None:
    problems: list[str] = []
    for number, row in rows(table):
        if len(row) != 3 or row[0] not in LEVELS:
            problems.append(f"{table.name}:{number}: is not level, requirement, test")
            continue
        problems += [f"{table.name}:{number}: {name}" for name in missing(row)]
    assert problems == []
    assert rows(table)


def test_the_tables_are_there() -> None:
    assert {"appc-image", "oci-image", "oci-runtime"} <= {table.stem for table in TABLES}


def test_the_page_on_conformance_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "conformance.md").read_text()
    named = re.findall(r"`((?:unit|integration|v2|conformance)/[\w/]+\.py)(?:::(\w+))?`", text)
    assert len(named) > 40
    for file, function in named:
        path = ROOT / "tests" / file
        assert path.is_file(), file
        assert not function or f"def {function}(" in path.read_text(), f"{file}::{function}"


def test_the_guide_for_rkts_users_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "rkt.md").read_text().partition("## rkt's functional tests, and ours")[2]
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    found = [row for row in table if row[0] != "rkt's test"]
    assert len(found) > 90
    problems = [f"{row[0]}: {name}" for row in found if not row[2].startswith("no: ") for name in missing(row)]
    assert problems == []
    assert all(len(row) == 3 and row[1] for row in found)
