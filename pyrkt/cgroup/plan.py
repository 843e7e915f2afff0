"""From linux.resources to a CgroupLayout: which directories to make, which file gets which value. Pure.

Each controller has two translations, one a hierarchy version; where a controller is mounted decides which is used, so
that a hybrid host may have some in either. A limit for which the host has no controller is an error: a limit that is
silently not there is worse than a container that does not start.

Source: runtime-spec 1.3, config-linux, "Control groups"; Linux admin-guide/cgroup-v1/ and cgroup-v2.rst.
"""

from __future__ import annotations

from pyrkt.base.errors import InvalidSpec, NoPermission, UsageError
from pyrkt.base.record import Record
from pyrkt.cgroup import devices
from pyrkt.cgroup.host import Hierarchy, Mounts, base_of, components
from pyrkt.spec.layout import CgroupLayout
from pyrkt.spec.runtime_resources import BlockIO, Cpu, Memory, Resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrkt.spec.runtime_resources import ThrottleDevice

_PERIOD_US = 100_000
"""cpu.max's own period."""
_MIN_SHARES, _MAX_SHARES = 2, 262144
"""kernel/sched/sched.h: MIN_SHARES, MAX_SHARES."""
_ZERO_AT_FIRST = frozenset(("cpu.cfs_burst_us", "cpu.max.burst", "cpu.idle"))
"""Files that say 0 in every new cgroup; kernels before 5.14 have none of them."""


class Setting(Record):
    """One line for one cgroup file: ``member`` is the place below linux.resources that asks for it."""

    file: str
    value: str
    member: str


def _impossible(problem: str, member: str, hint: str = "") -> InvalidSpec:
    return InvalidSpec(problem, document="config.json", where=f"linux.resources.{member}", hint=hint)


def _bytes(value: int) -> str:
    return "max" if value < 0 else str(value)


# --- memory ---


def _memory_and_swap(memory: Memory) -> tuple[int, int]:
    """Return (limit, memory+swap limit), 0 where it is not set, -1 for none, after checking one against the other."""
    limit, swap = memory.limit or 0, memory.swap or 0
    for value, member in ((limit, "limit"), (swap, "swap"), (memory.reservation or 0, "reservation")):
        if value < -1:
            raise _impossible(f"invalid memory value: {value}", f"memory.{member}", "bytes, or -1 for no limit")
    if limit == -1 and swap == 0:
        return -1, -1  # without a limit on memory one on memory+swap would bind alone
    if swap > 0 and limit == 0:
        raise _impossible("unable to set swap limit without memory limit", "memory.swap", "set memory.limit too")
    if 0 < swap < limit:
        raise _impossible(
            f"memory+swap limit should be >= memory limit: {swap} is below {limit}",
            "memory.swap",
            "it is the sum of memory and swap",
        )
    return limit, swap


