"""``update``: other limits for a container that runs."""

from __future__ import annotations

import os

from pyrkt.base import fastjson
from pyrkt.base.atomic import write_file
from pyrkt.base.errors import InvalidSpec, NoPermission, NotFound, PyrktError, UsageError
from pyrkt.base.reader import Reader
from pyrkt.cgroup import change, plan
from pyrkt.runtime import container as containers
from pyrkt.runtime import lifecycle
from pyrkt.runtime.container import STOPPED
from pyrkt.runtime.options import TEXT, Verb, flag
from pyrkt.spec.runtime_resources import Resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.runtime.container import Container
    from pyrkt.runtime.main import Settings

VERB = Verb(
    name="update",
    summary="change the limits of a container",
    flags=(
        flag("resources r", TEXT, "path to the file containing the resources to update or '-' to read from stdin"),
        flag("blkio-weight", TEXT, "weight of the container's block I/O, 10 to 1000"),
        flag("cpu-period", TEXT, "CFS period in microseconds"),
        flag("cpu-quota", TEXT, "CFS quota in microseconds: processor time in a period; -1 for no limit"),
        flag("cpu-burst", TEXT, "CFS burst in microseconds: unused time that may be spent later"),
        flag("cpu-share", TEXT, "CPU shares, against those of other containers"),
        flag("cpu-rt-period", TEXT, "realtime period in microseconds"),
        flag("cpu-rt-runtime", TEXT, "realtime processor time in a realtime period, in microseconds"),
        flag("cpuset-cpus", TEXT, "CPU(s) to use"),
        flag("cpuset-mems", TEXT, "memory node(s) to use"),
        flag("cpu-idle", TEXT, "1 to run only when nothing else does, 0 for the usual"),
        flag("kernel-memory", TEXT, "(obsolete) has no effect"),
        flag("kernel-memory-tcp", TEXT, "(obsolete) has no effect"),
        flag("memory", TEXT, "memory limit in bytes (or with K, M, G); -1 for none"),
        flag("memory-reservation", TEXT, "memory reservation, or soft limit, in bytes"),
        flag("memory-swap", TEXT, "limit of memory and swap together in bytes; -1 for none"),
        flag("pids-limit", TEXT, "how many processes and threads; -1 for no limit"),
        flag("l3-cache-schema", TEXT, "Intel RDT/CAT L3 cache schema"),
        flag("mem-bw-schema", TEXT, "Intel RDT/MBA memory bandwidth schema"),
    ),
    about="The file of --resources is the object linux.resources of config.json, or a part of it; what it does not\n"
    "name, and what is null or 0 in it, stays as it is. With it, the flags about cgroups are ignored.\n"
    "Rules for devices cannot be changed.",
)
_NUMBERS = (  # flag, section, member, whether it may be negative
    ("cpu-period", "cpu", "period", False),
    ("cpu-quota", "cpu", "quota", True),
    ("cpu-burst", "cpu", "burst", False),
    ("cpu-share", "cpu", "shares", False),
    ("cpu-rt-period", "cpu", "realtimePeriod", False),
    ("cpu-rt-runtime", "cpu", "realtimeRuntime", True),
    ("cpu-idle", "cpu", "idle", True),
)
_SIZES = (
    ("memory", "limit"),
    ("memory-swap", "swap"),
    ("kernel-memory", "kernel"),
    ("kernel-memory-tcp", "kernelTCP"),
    ("memory-reservation", "reservation"),
)
_TEXTS = (
    ("cpuset-cpus", "cpu", "cpus"),
    ("cpuset-mems", "cpu", "mems"),
    ("blkio-weight", "blockIO", "weight"),
    ("pids-limit", "pids", "limit"),
)
_MEMBERS = (
    *("memory", "cpu", "pids", "blockIO", "hugepageLimits", "network", "rdma", "unified"),
    *("limit", "reservation", "swap", "kernel", "kernelTCP", "swappiness", "disableOOMKiller", "useHierarchy"),
    *("checkBeforeUpdate", "shares", "quota", "burst", "period", "realtimeRuntime", "realtimePeriod", "cpus", "mems"),
    *("idle", "weight", "leafWeight", "weightDevice", "throttleReadBpsDevice", "throttleWriteBpsDevice"),
    *("throttleReadIOPSDevice", "throttleWriteIOPSDevice", "major", "minor", "rate", "pageSize", "classID"),
    *("priorities", "name", "priority", "hcaHandles", "hcaObjects"),
)
_BY_LOWER = {name.lower(): name for name in _MEMBERS}
_OPEN = ("rdma", "unified")
"""Their members' names are the user's own."""
_ZERO_COUNTS = ("burst", "idle", "limit", "rate", "minor", "major", "priority", "hcaHandles", "hcaObjects", "classID")
_KEYS = ("major", "minor", "pageSize", "name")
"""What tells one entry of a list from another."""
_MAX_RESOURCES = 1 << 20


