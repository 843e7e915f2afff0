"""``delete``: take away what is left of a container, or with --force all of it."""

from __future__ import annotations

import os

from pyrkt.base.errors import Busy, InvalidSpec, NotFound
from pyrkt.runtime import container as containers
from pyrkt.runtime.container import CREATED, STOPPED
from pyrkt.runtime.options import SWITCH, Verb, flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.runtime.main import Settings

VERB = Verb(
    name="delete",
    summary="remove what a container holds",
    flags=(flag("force f", SWITCH, "forcibly delete the container if it is still running (uses SIGKILL)"),),
)


def main(settings: Settings, values: dict[str, Any], arguments: list[str]) -> int:
    """Delete; an unknown id is fine with --force, since engines delete twice."""
    name = containers.check_id(arguments[0])
    containers.check_root(settings.root)
    directory = f"{settings.root}/{name}"
    if not os.path.isdir(directory) or os.path.islink(directory):
        if values["force"]:
            return 0
        raise NotFound("container does not exist")
    from pyrkt.runtime import lifecycle  # noqa: PLC0415 - engines delete what is gone already

    descriptor = lifecycle.locked(directory)
    try:
        _delete(settings, name, force=values["force"])
    finally:
        os.close(descriptor)
    return 0


def _delete(settings: Settings, name: str, *, force: bool) -> None:
    from pyrkt.runtime import lifecycle  # noqa: PLC0415 - as above

    try:
        container = containers.load(settings.root, name)
    except (NotFound, InvalidSpec):
        # No state, or half of one: whoever wrote it was killed before anything was made, or after all was removed.
        if force or not os.path.exists(f"{settings.root}/{name}/state.json"):
            containers.forget(f"{settings.root}/{name}")
        if not force:
            raise
        return
    current = containers.status(container)
    if not force and current.name not in (STOPPED, CREATED):
        raise Busy(
            f"cannot delete container {name} that is not stopped: {current.name}",
            hint="kill it first, or delete it with --force",
        )
    lifecycle.take_away(container, settings.log)
