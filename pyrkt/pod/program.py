"""The command lines of pyrkt itself that stage1 runs: it knows no words for people, and no CNI."""

from __future__ import annotations

import os
import sys

from pyrkt.base import log


def own_program(*words: str) -> tuple[str, ...]:
    """Return the command line of pyrkt itself, for stage1 to run."""
    entry = f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/cli/entry.py"
    return (sys.executable, "-I", "-S", entry, *(("--debug",) if log.debugging() else ()), *words)


def on_failure() -> tuple[str, ...]:
    """Return the program that stage1 becomes to say which step failed."""
    return own_program("failed")
