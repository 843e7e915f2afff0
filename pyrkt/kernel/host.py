"""What this host is and what its caller may do: facts, read once, that the compiler decides by."""

from __future__ import annotations

import os

from pyrkt.base.record import Record
from pyrkt.kernel.process import CAP_SYS_ADMIN

TYPE_CHECKING = False

_ALL_IDS = (1 << 32) - 1
# Options of a v1 hierarchy that say how it is mounted, not which it is.
_NOT_CONTROLLERS = ("rw", "ro", "xattr", "clone_children", "cpuset_v2_mode", "noprefix", "favordynmods", "nsdelegate")


class Host(Record):
    """Facts of the host.

    ``kernel``: (major, minor). ``last_cap``: the highest capability it knows. ``bounding``: capabilities within the
    caller's reach, bit n for number n; ``effective``: those it has now.
    ``alone``: there is no other user in the caller's user namespace.
    ``kcore``: the kernel shows its memory as /proc/kcore, to which programs expect a link in /dev.
    ``lsm``: names of the active security modules, as far as they matter here.
    ``cgroup``: "v1", "hybrid" (v1 controllers, and v2 beside them) or "v2".
    ``cgroup_mounts``: (mount point, options that name the hierarchy, "" for v2, the caller's cgroup in it).
    """

    kernel: tuple[int, int]
    euid: int
    egid: int
    last_cap: int
    bounding: int
    cgroup: str
    cgroup_mounts: tuple[tuple[str, str, str], ...] = ()
    lsm: tuple[str, ...] = ()
    in_userns: bool = False
    machine: str = "x86_64"
    effective: int = -1
    alone: bool = False
    kcore: bool = False

    @property
    def administers(self) -> bool:
        """Whether the caller may make namespaces and mounts without a user namespace of its own.

        Root of a user namespace with one id is as little of a root as an ordinary user.
        """
        return self.euid == 0 and bool(self.effective >> CAP_SYS_ADMIN & 1) and not self.alone

    @property
    def privileged(self) -> bool:
        """Whether the caller is root of the host, with what makes it that."""
        return self.administers and not self.in_userns


def probe() -> Host:
    """Read the facts; a file that is not there counts as "no"."""
    system = os.uname()
    major, minor = system.release.split(".")[:2]
    status = _fields(_read("/proc/self/status"))
    ids = _read("/proc/self/uid_map").split()
    mounts = cgroup_mounts(_read("/proc/self/mountinfo"), _read("/proc/self/cgroup"))
    return Host(
        kernel=(int(major), int("".join(c for c in minor if c.isdigit()))),
        euid=os.geteuid(),
        egid=os.getegid(),
        last_cap=int(_read("/proc/sys/kernel/cap_last_cap") or "40"),
        bounding=int(status.get("CapBnd", "0"), 16),
        cgroup=_version(mounts),
        cgroup_mounts=mounts,
        lsm=_modules(),
        in_userns=ids not in ([], ["0", "0", str(_ALL_IDS)]),
        alone=len(ids) == 3 and ids[2] == "1",
        machine=system.machine,
        effective=int(status.get("CapEff", "0"), 16),
        kcore=os.path.exists("/proc/kcore"),
    )


def _read(path: str) -> str:
    # Without the layers of open(), which take longer than the kernel does for a small file.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    data = b""
    try:
        while more := os.read(descriptor, 1 << 16):
            data += more
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    return data.decode("utf-8", "surrogateescape")


def _fields(status: str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)


def _version(mounts: tuple[tuple[str, str, str], ...]) -> str:
    two = any(not words for _, words, _ in mounts)
    one = any(words for _, words, _ in mounts)
    return ("hybrid" if two else "v1") if one else "v2"


def _modules() -> tuple[str, ...]:
    # /sys/kernel/security is often not mounted; each module has a sign of its own.
    found = []
    if _read("/sys/module/apparmor/parameters/enabled").startswith("Y"):
        found.append("apparmor")
    if os.path.exists("/sys/fs/selinux/enforce"):
        found.append("selinux")
    return tuple(found)


def mounts_on(point: str) -> int:
    """Return how many mounts lie, one over the other, on the directory ``point`` in the caller's mount namespace."""
    lines = _read("/proc/self/mountinfo").splitlines()
    return sum(_unescape(line.split(" ", 5)[4]) == point for line in lines)


def cgroup_mounts(mountinfo: str, own: str) -> tuple[tuple[str, str, str], ...]:
    """Return the cgroup mounts in ``mountinfo``, with the caller's place in each from /proc/self/cgroup (``own``).

    Of a hierarchy that is mounted more than once only the first mount counts.
    """
    places = _places(own)
    found: dict[str, tuple[str, str, str]] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        if not right.startswith("cgroup"):
            continue
        kind, _, words = right.split(" ", 2)
        fields = left.split(" ")
        root, point = fields[3], _unescape(fields[4])
        name = "" if kind == "cgroup2" else _hierarchy(words)
        own_path = places.get(name.replace("none,", ""), "/")
        # A mount whose root is not "/" (a container's) shows only what is below that root.
        if root != "/":
            own_path = own_path[len(root) :] if (own_path + "/").startswith(root + "/") else "/"
        found.setdefault(name, (point, name, own_path if own_path != "/" else ""))
    return tuple(found.values())


def _hierarchy(words: str) -> str:
    named, controllers = "", []
    for word in words.split(","):
        if word.startswith("name="):
            named = word
        elif "=" not in word and word not in _NOT_CONTROLLERS:
            controllers.append(word)
    return ",".join(controllers) or f"none,{named}"


def _places(own: str) -> dict[str, str]:
    places = {}
    for line in own.splitlines():
        _, name, path = line.split(":", 2)
        places[name] = path
    return places


def _unescape(path: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, char)
    return path
