"""Being told when the kernel kills for lack of memory in a container's cgroups, and when they are empty.

Source: Linux admin-guide/cgroup-v1/memory.rst, 9 and 10 (cgroup.event_control); cgroup-v2.rst, "memory.events".
"""

from __future__ import annotations

import os

from pyrkt.base.errors import NoPermission
from pyrkt.cgroup.host import read_text
from pyrkt.cgroup.stats import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.spec.layout import CgroupLayout


class OutOfMemory:
    """Watches one container; ``descriptor`` is readable when ``came`` has something to tell."""

    def __init__(self, layout: CgroupLayout) -> None:
        """Begin to watch. Raises: NoPermission without a memory controller."""
        v1, unified = layout.path("memory"), layout.path("")
        self._v1 = bool(v1)
        self._directory = v1 or unified
        if v1:
            self.descriptor = _eventfd(v1)
        elif unified and os.path.exists(f"{unified}/memory.events"):
            from pyrkt.kernel import inotify  # noqa: PLC0415 - the C library's door, which version 1 does not need

            self.descriptor = inotify.watch(f"{unified}/memory.events", f"{unified}/cgroup.events")
            self._kills = self._killed()
        else:
            raise NoPermission("memory controller missing", hint="without it nobody is told of a lack of memory")

    def _killed(self) -> int:
        return table(read_text(f"{self._directory}/memory.events")).get("oom_kill", 0)

    def came(self) -> bool:
        """Tell whether memory ran out since the last call; does not wait."""
        if self._v1:
            try:
                os.eventfd_read(self.descriptor)
            except BlockingIOError:
                return False
            return not self.gone()  # the end of a cgroup is told by the same descriptor
        from pyrkt.kernel import inotify  # noqa: PLC0415 - loaded already

        inotify.drain(self.descriptor)
        before, self._kills = self._kills, self._killed()
        return self._kills > before

    def gone(self) -> bool:
        """Tell whether the cgroup has been removed or, in version 2, has no process any more."""
        if self._v1:
            return not os.path.exists(f"{self._directory}/cgroup.event_control")
        return "populated 1" not in read_text(f"{self._directory}/cgroup.events")


def _eventfd(directory: str) -> int:
    descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    watched = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
    try:
        control = os.open(f"{directory}/cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(control, f"{descriptor} {watched} ".encode())
        finally:
            os.close(control)
    except OSError:
        os.close(descriptor)
        raise
    finally:
        os.close(watched)
    return descriptor
