"""The mounts of config.json as steps: file systems, binds, cgroups, and what a user namespace takes instead."""

from __future__ import annotations

from pyrkt.plan import options
from pyrkt.plan.draft import O_NONBLOCK, O_RDONLY, refuse
from pyrkt.plan.namespaces import is_mapped, map_text
from pyrkt.plan.options import MS_RDONLY
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
MAKE_DIRECTORY, MAKE_AS_SOURCE, MAKE_LENDING, MAKE_COPYING = 1, 1, 3, 4
WHOLE, MAP_WHOLE, TREE_FIRST, LOCKS, ASK = 1, 2, 4, 8, 16  # VOLUME's "how"
NO_PEER = 2  # OPEN_TREE's "copy", beside WHOLE
# Fresh instances that the kernel gives only to the owner of the namespace they show.
_SHOWS = {"proc": "pid", "sysfs": "network", "mqueue": "ipc"}
_HOST_COPY = {"proc": "/proc", "sysfs": "/sys", "mqueue": "/dev/mqueue"}
_SPARE_SLOTS = 4  # for the root, the cgroup and the seccomp agent
# Their files have labels of their own, which a context of the mount would hide (as with runc).
_UNLABELLED = ("proc", "sysfs", "mqueue", "cgroup", "cgroup2")
# How fsconfig(2) is told that a flag of a file system is to go.
_TAKEN_BACK = ((options.MS_SYNCHRONOUS, "async"), (options.MS_MANDLOCK, "nomand"), (options.MS_LAZYTIME, "nolazytime"))


