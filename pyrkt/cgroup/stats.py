"""What a container has used so far, read from its cgroups: the numbers of ``events --stats``, as runc writes them.

Members that are 0 or empty are left out where runc leaves them out; a controller may be in either version.
Source: runc, types/events.go; Linux admin-guide/cgroup-v1/ and cgroup-v2.rst; accounting/psi.rst.
"""

from __future__ import annotations

import os

from pyrkt.cgroup.host import read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.spec.layout import CgroupLayout

UNLIMITED = (1 << 64) - 1
"""What stands for "max"."""
_HUGEPAGES = "/sys/kernel/mm/hugepages"
_NS_OF_US = 1000
_NS = 10**9
_CPUSET_FLAGS = (
    *("cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page", "memory_spread_slab"),
    *("memory_pressure", "sched_load_balance", "sched_relax_domain_level"),
)
_BLKIO = (  # file without its prefix, member
    ("io_service_bytes", "ioServiceBytesRecursive"),
    ("io_serviced", "ioServicedRecursive"),
    ("io_queued", "ioQueueRecursive"),
    ("io_service_time", "ioServiceTimeRecursive"),
    ("io_wait_time", "ioWaitTimeRecursive"),
    ("io_merged", "ioMergedRecursive"),
    ("time", "ioTimeRecursive"),
    ("sectors", "sectorsRecursive"),
)
_IO_STAT = {  # word of io.stat: member, operation of v1
    "rbytes": ("ioServiceBytesRecursive", "Read"),
    "wbytes": ("ioServiceBytesRecursive", "Write"),
    "rios": ("ioServicedRecursive", "Read"),
    "wios": ("ioServicedRecursive", "Write"),
}


def number(text: str) -> int:
    """Return the number in ``text``: UNLIMITED for "max", 0 for what is negative or missing."""
    if text == "max":
        return UNLIMITED
    return int(text) if text.isascii() and text.isdigit() else 0


def table(text: str) -> dict[str, int]:
    """Return the lines "name number" of ``text``, sorted by name."""
    found = {}
    for line in sorted(text.splitlines()):
        name, _, value = line.rpartition(" ")
        if name and value.isdigit():
            found[name] = int(value)
    return found


def _filled(members: dict[str, Any]) -> dict[str, Any]:
    """Return ``members`` without what is 0 or empty."""
    return {name: value for name, value in members.items() if value}


def pressure(text: str) -> dict[str, Any] | None:
    """Return a PSI file as {"some": {"avg10", "avg60", "avg300", "total"}, "full": ...}; None if it says nothing."""
    nothing = {"avg10": 0, "avg60": 0, "avg300": 0, "total": 0}
    found: dict[str, Any] = {"some": nothing, "full": nothing}
    for line in text.splitlines():
        kind, *words = line.split()
        values: dict[str, float] = {}
        for word in words:
            name, _, value = word.partition("=")
            share = float(value)
            values[name] = int(share) if share.is_integer() else share
        found[kind] = nothing | values
    return found if text else None


def _with_pressure(members: dict[str, Any], directory: str, kind: str) -> dict[str, Any]:
    psi = pressure(read_text(f"{directory}/{kind}.pressure")) if directory else None
    return members | {"psi": psi} if psi else members


def _cpu_v1(cpu: str, cpuacct: str) -> dict[str, Any]:
    ticks = _NS // os.sysconf("SC_CLK_TCK")
    modes = table(read_text(f"{cpuacct}/cpuacct.stat"))
    rows = [line.split() for line in read_text(f"{cpuacct}/cpuacct.usage_all").splitlines()[1:]]
    counters = table(read_text(f"{cpu}/cpu.stat"))
    usage = {
        "total": number(read_text(f"{cpuacct}/cpuacct.usage")),
        "percpu": [int(word) for word in read_text(f"{cpuacct}/cpuacct.usage_percpu").split()],
        "percpu_kernel": [int(row[2]) for row in rows],
        "percpu_user": [int(row[1]) for row in rows],
    }
    return {
        "usage": _filled(usage) | {"kernel": modes.get("system", 0) * ticks, "user": modes.get("user", 0) * ticks},
        "throttling": _throttling(counters, counters.get("throttled_time", 0)),
    }


