"""The mounts of config.json as steps: file systems, binds, cgroups, and what a user namespace takes instead."""

from __future__ import annotations

from pyrkt.plan import options
from pyrkt.plan.draft import refuse
from pyrkt.plan.namespaces import map_text
from pyrkt.plan.options import ATTR_RDONLY, MS_RDONLY
from pyrkt.plan.steps import BEFORE
from pyrkt.spec import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.plan.draft import Draft, Subject
    from pyrkt.plan.options import Options
    from pyrkt.spec.layout import CgroupLayout
    from pyrkt.spec.runtime import Mount

# What lxcfs and the like may put over single files of /proc; everything else there would let the image, or a
# volume, stand in for the kernel (CVE-2019-16884, CVE-2019-19921).
PROC_FILES = (
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
)
MAKE_DIRECTORY, MAKE_AS_SOURCE = 1, 1
# Fresh instances that the kernel gives only to the owner of the namespace they show.
_SHOWS = {"proc": "pid", "sysfs": "network", "mqueue": "ipc"}
_HOST_COPY = {"proc": "/proc", "sysfs": "/sys", "mqueue": "/dev/mqueue"}
_SPARE_SLOTS = 4  # for the root, the cgroup and the seccomp agent
_LABELLED = ("tmpfs", "mqueue", "devpts", "overlay", "ramfs")