def main(settings: Settings, values: dict[str, Any], arguments: list[str]) -> int:
    """Check everything, then change it, then remember it."""
    container = containers.load(settings.root, arguments[0])
    wanted = of_file(values["resources"]) if values["resources"] else of_flags(values)
    descriptor = lifecycle.locked(container.directory)
    try:
        if containers.status(container).name == STOPPED:
            raise NotFound("container not running")
        memory = wanted.get("memory", {})
        if memory.pop("kernel", None) or memory.pop("kernelTCP", None):
            memory.pop("kernelTCP", None)
            settings.log.warning("Kernel memory settings are ignored and will be removed")
        _update(container, wanted, values)
    finally:
        os.close(descriptor)
    return 0


def _update(container: Container, wanted: dict[str, Any], values: dict[str, Any]) -> None:
    path = container.path("config.json")
    document = fastjson.loads(containers.read_file(path, fastjson.MAX_SIZE), path)
    linux = document.get("linux") or {}
    stored = linux.get("resources") or {}
    schemata = _schemata(container, linux.get("intelRdt"), values)
    effective = completed(wanted, stored)
    resources = Resources.parse(Reader(effective, "resources"))
    if effective and not container.cgroup.paths:
        raise NoPermission("the container has no cgroup of its own", hint="its limits are those of its creator")
    writes, _ = plan.limits(resources, change.places(container.cgroup), "")
    change.check_usage(resources.memory, container.cgroup)
    if container.cgroup.unit:
        from pyrkt.runtime import scope  # noqa: PLC0415 - only for what systemd made

        scope.change(container.cgroup, writes)
    change.carry_out([*writes, *schemata])
    document["linux"] = linux | {"resources": merged(stored, wanted)}
    write_file(path, fastjson.dumps(document).encode(), mode=0o600, durable=False)


# --- what is asked for ---


def of_file(path: str) -> dict[str, Any]:
    """Return the resources in the file ``path``, or on standard input for "-", without what means "as it is".

    Names are taken in any case, as by Go, in which the engines and their configurations are written.
    """
    document = "standard input" if path == "-" else path
    if path == "-":
        with open(0, "rb", closefd=False) as file:
            data = file.read(_MAX_RESOURCES + 1)
    else:
        data = containers.read_given(path, _MAX_RESOURCES)
    if len(data) > _MAX_RESOURCES:
        raise InvalidSpec("larger than 1 MiB", document=document)
    given = fastjson.loads(data, document)
    if not isinstance(given, dict):
        raise InvalidSpec("expected an object", document=document)
    wanted: dict[str, Any] = _meant(given)
    wanted.pop("devices", None)
    Resources.parse(Reader(wanted, document))  # whose complaints name this document
    return wanted