def _cpu_v2(directory: str) -> dict[str, Any]:
    counters = table(read_text(f"{directory}/cpu.stat"))
    return {
        "usage": _filled({"total": counters.get("usage_usec", 0) * _NS_OF_US})
        | {"kernel": counters.get("system_usec", 0) * _NS_OF_US, "user": counters.get("user_usec", 0) * _NS_OF_US},
        "throttling": _throttling(counters, counters.get("throttled_usec", 0) * _NS_OF_US),
    }


def _throttling(counters: dict[str, int], time_ns: int) -> dict[str, Any]:
    periods, throttled = counters.get("nr_periods", 0), counters.get("nr_throttled", 0)
    return _filled({"periods": periods, "throttledPeriods": throttled, "throttledTime": time_ns})


def _cpus(text: str) -> list[int]:
    """Return the numbers of a list such as "0-3,7"."""
    found: list[int] = []
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def _cpuset(directory: str) -> dict[str, Any]:
    """Return the numbers of a cpuset of version 1; of version 2 runc gives none."""
    flags: dict[str, Any] = {}
    for name in _CPUSET_FLAGS:
        text = read_text(f"{directory}/cpuset.{name}") if directory else ""
        flags[name] = int(text) if text else 0
    cpus, mems = (_cpus(read_text(f"{directory}/cpuset.{name}")) if directory else [] for name in ("cpus", "mems"))
    first = {"cpu_exclusive": flags.pop("cpu_exclusive")}
    return {**_filled({"cpus": cpus}), **first, **_filled({"mems": mems}), **flags}


def _memory_entry(usage: int, limit: int, peak: int, failures: int) -> dict[str, Any]:
    return {"limit": limit, **_filled({"usage": usage, "max": peak}), "failcnt": failures}


def _memory_v1(directory: str) -> dict[str, Any]:
    def entry(kind: str) -> dict[str, Any]:
        usage, limit, peak, failures = (
            number(read_text(f"{directory}/memory.{kind}{file}"))
            for file in ("usage_in_bytes", "limit_in_bytes", "max_usage_in_bytes", "failcnt")
        )
        return _memory_entry(usage, limit, peak, failures)

    raw = table(read_text(f"{directory}/memory.stat"))
    entries = {"usage": "", "swap": "memsw.", "kernel": "kmem.", "kernelTCP": "kmem.tcp."}
    return {
        **_filled({"cache": raw.get("cache", 0)}),
        **{name: entry(kind) for name, kind in entries.items()},
        **_filled({"raw": raw}),
    }


def _memory_v2(directory: str) -> dict[str, Any]:
    """Return the same for version 2; ``swap`` is memory and swap together, as in version 1."""
    raw = table(read_text(f"{directory}/memory.stat"))
    usage, limit, peak, swap, swap_limit = (
        number(read_text(f"{directory}/memory.{file}"))
        for file in ("current", "max", "peak", "swap.current", "swap.max")
    )
    both = swap_limit if UNLIMITED in (limit, swap_limit) else limit + swap_limit
    nothing = _memory_entry(0, 0, 0, 0)
    return {
        **_filled({"cache": raw.get("file", 0)}),
        "usage": _memory_entry(usage, limit, peak, 0),
        "swap": _memory_entry(usage + swap, both, 0, 0),
        "kernel": nothing,
        "kernelTCP": nothing,
        **_filled({"raw": raw}),
    }


def _pids(directory: str) -> dict[str, Any]:
    if not os.path.exists(f"{directory}/pids.current"):
        return _filled({"current": len(read_text(f"{directory}/cgroup.procs").split())})
    limit = number(read_text(f"{directory}/pids.max"))
    current = number(read_text(f"{directory}/pids.current"))
    return _filled({"current": current, "limit": 0 if limit == UNLIMITED else limit})


