"""docs/rkt.md: each flag that it calls the same is one that the command takes."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import click
import pytest

from pyrkt.cli import flags as tables
from pyrkt.cli.main import COMMANDS

GUIDE = Path(__file__).parents[3] / "docs/rkt.md"
HAND = {
    "fetch": tables.FETCH,
    "run": tables.RUN,
    "prepare": tables.PREPARE,
    "run-prepared": tables.RUN_PREPARED,
    "enter": tables.ENTER,
}
_FLAG = re.compile(r"`--([a-z-]+)`")


def sections() -> dict[str, list[list[str]]]:
    """Return the tables of the commands: command -> (rkt's flag, ours)."""
    text = GUIDE.read_text().partition("## Command by command")[2].partition("\n## ")[0]
    found: dict[str, list[list[str]]] = {}
    for part in text.split("\n### ")[1:]:
        title, _, body = part.partition("\n")
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in body.splitlines() if line.startswith("| ")]
        found[title.strip("`")] = [row for row in rows if row[0] != "rkt"]
    return found


def accepted(command: str) -> set[str]:
    """Return the names of the flags that a command takes."""
    if command in HAND:
        return {word for flag in (*HAND[command], *tables.GLOBAL) for word in (flag.name, *flag.aliases)}
    entry = COMMANDS[command]
    found = getattr(import_module(entry.module), entry.attribute)
    assert isinstance(found, click.Command)
    return {opt.lstrip("-") for param in found.params for opt in (*param.opts, *param.secondary_opts)}


COMMANDS_OF_RKT = [name for name in sections() if name != "The others"]


@pytest.mark.parametrize("command", COMMANDS_OF_RKT)
def test_what_is_called_the_same_is_there(command: str) -> None:
    assert command in COMMANDS
    said = [row[0] for row in sections()[command] if row[1].startswith(("same", "accepted"))]
    flags = {flag for cell in said for flag in _FLAG.findall(cell)}
    assert flags - accepted(command) == set()


@pytest.mark.parametrize("command", COMMANDS_OF_RKT)
def test_what_is_called_ours_is_there(command: str) -> None:
    rows = [row for row in sections()[command] if not row[0]]
    for row in rows:
        assert set(_FLAG.findall(row[1])) - accepted(command) == set()


def test_the_guide_knows_every_command_of_rkts() -> None:
    rkts = {
        *("fetch", "run", "prepare", "run-prepared", "enter", "attach", "list", "status", "stop", "rm", "gc"),
        *("cat-manifest", "export", "trust", "image list", "image rm", "image gc", "image cat-manifest"),
        *("image export", "image extract", "image render", "image verify"),
    }
    assert rkts <= set(sections())
    for name in ("config", "version", "metadata-service", "api-service", "app sandbox"):
        assert f"`{name}" in GUIDE.read_text()
