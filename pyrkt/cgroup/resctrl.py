"""linux.intelRdt: the container's group in resctrl, the file system of cache and memory bandwidth (Linux 4.10).

Source: runtime-spec 1.3, config-linux, "IntelRdt"; Linux Documentation/filesystems/resctrl.rst.
"""

from __future__ import annotations

import os

from pyrkt.base.errors import InvalidSpec
from pyrkt.base.record import Record
from pyrkt.spec.layout import ResctrlLayout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.spec.runtime import IntelRdt


class Resctrl(Record):
    """What the host has: where it is mounted, the resources it divides ("L3", "MB"), the groups there are."""

    root: str
    resources: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


def probe(mountinfo: str = "/proc/self/mountinfo") -> Resctrl | None:
    """Return what the host has; None if resctrl is not mounted, which is the administrator's to do."""
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            left, _, right = line.partition(" - ")
            if right.startswith("resctrl "):
                root = left.split(" ")[4]
                return Resctrl(root=root, resources=_names(f"{root}/info"), groups=_names(root))
    return None


def _names(directory: str) -> tuple[str, ...]:
    try:
        return tuple(sorted(os.listdir(directory)))
    except OSError:
        return ()


def _refuse(member: str, problem: str, hint: str = "") -> InvalidSpec:
    where = f"linux.intelRdt.{member}" if member else "linux.intelRdt"
    return InvalidSpec(problem, document="config.json", where=where, hint=hint)


def layout(wanted: IntelRdt, name: str, host: Resctrl | None) -> ResctrlLayout:
    """Return what to make, write and enter for the container ``name``, and what to remove when it goes.

    A group that config.json names may be shared, and is left as it is found but for its schemata; the container's own
    goes with it.  Raises: InvalidSpec for what this host does not have.
    """
    if host is None:
        raise _refuse(
            "",
            "intelRdt is specified in config, but Intel RDT is not enabled",
            "mount -t resctrl resctrl /sys/fs/resctrl",
        )
    for resource, member, text in (
        ("L3", "l3CacheSchema", wanted.l3_cache_schema),
        ("MB", "memBwSchema", wanted.mem_bw_schema),
    ):
        if text and resource not in host.resources:
            raise _refuse(member, f"this host does not divide {resource}", f"see {host.root}/info")
    schemata = tuple(line for line in (wanted.l3_cache_schema, wanted.mem_bw_schema, *wanted.schemata) if line)
    clos = wanted.clos_id or name
    there = clos == "/" or clos in host.groups
    if wanted.clos_id and not schemata and not there:
        raise _refuse(
            "closID", f"there is no group {clos}, and nothing is said about it", "make it first, or give it schemata"
        )
    group = host.root if clos == "/" else f"{host.root}/{clos}"
    monitor = f"{group}/mon_groups/{name}" if wanted.enable_monitoring else ""
    made = (() if there else (group,)) + ((monitor,) if monitor else ())
    own = () if wanted.clos_id or there else (group,)
    return ResctrlLayout(
        make=made,
        write=((f"{group}/schemata", "\n".join([*schemata, ""])),) if schemata else (),
        enter=(group, *((monitor,) if monitor else ())),
        remove=((monitor,) if monitor else ()) + own,
    )
