"""``pyrkt top`` and ``pyrkt stats``: what pods use, once or again and again; ``pyrkt ps``: their processes."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import click

from pyrkt.base.errors import NotFound
from pyrkt.base.units import human_bytes
from pyrkt.cgroup import host as cgroup_host
from pyrkt.cli import show
from pyrkt.cli.clicks import format_option, pass_settings
from pyrkt.cli.pods import DURATION, one, uuid_file
from pyrkt.pod import processes, stats
from pyrkt.pod.directory import Pod, Pods

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrkt.cli.settings import Settings
    from pyrkt.pod.stats import Sample, Use

    Row = tuple[Sample, Use, float | None]

_COLUMNS = (
    *("POD", "APP", "CPU %", "MEMORY", "LIMIT", "PIDS", "READ", "WRITTEN"),
    *("CPU WAIT %", "MEM WAIT %", "IO WAIT %"),
)
_ONCE_S = 0.2
"""Between the two looks that a share of a processor takes."""
_HOME, _CLEAR_LINE, _CLEAR_BELOW, _HIDE, _SHOW = "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[?25l", "\x1b[?25h"
_SORTS: dict[str, Callable[[Row], object]] = {
    "cpu": lambda row: -(row[2] or 0.0),
    "memory": lambda row: -(row[1].memory or 0),
    "pids": lambda row: -(row[1].pids or 0),
    "name": lambda row: (row[0].name or row[0].uuid, row[1].name),
}


class _Watch:
    """The running pods among those named (all, if none is), looked at again and again."""

    def __init__(self, settings: Settings, texts: tuple[str, ...]) -> None:
        self._pods = Pods(settings.data)
        self._mounts = cgroup_host.parse(
            cgroup_host.read_text("/proc/self/mountinfo"), cgroup_host.read_text("/proc/self/cgroup")
        )
        self._named = [self._pods.find(text) for text in texts]
        for pod in self._named:
            if pod.state() != "running":
                raise NotFound(f"pod {pod.uuid} is not running but {pod.state()}", hint="pyrkt list shows the states")
        self._before: dict[str, Sample] = {}

    def look(self) -> list[tuple[Sample, Sample | None]]:
        """Return what each pod uses now, and what it had used at the last look."""
        pods: list[Pod] = self._named or list(self._pods.each())
        found = [stats.sample(pod, self._mounts) for pod in pods if pod.state() == "running"]
        pairs = [(now, self._before.get(now.uuid)) for now in found]
        self._before = {now.uuid: now for now in found}
        return pairs

    def is_over(self, found: list[tuple[Sample, Sample | None]]) -> bool:
        """Tell whether nothing is to be seen any more: all pods that were named have ended."""
        return bool(self._named) and not found


def _rows(found: list[tuple[Sample, Sample | None]], sort: str) -> list[list[str]]:
    rows: list[Row] = []
    for now, before in found:
        shares = now.shares(before)
        # Of a pod of several apps, the whole as well.
        parts = (now.whole, *now.apps) if len(now.apps) > 1 else now.apps or (now.whole,)
        rows += [(now, use, shares.get(use.name)) for use in parts]
    rows.sort(key=_SORTS[sort])  # type: ignore[arg-type]  # each key compares with itself
    return [_cells(*row) for row in rows]


def _cells(pod: Sample, use: Use, share: float | None) -> list[str]:
    def size(count: int | None) -> str:
        return "-" if count is None else human_bytes(count)

    return [
        pod.name or pod.uuid[:8],
        use.name or "(all)",
        "-" if share is None else f"{share:.1f}",
        size(use.memory),
        size(use.limit),
        "-" if use.pids is None else f"{use.pids}" + (f"/{use.pids_limit}" if use.pids_limit else ""),
        size(use.read),
        size(use.written),
        *(f"{use.pressure[kind]:.1f}" if kind in use.pressure else "-" for kind in stats.PRESSURES),
    ]


def _table(found: list[tuple[Sample, Sample | None]], sort: str, *, legend: bool) -> str:
    return show.table(_COLUMNS, _rows(found, sort), legend=legend)


def _answer(found: list[tuple[Sample, Sample | None]], form: str, sort: str, *, legend: bool) -> str:
    if form == "table":
        return _table(found, sort, legend=legend)
    return show.as_json([stats.as_json(now, before) for now, before in found], form)


def _live(watch: _Watch, interval: float, sort: str) -> None:
    """Show a table over the whole screen until an interrupt, or until all pods that were named have ended."""
    sys.stdout.write(_HIDE + _HOME + _CLEAR_BELOW)
    try:
        found = watch.look()
        time.sleep(min(_ONCE_S, interval))
        while not watch.is_over(found):
            found = watch.look()
            sys.stdout.write(_screen(_table(found, sort, legend=True)))
            sys.stdout.flush()
            time.sleep(interval)
    except KeyboardInterrupt:
        pass  # how one leaves it
    finally:
        sys.stdout.write(_SHOW)
        sys.stdout.flush()


def _screen(table: str) -> str:
    """Return ``table`` over what is on the screen, cut to its size: a line too long would push the others about."""
    try:
        columns, lines = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        columns, lines = 80, 24
    shown = table.splitlines()[: max(lines - 1, 1)] if lines else table.splitlines()
    return _HOME + "".join(f"{line[: columns or 80]}{_CLEAR_LINE}\n" for line in shown) + _CLEAR_BELOW


def _once(watch: _Watch, form: str, sort: str, *, legend: bool) -> None:
    watch.look()
    time.sleep(_ONCE_S)
    show.out(_answer(watch.look(), form, sort, legend=legend))


interval_option = click.option("--interval", type=DURATION, default=1.0, show_default="1s", help="Time between looks.")
sort_option = click.option("--sort", type=click.Choice(list(_SORTS)), default="cpu", show_default=True, help="Order.")
no_stream = click.option("--no-stream", is_flag=True, help="Once only.")
no_legend = click.option("--no-legend", is_flag=True, help="Leave out the heading.")


@click.command()
@click.argument("uuids", nargs=-1)
@interval_option
@sort_option
@no_stream
@no_legend
@pass_settings
def top(
    settings: Settings, uuids: tuple[str, ...], interval: float, sort: str, no_stream: bool, no_legend: bool
) -> None:
    """Show what the pods UUIDS (all, if none is named) use, again and again; an interrupt ends it.

    The share of the processors is of one: two that are busy are 200. The last columns are the share of the last ten
    seconds in which something waited (PSI). Once only, if the output is no terminal.
    """
    watch = _Watch(settings, uuids)
    if no_stream or not sys.stdout.isatty():
        _once(watch, "table", sort, legend=not no_legend)
    else:
        _live(watch, max(interval, 0.05), sort)


@click.command()
@click.argument("uuids", nargs=-1)
@interval_option
@sort_option
@no_stream
@no_legend
@format_option
@pass_settings
def show_stats(
    settings: Settings, uuids: tuple[str, ...], interval: float, sort: str, no_stream: bool, no_legend: bool, form: str
) -> None:
    """Print what the pods UUIDS (all, if none is named) use, again and again until they have ended.

    JSON has one array a look: bytes, nanoseconds, and percent of one processor.
    """
    watch = _Watch(settings, uuids)
    if no_stream:
        _once(watch, form, sort, legend=not no_legend)
        return
    found = watch.look()
    time.sleep(min(_ONCE_S, interval))
    while not watch.is_over(found):
        found = watch.look()
        show.out(_answer(found, form, sort, legend=not no_legend))
        sys.stdout.flush()
        time.sleep(max(interval, 0.05))


@click.command()
@click.argument("uuid", required=False)
@click.option("--app", default="", metavar="NAME", help="Of this app alone.")
@no_legend
@uuid_file
@format_option
@pass_settings
def ps(settings: Settings, uuid: str | None, app: str, no_legend: bool, uuid_file: str | None, form: str) -> None:
    """Show the processes of the pod UUID: each with its number on the host and in the pod."""
    pod = one(settings, uuid, uuid_file)
    if pod.state() != "running":
        raise NotFound(f"pod {pod.uuid} is not running but {pod.state()}", hint="pyrkt list shows the states")
    found = [process for process in processes.of(pod) if app in ("", process.app)]
    if form != "table":
        show.out(show.as_json([processes.as_json(process) for process in found], form))
        return
    rows = [(p.app or "-", str(p.pid), str(p.inside), str(p.uid), p.state, p.command) for p in found]
    show.out(show.table(("APP", "PID", "POD PID", "UID", "STATE", "COMMAND"), rows, legend=not no_legend))
