"""memfd_create(2): files without a name, sealed so that nobody can change them any more."""

from __future__ import annotations

import fcntl
import os
from errno import EINVAL

from pyrkt.base.atomic import write_all

# include/uapi/linux/memfd.h, Linux 6.3; where vm.memfd_noexec is set, only MFD_EXEC gives an executable one.
_NOEXEC_SEAL, _EXEC = 0x8, 0x10
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def create(name: str, data: bytes = b"", *, executable: bool = False) -> int:
    """Return the descriptor of a new memfd with ``data`` in it; not sealed yet, closed on exec. Raises OSError."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        descriptor = os.memfd_create(name, flags | (_EXEC if executable else _NOEXEC_SEAL))
    except OSError as error:
        if error.errno != EINVAL:
            raise
        descriptor = os.memfd_create(name, flags)  # before Linux 6.3
    try:
        write_all(descriptor, data)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def seal(descriptor: int) -> None:
    """Make the content final: no write, no change of size, no unsealing. Raises OSError."""
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)


def is_sealed(descriptor: int) -> bool:
    """Tell whether nobody can change the content any more."""
    return fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SEALS == _SEALS


def sealed(name: str, data: bytes) -> int:
    """Return the descriptor of a sealed memfd that holds ``data``."""
    descriptor = create(name, data)
    seal(descriptor)
    return descriptor


def sealed_copy(name: str, path: str) -> int:
    """Return a sealed, executable copy of the file ``path``.

    A container that reopens ``/proc/PID/exe`` for writing then finds the copy, and cannot write it (CVE-2019-5736).
    """
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        descriptor = create(name, executable=True)
        try:
            left = os.fstat(source).st_size
            while left > 0:
                sent = os.sendfile(descriptor, source, None, left)
                if sent == 0:
                    break
                left -= sent
            seal(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
    finally:
        os.close(source)
    return descriptor
