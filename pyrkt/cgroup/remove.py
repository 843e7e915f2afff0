"""Remove a container's cgroups, and those that it made below them."""

from __future__ import annotations

import os
import time
from errno import EBUSY

from pyrkt.base.errors import Busy
from pyrkt.cgroup import kill
from pyrkt.cgroup.processes import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_LIMIT_S = 10.0
_FIRST_PAUSE_S = 0.001


def remove(directories: Sequence[str], kill_files: Sequence[str] = ()) -> None:
    """Remove the cgroups ``directories`` with all below them; processes still inside are killed.

    A cgroup stays busy for a moment after its last process ended, so this tries for up to 10 s.
    Raises: Busy naming the cgroup that could not be removed. One that is missing is fine.
    """
    left = [directory for directory in directories if not _gone(directory)]
    if not left:
        return
    kill.kill_all(left, kill_files)
    deadline, pause = time.monotonic() + _LIMIT_S, _FIRST_PAUSE_S
    while left := [directory for directory in left if not _gone(directory)]:
        if time.monotonic() > deadline:
            raise Busy(f"{left[0]}: the cgroup stays busy", hint="see cgroup.procs in it and below it")
        kill.kill_all(left, kill_files)  # one that a process of the host put there
        time.sleep(pause)
        pause = min(pause * 2, 0.1)


def _gone(directory: str) -> bool:
    """Remove ``directory`` and what is below it, once; tell whether nothing is left."""
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != EBUSY:
            raise
        return _gone_below(directory)
    return True


def _gone_below(directory: str) -> bool:
    for cgroup in tree(directory):
        try:
            os.rmdir(cgroup)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno != EBUSY:
                raise
            return False
    return True
