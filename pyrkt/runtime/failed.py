"""What stage1 becomes when a step of a foreground container fails: says it in words, and takes away what is left."""

from __future__ import annotations

import os

from pyrkt.base.errors import NotExecutable, ProgramMissing, PyrktError, StartFailed
from pyrkt.plan.steps import AFTER, PARENT, decode
from pyrkt.runtime import container as containers
from pyrkt.runtime.options import Verb
from pyrkt.spec import steps
from pyrkt.stage1 import launch
from pyrkt.stage1.failure import DETAILS, NO_INTERPRETER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.plan.steps import Plan
    from pyrkt.runtime.main import Settings

VERB = Verb(
    name="failed",
    summary="said by stage1 when a step fails",
    arguments="run|exec <container-id> INDEX ERRNO DETAIL PLAN SAID",
    least=7,
    most=7,
    ordered=True,
)
_TO_DIRECTORY = "going to the working directory "
_SIZE_AT, _MAX_PLAN = 12, 64 << 20


def in_runcs_words(error: PyrktError, plan: Plan) -> PyrktError:
    """Return ``error`` with the text that engines look for: runc's about mounts and the program, Go's of an errno.

    dockerd and podman choose their exit codes, 126 and 127, by "executable file not found" and "permission denied".
    """
    program = _argument(plan, steps.EXEC)
    head, colon, reason = error.message.rpartition(": ")
    reason = reason[:1].lower() + reason[1:]
    if head.startswith("error mounting "):
        text = f"unable to start container process: error during container init: {head}: {reason}"
        return StartFailed(text, hint=error.hint)
    if isinstance(error, ProgramMissing) and DETAILS[NO_INTERPRETER] in error.message:
        return StartFailed(f"unable to start container process: exec {program}: {reason}", hint=error.hint)
    if isinstance(error, ProgramMissing):
        reason = f"stat {program}: {reason}" if "/" in program else "executable file not found in $PATH"
    elif head.startswith(_TO_DIRECTORY):
        text = f'chdir to cwd ("{_argument(plan, steps.CHDIR)}") set in config.json failed: {reason}'
        return StartFailed(f"unable to start container process: {text}", hint=error.hint)
    elif not isinstance(error, NotExecutable):
        return StartFailed(head + colon + reason, hint=error.hint) if isinstance(error, StartFailed) else error
    text = f'unable to start container process: exec: "{program}": {reason}'
    return StartFailed(text, hint=error.hint)


def _argument(plan: Plan, code: int) -> str:
    return next((str(step.args[0]) for step in plan.steps if step.code == code), "")


def _plan(descriptor: int) -> Plan:
    """Return the plan in the descriptor that stage1 left open; the causes behind it are read by ``launch``."""
    data = os.pread(descriptor, _MAX_PLAN, 0)
    return decode(data[: int.from_bytes(data[_SIZE_AT : _SIZE_AT + 4], "little")])


def _goes_on(plan: Plan, index: int) -> bool:
    """Tell whether the failed step ends nothing: a hook after the end, or one that version 1.2 is lenient with."""
    if not 0 <= index < len(plan.steps):
        return False
    step = plan.steps[index]
    lenient = any(other.code == steps.LENIENT for other in plan.steps[:index])
    return step.phase == AFTER or (step.phase == PARENT and step.code == steps.HOOK and lenient)


def main(settings: Settings, _values: dict[str, Any], arguments: list[str]) -> int:
    """Say what failed; the exit code is runc's: 1 for run, 255 for exec."""
    verb, name = arguments[:2]
    if not all(word.lstrip("-").isdigit() for word in arguments[2:]):
        raise PyrktError("failed is called by stage1 only")
    plan = _plan(int(arguments[-2]))
    error = in_runcs_words(launch.failed(arguments), plan)
    if _goes_on(plan, int(arguments[2])):
        settings.log.warning(error.message)
        return 0
    if verb == "exec":
        settings.log.error(error, "exec failed: ")
        return 255
    settings.log.error(error, f"{settings.program} run failed: ")
    try:
        container = containers.load(settings.root, name)
    except PyrktError:
        return 1  # stage1 has taken everything away
    from pyrkt.runtime import launching  # noqa: PLC0415 - only where something is left

    launching.give_up(settings, container)
    return 1
