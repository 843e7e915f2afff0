"""The same calls with runc and with pyrkt-oci, side by side, and what may differ in the answers."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from tests.support.oci import LAUNCHER, Answer, peer

SECONDS = 60
RUNC, OURS = "runc", "pyrkt-oci"
RUNTIMES = (RUNC, OURS)
T = TypeVar("T")
_LONG_ID = re.compile(r"\b[0-9a-f]{64}\b")


def program(label: str) -> str:
    """Return the absolute path of a runtime by its label."""
    return LAUNCHER[0] if label == OURS else peer(RUNC, Path()).command[0]


def call(words: Sequence[str], *, env: dict[str, str] | None = None, text: str = "", **options: Any) -> Answer:
    """Run a command to its end; ``text`` is its standard input."""
    given: dict[str, Any] = {"input": text} if text else {"stdin": subprocess.DEVNULL}
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=SECONDS, check=False, env=env, **given, **options
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def both(flow: Callable[[str], T]) -> dict[str, T]:
    """Run ``flow`` for each runtime's label, at the same time; return what each saw."""
    with ThreadPoolExecutor(len(RUNTIMES)) as pool:
        running = {label: pool.submit(flow, label) for label in RUNTIMES}
        return {label: future.result() for label, future in running.items()}


def same(flow: Callable[[str], T]) -> T:
    """Run ``flow`` under each; check that both saw the same, and return that."""
    seen = both(flow)
    assert seen[OURS] == seen[RUNC]
    return seen[OURS]


def plain(answer: Answer) -> tuple[int, str]:
    """Return exit code and output, without what is random in them."""
    return answer.code, _LONG_ID.sub("ID", answer.out.replace("\r\n", "\n"))


def must(answer: Answer) -> str:
    """Return the output of a call that succeeded."""
    assert answer.code == 0, (answer.err or answer.out)[-2000:]
    return answer.out.strip()


KINDS = (
    "no such file or directory",
    "executable file not found",
    "permission denied",
    "operation not permitted",
    "not running",
    "improper",
    "is paused",
    "does not exist",
    "no such container",
)


def kind(answer: Answer) -> tuple[int, tuple[str, ...]]:
    """Return the exit code, and which of the words that scripts look for the complaint has."""
    text = answer.err.lower()
    return answer.code, tuple(words for words in KINDS if words in text)
