"""Commands on pods that exist: list, status, stop, rm, gc, cat-manifest, export."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyrkt.base.errors import Busy, NotFound, PyrktError, UsageError
from pyrkt.base.log import note, warn
from pyrkt.cli import show
from pyrkt.cli.clicks import format_option, pass_settings
from pyrkt.pod import lifecycle, replay
from pyrkt.pod import status as states
from pyrkt.pod.directory import Pod, Pods

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrkt.cli.settings import Settings

    Decorated = Callable[..., object]

_COLUMNS = ("UUID", "APP", "IMAGE NAME", "STATE", "CREATED", "STARTED", "NETWORKS")
_COLUMNS_FULL = ("UUID", "APP", "IMAGE NAME", "IMAGE ID", "STATE", "CREATED", "STARTED", "NETWORKS")

uuid_file = click.option("--uuid-file", type=click.Path(dir_okay=False), help="Read the UUID from this file.")


class _Duration(click.ParamType[float]):
    """Seconds, or a number with a unit: 90, 30s, 10m, 24h."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float | int):
            return float(value)
        text = str(value)
        number, unit = (text[:-1], text[-1]) if text[-1:] in ("s", "m", "h") else (text, "s")
        try:
            seconds = float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < float("inf"):
            self.fail(f"{text!r} is not a time; write 90, 30s, 10m or 24h", param, ctx)
        return seconds


class _Wait(_Duration):
    """A duration, "true" (for ever) or "false" (not at all)."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        words = {"true": float("inf"), "false": 0.0}
        return words[value] if isinstance(value, str) and value in words else super().convert(value, param, ctx)


class _Waiting(click.Command):
    """A command whose --wait has a value only after "=", so that ``--wait UUID`` means what it looks like."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give a bare --wait or --wait-ready its value."""
        bare = ("--wait", "--wait-ready")
        return super().parse_args(ctx, [f"{word}=true" if word in bare else word for word in args])


DURATION = _Duration()
_WAIT = _Wait()


def chosen(settings: Settings, uuids: tuple[str, ...], file: str | None) -> list[str]:
    """Return the UUIDs that a command was given, on the line or in a file. Raises: UsageError if there is none."""
    if file is None:
        if not uuids:
            raise UsageError("which pod?", hint="give a UUID, the beginning of one, or a name; pyrkt list shows them")
        return list(uuids)
    if uuids:
        raise UsageError("a UUID and --uuid-file exclude each other", hint="give one of them")
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            return [opened.read(256).strip()]
    except FileNotFoundError:
        raise NotFound(f"--uuid-file {file}: no such file", hint=f"the data directory is {settings.data}") from None


def one(settings: Settings, uuid: str | None, file: str | None) -> Pod:
    """Return the one pod that a command was given."""
    (text,) = chosen(settings, (uuid,) if uuid is not None else (), file)
    return Pods(settings.data).find(text)


@click.command()
@click.option("--full", is_flag=True, help="Whole UUIDs and times, and image ids.")
@click.option("--no-legend", is_flag=True, help="Leave out the heading.")
@format_option
@pass_settings
def list_pods(settings: Settings, full: bool, no_legend: bool, form: str) -> None:
    """List the pods."""
    found = [states.status(pod) for pod in Pods(settings.data).each()]
    found.sort(key=lambda pod: (pod.created, pod.uuid))
    if form != "table":
        show.out(show.as_json([states.as_json(pod) for pod in found], form))
        return
    rows = [row for pod in found for row in _rows(pod, full=full)]
    show.out(show.table(_COLUMNS_FULL if full else _COLUMNS, rows, legend=not no_legend))


