"""Cgroups that were there before the container: whether it may have them, and how their limits are changed."""

from __future__ import annotations

from pyrkt.base.errors import Busy
from pyrkt.cgroup import freeze
from pyrkt.cgroup.host import read_text
from pyrkt.cgroup.processes import pids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Write = tuple[str, str, str]

_LIMIT, _SUM = "/memory.limit_in_bytes", "/memory.memsw.limit_in_bytes"


def check(directories: Sequence[str]) -> None:
    """Refuse cgroups with processes in them or below, which would end with the container, and frozen ones.

    Raises: Busy in runc's words.
    """
    if found := pids(directories):
        raise Busy(
            f"container's cgroup is not empty: {len(found)} process(es) found",
            hint=f"give it a linux.cgroupsPath of its own; process {found[0]} is below {directories[0]} or its like",
        )
    if freeze.is_frozen(directories):
        raise Busy("container's cgroup unexpectedly frozen", hint="thaw it, or give the container another cgroupsPath")


def arranged(writes: Sequence[Write]) -> tuple[Write, ...]:
    """Return ``writes`` with the limit on memory+swap first where that on memory goes beyond the one that is there."""
    found = list(writes)
    places = {file[file.rindex("/") :]: index for index, (file, _, _) in enumerate(found)}
    if _LIMIT in places and _SUM in places:
        limit, both = places[_LIMIT], places[_SUM]
        there, wanted = read_text(found[both][0]), int(found[limit][1])
        if there and (wanted < 0 or wanted > int(there)):
            found[limit], found[both] = found[both], found[limit]
    return tuple(found)
