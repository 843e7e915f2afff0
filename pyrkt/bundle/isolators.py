"""Limits and privileges: an app's isolators and the user's options, turned into members of config.json.

Each isolator is reported as enforced, modified or ignored, with the reason (appc 0.8, executor: "MUST inform").
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from pyrkt.base.errors import InvalidSpec, UsageError, printable
from pyrkt.base.units import quantity, quantity_milli
from pyrkt.bundle import defaults, seccomp
from pyrkt.bundle.options import IoLimit, RunOptions
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

    from pyrkt.bundle.options import Signs

CPU_PERIOD = 100_000
"""Microseconds; the kernel's default and everybody's."""
_SHARES = (2, 1 << 18)  # kernel/sched/sched.h, MIN_SHARES and MAX_SHARES
_MIN_QUOTA = 1000  # microseconds; kernel/sched/core.c, min_cfs_quota_period


Verdict = Literal["enforced", "modified", "ignored"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of one isolator, and why; ``asked``: it was the user who put another value in its place."""

    name: str
    verdict: Verdict
    reason: str = ""
    asked: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.verdict}" + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a process may do and use. ``memory`` in bytes; ``cpu_milli`` in thousandths of a processor.

    ``retain`` and ``remove`` are sets of capabilities, at most one of them not None. ``filter`` is a set of system
    calls, as (mode, names, errno); None means the default. ``block_bps`` and ``block_iops`` are bytes and operations
    a second on ``disk`` (major, minor), for reading and for writing each; ``network_bps`` bytes a second, both ways.
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
    disk: tuple[int, int] | None = None
    block_bps: int = 0
    block_iops: int = 0
    network_bps: int = 0


def read(
    isolators: Sequence[Isolator], options: RunOptions, base: Limits | None = None
) -> tuple[Limits, tuple[Report, ...]]:
    """Return the limits that ``isolators`` ask for under ``options``, and a report on each isolator.

    The user's word replaces the image's; of an isolator given twice the last counts; the pod's bound the app's.
    ``base`` is what stands where nobody says anything.
    Raises: InvalidSpec for a capability, system call set or errno that does not exist, and for a profile that is not
    loaded; UsageError for such an option.
    """
    limits, reports = base or Limits(), []
    overridden = _overridden(options)
    last = {isolator.name: place for place, isolator in enumerate(isolators)}
    for place, isolator in enumerate(isolators):
        name = isolator.name
        if reason := overridden.get(name):
            reports.append(Report(name=name, verdict="modified", reason=f"replaced by {reason}", asked=True))
        elif last[name] != place:
            reports.append(Report(name=name, verdict="ignored", reason="given again further on"))
        elif reader := _READERS.get(name):
            limits, report = reader(limits, isolator, options.signs)
            reports.append(report)
        else:
            reports.append(Report(name=name, verdict="ignored", reason=_IGNORED.get(name, "unknown")))
    bounded, reports = _bounded(_with_options(limits, options), reports, options)
    return bounded, tuple(reports)


def _bounded(limits: Limits, reports: list[Report], options: RunOptions) -> tuple[Limits, list[Report]]:
    """Return ``limits`` within those of the pod (appc 0.8, executor, "Isolators": the pod's bound the apps')."""
    pod, _ = read_pod(options.pod_isolators, options)
    changes: dict[str, Any] = {}
    for field_name, name in (("memory", "resource/memory"), ("cpu_milli", "resource/cpu")):
        own, bound = getattr(limits, field_name), getattr(pod, field_name)
        if own is not None and bound is not None and own > bound:
            changes[field_name] = bound
            reports = _turned(reports, name, "the pod has no more")
    for field_name in ("selinux_label", "apparmor_profile"):
        if not getattr(limits, field_name):
            changes[field_name] = getattr(pod, field_name)
    return replace(limits, **changes, sysctl=pod.sysctl), reports


def _turned(reports: list[Report], name: str, reason: str) -> list[Report]:
    return [
        replace(report, verdict="modified", reason=reason)
        if report.name == name and report.verdict == "enforced"
        else report
        for report in reports
    ]


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


# --- one reader an isolator: (limits so far, isolator, host) -> limits with it, and the report -----------------------

_Read = tuple[Limits, Report]


def _enforced(isolator: Isolator, reason: str = "") -> Report:
    return Report(name=isolator.name, verdict="enforced", reason=reason)


def _modified(isolator: Isolator, reason: str) -> Report:
    return Report(name=isolator.name, verdict="modified", reason=reason)


def _ignored(isolator: Isolator, reason: str) -> Report:
    return Report(name=isolator.name, verdict="ignored", reason=reason)


def _memory(limits: Limits, isolator: Isolator, _signs: Signs | None) -> _Read:
    value, name = isolator.value, isolator.name
    amounts = {which: quantity(str(value[which]), name) for which in ("limit", "request") if which in value}
    limits = replace(limits, memory=amounts.get("limit"), memory_request=amounts.get("request"))
    return limits, _enforced(isolator)