def _rows(pod: states.Status, *, full: bool) -> list[list[str]]:
    """Return a row an app; the cells of the pod are blank after the first."""
    now = None if full else time.time()
    rows: list[list[str]] = []
    for app in pod.apps or (states.AppStatus(name="-"),):
        first = not rows
        row = [pod.uuid if full else pod.uuid[:8], app.name, app.image_name]
        row += [app.image_id[:19]] if full else []
        row += [pod.state, show.moment(pod.created, now=now), show.moment(pod.started, now=now), pod.networks_text()]
        shared = {0, len(row) - 4, len(row) - 3, len(row) - 2, len(row) - 1}
        rows.append(row if first else ["" if column in shared else cell for column, cell in enumerate(row)])
    return rows


@click.command(cls=_Waiting)
@click.argument("uuid", required=False)
@click.option(
    "--wait",
    type=_WAIT,
    default=0.0,
    metavar="[=BOOL|TIME]",
    help="Wait until it has ended, for ever or for TIME at most.",
)
@click.option(
    "--wait-ready",
    "ready",
    type=_WAIT,
    default=0.0,
    metavar="[=BOOL|TIME]",
    help="Wait until all its apps run; exits with 75 if TIME passes before, or it ends.",
)
@uuid_file
@format_option
@pass_settings
def status(
    settings: Settings, uuid: str | None, wait: float, ready: float, uuid_file: str | None, form: str
) -> int | None:
    """Show the state of the pod UUID."""
    from pyrkt.pod import wait as waiting

    pods, pod, reached = Pods(settings.data), one(settings, uuid, uuid_file), True
    if ready:
        pod, reached = waiting.until_ready(pods, pod, ready)
    if wait:
        pod = waiting.until_ended(pods, pod, wait)
    found = states.status(pod)
    if form == "table":
        show.out(show.pairs(_status_pairs(found)))
    else:
        show.out(show.as_json(_with_isolators(pod, states.as_json(found)), form))
    return None if reached else Busy.exit_code


def _with_isolators(pod: Pod, value: dict[str, Any]) -> dict[str, Any]:
    """Add what became of each isolator, of the pod and of its apps, where there is any."""
    judged = states.isolators(pod)
    apps = [
        app | ({"isolators": judged["apps"][app["name"]]} if judged["apps"].get(app["name"]) else {})
        for app in value.get("apps", [])
    ]
    return value | {"apps": apps} | ({"isolators": judged["pod"]} if judged["pod"] else {})


def _status_pairs(found: states.Status) -> list[tuple[str, object]]:
    """Return what rkt's status prints, in its order; our own "restarts-APP" and "name" come last."""
    pairs: list[tuple[str, object]] = [("state", found.state), ("created", show.moment(found.created))]
    pairs += [("started", show.moment(found.started))] if found.started else []
    if found.state in ("running", "exited"):
        pairs.append(("networks", found.networks_text()))
    if found.state == "running" or found.has_ended:
        pairs += [("pid", found.pid)] if found.pid else []
        pairs.append(("exited", found.has_ended))
    pairs += [(f"app-{app.name}", app.exit_code) for app in found.apps if app.exit_code is not None]
    pairs += [(f"restarts-{app.name}", app.restarts) for app in found.apps if app.restarts]
    pairs += [("stage1", found.flavour)] if found.flavour != "native" else []
    return pairs + ([("name", found.name)] if found.name else [])


@click.command()
@click.argument("uuids", nargs=-1)
@click.option("--force", is_flag=True, help="Kill it at once.")
@click.option("--grace", type=DURATION, default=lifecycle.STOP_S, show_default=True, help="Time before it is killed.")
@uuid_file
@pass_settings
def stop(settings: Settings, uuids: tuple[str, ...], force: bool, grace: float, uuid_file: str | None) -> None:
    """Stop the pods UUIDS: SIGTERM, and SIGKILL after the grace time."""

    def one_pod(text: str) -> None:
        pod = Pods(settings.data).find(text)
        if lifecycle.stop(pod, grace=grace, force=force):
            show.out(f'"{pod.uuid}"\n')
        else:
            note(f"pod {pod.uuid} has already stopped")

    _each(chosen(settings, uuids, uuid_file), "stop", one_pod)


