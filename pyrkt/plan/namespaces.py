"""Namespaces: which are joined, which are made, and what each needs to be of use."""

from __future__ import annotations

from pyrkt.plan.draft import O_DIRECTORY, O_NONBLOCK, O_PATH, O_RDONLY, O_WRONLY, pointer, refuse
from pyrkt.plan.steps import BEFORE, CHILD, PARENT
from pyrkt.spec import capabilities, steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.kernel.host import Host
    from pyrkt.plan.draft import Draft, Subject
    from pyrkt.spec.layout import CgroupLayout, ResctrlLayout
    from pyrkt.spec.runtime import IdMapping, User

# include/uapi/linux/sched.h
FLAGS = {
    "time": 0x80,
    "mount": 0x20000,
    "cgroup": 0x2000000,
    "uts": 0x4000000,
    "ipc": 0x8000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "network": 0x40000000,
}
_SETGID = capabilities.mask(("CAP_SETGID",))
NEWNS, NEWCGROUP = FLAGS["mount"], FLAGS["cgroup"]
# The cgroup namespace must be made inside the cgroup, time offsets be set before anybody is in the namespace.
_LATER = ("cgroup", "time")


def join(draft: Draft, subject: Subject) -> None:
    """Open and enter the namespaces given by path; all are opened first, since entering one may hide the others.

    Root of the host enters the user namespace last, because it may enter the others' without it; anybody else first,
    because the rights over the others come from it. A cgroup namespace is left to the first process: from within one,
    nobody can be born into a cgroup of version 2 out of a cgroup that is not below it (mount option nsdelegate, which
    systemd uses; cgroup_procs_write_permission). In a user namespace of its own it would not have the right any more.
    """
    joined = [(place, ns) for place, ns in enumerate(subject.linux.namespaces) if ns.path]
    joined.sort(key=lambda item: (item[1].type == "user") == subject.host.administers)
    opened = []
    for place, namespace in joined:
        cause = f"/linux/namespaces/{place}"
        # A fifo in the place of a namespace would hold us up for ever.
        opened.append((draft.open(namespace.path, O_RDONLY | O_NONBLOCK, cause), FLAGS[namespace.type], cause))
    for slot, kind, cause in opened:
        later = kind == NEWCGROUP and "user" not in subject.new
        draft.add(steps.SETNS, slot, kind, cause=cause, phase=CHILD if later else BEFORE)


def clone(draft: Draft, flags: int, cgroup: CgroupLayout, cause: str = "/linux/namespaces") -> None:
    """Make the first process, in a v2 cgroup from its first instruction on where there is one."""
    slot = -1
    if cgroup.clone_into:
        slot = draft.open(cgroup.clone_into, O_PATH | O_DIRECTORY, "/linux/cgroupsPath")
    draft.add(steps.CLONE, flags, slot, cause=cause, phase=BEFORE)


def clone_flags(subject: Subject) -> int:
    """Return the CLONE_NEW* flags of the namespaces that begin with the first process."""
    flags = 0
    for kind in subject.new:
        if kind not in _LATER:
            flags |= FLAGS[kind]
    return flags


def map_ids(draft: Draft, subject: Subject) -> None:
    """Write the id maps of a new user namespace, or have newuidmap and newgidmap do it for an ordinary user."""
    if "user" not in subject.new:
        return
    uids, gids = subject.linux.uid_mappings, subject.linux.gid_mappings
    for name, ranges in (("uidMappings", uids), ("gidMappings", gids)):
        if not ranges:
            raise refuse(f"linux.{name}", f"user namespaces enabled, but no {name[:3]} mappings found")
        if not any(mapping.container_id == 0 for mapping in ranges):
            raise refuse(
                f"linux.{name}",
                "a new user namespace needs id 0, which sets it up",
                hint="map containerID 0 to a host id",
            )
    if needs_helper(subject.host, uids, gids):
        draft.add(steps.MAP_HELPER, _helper("newuidmap", uids), cause="/linux/uidMappings", phase=PARENT)
        draft.add(steps.MAP_HELPER, _helper("newgidmap", gids), cause="/linux/gidMappings", phase=PARENT)
        return
    deny = int(denies_groups(subject))
    draft.add(steps.MAP_IDS, map_text(uids), map_text(gids), deny, cause="/linux/uidMappings", phase=PARENT)


def check_mapped(subject: Subject, user: User) -> None:
    """Refuse a user or a group that the container's new user namespace does not have."""
    if "user" not in subject.new:
        return
    numbers = [("uid", "uid", user.uid), ("gid", "gid", user.gid)]
    numbers += [(f"additionalGids[{place}]", "gid", gid) for place, gid in enumerate(user.additional_gids)]
    for where, kind, number in numbers:
        if not is_mapped(subject, kind, number):
            raise refuse(
                f"process.user.{where}",
                f"cannot set {kind} to unmapped user in user namespace",
                hint=f"map {number} in linux.{kind}Mappings",
            )


def is_mapped(subject: Subject, kind: str, number: int) -> bool:
    """Tell whether the new user namespace has this "uid" or "gid"."""
    ranges = subject.linux.uid_mappings if kind == "uid" else subject.linux.gid_mappings
    return any(0 <= number - m.container_id < m.size for m in ranges)


def needs_helper(host: Host, uids: tuple[IdMapping, ...], gids: tuple[IdMapping, ...]) -> bool:
    """Tell whether the maps are more than an ordinary user may write: one line, of the own id (user_namespaces(7))."""
    if host.euid == 0:
        return False
    alone = len(uids) == len(gids) == 1 and uids[0].size == gids[0].size == 1
    return not (alone and uids[0].host_id == host.euid and gids[0].host_id == host.egid)


