"""The one door to the C library: calls by name or by system call number, words as wide as the kernel takes them."""

from __future__ import annotations

import ctypes
from errno import EINTR

from pyrkt.base.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _repeat(name: str, function: Any, args: tuple[int | bytes | Any, ...], about: str) -> int:
    # ctypes would cut a plain int to 32 bits, and CLONE_INTO_CGROUP (1 << 33) with it.
    words = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    while (result := int(function(*words))) < 0:
        errno = ctypes.get_errno()
        if errno != EINTR:  # as PEP 475; close(2), which must not be repeated, never comes through here
            raise KernelError(name, errno, about)
    return result


def call(name: str, *args: int | bytes | Any, about: str = "") -> int:
    """Call the C library's ``name``; ints go as longs, bytes as pointers, ctypes values as they are.

    Returns: the result, >= 0.  Raises: KernelError with ``about`` as the object in its message.
    """
    return _repeat(name, getattr(_libc, name), args, about)


def syscall(name: str, number: int, *args: int | bytes | Any, about: str = "") -> int:
    """Make system call ``number``, for which the C library has no function; ``name`` is for the message."""
    return _repeat(name, _libc.syscall, (number, *args), about)


def buffer(size: int) -> Any:
    """Return ``size`` zero bytes that the kernel may write to; ``.raw`` reads them."""
    return ctypes.create_string_buffer(size)
