"""config.json of the OCI runtime specification 1.3: reads itself strictly, and says what is wrong and where.

Written by hand and judged by ``specs/oci-runtime.schema.json``: a test fails on a property that no record reads.
Members of other platforms, and unknown ones, are left out, as the specification asks.
"""

from __future__ import annotations

from pyrkt.base import fastjson
from pyrkt.base.reader import Reader
from pyrkt.spec.capabilities import NUMBERS as CAPABILITY_NUMBERS
from pyrkt.spec.document import (
    MAX_ID,
    MAX_INT64,
    MAX_UINT64,
    Document,
    absolute,
    choices,
    filled,
    flag,
    opt_int,
    texts,
)
from pyrkt.spec.runtime_linux import (
    Device,
    IdMapping,
    IntelRdt,
    Linux,
    MemoryPolicy,
    Namespace,
    NetDevice,
    Personality,
    Seccomp,
    Syscall,
    SyscallArg,
    TimeOffset,
    mappings,
)
from pyrkt.spec.runtime_resources import (
    BlockIO,
    Cpu,
    DeviceRule,
    HugepageLimit,
    InterfacePriority,
    Memory,
    Network,
    Pids,
    Rdma,
    Resources,
    ThrottleDevice,
    WeightDevice,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "BlockIO",
    "Capabilities",
    "Config",
    "ConsoleSize",
    "Cpu",
    "CpuAffinity",
    "Device",
    "DeviceRule",
    "Hook",
    "Hooks",
    "HugepageLimit",
    "IdMapping",
    "IntelRdt",
    "InterfacePriority",
    "IoPriority",
    "Linux",
    "Memory",
    "MemoryPolicy",
    "Mount",
    "Namespace",
    "NetDevice",
    "Network",
    "Personality",
    "Pids",
    "Process",
    "Rdma",
    "Resources",
    "Rlimit",
    "Root",
    "Scheduler",
    "Seccomp",
    "Syscall",
    "SyscallArg",
    "ThrottleDevice",
    "TimeOffset",
    "User",
    "WeightDevice",
    "parse_config",
    "parse_process",
    "parse_resources",
]

