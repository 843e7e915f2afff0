"""The processes of a container, by its cgroups or, for one that has none, by its pid namespace."""

from __future__ import annotations

import os

from pyrkt.cgroup import processes
from pyrkt.runtime import container as containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.runtime.container import Container


def pids(container: Container) -> list[int]:
    """Return the pids of all processes, as far as this caller can know them; the first process is among them."""
    if found := processes.pids(container.cgroups):
        return found
    first = containers.living_pid(container.directory)
    if not first:
        return []
    if not container.own_pids:
        return [first]
    namespace = _namespace(first)
    others = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return sorted({first, *(pid for pid in others if namespace and _namespace(pid) == namespace)})


def _namespace(pid: int) -> str:
    """Return what names the pid namespace of a process; "" if that is not to be known, or the process is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""
