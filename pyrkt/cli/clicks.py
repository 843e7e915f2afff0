"""What the click commands share: how they are called, and their settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pyrkt.base.errors import UsageError
from pyrkt.cli.flags import GLOBAL
from pyrkt.cli.grammar import boolean, extract
from pyrkt.cli.settings import Settings, settle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyrkt.cli.grammar import Value

pass_settings = click.make_pass_decorator(Settings)

format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "json-pretty"]),
    default="table",
    show_default=True,
    help="How to print it.",
)


def _switches(command: click.Command, words: list[str]) -> Iterator[str]:
    """Yield ``words`` with ``--switch=true`` and ``--switch=false``, which rkt takes, in the form that click takes."""
    switches = {
        name: next(iter(parameter.secondary_opts), "")
        for parameter in command.params
        if isinstance(parameter, click.Option) and parameter.is_flag
        for name in parameter.opts
        if name.startswith("--")
    }
    for place, word in enumerate(words):
        if word == "--":
            yield from words[place:]
            return
        name, equals, value = word.partition("=")
        if not equals or name not in switches:
            yield word
        elif boolean(name, value):
            yield name
        elif switches[name]:
            yield switches[name]


def invoke(command: click.Command, name: str, words: list[str], flags: Mapping[str, Value]) -> int:
    """Run a click ``command``; global flags may stand among its ``words``. Returns its exit code."""
    more, rest = extract(words, GLOBAL)
    try:
        result = command.main(
            list(_switches(command, rest)), prog_name=name, standalone_mode=False, obj=settle({**flags, **more})
        )
    except click.UsageError as error:
        raise UsageError(error.format_message(), hint=f"{name} --help") from None
    except click.ClickException as error:
        raise UsageError(error.format_message()) from None
    except click.Abort:
        raise KeyboardInterrupt from None
    return result if isinstance(result, int) else 0
