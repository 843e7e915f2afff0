"""namespaces(7), unshare(2), setns(2): the kinds, by the runtime-spec's name, and moving between them."""

from __future__ import annotations

import os

# include/uapi/linux/sched.h
CLONE_NEWTIME, CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x80, 0x20000, 0x2000000, 0x4000000
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x8000000, 0x10000000, 0x20000000, 0x40000000

FLAGS = {
    "mount": CLONE_NEWNS,
    "pid": CLONE_NEWPID,
    "network": CLONE_NEWNET,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "user": CLONE_NEWUSER,
    "cgroup": CLONE_NEWCGROUP,
    "time": CLONE_NEWTIME,
}

# The names below /proc/PID/ns.
FILES = {
    "mount": "mnt",
    "pid": "pid",
    "network": "net",
    "ipc": "ipc",
    "uts": "uts",
    "user": "user",
    "cgroup": "cgroup",
    "time": "time",
}


def identity(pid: int | str, kind: str) -> tuple[int, int]:
    """Return device and inode of the ``kind`` namespace of ``pid``; equal pairs are the same namespace."""
    found = os.stat(f"/proc/{pid}/ns/{FILES[kind]}")
    return found.st_dev, found.st_ino


def supported(kind: str) -> bool:
    """Tell whether the kernel has ``kind`` namespaces."""
    return os.path.exists(f"/proc/self/ns/{FILES[kind]}")


def unshare(flags: int) -> None:
    """Leave the namespaces of ``flags`` for new ones. Raises KernelError."""
    from pyrkt.kernel.libc import call  # noqa: PLC0415 - the names above cost no ctypes

    call("unshare", flags, about=hex(flags))


def enter(descriptor: int, kind: str) -> None:
    """Enter the ``kind`` namespace behind ``descriptor``. Raises KernelError."""
    from pyrkt.kernel.libc import call  # noqa: PLC0415 - the names above cost no ctypes

    call("setns", descriptor, FLAGS[kind], about=kind)
