"""The ``linux`` half of config.json, its resources apart (runtime-spec 1.3, config-linux.md)."""

from __future__ import annotations

from pyrkt.spec.document import (
    MAX_ID,
    MAX_INT64,
    MAX_UINT32,
    MAX_UINT64,
    Document,
    absolute,
    absolutes,
    choices,
    flag,
    opt_int,
    texts,
    uint32,
)
from pyrkt.spec.runtime_resources import Resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.base.reader import Reader

NAMESPACES = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")
PROPAGATIONS = ("private", "shared", "slave", "unbindable", "rprivate", "rshared", "rslave", "runbindable")
ACTIONS = (
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
)
ARCHITECTURES = (
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
)
OPERATORS = (
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
)
SECCOMP_FLAGS = (
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
)
MEMORY_MODES = (
    "MPOL_DEFAULT",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_WEIGHTED_INTERLEAVE",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_LOCAL",
)
MEMORY_FLAGS = ("MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES")
MAX_NODES = 1024  # MAX_NUMNODES, include/linux/numa.h, at its largest
MAX_MAPPINGS = 340  # lines of /proc/PID/uid_map, user_namespaces(7)


class Namespace(Document):
    """One namespace of the container: new, or the one at ``path``."""

    type: str
    path: str = ""

    @classmethod
    def parse(cls, r: Reader) -> Namespace:
        """Read the object; engines write an empty path for "new"."""
        path = r["path"].text("")
        return cls(type=r["type"].choice(NAMESPACES), path=absolute(r["path"]) if path else "")


class IdMapping(Document):
    """``size`` ids from ``host_id`` on the host (for a mount: in the file system) appear from ``container_id``."""

    container_id: int
    host_id: int
    size: int

    @classmethod
    def parse(cls, r: Reader) -> IdMapping:
        """Read the object; the ranges may not run past the last id."""
        mapping = cls(
            container_id=r["containerID"].integer(0, MAX_ID),
            host_id=r["hostID"].integer(0, MAX_ID),
            size=r["size"].integer(1, MAX_UINT32),
        )
        if max(mapping.container_id, mapping.host_id) + mapping.size - 1 > MAX_ID:
            raise r["size"].fail(f"the range runs past the last id, {MAX_ID}")
        return mapping


def mappings(r: Reader) -> tuple[IdMapping, ...]:
    """Return this array of id mappings: at most 340, none overlapping another on either side."""
    items = r.items()
    if len(items) > MAX_MAPPINGS:
        raise r.fail(f"has {len(items)} entries, the kernel takes {MAX_MAPPINGS}")
    result = tuple(IdMapping.parse(item) for item in items)
    for side in ("container_id", "host_id"):
        ranges = sorted((getattr(m, side), m.size, place) for place, m in enumerate(result))
        free = 0
        for start, size, place in ranges:
            if start < free:
                raise items[place].fail("overlaps another range", hint="each id may be mapped once")
            free = start + size
    return result


class Device(Document):
    """A device node that the container finds at ``path``; ``type`` is c, u (both character), b or p (FIFO)."""

    type: str
    path: str
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    uid: int | None = None
    gid: int | None = None

    @classmethod
    def parse(cls, r: Reader) -> Device:
        """Read the object; engines write file types and Go's mode bits into fileMode, the low nine count."""
        kind = r["type"].choice(("c", "b", "u", "p"))
        numbers = [r[name].integer(0, MAX_INT64, 0 if kind == "p" else None) for name in ("major", "minor")]
        for name, number, most in (("major", numbers[0], 0xFFF), ("minor", numbers[1], 0xFFFFF)):
            if number > most:
                raise r[name].fail(f"{number} is more than the kernel's {most}")
        mode = uint32(r["fileMode"])
        return cls(
            type=kind,
            path=absolute(r["path"]),
            major=numbers[0],
            minor=numbers[1],
            file_mode=mode,
            uid=opt_int(r["uid"], 0, MAX_ID),
            gid=opt_int(r["gid"], 0, MAX_ID),
        )