def _cpu(limits: Limits, isolator: Isolator, _signs: Signs | None) -> _Read:
    value, name = isolator.value, isolator.name
    amounts = {which: quantity_milli(str(value[which]), name) for which in ("limit", "request") if which in value}
    limits = replace(limits, cpu_milli=amounts.get("limit"))
    if "request" not in amounts:
        return limits, _enforced(isolator)
    if limits.cpu_shares is None:  # os/linux/cpu-shares says the same thing more exactly
        # A request is a share in proportion: one processor is what a cgroup has by default, 1024.
        limits = replace(limits, cpu_shares=max(_SHARES[0], amounts["request"] * 1024 // 1000))
    return limits, _modified(isolator, "the request is a share, not a guarantee")


def _shares(limits: Limits, isolator: Isolator, _signs: Signs | None) -> _Read:
    least, most = _SHARES
    shares = min(max(int(isolator.value), least), most)
    limits = replace(limits, cpu_shares=shares)
    if shares != isolator.value:
        return limits, _modified(isolator, f"the kernel takes {least} to {most}")
    return limits, _enforced(isolator)


def _oom(limits: Limits, isolator: Isolator, signs: Signs | None) -> _Read:
    floor = signs.oom_floor if signs else -1000
    score = max(int(isolator.value), floor)
    limits = replace(limits, oom_score_adj=score)
    if score != isolator.value:
        return limits, _modified(isolator, f"the caller may not go below {floor}")
    return limits, _enforced(isolator)


def _no_new_privileges(limits: Limits, isolator: Isolator, _signs: Signs | None) -> _Read:
    return replace(limits, no_new_privileges=bool(isolator.value)), _enforced(isolator)


def _capability_set(limits: Limits, isolator: Isolator, signs: Signs | None) -> _Read:
    names = tuple(isolator.value["set"])
    if wrong := [each for each in names if each not in capabilities.NUMBERS]:
        raise InvalidSpec(
            f"no capability is called {wrong[0]!r}", document=isolator.name, hint="capabilities(7) lists them"
        )
    if not isolator.name.endswith("retain-set"):
        return replace(limits, remove=names), _enforced(isolator)
    limits = replace(limits, retain=names)
    missing = sorted(set(names) - signs.capabilities) if signs and signs.capabilities is not None else []
    if missing:
        return limits, _modified(isolator, f"the caller has no {', '.join(missing)} to give")
    return limits, _enforced(isolator)


def _call_set(limits: Limits, isolator: Isolator, _signs: Signs | None) -> _Read:
    names, errno_name = tuple(isolator.value["set"]), isolator.value.get("errno") or ""
    seccomp.check_names(names, errno_name)
    mode: Literal["retain", "remove"] = "retain" if isolator.name.endswith("retain-set") else "remove"
    limits = replace(limits, filter=(mode, names, errno_name))
    if seccomp.is_default(mode, names):
        return limits, _enforced(isolator, "the default filter stands")
    added = () if mode == "remove" else seccomp.added(names)
    # The specification allows it: "the minimum set of syscalls required for app life-cycle".
    return limits, _enforced(isolator, f"with {', '.join(added)}, to start and to end" if added else "")


def _selinux(limits: Limits, isolator: Isolator, signs: Signs | None) -> _Read:
    if signs and not signs.selinux:
        return limits, _ignored(isolator, "this host has no SELinux")
    label = ":".join(isolator.value[part] for part in ("user", "role", "type", "level"))
    return replace(limits, selinux_label=label), _enforced(isolator)


def _apparmor(limits: Limits, isolator: Isolator, signs: Signs | None) -> _Read:
    profile = isolator.value["profile"]
    if signs and (signs.apparmor is None or not {profile, "*"} & signs.apparmor):
        why = "this host has no AppArmor" if signs.apparmor is None else "it is not loaded"
        raise InvalidSpec(
            printable(f"the profile {profile!r} is not available: {why}"),
            document=isolator.name,
            hint="apparmor_parser(8) loads profiles; without the isolator the app runs unconfined by it",
        )
    return replace(limits, apparmor_profile=profile), _enforced(isolator)


def _block(limits: Limits, isolator: Isolator, signs: Signs | None) -> _Read:
    if signs is None or signs.disk is None:
        return limits, _ignored(isolator, "no io controller, or no disk below the app's files")
    rate = quantity(str(isolator.value["limit"]), isolator.name)
    limits = replace(limits, disk=signs.disk)
    if isolator.name.endswith("bandwidth"):
        limits = replace(limits, block_bps=rate)
    else:
        limits = replace(limits, block_iops=rate)
    if signs.disks > 1:
        where = "{}:{}".format(*signs.disk)
        return limits, _modified(isolator, f"on {where}, the disk of the app's files; the host has others")
    return limits, _enforced(isolator)


def _network(limits: Limits, isolator: Isolator, signs: Signs | None) -> _Read:
    if signs is None or not signs.shaped:
        return limits, _ignored(isolator, (signs.network if signs else "") or "needs a network that shapes traffic")
    limits = replace(limits, network_bps=quantity(str(isolator.value["limit"]), isolator.name))
    if signs.apps > 1:
        return limits, _modified(isolator, "for all apps of the pod together, which have one network")
    return limits, _enforced(isolator)


_READERS: Mapping[str, Callable[[Limits, Isolator, Signs | None], _Read]] = {
    "resource/memory": _memory,
    "resource/cpu": _cpu,
    "resource/block-bandwidth": _block,
    "resource/block-iops": _block,
    "resource/network-bandwidth": _network,
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
_IGNORED: Mapping[str, str] = {"os/unix/sysctl": "belongs to a pod, not to an app"}

_OF_A_POD = frozenset(
    (
        *("resource/memory", "resource/cpu", "resource/block-bandwidth", "resource/block-iops"),
        *("resource/network-bandwidth", "os/linux/cpu-shares", "os/linux/selinux-context", "os/linux/apparmor-profile"),
    )
)


def read_pod(isolators: Sequence[Isolator], options: RunOptions) -> tuple[Limits, tuple[Report, ...]]:
    """Return the limits of the pod as a whole, and a report on each of its isolators.

    Raises: InvalidSpec for a kernel setting that is not the pod's own, or for a profile that is not loaded.
    """
    limits, reports = Limits(), []
    signs = replace(options.signs, apps=1) if options.signs else None
    last = {isolator.name: place for place, isolator in enumerate(isolators)}
    for place, isolator in enumerate(isolators):
        if last[isolator.name] != place:
            reports.append(_ignored(isolator, "given again further on"))
        elif isolator.name == "os/unix/sysctl":
            own = pod_sysctl(isolators, host_network=options.net == "host", host_ipc=options.host_ipc)
            limits = replace(limits, sysctl=own)
            reports.append(_enforced(isolator))
        elif isolator.name in _OF_A_POD:
            limits, report = _READERS[isolator.name](limits, isolator, signs)
            reports.append(report)
        else:
            reports.append(_ignored(isolator, "belongs to an app, not to a pod"))
    return limits, tuple(reports)


# Kernel settings that a namespace has for itself. Source: the kernel's ipc_namespaces(7), network_namespaces(7);
# any other would change the host (CVE-2022-0811 went that way).
_OWN_IPC = re.compile(
    r"kernel\.(?:msgmax|msgmnb|msgmni|sem|shmall|shmmax|shmmni|shm_rmid_forced)|fs\.mqueue\.[a-z_]+", re.ASCII
)
_OWN_NETWORK = re.compile(r"net(?:\.[A-Za-z0-9_-]+)+", re.ASCII)


def pod_sysctl(isolators: Sequence[Isolator], *, host_network: bool, host_ipc: bool = False) -> dict[str, str]:
    """Return the kernel settings that a pod's isolators ask for.

    Raises: InvalidSpec for one that is not the pod's own.
    """
    found: dict[str, str] = {}
    for isolator in isolators:
        if isolator.name != "os/unix/sysctl":
            continue
        for name, value in isolator.value.items():
            own = (not host_ipc and _OWN_IPC.fullmatch(name)) or (not host_network and _OWN_NETWORK.fullmatch(name))
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
        block_io=_block_io(limits, options),
    )


def shared_resources(limits: Limits) -> Resources | None:
    """Return what the cgroup of a whole pod enforces; None for nothing."""
    found = Resources(memory=_memory_of(limits), cpu=_cpu_of(limits), block_io=_block_io(limits, RunOptions()))
    return found if found != Resources() else None


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


def _block_io(limits: Limits, options: RunOptions) -> BlockIO | None:
    asked = options.io
    if limits.disk is not None:
        major, minor = limits.disk
        rates = {"read_bps": limits.block_bps, "write_bps": limits.block_bps}
        rates |= {"read_iops": limits.block_iops, "write_iops": limits.block_iops}
        # What the user says of that very disk replaces the image's word.
        if not any((each.major, each.minor) == limits.disk for each in asked):
            asked = (*asked, IoLimit(major=major, minor=minor, **rates))
    if options.io_weight is None and not asked:
        return None
    throttles = {
        name: tuple(
            ThrottleDevice(major=each.major, minor=each.minor, rate=getattr(each, name))
            for each in asked
            if getattr(each, name)
        )
        for name in ("read_bps", "write_bps", "read_iops", "write_iops")
    }
    weights = tuple(
        WeightDevice(major=each.major, minor=each.minor, weight=each.weight) for each in asked if each.weight
    )
    return BlockIO(
        weight=options.io_weight,
        weight_device=weights,
        throttle_read_bps_device=throttles["read_bps"],
        throttle_write_bps_device=throttles["write_bps"],
        throttle_read_iops_device=throttles["read_iops"],
        throttle_write_iops_device=throttles["write_iops"],
    )
