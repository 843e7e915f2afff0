"""The command lines of pyrkt itself that stage1 runs: it knows no words for people, and no CNI."""

from __future__ import annotations

import os
import sys

from pyrkt.base import log
from pyrkt.base.record import Record


def own_program(*words: str) -> tuple[str, ...]:
    """Return the command line of pyrkt itself, for stage1 to run."""
    entry = f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/cli/entry.py"
    return (sys.executable, "-I", "-S", entry, *(("--debug",) if log.debugging() else ()), *words)


def on_failure() -> tuple[str, ...]:
    """Return the program that stage1 becomes to say which step failed."""
    return own_program("failed")


class Wires(Record):
    """What stage1 runs for the networks of a pod: ``join`` once it has namespaces, ``after`` when it has ended.

    Both are empty where a pod has none; ``join`` is where they are set up before stage1 begins.
    """

    join: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


def wires(data: str, uuid: str, net: str, *, userns: bool) -> Wires:
    """Return the programs for the networks ``net`` of pod ``uuid`` in the data directory ``data``.

    A network namespace that belongs to a user namespace is there only when that is: so it is joined later.
    """
    if net in ("none", "host"):
        return Wires()
    join = own_program("--dir", data, "net-up", uuid) if userns else ()
    return Wires(join=join, after=own_program("--dir", data, "net-down", uuid))
