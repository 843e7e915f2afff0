"""From cgroupsPath "slice:prefix:name" and limits to a unit of systemd: its name, its place, its properties. Pure.

systemd makes the unit's cgroup and its parents, and keeps in its files what it was told by properties; so everything
that it has a property for is told to it as well as written, or it would write its own idea some day. The rest it leaves
alone, because the unit is delegated.

Source: systemd.resource-control(5), systemd.slice(5), org.freedesktop.systemd1(5); what runc makes of each member.
"""

from __future__ import annotations

from pyrkt.base.errors import InvalidSpec
from pyrkt.base.record import Record
from pyrkt.cgroup import devices

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from pyrkt.cgroup.devices import Rule
    from pyrkt.spec.layout import CgroupLayout

    Write = tuple[str, str, str]

_ANNOTATION = "org.systemd.property."
_INFINITY = (1 << 64) - 1
_SECOND_US = 1_000_000
_PERCENT_US = 10_000
"""systemd counts a quota in whole percent of a processor."""
_SLICE, _SCOPE = ".slice", ".scope"
_LONGEST = 255
_UNIT_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@")
_CONTROLLERS = (
    *("cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "devices", "pids"),
    *("bpf-firewall", "bpf-devices", "bpf-foreign", "bpf-socket-bind", "bpf-restrict-network-interfaces"),
)
_HANDED_DOWN = frozenset(("cpu", "cpuset", "io", "memory", "pids"))
"""Controllers of version 2 that systemd itself switches on for a delegated unit."""
_V242, _V244, _V252 = 242, 244, 252
_LETTERS = (("r", devices.READ), ("w", devices.WRITE), ("m", devices.MKNOD))


class Property(Record):
    """One property: its D-Bus type and value, and the version of systemd ``since`` which there is such a property."""

    name: str
    signature: str
    value: Any
    since: int = 0


class Unit(Record):
    """A unit to be: ``slice`` is its parent, ``path`` its cgroup below the manager's, "/system.slice/x.scope"."""

    name: str
    slice: str
    path: str

    @property
    def is_slice(self) -> bool:
        """Whether it is a slice, which has no processes of its own to start with, and stays when it is empty."""
        return self.name.endswith(_SLICE)


# --- names ---


def _refuse(problem: str, hint: str = "") -> InvalidSpec:
    return InvalidSpec(problem, document="config.json", where="linux.cgroupsPath", hint=hint)


def unit_of(cgroups_path: str, container_id: str, *, user: bool) -> Unit:
    """Return the unit that cgroupsPath names, or, where it is empty, that of a container without one.

    An empty slice is system.slice, in a ``user`` manager user.slice. A name ending with .slice is a slice.
    Raises: InvalidSpec.
    """
    parts = cgroups_path.split(":") if cgroups_path else ["", "pyrkt", container_id]
    if len(parts) != 3:
        raise _refuse(
            'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, '
            f'got "{cgroups_path}" instead',
            "leave --systemd-cgroup out for a path of directories",
        )
    parent, prefix, name = parts
    parent = parent or ("user.slice" if user else "system.slice")
    if not name.endswith(_SLICE):
        name = f"{prefix}-{name}{_SCOPE}"
    if not _UNIT_LETTERS.issuperset(name) or len(name) > _LONGEST:
        raise _refuse(f"{name!r} cannot be the name of a unit", "ASCII letters, digits and :-_.\\@, at most 255")
    if name.endswith(_SLICE):
        # A slice's parent is in its name, as systemd.slice(5) has it.
        return Unit(name=name, slice=parent, path=expanded(name))
    return Unit(name=name, slice=parent, path=f"{expanded(parent).rstrip('/')}/{cgroup_name(name)}")


def expanded(name: str) -> str:
    """Return the cgroup of a slice: that of "a-b.slice" is "/a.slice/a-b.slice"; of "-.slice", the top, "/".

    Raises: InvalidSpec, in runc's words.
    """
    stem = name.removesuffix(_SLICE)
    if stem == "-" and name != stem:
        return "/"
    words = stem.split("-")
    if name == stem or not all(words) or not _UNIT_LETTERS.issuperset(name) or len(name) > _LONGEST:
        raise _refuse(f"invalid slice name: {name}", "such as system.slice, or a-b.slice for one within a.slice")
    names = ("-".join(words[: count + 1]) + _SLICE for count in range(len(words)))
    return "".join(f"/{cgroup_name(one)}" for one in names)


def cgroup_name(unit: str) -> str:
    """Return the directory of a unit: its name, with "_" before one that could be mistaken for a file of the kernel.

    Source: systemd, src/basic/cgroup-util.c, cg_escape.
    """
    stem, dot, _ = unit.rpartition(".")
    taken = unit in ("notify_on_release", "release_agent", "tasks") or unit.startswith(("_", ".", "cgroup."))
    return f"_{unit}" if taken or (dot and stem in _CONTROLLERS) else unit


# --- properties ---


def basic(unit: Unit, container_id: str, pid: int, *, v1: bool) -> list[Property]:
    """Return what makes the unit a container's, with process ``pid`` in it (not in a slice)."""
    found = [Property(name="Description", signature="s", value=f"pyrkt container {container_id}")]
    if unit.is_slice:
        found.append(Property(name="Wants", signature="as", value=[unit.slice]))
    else:
        found += [
            Property(name="Slice", signature="s", value=unit.slice),
            Property(name="Delegate", signature="b", value=True),
            Property(name="PIDs", signature="au", value=[pid]),
            # or a container that ran out of memory would stay as a failed unit, and its name with it
            Property(name="CollectMode", signature="s", value="inactive-or-failed", since=236),
        ]
    accounting = ("Memory", "CPU", "BlockIO" if v1 else "IO", "Tasks")
    found += [Property(name=f"{word}Accounting", signature="b", value=True) for word in accounting]
    # A scope must not end before the containers of a service that are in it do, at shutdown; the engine ends them.
    found.append(Property(name="DefaultDependencies", signature="b", value=False))
    return found


def annotated(annotations: Mapping[str, str]) -> list[Property]:
    """Return the properties that annotations ask for: "org.systemd.property.TimeoutStopUSec": "uint64 30000000".

    Raises: InvalidSpec.
    """
    return [
        _annotated(key, text, key.removeprefix(_ANNOTATION))
        for key, text in annotations.items()
        if key.startswith(_ANNOTATION)
    ]


def _annotated(key: str, text: str, name: str) -> Property:
    from pyrkt.cgroup.variant import parse  # noqa: PLC0415 - few containers have any

    where = f"annotations.{key}"
    if len(name) < 3 or not (name.isascii() and name.isalpha()):
        why = "too short" if len(name) < 3 else "contains non-alphabetic character"
        raise InvalidSpec(f"annotation {key} name incorrect: {why}", document="config.json", where=where)
    try:
        kind, value = parse(text)
    except ValueError as error:
        hint = "GVariant's text: 'text' in quotes, true, 5, uint64 5, ['a', 'b']"
        problem = f"annotation {key}={text} value parse error: {error}"
        raise InvalidSpec(problem, document="config.json", where=where, hint=hint) from None
    # TimeoutStopSec is how manuals call it; over D-Bus it is TimeoutStopUSec.
    if name.endswith("Sec") and name[-4].islower():
        if kind not in tuple("ynqiuxtd"):
            problem = f"annotation {key}={text} value parse error: not a number"
            raise InvalidSpec(problem, document="config.json", where=where)
        name, kind, value = f"{name[:-3]}USec", "t", int(value * _SECOND_US)
        if not 0 <= value <= _INFINITY:
            raise InvalidSpec(f"annotation {key}={text}: no time", document="config.json", where=where)
    return Property(name=name, signature=kind, value=value)


def mask(cpus: str) -> bytes:
    """Return a list such as "0-3,7" as systemd's bits, the lowest first. Raises: ValueError."""
    bits = 0
    for part in cpus.replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        if not part:
            continue
        low, high = int(first), int(last if dash else first)
        if not 0 <= low <= high <= 0xFFFF:
            raise ValueError(f"{part!r} is no range")
        bits |= ((1 << (high - low + 1)) - 1) << low
    if not bits:
        raise ValueError("an empty list")
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def _count(text: str) -> int:
    value = _INFINITY if text in ("max", "-1") else int(text)
    if not 0 <= value <= _INFINITY:
        raise ValueError(f"{text} is no number")
    return value


def _number(name: str) -> Callable[[str], list[Property]]:
    return lambda text: [Property(name=name, signature="t", value=_count(text))]


def _set(name: str) -> Callable[[str], list[Property]]:
    return lambda text: [Property(name=name, signature="ay", value=mask(text), since=_V244)]


def _quota(quota_us: int, period_us: int) -> list[Property]:
    """Return a quota as microseconds a second: systemd rounds it to percent, and so that it is not less, we up."""
    if quota_us < 0:
        each = _INFINITY
    else:
        each = quota_us * _SECOND_US // period_us
        each += -each % _PERCENT_US
    return [
        Property(name="CPUQuotaPeriodUSec", signature="t", value=period_us, since=_V242),
        Property(name="CPUQuotaPerSecUSec", signature="t", value=each),
    ]


def _cpu_max(text: str) -> list[Property]:
    quota, *period = text.split()
    return _quota(-1 if quota == "max" else int(quota), int(period[0]) if period else 100_000)


def _idle(text: str) -> list[Property]:
    # weight 0 is how systemd says "idle"; there is no way to say "not idle" but a weight
    return [Property(name="CPUWeight", signature="t", value=0, since=_V252)] if text == "1" else []


_SHARED: dict[str, Callable[[str], list[Property]]] = {
    "cpuset.cpus": _set("AllowedCPUs"),
    "cpuset.mems": _set("AllowedMemoryNodes"),
    "pids.max": _number("TasksMax"),
}
_V2 = _SHARED | {
    "cpu.weight": _number("CPUWeight"),
    "cpu.max": _cpu_max,
    "cpu.idle": _idle,
    "io.weight": _number("IOWeight"),
    "memory.min": _number("MemoryMin"),
    "memory.low": _number("MemoryLow"),
    "memory.high": _number("MemoryHigh"),
    "memory.max": _number("MemoryMax"),
    "memory.swap.max": _number("MemorySwapMax"),
}
_V1 = _SHARED | {
    "memory.limit_in_bytes": _number("MemoryLimit"),
    "cpu.shares": _number("CPUShares"),
    "blkio.weight": _number("BlockIOWeight"),
    # Two files that make one property.
    "cpu.cfs_quota_us": lambda text: [Property(name="quota", signature="t", value=int(text))],
    "cpu.cfs_period_us": lambda text: [Property(name="period", signature="t", value=int(text))],
}


def limits(writes: Iterable[Write], unified: str) -> list[Property]:
    """Return what systemd is to know of ``writes``, (file, value, place) as ``cgroup.plan`` makes them.

    ``unified`` is the container's directory of version 2, "" if there is none. The last one counts of several that
    mean the same property. A value that systemd could not express is left to the file, and to the kernel's judgement.
    """
    found: dict[str, Property] = {}
    for path, text, _ in writes:
        directory, _, file = path.rpartition("/")
        table = _V2 if directory == unified else _V1
        try:
            properties = table[file](text.strip()) if file in table else []
        except (ValueError, ZeroDivisionError, IndexError):
            continue
        for one in properties:
            if one.name == "CPUWeight" and one.value and "CPUWeight" in found and not found["CPUWeight"].value:
                continue  # an idle group has no weight
            found[one.name] = one
    quota, period = found.pop("quota", None), found.pop("period", None)
    if quota or period:
        quota_us, period_us = quota.value if quota else -1, period.value if period else 100_000
        for one in _quota(quota_us, period_us or 100_000):
            found[one.name] = one
    return list(found.values())


def device_policy(
    rules: Iterable[Rule], groups: Mapping[tuple[int, int], str], exists: Callable[[str], bool], *, v1: bool
) -> list[Property]:
    """Return DevicePolicy and DeviceAllow for ``rules``, as far as systemd can express them.

    ``groups`` is (kind, major) to the name in /proc/devices, ``exists`` tells of a path. In version 2 what systemd
    cannot express is not told at all: its program would stand beside ours, and both must agree. In version 1 the files
    are one for both, and systemd would some day allow everything; so it is told to refuse more, as runc does.
    """
    granted = _granted(rules)
    whole = [rule for rule in granted or () if rule.major == rule.minor == devices.ANY and rule.access == devices.ALL]
    if {rule.kind for rule in whole} == {devices.BLOCK, devices.CHAR}:
        return _policy("auto", [])
    allowed: list[tuple[str, str]] = []
    exact = granted is not None
    for rule in granted or ():
        path = _device_path(rule, groups)
        # systemd looks a node up; for one that is not there it could not allow anything
        if not path or (path.startswith("/dev/") and not (exists(path) or exists(f"/sys{path}"))):
            exact = False
            continue
        letters = "".join(letter for letter, bit in _LETTERS if rule.access & bit)
        if (path, letters) not in allowed:
            allowed.append((path, letters))
    return _policy("strict", allowed) if exact or v1 else []


def _policy(policy: str, allowed: list[tuple[str, str]]) -> list[Property]:
    return [
        Property(name="DevicePolicy", signature="s", value=policy),
        Property(name="DeviceAllow", signature="a(ss)", value=[]),
        *([Property(name="DeviceAllow", signature="a(ss)", value=allowed)] if allowed else []),
    ]


def _granted(rules: Iterable[Rule]) -> list[Rule] | None:
    """Return the rules that allow, if what refuses only takes back all of what was allowed before; else None."""
    granted: list[Rule] = []
    for rule in rules:
        if rule.allow:
            granted.append(rule)
            continue
        left = [old for old in granted if not (rule.covers(old) and rule.access & old.access == old.access)]
        if any(rule.meets(old) and rule.access & old.access for old in left):
            return None
        granted = left
    return granted


def _device_path(rule: Rule, groups: Mapping[tuple[int, int], str]) -> str:
    kind = "block" if rule.kind == devices.BLOCK else "char"
    if rule.major == devices.ANY:
        return "" if rule.minor != devices.ANY else f"{kind}-*"
    if rule.minor == devices.ANY:
        group = groups.get((rule.kind, rule.major), "")
        return f"{kind}-{group}" if group else ""
    return f"/dev/{kind}/{rule.major}:{rule.minor}"


def device_groups(text: str) -> dict[tuple[int, int], str]:
    """Return (kind, major) to name from the text of /proc/devices; of several names the first."""
    found: dict[tuple[int, int], str] = {}
    kind = devices.CHAR
    for line in text.splitlines():
        number, _, name = line.strip().partition(" ")
        if line.startswith("Block"):
            kind = devices.BLOCK
        elif number.isdigit() and name:
            found.setdefault((kind, int(number)), name)
    return found


# --- the layout ---


def placed(layout: CgroupLayout, unit: Unit, bus: str, top: str) -> CgroupLayout:
    """Return ``layout``, of a container at the unit's cgroup, as it is when systemd makes that cgroup.

    ``top`` is the directory of the manager's own cgroup in version 2. What systemd makes is not made again: were it
    not there, that would be our mistake, and must not go unseen. It is not removed either while systemd may still look
    at it: one whose cgroup vanishes before its end was noticed would be there for ever.
    """
    ours = tuple(d for d in layout.make if not _within(d, layout.clone_into))
    managed = tuple(d for d in (layout.path("name=systemd"), layout.clone_into) if d)
    early, late = _room_for_the_holder(layout, unit)
    return layout.replace(
        make=ours,
        write=tuple(one for write in early if (one := _handed_down(write, top)) is not None),
        late=late,
        driver="systemd",
        unit=unit.name,
        bus=bus,
        managed=managed,
    )


def _within(directory: str, unified: str) -> bool:
    return bool(unified) and (unified == directory or unified.startswith(directory + "/"))


def _handed_down(write: Write, top: str) -> Write | None:
    """Return the write without what systemd has done: it hands its controllers down to a delegated unit itself."""
    path, value, place = write
    directory, _, file = path.rpartition("/")
    if file != "cgroup.subtree_control":
        return write
    words = [word for word in value.split() if word.lstrip("+") not in _HANDED_DOWN]
    return (path, " ".join(words), place) if words and (directory == top or directory.startswith(top + "/")) else None


def _room_for_the_holder(layout: CgroupLayout, unit: Unit) -> tuple[list[Write], tuple[Write, ...]]:
    """Return the writes, and those that have to wait until the process that held the scope has left.

    A process born into a cgroup counts at once: with a limit of one it could not be born beside the holder.
    """
    early, late = list[tuple[str, str, str]](), list[tuple[str, str, str]]()
    for path, value, place in layout.write:
        alone = path == f"{layout.clone_into}/pids.max" and value.strip() == "1" and not unit.is_slice
        early.append((path, "2" if alone else value, place))
        if alone:
            late.append((path, value, place))
    return early, tuple(late)
