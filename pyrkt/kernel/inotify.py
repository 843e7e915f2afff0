"""inotify(7): told when a file is written to, or a kernel file says something new."""

from __future__ import annotations

import os

from pyrkt.kernel.libc import call

IN_MODIFY, IN_MOVED_TO, IN_CREATE = 0x2, 0x80, 0x100  # include/uapi/linux/inotify.h
IN_NONBLOCK, IN_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC


def watch(*paths: str, events: int = IN_MODIFY) -> int:
    """Return a descriptor, not blocking, that is readable when one of ``paths`` has been modified, or had ``events``.

    Of a directory, what happens to the files in it counts.
    Raises: KernelError.
    """
    descriptor = call("inotify_init1", IN_NONBLOCK | IN_CLOEXEC)
    try:
        for path in paths:
            call("inotify_add_watch", descriptor, os.fsencode(path), events, about=path)
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