class Mounts:
    """Adds the steps of all mounts of one container.

    ``root`` is the host directory of the root file system; ``freeze`` is what is to be made read-only when everything
    has been made in it: (target, cause).
    """

    def __init__(self, draft: Draft, subject: Subject, cgroup: CgroupLayout, root: str) -> None:
        self.draft, self.subject, self.cgroup, self.root = draft, subject, cgroup, root
        self.freeze: list[tuple[str, str]] = []
        self.maps: dict[tuple[bytes, bytes] | str, int] = {}  # slots of user namespaces whose maps mounts get

    def add(self, place: int, mount: Mount) -> None:
        """Append the steps of mounts[place]."""
        target, cause = self._inside(mount.destination), f"/mounts/{place}"
        chosen = options.parse(mount.options)
        check_target(mount, chosen, target, f"mounts[{place}].destination")
        kind = mount.type
        if chosen.remount:
            self._remount(place, chosen, target)
        elif chosen.bind or kind == "bind":
            self._bind(place, mount, chosen, target)
        elif kind == "cgroup":
            self._cgroup(chosen, target, cause)
        elif kind in _SHOWS and self.subject.confined and not self._owns(_SHOWS[kind]):
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

    def _inside(self, destination: str) -> str:
        """Return the destination below the root; engines may write it with the host's path of the root before it."""
        target = normal(destination)
        return target[len(self.root) :] if target.startswith(self.root + "/") else target

    def _file_system(self, place: int, mount: Mount, chosen: Options, target: str) -> None:
        where, cause = f"mounts[{place}]", f"/mounts/{place}"
        if chosen.idmap or mount.uid_mappings:
            raise refuse(
                f"{where}.uidMappings", "only a bind mount can have its ids mapped", hint='add "bind" to its options'
            )
        if chosen.copy_up and mount.type != "tmpfs":
            raise refuse(f"{where}.options", "tmpcopyup is for a tmpfs")
        flags, data, make = chosen.flags, chosen.data, MAKE_DIRECTORY
        if mount.type == "tmpfs":
            self._check_owner(data, where)
            # What it covers lends it the mode, as with runc and crun; words of its own come after and win.
            make = MAKE_COPYING if chosen.copy_up else MAKE_LENDING
            if flags & MS_RDONLY:
                self.freeze.append((target, cause))
                flags &= ~MS_RDONLY
        elif mount.type == "devpts":
            data = self._mapped_owner(data)
        elif target == "/dev" and flags & MS_RDONLY:
            self.freeze.append((target, cause))  # devices are still to be made in it
            flags &= ~MS_RDONLY
        data = ",".join(part for part in (data, self._label(mount.type)) if part)
        source = mount.source or mount.type
        self.draft.add(steps.MOUNT, mount.type, source, target, flags, data, make, cause=cause)

    def _label(self, kind: str) -> str:
        """Return the option that gives every file of the mount linux.mountLabel.

        Where the kernel has no SELinux, a label has been refused (see plan.process): a container must not run with
        less than was asked for.
        """
        label = self.subject.linux.mount_label
        return f'context="{label}"' if label and kind not in _UNLABELLED else ""

    def _check_owner(self, data: str, where: str) -> None:
        """Refuse an owner of a tmpfs that the new user namespace does not have."""
        for word in data.split(",") if "user" in self.subject.new else ():
            name, _, number = word.partition("=")
            if name in ("uid", "gid") and number.isdecimal() and not is_mapped(self.subject, name, int(number)):
                raise refuse(
                    f"{where}.options",
                    f"cannot specify {word} mount option: user namespaces enabled, but no mapping found for "
                    f"{name} {number}",
                    hint=f"map it in linux.{name}Mappings",
                )

    def _mapped_owner(self, data: str) -> str:
        """Leave the owner of a devpts out if the new user namespace has no such id: it would not mount.

        As crun: every generated configuration names group 5, tty, and who has one id only has no use for it.
        """
        if "user" not in self.subject.new:
            return data
        kept = []
        for word in data.split(","):
            name, _, number = word.partition("=")
            if name not in ("uid", "gid") or not number.isdecimal() or is_mapped(self.subject, name, int(number)):
                kept.append(word)
        return ",".join(kept)

    def _owns(self, kind: str) -> bool:
        """Tell whether the container's users own its namespace of ``kind``: a new one, or one joined as they are."""
        subject = self.subject
        return kind in subject.new or (kind in subject.joined and "user" in subject.joined)

    def _bind(self, place: int, mount: Mount, chosen: Options, target: str) -> None:
        where, cause = f"mounts[{place}]", f"/mounts/{place}"
        if not mount.source:
            raise refuse(f"{where}.source", "a bind mount needs a source")
        if chosen.data:  # as the kernel, crun and runc before 1.2 do: the validation programs write such entries
            problem = f"bind mounts cannot have any filesystem-specific options applied: {chosen.data!r} is left out"
            self.draft.warnings.append(f"{where}.options: {problem}")
        source = self.subject.host_path(mount.source)
        how, spare, maps = int(chosen.bind != 1), -1, -1
        if chosen.idmap or mount.uid_mappings:
            maps = self._maps(place, mount, cause)
        shared = self._stays_shared(chosen)
        if self._opened_outside(source, shared=shared):
            spare = self.draft.slot(cause)
            self.draft.add(steps.OPEN_TREE, spare, source, how, cause=cause, phase=BEFORE)
        how |= MAP_WHOLE * (chosen.idmap == 2) | TREE_FIRST * (shared and spare >= 0)
        how |= (LOCKS | ASK * (maps >= 0)) * self.subject.from_outside
        self.draft.add(steps.VOLUME, source, target, how, *chosen.of_bind(), spare, maps, cause=cause)
        if spare >= 0 and not shared:
            # The supervisor's copy was made before the mount namespace was cut off from the host's.
            self.draft.add(steps.SET_PROPAGATION, target, options.MS_SLAVE | options.MS_REC, cause=cause)

    def _opened_outside(self, source: str, *, shared: bool) -> bool:
        """Tell whether the supervisor opens the source too.

        It does where root of the user namespace may not be able to reach it, and where the mount is to stay a peer of
        the host's: inside, everything is cut off from there already. What lies in the container's own tree is there
        only when the mounts before have been made.
        """
        own = (normal(source) + "/").startswith(self.root + "/")
        wanted = shared or (self.subject.from_outside and not own)
        return wanted and self.draft.free_slots() > _SPARE_SLOTS

    def _stays_shared(self, chosen: Options) -> bool:
        """Tell whether a bind stays the host's peer: engines that want it say so of the root too, as runc needs it.

        Else it is the first of a new group, and stands where it is listed, not where the supervisor opened it.
        """
        root = options.PROPAGATION.get(self.subject.linux.rootfs_propagation, 0)
        return bool(root & options.MS_SHARED) and any(flags & options.MS_SHARED for flags in chosen.propagation)

    def _maps(self, place: int, mount: Mount, cause: str) -> int:
        """Return the slot of a user namespace with the maps of this mount: its own, or else the container's."""
        linux, host = self.subject.linux, self.subject.host
        if host.kernel < (5, 12):
            raise refuse(f"mounts[{place}].uidMappings", "needs Linux 5.12")
        if not host.administers:
            raise refuse(
                f"mounts[{place}].options",
                "id-mapped mounts are not supported for rootless containers",
                hint="the kernel lets only the owner of a file system map its ids",
            )
        uids, gids = mount.uid_mappings or linux.uid_mappings, mount.gid_mappings or linux.gid_mappings
        joined = linux.namespace("user")
        if not mount.uid_mappings and joined and joined.path:
            if joined.path not in self.maps:
                self.maps[joined.path] = self.draft.open(joined.path, O_RDONLY | O_NONBLOCK, cause)
            return self.maps[joined.path]
        if not uids or not gids:
            problem = "idmap needs uidMappings and gidMappings, here or in linux"
            raise refuse(f"mounts[{place}].options", problem, hint="or a user namespace, whose maps it takes")
        texts = map_text(uids), map_text(gids)
        if texts not in self.maps:
            self.maps[texts] = self.draft.slot(cause)
            self.draft.add(steps.ID_MAPS, self.maps[texts], *texts, cause=cause, phase=BEFORE)
        return self.maps[texts]

    def _remount(self, place: int, chosen: Options, target: str) -> None:
        """Change a mount that an entry before this one, or the image's owner, made: its file system and its flags."""
        cause = f"/mounts/{place}"
        words = [chosen.data] if chosen.data else []
        words += [word for flag, word in _TAKEN_BACK if chosen.cleared & flag]
        flags = chosen.flags & options.OF_FILE_SYSTEM
        if chosen.bind and chosen.data:
            problem = f"bind mounts cannot have any filesystem-specific options applied: {chosen.data!r}"
            raise refuse(f"mounts[{place}].options", problem, hint='without "bind" they are the file system\'s')
        if (words or flags) and not chosen.bind:
            self.draft.add(steps.REMOUNT, target, flags, ",".join(words), cause=cause)
        attributes, clear = chosen.attributes()
        if attributes or clear or not (words or flags):
            self.draft.add(steps.SET_ATTR, target, 0, attributes, clear, cause=cause)

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
        """One hierarchy: a fresh mount shows the namespace's part; without one the container's directory is bound.

        Of version 2 the host's part is shown, as far as a user namespace may: it needs no bind to be what it is.
        """
        host = self.subject.host
        mount, words, own = next((row for row in host.cgroup_mounts if row[0] == point or not point), ("", "", ""))
        if not mount:
            raise refuse(cause.strip("/").replace("/", "[", 1) + "]", "the host has no cgroup hierarchy mounted")
        if "cgroup" in self.subject.own or (host.cgroup == "v2" and not self.subject.confined):
            kind = "cgroup" if words else "cgroup2"
            self.draft.add(steps.MOUNT, kind, "cgroup", target, chosen.flags, words, MAKE_DIRECTORY, cause=cause)
            return
        entered = (*self.cgroup.enter, self.cgroup.clone_into)
        directory = next((path for path in entered if path.startswith(mount + "/")), mount + own)
        attributes, clear = chosen.attributes()
        recursive = int(self.subject.confined)  # a user namespace may not bind a mount without those on top of it
        make = MAKE_DIRECTORY
        self.draft.add(steps.BIND, directory, target, recursive, attributes, clear, make, cause=cause)


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
    """Refuse a mount that would put something else in the place of /proc, where labels and limits are written.

    /sys may be another, as with runc and crun: nothing is written there for the container.
    """
    if chosen.remount or not (mount.type or chosen.bind):
        return
    bound = mount.type == "bind" or chosen.bind
    if target == "/proc" and not (normal(mount.source) == "/proc" if bound else mount.type == "proc"):
        raise refuse(where, "only a proc file system may be mounted on /proc")
    if target.startswith("/proc/") and target not in PROC_FILES:
        raise refuse(where, f"{target} is inside /proc", hint="maskedPaths and readonlyPaths cover parts of /proc")
