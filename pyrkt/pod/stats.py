"""What pods and their apps use of the host at one moment, and how fast, between two."""

from __future__ import annotations

import time

from pyrkt.base.record import Record
from pyrkt.cgroup import stats
from pyrkt.pod import cgroups
from pyrkt.pod import status as states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyrkt.cgroup.host import Mounts
    from pyrkt.pod.directory import Pod
    from pyrkt.spec.layout import CgroupLayout

_NO_LIMIT = 1 << 62
"""Version 1 writes "no limit" as the largest number of whole pages."""
_NS = 10**9
PRESSURES = ("cpu", "memory", "io")


class Use(Record):
    """What one app, or a whole pod (``name`` ""), has used: nanoseconds, bytes, counts; None where nobody counts.

    ``limit`` and ``pids_limit`` are None without one; ``pressure`` is the share of the last ten seconds, in percent,
    in which some of it waited for cpu, memory, io.
    """

    name: str
    cpu_ns: int | None = None
    memory: int | None = None
    limit: int | None = None
    pids: int | None = None
    pids_limit: int | None = None
    read: int | None = None
    written: int | None = None
    pressure: dict[str, float] = {}  # noqa: RUF012 - records are frozen, and nobody writes to it


class Sample(Record):
    """A pod's use at the moment ``at`` (monotonic seconds): of the whole, and of each app that has cgroups."""

    uuid: str
    name: str
    at: float
    whole: Use
    apps: tuple[Use, ...]

    def shares(self, before: Sample | None) -> dict[str, float]:
        """Return how much of one processor, in percent, each app ("": the whole) has used since ``before``."""
        if before is None or self.at <= before.at:
            return {}
        then = {use.name: use.cpu_ns for use in (before.whole, *before.apps)}
        found = {}
        for use in (self.whole, *self.apps):
            earlier = then.get(use.name)
            if use.cpu_ns is not None and earlier is not None and use.cpu_ns >= earlier:  # else it was started again
                found[use.name] = (use.cpu_ns - earlier) / (self.at - before.at) / _NS * 100
        return found


def sample(pod: Pod, mounts: Mounts) -> Sample:
    """Return what the running ``pod`` uses now. What is gone meanwhile counts as nothing, and is no error."""
    names = states.app_names(pod)
    apps = tuple(_use(name, cgroups.layout(states.app_cgroups(pod, name), mounts)) for name in names)
    own = states.pod_cgroups(pod)
    whole = _use("", cgroups.layout(own, mounts)) if own else _sum(apps)
    return Sample(uuid=pod.uuid, name=pod.name(), at=time.monotonic(), whole=whole, apps=apps)


def _use(name: str, layout: CgroupLayout) -> Use:
    if not layout.paths:
        return Use(name=name)
    found = stats.read(layout)
    memory, usage = found["memory"]["usage"], found["cpu"]["usage"]
    limit = memory["limit"]
    return Use(
        name=name,
        cpu_ns=usage.get("total", 0),
        memory=memory.get("usage", 0),
        limit=limit if 0 < limit < _NO_LIMIT else None,
        pids=found["pids"].get("current", 0),
        pids_limit=found["pids"].get("limit"),
        read=_bytes(found["blkio"], "Read"),
        written=_bytes(found["blkio"], "Write"),
        pressure={
            name: float(psi["some"]["avg10"])
            for name, member in zip(PRESSURES, ("cpu", "memory", "blkio"), strict=True)
            if (psi := found[member].get("psi"))
        },
    )


def _bytes(blkio: dict[str, Any], operation: str) -> int:
    rows = blkio.get("ioServiceBytesRecursive", [])
    return sum(row.get("value", 0) for row in rows if row.get("op") == operation)


def _sum(apps: Sequence[Use]) -> Use:
    """Return what the apps use together; how long they waited together is not the sum of that, and not known."""

    def total(member: str) -> int | None:
        values = [value for app in apps if (value := getattr(app, member)) is not None]
        return sum(values) if values else None

    return Use(
        name="",
        cpu_ns=total("cpu_ns"),
        memory=total("memory"),
        pids=total("pids"),
        read=total("read"),
        written=total("written"),
    )


def as_json(now: Sample, before: Sample | None) -> dict[str, Any]:
    """Return a sample for machines; absent values left out. ``cpu_percent`` is of one processor, since ``before``."""
    shares = now.shares(before)
    value = {"name": now.uuid, "short_name": now.name, "total": _json(now.whole, shares)}
    return {key: item for key, item in value.items() if item} | {"apps": [_json(app, shares) for app in now.apps]}


def _json(use: Use, shares: dict[str, float]) -> dict[str, Any]:
    value = {
        "name": use.name or None,
        "cpu_ns": use.cpu_ns,
        "cpu_percent": round(shares[use.name], 2) if use.name in shares else None,
        "memory_bytes": use.memory,
        "memory_limit_bytes": use.limit,
        "pids": use.pids,
        "pids_limit": use.pids_limit,
        "read_bytes": use.read,
        "write_bytes": use.written,
        "pressure_some_avg10": use.pressure or None,
    }
    return {key: item for key, item in value.items() if item is not None}
