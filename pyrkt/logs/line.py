"""One line of a log file: ``2026-01-02T03:04:05.123456789Z stdout F text``. Pure.

Source: Kubernetes' Container Runtime Interface, "CRI logging": RFC 3339 time, stream, tags separated by ":" of which
the first is F (a whole line) or P (a part of one), and the text, which may be any bytes but a line break. stage1 writes
times in UTC with nine digits, so that they compare as they are; a tag of its own, ``F:lost``, says that lines are
missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

STAMP = 30
"""Bytes of a time."""
_HEAD = STAMP + len(" stdout F ")


@dataclass(frozen=True, slots=True)
class Line:
    """What an app wrote to ``stream`` at ``stamp``; ``whole``: a line break followed it.

    ``lost`` lines, if any, could not be written in this place, for the reason ``errno``; then there is no text.
    """

    stamp: bytes
    stream: str
    whole: bool
    text: bytes
    lost: int = 0
    errno: int = 0


def parse(raw: bytes, stamp: bytes = b"") -> Line:
    """Read one line without its line break; what is none is the supervisor's own words, at the time ``stamp``."""
    if len(raw) >= _HEAD - 1 and raw[STAMP - 1 : STAMP + 1] == b"Z " and raw[:4].isdigit():
        stream, _, rest = raw[STAMP + 1 :].partition(b" ")
        tags, _, text = rest.partition(b" ")
        if stream in (b"stdout", b"stderr") and tags[:1] in (b"F", b"P"):
            line = Line(raw[:STAMP], stream.decode(), tags[:1] == b"F", text)
            return _lost(line) if tags == b"F:lost" else line
    return Line(stamp, "stderr", True, raw)  # noqa: FBT003 - of a table's row


def _lost(line: Line) -> Line:
    count, _, errno = line.text.partition(b" ")
    if not (count.isdigit() and errno.isdigit()):
        return line
    return Line(line.stamp, line.stream, True, b"", int(count), int(errno))  # noqa: FBT003


def stamp_of(nanoseconds: int) -> bytes:
    """Return the time so many nanoseconds after 1970 as it stands in a log. Before 1970 and after 9999 it is cut."""
    seconds, rest = divmod(min(max(nanoseconds, 0), 253402300799 * 10**9), 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z".encode()
