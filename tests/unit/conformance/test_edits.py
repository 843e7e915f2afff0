"""The edits of the suite: each changes something, has a reason, and says so where it finds nothing to change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance import suite
from tests.conformance.edits import EDITS

if TYPE_CHECKING:
    from pathlib import Path


def test_every_edit_changes_something_and_says_why() -> None:
    assert all(edit.old != edit.new and edit.why for edit in EDITS)


def test_what_does_not_apply_is_said(tmp_path: Path) -> None:
    notes = suite.mend(tmp_path, strict=False)
    assert len(notes) == len(EDITS)
    with pytest.raises(suite.Broken, match="is another one than was mended here"):
        suite.mend(tmp_path, strict=True)


def test_the_programs_are_those_of_the_tree(tmp_path: Path) -> None:
    for name in ("util/test", "kill/kill", "create/create"):
        path = tmp_path / "validation" / f"{name}.go"
        path.parent.mkdir(parents=True)
        path.touch()
    assert suite.names(tmp_path) == ["create", "kill"]


def test_without_go_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(suite.Unavailable, match="no Go"):
        suite.build(tmp_path, None)
