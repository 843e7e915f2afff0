"""``create``: make a container that waits to be started; nothing of ours stays behind."""

from __future__ import annotations

import os

from pyrkt.base.errors import StartFailed
from pyrkt.runtime import launching
from pyrkt.runtime.options import Verb
from pyrkt.stage1 import launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.runtime.launching import Intent
    from pyrkt.runtime.main import Settings

VERB = Verb(
    name="create",
    summary="create a container from a bundle; it waits to be started",
    flags=launching.FLAGS,
    about="A bundle is a directory with a config.json and a root file system. The container does nothing until\n"
    "it is started; its process is an orphan, for the caller (or its subreaper) to reap.",
)
FAILURE = ("{} create failed: ", 1)


def main(settings: Settings, values: dict[str, Any], arguments: list[str]) -> int:
    """Decide, remember, let stage1 act."""
    intent = launching.decide(settings, values, arguments[0], verb="create", detached=True)
    launching.warn(settings, intent.plan)
    descriptor = launching.remember(intent)
    act(settings, intent)
    os.close(descriptor)
    return 0


def act(settings: Settings, intent: Intent) -> None:
    """Run stage1 until the container stands; on failure take away what there is of it."""
    plan = intent.plan
    try:
        holder = launching.hold(intent)
        launch.start(launching.plan_bytes(intent), plan.causes, preserve_fds=intent.preserve_fds, holder=holder)
    except StartFailed as error:
        launching.give_up(settings, intent.container)
        from pyrkt.runtime import failed  # noqa: PLC0415 - only failures pay

        raise failed.in_runcs_words(error, plan) from None
    except BaseException:
        launching.give_up(settings, intent.container)
        raise
