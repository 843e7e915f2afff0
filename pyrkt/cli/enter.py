"""``pyrkt enter`` and ``pyrkt exec``: another process in an app of a running pod."""

from __future__ import annotations

import os
import sys

from pyrkt.base.errors import UsageError
from pyrkt.cli import flags as tables
from pyrkt.cli.grammar import leading
from pyrkt.cli.settings import settle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrkt.cli.grammar import Value

_USAGE = "[flags] UUID [COMMAND [ARGUMENT...]]"
_ENTER = (
    "Run COMMAND (a shell, if there is none) in an app of a running pod, as root there; confined as the app is: its\n"
    "namespaces, cgroups, capabilities, system call filter, limits and environment. Ends with the command's code."
)
_EXEC = (
    "Run COMMAND in an app of a running pod, as the app's own user, confined as the app is: its namespaces, cgroups,\n"
    "capabilities, system call filter, limits and environment. Ends with the command's code."
)


def enter(words: list[str], flags: Mapping[str, Value]) -> int:
    """Run a command in an app as root, as rkt's enter does."""
    return _run("enter", _ENTER, "root", words, flags)


def run_in(words: list[str], flags: Mapping[str, Value]) -> int:
    """Run a command in an app as the app's own user, as other engines' exec does."""
    return _run("exec", _EXEC, "", words, flags)


def _run(name: str, text: str, user: str, words: list[str], flags: Mapping[str, Value]) -> int:
    given, rest = leading(words, (*tables.ENTER, *tables.GLOBAL))
    if given.get("help") is True:
        sys.stdout.write(tables.describe(name, _USAGE, text, tables.ENTER))
        return 0
    if not rest:
        raise UsageError("which pod?", hint=f"pyrkt {name} UUID; pyrkt list shows them")
    settings = settle({**flags, **given})
    uuid, *command = rest
    command = command[1:] if command[:1] == ["--"] else command
    detach = given.get("detach") is True
    if detach and not command:
        raise UsageError("--detach needs a command", hint=f"pyrkt {name} -d {uuid} COMMAND")
    terminal = _terminal(given.get("tty"), detach=detach)

    from pyrkt.pod.directory import Pods
    from pyrkt.pod.enter import Wish
    from pyrkt.pod.enter import enter as enter_pod

    pod = Pods(settings.data).find(uuid)
    wish = Wish(
        command=tuple(command),
        user=_text(given, "user") or user,
        cwd=_cwd(_text(given, "cwd")),
        env=(*_term(terminal=terminal), *_variables(given.get("env"))),
        terminal=terminal,
        detach=detach,
    )
    sys.stdout.flush()
    return enter_pod(pod, _text(given, "app"), wish)


def _text(given: Mapping[str, Value], name: str) -> str:
    value = given.get(name, "")
    return value if isinstance(value, str) else ""


def _terminal(asked: Value | None, *, detach: bool) -> bool:
    """Tell whether the command gets a terminal: as asked, else if there is one to relay to and from."""
    if detach:
        if asked is True:
            raise UsageError("--detach leaves the terminal that --tty asks for", hint="give one of the two")
        return False
    return os.isatty(0) and os.isatty(1) if asked is None else asked is True


def _term(*, terminal: bool) -> tuple[str, ...]:
    """Return TERM of the caller, whose terminal it is, as rkt hands it on."""
    name = os.environ.get("TERM") or ("xterm" if terminal else "")
    return (f"TERM={name}",) if name else ()


def _cwd(text: str) -> str:
    if text and not text.startswith("/"):
        raise UsageError(f"--cwd {text}: must be an absolute path in the app", hint=f"--cwd=/{text}")
    return text


def _variables(given: Value | None) -> tuple[str, ...]:
    texts = tuple(given) if isinstance(given, list) else ()
    for text in texts:
        if not text.partition("=")[0] or "=" not in text:
            raise UsageError(f"--env {text}: no variable", hint="write it as NAME=VALUE")
    return texts
