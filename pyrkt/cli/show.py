"""Answers: tables for people, JSON for machines. Every name is made safe for a terminal here."""

from __future__ import annotations

import sys

from pyrkt.base import fastjson
from pyrkt.base.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, legend: bool = True) -> str:
    """Return ``rows`` as aligned columns, two blanks apart, under ``header`` unless ``legend`` is off."""
    lines = [list(map(printable, row)) for row in rows]
    if legend:
        lines.insert(0, list(header))
    widths = [max((len(line[column]) for line in lines), default=0) for column in range(len(header))]
    return "".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )


def pairs(values: Iterable[tuple[str, object]]) -> str:
    """Return name=value lines, as rkt's status prints them."""
    return "".join(f"{printable(name)}={printable(_word(value))}\n" for name, value in values)


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_json(value: Any, form: str) -> str:
    """Return ``value`` as one line of JSON ("json"), or indented ("json-pretty")."""
    return fastjson.pretty(value) if form == "json-pretty" else fastjson.dumps(value) + "\n"


def out(text: str) -> None:
    """Write ``text`` to standard output."""
    sys.stdout.write(text)


def moment(seconds: float, *, now: float | None = None) -> str:
    """Return a time for a table: how long before ``now``, or, without it, the local date and time."""
    import time

    if not seconds:
        return ""
    if now is None:
        return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(seconds))
    past = max(int(now - seconds), 0)  # a clock that was set back must not print negative ages
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if past >= length:
            count = past // length
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now" if past < 5 else f"{past} seconds ago"
