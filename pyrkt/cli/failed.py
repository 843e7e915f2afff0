"""What stage1 runs when a step of a plan failed: from its number and errno to one sentence and a hint."""

from __future__ import annotations

from pyrkt.base import fastjson
from pyrkt.base.errors import StartFailed, UsageError
from pyrkt.stage1 import launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrkt.cli.grammar import Value


def failed(words: list[str], flags: Mapping[str, Value]) -> int:
    """Raise the error that ``words`` tell of: the pod's directory, the step's index, its errno, and a detail."""
    if len(words) < 3 or not all(word.lstrip("-").isdigit() for word in words[1:3]):
        raise UsageError("stage1 calls this, not people", hint="pyrkt --help lists the commands")
    path, index, errno, *detail = words
    try:
        with open(f"{path}/plan", "rb") as file:
            plan = file.read()
        with open(f"{path}/causes", "rb") as file:
            causes = tuple(map(str, fastjson.loads(file.read(), "causes")))
    except OSError:
        raise StartFailed(f"step {index} of the plan failed, and the plan is gone", hint=f"see {path}") from None
    raise launch.failure(plan, causes, int(index), int(errno), " ".join(detail))
