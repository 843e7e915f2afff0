"""``events``: what a container uses, now and then or once, and when it runs out of memory; a JSON object a line."""

from __future__ import annotations

import select
import time

from pyrkt.base import fastjson
from pyrkt.base.errors import NotFound, UsageError
from pyrkt.cgroup import stats
from pyrkt.runtime import container as containers
from pyrkt.runtime import options
from pyrkt.runtime.container import STOPPED
from pyrkt.runtime.options import SWITCH, TEXT, Verb, flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.runtime.container import Container
    from pyrkt.runtime.main import Settings

VERB = Verb(
    name="events",
    summary="show what a container uses, and when it runs out of memory",
    flags=(
        flag("interval", TEXT, "set the stats collection interval", "5s"),
        flag("stats", SWITCH, "display the container's stats then exit"),
    ),
    about="Each line is a JSON object. The stream ends with the container.",
)
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_NS = 10**9


def duration_ns(text: str) -> int:
    """Return the nanoseconds of "5s", "100ms" or "1m30s", as Go writes durations. Raises: ValueError."""
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in {"-", "+"} else text
    if rest == "0":
        return 0
    if not rest:
        raise ValueError(f"{text!r} is no duration")
    total = 0
    while rest:
        digits = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        whole, _, fraction = digits.partition(".")
        rest = rest[len(digits) :]
        unit = rest[: len(rest) - len(rest.lstrip("nuµμmsh"))]
        if not (whole + fraction).isdigit() or "." in fraction or unit not in _UNITS or len(digits) > 19:
            raise ValueError(f"{text!r} is no duration")
        rest = rest[len(unit) :]
        total += int(whole or 0) * _UNITS[unit] + int(fraction or 0) * _UNITS[unit] // 10 ** len(fraction)
    return sign * total


def _interval(text: str) -> float:
    try:
        nanoseconds = duration_ns(text)
    except ValueError:
        raise UsageError(
            f'invalid value "{text}" for flag -interval: parse error', hint="write it as 5s, 100ms or 1m30s"
        ) from None
    if nanoseconds <= 0:
        raise UsageError("duration interval must be greater than 0")
    return nanoseconds / _NS


def main(settings: Settings, values: dict[str, Any], arguments: list[str]) -> int:
    """Print the numbers once, or until the container ends."""
    container = containers.load(settings.root, arguments[0])
    seconds = _interval(values["interval"])
    if containers.status(container).name == STOPPED:
        raise NotFound(f"container with id {container.id} is not running")
    if values["stats"]:
        _say_stats(container)
    else:
        _stream(container, seconds)
    return 0


def _say(kind: str, container: Container, **more: Any) -> None:
    options.say(fastjson.dumps({"type": kind, "id": container.id, **more}) + "\n")


def _say_stats(container: Container) -> None:
    _say("stats", container, data=stats.read(container.cgroup))


def _stream(container: Container, seconds: float) -> None:
    from pyrkt.cgroup.notify import OutOfMemory  # noqa: PLC0415 - one answer needs no watch

    memory = OutOfMemory(container.cgroup)
    process = containers.open_process(container)
    poll = select.poll()
    poll.register(memory.descriptor, select.POLLIN)
    poll.register(process, select.POLLIN)
    due = time.monotonic() + seconds
    while True:
        ready = dict(poll.poll(max(0.0, due - time.monotonic()) * 1000))
        if memory.came():  # asked in any case: what killed the container must be told before its end
            _say("oom", container)
        if process in ready or memory.gone():
            return
        if time.monotonic() >= due:
            _say_stats(container)
            due = max(due + seconds, time.monotonic())
