"""Times and durations as people write them for logs. Pure."""

from __future__ import annotations

import re
from datetime import datetime

_UNITS = {"d": 86400 * 10**9, "h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])")
_FRACTION = re.compile(r"[.,](\d{1,9})(?=$|Z|z|[+-])")


def moment(text: str, now: int) -> int:
    """Return the time that ``text`` means, in nanoseconds since 1970.

    A duration (90, 10m, 1h30m, 1.5h, 2d) is so long before ``now``; ``@N`` is N seconds after 1970; else a date and a
    time after ISO 8601, in the local time where it names no other.
    Raises: ValueError.
    """
    if text.startswith("@"):
        return _decimal(text[1:], 10**9)
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return now - _decimal(text, 10**9)
    if text and not _PART.sub("", text):
        return now - sum(_decimal(number, _UNITS[unit]) for number, unit in _PART.findall(text))
    fraction = _FRACTION.search(text)
    found = datetime.fromisoformat(_FRACTION.sub("", text))
    return int(found.timestamp()) * 10**9 + (int(fraction[1].ljust(9, "0")) if fraction else 0)


def _decimal(text: str, unit: int) -> int:
    if not re.fullmatch(r"\d{1,15}(\.\d{1,9})?", text):
        raise ValueError(text)
    whole, _, rest = text.partition(".")
    fraction = int(rest) * unit // int("1" + "0" * len(rest)) if rest else 0
    return int(whole) * unit + fraction
