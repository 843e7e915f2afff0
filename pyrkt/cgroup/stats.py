"""What a container has used so far, read from its cgroups: the numbers that ``events --stats`` and engines show."""

from __future__ import annotations

import os

from pyrkt.cgroup.host import read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_NANOSECONDS_OF_US = 1000
_UNLIMITED_V1 = 0x7FFFFFFFFFFFF000
"""What memory.limit_in_bytes shows for "no limit": LONG_MAX, whole pages."""


def number(text: str) -> int | None:
    """Return the number in ``text``; None for "max" and for a missing file."""
    return int(text) if text.isascii() and text.isdigit() else None


def table(text: str) -> dict[str, int]:
    """Return the lines "name number" of ``text``."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name and value.isdigit():
            found[name] = int(value)
    return found


def _limit_v1(text: str) -> int | None:
    value = number(text)
    return None if value is None or value >= _UNLIMITED_V1 else value


def _cpu(directory: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if usage := read_text(f"{directory}/cpuacct.usage"):
        found["usage_ns"] = number(usage)
        found["user_ns"] = number(read_text(f"{directory}/cpuacct.usage_user"))
        found["system_ns"] = number(read_text(f"{directory}/cpuacct.usage_sys"))
    counters = table(read_text(f"{directory}/cpu.stat"))
    if "usage_usec" in counters:
        found["usage_ns"] = counters["usage_usec"] * _NANOSECONDS_OF_US
        found["user_ns"] = counters.get("user_usec", 0) * _NANOSECONDS_OF_US
        found["system_ns"] = counters.get("system_usec", 0) * _NANOSECONDS_OF_US
    if "nr_periods" in counters:
        found["periods"], found["throttled_periods"] = counters["nr_periods"], counters.get("nr_throttled", 0)
        throttled = counters.get("throttled_usec", 0) * _NANOSECONDS_OF_US
        found["throttled_ns"] = counters.get("throttled_time", throttled)
    return found


def _memory(directory: str) -> dict[str, Any]:
    if usage := read_text(f"{directory}/memory.usage_in_bytes"):
        return {
            "usage": number(usage),
            "peak": number(read_text(f"{directory}/memory.max_usage_in_bytes")),
            "limit": _limit_v1(read_text(f"{directory}/memory.limit_in_bytes")),
            "failures": number(read_text(f"{directory}/memory.failcnt")),
            "oom_kills": table(read_text(f"{directory}/memory.oom_control")).get("oom_kill", 0),
        }
    if usage := read_text(f"{directory}/memory.current"):
        events = table(read_text(f"{directory}/memory.events"))
        return {
            "usage": number(usage),
            "peak": number(read_text(f"{directory}/memory.peak")),
            "limit": number(read_text(f"{directory}/memory.max")),
            "failures": events.get("max", 0),
            "oom_kills": events.get("oom_kill", 0),
        }
    return {}


def _pids(directory: str) -> dict[str, Any]:
    if current := read_text(f"{directory}/pids.current"):
        return {"current": number(current), "limit": number(read_text(f"{directory}/pids.max"))}
    return {}


def _io(directory: str) -> dict[str, Any]:
    """Return bytes read and written, over all devices."""
    read = written = 0
    if text := read_text(f"{directory}/blkio.throttle.io_service_bytes_recursive"):
        for line in text.splitlines():
            words = line.split()
            if len(words) == 3 and words[1] == "Read":
                read += int(words[2])
            elif len(words) == 3 and words[1] == "Write":
                written += int(words[2])
        return {"read_bytes": read, "written_bytes": written}
    if os.path.exists(f"{directory}/io.stat"):
        for word in read_text(f"{directory}/io.stat").split():
            key, _, value = word.partition("=")
            read += int(value) if key == "rbytes" else 0
            written += int(value) if key == "wbytes" else 0
        return {"read_bytes": read, "written_bytes": written}
    return {}


def read(directories: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the numbers of the container whose cgroups are ``directories``, of any version.

    Returns: {"cpu", "memory", "pids", "io"} as far as a controller is there; bytes, nanoseconds and counts; None is
    "no limit", or a number that the kernel does not give.
    """
    found: dict[str, dict[str, Any]] = {"cpu": {}, "memory": {}, "pids": {}, "io": {}}
    for directory in directories:
        for name, reader in (("cpu", _cpu), ("memory", _memory), ("pids", _pids), ("io", _io)):
            for key, value in reader(directory).items():
                found[name].setdefault(key, value)
    return {name: values for name, values in found.items() if values}
