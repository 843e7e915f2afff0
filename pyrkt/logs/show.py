"""Lines of logs as people and programs read them. Pure: lines in, (descriptor, bytes) out."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyrkt.logs.line import Line

OUT, ERR = 1, 2
_LONGEST = 1 << 20
"""Bytes of a line that are gathered before it is shown, where something stands before it."""


class Text:
    """As the app wrote it, to the same stream; with ``names`` or ``times`` before each line only whole lines."""

    def __init__(self, *, names: bool = False, times: bool = False) -> None:
        """Show ``names`` of apps and ``times`` before lines, or nothing."""
        self.names, self.times = names, times
        self._parts: dict[tuple[str, str], list[Line]] = {}

    def show(self, app: str, line: Line) -> Iterator[tuple[int, bytes]]:
        """Yield what is to be written for ``line``, and where to."""
        if line.lost:
            yield ERR, f"pyrkt: {app}: {lost_words(line)}\n".encode()
        elif not (self.names or self.times):
            yield ERR if line.stream == "stderr" else OUT, line.text + b"\n" * line.whole
        else:
            parts = self._parts.setdefault((app, line.stream), [])
            parts.append(line)
            if line.whole or sum(len(part.text) for part in parts) >= _LONGEST:
                yield self._join(app, parts)
                del self._parts[app, line.stream]

    def end(self) -> Iterator[tuple[int, bytes]]:
        """Yield the lines that nobody has ended."""
        for (app, _), parts in self._parts.items():
            yield self._join(app, parts)
        self._parts.clear()

    def _join(self, app: str, parts: list[Line]) -> tuple[int, bytes]:
        before = parts[0].stamp + b" " if self.times else b""
        before += f"{app}: ".encode() if self.names else b""
        where = ERR if parts[0].stream == "stderr" else OUT
        return where, before + b"".join(part.text for part in parts) + b"\n"


class Json:
    """One object a line. A text that is no UTF-8 stands there twice: readable, and exact in "bytes" (base64)."""

    def show(self, app: str, line: Line) -> Iterator[tuple[int, bytes]]:
        """Yield what is to be written for ``line``, and where to."""
        value: dict[str, object] = {"time": line.stamp.decode(), "app": app, "stream": line.stream}
        value["partial"] = not line.whole
        if line.lost:
            value |= {"message": lost_words(line), "lost": line.lost, "errno": line.errno}
        else:
            value["message"] = line.text.decode("utf-8", "replace")
            try:
                line.text.decode()
            except UnicodeDecodeError:
                value["bytes"] = base64.b64encode(line.text).decode()
        yield OUT, json.dumps(value, ensure_ascii=False).encode() + b"\n"

    def end(self) -> Iterator[tuple[int, bytes]]:
        """Yield nothing: nothing is kept back."""
        return iter(())


def lost_words(line: Line) -> str:
    """Return what is to be said of lines that could not be written."""
    return f"{line.lost} line{'s are' if line.lost > 1 else ' is'} missing here: {os.strerror(line.errno)}"
