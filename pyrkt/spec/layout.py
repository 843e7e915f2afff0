"""Where a container's cgroups and root file system are: values that the deciding parts hand to the compiler."""

from __future__ import annotations

from pyrkt.base.record import Record

TYPE_CHECKING = False


class CgroupLayout(Record):
    """The cgroups of one container, as directories and the files to write in them; empty where there are none.

    ``make``: directories, parents first.
    ``write``: (file, value, cause) in order; the cause is a place such as "linux.resources.memory.limit".
    ``enter``: directories of v1 that the process enters, one a hierarchy.
    ``remove``: directories to remove at the end, deepest first.
    ``clone_into``: the v2 directory that the process enters, by CLONE_INTO_CGROUP; "" where there is none.
    ``kill``: the cgroup.kill files (v2) that end every process at once.
    ``device_program``: eBPF instructions to attach to ``clone_into`` as its device controller; empty where v1 has one.
    ``own``: (file or directory, uid, gid) of what the container's user is given of the v2 cgroup, to manage it.
    ``paths``: (controller, directory) of each controller of v1, and of "" for version 2.
    ``driver``: who made the cgroups, "cgroupfs" or "systemd"; ``unit``: the scope's name with the latter, ``bus``:
    whose systemd, "system" or "user"; ``managed``: the directories of ``remove`` that systemd removes itself.
    ``late``: as ``write``, for when the process that held the scope has left it.
    """

    make: tuple[str, ...] = ()
    write: tuple[tuple[str, str, str], ...] = ()
    enter: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    clone_into: str = ""
    kill: tuple[str, ...] = ()
    device_program: bytes = b""
    own: tuple[tuple[str, int, int], ...] = ()
    paths: tuple[tuple[str, str], ...] = ()
    driver: str = "cgroupfs"
    unit: str = ""
    bus: str = ""
    managed: tuple[str, ...] = ()
    late: tuple[tuple[str, str, str], ...] = ()

    @property
    def is_held(self) -> bool:
        """Whether a process of ours keeps the unit alive until the container's first one is in it."""
        return self.driver == "systemd" and not self.unit.endswith(".slice")

    def path(self, controller: str) -> str:
        """Return the container's directory in the hierarchy of ``controller`` of v1; "" is version 2. "" for none."""
        for name, directory in self.paths:
            if name == controller:
                return directory
        return ""


class OverlayRoot(Record):
    """A root file system made by overlayfs inside the container's mount namespace.

    ``lowers``: directories, top first.
    ``upper`` and ``work``: host directories on one file system; both "" makes the root read-only.
    ``volatile``: do not sync the upper directory (its content does not outlive a crash of the host).
    ``userxattr``: keep overlayfs' own attributes in user.*, as a mount in a user namespace must.
    """

    lowers: tuple[str, ...]
    upper: str = ""
    work: str = ""
    volatile: bool = False
    userxattr: bool = False


class ResctrlLayout(Record):
    """Groups in resctrl: directories to make, (file, text) to write, directories to enter, and to remove in order."""

    make: tuple[str, ...] = ()
    write: tuple[tuple[str, str], ...] = ()
    enter: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
