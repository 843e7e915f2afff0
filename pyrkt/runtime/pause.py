"""``pause``: stop every process of a container for a while."""

from __future__ import annotations

from pyrkt.base.errors import Busy
from pyrkt.cgroup import freeze
from pyrkt.runtime import container as containers
from pyrkt.runtime.container import CREATED, RUNNING
from pyrkt.runtime.options import Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.runtime.main import Settings

VERB = Verb(name="pause", summary="stop every process of a container for a while")


def main(settings: Settings, _values: dict[str, Any], arguments: list[str]) -> int:
    """Freeze."""
    container = containers.load(settings.root, arguments[0])
    if containers.status(container).name not in (RUNNING, CREATED):
        raise Busy("container not running")
    freeze.freeze(container.freezer)
    return 0