def _entry(device: str, operation: str, value: int) -> dict[str, Any]:
    major, _, minor = device.partition(":")
    return _filled({"major": int(major), "minor": int(minor), "op": operation, "value": value})


def _blkio_v1(directory: str) -> dict[str, Any]:
    """Return what BFQ counts if it is in use, else what the throttling layer does."""
    for form in ("blkio.bfq.{}_recursive", "blkio.throttle.{}_recursive", "blkio.throttle.{}"):
        found = {}
        for file, member in _BLKIO:
            rows = [line.split() for line in read_text(f"{directory}/{form.format(file)}").splitlines()]
            rows = [row for row in rows if ":" in row[0]]  # the last line is the sum
            if rows:
                found[member] = [_entry(row[0], row[1] if len(row) > 2 else "", int(row[-1])) for row in rows]
        if found:
            return found
    return {}


def _io_v2(directory: str) -> dict[str, Any]:
    found: dict[str, list[dict[str, Any]]] = {}
    for line in read_text(f"{directory}/io.stat").splitlines():
        device, *words = line.split()
        for word in words:
            name, _, value = word.partition("=")
            if name in _IO_STAT and ":" in device:
                member, operation = _IO_STAT[name]
                found.setdefault(member, []).append(_entry(device, operation, int(value)))
    return found


def _page_sizes() -> list[str]:
    """Return the sizes of huge pages as the files of hugetlb name them: "64KB", "2MB", "1GB"."""
    sizes = []
    for name in sorted(os.listdir(_HUGEPAGES)) if os.path.isdir(_HUGEPAGES) else ():
        kilobytes = int(name.removeprefix("hugepages-").removesuffix("kB"))
        power = 2 if kilobytes >= 1 << 20 else 1 if kilobytes >= 1 << 10 else 0
        sizes.append(f"{kilobytes >> 10 * power}{('KB', 'MB', 'GB')[power]}")
    return sizes


def _hugetlb(v1: str, v2: str) -> dict[str, Any]:
    found = {}
    for size in _page_sizes():
        directory, used = (v1, "usage_in_bytes") if v1 else (v2, "current")
        kind = next(
            (kind for kind in (".rsvd", "") if os.path.exists(f"{directory}/hugetlb.{size}{kind}.{used}")), None
        )
        if kind is None:
            continue
        prefix = f"{directory}/hugetlb.{size}"
        if v1:
            peak = number(read_text(f"{prefix}{kind}.max_usage_in_bytes"))
            failures = number(read_text(f"{prefix}{kind}.failcnt"))
        else:
            peak, failures = 0, table(read_text(f"{prefix}.events")).get("max", 0)
        found[size] = _filled({"usage": number(read_text(f"{prefix}{kind}.{used}")), "max": peak}) | {
            "failcnt": failures
        }
    return found


def read(layout: CgroupLayout) -> dict[str, Any]:
    """Return the numbers of the container whose cgroups are ``layout``: bytes, nanoseconds, counts."""
    unified = layout.path("")
    cpu, cpuacct, memory, blkio = (layout.path(name) for name in ("cpu", "cpuacct", "memory", "blkio"))
    return {
        "cpu": _with_pressure(_cpu_v1(cpu, cpuacct) if cpuacct else _cpu_v2(unified), unified, "cpu"),
        "cpuset": _cpuset(layout.path("cpuset")),
        "memory": _with_pressure(_memory_v1(memory) if memory else _memory_v2(unified), unified, "memory"),
        "pids": _pids(layout.path("pids") or unified),
        "blkio": _with_pressure(_blkio_v1(blkio) if blkio else _io_v2(unified), unified, "io"),
        "hugetlb": _hugetlb(layout.path("hugetlb"), unified),
        "intel_rdt": {},
        "network_interfaces": None,
    }