class Mounts:
    """Adds the steps of all mounts of one container, and keeps what is to be made read-only when all are there."""

    def __init__(self, draft: Draft, subject: Subject, cgroup: CgroupLayout) -> None:
        self.draft, self.subject, self.cgroup = draft, subject, cgroup
        self.freeze: list[tuple[str, str]] = []  # (target, cause)

    def add(self, place: int, mount: Mount) -> None:
        """Append the steps of mounts[place]."""
        target, cause = normal(mount.destination), f"/mounts/{place}"
        chosen = options.parse(mount.options)
        check_target(mount, chosen, target, f"mounts[{place}].destination")
        kind = mount.type
        if chosen.remount:
            self._remount(place, chosen, target)
        elif chosen.bind or kind == "bind":
            self._bind(place, mount, chosen, target)
        elif kind == "cgroup":
            self._cgroup(chosen, target, cause)
        elif kind in _SHOWS and self.subject.confined and _SHOWS[kind] not in self.subject.new:
            # Only whoever owns the pid, network or ipc namespace may mount its view afresh; the host's serves.
            attributes, clear = chosen.attributes()
            self.draft.add(steps.BIND, _HOST_COPY[kind], target, 1, attributes, clear, MAKE_DIRECTORY, cause=cause)
            if attributes:
                # The copy brings what is mounted on it, the host's cgroups for one.
                self.draft.add(steps.SET_ATTR, target, 1, attributes, clear, cause=cause)
        elif kind in {"", "none"}:
            self._adjust(place, chosen, target)
        else:
            self._file_system(place, mount, chosen, target)
        if chosen.tree_set or chosen.tree_clear:
            self.draft.add(steps.SET_ATTR, target, 1, chosen.tree_set, chosen.tree_clear, cause=cause)
        for flags in chosen.propagation:
            self.draft.add(steps.SET_PROPAGATION, target, flags, cause=cause)

    def finish(self) -> None:
        """Make read-only the tmpfs mounts that other mounts had to make their targets in."""
        for target, cause in self.freeze:
            self.draft.add(steps.SET_ATTR, target, 0, ATTR_RDONLY, 0, cause=cause)

    def _file_system(self, place: int, mount: Mount, chosen: Options, target: str) -> None:
        where, cause = f"mounts[{place}]", f"/mounts/{place}"
        if chosen.idmap or mount.uid_mappings:
            raise refuse(f"{where}.uidMappings", "only a bind mount can have its ids mapped")
        if chosen.copy_up:
            raise refuse(f"{where}.options", "tmpcopyup is not supported")
        flags, data = chosen.flags, chosen.data
        if mount.type == "tmpfs" and flags & MS_RDONLY:
            flags &= ~MS_RDONLY
            self.freeze.append((target, cause))
        if self.subject.linux.mount_label and mount.type in _LABELLED:
            data = ",".join(part for part in (data, f'context="{self.subject.linux.mount_label}"') if part)
        source = mount.source or mount.type
        self.draft.add(steps.MOUNT, mount.type, source, target, flags, data, MAKE_DIRECTORY, cause=cause)

    def _bind(self, place: int, mount: Mount, chosen: Options, target: str) -> None:
        where, cause = f"mounts[{place}]", f"/mounts/{place}"
        if not mount.source:
            raise refuse(f"{where}.source", "a bind mount needs a source")
        if chosen.data:
            raise refuse(f"{where}.options", f"a bind mount takes no {chosen.data!r}")
        source = self.subject.host_path(mount.source)
        recursive = int(chosen.bind != 1)
        if chosen.idmap or mount.uid_mappings:
            maps = self._maps(place, mount)
            self._tree((source, target, int(recursive and chosen.idmap != 1)), chosen, maps, cause)
        elif self._opened_outside(chosen):
            self._tree((source, target, recursive), chosen, (b"", b""), cause)
        else:
            attributes, clear = chosen.attributes()
            self.draft.add(steps.BIND, source, target, recursive, attributes, clear, MAKE_AS_SOURCE, cause=cause)

    def _opened_outside(self, chosen: Options) -> bool:
        """Tell whether the supervisor opens the source.

        It does where root of the user namespace could not reach it, and where the mount is to stay a peer of the
        host's: inside, everything is cut off from there already.
        """
        wanted = self.subject.from_outside or _stays_shared(chosen)
        return wanted and self.draft.free_slots() > _SPARE_SLOTS

    def _maps(self, place: int, mount: Mount) -> tuple[bytes, bytes]:
        linux = self.subject.linux
        uids, gids = mount.uid_mappings or linux.uid_mappings, mount.gid_mappings or linux.gid_mappings
        if not uids:
            raise refuse(f"mounts[{place}].options", "idmap needs uidMappings, here or in linux")
        if self.subject.host.kernel < (5, 12):
            raise refuse(f"mounts[{place}].uidMappings", "needs Linux 5.12")
        return map_text(uids), map_text(gids)

    def _tree(self, what: tuple[str, str, int], chosen: Options, maps: tuple[bytes, bytes], cause: str) -> None:
        """Add a bind made with the supervisor's rights.

        Mapping ids takes those of the file system's owner; and root of a user namespace may not be let into the
        directories above the source. The copy is made before the mount namespace is cut off from the host's, so that
        has to be done for it here.
        """
        source, target, recursive = what
        attributes, clear = chosen.attributes()
        slot = self.draft.slot(cause)
        self.draft.add(steps.OPEN_TREE, slot, source, recursive, attributes, clear, *maps, cause=cause, phase=BEFORE)
        self.draft.add(steps.ATTACH, slot, target, MAKE_AS_SOURCE, cause=cause)
        if not _stays_shared(chosen):
            self.draft.add(steps.SET_PROPAGATION, target, options.MS_SLAVE | options.MS_REC, cause=cause)

    def _remount(self, place: int, chosen: Options, target: str) -> None:
        """Change the attributes of a mount that an entry before this one, or the image's owner, made."""
        if chosen.data:
            raise refuse(
                f"mounts[{place}].options",
                f"a mount that stands cannot be given {chosen.data!r}",
                hint="give it to the entry that mounts it",
            )
        attributes, clear = chosen.attributes()
        self.draft.add(steps.SET_ATTR, target, 0, attributes, clear, cause=f"/mounts/{place}")

    def _adjust(self, place: int, chosen: Options, target: str) -> None:
        """An entry without a type: only changes what is mounted there."""
        attributes, clear = chosen.attributes()
        if chosen.data or not (attributes or clear or chosen.tree_set or chosen.tree_clear or chosen.propagation):
            raise refuse(f"mounts[{place}].type", "is required, unless the options say bind or remount")
        if attributes or clear:
            self.draft.add(steps.SET_ATTR, target, 0, attributes, clear, cause=f"/mounts/{place}")

    def _cgroup(self, chosen: Options, target: str, cause: str) -> None:
        host = self.subject.host
        if host.cgroup == "v2":
            self._cgroup_mount("", target, chosen, cause)
            return
        flags = chosen.flags & ~MS_RDONLY
        self.draft.add(steps.MOUNT, "tmpfs", "cgroup", target, flags, "mode=755", MAKE_DIRECTORY, cause=cause)
        for point, words, _own in host.cgroup_mounts:
            name = point.rsplit("/", 1)[-1]
            self._cgroup_mount(point, f"{target}/{name}", chosen, cause)
            for controller in words.split(",") if "," in words and "=" not in words else ():
                if controller != name:
                    self.draft.add(steps.SYMLINK, name, f"{target}/{controller}", cause=cause)
        if chosen.flags & MS_RDONLY:
            self.freeze.append((target, cause))

    def _cgroup_mount(self, point: str, target: str, chosen: Options, cause: str) -> None:
        """One hierarchy: a fresh mount shows the namespace's part; without one the own directory is bound."""
        host = self.subject.host
        mount, words, own = next((row for row in host.cgroup_mounts if row[0] == point or not point), ("", "", ""))
        if not mount:
            raise refuse(cause.strip("/").replace("/", "[", 1) + "]", "the host has no cgroup hierarchy mounted")
        if "cgroup" in self.subject.new:
            kind = "cgroup" if words else "cgroup2"
            self.draft.add(steps.MOUNT, kind, "cgroup", target, chosen.flags, words, MAKE_DIRECTORY, cause=cause)
            return
        directory = next((path for path in self.cgroup.enter if path.startswith(mount + "/")), mount + own)
        attributes, clear = chosen.attributes()
        recursive = int(self.subject.confined)  # a user namespace may not bind a mount without those on top of it
        make = MAKE_DIRECTORY
        self.draft.add(steps.BIND, directory, target, recursive, attributes, clear, make, cause=cause)


def _stays_shared(chosen: Options) -> bool:
    return any(flags & options.MS_SHARED for flags in chosen.propagation)


def normal(path: str) -> str:
    """Return ``path`` absolute, without empty, "." and ".." parts: as seen from the container's root."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    return "/" + "/".join(parts)


def check_target(mount: Mount, chosen: Options, target: str, where: str) -> None:
    """Refuse a mount that would put something else in the place of the kernel's own file systems."""
    if target == "/":
        raise refuse(where, "the root is not a place to mount", hint="set root.path")
    if chosen.remount or not (mount.type or chosen.bind):
        return
    bound = mount.type == "bind" or chosen.bind
    if target == "/proc" and not (mount.source.rstrip("/") == "/proc" if bound else mount.type == "proc"):
        raise refuse(where, "only a proc file system may be mounted on /proc")
    if target == "/sys" and not (normal(mount.source) == "/sys" if bound else mount.type == "sysfs"):
        raise refuse(where, "only a sysfs may be mounted on /sys")
    if target.startswith("/proc/") and target not in PROC_FILES:
        raise refuse(where, f"{target} is inside /proc", hint="maskedPaths and readonlyPaths cover parts of /proc")