@click.command()
@click.argument("uuids", nargs=-1)
@click.option("--force", is_flag=True, help="Kill those that run.")
@uuid_file
@pass_settings
def remove(settings: Settings, uuids: tuple[str, ...], force: bool, uuid_file: str | None) -> None:
    """Remove the pods UUIDS, which must have ended or never run."""
    pods = Pods(settings.data)

    def one_pod(text: str) -> None:
        pod = pods.find(text)
        if force and pod.state() == "running":
            lifecycle.stop(pod, force=True)
        lifecycle.remove(pods, pod)
        show.out(f'"{pod.uuid}"\n')

    _each(chosen(settings, uuids, uuid_file), "remove", one_pod)


def _each(texts: list[str], verb: str, deed: Callable[[str], None]) -> None:
    """Do ``deed`` to each; one that fails does not keep the others from it."""
    errors: list[PyrktError] = []
    for text in texts:
        try:
            deed(text)
        except PyrktError as error:
            errors.append(error)
    if errors and len(texts) > 1:
        errors[-1].add_note(f"failed to {verb} {len(errors)} pod(s)")
    lifecycle.failures(errors)


@click.command()
@click.option(
    "--grace-period",
    type=DURATION,
    default=lifecycle.GRACE_S,
    show_default="30m",
    help="Time that an ended pod is kept.",
)
@click.option(
    "--expire-prepared",
    type=DURATION,
    default=lifecycle.EXPIRE_PREPARED_S,
    show_default="24h",
    help="Time that a prepared pod is kept.",
)
@click.option("--mark-only", is_flag=True, help="Move pods to garbage, remove none.")
@pass_settings
def collect(settings: Settings, grace_period: float, expire_prepared: float, mark_only: bool) -> None:
    """Remove what pods left behind."""
    pods = Pods(settings.data)
    steps = lifecycle.plan(
        pods, grace=grace_period, expire_prepared=expire_prepared, mark_only=mark_only, now=time.time()
    )
    errors: list[PyrktError] = []
    for step in steps:
        try:
            if lifecycle.carry_out(pods, step):
                show.out(f"{step}\n")
        except PyrktError as error:
            errors.append(error)
        except OSError as error:
            # One pod that cannot be removed (a busy mount, a broken disk) keeps none of the others.
            warn(f"pod {step.pod.uuid}: {error}")
    replay.sweep(pods)
    lifecycle.failures(errors)


@click.command()
@click.argument("uuid", required=False)
@click.option("--pretty-print/--no-pretty-print", default=True, show_default=True, help="Indent it.")
@uuid_file
@pass_settings
def cat_manifest(settings: Settings, uuid: str | None, pretty_print: bool, uuid_file: str | None) -> None:
    """Print the manifest of the pod UUID."""
    manifest = states.manifest(one(settings, uuid, uuid_file))
    show.out(show.as_json(manifest, "json-pretty" if pretty_print else "json"))


@click.command()
@click.argument("uuid")
@click.argument("target", metavar="FILE.aci|DIR")
@click.option("--bundle", is_flag=True, help="Write a bundle: config.json, runtime.json and rootfs/, to the new DIR.")
@click.option("--app", default="", metavar="NAME", help="Which app; needed if the pod has several.")
@click.option("--overwrite", is_flag=True, help="Replace FILE.aci if it exists.")
@pass_settings
def export(settings: Settings, uuid: str, target: str, bundle: bool, app: str, overwrite: bool) -> None:
    """Write an app of the pod UUID, which has ended, with what it changed: as an image FILE.aci."""
    from pyrkt.pod.export import export_aci, export_bundle

    pods = Pods(settings.data)
    pod = pods.find(uuid)
    if bundle:
        export_bundle(pods, pod, target, app)
        return
    for remark in export_aci(pods, settings.data, pod, Path(target), app=app, overwrite=overwrite):
        warn(remark)
