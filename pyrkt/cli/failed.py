"""What stage1 becomes when a step of a pod's plan failed: the program that says so, in one sentence and a hint."""

from __future__ import annotations

from pyrkt.base.errors import UsageError
from pyrkt.stage1 import launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrkt.cli.grammar import Value

_WORDS = 5
"""The step's index, its errno, a detail, and two descriptors: the plan with its causes, what a program has said."""


def failed(words: list[str], flags: Mapping[str, Value]) -> int:
    """Raise the error that ``words`` tell of."""
    if len(words) != _WORDS or not all(word.removeprefix("-").isdigit() for word in words):
        raise UsageError("stage1 calls this, not people", hint="pyrkt --help lists the commands")
    raise launch.failed(words)
