"""``pyrkt measurements``: the measurement log of this host, checked and replayed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from pyrkt.base import fastjson
from pyrkt.base.errors import NotFound, NotTrusted
from pyrkt.base.log import note
from pyrkt.cli import show
from pyrkt.cli.clicks import pass_settings
from pyrkt.tpm import record, replay
from pyrkt.tpm.where import find

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyrkt.cli.settings import Settings
    from pyrkt.tpm.replay import Entry, Reading

_COLUMNS = ("NR", "POD", "EVENT", "APP", "WHAT")


@click.command()
@click.option(
    "--verify", is_flag=True, help="Check each record against its content, and their order; 78 if one is wrong."
)
@click.option("--replay", "replayed", is_flag=True, help="Print what the records make of the register, from zeros.")
@click.option("--format", "form", type=click.Choice(["table", "json", "cel"]), default="table", show_default=True,
              help="How to print it: cel is an array of the TCG's Canonical Event Log.")  # fmt: skip
@click.option(
    "--pod", default="", metavar="UUID", help="Only the records of this pod; the beginning of its UUID will do."
)
@click.option("--log", "path", type=click.Path(dir_okay=False), help="Read this file: a log of another host, or boot.")
@pass_settings
def measurements(settings: Settings, verify: bool, replayed: bool, form: str, pod: str, path: str | None) -> None:
    """Print what was launched on this host since it was booted, as it was measured."""
    reading = replay.read(path or find(settings.dirs).path, shared=path is None)
    wrong = replay.problems(reading)
    if form == "table" and (verify or replayed):
        if replayed:
            show.out(_registers(reading))
        if verify and not wrong:
            show.out(_verdict(reading))
    else:
        chosen = _of(reading.records(), pod)
        show.out({"table": _table, "json": lambda found: _json(reading, found, wrong), "cel": _cel}[form](chosen))
    if wrong and (verify or replayed):
        for problem in wrong[1:]:
            note(problem)
        raise NotTrusted(
            f"{reading.path}: {wrong[0]}", hint="compare it with a TPM's quote, or with an older copy of it"
        )


def _of(found: tuple[Entry, ...], pod: str) -> tuple[Entry, ...]:
    chosen = tuple(entry for entry in found if str(entry.content.get("pod", "")).startswith(pod))
    if pod and not chosen:
        raise NotFound(
            f"pod {pod!r} was not launched since the host was booted", hint="pyrkt measurements shows which were"
        )
    return chosen


def _table(found: tuple[Entry, ...]) -> str:
    return show.table(_COLUMNS, [_row(entry) for entry in found])


def _row(entry: Entry) -> list[str]:
    content = entry.content
    pod, app = str(content.get("pod", ""))[:8], str(content.get("app", ""))
    return [str((entry.value or {}).get("recnum", "")), pod, entry.event, app, _what(entry.event, content)]


def _what(event: str, content: dict[str, Any]) -> str:
    if event == record.IMAGE:
        signers = ", ".join(str(signer["fingerprint"])[-16:] for signer in content.get("signers", ()))
        return f"{str(content.get('id'))[:19]} {content.get('name')} {content.get('verdict')} {signers}".rstrip()
    words = [str(content[name]) for name in ("part", "flavour", "version", "torn") if name in content]
    return " ".join([*words, *([str(content["digest"])[:19]] if "digest" in content else [])])


def _json(reading: Reading, found: tuple[Entry, ...], wrong: list[str]) -> str:
    value = {
        "log": os.path.abspath(reading.path),
        "pcr": record.PCR,
        "registers": {name: value.hex() for name, value in replay.registers(reading.records()).items()},
        "interruptions": replay.interruptions(reading),
        "problems": wrong,
        "records": [entry.value for entry in found],
    }
    return fastjson.dumps(value) + "\n"


def _cel(found: Iterable[Entry]) -> str:
    return fastjson.dumps([entry.value for entry in found]) + "\n"


def _registers(reading: Reading) -> str:
    values = replay.registers(reading.records())
    return show.table(
        ("PCR", "BANK", "VALUE"), [[str(record.PCR), name, value.hex()] for name, value in values.items()]
    )


def _verdict(reading: Reading) -> str:
    found = reading.records()
    pods = {entry.content["pod"] for entry in found if "pod" in entry.content}
    text = f"{len(found)} records of {len(pods)} pods, each as its digests say, none missing\n"
    dead = replay.interruptions(reading)
    return f"{text}writers that died while they appended, and launched nothing: {dead}\n" if dead else text
