"""runtime.json of 2015: the host's half of the same container."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pyrkt.base.errors import InvalidSpec
from pyrkt.base.reader import Reader
from pyrkt.spec.example import example_config, rootless
from pyrkt.spec.legacy import mount_names, runtime_half
from pyrkt.spec.runtime import (
    BlockIO,
    Config,
    Cpu,
    Device,
    DeviceRule,
    Hook,
    Hooks,
    Linux,
    Memory,
    Mount,
    Namespace,
    Pids,
    Process,
    Resources,
    Rlimit,
    Seccomp,
    Syscall,
    SyscallArg,
    ThrottleDevice,
    WeightDevice,
)
from tests.unit.spec.strategies import from_schema

if TYPE_CHECKING:
    from typing import Any

SPECS = Path(__file__).parents[3] / "specs"
RUNTIME = Draft202012Validator(json.loads((SPECS / "oci-2015-runtime.schema.json").read_text()))
MODERN = json.loads((SPECS / "oci-runtime.schema.json").read_text())


def config(linux: Linux | None = None, **members: Any) -> Config:
    return Config(oci_version="1.0.2", linux=linux, **members)


def half(value: Config) -> dict[str, Any]:
    written = runtime_half(value)
    assert [error.message for error in RUNTIME.iter_errors(written)] == []
    return written


def test_mounts_by_unique_names() -> None:
    value = config(
        mounts=(
            Mount(destination="/proc", type="proc", source="proc"),
            Mount(destination="/dev/pts", type="devpts", source="devpts", options=("ro",)),
            Mount(destination="/dev-pts", source="/x", options=("rbind",)),
            Mount(destination="/"),
        )
    )
    assert mount_names(value) == ("proc", "dev-pts", "dev-pts-2", "root")
    assert half(value) == {
        "mounts": {
            "proc": {"type": "proc", "source": "proc"},
            "dev-pts": {"type": "devpts", "source": "devpts", "options": ["ro"]},
            "dev-pts-2": {"type": "bind", "source": "/x", "options": ["rbind"]},
            "root": {"type": "bind"},
        },
        "hooks": {},
    }


def test_hooks_of_the_moments_it_knew() -> None:
    hook = Hook(path="/a", args=("a",), env=("B=c",), timeout=5)
    value = config(
        hooks=Hooks(
            prestart=(hook,), create_runtime=(Hook(path="/b"),), start_container=(Hook(path="/c"),), poststop=(hook,)
        )
    )
    old = {"path": "/a", "args": ["a"], "env": ["B=c"]}
    assert half(value)["hooks"] == {"prestart": [old, {"path": "/b"}], "poststop": [old]}


def test_devices_are_nodes_and_permissions_in_one() -> None:
    linux = Linux(
        devices=(
            Device(type="c", path="/dev/fuse", major=10, minor=229, file_mode=0o600, uid=1, gid=2),
            Device(type="p", path="/dev/pipe"),
        ),
        resources=Resources(
            devices=(
                DeviceRule(allow=False, access="rwm"),
                DeviceRule(allow=True, type="c", major=10, minor=229, access="rw"),
                DeviceRule(allow=True, type="c", major=136, access="rw"),
                DeviceRule(allow=True),
            )
        ),
    )
    assert half(config(linux))["linux"]["devices"] == [
        {
            "path": "/dev/fuse",
            "type": "c",
            "major": 10,
            "minor": 229,
            "permissions": "rw",
            "fileMode": 0o600,
            "uid": 1,
            "gid": 2,
        },
        {
            "path": "/dev/pipe",
            "type": "p",
            "major": 0,
            "minor": 0,
            "permissions": "",
            "fileMode": 0o666,
            "uid": 0,
            "gid": 0,
        },
        {"type": "c", "major": 136, "minor": -1, "permissions": "rw"},
        {"type": "b", "major": -1, "minor": -1, "permissions": "rwm"},
        {"type": "c", "major": -1, "minor": -1, "permissions": "rwm"},
    ]


def test_limits_under_their_old_names() -> None:
    rate = (ThrottleDevice(major=8, minor=0, rate=5),)
    linux = Linux(
        cgroups_path="/x",
        sysctl={"kernel.shmmax": "1"},
        rootfs_propagation="rslave",
        masked_paths=("/proc/kcore",),
        readonly_paths=("/proc/sys",),
        resources=Resources(
            memory=Memory(limit=1, disable_oom_killer=True, use_hierarchy=True, check_before_update=True),
            cpu=Cpu(shares=2, quota=3, period=4, burst=5, idle=1),
            pids=Pids(limit=6),
            block_io=BlockIO(
                weight=10,
                leaf_weight=11,
                weight_device=(WeightDevice(major=8, minor=0, weight=12),),
                throttle_read_bps_device=rate,
                throttle_write_iops_device=rate,
            ),
            unified={"memory.high": "7"},
        ),
    )
    process = Process(
        args=("x",),
        cwd="/",
        oom_score_adj=0,
        no_new_privileges=True,
        apparmor_profile="p",
        selinux_label="l",
        rlimits=(Rlimit(type="RLIMIT_NOFILE", soft=1, hard=2),),
    )
    throttle = [{"major": 8, "minor": 0, "rate": 5}]
    assert half(config(linux, process=process))["linux"] == {
        "namespaces": [],
        "devices": [],
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}],
        "sysctl": {"kernel.shmmax": "1"},
        "resources": {
            "oomScoreAdj": 0,
            "disableOOMKiller": True,
            "memory": {"limit": 1},
            "cpu": {"shares": 2, "quota": 3, "period": 4},
            "pids": {"limit": 6},
            "blockIO": {
                "blkioWeight": 10,
                "blkioLeafWeight": 11,
                "blkioWeightDevice": [{"major": 8, "minor": 0, "weight": 12}],
                "blkioThrottleReadBpsDevice": throttle,
                "blkioThrottleWriteIOPSDevice": throttle,
            },
        },
        "cgroupsPath": "/x",
        "apparmorProfile": "p",
        "selinuxProcessLabel": "l",
        "rootfsPropagation": "rslave",
        "noNewPrivileges": True,
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
    }


def test_seccomp_one_call_an_entry_in_the_words_of_2015() -> None:
    argument = SyscallArg(index=0, value=5, op="SCMP_CMP_EQ")
    linux = Linux(
        seccomp=Seccomp(
            default_action="SCMP_ACT_KILL_PROCESS",
            architectures=("SCMP_ARCH_X86",),
            syscalls=(
                Syscall(names=("a", "b"), action="SCMP_ACT_ALLOW"),
                Syscall(names=("c",), action="SCMP_ACT_ERRNO", errno_ret=38, args=(argument,)),
                Syscall(names=("d",), action="SCMP_ACT_LOG"),
                Syscall(names=("e",), action="SCMP_ACT_NOTIFY"),
            ),
        )
    )
    assert half(config(linux))["linux"]["seccomp"] == {
        "defaultAction": "SCMP_ACT_KILL",
        "architectures": ["SCMP_ARCH_X86"],
        "syscalls": [
            {"name": "a", "action": "SCMP_ACT_ALLOW"},
            {"name": "b", "action": "SCMP_ACT_ALLOW"},
            {
                "name": "c",
                "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 0, "value": 5, "valueTwo": 0, "op": "SCMP_CMP_EQ"}],
            },
            {"name": "d", "action": "SCMP_ACT_ALLOW"},
        ],
    }


def test_namespaces_that_2015_had() -> None:
    linux = Linux(
        namespaces=(Namespace(type="pid", path="/proc/1/ns/pid"), Namespace(type="cgroup"), Namespace(type="user"))
    )
    assert half(config(linux))["linux"]["namespaces"] == [{"type": "pid", "path": "/proc/1/ns/pid"}, {"type": "user"}]


@pytest.mark.parametrize("value", [example_config(), rootless(example_config(), 1000, 1000)], ids=["root", "user"])
def test_the_examples_have_a_valid_half(value: Config) -> None:
    assert set(half(value)["mounts"]) >= {"proc", "dev", "dev-pts", "sys"}


@given(st.data())
def test_every_config_has_a_valid_half(data: st.DataObject) -> None:
    document = data.draw(from_schema(MODERN))
    try:
        value = Config.parse(Reader(document, "c"))
    except InvalidSpec:
        return
    half(value)


def test_only_permission_bits_of_a_device_are_carried_over() -> None:
    device = {"path": "/dev/x", "type": "p", "fileMode": 0o200640}
    found = half(Config.parse(Reader({"ociVersion": "1.0.0", "linux": {"devices": [device]}}, "c")))
    assert [one["fileMode"] for one in found["linux"]["devices"]] == [0o640]


def test_the_empty_name_of_a_system_call_is_left_out() -> None:
    rule = {"names": ["", "read"], "action": "SCMP_ACT_ERRNO"}
    document = {"ociVersion": "1.0.0", "linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}}}
    found = half(Config.parse(Reader(document, "c")))
    assert [call["name"] for call in found["linux"]["seccomp"]["syscalls"]] == ["read"]
