"""Which cgroup hierarchies this host has, where they are mounted, and where in them the caller is.

The mount table is the only witness: engines leave plain directories named like controllers in the tmpfs at
/sys/fs/cgroup, so that a directory proves nothing. Source: cgroups(7), proc(5) "/proc/pid/mountinfo".
"""

from __future__ import annotations

import os

from pyrkt.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_PREFERRED = "/sys/fs/cgroup"
_NOT_CONTROLLERS = frozenset(
    ("rw", "ro", "xattr", "clone_children", "cpuset_v2_mode", "favordynmods", "noprefix", "none", "all")
)


class Hierarchy(Record):
    """One mounted cgroup hierarchy.

    ``names`` are its v1 controllers ("cpu", "cpuacct"; a named one is "name=systemd"), empty for v2.
    ``mount`` is where it is mounted; ``own`` is the caller's cgroup in it, seen from the mount ("/" or "/a/b").
    """

    names: tuple[str, ...]
    mount: str
    own: str = "/"


class Cpuset(Record):
    """What a new cpuset cgroup of v1 must be given: the values of the nearest ancestor that has some.

    ``directory`` is that ancestor; every directory made below it starts empty and takes no process until filled.
    """

    directory: str
    cpus: str
    mems: str


class Mounts(Record):
    """The cgroup hierarchies of the host, as far as ``plan.layout`` needs to know them.

    ``v1`` are the version 1 hierarchies, ``unified`` is that of version 2 (None: not mounted), ``controllers`` are
    the controllers that version 2 has. ``bfq`` tells whether weights of block devices are BFQ's;
    ``delegated`` whether one who is not root of the host may have the cgroup in version 2, and from which directory
    down he ``hands_on`` controllers ("": from where cgroupsPath counts from);
    ``writable`` names the mounts of version 1 where he may have it.
    ``swap``: whether the kernel counts swap; it does not with swapaccount=0.
    """

    v1: tuple[Hierarchy, ...] = ()
    unified: Hierarchy | None = None
    controllers: tuple[str, ...] = ()
    cpuset: Cpuset | None = None
    bfq: bool = False
    swap: bool = True
    delegated: bool = False
    hands_on: str = ""
    writable: tuple[str, ...] = ()

    @property
    def mode(self) -> str:
        """Return "v1", "hybrid" (both, the controllers mostly in v1), "v2", or "none"."""
        if self.unified is None:
            return "v1" if self.v1 else "none"
        return "hybrid" if self.v1 else "v2"

    def find(self, controller: str) -> Hierarchy | None:
        """Return the version 1 hierarchy of ``controller``."""
        for hierarchy in self.v1:
            if controller in hierarchy.names:
                return hierarchy
        return None


def unescape(field: str) -> str:
    r"""Return ``field`` of a mount table as it was: ``\040`` is a space. Source: proc(5)."""
    if "\\" not in field:
        return field
    head, *rest = field.split("\\")
    return head + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)


