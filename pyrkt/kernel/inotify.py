"""inotify(7): told when a file is written to, or a kernel file says something new."""

from __future__ import annotations

import os

from pyrkt.kernel.libc import call

IN_MODIFY = 2  # include/uapi/linux/inotify.h
IN_NONBLOCK, IN_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC


def watch(*paths: str) -> int:
    """Return a descriptor, not blocking, that is readable when one of the files ``paths`` has been modified.

    Raises: KernelError.
    """
    descriptor = call("inotify_init1", IN_NONBLOCK | IN_CLOEXEC)
    try:
        for path in paths:
            call("inotify_add_watch", descriptor, os.fsencode(path), IN_MODIFY, about=path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def drain(descriptor: int) -> None:
    """Read whatever events wait in the descriptor."""
    try:
        while os.read(descriptor, 1 << 16):
            pass
    except BlockingIOError:
        return
