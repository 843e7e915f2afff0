"""Limits and privileges: an app's isolators and the user's options, turned into members of config.json.

Each isolator is reported as enforced, modified or ignored, with the reason (appc 0.8, executor: "MUST inform").
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from pyrkt.base.errors import InvalidSpec, UsageError
from pyrkt.base.units import quantity, quantity_milli
from pyrkt.bundle import defaults, seccomp
from pyrkt.spec import capabilities
from pyrkt.spec.appc_isolators import ISOLATORS, Isolator
from pyrkt.spec.runtime import (
    BlockIO,
    Cpu,
    DeviceRule,
    Memory,
    Pids,
    Resources,
    Seccomp,
    ThrottleDevice,
    WeightDevice,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyrkt.bundle.options import RunOptions

CPU_PERIOD = 100_000
"""Microseconds; the kernel's default and everybody's."""
_MIN_QUOTA = 1000  # microseconds; kernel/sched/core.c, min_cfs_quota_period


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of one isolator, and why."""

    name: str
    verdict: Literal["enforced", "modified", "ignored"]
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.verdict}" + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a process may do and use. ``memory`` in bytes; ``cpu_milli`` in thousandths of a processor.

    ``retain`` and ``remove`` are sets of capabilities, at most one of them not None. ``filter`` is a set of system
    calls, as (mode, names, errno); None means the default.
    """

    memory: int | None = None
    memory_request: int | None = None
    cpu_milli: int | None = None
    cpu_shares: int | None = None
    retain: tuple[str, ...] | None = None
    remove: tuple[str, ...] | None = None
    filter: tuple[Literal["retain", "remove"], tuple[str, ...], str] | None = None
    no_new_privileges: bool = True
    oom_score_adj: int | None = None
    selinux_label: str = ""
    apparmor_profile: str = ""
    sysctl: Mapping[str, str] = field(default_factory=dict)


def read(isolators: Sequence[Isolator], options: RunOptions) -> tuple[Limits, tuple[Report, ...]]:
    """Return the limits that ``isolators`` ask for under ``options``, and a report on each isolator.

    The user's word replaces the image's; of an isolator given twice the last counts.
    Raises: InvalidSpec for a capability, system call set or errno that does not exist; UsageError for such an option.
    """
    limits, reports = Limits(), []
    overridden = _overridden(options)
    last = {isolator.name: place for place, isolator in enumerate(isolators)}
    for place, isolator in enumerate(isolators):
        name = isolator.name
        if reason := overridden.get(name):
            reports.append(Report(name=name, verdict="modified", reason=f"replaced by {reason}"))
        elif last[name] != place:
            reports.append(Report(name=name, verdict="ignored", reason="given again further on"))
        elif reader := _READERS.get(name):
            limits, report = reader(limits, name, isolator.value)
            reports.append(report)
        else:
            reports.append(Report(name=name, verdict="ignored", reason=_IGNORED.get(name, "unknown")))
    return _with_options(limits, options), tuple(reports)


def in_force(isolators: Sequence[Isolator], options: RunOptions) -> tuple[Isolator, ...]:
    """Return the isolators that count in the end: each name once, the options' in the place of what they replace.

    Those that nobody knows are left out.
    """
    gone = _overridden(options)
    last = {each.name: each for each in isolators if each.name in ISOLATORS and each.name not in gone}
    return (*last.values(), *(Isolator(name=name, value=value) for name, value in _said(options).items()))


def _said(options: RunOptions) -> dict[str, Any]:
    """Return what the options ask for as isolators."""
    sets = {"retain": options.caps_retain, "remove": options.caps_remove}
    found: dict[str, Any] = {
        "resource/memory": None if options.memory is None else {"limit": str(options.memory)},
        "resource/cpu": None if options.cpu_milli is None else {"limit": f"{options.cpu_milli}m"},
        "os/linux/cpu-shares": options.cpu_shares,
        "os/linux/oom-score-adj": options.oom_score_adj,
        "os/linux/no-new-privileges": options.no_new_privileges,
    }
    if "capabilities" not in options.insecure:
        for mode, names in sets.items():
            found[f"os/linux/capabilities-{mode}-set"] = None if names is None else {"set": list(names)}
    if options.seccomp is not None and "seccomp" not in options.insecure:
        choice = options.seccomp
        found[f"os/linux/seccomp-{choice.mode}-set"] = {"set": list(choice.syscalls), "errno": choice.errno}
    return {name: value for name, value in found.items() if value is not None}


def _overridden(options: RunOptions) -> dict[str, str]:
    """Return the isolators that options replace, and by which flag."""
    found: dict[str, str] = {}
    if options.caps_retain is not None or options.caps_remove is not None:
        flag = "--caps-retain" if options.caps_retain is not None else "--caps-remove"
        found |= dict.fromkeys(("os/linux/capabilities-retain-set", "os/linux/capabilities-remove-set"), flag)
    if "capabilities" in options.insecure:
        both = ("os/linux/capabilities-retain-set", "os/linux/capabilities-remove-set")
        found |= dict.fromkeys(both, "--insecure-options=capabilities")
    if options.seccomp is not None:
        found |= dict.fromkeys(("os/linux/seccomp-retain-set", "os/linux/seccomp-remove-set"), "--seccomp")
    if "seccomp" in options.insecure:
        both = ("os/linux/seccomp-retain-set", "os/linux/seccomp-remove-set")
        found |= dict.fromkeys(both, "--insecure-options=seccomp")
    for name, value, flag in (
        ("resource/memory", options.memory, "--memory"),
        ("resource/cpu", options.cpu_milli, "--cpu"),
        ("os/linux/cpu-shares", options.cpu_shares, "--cpu-shares"),
        ("os/linux/oom-score-adj", options.oom_score_adj, "--oom-score-adj"),
        ("os/linux/no-new-privileges", options.no_new_privileges, "--no-new-privileges"),
    ):
        if value is not None:
            found[name] = flag
    return found


def _with_options(limits: Limits, options: RunOptions) -> Limits:
    changes: dict[str, Any] = {}
    for name in ("memory", "cpu_milli", "cpu_shares", "oom_score_adj", "no_new_privileges"):
        if (value := getattr(options, name)) is not None:
            changes[name] = value
    for kind, names in (("retain", options.caps_retain), ("remove", options.caps_remove)):
        if names is not None:
            if wrong := [name for name in names if name not in capabilities.NUMBERS]:
                raise UsageError(f"--caps-{kind}: no capability is called {wrong[0]!r}", hint="capabilities(7)")
            changes |= {"retain": None, "remove": None, kind: names}
    if options.seccomp is not None:
        seccomp.check_names(options.seccomp.syscalls, options.seccomp.errno)
        changes["filter"] = (options.seccomp.mode, options.seccomp.syscalls, options.seccomp.errno)
    return replace(limits, **changes)


# --- one reader an isolator: (limits so far, name, checked value) -> limits with it, and the report ----------------

_Read = tuple[Limits, Report]


def _memory(limits: Limits, name: str, value: Any) -> _Read:
    amounts = {which: quantity(str(value[which]), name) for which in ("limit", "request") if which in value}
    limits = replace(limits, memory=amounts.get("limit"), memory_request=amounts.get("request"))
    return limits, Report(name=name, verdict="enforced")


def _cpu(limits: Limits, name: str, value: Any) -> _Read:
    amounts = {which: quantity_milli(str(value[which]), name) for which in ("limit", "request") if which in value}
    limits = replace(limits, cpu_milli=amounts.get("limit"))
    if "request" not in amounts:
        return limits, Report(name=name, verdict="enforced")
    # A request is a share in proportion: one processor is what a cgroup has by default, 1024.
    limits = replace(limits, cpu_shares=max(2, amounts["request"] * 1024 // 1000))
    return limits, Report(name=name, verdict="modified", reason="the request is a share, not a guarantee")


def _shares(limits: Limits, name: str, value: Any) -> _Read:
    return replace(limits, cpu_shares=int(value)), Report(name=name, verdict="enforced")


def _oom(limits: Limits, name: str, value: Any) -> _Read:
    return replace(limits, oom_score_adj=int(value)), Report(name=name, verdict="enforced")


def _no_new_privileges(limits: Limits, name: str, value: Any) -> _Read:
    return replace(limits, no_new_privileges=bool(value)), Report(name=name, verdict="enforced")


def _capability_set(limits: Limits, name: str, value: Any) -> _Read:
    names = tuple(value["set"])
    if wrong := [each for each in names if each not in capabilities.NUMBERS]:
        raise InvalidSpec(f"no capability is called {wrong[0]!r}", document=name, hint="capabilities(7) lists them")
    if name.endswith("retain-set"):
        return replace(limits, retain=names), Report(name=name, verdict="enforced")
    return replace(limits, remove=names), Report(name=name, verdict="enforced")


def _call_set(limits: Limits, name: str, value: Any) -> _Read:
    names, errno_name = tuple(value["set"]), value.get("errno") or ""
    seccomp.check_names(names, errno_name)
    mode: Literal["retain", "remove"] = "retain" if name.endswith("retain-set") else "remove"
    report = Report(name=name, verdict="enforced")
    if seccomp.is_default(mode, names):
        report = Report(name=name, verdict="modified", reason="the default filter stands")
    elif mode == "retain" and not {"@appc.io/all"} & set(names):
        report = Report(name=name, verdict="modified", reason=f"with {', '.join(seccomp.ALWAYS)}, to start and to end")
    return replace(limits, filter=(mode, names, errno_name)), report


def _selinux(limits: Limits, name: str, value: Any) -> _Read:
    label = ":".join(value[part] for part in ("user", "role", "type", "level"))
    return replace(limits, selinux_label=label), Report(name=name, verdict="enforced")


def _apparmor(limits: Limits, name: str, value: Any) -> _Read:
    return replace(limits, apparmor_profile=value["profile"]), Report(name=name, verdict="enforced")


_READERS: Mapping[str, Callable[[Limits, str, Any], _Read]] = {
    "resource/memory": _memory,
    "resource/cpu": _cpu,
    "os/linux/cpu-shares": _shares,
    "os/linux/oom-score-adj": _oom,
    "os/linux/no-new-privileges": _no_new_privileges,
    "os/linux/capabilities-retain-set": _capability_set,
    "os/linux/capabilities-remove-set": _capability_set,
    "os/linux/seccomp-retain-set": _call_set,
    "os/linux/seccomp-remove-set": _call_set,
    "os/linux/selinux-context": _selinux,
    "os/linux/apparmor-profile": _apparmor,
}

_IGNORED: Mapping[str, str] = {
    "resource/block-bandwidth": "no cgroup limits all devices at once; limit each with --device-*-bps",
    "resource/block-iops": "no cgroup limits all devices at once; limit each with --device-*-iops",
    "resource/network-bandwidth": "needs a network that shapes traffic",
    "os/unix/sysctl": "belongs to a pod, not to an app",
}

# Kernel settings that a namespace has for itself. Source: the kernel's ipc_namespaces(7), network_namespaces(7);
# any other would change the host (CVE-2022-0811 went that way).
_OWN_IPC = re.compile(
    r"kernel\.(?:msgmax|msgmnb|msgmni|sem|shmall|shmmax|shmmni|shm_rmid_forced)|fs\.mqueue\.[a-z_]+", re.ASCII
)
_OWN_NETWORK = re.compile(r"net(?:\.[A-Za-z0-9_-]+)+", re.ASCII)


def pod_sysctl(isolators: Sequence[Isolator], *, host_network: bool) -> dict[str, str]:
    """Return the kernel settings that a pod's isolators ask for.

    Raises: InvalidSpec for one that is not the pod's own.
    """
    found: dict[str, str] = {}
    for isolator in isolators:
        if isolator.name != "os/unix/sysctl":
            continue
        for name, value in isolator.value.items():
            own = _OWN_IPC.fullmatch(name) or (not host_network and _OWN_NETWORK.fullmatch(name))
            if not own or not value.isprintable():
                raise InvalidSpec(
                    f"{name!r} is not a kernel setting that a pod has for itself", document="os/unix/sysctl"
                )
            found[name] = value
    return found


# --- limits -> members of config.json ------------------------------------------------------------------------------


def capability_set(limits: Limits, options: RunOptions) -> tuple[str, ...]:
    """Return the capabilities of the process."""
    if "capabilities" in options.insecure:
        return defaults.all_capabilities()
    return defaults.reduce_capabilities(retain=limits.retain, remove=limits.remove)


def filter_of(limits: Limits, options: RunOptions, held: Sequence[str]) -> Seccomp | None:
    """Return the filter for a process that has the capabilities ``held``; None for none."""
    if "seccomp" in options.insecure:
        return None
    if limits.filter is None or seccomp.is_default(limits.filter[0], limits.filter[1]):
        return seccomp.default(held)
    mode, names, errno_name = limits.filter
    return seccomp.retain(names, errno_name) if mode == "retain" else seccomp.remove(names, errno_name)


def resources(limits: Limits, options: RunOptions) -> Resources:
    """Return what the cgroups of the container enforce."""
    if "paths" in options.insecure:
        rules: tuple[DeviceRule, ...] = (DeviceRule(allow=True, access="rwm"),)
    else:
        own = (
            DeviceRule(allow=True, type=each.kind, major=each.major, minor=each.minor, access=each.access)
            for each in options.devices
        )
        rules = (*defaults.device_rules(), *own)
    return Resources(
        devices=rules,
        memory=_memory_of(limits),
        cpu=_cpu_of(limits),
        pids=Pids(limit=options.pids) if options.pids is not None else None,
        block_io=_block_io(options),
    )


def _memory_of(limits: Limits) -> Memory | None:
    request = limits.memory_request
    if request is not None and limits.memory is not None and request >= limits.memory:
        request = None
    if limits.memory is None and request is None:
        return None
    return Memory(limit=limits.memory, reservation=request)


def _cpu_of(limits: Limits) -> Cpu | None:
    if limits.cpu_milli is None and limits.cpu_shares is None:
        return None
    if limits.cpu_milli is None:
        return Cpu(shares=limits.cpu_shares)
    quota = max(_MIN_QUOTA, limits.cpu_milli * CPU_PERIOD // 1000)
    return Cpu(shares=limits.cpu_shares, quota=quota, period=CPU_PERIOD)


def _block_io(options: RunOptions) -> BlockIO | None:
    if options.io_weight is None and not options.io:
        return None
    rates = {
        name: tuple(
            ThrottleDevice(major=each.major, minor=each.minor, rate=getattr(each, name))
            for each in options.io
            if getattr(each, name)
        )
        for name in ("read_bps", "write_bps", "read_iops", "write_iops")
    }
    weights = tuple(
        WeightDevice(major=each.major, minor=each.minor, weight=each.weight) for each in options.io if each.weight
    )
    return BlockIO(
        weight=options.io_weight,
        weight_device=weights,
        throttle_read_bps_device=rates["read_bps"],
        throttle_write_bps_device=rates["write_bps"],
        throttle_read_iops_device=rates["read_iops"],
        throttle_write_iops_device=rates["write_iops"],
    )
