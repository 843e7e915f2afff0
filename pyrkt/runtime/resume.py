"""``resume``: let a paused container go on."""

from __future__ import annotations

from pyrkt.base.errors import Busy
from pyrkt.cgroup import freeze
from pyrkt.runtime import container as containers
from pyrkt.runtime.options import Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.runtime.main import Settings

VERB = Verb(name="resume", summary="let a paused container go on")


def main(settings: Settings, _values: dict[str, Any], arguments: list[str]) -> int:
    """Thaw."""
    container = containers.load(settings.root, arguments[0])
    if not freeze.is_frozen(container.freezer):
        raise Busy("container not paused")
    freeze.thaw(container.freezer)
    return 0
