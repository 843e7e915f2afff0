"""``run``: create a container and start it; in the foreground stage1 takes this process's place."""

from __future__ import annotations

import os

from pyrkt.runtime import container as containers
from pyrkt.runtime import create, launching
from pyrkt.runtime.options import SWITCH, Verb, flag
from pyrkt.stage1 import launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.runtime.main import Settings

VERB = Verb(
    name="run",
    summary="create a container and start it",
    flags=(
        *launching.FLAGS,
        flag("detach d", SWITCH, "detach from the container's process"),
        flag("keep", SWITCH, "do not delete the container after it exits"),
        flag("no-subreaper", SWITCH, "accepted for compatibility"),
    ),
    about="The exit code is the program's, or 128 + the number of the signal that ended it.",
)
FAILURE = ("{} run failed: ", 1)


def main(settings: Settings, values: dict[str, Any], arguments: list[str]) -> int:
    """Decide, remember, let stage1 act; in the foreground that never returns."""
    detached = values["detach"]
    intent = launching.decide(settings, values, arguments[0], verb="run", detached=detached)
    launching.warn(settings, intent.plan)
    descriptor = launching.remember(intent)
    if not detached:
        try:
            launch.run(launching.plan_bytes(intent), intent.plan.causes, holder=launching.hold(intent))
        except BaseException:
            launching.give_up(settings, intent.container)
            raise
    create.act(settings, intent)
    if "poststart" in intent.container.hooks:
        from pyrkt.runtime import start  # noqa: PLC0415 - containers with hooks are rare

        container = intent.container
        start.poststart(settings, container, containers.recorded_pid(container.directory)[0])
    os.close(descriptor)
    return 0
