"""The split bundle of 2015 (OCI 0.1 and 0.2), read: its two documents become one config.json of today.

config.json is portable: the program, the root, the names of the mounts, the capabilities. runtime.json says how this
host gives it all that. What 2015 left to the runtime is what runc did then: no device but the listed ones, and a few
files of /proc hidden or read-only.

Source: the specification's own text and types of that year.
"""

from __future__ import annotations

from pyrkt.base import fastjson
from pyrkt.base.errors import InvalidSpec
from pyrkt.base.reader import Reader
from pyrkt.spec.document import absolute, filled, flag, texts
from pyrkt.spec.runtime import Config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CONFIG, RUNTIME = "config.json", "runtime.json"
OLD_VERSIONS = ("0.1", "0.2")
LOWERED_TO = "1.0.0"
BLOCK_IO = {
    "blkioWeight": "weight",
    "blkioLeafWeight": "leafWeight",
    "blkioWeightDevice": "weightDevice",
    "blkioThrottleReadBpsDevice": "throttleReadBpsDevice",
    "blkioThrottleWriteBpsDevice": "throttleWriteBpsDevice",
    "blkioThrottleReadIOPSDevice": "throttleReadIOPSDevice",
    "blkioThrottleWriteIOPSDevice": "throttleWriteIOPSDevice",
}
"""Since 0.3 these lost the prefix that the kernel's files have."""
MASKED = ("/proc/kcore",)
READ_ONLY = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus")
_DENY_ALL = {"allow": False, "access": "rwm"}
# Where a member of today's document stood then; the first that fits counts.
_ORIGINS = (
    ("process.rlimits", RUNTIME, "linux.rlimits"),
    ("process.apparmorProfile", RUNTIME, "linux.apparmorProfile"),
    ("process.selinuxLabel", RUNTIME, "linux.selinuxProcessLabel"),
    ("process.noNewPrivileges", RUNTIME, "linux.noNewPrivileges"),
    ("process.oomScoreAdj", RUNTIME, "linux.resources.oomScoreAdj"),
    ("process.capabilities", CONFIG, "linux.capabilities"),
    ("linux.resources.devices", RUNTIME, "linux.devices"),
    ("linux", RUNTIME, "linux"),
    ("hooks", RUNTIME, "hooks"),
)


def is_old(value: object) -> bool:
    """Tell whether this parsed config.json is one half of a pair: by its version, which had another name at first."""
    if not isinstance(value, dict):
        return False
    version = value.get("ociVersion", value.get("version"))
    return isinstance(version, str) and version.startswith("0.")


def parse_pair(config: bytes | str, runtime: bytes | str, directory: str = "") -> Config:
    """Read both documents of a bundle; ``directory``, if given, goes before their names in what is said of them.

    Raises: InvalidSpec naming the document and the place in it.
    """
    below = f"{directory}/" if directory else ""
    first = Reader(fastjson.loads(config, below + CONFIG), below + CONFIG, rule="OCI 0.2, config")
    second = Reader(fastjson.loads(runtime, below + RUNTIME), below + RUNTIME, rule="OCI 0.2, runtime-config")
    _check_version(first)
    document = _lowered(first, second)
    try:
        return Config.parse(Reader(document, CONFIG))
    except InvalidSpec as error:
        raise _at_its_origin(error, below) from None


def _check_version(r: Reader) -> None:
    place = r["ociVersion"] if r["ociVersion"].present else r["version"]
    version = filled(place)
    if not any(version.startswith(known + ".") for known in OLD_VERSIONS):
        raise place.fail(f"version {version} is not supported", hint="0.1 and 0.2, and 1.0 to 1.3 are read")
    if r["platform"]["os"].text("linux") != "linux":
        raise r["platform"]["os"].fail("is not linux")


def _at_its_origin(error: InvalidSpec, below: str) -> InvalidSpec:
    document, where = CONFIG, error.where
    for prefix, origin, place in _ORIGINS:
        if where == prefix or where.startswith((prefix + ".", prefix + "[")):
            document, where = origin, place + where.removeprefix(prefix)
            break
    return InvalidSpec(error.problem, document=below + document, where=where, rule=error.rule, hint=error.hint)


def _lowered(config: Reader, runtime: Reader) -> dict[str, Any]:
    """Return the document of today, as JSON: what has another name or place now; all else is judged by its reader."""
    linux = runtime["linux"]
    document: dict[str, Any] = {
        "ociVersion": LOWERED_TO,
        "root": _value(config["root"]),
        "process": _process(config, linux),
        "hostname": config["hostname"].text(""),
        "mounts": _mounts(config["mounts"], runtime["mounts"]),
        "hooks": _value(runtime["hooks"]) or None,
        "annotations": _value(config["annotations"]),
    }
    if linux.present:
        document["linux"] = _linux(linux)
    return document


def _value(r: Reader) -> Any:
    return r.value if r.present else None


def _object(r: Reader) -> dict[str, Any]:
    return {name: member.value for name, member in r.members()}


