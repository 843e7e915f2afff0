"""What the program says beside its answer: one line a message, to standard error; steps only with --debug."""

from __future__ import annotations

import os

from pyrkt.base.errors import PyrktError, brief

_debug = False


def set_debug(*, on: bool) -> None:
    """Switch the lines of ``debug`` on or off."""
    global _debug  # noqa: PLW0603 - one process has one standard error
    _debug = on


def debugging() -> bool:
    """Tell whether --debug was given."""
    return _debug


def _line(text: str) -> None:
    try:
        os.write(2, (text + "\n").encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # nobody listens; the exit code still says it


def debug(message: str) -> None:
    """Say what is about to be done, if the user asked to see it."""
    if _debug:
        _line(f"debug: {brief(message)}")


def warn(message: str) -> None:
    """Say what the user should know although the work goes on."""
    _line(f"pyrkt: warning: {brief(message)}")


def note(message: str) -> None:
    """Say how the work goes on."""
    _line(f"pyrkt: {brief(message)}")


def fail(error: PyrktError, program: str = "pyrkt") -> None:
    """Say why the work ended: one line, then what to do."""
    _line(f"{program}: {brief(error.message)}")
    if error.hint:
        _line(f"  hint: {brief(error.hint)}")
    for remark in getattr(error, "__notes__", ()):
        _line(f"  note: {brief(remark)}")
