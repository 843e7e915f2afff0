"""One table for both languages: what C includes is what Python knows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pyrkt.spec import steps
from pyrkt.stage1 import failure

ROOT = Path(__file__).resolve().parents[3]
STAGE1 = ROOT / "pyrkt" / "stage1"


def test_steps_py_is_steps_h() -> None:
    subprocess.run([sys.executable, ROOT / "scripts" / "gen-steps", "--check"], check=True)


def test_details_are_those_of_details_h() -> None:
    found = re.findall(r'^DETAIL\((\d+), (\w+), "([^"]*)"\)', (STAGE1 / "details.h").read_text(), re.MULTILINE)
    assert {int(number): words for number, _name, words in found} == failure.DETAILS


@pytest.mark.parametrize("name", [name for name, _kinds, _phases in steps.TABLE.values()])
def test_every_step_has_its_c_function(name: str) -> None:
    sources = "".join(path.read_text() for path in STAGE1.glob("*.c"))
    structural = {"ON_FAILURE", "CLONE", "ADOPT", "STARTED", "LEAVE", "POD", "POD_APP", "MEMBER"}
    assert name in structural or f"long step_{name}(" in sources
