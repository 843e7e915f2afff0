"""How a fetch goes on: bars on a terminal, nothing in a pipe."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pyrkt.base import log
from pyrkt.base.errors import printable

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


class Silent:
    """Says nothing; a log or a script wants the answer only. Remarks come with --debug."""

    def start(self, name: str, total: int) -> None:
        """Ignore it."""

    def advance(self, name: str, n: int) -> None:
        """Ignore it."""

    def done(self, name: str) -> None:
        """Ignore it."""

    def say(self, text: str) -> None:
        """Show it with --debug."""
        log.debug(text)


class Terminal:
    """One bar a file, and remarks above them. Calls may come from several threads."""

    def __init__(self) -> None:
        """Start nothing yet: a fetch that finds all in the store shows no bars."""
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}

    def _started(self) -> Bars:
        if self._bars is None:
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
            self._bars = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bars.start()
        return self._bars

    def start(self, name: str, total: int) -> None:
        """Show a bar for ``name`` of ``total`` bytes, 0 if nobody knows."""
        from rich.markup import escape

        self._tasks[name] = self._started().add_task(escape(printable(name)), total=total or None)

    def advance(self, name: str, n: int) -> None:
        """Move the bar of ``name`` on by ``n`` bytes."""
        if self._bars is not None and name in self._tasks:
            self._bars.advance(self._tasks[name], n)

    def done(self, name: str) -> None:
        """Take the bar of ``name`` away; after the last one the terminal is as it was."""
        task = self._tasks.pop(name, None)
        if self._bars is not None and task is not None:
            self._bars.remove_task(task)
            if not self._tasks:
                self._bars.stop()
                self._bars = None

    def say(self, text: str) -> None:
        """Print a remark."""
        if self._bars is not None:
            self._bars.console.print(printable(text), markup=False, highlight=False)
        else:
            log.note(text)


def progress(*, quiet: bool) -> Silent | Terminal:
    """Return what fits: bars if standard error is a terminal and nobody asked for quiet."""
    return Silent() if quiet or not os.isatty(2) else Terminal()