def _process(config: Reader, linux: Reader) -> dict[str, Any]:
    process = _object(config["process"])
    for name in ("capabilities", "rlimits", "noNewPrivileges", "apparmorProfile", "selinuxLabel", "oomScoreAdj"):
        process.pop(name, None)
    process["cwd"] = process.get("cwd") or "/"
    if config["linux"]["capabilities"].present:
        names = [name if name.startswith("CAP_") else f"CAP_{name}" for name in texts(config["linux"]["capabilities"])]
        # One list was all there was. Not inheritable ones, too, as then: CVE-2022-24769.
        process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), names)
    return process | {
        "rlimits": _value(linux["rlimits"]),
        "noNewPrivileges": flag(linux["noNewPrivileges"]),
        "apparmorProfile": linux["apparmorProfile"].text(""),
        "selinuxLabel": linux["selinuxProcessLabel"].text(""),
        "oomScoreAdj": _value(linux["resources"]["oomScoreAdj"]),
    }


def _mounts(names: Reader, how: Reader) -> list[dict[str, Any]]:
    """Return the mounts that config.json names, in its order, as runtime.json describes each."""
    mounts = []
    for item in names.items():
        name = filled(item["name"])
        mount = how[name]
        if not mount.present:
            raise item["name"].fail(f"{name!r} is not among the mounts of runtime.json")
        mounts.append(
            {
                "destination": absolute(item["path"]),
                "type": mount["type"].text(""),
                "source": mount["source"].text(""),
                "options": list(texts(mount["options"])),
            }
        )
    return mounts


def _linux(r: Reader) -> dict[str, Any]:
    nodes, rules = _devices(r["devices"])
    found: dict[str, Any] = {
        name: _value(r[name])
        for name in ("uidMappings", "gidMappings", "sysctl", "namespaces", "rootfsPropagation")
        if r[name].present
    }
    # The first drafts of 0.2 called it a name.
    path = r["cgroupsPath"].text("") or r["cgroupsName"].text("")
    return found | {
        "cgroupsPath": path,
        "resources": _resources(r["resources"], rules),
        "devices": nodes,
        "seccomp": _seccomp(r["seccomp"]),
        "maskedPaths": list(texts(r["maskedPaths"])) if r["maskedPaths"].present else list(MASKED),
        "readonlyPaths": list(texts(r["readonlyPaths"])) if r["readonlyPaths"].present else list(READ_ONLY),
    }


def _devices(r: Reader) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the nodes to make, and the permissions: what is not listed may not be used."""
    nodes, rules = [], [_DENY_ALL]
    for item in r.items():
        kind = _device_kind(item["type"])
        numbers = {name: item[name].integer(-1, (1 << 63) - 1) for name in ("major", "minor") if item[name].present}
        if item["path"].text(""):
            node = {"path": absolute(item["path"]), "type": kind} | numbers
            nodes.append(node | {name: item[name].value for name in ("fileMode", "uid", "gid") if item[name].present})
        access = item["permissions"].text("rwm")
        if access and kind != "p":
            # -1 is any number, which is said by leaving it out now.
            given = {name: number for name, number in numbers.items() if number >= 0}
            rules.append({"allow": True, "type": "c" if kind == "u" else kind, "access": access} | given)
    return nodes, rules


def _device_kind(r: Reader) -> str:
    """Return the letter: the text of the time has it so, and its Go types wrote the number of the character."""
    if isinstance(r.value, int) and not isinstance(r.value, bool):
        return chr(r.integer(ord("a"), ord("z")))
    return r.text()


def _resources(r: Reader, rules: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {name: _set(r[name]) for name in ("cpu", "pids") if r[name].present}
    if r["hugepageLimits"].present:
        found["hugepageLimits"] = r["hugepageLimits"].value
    if r["network"].present:
        found["network"] = _network(r["network"])
    memory = _set(r["memory"], keep="swappiness")
    memory.pop("disableOOMKiller", None)
    if flag(r["disableOOMKiller"]):
        memory["disableOOMKiller"] = True
    if memory:
        found["memory"] = memory
    if r["blockIO"].present:
        members = _set(r["blockIO"])
        found["blockIO"] = {BLOCK_IO[name]: value for name, value in members.items() if name in BLOCK_IO}
    return found | {"devices": rules}


def _set(r: Reader, keep: str = "") -> dict[str, Any]:
    """Return the members that set something: 0.1 wrote all of them, 0 where there was no limit; ``keep`` may be 0."""
    members = _object(r)
    if isinstance(members.get("swappiness"), int) and members["swappiness"] < 0:
        members.pop("swappiness")
    return {name: value for name, value in members.items() if value not in (0, "") or (name == keep and value == 0)}


def _network(r: Reader) -> dict[str, Any]:
    members = _object(r)
    old = r["classId"].text("")  # a text in 0.1
    if old and not r["classID"].present:
        try:
            members["classID"] = int(old, 0)
        except ValueError:
            raise r["classId"].fail(f"{old!r} is not a number") from None
    return members


def _seccomp(r: Reader) -> dict[str, Any] | None:
    # Go wrote its empty struct where there was no filter.
    if not r.present or not r["defaultAction"].text(""):
        return None
    calls = []
    for item in r["syscalls"].items():
        call = _object(item)
        name = filled(item["name"])
        call.pop("name")
        calls.append(call | {"names": [name]})
    return {
        "defaultAction": r["defaultAction"].value,
        "architectures": _value(r["architectures"]),
        "syscalls": calls,
    }
