"""``list``: the containers below the state root, for people and for programs."""

from __future__ import annotations

import os

from pyrkt.base import fastjson
from pyrkt.base.errors import NotFound, PyrktError, UsageError, printable
from pyrkt.runtime import container as containers
from pyrkt.runtime import options
from pyrkt.runtime.options import SWITCH, TEXT, Verb, flag
from pyrkt.runtime.state import description

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.runtime.main import Settings

VERB = Verb(
    name="list",
    summary="list the containers",
    arguments="",
    least=0,
    most=0,
    flags=(
        flag("format f", TEXT, "select one of: table or json", "table"),
        flag("quiet q", SWITCH, "display only container IDs"),
    ),
)
_COLUMNS = ("id", "pid", "status", "bundle", "created", "owner")
_MIN_WIDTH, _GAP = 12, 3


def table(rows: list[tuple[str, ...]]) -> str:
    """Return ``rows``, the heading first, as runc aligns them: columns of at least 12, three blanks between."""
    widths = [max([_MIN_WIDTH, *(len(row[column]) + _GAP for row in rows)]) for column in range(len(rows[0]) - 1)]
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + row[-1] + "\n" for row in rows
    )


def main(settings: Settings, values: dict[str, Any], _arguments: list[str]) -> int:
    """Print the table, the JSON array, or the names."""
    if values["format"] not in {"table", "json"}:
        raise UsageError("invalid format option")
    if settings.given_root and not os.path.isdir(settings.root):
        raise NotFound(f"open {settings.root}: no such file or directory", hint="is that what --root was at create?")
    found = []
    for name in containers.names(settings.root):
        try:
            found.append(description(containers.load(settings.root, name)))
        except (PyrktError, OSError) as error:
            # One that is being made or removed, or damaged, must not hide the others.
            settings.log.step(f"{name}: {error}")
    if values["quiet"]:
        options.say("".join(f"{entry['id']}\n" for entry in found))
    elif values["format"] == "json":
        options.say(fastjson.dumps(found or None) + "\n")
    else:
        rows = [tuple(column.upper() for column in _COLUMNS)]
        rows += [tuple(printable(str(entry[column])) for column in _COLUMNS) for entry in found]
        options.say(table(rows))
    return 0
