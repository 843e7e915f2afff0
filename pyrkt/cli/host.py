"""Commands on pyrkt and its host: version, config, doctor."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from pyrkt.base import fastjson
from pyrkt.base.errors import InvalidSpec
from pyrkt.cli import show
from pyrkt.cli.clicks import format_option, pass_settings

if TYPE_CHECKING:
    from typing import Any

    from pyrkt.cli.settings import Settings

_KINDS = ("auth.d", "paths.d", "measurements.d", "stage1.d")


@click.command()
@format_option
@pass_settings
def version(settings: Settings, form: str) -> None:
    """Print versions: of pyrkt, of the specifications it follows, and of what it runs on."""
    from pyrkt import __version__
    from pyrkt.spec.appc import AC_VERSION
    from pyrkt.spec.runtime import SPEC_VERSION

    values = {
        "pyrkt": __version__,
        "appc": AC_VERSION,
        "runtime-spec": SPEC_VERSION,
        "python": sys.version.split()[0],
        "kernel": os.uname().release,
        "data": settings.data,
    }
    show.out(show.pairs(values.items()) if form == "table" else show.as_json(values, form))


@click.command()
@pass_settings
def config(settings: Settings) -> None:
    """Print the configuration as it is merged, without secrets."""
    entries: dict[tuple[str, str], dict[str, Any]] = {}
    for directory in settings.dirs.lightest_first():
        for kind in _KINDS:
            for path, document in _documents(f"{directory}/{kind}"):
                for key, entry in _entries(document):
                    entries[key] = entry | {"file": path}
    value = {
        "stage0": list(entries.values()),
        "dirs": {"system": settings.dirs.system, "local": settings.dirs.local, "user": settings.dirs.user},
        "data": settings.data,
    }
    show.out(fastjson.pretty(value))


def _documents(directory: str) -> list[tuple[str, dict[str, Any]]]:
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(".json"))
    except OSError:
        return []
    found = []
    for name in names:
        path = f"{directory}/{name}"
        with open(path, "rb") as file:
            document = fastjson.loads(file.read(), path)
        if not isinstance(document, dict):
            raise InvalidSpec("not an object", document=path)
        found.append((path, document))
    return found


def _entries(document: dict[str, Any]) -> list[tuple[tuple[str, str], dict[str, Any]]]:
    """Split a file into what overrides separately: one domain, one registry, one path."""
    kind = str(document.get("rktKind", ""))
    shown = {key: "***" if key in ("credentials", "user", "password") else value for key, value in document.items()}
    for plural in ("domains", "registries"):
        names = document.get(plural)
        if isinstance(names, list):
            return [((kind, str(name)), shown | {plural: [name]}) for name in names]
    return [((kind, ""), shown)]


@click.command()
@format_option
@pass_settings
def doctor(settings: Settings, form: str) -> int:
    """Say what this host can and cannot do, and the remedy for each lack. Exits with 1 if something is missing."""
    from pyrkt.cli.doctor import examine

    facts = list(examine(settings))
    if form != "table":
        values = [{"name": f.name, "verdict": f.verdict, "detail": f.detail, "remedy": f.remedy} for f in facts]
        show.out(show.as_json(values, form))
    else:
        rows = [(fact.verdict, fact.name, fact.detail, fact.remedy) for fact in facts]
        show.out(show.table(("VERDICT", "WHAT", "DETAIL", "REMEDY"), rows))
    return int(any(fact.verdict == "missing" for fact in facts))