class NetDevice(Document):
    """A network device of the host that moves into the container, there called ``name`` ("" keeps its name)."""

    name: str = ""

    @classmethod
    def parse(cls, r: Reader) -> NetDevice:
        """Read the object."""
        name = r["name"].text("")
        if name:
            _check_interface(r["name"], name)
        return cls(name=name)


def _check_interface(r: Reader, name: str) -> None:
    """Refuse what dev_valid_name() of the kernel refuses (net/core/dev.c)."""
    if not name or len(name.encode()) > 15 or name in {".", ".."} or any(c in "/:" or c.isspace() for c in name):
        raise r.fail(f"{name!r} cannot be the name of a network device", hint="1 to 15 bytes, no '/', ':' or blanks")


class SyscallArg(Document):
    """One condition on argument ``index`` (0..5) of a system call."""

    index: int
    value: int
    value_two: int = 0
    op: str

    @classmethod
    def parse(cls, r: Reader) -> SyscallArg:
        """Read the object."""
        return cls(
            index=r["index"].integer(0, 5),
            value=r["value"].integer(0, MAX_UINT64),
            value_two=r["valueTwo"].integer(0, MAX_UINT64, 0),
            op=r["op"].choice(OPERATORS),
        )


# By sendmsg the agent is handed the listener: it cannot be asked about that before.  runc uses write.
_OWN_CALLS = ("write", "sendmsg")


class Syscall(Document):
    """What happens to the calls ``names`` when all of ``args`` hold."""

    names: tuple[str, ...]
    action: str
    errno_ret: int | None = None
    args: tuple[SyscallArg, ...] = ()

    @classmethod
    def parse(cls, r: Reader) -> Syscall:
        """Read the object: at least one name."""
        names = texts(r["names"])
        if not names:
            raise r["names"].fail("needs at least one system call")
        action, errno = _action(r, "action", "errnoRet")
        if action == "SCMP_ACT_NOTIFY":
            for name in _OWN_CALLS:
                if name in names:
                    raise r["names"].fail(f"SCMP_ACT_NOTIFY cannot be used for the {name} syscall")
        return cls(
            names=names, action=action, errno_ret=errno, args=tuple(SyscallArg.parse(arg) for arg in r["args"].items())
        )


def _action(r: Reader, name: str, errno_name: str) -> tuple[str, int | None]:
    action, errno = r[name].choice(ACTIONS), opt_int(r[errno_name], 0, 0xFFFF)
    # Engines write errnoRet 0 beside actions that take none.
    if errno and action not in {"SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"}:
        raise r[errno_name].fail(f"{action} takes no number", hint="leave it out, or use SCMP_ACT_ERRNO")
    return action, errno


class Seccomp(Document):
    """The filter of system calls; ``flags`` None leaves them to the runtime."""

    default_action: str
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] | None = None
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: tuple[Syscall, ...] = ()

    @classmethod
    def parse(cls, r: Reader) -> Seccomp:
        """Read the object."""
        r = r.citing("runtime-spec 1.3, config-linux, Seccomp")
        action, errno = _action(r, "defaultAction", "defaultErrnoRet")
        path, metadata = r["listenerPath"].text(""), r["listenerMetadata"].text("")
        if metadata and not path:
            raise r["listenerMetadata"].fail("must not be set without listenerPath")
        syscalls = tuple(Syscall.parse(item) for item in r["syscalls"].items())
        if action == "SCMP_ACT_NOTIFY":
            raise r["defaultAction"].fail("SCMP_ACT_NOTIFY cannot be used as default action")
        asks = any(rule.action == "SCMP_ACT_NOTIFY" for rule in syscalls)
        if asks and not path:
            raise r["listenerPath"].fail("is required where a rule says SCMP_ACT_NOTIFY")
        flags = choices(r["flags"], SECCOMP_FLAGS) if r["flags"].present else None
        if flags and not asks and "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" in flags:
            raise r["flags"].fail("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a rule that says SCMP_ACT_NOTIFY")
        return cls(
            default_action=action,
            default_errno_ret=errno,
            architectures=choices(r["architectures"], ARCHITECTURES),
            flags=flags,
            listener_path=path,
            listener_metadata=metadata,
            syscalls=syscalls,
        )