def _own_paths(text: str) -> dict[str, str]:
    """Return controller to path from ``/proc/self/cgroup``; version 2 is under the empty name."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if number == "0" and not names:
            paths[""] = path
        for name in names.split(",") if names else ():
            paths[name] = path
    return paths


def _below(own: str, root: str) -> str:
    """Return the cgroup ``own`` as seen from a mount that shows the subtree ``root``."""
    if root == "/":
        return own or "/"
    if own == root or own.startswith(root + "/"):
        return own[len(root) :] or "/"
    # A mount of a namespaced cgroup tree ("/.." and the like): the caller stands at its top, or outside of it.
    return "/"


def parse(mountinfo: str, own: str, controllers: str = "") -> Mounts:
    """Return the hierarchies that ``mountinfo`` shows.

    Takes: the texts of /proc/self/mountinfo, of /proc/self/cgroup, and of cgroup.controllers at the top of version 2.
    Of several mounts of one hierarchy, one below /sys/fs/cgroup is preferred, then the first.
    """
    paths = _own_paths(own)
    v1: dict[tuple[str, ...], Hierarchy] = {}
    unified: Hierarchy | None = None
    for line in mountinfo.splitlines():
        if " - cgroup" not in line:
            continue
        left, _, right = line.partition(" - ")
        fields, (kind, _, options) = left.split(" "), right.split(" ", 2)
        root, mount = unescape(fields[3]), unescape(fields[4])
        if kind == "cgroup2":
            if unified is None or _better(mount, unified.mount):
                unified = Hierarchy(names=(), mount=mount, own=_below(paths.get("", "/"), root))
        elif kind == "cgroup":
            names = tuple(o for o in options.split(",") if o not in _NOT_CONTROLLERS and _is_controller(o))
            if names and (names not in v1 or _better(mount, v1[names].mount)):
                v1[names] = Hierarchy(names=names, mount=mount, own=_below(paths.get(names[0], "/"), root))
    return Mounts(v1=tuple(v1.values()), unified=unified, controllers=tuple(controllers.split()))


def _is_controller(option: str) -> bool:
    return option.startswith("name=") or "=" not in option


def _better(mount: str, than: str) -> bool:
    return mount.startswith(_PREFERRED) and not than.startswith(_PREFERRED)


def components(path: str) -> list[str]:
    """Return the names in ``path``, without empty ones and dots; ".." never leads above the top."""
    names: list[str] = []
    for name in path.split("/"):
        if name == "..":
            del names[-1:]
        elif name not in ("", "."):
            names.append(name)
    return names


def base_of(hierarchy: Hierarchy, path: str) -> str:
    """Return the directory in ``hierarchy`` that cgroupsPath ``path`` counts from.

    An absolute path counts from the mount, a relative one from the caller's own cgroup, as with runc. In version 2 it
    is the parent of the caller's own: a cgroup that holds processes can hand no controllers to children ("no
    internal processes", cgroups(7)). Source: runtime-spec 1.3, config-linux, "Cgroups Path".
    """
    if path.startswith("/"):
        return hierarchy.mount
    names = components(hierarchy.own)
    if not hierarchy.names:
        names = names[:-1]
    return "/".join([hierarchy.mount, *names])


def read_text(path: str) -> str:
    """Return what the small kernel file ``path`` says, without the newline; empty if there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        chunks = []
        while chunk := os.read(descriptor, 65536):
            chunks.append(chunk)
    except OSError:  # ENODEV: the cgroup went away meanwhile
        return ""
    finally:
        os.close(descriptor)
    return b"".join(chunks).decode("utf-8", "surrogateescape").strip("\n")


