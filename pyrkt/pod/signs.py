"""What of this host decides whether an isolator can be enforced: looked at once a pod, and only for its isolators."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pyrkt.bundle.options import Signs
from pyrkt.kernel import host as kernel_host
from pyrkt.kernel import process
from pyrkt.spec import capabilities

if TYPE_CHECKING:
    from pyrkt.kernel.host import Host

_PROFILES = "/sys/kernel/security/apparmor/profiles"
_RESOURCE = capabilities.NUMBERS["CAP_SYS_RESOURCE"]
_NO_DISKS = ("loop", "ram", "zram", "sr", "fd")
"""Devices that are made of others, or of memory, or read-only: nobody means them by "all block devices"."""


def look(path: str, *, userns: bool, apps: int, shaped: bool, network: str = "") -> Signs:
    """Return the signs for a pod below the directory ``path``; ``userns``: its capabilities are its own namespace's."""
    host = kernel_host.probe()
    found = disk(path) if _limits_disks(host) else None
    return Signs(
        selinux="selinux" in host.lsm,
        apparmor=_profiles() if "apparmor" in host.lsm else None,
        disk=found,
        disks=_disks() if found else 0,
        capabilities=None if userns else frozenset(capabilities.names(process.capabilities()["bounding"])),
        oom_floor=-1000 if process.holds(_RESOURCE) and not host.in_userns else _own_score(),
        shaped=shaped,
        network=network,
        apps=apps,
    )


def _profiles() -> frozenset[str]:
    """Return the names of the loaded profiles; "*" where that may not be known: the kernel will judge."""
    try:
        with open(_PROFILES, encoding="utf-8", errors="surrogateescape") as file:
            return frozenset(line.rpartition(" (")[0] for line in file)
    except OSError:
        return frozenset(("*",))


def _own_score() -> int:
    with open("/proc/self/oom_score_adj", encoding="ascii") as file:
        return int(file.read())


def _limits_disks(host: Host) -> bool:
    for point, options, _ in host.cgroup_mounts:
        if "blkio" in options.split(",") or (not options and "io" in _words(f"{point}/cgroup.controllers")):
            return True
    return False


def _words(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().split()
    except OSError:
        return []


def disk(path: str) -> tuple[int, int] | None:
    """Return (major, minor) of the disk below the file system of ``path``; None for one without.

    Of a partition it is the whole disk: no other is limited (block/blk-cgroup.c, blkg_conf_open_bdev).
    """
    here = path
    while not os.path.exists(here):
        here = os.path.dirname(here)
    return whole(os.stat(here).st_dev)


def whole(number: int) -> tuple[int, int] | None:
    """Return (major, minor) of the disk that the block device ``number`` is, or is a part of; None if it is none."""
    place = os.path.realpath(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if os.path.exists(f"{place}/partition"):
        place = os.path.dirname(place)
    try:
        with open(f"{place}/dev", encoding="ascii") as file:
            major, minor = file.read().strip().split(":")
    except OSError:
        return None
    return int(major), int(minor)


def _disks() -> int:
    try:
        names = os.listdir("/sys/block")
    except OSError:
        return 1
    return sum(
        not name.startswith(_NO_DISKS) and _words(f"/sys/block/{name}/size") not in ([], ["0"]) for name in names
    )
