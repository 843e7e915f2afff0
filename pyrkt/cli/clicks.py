"""What the click commands share: how they are called, and their settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pyrkt.base.errors import UsageError
from pyrkt.cli.flags import GLOBAL
from pyrkt.cli.grammar import extract
from pyrkt.cli.settings import Settings, settle

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def invoke(command: click.Command, name: str, words: list[str], flags: Mapping[str, Value]) -> int:
    """Run a click ``command``; global flags may stand among its ``words``. Returns its exit code."""
    more, rest = extract(words, GLOBAL)
    try:
        result = command.main(rest, prog_name=name, standalone_mode=False, obj=settle({**flags, **more}))
    except click.UsageError as error:
        raise UsageError(error.format_message(), hint=f"{name} --help") from None
    except click.ClickException as error:
        raise UsageError(error.format_message()) from None
    except click.Abort:
        raise KeyboardInterrupt from None
    return result if isinstance(result, int) else 0
