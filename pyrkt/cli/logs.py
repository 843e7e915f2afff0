"""``pyrkt logs`` and ``pyrkt attach``: what apps have written, and being there while they write."""

from __future__ import annotations

import os
import select
import sys
import time
from typing import TYPE_CHECKING

import click

from pyrkt.base.errors import Busy, NotFound, UsageError
from pyrkt.base.log import warn
from pyrkt.cli import show
from pyrkt.cli.clicks import pass_settings
from pyrkt.cli.pods import one, uuid_file
from pyrkt.kernel import inotify, lock, pidfd
from pyrkt.logs import attach as attached
from pyrkt.logs import times
from pyrkt.logs.line import stamp_of
from pyrkt.logs.merge import Choice, Logs
from pyrkt.logs.show import Json, Text
from pyrkt.pod import status as states

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyrkt.cli.settings import Settings
    from pyrkt.logs.line import Line
    from pyrkt.pod.directory import Pod

_FULL = 1 << 16
_PIPE_CLOSED = 141
_RECHECK_MS, _ENDING_MS = 200, 10
"""How often a pod is looked at that is just starting, or just ending: then no process stands for it."""


class _Moment(click.ParamType[bytes]):
    """A time, or how long ago."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        try:
            return stamp_of(times.moment(str(value), time.time_ns()))
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a time; write 10m, 1h30m, 2026-01-02T03:04:05Z or @1767323045", param, ctx)


class _Count(click.ParamType[int]):
    """A number of lines, or all of them (-1)."""

    name = "count"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if text == "all":
            return -1
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            self.fail(f"{text!r} is not a number of lines, nor all", param, ctx)
        return int(text)


@click.command()
@click.argument("uuid", required=False)
@click.option("--app", multiple=True, help="Of this app only; may be given several times.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until the apps have ended.")
@click.option("--since", type=_Moment(), help="From this time on, or so long ago: 2026-01-02T03:04:05Z, 10m.")
@click.option("--until", type=_Moment(), help="Up to this time.")
@click.option("-n", "--tail", type=_Count(), default="all", show_default=True, help="Only the last lines.")
@click.option("--timestamps", is_flag=True, help="Print when each line was written.")
@click.option("--stream", type=click.Choice(["stdout", "stderr"]), help="Of this stream only.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@uuid_file
@pass_settings
def logs(
    settings: Settings,
    uuid: str | None,
    app: tuple[str, ...],
    follow: bool,
    since: bytes | None,
    until: bytes | None,
    tail: int,
    timestamps: bool,
    stream: str | None,
    form: str,
    uuid_file: str | None,
) -> None:
    """Print what the apps of the pod UUID have written: each line to the stream that it was written to."""
    pod = one(settings, uuid, uuid_file)
    apps = _known(pod, app)
    choice = Choice(since=since or b"", until=until or b"", stream=stream or "")
    writer = Json() if form == "json" else Text(names=len(apps) > 1, times=timestamps)
    out = _Out(writer)
    try:
        with Logs(f"{pod.path}/logs", app, choice) as found:
            watch = _Watch(pod, apps) if follow else None
            out.write(found.begin(None if tail < 0 else tail))
            while watch:
                ended = watch.ended()
                out.write(found.more())
                _tell_gaps(found)
                if ended or (until and stamp_of(time.time_ns()) > until):
                    break
                watch.wait(limited=until is not None)
            _tell_gaps(found)
        out.end()
    except BrokenPipeError:
        raise click.exceptions.Exit(_PIPE_CLOSED) from None  # click's own would be 1
    except FileNotFoundError:
        raise NotFound(f"pod {pod.uuid} has no logs", hint="it was being made, or is being removed") from None


def _known(pod: Pod, wanted: tuple[str, ...]) -> list[str]:
    """Return the names of the apps that are asked for. Raises: NotFound."""
    names = [app.name for app in states.status(pod).apps]
    for name in wanted:
        if name not in names:
            raise NotFound(f"pod {pod.uuid} has no app {name!r}", hint=f"it has {', '.join(names) or 'none'}")
    return list(dict.fromkeys(wanted)) or names


def _tell_gaps(found: Logs) -> None:
    for name in found.gaps():
        warn(f"{name}: lines are missing here: its log was rotated faster than it was read")


class _Out:
    """Writes what is to be shown, in runs of one stream."""

    def __init__(self, writer: Json | Text) -> None:
        self.writer = writer

    def write(self, lines: Iterable[tuple[str, Line]]) -> None:
        self._all(piece for app, line in lines for piece in self.writer.show(app, line))

    def end(self) -> None:
        self._all(self.writer.end())

    def _all(self, pieces: Iterator[tuple[int, bytes]]) -> None:
        where, gathered, size = 1, list[bytes](), 0
        for stream, data in pieces:
            if gathered and (stream != where or size > _FULL):
                _write(where, gathered)
                gathered, size = [], 0
            where, size = stream, size + len(data)
            gathered.append(data)
        _write(where, gathered)


def _write(where: int, gathered: list[bytes]) -> None:
    out = (sys.stdout if where == 1 else sys.stderr).buffer
    out.write(b"".join(gathered))
    out.flush()


class _Watch:
    """Tells when something may be new in the logs of a pod, and when nothing can be any more."""

    def __init__(self, pod: Pod, apps: list[str]) -> None:
        self.pod, self.apps = pod, apps
        # by descriptor: gc may move the pod while we look
        self.directory = os.open(pod.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.path = f"/proc/self/fd/{self.directory}/."
        events = inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_TO
        self.events = inotify.watch(f"{self.path}/logs", f"{self.path}/status", events=events)
        self.process = -1

    def ended(self) -> bool:
        """Tell whether all apps have ended, or the pod has, so that what is written now is all."""
        codes = [os.path.exists(f"{self.path}/status/{name}") for name in self.apps]
        return (bool(codes) and all(codes)) or not lock.is_held(self.path)

    def wait(self, *, limited: bool) -> None:
        """Wait for something to happen; not for long if the time is ``limited``, or nothing says when the pod ends."""
        poll = select.poll()
        poll.register(self.events, select.POLLIN)
        if self.process < 0:
            self.process = states.open_process(self.pod)
        patience = _RECHECK_MS if self.process < 0 or limited else None
        if self.process >= 0 and pidfd.wait(self.process, 0):
            patience = _ENDING_MS  # its supervisor has some things to do yet
        elif self.process >= 0:
            poll.register(self.process, select.POLLIN)
        poll.poll(patience)
        inotify.drain(self.events)


# --- attach ---

_MODES = {
    "tty": attached.TTY_IN | attached.TTY_OUT,
    "tty-in": attached.TTY_IN,
    "tty-out": attached.TTY_OUT,
    "stdin": attached.STDIN,
    "stdout": attached.STDOUT,
    "stderr": attached.STDERR,
}


class _Mode(click.ParamType[str]):
    """list, auto, a kind of terminal, or streams."""

    name = "mode"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        streams = text.split(",")
        if text not in ("list", "auto", *_MODES) and not set(streams) <= {"stdin", "stdout", "stderr"}:
            self.fail(f"{text!r} is none of list, auto, tty, tty-in, tty-out, stdin,stdout,stderr", param, ctx)
        return text


@click.command()
@click.argument("uuid", required=False)
@click.option("--app", default="", help="Which app; needed if the pod has several.")
@click.option(
    "--mode", type=_Mode(), default="auto", show_default=True, help="list, auto, tty, tty-in, tty-out, or streams."
)
@uuid_file
@pass_settings
def attach(settings: Settings, uuid: str | None, app: str, mode: str, uuid_file: str | None) -> None:
    """Attach to the streams or the terminal of an app of the pod UUID; ctrl-p ctrl-q leaves its terminal."""
    pod = one(settings, uuid, uuid_file)
    name = _app(pod, app)
    path = f"{os.path.abspath(pod.path)}/apps/{name}/attach"
    with attached.Link(path, f"the app {name}") as link:
        there, _ = link.ask(0)
        if mode == "list":
            targets = list(attached.targets(there, path))
            show.out(show.as_json({"version": 1, "targets": targets}, "json-pretty"))
            return
        wanted = _wanted(mode, there, name)
        _, given = link.ask(wanted)
        if wanted & ~given & attached.INPUT and mode != "auto":
            raise Busy(f"somebody else types to the app {name}", hint="attach to its output only, or wait")
        if wanted & ~given:
            warn(f"somebody else types to the app {name}: this only shows what it writes")
        _pump(link, given)


def _app(pod: Pod, wanted: str) -> str:
    names = _known(pod, (wanted,) if wanted else ())
    if len(names) != 1:
        raise UsageError(f"the pod has several apps: {', '.join(names)}", hint="--app=NAME")
    return names[0]


def _wanted(mode: str, there: int, name: str) -> int:
    if mode == "auto":
        # a service's input is no input: to pass on its end would close that of the app
        return there & ~attached.INPUT if _is_null(0) else there
    wanted = sum(_MODES[word] for word in set(mode.split(",")))
    if missing := attached.names(wanted & ~there):
        kind = "tty" if missing[0].startswith("tty") else "stream"
        stream = "stdout" if missing[0] == "tty-out" else "stdin" if kind == "tty" else missing[0]
        raise UsageError(
            f"the app {name} has no {', '.join(missing)} to attach to", hint=f"run it with --{stream}={kind}"
        )
    return wanted


def _is_null(descriptor: int) -> bool:
    return os.path.exists("/dev/null") and os.path.samestat(os.fstat(descriptor), os.stat("/dev/null"))


def _pump(link: attached.Link, given: int) -> None:
    stdin = 0 if given & attached.INPUT else -1
    screen = 0 if given & (attached.TTY_IN | attached.TTY_OUT) and os.isatty(0) else -1
    raw = screen >= 0 and bool(given & attached.TTY_IN)
    pump = attached.Pump(link, stdin=stdin, keys=raw, screen=screen)
    if not raw:
        pump.run()
        return
    import termios
    import tty

    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        pump.run()
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