def hands_down(directory: str) -> bool:
    """Tell whether a v2 cgroup hands controllers to those below it, or is gone: then it may take no process."""
    try:
        descriptor = os.open(f"{directory}/cgroup.subtree_control", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        return len(os.read(descriptor, 1024)) > 1
    finally:
        os.close(descriptor)


def inherited_cpuset(hierarchy: Hierarchy, path: str) -> Cpuset | None:
    """Return whose processors and memory nodes a new cpuset at cgroupsPath ``path`` takes over; None if all is set."""
    base = base_of(hierarchy, path)
    found: Cpuset | None = None
    directory = base
    for name in ("", *components(path)):
        directory = f"{directory}/{name}" if name else directory
        cpus, mems = read_text(f"{directory}/cpuset.cpus"), read_text(f"{directory}/cpuset.mems")
        if not (cpus and mems):
            break
        found = Cpuset(directory=directory, cpus=cpus, mems=mems)
    return found


def of_table(table: Iterable[tuple[str, str, str]]) -> Mounts:
    """Return the hierarchies of ``kernel.host``'s table: (mount point, options, the caller's own cgroup)."""
    v1: list[Hierarchy] = []
    unified: Hierarchy | None = None
    for mount, words, own in table:
        if words:
            names = tuple(word for word in words.split(",") if word != "none")
            v1.append(Hierarchy(names=names, mount=mount, own=own or "/"))
        else:
            unified = Hierarchy(names=(), mount=mount, own=own or "/")
    return Mounts(v1=tuple(v1), unified=unified)


def probe(
    cgroups_path: str = "", table: Iterable[tuple[str, str, str]] | None = None, *, rootless: bool = False
) -> Mounts:
    """Return this host's hierarchies, with what a new cgroup at ``cgroups_path`` must take over from its parents.

    ``table`` is the mount table of a ``kernel.host.Host``, for callers that have one already.
    ``rootless``: find out, too, what is delegated to the caller.
    """
    if table is None:
        mounts = parse(read_text("/proc/self/mountinfo"), read_text("/proc/self/cgroup"))
    else:
        mounts = of_table(table)
    changes: dict[str, object] = {}
    if mounts.unified is not None:
        base = base_of(mounts.unified, cgroups_path)
        changes["controllers"] = tuple(read_text(f"{base}/cgroup.controllers").split())
    cpuset = mounts.find("cpuset")
    if cpuset is not None:
        changes["cpuset"] = inherited_cpuset(cpuset, cgroups_path)
    changes["bfq"], changes["swap"] = _any_bfq(mounts), _counts_swap(mounts)
    if rootless:
        changes |= _delegated_to_us(mounts.replace(**changes), cgroups_path)
    return mounts.replace(**changes)


def _delegated_to_us(mounts: Mounts, path: str) -> dict[str, object]:
    """Return the members of ``mounts`` that say what one who is not root of the host may have at cgroupsPath ``path``.

    Whoever delegates gives away a directory, with the files that move processes there; everything above stays
    another's. Source: cgroup-v2.rst, "Delegation"; cgroups(7), "Cgroups delegation".
    """
    changes: dict[str, object] = {"writable": tuple(h.mount for h in mounts.v1 if _v1(h, path, mounts))}
    if mounts.unified is not None:
        nearest, rest = _nearest(mounts.unified, path)
        changes["delegated"] = _v2(mounts.unified, nearest, rest)
        hands = os.access(f"{nearest}/cgroup.subtree_control", os.W_OK) and not read_text(f"{nearest}/cgroup.procs")
        if hands or not rest:
            changes["controllers"] = tuple(read_text(f"{nearest}/cgroup.controllers").split())
            changes["hands_on"] = nearest
        else:
            # A cgroup with processes in it can hand on nothing more, and neither can another's.
            changes["controllers"] = tuple(read_text(f"{nearest}/cgroup.subtree_control").split())
            changes["hands_on"] = f"{nearest}/{rest[0]}"
    return changes


def _nearest(hierarchy: Hierarchy, path: str) -> tuple[str, list[str]]:
    """Return the last directory on the way to ``path`` that is there, and the names that are still to be made."""
    here, rest = base_of(hierarchy, path), components(path)
    while rest and os.path.isdir(f"{here}/{rest[0]}"):
        here = f"{here}/{rest.pop(0)}"
    return here, rest


def _may_have(nearest: str, rest: list[str], file: str) -> bool:
    """Tell whether the caller may make a cgroup there, or enter the one that is there already."""
    return os.access(nearest if rest else f"{nearest}/{file}", os.W_OK)


def _v1(hierarchy: Hierarchy, path: str, mounts: Mounts) -> bool:
    nearest, rest = _nearest(hierarchy, path)
    if not _may_have(nearest, rest, "tasks"):
        return False
    if "cpuset" not in hierarchy.names or mounts.cpuset is None:
        return True
    # One that has no processors yet must be filled before anything below it can be.
    return nearest == mounts.cpuset.directory or all(
        os.access(f"{nearest}/{file}", os.W_OK) for file in ("cpuset.cpus", "cpuset.mems")
    )


def _v2(hierarchy: Hierarchy, nearest: str, rest: list[str]) -> bool:
    """Tell whether the caller may put a process of its own there: up to where both ways part he must be let in."""
    if not _may_have(nearest, rest, "cgroup.procs"):
        return False
    common = os.path.commonpath([f"{hierarchy.mount}/{hierarchy.own}".replace("//", "/").rstrip("/"), nearest])
    return os.access(f"{common}/cgroup.procs", os.W_OK)


def _any_bfq(mounts: Mounts) -> bool:
    blkio = mounts.find("blkio")
    if blkio is not None:
        return os.path.exists(f"{blkio.mount}/blkio.bfq.io_serviced")
    unified = mounts.unified
    if unified is None:
        return False
    # The top of version 2 has no weights: the caller's own cgroup, if it is another, shows whose they are.
    own = f"{unified.mount}{unified.own}"
    if os.path.exists(f"{own}/io.bfq.weight"):
        return True
    return not os.path.exists(f"{own}/io.weight") and os.path.exists("/sys/module/bfq")


def _counts_swap(mounts: Mounts) -> bool:
    memory = mounts.find("memory")
    if memory is not None:
        return os.path.exists(f"{memory.mount}/memory.memsw.limit_in_bytes")
    if mounts.unified is None:
        return True
    own = f"{mounts.unified.mount}{mounts.unified.own}"
    return os.path.exists(f"{own}/memory.swap.max") or not os.path.exists(f"{own}/memory.max")