SPEC_VERSION = "1.3.0"
RLIMITS = {  # include/uapi/asm-generic/resource.h
    "RLIMIT_CPU": 0,
    "RLIMIT_FSIZE": 1,
    "RLIMIT_DATA": 2,
    "RLIMIT_STACK": 3,
    "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7,
    "RLIMIT_MEMLOCK": 8,
    "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}
SCHEDULERS = {  # include/uapi/linux/sched.h
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHEDULER_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}


class Root(Document):
    """The root file system: a directory, absolute or relative to the bundle."""

    path: str
    readonly: bool = False

    @classmethod
    def parse(cls, r: Reader) -> Root:
        """Read the object."""
        return cls(path=filled(r["path"]), readonly=flag(r["readonly"]))


class ConsoleSize(Document):
    """The size of the terminal, in characters."""

    height: int
    width: int

    @classmethod
    def parse(cls, r: Reader) -> ConsoleSize:
        """Read the object."""
        return cls(height=r["height"].integer(0, MAX_UINT64), width=r["width"].integer(0, MAX_UINT64))


class User(Document):
    """Who the process is, in the ids of the container; ``umask`` None leaves the caller's."""

    uid: int = 0
    gid: int = 0
    umask: int | None = None
    additional_gids: tuple[int, ...] = ()

    @classmethod
    def parse(cls, r: Reader) -> User:
        """Read the object; (uid_t)-1 is nobody's id."""
        return cls(
            uid=r["uid"].integer(0, MAX_ID, 0),
            gid=r["gid"].integer(0, MAX_ID, 0),
            umask=opt_int(r["umask"], 0, 0o777),
            additional_gids=tuple(item.integer(0, MAX_ID) for item in r["additionalGids"].items()),
        )


class Capabilities(Document):
    """The five sets of capabilities(7), by name; an unknown name stays here and is warned of."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()

    @classmethod
    def parse(cls, r: Reader) -> Capabilities:
        """Read the object."""
        return cls(
            bounding=texts(r["bounding"]),
            effective=texts(r["effective"]),
            inheritable=texts(r["inheritable"]),
            permitted=texts(r["permitted"]),
            ambient=texts(r["ambient"]),
        )


class Rlimit(Document):
    """One limit: ``soft`` binds the process, ``hard`` is how far it may raise ``soft``; 2**64-1 is "none"."""

    type: str
    soft: int
    hard: int

    @classmethod
    def parse(cls, r: Reader) -> Rlimit:
        """Read the object; the kernel refuses a soft limit above the hard one."""
        name = r["type"].text()
        if name not in RLIMITS:
            raise r["type"].fail(f"unknown limit {name!r}", hint="getrlimit(2) lists the names")
        limit = cls(type=name, soft=r["soft"].integer(0, MAX_UINT64), hard=r["hard"].integer(0, MAX_UINT64))
        if limit.soft > limit.hard:
            raise r["soft"].fail(f"{limit.soft} is above the hard limit, {limit.hard}")
        return limit


class Scheduler(Document):
    """How the process is scheduled, sched_setattr(2); times in nanoseconds."""

    policy: str
    nice: int = 0
    priority: int = 0
    flags: tuple[str, ...] = ()
    runtime: int = 0
    deadline: int = 0
    period: int = 0

    @classmethod
    def parse(cls, r: Reader) -> Scheduler:
        """Read the object."""
        return cls(
            policy=r["policy"].choice(tuple(SCHEDULERS)),
            nice=r["nice"].integer(-20, 19, 0),
            priority=r["priority"].integer(0, 99, 0),
            flags=choices(r["flags"], tuple(SCHEDULER_FLAGS)),
            runtime=r["runtime"].integer(0, MAX_UINT64, 0),
            deadline=r["deadline"].integer(0, MAX_UINT64, 0),
            period=r["period"].integer(0, MAX_UINT64, 0),
        )


# "class" cannot be the name of a field.
class IoPriority(Document):
    """The process' class and priority (0..7, 0 first) at block devices, ioprio_set(2)."""

    io_class: str
    priority: int = 0

    @classmethod
    def parse(cls, r: Reader) -> IoPriority:
        """Read the object."""
        return cls(io_class=r["class"].choice(tuple(IO_CLASSES)), priority=r["priority"].integer(0, 7, 0))

    def dump(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {"class": self.io_class, "priority": self.priority}


class CpuAffinity(Document):
    """The processors of an exec'd process before (``initial``) and after (``final``) it enters the cgroup."""

    initial: str = ""
    final: str = ""

    @classmethod
    def parse(cls, r: Reader) -> CpuAffinity:
        """Read the object."""
        return cls(initial=_cpu_list(r["initial"]), final=_cpu_list(r["final"]))


def _cpu_list(r: Reader) -> str:
    value = r.text("")
    for part in value.split(",") if value else ():
        ends = part.strip().split("-")
        if len(ends) > 2 or not all(end.isascii() and end.isdigit() and len(end) < 6 for end in ends):
            raise r.fail(f"{value!r} is no list of processors", hint="write it as 0-3,7")
        if len(ends) == 2 and int(ends[0]) > int(ends[1]):
            raise r.fail(f"{part!r} runs backwards")
    return value


class Process(Document):
    """The program, and everything that decides what it may do."""

    terminal: bool = False
    console_size: ConsoleSize | None = None
    user: User = User()
    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str
    capabilities: Capabilities | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    apparmor_profile: str = ""
    selinux_label: str = ""
    oom_score_adj: int | None = None
    scheduler: Scheduler | None = None
    io_priority: IoPriority | None = None
    exec_cpu_affinity: CpuAffinity | None = None

    @classmethod
    def parse(cls, r: Reader) -> Process:
        """Read the object; ``pyrkt-oci exec --process`` takes one by itself."""
        r = r.citing("runtime-spec 1.3, config, process")
        args, env = texts(r["args"]), texts(r["env"])
        if not args:
            raise r["args"].fail("needs at least the program")
        for place, variable in enumerate(env):
            if (end := variable.find("=")) < 1:
                # runc's words
                problem = "missing '='" if end else "name cannot be empty"
                raise r["env"].items()[place].fail(f"invalid environment variable: {problem}: {variable!r}")
        return cls(
            terminal=flag(r["terminal"]),
            console_size=ConsoleSize.parse(r["consoleSize"]) if r["consoleSize"].present else None,
            user=User.parse(r["user"]) if r["user"].present else User(),
            args=args,
            env=env,
            cwd=absolute(r["cwd"]),
            capabilities=Capabilities.parse(r["capabilities"]) if r["capabilities"].present else None,
            rlimits=_rlimits(r["rlimits"]),
            no_new_privileges=flag(r["noNewPrivileges"]),
            apparmor_profile=r["apparmorProfile"].text(""),
            selinux_label=r["selinuxLabel"].text(""),
            oom_score_adj=opt_int(r["oomScoreAdj"], -1000, 1000),
            scheduler=Scheduler.parse(r["scheduler"]) if r["scheduler"].present else None,
            io_priority=IoPriority.parse(r["ioPriority"]) if r["ioPriority"].present else None,
            exec_cpu_affinity=CpuAffinity.parse(r["execCPUAffinity"]) if r["execCPUAffinity"].present else None,
        )


def _rlimits(r: Reader) -> tuple[Rlimit, ...]:
    seen: dict[str, Rlimit] = {}
    for item in r.items():
        limit = Rlimit.parse(item)
        if limit.type in seen:
            raise item["type"].fail(f"{limit.type} is given twice")
        seen[limit.type] = limit
    return tuple(seen.values())


class Mount(Document):
    """One mount; a relative ``destination`` (deprecated) starts at the root, a relative bind source at the bundle."""

    destination: str
    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()

    @classmethod
    def parse(cls, r: Reader) -> Mount:
        """Read the object; of the id mappings both or none."""
        uids, gids = mappings(r["uidMappings"]), mappings(r["gidMappings"])
        if bool(uids) != bool(gids):
            missing = "gidMappings" if uids else "uidMappings"
            raise r[missing].fail("uidMappings and gidMappings come together")
        return cls(
            destination=filled(r["destination"]),
            type=r["type"].text(""),
            source=r["source"].text(""),
            options=texts(r["options"]),
            uid_mappings=uids,
            gid_mappings=gids,
        )


class Hook(Document):
    """A program to run at one moment of the container's life; ``timeout`` in seconds."""

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: int | None = None

    @classmethod
    def parse(cls, r: Reader) -> Hook:
        """Read the object."""
        return cls(
            path=absolute(r["path"]),
            args=texts(r["args"]),
            env=texts(r["env"]),
            timeout=opt_int(r["timeout"], 1, MAX_INT64),
        )


class Hooks(Document):
    """The hooks of the six moments, each in the order they run."""

    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()

    @classmethod
    def parse(cls, r: Reader) -> Hooks:
        """Read the object."""
        r = r.citing("runtime-spec 1.3, config, POSIX-platform hooks")
        return cls(
            prestart=_hooks(r["prestart"]),
            create_runtime=_hooks(r["createRuntime"]),
            create_container=_hooks(r["createContainer"]),
            start_container=_hooks(r["startContainer"]),
            poststart=_hooks(r["poststart"]),
            poststop=_hooks(r["poststop"]),
        )


def _hooks(r: Reader) -> tuple[Hook, ...]:
    return tuple(Hook.parse(item) for item in r.items())


class Config(Document):
    """One container: everything config.json says on Linux."""

    oci_version: str
    root: Root | None = None
    process: Process | None = None
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    hooks: Hooks | None = None
    annotations: dict[str, str] = {}  # noqa: RUF012 - a record's default, never written to
    linux: Linux | None = None

    @classmethod
    def parse(cls, r: Reader) -> Config:
        """Read the whole document."""
        r = r.citing("runtime-spec 1.3, config")
        version = _version(r["ociVersion"])
        for name, value in r["annotations"].members():
            if not name:
                raise value.fail("the name of an annotation must not be empty")
        return cls(
            oci_version=version,
            root=Root.parse(r["root"]) if r["root"].present else None,
            process=Process.parse(r["process"]) if r["process"].present else None,
            hostname=r["hostname"].text(""),
            domainname=r["domainname"].text(""),
            mounts=tuple(Mount.parse(item) for item in r["mounts"].items()),
            hooks=Hooks.parse(r["hooks"]) if r["hooks"].present else None,
            annotations=r["annotations"].text_map(),
            linux=Linux.parse(r["linux"]) if r["linux"].present else None,
        )

    def warnings(self) -> tuple[str, ...]:
        """Return, one line each, what the specification wants warned of rather than refused."""
        found: list[str] = []
        sets = self.process.capabilities if self.process else None
        if sets:
            unknown = {name for field in sets._fields for name in getattr(sets, field)} - CAPABILITY_NUMBERS.keys()
            if unknown:
                names = " ".join(sorted(unknown))
                found.append(f"process.capabilities: ignoring unknown or unavailable capabilities: [{names}]")
        for place, mount in enumerate(self.mounts):
            if not mount.destination.startswith("/"):
                found.append(f"mounts[{place}].destination: {mount.destination!r} is relative, which is deprecated")
        memory = self.linux.resources.memory if self.linux and self.linux.resources else None
        if memory and (memory.kernel or memory.kernel_tcp):
            found.append("linux.resources.memory: Kernel memory settings are ignored and will be removed")
        return tuple(found)


def _version(r: Reader) -> str:
    version = filled(r)
    numbers = version.split("+")[0].split("-")[0].split(".")
    if len(numbers) != 3 or not all(part.isascii() and part.isdigit() for part in numbers):
        raise r.fail(f"{version!r} is not a version", hint=f"write it as {SPEC_VERSION} (semver.org)")
    if numbers[0] != "1":
        raise r.fail(f"version {version} is not supported", hint="versions 1.0 to 1.3 are read")
    return version


def parse_config(data: bytes | str, document: str = "config.json") -> Config:
    """Read the bytes of a config.json.

    Raises: InvalidSpec naming ``document``, the place and the rule.
    """
    return Config.parse(Reader(fastjson.loads(data, document), document))


def parse_process(data: bytes | str, document: str = "process.json") -> Process:
    """Read the bytes of a ``process`` object, as engines hand it to ``exec --process``."""
    return Process.parse(Reader(fastjson.loads(data, document), document))


def parse_resources(data: bytes | str, document: str = "resources.json") -> Resources:
    """Read the bytes of a ``linux.resources`` object, as engines hand it to ``update --resources``."""
    return Resources.parse(Reader(fastjson.loads(data, document), document))
