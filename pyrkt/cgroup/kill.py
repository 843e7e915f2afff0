"""End every process in a container's cgroups, however fast it forks."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C half of signal; its enums cost 3 ms
import os
import time

from pyrkt.base.errors import Busy
from pyrkt.cgroup import freeze
from pyrkt.cgroup.processes import pids
from pyrkt.kernel import pidfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_PAUSE_S = 0.002


def signal_all(directories: Sequence[str], number: int, kill_files: Sequence[str] = ()) -> int:
    """Send signal ``number`` once to every process in the cgroups ``directories``; return how many there were.

    They are frozen meanwhile where that is possible, so that none is missed by forking.
    ``kill_files`` are the cgroup.kill files of version 2, which do it for SIGKILL.
    """
    found = pids(directories) if kill_files and number == _signal.SIGKILL else []
    if found and all(_kill_by_file(path) for path in kill_files):
        freeze.thaw(directories)
        return len(found)
    was_frozen = freeze.is_frozen(directories)
    held = not was_frozen and _held(directories)
    count = 0
    try:
        for pid in pids(directories):
            count += signal_one(pid, number)
    finally:
        # A v1 freezer keeps even SIGKILL waiting.
        if held or number == _signal.SIGKILL:
            freeze.thaw(directories)
    return count


def signal_one(pid: int, number: int) -> bool:
    """Send signal ``number`` to a process; tell whether it was there."""
    try:
        descriptor = pidfd.open(pid)
    except ProcessLookupError:
        return False
    try:
        return pidfd.send_signal(descriptor, number)
    finally:
        os.close(descriptor)


def _held(directories: Sequence[str]) -> bool:
    """Freeze, if that is possible and takes no time."""
    try:
        freeze.freeze(directories)
    except (Busy, OSError):
        return False
    except Exception:  # noqa: BLE001 - without a freezer the signals go out one by one
        return False
    return True


def _kill_by_file(path: str) -> bool:
    """Kill all below the cgroup of ``path``; tell whether the kernel can."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # before Linux 5.14, or removed
        return False
    try:
        os.write(descriptor, b"1")
    finally:
        os.close(descriptor)
    return True


def kill_all(directories: Sequence[str], kill_files: Sequence[str] = (), seconds: float = 10.0) -> None:
    """Send SIGKILL to every process in the cgroups and return when none is left.

    ``kill_files`` are the cgroup.kill files of version 2, which need neither a list nor a freezer.
    Raises: Busy if a process survives ``seconds`` (it hangs in the kernel).
    """
    deadline = time.monotonic() + seconds
    while True:
        for path in kill_files:
            _kill_by_file(path)
        left = pids(directories)
        if not left:
            return
        if time.monotonic() > deadline:
            raise Busy(
                f"process {left[0]} in {directories[0]} does not end",
                hint="it waits in the kernel; see /proc/PID/stack",
            )
        signal_all(directories, _signal.SIGKILL)
        time.sleep(_PAUSE_S)
