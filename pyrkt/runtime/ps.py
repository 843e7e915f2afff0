"""``ps``: the processes of a container, as numbers or as the host's ps(1) shows them."""

from __future__ import annotations

import os

from pyrkt.base import fastjson
from pyrkt.base.errors import PyrktError, UsageError
from pyrkt.runtime import container as containers
from pyrkt.runtime import members, options
from pyrkt.runtime.options import TEXT, Verb, flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyrkt.runtime.main import Settings

VERB = Verb(
    name="ps",
    summary="show the processes of a container",
    arguments="<container-id> [ps options]",
    least=1,
    most=-1,
    flags=(flag("format f", TEXT, "select one of: table or json", "table"),),
    ordered=True,
)


def main(settings: Settings, values: dict[str, Any], arguments: list[str]) -> int:
    """Print the JSON array of process ids, or those lines of ps(1) that show one of them; none of one that stopped."""
    container = containers.load(settings.root, arguments[0])
    if values["format"] not in {"table", "json"}:
        raise UsageError("invalid format option")
    found = members.pids(container)
    if values["format"] == "json":
        options.say(fastjson.dumps(found or None) + "\n")
        return 0
    options.say(lines_of(_output(["ps", *(arguments[1:] or ["-ef"])]), found))
    return 0


def lines_of(text: str, pids: Sequence[int]) -> str:
    """Return the heading of ps(1)'s answer and the lines of ``pids``. Raises PyrktError if it has no PID column."""
    heading, *rows = text.splitlines()
    titles = heading.split()
    if "PID" not in titles:
        raise PyrktError("the output of ps has no column PID", hint="let the ps options show it: -ef, -o pid,args")
    column = titles.index("PID")
    wanted = {str(pid) for pid in pids}
    kept = [row for row in rows if len(row.split()) > column and row.split()[column] in wanted]
    return "\n".join([heading, *kept]) + "\n"


def _output(command: list[str]) -> str:
    """Return what ps(1) prints."""
    source, target = os.pipe2(os.O_CLOEXEC)
    try:
        both = [(os.POSIX_SPAWN_DUP2, target, 1), (os.POSIX_SPAWN_DUP2, target, 2)]
        pid = os.posix_spawnp(command[0], command, os.environ, file_actions=both)
    except OSError as error:
        os.close(source)
        raise PyrktError(f"cannot run ps: {error.strerror}", hint="--format json needs none") from None
    finally:
        os.close(target)
    with open(source, "rb") as pipe:
        text = pipe.read().decode("utf-8", "replace")
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code or not text:
        raise PyrktError(f"exit status {code}: {text}", hint="check the ps options")
    return text
