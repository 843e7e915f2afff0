"""fsopen(2), mount(2), umount2(2): a new file system as a descriptor, a file in two places, the end of a mount."""

from __future__ import annotations

import os

from pyrkt.kernel.libc import call, syscall

# include/uapi/linux/mount.h and fcntl.h; the numbers are the same on all our architectures.
MNT_DETACH, UMOUNT_NOFOLLOW = 0x2, 0x8
_NR_FSOPEN, _NR_FSCONFIG, _NR_FSMOUNT = 430, 431, 432
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_MS_BIND = 0x1000


def new_filesystem(kind: str, options: tuple[tuple[str, str | None], ...] = (), attributes: int = 0) -> int:
    """Return a detached mount of a new ``kind`` file system; an option without value is (name, None).

    Raises: KernelError that names the option or the type.
    """
    context = syscall("fsopen", _NR_FSOPEN, os.fsencode(kind) + b"\0", 1, about=kind)
    try:
        for name, value in options:
            command, text = (_SET_FLAG, 0) if value is None else (_SET_STRING, os.fsencode(value) + b"\0")
            about = f"{kind}: {name}"
            syscall("fsconfig", _NR_FSCONFIG, context, command, os.fsencode(name) + b"\0", text, 0, about=about)
        syscall("fsconfig", _NR_FSCONFIG, context, _CREATE, 0, 0, 0, about=kind)
        return syscall("fsmount", _NR_FSMOUNT, context, 1, attributes, about=kind)
    finally:
        os.close(context)


def detach(path: str) -> None:
    """Take the mount at ``path`` out of the tree at once, even if it is busy; it ends with its last user."""
    call("umount2", os.fsencode(path) + b"\0", MNT_DETACH | UMOUNT_NOFOLLOW, about=path)


def bind(source: str, target: str) -> None:
    """Make the file ``source`` appear on the file ``target``. Raises: KernelError."""
    words = (os.fsencode(source) + b"\0", os.fsencode(target) + b"\0", 0, _MS_BIND, 0)
    call("mount", *words, about=f"{source} on {target}")
