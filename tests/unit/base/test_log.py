"""What the program says beside its answer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pyrkt.base import log
from pyrkt.base.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    yield
    log.set_debug(on=False)


def test_lines_go_to_standard_error_and_are_safe(capfd: pytest.CaptureFixture[str]) -> None:
    log.warn("a\nb")
    log.note("going on")
    assert capfd.readouterr() == ("", "pyrkt: warning: a\\nb\npyrkt: going on\n")


def test_debug_lines_only_when_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    log.debug("one")
    log.set_debug(on=True)
    assert log.debugging()
    log.debug("two")
    assert capfd.readouterr().err == "debug: two\n"


def test_an_error_is_a_line_a_hint_and_its_notes(capfd: pytest.CaptureFixture[str]) -> None:
    error = NotFound("no image 'x'", hint="pyrkt image list")
    error.add_note("undoing: rmdir")
    log.fail(error)
    log.fail(NotFound("plain"), program="pyrkt-oci")
    assert capfd.readouterr().err == (
        "pyrkt: no image 'x'\n  hint: pyrkt image list\n  note: undoing: rmdir\npyrkt-oci: plain\n"
    )


def test_nobody_listening_is_no_error() -> None:
    source, sink = os.pipe()
    kept = os.dup(2)
    os.close(source)
    try:
        os.dup2(sink, 2)
        log.note("into the void")  # EPIPE
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)