def memory_v1(resources: Resources, *, swap_counts: bool = True) -> list[Setting]:
    """Return the settings of the v1 memory controller; no kernel since 5.16 takes ``kernel``.

    ``swap_counts`` tells whether the kernel counts swap: without, there is none to take a limit from.
    """
    memory = resources.memory or Memory()
    limit, swap = _memory_and_swap(memory)
    if limit == -1 and swap > 0:
        raise _impossible(f"{swap} would limit memory too, which has no limit", "memory.swap", "give it one, or -1")
    if swap == -1 and not memory.swap and not swap_counts:
        swap = 0
    numbers = (
        ("memory.limit_in_bytes", limit, "limit"),
        ("memory.memsw.limit_in_bytes", swap, "swap"),  # after the limit: the kernel wants it at least as large
        ("memory.soft_limit_in_bytes", memory.reservation, "reservation"),
        ("memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp, "kernelTCP"),
    )
    found = [Setting(file=file, value=str(n), member=f"memory.{member}") for file, n, member in numbers if n]
    if memory.swappiness is not None:
        found.append(Setting(file="memory.swappiness", value=str(_swappiness(memory)), member="memory.swappiness"))
    if memory.disable_oom_killer:
        found.append(Setting(file="memory.oom_control", value="1", member="memory.disableOOMKiller"))
    return found


def _swappiness(memory: Memory) -> int:
    value = memory.swappiness or 0
    if value > 100:
        raise _impossible(f"must be between 0 and 100, got {value}", "memory.swappiness")
    return value


def memory_v2(resources: Resources, *, swap_counts: bool = True) -> list[Setting]:
    """Return the settings of the v2 memory controller: ``memory.swap.max`` counts swap alone.

    ``swap_counts`` tells whether the kernel counts swap: without, "no limit" and "no swap" say nothing.
    """
    memory = resources.memory or Memory()
    limit, swap = _memory_and_swap(memory)
    if memory.swappiness:
        raise _impossible(
            "cgroup v2 has no swappiness of its own", "memory.swappiness", "set vm.swappiness on the host"
        )
    if memory.disable_oom_killer:
        raise _impossible("cgroup v2 cannot switch off the OOM killer", "memory.disableOOMKiller")
    found = []
    if swap:
        value = _bytes(swap - max(limit, 0) if swap > 0 else -1)
        if swap_counts or value not in {"0", "max"}:
            found.append(Setting(file="memory.swap.max", value=value, member="memory.swap"))
    if limit:
        found.append(Setting(file="memory.max", value=_bytes(limit), member="memory.limit"))
    if memory.reservation:
        found.append(Setting(file="memory.low", value=_bytes(memory.reservation), member="memory.reservation"))
    return found


# --- cpu ---


def cpu_weight(shares: int) -> int:
    """Convert ``linux.resources.cpu.shares`` (cgroup v1) to ``cpu.weight`` (cgroup v2).

    Takes: a relative weight without unit, meaningful in 2..262144; 0 means "leave it".
    Returns: a relative weight without unit, 1..10000; 0 means "leave it".
    Beyond the range it clamps, as v1 kernels do.
    Source: Linux admin-guide/cgroup-v2.rst, "CPU". The curve is a parabola in the logarithms through the ends and
        through the defaults: (2, 1), (1024, 100), (262144, 10000); runc, crun and youki use the same. A straight line
        would take the default of 1024 to 39.
    """
    if shares <= 0:
        return 0
    from math import ceil, log2  # noqa: PLC0415 - a shared object of its own, and v1 hosts never need it

    octave = log2(min(max(shares, _MIN_SHARES), _MAX_SHARES))
    # log10(weight) = (octave**2 + 125 * octave - 126) / 612 is 0 at 1, 2 at 10 and 4 at 18 octaves.
    return ceil(round(10 ** ((octave * octave + 125 * octave - 126) / 612), 9))


def cpu_v1(resources: Resources) -> list[Setting]:
    """Return the settings of the v1 cpu controller; a period before the time that must fit in it."""
    cpu = resources.cpu or Cpu()
    if cpu.shares and not _MIN_SHARES <= cpu.shares <= _MAX_SHARES:  # the kernel would take the end of the range
        which, bound = ("minimum", _MIN_SHARES) if cpu.shares < _MIN_SHARES else ("maximum", _MAX_SHARES)
        raise _impossible(f"the {which} allowed cpu-shares is {bound}", "cpu.shares")
    numbers = (
        ("cpu.rt_period_us", cpu.realtime_period or None, "realtimePeriod"),
        ("cpu.rt_runtime_us", cpu.realtime_runtime or None, "realtimeRuntime"),
        ("cpu.shares", cpu.shares or None, "shares"),
        ("cpu.cfs_period_us", cpu.period or None, "period"),
        ("cpu.cfs_quota_us", cpu.quota or None, "quota"),
        ("cpu.cfs_burst_us", cpu.burst, "burst"),
        ("cpu.idle", cpu.idle, "idle"),  # last: an idle group takes no shares
    )
    return [Setting(file=file, value=str(n), member=f"cpu.{member}") for file, n, member in numbers if n is not None]


def cpu_v2(resources: Resources) -> list[Setting]:
    """Return the settings of the v2 cpu controller."""
    cpu = resources.cpu or Cpu()
    for value, member in ((cpu.realtime_runtime, "realtimeRuntime"), (cpu.realtime_period, "realtimePeriod")):
        if value:
            raise _impossible("cgroup v2 has no control of realtime processes", f"cpu.{member}")
    found = []
    if weight := cpu_weight(cpu.shares or 0):
        found.append(Setting(file="cpu.weight", value=str(weight), member="cpu.shares"))
    if cpu.quota or cpu.period:
        quota = str(cpu.quota) if cpu.quota and cpu.quota > 0 else "max"
        member = "cpu.quota" if cpu.quota else "cpu.period"
        found.append(Setting(file="cpu.max", value=f"{quota} {cpu.period or _PERIOD_US}", member=member))
    if cpu.burst is not None:
        found.append(Setting(file="cpu.max.burst", value=str(cpu.burst), member="cpu.burst"))
    if cpu.idle is not None:
        found.append(Setting(file="cpu.idle", value=str(cpu.idle), member="cpu.idle"))
    return found


def cpuset(resources: Resources) -> list[Setting]:
    """Return the settings of the cpuset controller, the same in both versions."""
    cpu = resources.cpu or Cpu()
    pairs = (("cpuset.cpus", cpu.cpus, "cpus"), ("cpuset.mems", cpu.mems, "mems"))
    return [Setting(file=file, value=value, member=f"cpu.{member}") for file, value, member in pairs if value]


# --- pids ---


def pids(resources: Resources) -> list[Setting]:
    """Return the setting of the pids controller, the same in both versions; -1 is "no limit".

    0 is written as 1, which means the same (the first process is there) and which systemd, too, can express.
    Source: runtime-spec 1.3, config-linux, "PIDs"; runc since 1.4 does so.
    """
    limit = resources.pids.limit if resources.pids else None
    if limit is None:
        return []
    return [Setting(file="pids.max", value=_bytes(limit) if limit else "1", member="pids.limit")]


# --- block devices ---


def _weight(value: int, member: str) -> int:
    if not 10 <= value <= 1000:
        raise _impossible(f"must be between 10 and 1000, got {value}", member)
    return value


def _throttles(io: BlockIO) -> tuple[tuple[str, str, str, tuple[ThrottleDevice, ...]], ...]:
    """Return (v1 file, v2 key, member, devices) of each kind of throttle."""
    return (
        ("read_bps", "rbps", "throttleReadBpsDevice", io.throttle_read_bps_device),
        ("write_bps", "wbps", "throttleWriteBpsDevice", io.throttle_write_bps_device),
        ("read_iops", "riops", "throttleReadIOPSDevice", io.throttle_read_iops_device),
        ("write_iops", "wiops", "throttleWriteIOPSDevice", io.throttle_write_iops_device),
    )


def blkio_v1(resources: Resources, *, bfq: bool) -> list[Setting]:
    """Return the settings of the v1 blkio controller; with BFQ, its weights have files of their own."""
    io = resources.block_io or BlockIO()
    prefix = "blkio.bfq" if bfq else "blkio"
    found = []
    if io.weight:
        value = str(_weight(io.weight, "blockIO.weight"))
        found.append(Setting(file=f"{prefix}.weight", value=value, member="blockIO.weight"))
    if io.leaf_weight:
        value = str(_weight(io.leaf_weight, "blockIO.leafWeight"))
        found.append(Setting(file="blkio.leaf_weight", value=value, member="blockIO.leafWeight"))
    for index, device in enumerate(io.weight_device):
        where, node = f"blockIO.weightDevice[{index}]", f"{device.major}:{device.minor}"
        if device.weight:
            value = f"{node} {_weight(device.weight, f'{where}.weight')}"
            found.append(Setting(file=f"{prefix}.weight_device", value=value, member=f"{where}.weight"))
        if device.leaf_weight:
            value = f"{node} {_weight(device.leaf_weight, f'{where}.leafWeight')}"
            found.append(Setting(file="blkio.leaf_weight_device", value=value, member=f"{where}.leafWeight"))
    for name, _, member, throttled in _throttles(io):
        found += [
            Setting(
                file=f"blkio.throttle.{name}_device",
                value=f"{device.major}:{device.minor} {device.rate}",
                member=f"blockIO.{member}[{index}]",
            )
            for index, device in enumerate(throttled)
        ]
    return found


def io_weight(weight: int) -> int:
    """Convert ``linux.resources.blockIO.weight`` (10..1000) to v2's ``io.weight`` (1..10000), linearly.

    Source: runc and crun convert so; BFQ's own io.bfq.weight needs no conversion.
    """
    return 1 + (weight - 10) * 9999 // 990


def io_v2(resources: Resources, *, bfq: bool) -> list[Setting]:
    """Return the settings of the v2 io controller."""
    io = resources.block_io or BlockIO()
    file, converted = ("io.bfq.weight", int) if bfq else ("io.weight", io_weight)
    if io.leaf_weight:
        raise _impossible("cgroup v2 has no leaf weights", "blockIO.leafWeight")
    found = []
    if io.weight:
        value = str(converted(_weight(io.weight, "blockIO.weight")))
        found.append(Setting(file=file, value=value, member="blockIO.weight"))
    for index, device in enumerate(io.weight_device):
        where = f"blockIO.weightDevice[{index}]"
        if device.leaf_weight:
            raise _impossible("cgroup v2 has no leaf weights", f"{where}.leafWeight")
        if device.weight:
            value = f"{device.major}:{device.minor} {converted(_weight(device.weight, f'{where}.weight'))}"
            found.append(Setting(file=file, value=value, member=f"{where}.weight"))
    for _, key, member, throttled in _throttles(io):
        found += [
            Setting(
                file="io.max",
                value=f"{device.major}:{device.minor} {key}={device.rate or 'max'}",
                member=f"blockIO.{member}[{index}]",
            )
            for index, device in enumerate(throttled)
        ]
    return found


# --- the rest ---


def hugetlb(resources: Resources, *, version: int) -> list[Setting]:
    """Return the settings of the hugetlb controller: pages in use, and pages reserved (Linux 5.7)."""
    suffix = "limit_in_bytes" if version == 1 else "max"
    return [
        Setting(
            file=f"hugetlb.{limit.page_size}.{kind}{suffix}", value=str(limit.limit), member=f"hugepageLimits[{index}]"
        )
        for index, limit in enumerate(resources.hugepage_limits)
        for kind in ("", "rsvd.")
    ]


def net_cls(resources: Resources) -> list[Setting]:
    """Return the setting of the v1 net_cls controller."""
    number = resources.network.class_id if resources.network else None
    return [Setting(file="net_cls.classid", value=str(number), member="network.classID")] if number else []


def net_prio(resources: Resources) -> list[Setting]:
    """Return the settings of the v1 net_prio controller."""
    priorities = resources.network.priorities if resources.network else ()
    return [
        Setting(file="net_prio.ifpriomap", value=f"{p.name} {p.priority}", member=f"network.priorities[{index}]")
        for index, p in enumerate(priorities)
    ]


def rdma(resources: Resources) -> list[Setting]:
    """Return the settings of the rdma controller, the same in both versions."""
    found = []
    for device, limits in resources.rdma.items():
        words = [device]
        if limits.hca_handles is not None:
            words.append(f"hca_handle={limits.hca_handles}")
        if limits.hca_objects is not None:
            words.append(f"hca_object={limits.hca_objects}")
        found.append(Setting(file="rdma.max", value=" ".join(words), member=f"rdma.{device}"))
    return found


class Controller(Record):
    """A controller by its names in v1 and in v2 ("" where that has none) and its two translations."""

    v1: str
    v2: str
    settings_v1: Callable[[Resources], list[Setting]]
    settings_v2: Callable[[Resources], list[Setting]]


def _controllers(*, bfq: bool = False, swap: bool = True) -> tuple[Controller, ...]:
    def both(name: str, settings: Callable[[Resources], list[Setting]]) -> Controller:
        return Controller(v1=name, v2=name, settings_v1=settings, settings_v2=settings)

    return (
        both("cpuset", cpuset),
        Controller(
            v1="memory",
            v2="memory",
            settings_v1=lambda resources: memory_v1(resources, swap_counts=swap),
            settings_v2=lambda resources: memory_v2(resources, swap_counts=swap),
        ),
        Controller(v1="cpu", v2="cpu", settings_v1=cpu_v1, settings_v2=cpu_v2),
        both("pids", pids),
        Controller(
            v1="blkio",
            v2="io",
            settings_v1=lambda resources: blkio_v1(resources, bfq=bfq),
            settings_v2=lambda resources: io_v2(resources, bfq=bfq),
        ),
        Controller(
            v1="hugetlb",
            v2="hugetlb",
            settings_v1=lambda resources: hugetlb(resources, version=1),
            settings_v2=lambda resources: hugetlb(resources, version=2),
        ),
        Controller(v1="net_cls", v2="", settings_v1=net_cls, settings_v2=net_cls),  # v2 has it under no name
        Controller(v1="net_prio", v2="", settings_v1=net_prio, settings_v2=net_prio),
        both("rdma", rdma),
    )


# --- where it all goes ---


def directory(hierarchy: Hierarchy, path: str) -> str:
    """Return the cgroup directory at cgroupsPath ``path`` in ``hierarchy``."""
    return "/".join([base_of(hierarchy, path), *components(path)])


def _directories(hierarchy: Hierarchy, path: str) -> list[str]:
    """Return the directories down to cgroupsPath ``path``, parents first, without what cgroupsPath counts from."""
    here, found = base_of(hierarchy, path), []
    for name in components(path):
        here = f"{here}/{name}"
        found.append(here)
    return found


def layout(resources: Resources | None, cgroups_path: str, mounts: Mounts, *, rootless: bool = False) -> CgroupLayout:
    """Return what to make, write, enter and remove so that ``resources`` bind the container.

    Takes: ``cgroups_path`` absolute (from the top of each hierarchy) or relative (from the caller's own cgroup), as
    runc has it; "" makes no cgroups. ``rootless`` callers get what is delegated to them, or nothing.
    Raises: InvalidSpec for a limit that makes no sense; NoPermission, naming the controller, for one that this host
    cannot enforce.
    """
    wanted = resources or Resources()
    mounts = _within_reach(mounts, cgroups_path, rootless=rootless)
    if not mounts.v1 and mounts.unified is None:
        _refuse_all(wanted, mounts, _cause_of_lack(cgroups_path, rootless=rootless))
        return CgroupLayout()
    make: list[str] = []
    remove: list[str] = []
    enter: list[str] = []
    paths: list[tuple[str, str]] = []
    for hierarchy in mounts.v1:
        make += _directories(hierarchy, cgroups_path)
        leaf = directory(hierarchy, cgroups_path)
        enter.append(leaf)
        remove.append(leaf)
        paths += [(name, leaf) for name in hierarchy.names]
    clone_into, kill = "", list[str]()
    if mounts.unified is not None:
        make += _directories(mounts.unified, cgroups_path)
        clone_into = directory(mounts.unified, cgroups_path)
        remove.append(clone_into)
        paths.append(("", clone_into))
        kill.append(f"{clone_into}/cgroup.kill")
    why = _cause_of_lack(cgroups_path, rootless=True) if rootless else ""
    writes, enabled = limits(wanted, mounts, cgroups_path, why)
    if not mounts.v1:  # for their numbers, and for what the container may want to make below
        enabled += [name for name in mounts.controllers if name not in enabled]
    return CgroupLayout(
        make=tuple(make),
        write=(
            *_cpuset_from_parents(wanted, mounts, cgroups_path),
            *_switched_on(mounts, cgroups_path, enabled),
            *(w for w in writes if w[1] != "0" or w[0].rpartition("/")[2] not in _ZERO_AT_FIRST),
            *_device_lines(wanted, mounts, cgroups_path, rootless=rootless),
        ),
        enter=tuple(enter),
        remove=tuple(remove),
        clone_into=clone_into,
        kill=tuple(kill),
        device_program=_device_program(wanted, mounts, rootless=rootless),
        paths=tuple(paths),
    )


def _within_reach(mounts: Mounts, path: str, *, rootless: bool) -> Mounts:
    """Return the hierarchies in which this caller can have a cgroup at ``path``."""
    if not components(path):
        if path:
            raise UsageError(f"cgroupsPath {path!r} names no cgroup")
        return Mounts()
    if ".." in path.split("/"):
        raise InvalidSpec(f"{path!r} leads upwards", document="config.json", where="linux.cgroupsPath")
    # A cpuset that nobody could fill would take no process.
    usable = tuple(h for h in mounts.v1 if "cpuset" not in h.names or mounts.cpuset is not None)
    if rootless:
        usable = tuple(h for h in usable if h.mount in mounts.writable)
        return mounts.replace(v1=usable, unified=mounts.unified if mounts.delegated else None)
    return mounts.replace(v1=usable)


def _cause_of_lack(path: str, *, rootless: bool) -> str:
    if not path:
        return "the container has no cgroup of its own"
    return "no cgroup is delegated to this user" if rootless else "this host has no cgroups mounted"


def _refuse_all(wanted: Resources, mounts: Mounts, why: str) -> None:
    for controller in _controllers():
        for setting in controller.settings_v1(wanted):
            raise _lacking(controller, setting, why)
    for name in wanted.unified:
        raise _impossible(why, f"unified.{name}")


def _lacking(controller: Controller, setting: Setting, why: str) -> NoPermission:
    name = (
        controller.v1
        if controller.v1 == controller.v2 or not controller.v2
        else f"{controller.v1} (v2: {controller.v2})"
    )
    return NoPermission(
        f"cannot set {controller.v1} limit: container could not join or create cgroup: "
        f"config.json: linux.resources.{setting.member}: needs the cgroup controller {name}, but {why}",
        hint="leave the limit out, or use a host that has the controller",
    )


def _cpuset_from_parents(wanted: Resources, mounts: Mounts, path: str) -> list[tuple[str, str, str]]:
    """Return the writes that fill each new cpuset of v1, which starts empty and would take no process.

    What ``wanted`` sets is left to it: the parent's processors may be another's exclusively (cpuset.cpu_exclusive).
    """
    hierarchy = mounts.find("cpuset")
    if hierarchy is None or mounts.cpuset is None:
        return []
    given = mounts.cpuset
    leaf = directory(hierarchy, path)
    own = {setting.file for setting in cpuset(wanted)}
    return [
        (f"{new}/{file}", value, "linux.cgroupsPath")
        for new in _directories(hierarchy, path)
        if new.startswith(given.directory + "/")
        for file, value in (("cpuset.cpus", given.cpus), ("cpuset.mems", given.mems))
        if new != leaf or file not in own
    ]


def limits(wanted: Resources, mounts: Mounts, path: str, why: str = "") -> tuple[list[tuple[str, str, str]], list[str]]:
    """Return the (file, value, place in config.json) of every limit of ``wanted``, and the v2 controllers for them.

    Raises: as ``layout``; ``why`` says what keeps a controller away that no hierarchy has.
    """
    writes: list[tuple[str, str, str]] = []
    enabled: list[str] = []
    for controller in _controllers(bfq=mounts.bfq, swap=mounts.swap):
        hierarchy = mounts.find(controller.v1)
        if hierarchy is not None:
            writes += _placed(controller.settings_v1(wanted), directory(hierarchy, path))
        elif mounts.unified is not None and controller.v2 in mounts.controllers:
            settings = controller.settings_v2(wanted)
            if settings:
                enabled.append(controller.v2)
            writes += _placed(settings, directory(mounts.unified, path))
        else:
            for setting in controller.settings_v1(wanted):
                raise _lacking(controller, setting, why or "this host has it in no cgroup hierarchy")
    return [*writes, *_unified(wanted, mounts, path, enabled)], enabled


def _placed(settings: list[Setting], where: str) -> list[tuple[str, str, str]]:
    return [(f"{where}/{s.file}", s.value, f"linux.resources.{s.member}") for s in settings]


def _unified(wanted: Resources, mounts: Mounts, path: str, enabled: list[str]) -> list[tuple[str, str, str]]:
    """Return the writes of linux.resources.unified, one a line, and add the controllers that they need."""
    writes = []
    for name, text in wanted.unified.items():
        controller = name.partition(".")[0]
        if mounts.unified is None or (controller != "cgroup" and controller not in mounts.controllers):
            why = "cannot use unified resources on cgroup v1: " if mounts.v1 else ""
            raise NoPermission(
                f'invalid configuration: {why}unified resource "{name}" can\'t be set: '
                f'controller "{controller}" not available (config.json: linux.resources.unified.{name})',
                hint="the host may have it in version 1; use the members of linux.resources",
            )
        if controller not in ("cgroup", *enabled):
            enabled.append(controller)
        file = f"{directory(mounts.unified, path)}/{name}"
        writes += [(file, line, f"linux.resources.unified.{name}") for line in text.splitlines() or [""]]
    return writes


def _switched_on(mounts: Mounts, path: str, enabled: list[str]) -> list[tuple[str, str, str]]:
    """Return the writes that hand controllers down, from what cgroupsPath counts from to the parent of the cgroup."""
    if mounts.unified is None or not enabled:
        return []
    value = " ".join(f"+{name}" for name in enabled)
    parents = [base_of(mounts.unified, path), *_directories(mounts.unified, path)[:-1]]
    if mounts.hands_on:
        parents = [parent for parent in parents if f"{parent}/".startswith(f"{mounts.hands_on}/")]
    return [(f"{parent}/cgroup.subtree_control", value, "linux.cgroupsPath") for parent in parents]


def _device_program(wanted: Resources, mounts: Mounts, *, rootless: bool) -> bytes:
    """Return the device controller of version 2, where version 1 has none; loading it needs root of the host."""
    if rootless or mounts.unified is None or mounts.find("devices") is not None:
        return b""
    return devices.program(devices.rules(wanted.devices))


def _device_lines(wanted: Resources, mounts: Mounts, path: str, *, rootless: bool) -> list[tuple[str, str, str]]:
    hierarchy = mounts.find("devices")
    if hierarchy is None or rootless:
        return []
    where = directory(hierarchy, path)
    return [
        (f"{where}/{file}", line, "linux.resources.devices")
        for file, line in devices.v1_lines(devices.rules(wanted.devices))
    ]
