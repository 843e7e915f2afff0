"""The logs of several apps of a pod as one, by time: what is there, and what comes."""

from __future__ import annotations

import heapq
import os
from typing import TYPE_CHECKING

from pyrkt.logs.files import Log

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Self

    from pyrkt.logs.line import Line

    Said = tuple[str, Line]

_SUFFIX = ".log"


class Choice:
    """Which lines are asked for: of one ``stream`` or both (""), between the times ``since`` and ``until``."""

    def __init__(self, *, since: bytes = b"", until: bytes = b"", stream: str = "") -> None:
        """Keep what is asked; an empty time is none."""
        self.since, self.until, self.stream = since, until, stream

    def takes(self, line: Line) -> bool:
        """Tell whether ``line`` is asked for."""
        if self.stream and line.stream != self.stream:
            return False
        return line.stamp >= self.since and (not self.until or line.stamp <= self.until)


class Logs:
    """The logs in the directory ``path`` of the ``apps`` that are named, or of all that have one."""

    def __init__(self, path: str, apps: Iterable[str] = (), choice: Choice | None = None) -> None:
        """Open the directory: the pod may be moved while its logs are read. Raises: OSError."""
        self.choice = choice or Choice()
        self._apps = tuple(apps)
        self._directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._logs: dict[str, Log] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for log in self._logs.values():
            log.close()
        os.close(self._directory)

    def gaps(self) -> list[str]:
        """Return, once, the apps of whose log something was removed before it was read."""
        found = [name for name, log in self._logs.items() if log.gap]
        for name in found:
            self._logs[name].gap = False
        return found

    def begin(self, count: int | None = None) -> Iterator[Said]:
        """Yield (app, line) for what is there, the last ``count`` lines only if it is given."""
        self._find()
        if count is not None:
            yield from self._last(count)
            return
        for log in self._logs.values():
            if self.choice.since:
                log.skip(self.choice.since)
        yield from heapq.merge(*(self._of(name) for name in self._logs), key=_by_time)

    def more(self) -> list[Said]:
        """Return what has come since, by time."""
        self._find()
        return sorted((said for name in self._logs for said in self._of(name)), key=_by_time)

    def _find(self) -> None:
        """An app may be added while the pod runs."""
        names = self._apps or sorted(
            name.removesuffix(_SUFFIX) for name in os.listdir(self._directory) if name.endswith(_SUFFIX)
        )
        for name in names:
            if name not in self._logs:
                self._logs[name] = Log(self._directory, name)

    def _of(self, name: str) -> Iterator[Said]:
        return ((name, line) for line in self._logs[name].read() if self.choice.takes(line))

    def _last(self, count: int) -> list[Said]:
        found = [(name, line) for name, log in self._logs.items() for line in log.tail(count, self.choice.takes)]
        found.sort(key=_by_time)
        ends = [at for at, (_, line) in enumerate(found) if line.whole or at == len(found) - 1]
        if len(ends) <= count:
            return found
        return found[ends[-count - 1] + 1 :] if count else []


def _by_time(said: Said) -> bytes:
    return said[1].stamp
