"""The split bundle of 2015 (OCI 0.1, 0.2), written: config.json is portable, runtime.json is the host's half beside it.

Source: the specification's own text of that year: runtime-config.md and runtime-config-linux.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyrkt.base import fastjson
from pyrkt.spec.pair import BLOCK_IO, parse_pair
from pyrkt.spec.runtime import Linux

if TYPE_CHECKING:
    from pyrkt.spec.runtime import Config, Hook, IdMapping, Resources, Seccomp

LEGACY_VERSION = "0.2.0"
"""The last version with two files."""

_BLOCK_IO = {new: old for old, new in BLOCK_IO.items()}
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


def portable_half(config: Config, architecture: str = "amd64") -> dict[str, Any]:
    """Return the config.json of 2015 of ``config``; ``architecture`` as Go calls it."""
    process, root = config.process, config.root
    half: dict[str, Any] = {
        "version": LEGACY_VERSION,
        "platform": {"os": "linux", "arch": architecture},
        "process": {
            "terminal": bool(process and process.terminal),
            "user": {
                "uid": process.user.uid if process else 0,
                "gid": process.user.gid if process else 0,
                "additionalGids": list(process.user.additional_gids) if process else [],
            },
            "args": list(process.args) if process else [],
            "env": list(process.env) if process else [],
            "cwd": process.cwd if process else "/",
        },
        "root": {"path": root.path if root else "", "readonly": bool(root and root.readonly)},
        "hostname": config.hostname,
        "mounts": [
            {"name": name, "path": mount.destination}
            for name, mount in zip(mount_names(config), config.mounts, strict=True)
        ],
    }
    if process and process.capabilities:
        half["linux"] = {"capabilities": list(process.capabilities.bounding)}
    return half | _given({"annotations": dict(config.annotations)})


def lost(config: Config) -> tuple[str, ...]:
    """Return the places in ``config`` that the pair of 2015 cannot say, such as "linux.seccomp.flags", sorted.

    The pair is written, read again and compared, so that no member can be forgotten here.
    """
    if config.process is None or config.root is None:
        return tuple(name for name in ("process", "root") if getattr(config, name) is None)
    pair = (fastjson.dumps(portable_half(config)), fastjson.dumps(runtime_half(config)))
    return tuple(sorted(_differences(meaning(config), meaning(parse_pair(*pair)), "")))


def _differences(before: Any, after: Any, where: str) -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict | None):
        found: list[str] = []
        for name in {**before, **(after or {})}:
            found += _differences(before.get(name), (after or {}).get(name), f"{where}.{name}" if where else name)
        return found
    return [] if before == after else [where]


def meaning(config: Config) -> dict[str, Any]:
    """Return ``config`` as JSON, with one spelling for what has several: two that mean the same are equal."""
    found = config.dump()
    del found["ociVersion"]
    for mount in found.get("mounts", ()):
        mount.setdefault("type", "bind")
    hooks = found.pop("hooks", {})
    # createRuntime is what prestart became when it was split.
    hooks["prestart"] = [*hooks.get("prestart", ()), *hooks.pop("createRuntime", ())]
    process, linux = found.get("process", {}), found.pop("linux", {})
    sets = process.pop("capabilities", {})
    process |= _given({"capabilities": {kind: sorted(set(names)) for kind, names in sets.items() if names}})
    resources = linux.pop("resources", {})
    resources = _given(resources | {"devices": sorted(_permissions(config).items())})
    linux["devices"] = [{"fileMode": 0o666, "uid": 0, "gid": 0} | device for device in linux.get("devices", ())]
    linux["seccomp"] = _calls(linux.get("seccomp", {}))
    linux = _given(linux | {"resources": resources})
    return found | _given({"hooks": _given(hooks), "linux": linux})


def _permissions(config: Config) -> dict[str, str]:
    """Return what may be done to which device; nothing if all that is not listed is denied and nothing listed.

    Without any rule, too: runc denies then what is not listed. A rule that depends on its place stands for itself.
    """
    rules = config.linux.resources.devices if config.linux and config.linux.resources else ()
    found: dict[str, str] = {}
    for place, rule in enumerate(rules):
        anything = rule.type in {"", "a"} and rule.major is None and rule.minor is None
        if not rule.allow and anything and not found and _access(rule.access) == "rwm":
            continue
        if not rule.allow:
            found[f"rule {place}"] = "denied"
            continue
        for kind in ("b", "c") if rule.type in {"", "a"} else ("c" if rule.type == "u" else rule.type,):
            name = f"{kind} {_number(rule.major)}:{_number(rule.minor)}"
            found[name] = _access(found.get(name, "") + (rule.access or "rwm"))
    return found


def _access(letters: str) -> str:
    """Return ``letters`` in this order and once each, as the schema of 2015 wants them; none is all, and so is "a"."""
    return "rwm" if "a" in letters else "".join(letter for letter in "rwm" if letter in letters) or "rwm"


def _number(number: int | None) -> str:
    return "*" if number is None or number < 0 else str(number)


def _calls(seccomp: dict[str, Any]) -> dict[str, Any]:
    calls = [
        _given(rule | {"names": [name], "action": _one_word(rule["action"])})
        for rule in seccomp.get("syscalls", ())
        for name in rule["names"]
        if name
    ]
    for call in calls:
        if call.get("errnoRet") == 1:  # EPERM, which is the default
            del call["errnoRet"]
        call["args"] = [{"valueTwo": 0} | argument for argument in call.get("args", ())]
    if seccomp.get("defaultErrnoRet") in {0, 1}:
        seccomp = {name: value for name, value in seccomp.items() if name != "defaultErrnoRet"}
    if "defaultAction" in seccomp:
        seccomp = seccomp | {"defaultAction": _one_word(seccomp["defaultAction"])}
    return seccomp | _given({"syscalls": calls})


def _one_word(action: str) -> str:
    return "SCMP_ACT_KILL" if action == "SCMP_ACT_KILL_THREAD" else action


def runtime_half(config: Config) -> dict[str, Any]:
    """Return the runtime.json of ``config``: mounts by name, hooks, and what of Linux is the host's business.

    What 2015 had no word for is left out: ``lost`` names it.
    """
    mounts = {
        name: _given({"type": mount.type or "bind", "source": mount.source, "options": list(mount.options)})
        for name, mount in zip(mount_names(config), config.mounts, strict=True)
    }
    half: dict[str, Any] = {"mounts": mounts, "hooks": _hooks(config)}
    if config.linux is not None or config.process is not None:
        half["linux"] = _linux(config, config.linux or Linux())
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
    return (
        {
            "namespaces": [each for each in namespaces if each["type"] in _NAMESPACES],
            "devices": _devices(linux),
        }
        | _given(
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
            }
        )
        | {
            # Later members; said even if empty, for a runtime has its own where they are missing.
            "maskedPaths": list(linux.masked_paths),
            "readonlyPaths": list(linux.readonly_paths),
        }
    )


def _mappings(ranges: tuple[IdMapping, ...]) -> list[dict[str, Any]]:
    return [each.dump() for each in ranges]


def _devices(linux: Linux) -> list[dict[str, Any]]:
    """Return nodes and permissions in one list, as 2015 had them; a permission without node has no path."""
    allowed: dict[tuple[str, int, int], str] = {}
    for rule in linux.resources.devices if linux.resources else ():
        if not rule.allow:
            continue
        # "a" for all kinds became a kind of its own later.
        for kind in ("b", "c") if rule.type in {"", "a"} else (rule.type,):
            place = (kind, -1 if rule.major is None else rule.major, -1 if rule.minor is None else rule.minor)
            allowed[place] = _access(allowed.get(place, "") + (rule.access or "rwm"))
    found: list[dict[str, Any]] = []
    for device in linux.devices:
        place = ("c" if device.type == "u" else device.type, device.major, device.minor)
        found.append(
            {
                "path": device.path,
                "type": device.type,
                "major": device.major,
                "minor": device.minor,
                "permissions": allowed.pop(place, ""),
                "fileMode": 0o666 if device.file_mode is None else device.file_mode & 0o7777,
                "uid": device.uid or 0,
                "gid": device.gid or 0,
            }
        )
    return found + [
        {"type": kind, "major": major, "minor": minor, "permissions": access}
        for (kind, major, minor), access in allowed.items()
    ]


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
