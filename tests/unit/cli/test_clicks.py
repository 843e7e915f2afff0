"""Commands of click: switches are written as rkt's may be."""

from __future__ import annotations

import click
import pytest

from pyrkt.base.errors import UsageError
from pyrkt.cli.clicks import invoke


@click.command()
@click.option("--full", is_flag=True)
@click.option("--pretty/--no-pretty", default=True)
@click.option("--word")
@click.argument("rest", nargs=-1)
def command(full: bool, pretty: bool, word: str, rest: tuple[str, ...]) -> None:
    click.echo(f"{full} {pretty} {word} {' '.join(rest)}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--full=true", "x"], "True True None x"),
        (["--full=false"], "False True None"),
        (["--pretty=false", "--word=true"], "False False true"),
        (["--pretty=true"], "False True None"),
        (["--", "--full=true"], "False True None --full=true"),
    ],
)
def test_switches_take_a_value(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    invoke(command, "pyrkt x", words, {})
    assert capsys.readouterr().out.strip() == said


def test_a_value_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="neither true nor false"):
        invoke(command, "pyrkt x", ["--full=maybe"], {})
