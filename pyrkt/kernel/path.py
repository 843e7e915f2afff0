"""openat2(2): names that cannot lead out of a directory, whatever symlinks the image or a racer puts there."""

from __future__ import annotations

import os

from pyrkt.kernel.libc import syscall

# include/uapi/linux/openat2.h; the number is the same on all our architectures (Linux 5.6).
RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS = 0x1, 0x2, 0x4
RESOLVE_BENEATH, RESOLVE_IN_ROOT = 0x8, 0x10
_NR_OPENAT2 = 437


def openat2(directory: int, path: str, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """Open ``path`` below the descriptor ``directory`` under the rules ``resolve``; closed on exec.

    Raises: KernelError; EXDEV or ELOOP where the rules say no, EAGAIN if a rename went on meanwhile (try again).
    """
    words = (flags | os.O_CLOEXEC, mode, resolve)
    how = b"".join(word.to_bytes(8, "little") for word in words)  # struct open_how
    return syscall("openat2", _NR_OPENAT2, directory, os.fsencode(path) + b"\0", how, len(how), about=path)


def open_beneath(directory: int, path: str, flags: int, mode: int = 0) -> int:
    """Open ``path``; fail with EXDEV if ``..``, an absolute name or a symlink would leave ``directory``."""
    return openat2(directory, path, flags, mode, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)


def mount_id(directory: int, path: str) -> int:
    """Return the number of the mount, as in /proc/PID/mountinfo, that ``path`` leads to with ``directory`` as the root.

    Raises: KernelError.
    """
    descriptor = openat2(directory, path, os.O_PATH, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("mnt_id:"))
    finally:
        os.close(descriptor)
