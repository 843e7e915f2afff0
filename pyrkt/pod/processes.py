"""The processes of a running pod: which app each belongs to, and its numbers on the host and in the pod."""

from __future__ import annotations

import os

from pyrkt.base.record import Record
from pyrkt.cgroup import processes as members
from pyrkt.kernel import process as kernel_process
from pyrkt.pod import status as states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.pod.directory import Pod


class Process(Record):
    """One process. ``app`` is "" for the pod's own; ``inside`` is its number in the pod, ``uid`` the host's."""

    app: str
    pid: int
    inside: int
    uid: int
    state: str
    command: str


def of(pod: Pod) -> list[Process]:
    """Return the processes of ``pod``, those of an app together, by number. Who ends meanwhile is left out."""
    apps = {name: set(members.pids(states.app_cgroups(pod, name))) for name in states.app_names(pod)}
    firsts = {name: states.living(pod, f"apps/{name}/pid") for name in apps}
    # An ordinary user may not look at his pod's PID 1, but at its apps.
    space = next(filter(None, (_link(pid, "pid") for pid in (states.living(pod), *firsts.values()))), "")
    if not space:
        return []
    roots = {_link(pid, "mnt"): name for name, pid in firsts.items() if pid}
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (pid := int(entry)) and _link(pid, "pid") == space:
            # By cgroup; where there are none (an ordinary user's pod), by the files that it sees.
            app = next((name for name, pids in apps.items() if pid in pids), "") or roots.get(_link(pid, "mnt"), "")
            found += _read(pid, app)
    return sorted(found, key=lambda process: (process.app, process.pid))


def _link(pid: int, kind: str) -> str:
    """Return what names a namespace of a process; "" if that is not to be known, or the process is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}") if pid > 0 else ""
    except OSError:
        return ""


def _read(pid: int, app: str) -> list[Process]:
    try:
        said = kernel_process.status(pid)
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4096).rstrip(b"\0").replace(b"\0", b" ")
    except OSError:
        return []
    return [
        Process(
            app=app,
            pid=pid,
            inside=int(said.get("NSpid", str(pid)).split()[-1]),
            uid=int(said["Uid"].split()[1]),
            state=said.get("State", "?")[:1],
            command=words.decode("utf-8", "replace") or f"[{said.get('Name', '')}]",
        )
    ]


def as_json(process: Process) -> dict[str, Any]:
    """Return a process for machines."""
    value = {
        "app": process.app,
        "pid": process.pid,
        "pod_pid": process.inside,
        "uid": process.uid,
        "state": process.state,
        "command": process.command,
    }
    return {key: item for key, item in value.items() if item != ""}
