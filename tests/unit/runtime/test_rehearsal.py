"""What is decided before an image is made: nothing of it happens."""

from __future__ import annotations

import os

from pyrkt.runtime import boot, rehearsal
from pyrkt.runtime.boot import LeanOs

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pytest


def test_it_decides_and_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is made, written to or run: the calls that would are not there."""
    for name in (
        "mkdir",
        "write",
        "mkfifo",
        "unlink",
        "rename",
        "replace",
        "posix_spawn",
        "fork",
        "execve",
        "kill",
        "chmod",
    ):
        monkeypatch.delattr(os, name)
    assert rehearsal.rehearse() in {True, False}


def test_it_is_what_an_image_begins_with() -> None:
    assert "pyrkt.runtime.rehearsal" in boot._IN_IMAGE


def test_asking_whether_os_is_a_package_does_not_make_it_one() -> None:
    """ "from os import x" asks that of a module without __path__; the real one takes 0.6 ms to import."""
    lean = LeanOs("os")
    assert not hasattr(lean, "__path__")
    assert type(lean) is LeanOs
