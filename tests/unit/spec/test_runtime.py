"""config.json: what is read, what is refused and how that is said, and the laws of reading and writing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.base.errors import InvalidSpec
from pyrkt.base.record import Record
from pyrkt.spec import runtime, runtime_linux, runtime_resources
from pyrkt.spec.document import Document, member_name
from pyrkt.spec.example import example_config, rootless
from pyrkt.spec.runtime import (
    Config,
    Linux,
    Namespace,
    Process,
    Rlimit,
    Root,
    parse_config,
    parse_process,
    parse_resources,
)
from tests.unit.spec.strategies import JSON, from_schema

SCHEMA: dict[str, Any] = json.loads((Path(__file__).parents[3] / "specs/oci-runtime.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
MINIMAL: dict[str, Any] = {"ociVersion": "1.3.0"}
PROCESS: dict[str, Any] = {"cwd": "/", "args": ["sh"]}
NOFILE: dict[str, Any] = {"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}


def read(value: object) -> Config:
    return parse_config(json.dumps(value))


def attempt(value: object) -> tuple[Config | None, str]:
    try:
        return read(value), ""
    except InvalidSpec as error:
        return None, str(error)


def process(**members: object) -> dict[str, Any]:
    return MINIMAL | {"process": PROCESS | members}


def linux(**members: object) -> dict[str, Any]:
    return MINIMAL | {"linux": members}


def seccomp(**members: object) -> dict[str, Any]:
    return linux(seccomp={"defaultAction": "SCMP_ACT_ALLOW"} | members)


MAP = {"containerID": 0, "hostID": 0, "size": 10}
USERNS = [{"type": "user"}]


@pytest.mark.parametrize(
    ("value", "where", "problem"),
    [
        pytest.param([], "", "expected an object, got an array", id="not-an-object"),
        pytest.param({}, "ociVersion", "is required", id="no-version"),
        pytest.param({"ociVersion": ""}, "ociVersion", "must not be empty", id="empty-version"),
        pytest.param({"ociVersion": "invalid"}, "ociVersion", "is not a version", id="text-version"),
        pytest.param({"ociVersion": "9.0.0"}, "ociVersion", "is not supported", id="future-version"),
        pytest.param({"ociVersion": "0.2.0"}, "ociVersion", "is not supported", id="old-version"),
        pytest.param({"ociVersion": "1.0"}, "ociVersion", "is not a version", id="short-version"),
        pytest.param(
            {"ociVersion": "1.\N{ARABIC-INDIC DIGIT ZERO}.0"},
            "ociVersion",
            "is not a version",
            id="digits-of-another-script",
        ),
        pytest.param(MINIMAL | {"root": {}}, "root.path", "is required", id="root-without-path"),
        pytest.param(MINIMAL | {"root": {"path": ""}}, "root.path", "must not be empty", id="root-empty-path"),
        pytest.param(MINIMAL | {"root": {"path": "a\0b"}}, "root.path", "NUL", id="root-nul"),
        pytest.param(MINIMAL | {"annotations": {"": "x"}}, "annotations.", "must not be empty", id="annotation-name"),
        pytest.param(MINIMAL | {"annotations": {"a": 1}}, "annotations.a", "expected a string", id="annotation-type"),
        pytest.param(process(cwd="tmp"), "process.cwd", "is not an absolute path", id="cwd-relative"),
        pytest.param(MINIMAL | {"process": {"args": ["a"]}}, "process.cwd", "is required", id="cwd-missing"),
        pytest.param(process(args=[]), "process.args", "needs at least the program", id="no-args"),
        pytest.param(process(env=["A=1", "B"]), "process.env[1]", "missing '='", id="env-no-equals"),
        pytest.param(process(env=["=1"]), "process.env[0]", "name cannot be empty", id="env-no-name"),
        pytest.param(process(user={"uid": -1}), "process.user.uid", "must be between 0", id="uid-negative"),
        pytest.param(process(user={"uid": 2**32 - 1}), "process.user.uid", "must be between 0", id="uid-minus-one"),
        pytest.param(process(user={"umask": 0o1000}), "process.user.umask", "must be between 0", id="umask"),
        pytest.param(process(user={"uid": True}), "process.user.uid", "expected an integer", id="uid-boolean"),
        pytest.param(process(rlimits={}), "process.rlimits", "expected an array, got an object", id="rlimits-object"),
        pytest.param(
            process(rlimits=[NOFILE | {"soft": -1}]), "process.rlimits[0].soft", "must be between", id="rlimit-negative"
        ),
        pytest.param(process(rlimits=[NOFILE, NOFILE]), "process.rlimits[1].type", "is given twice", id="rlimit-twice"),
        pytest.param(
            process(rlimits=[NOFILE | {"type": "NOFILE"}]), "process.rlimits[0].type", "unknown limit", id="rlimit-name"
        ),
        pytest.param(
            process(rlimits=[NOFILE | {"soft": 3}]),
            "process.rlimits[0].soft",
            "above the hard limit",
            id="rlimit-order",
        ),
        pytest.param(process(oomScoreAdj=1001), "process.oomScoreAdj", "must be between -1000", id="oom"),
        pytest.param(
            process(scheduler={"policy": "SCHED_FAIR"}), "process.scheduler.policy", "is none of", id="scheduler"
        ),
        pytest.param(
            process(ioPriority={"class": "IOPRIO_CLASS_RT", "priority": 8}),
            "process.ioPriority.priority",
            "must be between 0 and 7",
            id="ioprio",
        ),
        pytest.param(
            process(execCPUAffinity={"initial": "0-"}), "process.execCPUAffinity.initial", "no list", id="affinity"
        ),
        pytest.param(
            process(execCPUAffinity={"final": "3-1"}), "process.execCPUAffinity.final", "backwards", id="affinity-order"
        ),
        pytest.param(MINIMAL | {"mounts": [{}]}, "mounts[0].destination", "is required", id="mount-nowhere"),
        pytest.param(
            MINIMAL | {"mounts": [{"destination": "/a", "uidMappings": [MAP]}]},
            "mounts[0].gidMappings",
            "come together",
            id="mount-half-mapped",
        ),
        pytest.param(
            MINIMAL | {"hooks": {"poststop": [{"path": "true"}]}}, "hooks.poststop[0].path", "absolute", id="hook-path"
        ),
        pytest.param(
            MINIMAL | {"hooks": {"prestart": [{"path": "/a", "timeout": 0}]}},
            "hooks.prestart[0].timeout",
            "must be between 1",
            id="hook-timeout",
        ),
        pytest.param(
            linux(namespaces=[{"type": "pid"}, {"type": "pid"}]),
            "linux.namespaces[1].type",
            "is given twice",
            id="namespace-twice",
        ),
        pytest.param(
            linux(namespaces=[{"type": "pid", "path": "x"}]),
            "linux.namespaces[0].path",
            "absolute",
            id="namespace-path",
        ),
        pytest.param(
            linux(namespaces=[{"type": "net"}]), "linux.namespaces[0].type", "is none of", id="namespace-type"
        ),
        pytest.param(linux(uidMappings=[MAP]), "linux.uidMappings", "needs a user namespace", id="uidmap-no-userns"),
        pytest.param(linux(gidMappings=[MAP]), "linux.gidMappings", "needs a user namespace", id="gidmap-no-userns"),
        pytest.param(
            linux(namespaces=USERNS, uidMappings=[MAP, MAP]), "linux.uidMappings[1]", "overlaps", id="idmap-overlap"
        ),
        pytest.param(
            linux(namespaces=USERNS, uidMappings=[MAP, MAP | {"containerID": 10, "hostID": 9}]),
            "linux.uidMappings[1]",
            "overlaps",
            id="idmap-overlap-on-the-host",
        ),
        pytest.param(
            linux(namespaces=USERNS, uidMappings=[MAP | {"size": 0}]),
            "linux.uidMappings[0].size",
            "between 1",
            id="idmap-0",
        ),
        pytest.param(
            linux(namespaces=USERNS, uidMappings=[MAP | {"hostID": 2**32 - 5}]),
            "linux.uidMappings[0].size",
            "runs past the last id",
            id="idmap-wraps",
        ),
        pytest.param(
            linux(namespaces=USERNS, uidMappings=[MAP] * 341),
            "linux.uidMappings",
            "the kernel takes 340",
            id="idmap-341",
        ),
        pytest.param(
            linux(devices=[{"type": "c", "path": "dev/x", "major": 1, "minor": 1}]),
            "linux.devices[0].path",
            "absolute",
            id="device-path",
        ),
        pytest.param(
            linux(devices=[{"type": "c", "path": "/x", "major": 1}]),
            "linux.devices[0].minor",
            "required",
            id="device-minor",
        ),
        pytest.param(
            linux(devices=[{"type": "c", "path": "/x", "major": 4096, "minor": 0}]),
            "linux.devices[0].major",
            "more than the kernel's",
            id="device-major",
        ),
        pytest.param(linux(maskedPaths=["/a", "b"]), "linux.maskedPaths[1]", "absolute", id="masked-relative"),
        pytest.param(linux(readonlyPaths=["b"]), "linux.readonlyPaths[0]", "absolute", id="readonly-relative"),
        pytest.param(linux(rootfsPropagation="public"), "linux.rootfsPropagation", "is none of", id="propagation"),
        pytest.param(linux(cgroupsPath="/a/../b"), "linux.cgroupsPath", "climb", id="cgroup-climbs"),
        pytest.param(linux(sysctl={"a\nb": "1"}), "linux.sysctl", "line break", id="sysctl-newline"),
        pytest.param(
            linux(timeOffsets={"boottime": {}}), "linux.timeOffsets", "needs a time namespace", id="offsets-no-ns"
        ),
        pytest.param(
            linux(timeOffsets={"realtime": {}}), "linux.timeOffsets.realtime", "is no clock", id="offsets-clock"
        ),
        pytest.param(linux(netDevices={"eth0": {}}), "linux.netDevices", "without a NET namespace", id="netdev-no-ns"),
        pytest.param(
            linux(namespaces=[{"type": "network"}], netDevices={"a/b": {}}),
            "linux.netDevices.a/b",
            "cannot be the name",
            id="netdev-name",
        ),
        pytest.param(
            linux(namespaces=[{"type": "network"}], netDevices={"a": {"name": "x" * 16}}),
            "linux.netDevices.a.name",
            "cannot be the name",
            id="netdev-new-name",
        ),
        pytest.param(linux(personality={"domain": "BSD"}), "linux.personality.domain", "is none of", id="personality"),
        pytest.param(
            linux(personality={"domain": "LINUX", "flags": ["X"]}), "linux.personality.flags", "unknown", id="per-flag"
        ),
        *(
            pytest.param(linux(memoryPolicy=policy), f"linux.memoryPolicy.{where}", problem, id=f"memory-{label}")
            for policy, where, problem, label in (
                ({"mode": "X"}, "mode", "invalid memory policy mode 'X'", "mode"),
                ({"nodes": "0"}, "mode", "invalid memory policy mode ''", "no-mode"),
                ({"mode": "MPOL_LOCAL", "flags": ["X"]}, "flags", "invalid memory policy flag 'X'", "flag"),
                ({"mode": "MPOL_DEFAULT", "nodes": "0-7"}, "nodes", "mode requires 0 nodes but got 8", "default-nodes"),
                ({"mode": "MPOL_BIND"}, "nodes", "requires at least one node", "no-nodes"),
                ({"mode": "MPOL_BIND", "nodes": "2-1"}, "nodes", "invalid memory policy nodes", "nodes-backwards"),
                ({"mode": "MPOL_BIND", "nodes": "0-9876543210"}, "nodes", "invalid memory policy nodes", "nodes-far"),
                ({"mode": "MPOL_BIND", "nodes": "x"}, "nodes", "invalid memory policy nodes", "nodes-words"),
            )
        ),
        pytest.param(
            linux(namespaces=[{"type": "time", "path": "/t"}], timeOffsets={"boottime": {"secs": 1}}),
            "linux.timeOffsets",
            "that is joined has its own",
            id="offsets-joined",
        ),
        *(
            pytest.param(
                seccomp(listenerPath="/s", syscalls=[{"names": ["mkdir", name], "action": "SCMP_ACT_NOTIFY"}]),
                "linux.seccomp.syscalls[0].names",
                f"SCMP_ACT_NOTIFY cannot be used for the {name} syscall",
                id=f"notify-{name}",
            )
            for name in ("write", "sendmsg")
        ),
        pytest.param(
            seccomp(flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]),
            "linux.seccomp.flags",
            "needs a rule that says SCMP_ACT_NOTIFY",
            id="seccomp-killable",
        ),
        pytest.param(
            linux(intelRdt={"memBwSchema": "L3:0"}), "linux.intelRdt.memBwSchema", "start with MB:", id="rdt-bandwidth"
        ),
        pytest.param(linux(intelRdt={"closID": ".."}), "linux.intelRdt.closID", "not the name", id="rdt-clos"),
        pytest.param(
            linux(intelRdt={"schemata": ["L3:0\nL3:1"]}), "linux.intelRdt.schemata[0]", "line break", id="rdt-schemata"
        ),
        pytest.param(linux(seccomp={}), "linux.seccomp.defaultAction", "is required", id="seccomp-no-default"),
        pytest.param(
            seccomp(defaultAction="SCMP_ACT_NOTIFY"),
            "linux.seccomp.defaultAction",
            "cannot be used as default action",
            id="notify-all",
        ),
        pytest.param(
            seccomp(defaultErrnoRet=1), "linux.seccomp.defaultErrnoRet", "takes no number", id="seccomp-errno-allow"
        ),
        pytest.param(
            seccomp(syscalls=[{"names": [], "action": "SCMP_ACT_KILL"}]),
            "linux.seccomp.syscalls[0].names",
            "at least one",
            id="seccomp-no-names",
        ),
        pytest.param(
            seccomp(syscalls=[{"names": ["a"], "action": "SCMP_ACT_NOTIFY"}]),
            "linux.seccomp.listenerPath",
            "is required",
            id="notify-without-agent",
        ),
        pytest.param(
            seccomp(listenerMetadata="x"), "linux.seccomp.listenerMetadata", "without listenerPath", id="metadata"
        ),
        pytest.param(seccomp(architectures=["VAX"]), "linux.seccomp.architectures[0]", "is none of", id="seccomp-arch"),
        pytest.param(
            seccomp(
                syscalls=[
                    {"names": ["a"], "action": "SCMP_ACT_KILL", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}
                ]
            ),
            "linux.seccomp.syscalls[0].args[0].index",
            "between 0 and 5",
            id="seccomp-index",
        ),
        pytest.param(
            linux(resources={"devices": [{"allow": True, "access": "rx"}]}),
            "linux.resources.devices[0].access",
            "letters other than",
            id="device-access",
        ),
        pytest.param(
            linux(resources={"hugepageLimits": [{"pageSize": "02MB", "limit": 1}]}),
            "linux.resources.hugepageLimits[0].pageSize",
            "is no page size",
            id="hugepage-zero",
        ),
        pytest.param(
            linux(resources={"hugepageLimits": [{"pageSize": "MB", "limit": 1}]}),
            "linux.resources.hugepageLimits[0].pageSize",
            "is no page size",
            id="hugepage-number",
        ),
        pytest.param(
            linux(resources={"unified": {"../x": "1"}}),
            "linux.resources.unified.../x",
            "not the name",
            id="unified-name",
        ),
        pytest.param(
            linux(resources={"rdma": {"mlx": {}}}), "linux.resources.rdma.mlx", "needs hcaHandles", id="rdma-empty"
        ),
        pytest.param(
            linux(resources={"blockIO": {"weightDevice": [{"major": 1, "minor": 1}]}}),
            "linux.resources.blockIO.weightDevice[0]",
            "needs a weight",
            id="weight-empty",
        ),
        pytest.param(
            linux(resources={"cpu": {"cpus": "0\n1;x"}}), "linux.resources.cpu.cpus", "not a list", id="cpus-lines"
        ),
        pytest.param(
            linux(resources={"memory": {"limit": 2**63}}), "linux.resources.memory.limit", "between", id="memory-range"
        ),
    ],
)
def test_refuses_and_says_where(value: object, where: str, problem: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        read(value)
    assert caught.value.where == where
    assert problem in caught.value.problem
    assert caught.value.rule.startswith("runtime-spec 1.3")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.0.0-rc5-dev", "1.3.0+build.1"])
def test_reads_every_version_of_the_first_edition(version: str) -> None:
    assert read({"ociVersion": version}).oci_version == version


def test_reads_null_as_missing() -> None:
    assert read(MINIMAL | {"process": None, "linux": {"resources": None}}) == Config(oci_version="1.3.0", linux=Linux())


def test_leaves_out_what_it_does_not_know() -> None:
    assert read(MINIMAL | {"windows": {"x": 1}, "com.example": []}) == Config(oci_version="1.3.0")


def test_docker_writes_an_unset_swappiness_as_the_largest_number() -> None:
    resources = parse_resources('{"memory": {"swappiness": 18446744073709551615}}')
    assert resources.memory is not None
    assert resources.memory.swappiness is None


def test_warns_of_unknown_capabilities_and_relative_destinations() -> None:
    config = read(process(capabilities={"bounding": ["CAP_CHOWN", "CAP_FLY"]}) | {"mounts": [{"destination": "data"}]})
    first, second = config.warnings()
    assert first == "process.capabilities: ignoring unknown or unavailable capabilities: [CAP_FLY]"
    assert "mounts[0].destination: 'data' is relative" in second
    assert example_config().warnings() == ()


def test_reads_a_process_and_resources_by_themselves() -> None:
    assert parse_process(json.dumps(PROCESS)) == Process(cwd="/", args=("sh",))
    with pytest.raises(InvalidSpec, match=r"process.json: cwd: is required"):
        parse_process('{"args": ["sh"]}')
    assert parse_resources("{}") == runtime_resources.Resources()


@pytest.mark.parametrize("config", [example_config(), rootless(example_config(), 1000, 1000)])
def test_the_examples_are_valid_and_come_back(config: Config) -> None:
    VALIDATOR.validate(config.dump())
    assert parse_config(json.dumps(config.dump())) == config


# Every member that Linux has, none at its default: what is misspelt anywhere does not come back.
FULL: dict[str, Any] = {
    "ociVersion": "1.3.0",
    "root": {"path": "r", "readonly": True},
    "hostname": "h",
    "domainname": "d",
    "annotations": {"a": "b"},
    "mounts": [
        {
            "destination": "/a",
            "type": "bind",
            "source": "/b",
            "options": ["bind"],
            "uidMappings": [{"containerID": 0, "hostID": 1, "size": 2}],
            "gidMappings": [{"containerID": 0, "hostID": 1, "size": 2}],
        }
    ],
    "hooks": {
        kind: [{"path": "/h", "args": ["h"], "env": ["A=1"], "timeout": 1}]
        for kind in ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    },
    "process": {
        "terminal": True,
        "consoleSize": {"height": 1, "width": 2},
        "user": {"uid": 1, "gid": 2, "umask": 3, "additionalGids": [4]},
        "args": ["a"],
        "env": ["A=1"],
        "cwd": "/",
        "capabilities": {
            kind: ["CAP_KILL"] for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")
        },
        "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 1}],
        "noNewPrivileges": True,
        "apparmorProfile": "a",
        "selinuxLabel": "s",
        "oomScoreAdj": 0,
        "scheduler": {
            "policy": "SCHED_DEADLINE",
            "nice": 1,
            "priority": 2,
            "flags": ["SCHED_FLAG_RECLAIM"],
            "runtime": 3,
            "deadline": 4,
            "period": 5,
        },
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
        "execCPUAffinity": {"initial": "0-1", "final": "1,3"},
    },
    "linux": {
        "uidMappings": [{"containerID": 0, "hostID": 1, "size": 2}],
        "gidMappings": [{"containerID": 0, "hostID": 1, "size": 2}],
        "sysctl": {"net.a": "1"},
        "cgroupsPath": "/c",
        "namespaces": [{"type": "user"}, {"type": "network", "path": "/n"}, {"type": "time"}],
        "devices": [{"type": "c", "path": "/dev/x", "major": 1, "minor": 2, "fileMode": 3, "uid": 4, "gid": 5}],
        "netDevices": {"eth0": {"name": "e"}},
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 1,
            "architectures": ["SCMP_ARCH_X86"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "listenerPath": "/l",
            "listenerMetadata": "m",
            "syscalls": [
                {
                    "names": ["a"],
                    "action": "SCMP_ACT_ERRNO",
                    "errnoRet": 2,
                    "args": [{"index": 1, "value": 2, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}],
                }
            ],
        },
        "rootfsPropagation": "slave",
        "maskedPaths": ["/m"],
        "readonlyPaths": ["/r"],
        "mountLabel": "l",
        "intelRdt": {
            "closID": "c",
            "schemata": ["L3:0=1"],
            "l3CacheSchema": "L3:0=1",
            "memBwSchema": "MB:0=1",
            "enableMonitoring": True,
        },
        "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
        "personality": {"domain": "LINUX32"},
        "timeOffsets": {"boottime": {"secs": 1, "nanosecs": 2}, "monotonic": {"secs": -1}},
        "resources": {
            "unified": {"memory.high": "1"},
            "devices": [{"allow": True, "type": "c", "major": 1, "minor": -1, "access": "rw"}],
            "memory": {
                "limit": 1,
                "reservation": 2,
                "swap": 3,
                "kernel": 4,
                "kernelTCP": 5,
                "swappiness": 6,
                "disableOOMKiller": True,
                "useHierarchy": True,
                "checkBeforeUpdate": True,
            },
            "cpu": {
                "shares": 1,
                "quota": 2,
                "burst": 3,
                "period": 4,
                "realtimeRuntime": 5,
                "realtimePeriod": 6,
                "cpus": "0",
                "mems": "0",
                "idle": 1,
            },
            "pids": {"limit": 0},
            "blockIO": {
                "weight": 10,
                "leafWeight": 20,
                "weightDevice": [{"major": 8, "minor": 0, "weight": 30, "leafWeight": 40}],
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
                "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2}],
                "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 3}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 4}],
            },
            "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
            "network": {"classID": 1, "priorities": [{"name": "eth0", "priority": 2}]},
            "rdma": {"mlx": {"hcaHandles": 1, "hcaObjects": 2}},
        },
    },
}


def test_every_member_comes_back() -> None:
    VALIDATOR.validate(FULL)
    assert read(FULL).dump() == FULL


def test_finds_a_namespace_by_type() -> None:
    spec = Linux(namespaces=(Namespace(type="pid", path="/a"),))
    assert spec.namespace("pid") == Namespace(type="pid", path="/a")
    assert spec.namespace("user") is None


@pytest.mark.parametrize(
    ("field", "member"),
    [
        ("oci_version", "ociVersion"),
        ("block_io", "blockIO"),
        ("throttle_read_iops_device", "throttleReadIOPSDevice"),
        ("kernel_tcp", "kernelTCP"),
        ("disable_oom_killer", "disableOOMKiller"),
        ("exec_cpu_affinity", "execCPUAffinity"),
        ("io_priority", "ioPriority"),
        ("container_id", "containerID"),
        ("uid", "uid"),
    ],
)
def test_spells_members_as_the_specification_does(field: str, member: str) -> None:
    assert member_name(field) == member


def _documents() -> list[type[Document]]:
    found: list[type[Document]] = []
    for module in (runtime, runtime_linux, runtime_resources):
        found += [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Document)]
    return found


def _properties(schema: object) -> set[str]:
    """Every property name of the schema whose object is one of ours (a map's keys are the user's)."""
    found: set[str] = set()
    if isinstance(schema, dict):
        found |= set(schema.get("properties", {}))
        for name, value in schema.items():
            parts = value.values() if name in {"properties", "$defs"} else [value]
            for part in parts:
                found |= _properties(part)
    elif isinstance(schema, list):
        for item in schema:
            found |= _properties(item)
    return found


def test_no_property_of_the_schema_goes_unread_and_no_field_is_unknown_to_it() -> None:
    fields = {member_name(field) for kind in _documents() for field in kind._fields}
    # "class" is a keyword of Python; the clocks are the keys of a map.
    fields = fields - {"ioClass"} | {"class", "monotonic", "boottime"}
    assert fields == _properties(SCHEMA)


@given(JSON)
def test_any_json_is_read_or_refused_by_name(value: object) -> None:
    config, refusal = attempt(value)
    if config is None:
        assert refusal.startswith("config.json")
    else:
        assert parse_config(json.dumps(config.dump())) == config


@given(st.binary())
def test_any_bytes_are_read_or_refused_by_name(data: bytes) -> None:
    with pytest.raises(InvalidSpec):
        parse_config(data)


@given(st.data())
def test_what_the_schema_allows_comes_back_as_it_was(data: st.DataObject) -> None:
    value = data.draw(from_schema(SCHEMA))
    config, _ = attempt(value)
    if config is None:
        return  # rules between members, which a schema cannot say
    dumped = config.dump()
    assert parse_config(json.dumps(dumped)) == config
    VALIDATOR.validate(dumped)


@given(st.data())
def test_what_is_read_is_valid_by_the_schema(data: st.DataObject) -> None:
    """A valid document with one value replaced: whatever is still read must be what the schema allows."""
    value = json.loads(json.dumps(example_config().dump()))
    spot = data.draw(st.sampled_from(list(_spots(value))))
    _replace(value, spot, data.draw(JSON))
    config, refusal = attempt(value)
    if config is None:
        assert refusal.startswith("config.json: ")
    else:
        VALIDATOR.validate(config.dump())


def _spots(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path] if path else []
    children: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    for name, child in children:
        found += _spots(child, (*path, name))
    return found


def _replace(value: Any, path: tuple[str | int, ...], new: object) -> None:
    for name in path[:-1]:
        value = value[name]
    value[path[-1]] = new


def test_records_are_frozen_values() -> None:
    root = Root(path="/a")
    assert isinstance(root, Record)
    with pytest.raises(AttributeError):
        root.path = "/b"  # type: ignore[misc]
    assert Rlimit(type="RLIMIT_CORE", soft=0, hard=0) == Rlimit(type="RLIMIT_CORE", soft=0, hard=0)
