"""The pair of 2015 read: one container of today, and back to the pair without loss where it has the words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.base.errors import InvalidSpec
from pyrkt.spec import legacy, pair
from pyrkt.spec.example import example_config
from pyrkt.spec.runtime import (
    Capabilities,
    Config,
    DeviceRule,
    Hook,
    Hooks,
    Linux,
    Namespace,
    Process,
    Resources,
    Root,
    Seccomp,
    Syscall,
    parse_config,
)
from tests.unit.spec.strategies import JSON, from_schema

SPECS = Path(__file__).parents[3] / "specs"
OLD_CONFIG, OLD_RUNTIME, MODERN = (
    json.loads((SPECS / f"{name}.schema.json").read_text())
    for name in ("oci-2015-config", "oci-2015-runtime", "oci-runtime")
)

PORTABLE: dict[str, Any] = {
    "version": "0.2.0",
    "platform": {"os": "linux", "arch": "amd64"},
    "process": {
        "terminal": False,
        "user": {"uid": 1, "gid": 2, "additionalGids": [3]},
        "args": ["sh", "-c", "true"],
        "env": ["PATH=/bin"],
        "cwd": "/tmp",
    },
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "old",
    "mounts": [{"name": "proc", "path": "/proc"}, {"name": "data", "path": "/data"}],
    "linux": {"capabilities": ["CAP_KILL", "NET_RAW"]},
}
HOST: dict[str, Any] = {
    "mounts": {
        "data": {"type": "bind", "source": "/srv", "options": ["rbind", "ro"]},
        "proc": {"type": "proc", "source": "proc", "options": None},
        "unused": {"type": "tmpfs", "source": "tmpfs"},
    },
    "hooks": {"prestart": [{"path": "/bin/hook", "args": ["hook", "1"]}], "poststop": None},
    "linux": {
        "uidMappings": [{"hostID": 1000, "containerID": 0, "size": 10}],
        "gidMappings": [{"hostID": 1000, "containerID": 0, "size": 10}],
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}],
        "sysctl": {"net.core.somaxconn": "256"},
        "resources": {
            "disableOOMKiller": True,
            "oomScoreAdj": 5,
            "memory": {"limit": 1048576, "reservation": 0, "swap": 0, "kernel": 0, "swappiness": -1},
            "cpu": {"shares": 512, "quota": 0, "period": 0, "cpus": "0", "mems": ""},
            "pids": {"limit": 9},
            "blockIO": {"blkioWeight": 0, "blkioThrottleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}]},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4096}],
            "network": {"classId": "0x10001"},
        },
        "cgroupsPath": "/old",
        "namespaces": [{"type": "pid"}, {"type": "user"}, {"type": "mount"}, {"type": "network"}],
        "devices": [
            {
                "path": "/dev/fuse",
                "type": 99,
                "major": 10,
                "minor": 229,
                "permissions": "rw",
                "fileMode": 438,
                "uid": 0,
                "gid": 0,
            },
            {"type": "c", "major": 136, "minor": -1, "permissions": "rwm"},
        ],
        "apparmorProfile": "profile",
        "selinuxProcessLabel": "label",
        "seccomp": {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86"],
            "syscalls": [{"name": "mount", "action": "SCMP_ACT_ERRNO"}],
        },
        "rootfsPropagation": "slave",
        "noNewPrivileges": True,
    },
}


def read(portable: dict[str, Any] = PORTABLE, host: dict[str, Any] = HOST) -> Config:
    return pair.parse_pair(json.dumps(portable), json.dumps(host))


def test_two_documents_make_one_of_today() -> None:
    found = read().dump()
    assert found["ociVersion"] == "1.0.0"
    assert found["mounts"] == [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/data", "type": "bind", "source": "/srv", "options": ["rbind", "ro"]},
    ]
    process = found["process"]
    sets = ["CAP_KILL", "CAP_NET_RAW"]
    assert process["capabilities"] == {"bounding": sets, "effective": sets, "permitted": sets}
    assert process["rlimits"] == [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}]
    assert (process["oomScoreAdj"], process["noNewPrivileges"]) == (5, True)
    assert (process["apparmorProfile"], process["selinuxLabel"]) == ("profile", "label")
    assert found["hooks"] == {"prestart": [{"path": "/bin/hook", "args": ["hook", "1"]}]}
    linux = found["linux"]
    assert linux["devices"] == [
        {"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0}
    ]
    assert linux["resources"] == {
        "devices": [
            {"allow": False, "access": "rwm"},
            {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"},
            {"allow": True, "type": "c", "major": 136, "access": "rwm"},
        ],
        "memory": {"limit": 1048576, "disableOOMKiller": True},
        "cpu": {"shares": 512, "cpus": "0"},
        "pids": {"limit": 9},
        "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4096}],
        "network": {"classID": 0x10001},
    }
    assert linux["seccomp"]["syscalls"] == [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]
    assert (linux["cgroupsPath"], linux["rootfsPropagation"]) == ("/old", "slave")


def test_what_the_runtime_hid_then_is_hidden_still() -> None:
    linux = read().linux
    assert linux is not None
    assert (linux.masked_paths, linux.readonly_paths) == (pair.MASKED, pair.READ_ONLY)
    said = HOST | {"linux": HOST["linux"] | {"maskedPaths": [], "readonlyPaths": ["/proc/fs"]}}
    linux = read(host=said).linux
    assert linux is not None
    assert (linux.masked_paths, linux.readonly_paths) == ((), ("/proc/fs",))


def test_a_filter_that_go_left_empty_is_none() -> None:
    empty = HOST["linux"] | {"seccomp": {"defaultAction": "", "architectures": None}}
    linux = read(host=HOST | {"linux": empty}).linux
    assert linux is not None
    assert linux.seccomp is None


def test_the_first_version_called_it_name() -> None:
    host = HOST | {"linux": {"namespaces": [], "devices": [], "cgroupsName": "/named"}}
    linux = read(PORTABLE | {"version": "0.1.1"}, host).linux
    assert linux is not None
    assert linux.cgroups_path == "/named"


@pytest.mark.parametrize(
    ("portable", "host", "document", "where", "problem"),
    [
        pytest.param({"version": "0.3.0"}, {}, "config.json", "version", "0.3.0 is not supported", id="too-new"),
        pytest.param({"version": ""}, {}, "config.json", "version", "must not be empty", id="no-version"),
        pytest.param({"platform": {"os": "plan9"}}, {}, "config.json", "platform.os", "is not linux", id="platform"),
        pytest.param({"process": {}}, {}, "config.json", "process.args", "needs at least", id="no-program"),
        pytest.param(
            {"mounts": [{"name": "x", "path": "/x"}]},
            {},
            "config.json",
            "mounts[0].name",
            "is not among",
            id="no-mount",
        ),
        pytest.param(
            {"mounts": [{"name": "proc", "path": "x"}]}, {}, "config.json", "mounts[0].path", "absolute", id="relative"
        ),
        pytest.param({}, {"mounts": []}, "runtime.json", "mounts", "expected an object", id="mounts-in-a-list"),
        pytest.param(
            {},
            {"linux": {"rlimits": [{"type": "X", "soft": 1, "hard": 1}]}},
            "runtime.json",
            "linux.rlimits[0].type",
            "unknown limit",
            id="rlimit",
        ),
        pytest.param(
            {},
            {"linux": {"namespaces": [{"type": "x"}]}},
            "runtime.json",
            "linux.namespaces[0].type",
            "none of",
            id="ns",
        ),
        pytest.param(
            {},
            {"linux": {"resources": {"oomScoreAdj": 2000}}},
            "runtime.json",
            "linux.resources.oomScoreAdj",
            "must be between",
            id="score",
        ),
        pytest.param(
            {},
            {"linux": {"resources": {"network": {"classId": "x"}}}},
            "runtime.json",
            "linux.resources.network.classId",
            "is not a number",
            id="class",
        ),
        pytest.param(
            {},
            {"hooks": {"prestart": [{"path": "x"}]}},
            "runtime.json",
            "hooks.prestart[0].path",
            "absolute",
            id="hook",
        ),
    ],
)
def test_refuses_and_says_where(
    portable: dict[str, Any], host: dict[str, Any], document: str, where: str, problem: str
) -> None:
    with pytest.raises(InvalidSpec) as caught:
        read(PORTABLE | portable, HOST | host)
    assert (caught.value.document, caught.value.where) == (document, where)
    assert problem in caught.value.problem


@pytest.mark.parametrize(
    ("value", "old"),
    [({"version": "0.2.0"}, True), ({"ociVersion": "0.1.0"}, True), ({"ociVersion": "1.0.2"}, False), ([], False)],
)
def test_the_version_tells_the_halves(value: object, old: bool) -> None:
    assert pair.is_old(value) is old


def written(config: Config) -> Config:
    """Return ``config`` after a way there and back."""
    halves = (legacy.portable_half(config), legacy.runtime_half(config))
    return pair.parse_pair(*(json.dumps(half) for half in halves))


def test_the_example_but_for_its_cgroup_namespace_survives() -> None:
    config = example_config(terminal=False)
    assert legacy.lost(config) == ("linux.namespaces",)
    assert config.linux is not None
    kept = tuple(each for each in config.linux.namespaces if each.type != "cgroup")
    config = config.replace(linux=config.linux.replace(namespaces=kept))
    assert legacy.lost(config) == ()
    assert legacy.meaning(written(config)) == legacy.meaning(config)


PROCESS = Process(args=("true",), cwd="/")
BASE = Config(oci_version="1.0.2", root=Root(path="r"), process=PROCESS, linux=Linux())


@pytest.mark.parametrize(
    ("config", "places"),
    [
        pytest.param(BASE, (), id="nothing"),
        pytest.param(BASE.replace(process=None), ("process",), id="no-process"),
        pytest.param(BASE.replace(domainname="d"), ("domainname",), id="domainname"),
        pytest.param(
            BASE.replace(process=PROCESS.replace(capabilities=Capabilities(bounding=("CAP_KILL",)))),
            ("process.capabilities.effective", "process.capabilities.permitted"),
            id="unequal-capabilities",
        ),
        pytest.param(
            BASE.replace(linux=Linux(namespaces=(Namespace(type="time"),))), ("linux.namespaces",), id="namespace"
        ),
        pytest.param(
            BASE.replace(linux=Linux(resources=Resources(unified={"memory.high": "1"}))),
            ("linux.resources.unified.memory.high",),
            id="unified",
        ),
        pytest.param(
            BASE.replace(linux=Linux(resources=Resources(devices=(DeviceRule(allow=False, type="c", major=1),)))),
            ("linux.resources.devices",),
            id="a-denied-device",
        ),
        pytest.param(
            BASE.replace(
                linux=Linux(
                    seccomp=Seccomp(
                        default_action="SCMP_ACT_ALLOW",
                        syscalls=(Syscall(names=("a", "b"), action="SCMP_ACT_ERRNO", errno_ret=38),),
                    )
                )
            ),
            ("linux.seccomp.syscalls",),
            id="errno",
        ),
        pytest.param(
            BASE.replace(
                linux=Linux(
                    seccomp=Seccomp(
                        default_action="SCMP_ACT_ALLOW",
                        syscalls=(Syscall(names=("a", "b"), action="SCMP_ACT_ERRNO", errno_ret=1),),
                    )
                )
            ),
            (),
            id="the-usual-errno",
        ),
        pytest.param(
            BASE.replace(hooks=Hooks(create_runtime=(Hook(path="/h"),), create_container=(Hook(path="/i"),))),
            ("hooks.createContainer",),
            id="hooks",
        ),
        pytest.param(
            BASE.replace(hooks=Hooks(poststop=(Hook(path="/h", timeout=1),))), ("hooks.poststop",), id="timeout"
        ),
    ],
)
def test_what_2015_cannot_say_is_named(config: Config, places: tuple[str, ...]) -> None:
    assert legacy.lost(config) == places


@given(from_schema(MODERN))
def test_what_is_not_lost_survives_the_way_there_and_back(document: dict[str, Any]) -> None:
    try:
        config = parse_config(json.dumps(document))
    except InvalidSpec:
        return
    if config.process is None or config.root is None:
        assert legacy.lost(config)
        return
    try:
        once = written(config)
    except InvalidSpec:
        return  # of 2015 there were stricter rules, on paths for one: they are the reader's
    if not legacy.lost(config):
        assert legacy.meaning(once) == legacy.meaning(config)
    assert legacy.lost(once) == ()
    assert legacy.meaning(written(once)) == legacy.meaning(once)


@given(from_schema(OLD_CONFIG), from_schema(OLD_RUNTIME))
def test_a_valid_pair_is_read_or_refused_by_name(portable: dict[str, Any], host: dict[str, Any]) -> None:
    try:
        config = pair.parse_pair(json.dumps(portable), json.dumps(host))
    except InvalidSpec as error:
        named = error.document
    else:
        named = "config.json" if config.oci_version == "1.0.0" else ""
    assert named in {"config.json", "runtime.json"}


@given(JSON, JSON, st.sampled_from(["0.1.0", "0.2.0"]))
def test_any_json_is_read_or_refused_never_a_traceback(value: Any, host: Any, version: str) -> None:
    portable = {"version": version, "process": {"args": ["a"]}, "root": {"path": "r"}}
    for first, second in (
        (value, host),
        (portable, {"mounts": {}, "linux": host}),
        (portable | {"process": value}, {}),
    ):
        try:
            pair.parse_pair(json.dumps(first), json.dumps(second))
        except InvalidSpec:
            continue