def _meant(value: Any, name: str = "") -> Any:
    """Return ``value`` with the names of the specification, without null, and without 0 where that is "not set"."""
    if isinstance(value, list):
        return [_meant(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, member in value.items():
        known = str(key) if name in _OPEN else _BY_LOWER.get(key.lower(), str(key))
        empty = member is None or (member in (0, "") and not isinstance(member, bool))
        if not empty or (member is not None and _zero_counts(known, name)):
            found[known] = _meant(member, known)
    return found


def _zero_counts(member: str, section: str) -> bool:
    return section in _OPEN or (member in _ZERO_COUNTS and section != "memory")


def _number(text: str, name: str, *, signed: bool) -> int:
    digits = text.removeprefix("-").removeprefix("+") if signed else text
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 20:
        kind = "ParseInt" if signed else "ParseUint"
        raise UsageError(f"invalid value for {name}: strconv.{kind}: parsing {fastjson.dumps(text)}: invalid syntax")
    return int(text)


def size(text: str) -> int:
    """Return the bytes that "67108864", "64M", "64MiB" or "1.5g" means; -1 for "-1".

    Raises: ValueError. Source: what docker and runc take (go-units, RAMInBytes): every unit is binary.
    """
    if text == "-1":
        return -1
    number = text.rstrip("bB").rstrip("iI")
    suffix = number[-1:].lower()
    power = "kmgtp".find(suffix) + 1 if suffix and suffix in "kmgtp" else 0
    if not power and number != text.rstrip("bB"):
        raise ValueError(f"{text!r} is no size")
    digits = (number[:-1] if power else number).removesuffix(" ")
    whole, dot, fraction = digits.partition(".")
    parts = (whole, fraction) if dot else (whole,)
    if not all(part.isascii() and part.isdigit() for part in parts) or len(text) - len(number) > 2 or len(digits) > 30:
        raise ValueError(f"{text!r} is no size")
    unit: int = 1024**power
    return int(whole) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)


def _go_int(text: str, name: str) -> int:
    if not (text.removeprefix("-").isdigit() and text.isascii() and len(text) < 20):
        raise UsageError(f'invalid value "{text}" for flag -{name}: parse error')
    return int(text)


def of_flags(values: dict[str, Any]) -> dict[str, Any]:
    """Return the resources that the flags ask for. Raises: UsageError in runc's words."""
    wanted: dict[str, dict[str, Any]] = {"cpu": {}, "memory": {}, "blockIO": {}, "pids": {}}
    for name, section, member, signed in _NUMBERS:
        if values[name]:
            wanted[section][member] = _number(values[name], name, signed=signed)
    for name, member in _SIZES:
        if values[name]:
            try:
                wanted["memory"][member] = size(values[name])
            except ValueError:
                raise UsageError(f"invalid value for {name}: invalid size: '{values[name]}'") from None
    for name, section, member in _TEXTS:
        if values[name]:
            wanted[section][member] = values[name] if section == "cpu" else _go_int(values[name], name)
    found = _meant({section: members for section, members in wanted.items() if members})
    return {section: members for section, members in found.items() if members}


# --- what that means for a container that has some already ---


def completed(wanted: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """Return ``wanted`` with those of the ``stored`` limits that are written together with one of its own."""
    found = dict(wanted)
    for section, one, other in (("cpu", "quota", "period"), ("memory", "limit", "swap")):
        asked, old = wanted.get(section) or {}, stored.get(section) or {}
        for here, there in ((one, other), (other, one)):
            without_both = here == "limit" and asked.get(here) == -1
            if here in asked and there not in asked and old.get(there) and not without_both:
                found[section] = found[section] | {there: old[there]}
    return found


def merged(stored: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Return linux.resources as it is after the update."""
    found = dict(stored)
    for name, value in wanted.items():
        old = stored.get(name)
        if isinstance(value, dict):
            found[name] = merged(old or {}, value)
        elif isinstance(value, list):
            found[name] = _entries(old or [], value)
        else:
            found[name] = value
    if wanted.get("limit") == -1 and "swap" not in wanted:
        found.pop("swap", None)  # no limit on memory is none on memory+swap
    return found


def _key(entry: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(entry.get(name) for name in _KEYS)


def _entries(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = {_key(entry): entry for entry in old}
    for entry in new:
        found[_key(entry)] = found.get(_key(entry), {}) | entry
    return list(found.values())


# --- Intel RDT ---


def _schemata(
    container: Container, configured: dict[str, Any] | None, values: dict[str, Any]
) -> list[tuple[str, str, str]]:
    """Return the writes that --l3-cache-schema and --mem-bw-schema ask for. Raises: PyrktError in runc's words."""
    asked = [(name, values[name]) for name in ("l3-cache-schema", "mem-bw-schema") if values[name]]
    if not asked:
        return []
    from pyrkt.cgroup import resctrl  # noqa: PLC0415 - few processors have it

    host = resctrl.probe()
    for name, resource, problem in (
        ("l3-cache-schema", "L3", "Intel RDT/CAT: l3 cache schema is not enabled"),
        ("mem-bw-schema", "MB", "Intel RDT/MBA: memory bandwidth schema is not enabled"),
    ):
        if values[name] and (host is None or resource not in host.resources):
            raise PyrktError(problem, hint="it needs a processor with Intel RDT and a mounted resctrl file system")
    if configured is None or host is None:
        raise PyrktError("updating a non-existent Intel RDT configuration is not supported")
    clos = configured.get("closID") or container.id
    group = host.root if clos == "/" else f"{host.root}/{clos}"
    return [(f"{group}/schemata", f"{schema}\n", f"--{name}") for name, schema in asked]