def denies_groups(subject: Subject) -> bool:
    """Tell whether setgroups(2) is refused in the container's user namespace.

    Leaving a group must not widen the access of one who may not change groups outside either (CVE-2014-8989).
    """
    linux, host = subject.linux, subject.host
    plain = not needs_helper(host, linux.uid_mappings, linux.gid_mappings)
    return "user" in subject.new and plain and (host.euid != 0 or not host.effective & _SETGID)


def map_text(ranges: tuple[IdMapping, ...]) -> bytes:
    """Return the lines for /proc/PID/uid_map."""
    return b"".join(b"%d %d %d\n" % (m.container_id, m.host_id, m.size) for m in ranges)


def _helper(program: str, ranges: tuple[IdMapping, ...]) -> tuple[str, ...]:
    numbers = [str(n) for m in ranges for n in (m.container_id, m.host_id, m.size)]
    return (program, "{pid}", *numbers)


def own(draft: Draft, subject: Subject, keyring: str) -> None:
    """The first steps within the new namespaces: become their root, and make each what the container expects."""
    linux = subject.linux
    if "time" in subject.new:
        # Before the process stops being dumpable: its own proc files belong to the host's root afterwards.
        lines = [f"{clock} {offset.secs} {offset.nanosecs}\n" for clock, offset in linux.time_offsets.items()]
        draft.add(steps.TIME, "".join(lines).encode(), cause="/linux/timeOffsets" if lines else "/linux/namespaces")
    draft.add(steps.DUMPABLE, 0)
    if "user" in subject.own:
        draft.add(steps.ROOT_IDS, cause="/linux/namespaces")
    draft.add(steps.SETSID)
    if keyring:
        draft.add(steps.KEYRING, keyring)
    if "network" in subject.new:
        draft.add(steps.LOOPBACK, cause="/linux/namespaces")
    _names(draft, subject)


def move_devices(draft: Draft, subject: Subject) -> None:
    """Take network devices of the host along, under the names they are to have there."""
    moved: set[str] = set()
    for name, device in subject.linux.net_devices.items():
        where, new_name = f"linux.netDevices.{name}", device.name or name
        if not subject.host.privileged:
            raise refuse(where, "network devices are not supported for rootless containers")
        if new_name in moved:
            raise refuse(where, f"two devices would be called {new_name!r}")
        moved.add(new_name)
        draft.add(steps.NET_DEVICE, name, new_name, cause=f"/linux/netDevices/{name}", phase=PARENT)


def _names(draft: Draft, subject: Subject) -> None:
    config = subject.config
    for name, value, code in (
        ("hostname", config.hostname, steps.HOSTNAME),
        ("domainname", config.domainname, steps.DOMAINNAME),
    ):
        if not value:
            continue
        if "uts" not in subject.own:
            raise refuse(name, "needs a uts namespace", hint='add {"type": "uts"} to linux.namespaces')
        if len(value.encode()) > 64:
            raise refuse(name, "is longer than the kernel's 64 bytes")
        draft.add(code, value, cause=f"/{name}")


def enter_cgroup(draft: Draft, subject: Subject, cgroup: CgroupLayout) -> None:
    """Place the process in its cgroups: those of v1 (``enter``), and that of v2 if it was not cloned into it.

    On v1 the process moves itself, as one thread: that takes no lock. A pid written to cgroup.procs takes one for
    which the kernel waits until every processor has been idle or switched tasks, 6 to 15 ms. Root of a user namespace
    may write there only through what the supervisor opened.
    """
    cause = "/linux/cgroupsPath"
    files = [f"{directory}/tasks" for directory in cgroup.enter]
    if draft.phase == CHILD or subject.from_outside:
        for file in files:
            draft.add(steps.ENTER_CGROUP_SLOT, draft.open(file, O_WRONLY, cause), cause=cause)
        return
    for file in files:
        draft.add(steps.ENTER_CGROUP, file.rpartition("/")[0], cause=cause)


def enter_resctrl(draft: Draft, layout: ResctrlLayout) -> None:
    """Put the process, and so all that it makes, into its groups of resctrl, before it does anything."""
    for directory in layout.enter:
        slot = draft.open(f"{directory}/tasks", O_WRONLY, "/linux/intelRdt")
        draft.add(steps.ENTER_CGROUP_SLOT, slot, cause="/linux/intelRdt", phase=PARENT)


def fill_unit(draft: Draft, cgroup: CgroupLayout) -> None:
    """Take the holder's place in a unit of systemd, and write what had to wait for that.

    Cloned into version 2, the first process is there; without that it must be put into the hierarchy that systemd
    watches before the holder leaves: a scope that is empty for a moment ends.
    """
    if not cgroup.is_held:
        return
    if not cgroup.clone_into:
        for directory in cgroup.managed:
            draft.add(steps.ENTER_CGROUP, directory, cause="/linux/cgroupsPath", phase=PARENT)
    draft.add(steps.LET_GO, cause="/linux/cgroupsPath", phase=PARENT)
    for path, value, cause in cgroup.late:
        draft.add(steps.WRITE, path, value.encode(), cause=pointer(cause), phase=PARENT)


def unshare_cgroup(draft: Draft, subject: Subject) -> None:
    """Make the cgroup namespace: its root is the cgroup where the process is now."""
    if "cgroup" in subject.new:
        draft.add(steps.UNSHARE, NEWCGROUP, cause="/linux/namespaces")
