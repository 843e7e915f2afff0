"""pidfd_open(2), pidfd_send_signal(2): processes held by descriptor, which no reuse of a number can turn aside."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C half of signal; its enums cost 3 ms
import os
import select
from errno import ESRCH

_SECOND_MS = 1000


def open(pid: int) -> int:  # noqa: A001 - read as pidfd.open
    """Return a descriptor of process ``pid``. Raises ProcessLookupError if it is gone."""
    return os.pidfd_open(pid)


def send_signal(pidfd: int, number: int) -> bool:
    """Send signal ``number``; False if the process has ended. Raises PermissionError."""
    try:
        _signal.pidfd_send_signal(pidfd, number)
    except OSError as error:
        if error.errno != ESRCH:
            raise
        return False
    return True


def wait(pidfd: int, seconds: float | None = None) -> bool:
    """Wait until the process, a child or not, has ended; False if ``seconds`` (None: for ever) pass before."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * _SECOND_MS))


def exit_code(pidfd: int) -> int:
    """Wait for the child behind ``pidfd``, reap it, and return its exit code, or 128 + the signal that killed it."""
    result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    if result is None:
        raise ChildProcessError("waitid gave no child")
    return result.si_status if result.si_code == os.CLD_EXITED else 128 + result.si_status
