"""The split bundle of 2015 (OCI 0.1 and 0.2): config.json is portable, runtime.json is the host's half beside it.

Source: the specification's own text of that year: runtime-config.md and runtime-config-linux.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyrkt.spec.runtime import Config, Hook, IdMapping, Linux, Resources, Seccomp

LEGACY_VERSION = "0.2.0"
"""The last version with two files."""

# Since 0.3 these lost the prefix that the kernel's files have.
_BLOCK_IO = {
    "weight": "blkioWeight",
    "leafWeight": "blkioLeafWeight",
    "weightDevice": "blkioWeightDevice",
    "throttleReadBpsDevice": "blkioThrottleReadBpsDevice",
    "throttleWriteBpsDevice": "blkioThrottleWriteBpsDevice",
    "throttleReadIOPSDevice": "blkioThrottleReadIOPSDevice",
    "throttleWriteIOPSDevice": "blkioThrottleWriteIOPSDevice",
}
_NAMESPACES = ("pid", "network", "mount", "ipc", "uts", "user")
_ACTIONS = {
    "SCMP_ACT_KILL_PROCESS": "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_THREAD": "SCMP_ACT_KILL",
    "SCMP_ACT_LOG": "SCMP_ACT_ALLOW",
}


def mount_names(config: Config) -> tuple[str, ...]:
    """Return a unique name for each mount of ``config``, in order: what links the two files of the pair.

    A name is the destination with dashes ("/dev/pts" is "dev-pts"), with a number where two would be the same.
    """
    names: list[str] = []
    for mount in config.mounts:
        base = "-".join(part for part in mount.destination.split("/") if part) or "root"
        name, number = base, 2
        while name in names:
            name, number = f"{base}-{number}", number + 1
        names.append(name)
    return tuple(names)


def runtime_half(config: Config) -> dict[str, Any]:
    """Return the runtime.json of ``config``: mounts by name, hooks, and what of Linux is the host's business.

    What 2015 had no word for is left out: cgroup and time namespaces, cgroup v2's unified resources, rdma, id-mapped
    mounts, hooks of the moments it did not know, errno values and the log action of a seccomp filter.
    """
    mounts = {
        name: _given({"type": mount.type or "bind", "source": mount.source, "options": list(mount.options)})
        for name, mount in zip(mount_names(config), config.mounts, strict=True)
    }
    half: dict[str, Any] = {"mounts": mounts, "hooks": _hooks(config)}
    if config.linux is not None:
        half["linux"] = _linux(config, config.linux)
    return half


def _hooks(config: Config) -> dict[str, Any]:
    if config.hooks is None:
        return {}
    # createRuntime is what prestart became when it was split.
    moments = {
        "prestart": (*config.hooks.prestart, *config.hooks.create_runtime),
        "poststart": config.hooks.poststart,
        "poststop": config.hooks.poststop,
    }
    return {name: [_hook(hook) for hook in hooks] for name, hooks in moments.items() if hooks}


def _hook(hook: Hook) -> dict[str, Any]:
    return {"path": hook.path} | _given({"args": list(hook.args), "env": list(hook.env)})


def _linux(config: Config, linux: Linux) -> dict[str, Any]:
    process = config.process
    namespaces = [_given({"type": each.type, "path": each.path}) for each in linux.namespaces]
    return {
        "namespaces": [each for each in namespaces if each["type"] in _NAMESPACES],
        "devices": _devices(linux),
    } | _given(
        {
            "uidMappings": _mappings(linux.uid_mappings),
            "gidMappings": _mappings(linux.gid_mappings),
            "rlimits": [limit.dump() for limit in process.rlimits] if process else [],
            "sysctl": dict(linux.sysctl),
            "resources": _resources(config, linux.resources),
            "cgroupsPath": linux.cgroups_path,
            "apparmorProfile": process.apparmor_profile if process else "",
            "selinuxProcessLabel": process.selinux_label if process else "",
            "seccomp": _seccomp(linux.seccomp) if linux.seccomp else {},
            "rootfsPropagation": linux.rootfs_propagation,
            "noNewPrivileges": process.no_new_privileges if process else False,
            "maskedPaths": list(linux.masked_paths),
            "readonlyPaths": list(linux.readonly_paths),
        }
    )


def _mappings(ranges: tuple[IdMapping, ...]) -> list[dict[str, Any]]:
    return [each.dump() for each in ranges]


def _devices(linux: Linux) -> list[dict[str, Any]]:
    """Return nodes and permissions in one list, as 2015 had them; a permission without node has no path."""
    found: list[dict[str, Any]] = [
        {
            "path": device.path,
            "type": device.type,
            "major": device.major,
            "minor": device.minor,
            "permissions": "rwm",
            "fileMode": 0o666 if device.file_mode is None else device.file_mode,
            "uid": device.uid or 0,
            "gid": device.gid or 0,
        }
        for device in linux.devices
    ]
    nodes = {(device.type, device.major, device.minor) for device in linux.devices}
    for rule in linux.resources.devices if linux.resources else ():
        if not rule.allow or (rule.type, rule.major, rule.minor) in nodes:
            continue
        numbers = {"major": -1 if rule.major is None else rule.major, "minor": -1 if rule.minor is None else rule.minor}
        # "a" for all kinds became a kind of its own later.
        kinds = ("b", "c") if rule.type in {"", "a"} else (rule.type,)
        # in this order and once each, as the schema of 2015 wants them; none is all
        access = "".join(letter for letter in "rwm" if letter in rule.access and "a" not in rule.access) or "rwm"
        found += [{"type": kind, **numbers, "permissions": access} for kind in kinds]
    return found


def _resources(config: Config, resources: Resources | None) -> dict[str, Any]:
    score = config.process.oom_score_adj if config.process else None
    found: dict[str, Any] = {} if score is None else {"oomScoreAdj": score}
    if resources is None:
        return found
    memory = resources.memory.dump() if resources.memory else {}
    if memory.pop("disableOOMKiller", False):
        found["disableOOMKiller"] = True
    for name in ("useHierarchy", "checkBeforeUpdate"):
        memory.pop(name, None)
    cpu = resources.cpu.dump() if resources.cpu else {}
    for name in ("burst", "idle"):
        cpu.pop(name, None)
    block = resources.block_io.dump() if resources.block_io else {}
    return found | _given(
        {
            "memory": memory,
            "cpu": cpu,
            "pids": resources.pids.dump() if resources.pids else {},
            "blockIO": {_BLOCK_IO[name]: value for name, value in block.items()},
            "hugepageLimits": [limit.dump() for limit in resources.hugepage_limits],
            "network": resources.network.dump() if resources.network else {},
        }
    )


def _seccomp(seccomp: Seccomp) -> dict[str, Any]:
    """Return the filter with one call an entry, its actions in the words of 2015."""
    calls = [
        {"name": name, "action": _ACTIONS.get(rule.action, rule.action)}
        | _given({"args": [a.dump() for a in rule.args]})
        for rule in seccomp.syscalls
        for name in rule.names
        if name  # no system call has the empty name; the schema of the time wants one with letters
        if rule.action != "SCMP_ACT_NOTIFY"
    ]
    # valueTwo had no default then.
    for call in calls:
        for argument in call.get("args", ()):
            argument.setdefault("valueTwo", 0)
    return {"defaultAction": _ACTIONS.get(seccomp.default_action, seccomp.default_action)} | _given(
        {"architectures": list(seccomp.architectures), "syscalls": calls}
    )


def _given(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value}
