"""flock(2): locks that end with the last descriptor, so that a killed process leaves none behind.

An open lock survives exec(2) when its descriptor is made inheritable; "running" means "the lock is held".
"""

from __future__ import annotations

import fcntl
import os
import time
from errno import EWOULDBLOCK
from stat import S_ISREG

from pyrkt.base.errors import Busy, CannotCreate

# A fifo or a terminal planted where a lock should be must neither block nor become our controlling terminal.
_SAFE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY | os.O_NONBLOCK
_PROBE_S = 0.002


def acquire(path: str, *, exclusive: bool, wait: bool = True, directory: bool = False) -> int:
    """Lock ``path`` and return the descriptor that holds the lock; os.close releases it.

    The file is made (mode 0600) where it is missing; a ``directory`` must exist.
    Raises: Busy if ``wait`` is off and somebody else has it; CannotCreate if a special file is in its place; OSError.
    """
    descriptor = os.open(path, _SAFE | (os.O_DIRECTORY if directory else os.O_CREAT), 0o600)
    try:
        if not directory and not S_ISREG(os.fstat(descriptor).st_mode):
            raise CannotCreate(f"{path}: a lock must be a regular file", hint="remove what is in its place")
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        if wait:
            fcntl.flock(descriptor, kind)
        else:
            _try(descriptor, kind | fcntl.LOCK_NB, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _try(descriptor: int, kind: int, path: str) -> None:
    # is_held takes the lock for some microseconds; that alone must not make a caller fail.
    for last in (False, False, True):
        try:
            fcntl.flock(descriptor, kind)
        except OSError as error:
            if error.errno != EWOULDBLOCK:
                raise
            if last:
                raise Busy(f"{path}: somebody else holds the lock", hint="wait for it to end, then try again") from None
            time.sleep(_PROBE_S)
        else:
            return


def take(descriptor: int, *, exclusive: bool) -> None:
    """Lock the open file ``descriptor``, waiting for whoever has it. Raises OSError."""
    fcntl.flock(descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)


def is_held(path: str) -> bool:
    """Tell whether a process holds ``path`` (file or directory) exclusively. What is missing is not held."""
    try:
        descriptor = os.open(path, _SAFE)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two processes which only look never see each other.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno != EWOULDBLOCK:
            raise
        return True
    finally:
        os.close(descriptor)
    return False
