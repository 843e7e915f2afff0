"""Command lines as runc reads them: flags with one dash or two, in any order, and the help text made from them.

Hand-written because argparse takes 6 ms, as long as the whole of ``state``. Engines parse the complaints: the texts
are those of Go's ``flag`` package.
"""

from __future__ import annotations

import os

from pyrkt.base.errors import UsageError
from pyrkt.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

SWITCH, TEXT, NUMBER, TEXTS = "switch", "text", "number", "texts"
_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")
_MAX_NUMBER = 1 << 63


class Flag(Record):
    """One flag: ``names`` long first, ``kind`` of its value, ``help`` for people, ``default`` where it is not given."""

    names: tuple[str, ...]
    kind: str
    help: str
    default: str = ""


def flag(names: str, kind: str, help_text: str, default: str = "") -> Flag:
    """Return a Flag; ``names`` are separated by blanks."""
    return Flag(names=tuple(names.split()), kind=kind, help=help_text, default=default)


class Verb(Record):
    """A command: ``arguments`` is its synopsis, ``least`` and ``most`` (-1: any) how many it takes.

    With ``ordered`` the first argument ends the flags: what follows belongs to somebody else's command line.
    """

    name: str
    summary: str
    arguments: str = "<container-id>"
    least: int = 1
    most: int = 1
    flags: tuple[Flag, ...] = ()
    ordered: bool = False
    about: str = ""


class HelpWanted(Exception):
    """-h or --help is among the flags."""


def _defaults(flags: Sequence[Flag]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for known in flags:
        kind = known.kind
        if kind == SWITCH:
            values[known.names[0]] = False
        elif kind == TEXTS:
            values[known.names[0]] = []
        else:
            values[known.names[0]] = int(known.default or 0) if kind == NUMBER else known.default
    return values


def parse(flags: Sequence[Flag], words: Sequence[str], *, ordered: bool) -> tuple[dict[str, Any], list[str]]:
    """Return (value of each flag by its long name, the arguments).

    Raises: UsageError with Go's words; HelpWanted.
    """
    values = _defaults(flags)
    known = {name: entry for entry in flags for name in entry.names}
    arguments: list[str] = []
    rest = list(words)
    rest.reverse()
    while rest:
        word = rest.pop()
        if word == "--":
            arguments += reversed(rest)
            break
        if len(word) < 2 or word[0] != "-":
            arguments.append(word)
            if ordered:
                arguments += reversed(rest)
                break
            continue
        name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
        if name in {"h", "help"}:
            raise HelpWanted
        if name not in known:
            raise UsageError(f"flag provided but not defined: -{name}")
        entry = known[name]
        if entry.kind != SWITCH and not equals:
            if not rest:
                raise UsageError(f"flag needs an argument: -{name}")
            value = rest.pop()
        _put(values, entry, name, value if equals or entry.kind != SWITCH else "true")
    return values, arguments


def _put(values: dict[str, Any], entry: Flag, name: str, text: str) -> None:
    place = entry.names[0]
    if entry.kind == TEXTS:
        values[place].append(text)
    elif entry.kind == NUMBER:
        values[place] = _number(text, name)
    elif entry.kind == SWITCH:
        if text not in _TRUE + _FALSE:
            raise UsageError(f'invalid boolean value "{text}" for -{name}: parse error')
        values[place] = text in _TRUE
    else:
        values[place] = text


def _number(text: str, name: str) -> int:
    """Return an integer of Go's: a sign, then decimal, or 0x, 0o, 0b and digits."""
    try:
        if not text.isascii() or text.strip() != text:
            raise ValueError
        number = int(text, 0)
    except ValueError:
        raise UsageError(f'invalid value "{text}" for flag -{name}: parse error') from None
    if not -_MAX_NUMBER <= number < _MAX_NUMBER:
        raise UsageError(f'invalid value "{text}" for flag -{name}: value out of range')
    return number


def one_of(text: str) -> bool | None:
    """Return what a word of strconv.ParseBool means; None for any other."""
    return True if text in _TRUE else False if text in _FALSE else None


def check_count(verb: Verb, arguments: Sequence[str], program: str) -> None:
    """Refuse too few or too many arguments, in runc's words."""
    if verb.least == verb.most and len(arguments) != verb.least:
        raise UsageError(f'{program}: "{verb.name}" requires exactly {verb.least} argument(s)')
    if len(arguments) < verb.least:
        raise UsageError(f'{program}: "{verb.name}" requires a minimum of {verb.least} argument(s)')
    if 0 <= verb.most < len(arguments):
        raise UsageError(f'{program}: "{verb.name}" requires a maximum of {verb.most} argument(s)')


def _rows(flags: Sequence[Flag]) -> list[str]:
    left = []
    for entry in flags:
        value = "" if entry.kind == SWITCH else " value"
        left.append(", ".join(("--" if len(name) > 1 else "-") + name + value for name in entry.names))
    width = max(len(text) for text in left)
    rows = []
    for text, entry in zip(left, flags, strict=True):
        default = f' (default: "{entry.default}")' if entry.kind == TEXT and entry.default else ""
        default = f" (default: {entry.default or 0})" if entry.kind == NUMBER else default
        rows.append(f"   {text.ljust(width)}  {entry.help}{default}")
    return rows


def help_of(verb: Verb, program: str) -> str:
    """Return what ``VERB --help`` shows."""
    options = " [command options]" if verb.flags else ""
    lines = ["NAME:", f"   {program} {verb.name} - {verb.summary}", "", "USAGE:"]
    lines.append(f"   {program} {verb.name}{options} {verb.arguments}".rstrip())
    if verb.about:
        lines += ["", "DESCRIPTION:", *(f"   {line}".rstrip() for line in verb.about.splitlines())]
    if verb.flags:
        lines += ["", "OPTIONS:", *_rows(verb.flags)]
    return "\n".join(lines) + "\n"


def help_of_all(verbs: Sequence[tuple[str, str]], flags: Sequence[Flag], program: str, version: str) -> str:
    """Return what ``--help`` shows: ``verbs`` are (name, summary)."""
    width = max(7, *(len(name) for name, _ in verbs))
    lines = [
        "NAME:",
        f"   {program} - Open Container Initiative runtime",
        "",
        "   Runs a container from a bundle: a directory with a config.json and a root file system.",
        f'   "{program} spec" writes a config.json to start from, "{program} run -b BUNDLE ID" runs it.',
        "",
        "USAGE:",
        f"   {program} [global options] command [command options] [arguments...]",
        "",
        "VERSION:",
        f"   {version}",
        "",
        "COMMANDS:",
        *(f"   {name.ljust(width)}  {summary}" for name, summary in (*verbs, ("help, h", "show the commands, or one"))),
        "",
        "GLOBAL OPTIONS:",
        *_rows(flags),
    ]
    return "\n".join(lines) + "\n"


def say(text: str) -> None:
    """Write an answer to standard output; somebody who has stopped listening is no error."""
    data = text.encode("utf-8", "surrogateescape")
    try:
        while data:
            data = data[os.write(1, data) :]
    except BrokenPipeError:
        pass