class IntelRdt(Document):
    """The container's class of service in resctrl: cache and memory bandwidth."""

    clos_id: str = ""
    schemata: tuple[str, ...] = ()
    l3_cache_schema: str = ""
    mem_bw_schema: str = ""
    enable_monitoring: bool = False

    @classmethod
    def parse(cls, r: Reader) -> IntelRdt:
        """Read the object; a line break in a schema would write a second one."""
        bandwidth, clos = r["memBwSchema"].text(""), r["closID"].text("")
        if bandwidth and not bandwidth.startswith("MB:"):
            raise r["memBwSchema"].fail("must start with MB:")
        if clos in {".", ".."} or "\n" in clos or ("/" in clos and clos != "/"):
            raise r["closID"].fail(f"{clos!r} is not the name of a directory")
        for line in (r["memBwSchema"], r["l3CacheSchema"], *r["schemata"].items()):
            if "\n" in line.text(""):
                raise line.fail("must not contain a line break")
        return cls(
            clos_id=clos,
            schemata=texts(r["schemata"]),
            l3_cache_schema=r["l3CacheSchema"].text(""),
            mem_bw_schema=bandwidth,
            enable_monitoring=flag(r["enableMonitoring"]),
        )


class MemoryPolicy(Document):
    """The NUMA policy of the first process, set_mempolicy(2)."""

    mode: str
    nodes: str = ""
    flags: tuple[str, ...] = ()

    @classmethod
    def parse(cls, r: Reader) -> MemoryPolicy:
        """Read the object; the words are runc's."""
        mode, flags = r["mode"].text(""), texts(r["flags"])
        if mode not in MEMORY_MODES:
            raise r["mode"].fail(f"invalid memory policy mode {mode!r}", hint="set_mempolicy(2) lists the modes")
        for name in flags:
            if name not in MEMORY_FLAGS:
                raise r["flags"].fail(f"invalid memory policy flag {name!r}")
        return cls(mode=mode, nodes=_node_list(r["nodes"], mode), flags=flags)


def _node_list(r: Reader, mode: str) -> str:
    value, count = r.text(""), 0
    for part in value.split(",") if value else ():
        first, _, last = part.strip().partition("-")
        ends = (first, last or first)
        if not all(end.isascii() and end.isdigit() for end in ends) or not int(first) <= int(last or first) < MAX_NODES:
            raise r.fail(f"invalid memory policy nodes {value!r}", hint=f"write them as 0-1,3, below {MAX_NODES}")
        count += int(last or first) - int(first) + 1
    if mode in {"MPOL_DEFAULT", "MPOL_LOCAL"} and count:
        raise r.fail(f"memory policy mode requires 0 nodes but got {count}")
    if mode not in {"MPOL_DEFAULT", "MPOL_LOCAL", "MPOL_PREFERRED"} and not count:
        raise r.fail("memory policy mode requires at least one node but got 0")
    return value


class Personality(Document):
    """The execution domain, personality(2)."""

    domain: str
    flags: tuple[str, ...] = ()

    @classmethod
    def parse(cls, r: Reader) -> Personality:
        """Read the object; the specification defines no flag."""
        flags = texts(r["flags"])
        if flags:
            raise r["flags"].fail(f"{flags[0]!r} is unknown: no flag is defined")
        return cls(domain=r["domain"].choice(("LINUX", "LINUX32")), flags=())


class TimeOffset(Document):
    """How far a clock of the time namespace is from the host's."""

    secs: int = 0
    nanosecs: int = 0

    @classmethod
    def parse(cls, r: Reader) -> TimeOffset:
        """Read the object; time_namespaces(7) wants the nanoseconds below a second."""
        return cls(
            secs=r["secs"].integer(-MAX_INT64 - 1, MAX_INT64, 0), nanosecs=r["nanosecs"].integer(0, 999_999_999, 0)
        )


