"""In which of the container's cgroups ``exec`` puts its process: --cgroup, or where version 2 leaves room."""

from __future__ import annotations

import os
import posixpath

from pyrkt.base.errors import StartFailed, UsageError
from pyrkt.cgroup.host import components, hands_down, read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrkt.kernel.host import Host
    from pyrkt.spec.layout import CgroupLayout

_THREADED = frozenset(("cpu", "cpuset", "perf_event", "pids"))
"""Controllers that a cgroup may hand down although processes are in it. Source: cgroup-v2.rst, "Threads"."""


def parse(words: Sequence[str]) -> dict[str, str]:
    """Return controller -> path of each --cgroup [CONTROLLER[,CONTROLLER]:]PATH; "" stands for all controllers.

    Raises: UsageError in runc's words.
    """
    found: dict[str, str] = {}
    for word in words:
        names, colon, path = word.partition(":")
        if not colon and len(words) != 1:
            raise UsageError(f"invalid --cgroup argument: {word} (missing <controller>: prefix)")
        for name in names.split(",") if colon else ("",):
            if colon and not name:
                raise UsageError(f"invalid --cgroup argument: {word} (empty <controller> prefix)")
            if name in found:
                raise UsageError(f"invalid --cgroup argument(s): controller {name} specified multiple times")
            found[name] = path if colon else word
    return found


def _below(base: str, path: str) -> str:
    """Return the directory ``path`` below ``base``; it must be ``base`` itself, or below it."""
    found = posixpath.normpath(f"{base}/{path}")
    if found != base and not found.startswith(base + "/"):
        raise UsageError(
            f"bad sub cgroup path: {path} is not a sub cgroup path",
            hint="it counts from the container's cgroup, and stays in it",
        )
    return found


def _enterable(directory: str) -> str:
    """Return ``directory`` if a process may enter. Raises: StartFailed in runc's words."""
    problem = ""
    if not os.path.exists(f"{directory}/cgroup.procs"):
        problem = "no such file or directory"
    elif hands_down(directory) and is_full(directory):
        problem = "device or resource busy"
    if problem:
        raise StartFailed(f"error adding pid of the new process to cgroups: open {directory}/cgroup.procs: {problem}")
    return directory


def is_full(directory: str) -> bool:
    """Tell whether a v2 cgroup that hands controllers down may hold no process of its own.

    It may as long as what it hands down works with threads, and no cgroup below has a process. Source: cgroups(7).
    """
    handed = set(read_text(f"{directory}/cgroup.subtree_control").split())
    if not handed or handed - _THREADED:
        return bool(handed)
    with os.scandir(directory) as entries:
        below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    return any(
        "populated 1" in read_text(f"{path}/cgroup.events") and read_text(f"{path}/cgroup.type").startswith("domain")
        for path in below
    )


def asked_for(layout: CgroupLayout, words: Sequence[str]) -> CgroupLayout:
    """Return ``layout`` with the cgroups that --cgroup names, all of which are there.

    Raises: UsageError, StartFailed in runc's words.
    """
    wanted = parse(words)
    known = dict(layout.paths)
    for controller in wanted:
        if controller not in known and controller:
            raise UsageError(f"unknown controller {controller} in SubCgroupPaths")
    for_all = wanted.get("")
    chosen = {directory: _below(directory, for_all or "") for directory in known.values()}
    for controller, path in wanted.items():
        if controller:
            chosen[known[controller]] = _below(known[controller], path)
    return layout.replace(
        enter=tuple(_enterable_v1(chosen[directory]) for directory in layout.enter),
        clone_into=_enterable(chosen[layout.clone_into]) if layout.clone_into else "",
    )


def _enterable_v1(directory: str) -> str:
    if not os.path.exists(f"{directory}/tasks"):
        raise StartFailed(
            f"error adding pid of the new process to cgroups: open {directory}/tasks: no such file or directory"
        )
    return directory


def with_room(layout: CgroupLayout, pid: int, host: Host) -> CgroupLayout:
    """Return ``layout`` with the v2 cgroup of process ``pid`` where the container's own takes none any more.

    A container that may write to its cgroups (systemd in it, say) moves its processes below and hands controllers
    down, or leaves its cgroup for another.
    """
    if os.path.exists(layout.clone_into) and not is_full(layout.clone_into):
        return layout
    mount = next((mount for mount, words, _ in host.cgroup_mounts if not words), "")
    for line in read_text(f"/proc/{pid}/cgroup").splitlines():
        if line.startswith("0::/") and mount:
            return layout.replace(clone_into="/".join([mount, *components(line[3:])]))
    return layout
