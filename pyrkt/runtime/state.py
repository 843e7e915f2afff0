"""``state``: what the specification calls the state of a container, as JSON."""

from __future__ import annotations

import os

from pyrkt.base import fastjson
from pyrkt.runtime import container as containers
from pyrkt.runtime import options
from pyrkt.runtime.options import Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.runtime.container import Container
    from pyrkt.runtime.main import Settings

VERB = Verb(name="state", summary="show the state of a container, as JSON")


def owner(directory: str) -> str:
    """Return the name of the user to whom the container belongs; the number where it has none."""
    uid = os.stat(directory).st_uid
    try:
        with open("/etc/passwd", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                fields = line.split(":", 3)
                if len(fields) > 3 and fields[2] == str(uid):
                    return fields[0]
    except OSError:
        pass
    return str(uid)


def description(container: Container) -> dict[str, Any]:
    """Return the members that engines read, in runc's order, with runc's own among them."""
    current = containers.status(container)
    document = containers.state_document(container, current)
    return {
        "ociVersion": document["ociVersion"],
        "id": container.id,
        "pid": current.pid,
        "status": current.name,
        "bundle": container.bundle,
        "rootfs": container.rootfs,
        "created": container.created,
        **({"annotations": container.annotations} if container.annotations else {}),
        "owner": owner(container.directory),
    }


def main(settings: Settings, _values: dict[str, Any], arguments: list[str]) -> int:
    """Print the state."""
    options.say(fastjson.pretty(description(containers.load(settings.root, arguments[0]))).rstrip("\n"))
    return 0
