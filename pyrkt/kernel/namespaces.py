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


def id_maps(path: str) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
    """Return the maps, of users and of groups, of the user namespace at ``path``, as the caller counts ids.

    Each is a list of (first inside, first outside, count). A child enters the namespace to read them: the file may
    be a bind mount that no process belongs to.
    Raises: OSError.
    """
    from pyrkt.kernel import child  # noqa: PLC0415 - only whoever has a namespace without a process asks

    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def maps() -> list[str]:
        enter(descriptor, "user")
        return [_text(f"/proc/self/{kind}_map") for kind in ("uid", "gid")]

    try:
        found = child.answer(maps, path)
    finally:
        os.close(descriptor)
    uids, gids = ([_range(line) for line in text.splitlines()] for text in found)
    return uids, gids


def _text(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def _range(line: str) -> tuple[int, int, int]:
    inside, outside, count = line.split()
    return int(inside), int(outside), int(count)