class Linux(Document):
    """What only Linux has."""

    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()
    sysctl: dict[str, str] = {}  # noqa: RUF012 - a record's default, never written to
    resources: Resources | None = None
    cgroups_path: str = ""
    namespaces: tuple[Namespace, ...] = ()
    devices: tuple[Device, ...] = ()
    net_devices: dict[str, NetDevice] = {}  # noqa: RUF012 - the same
    seccomp: Seccomp | None = None
    rootfs_propagation: str = ""
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    mount_label: str = ""
    intel_rdt: IntelRdt | None = None
    memory_policy: MemoryPolicy | None = None
    personality: Personality | None = None
    time_offsets: dict[str, TimeOffset] = {}  # noqa: RUF012 - the same

    @classmethod
    def parse(cls, r: Reader) -> Linux:
        """Read the object, then judge what its members say about one another."""
        r = r.citing("runtime-spec 1.3, config-linux")
        result = cls(
            uid_mappings=mappings(r["uidMappings"]),
            gid_mappings=mappings(r["gidMappings"]),
            sysctl=r["sysctl"].text_map(),
            resources=Resources.parse(r["resources"]) if r["resources"].present else None,
            cgroups_path=r["cgroupsPath"].text(""),
            namespaces=_namespaces(r["namespaces"]),
            devices=tuple(Device.parse(item) for item in r["devices"].items()),
            net_devices={name: NetDevice.parse(value) for name, value in r["netDevices"].members()},
            seccomp=Seccomp.parse(r["seccomp"]) if r["seccomp"].present else None,
            rootfs_propagation=r["rootfsPropagation"].choice(("", *PROPAGATIONS), ""),
            masked_paths=absolutes(r["maskedPaths"]),
            readonly_paths=absolutes(r["readonlyPaths"]),
            mount_label=r["mountLabel"].text(""),
            intel_rdt=IntelRdt.parse(r["intelRdt"]) if r["intelRdt"].present else None,
            memory_policy=MemoryPolicy.parse(r["memoryPolicy"]) if r["memoryPolicy"].present else None,
            personality=Personality.parse(r["personality"]) if r["personality"].present else None,
            time_offsets=_offsets(r["timeOffsets"]),
        )
        _judge(r, result)
        return result

    def namespace(self, kind: str) -> Namespace | None:
        """Return the namespace of that type; None where the container stays in the host's."""
        for namespace in self.namespaces:
            if namespace.type == kind:
                return namespace
        return None


def _namespaces(r: Reader) -> tuple[Namespace, ...]:
    seen: list[Namespace] = []
    for item in r.items():
        namespace = Namespace.parse(item)
        if any(namespace.type == other.type for other in seen):
            raise item["type"].fail(f"{namespace.type!r} is given twice")
        seen.append(namespace)
    return tuple(seen)


def _offsets(r: Reader) -> dict[str, TimeOffset]:
    offsets: dict[str, TimeOffset] = {}
    for name, value in r.members():
        if name not in {"monotonic", "boottime"}:
            raise value.fail("is no clock of a time namespace", hint="the clocks are monotonic and boottime")
        offsets[name] = TimeOffset.parse(value)
    return offsets


def _judge(r: Reader, linux: Linux) -> None:
    for name, value in (("uidMappings", linux.uid_mappings), ("gidMappings", linux.gid_mappings)):
        if value and not linux.namespace("user"):
            raise r[name].fail("needs a user namespace", hint='add {"type": "user"} to linux.namespaces')
    if linux.time_offsets and not linux.namespace("time"):
        raise r["timeOffsets"].fail("needs a time namespace", hint='add {"type": "time"} to linux.namespaces')
    time = linux.namespace("time")
    if linux.time_offsets and time and time.path:
        raise r["timeOffsets"].fail("the time namespace that is joined has its own", hint="leave out one of the two")
    if linux.net_devices and not linux.namespace("network"):
        raise r["netDevices"].fail(
            "unable to move network devices without a NET namespace",
            hint='add {"type": "network"} to linux.namespaces',
        )
    for name, device in r["netDevices"].members():
        _check_interface(device, name)
    for path in r["cgroupsPath"].text("").split("/"):
        if path == "..":
            raise r["cgroupsPath"].fail("must not climb by '..'")
    if any(not name or "\n" in name for name in linux.sysctl):
        raise r["sysctl"].fail("has an empty name, or one with a line break")
