"""The compiler: what becomes of each member of config.json."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pyrkt.base.errors import InvalidSpec
from pyrkt.plan import explain
from pyrkt.plan.place import Place
from pyrkt.plan.steps import AFTER, BEFORE, CHILD, PARENT, digest, encode
from pyrkt.spec.example import example_config, rootless
from pyrkt.spec.layout import CgroupLayout, OverlayRoot, ResctrlLayout
from pyrkt.spec.runtime import (
    Capabilities,
    Config,
    ConsoleSize,
    Device,
    Hook,
    Hooks,
    IdMapping,
    IntelRdt,
    IoPriority,
    MemoryPolicy,
    Mount,
    NetDevice,
    Personality,
    Rlimit,
    Root,
    Scheduler,
    Seccomp,
    Syscall,
    TimeOffset,
    User,
)
from tests.unit.plan.hosts import (
    ALL,
    ALL_CAPS,
    CGROUP,
    FILTER,
    HYBRID,
    PROGRAM,
    SHARED,
    USER,
    USERNS,
    V2,
    WIDE,
    bind,
    changed,
    compiled,
    mounted,
    named,
    namespaces,
    place_of,
)

GOLDEN = Path(__file__).with_name("example.plan")


def test_the_plan_of_the_example_is_the_one_that_was_read_over() -> None:
    place = Place(id="c1", pid_file="/run/c1.pid", record_file="/run/c1", on_failure=("pyrkt-oci", "failed"))
    plan = compiled(example_config(), place=place.replace(exit_file="/run/c1.exit"), cgroup=CGROUP)
    assert "\n".join(explain.lines(plan)) + "\n" == GOLDEN.read_text()


def test_the_same_input_gives_the_same_bytes() -> None:
    first, second = compiled(example_config()), compiled(example_config())
    assert encode(first) == encode(second)
    assert digest(first) == digest(second) != digest(compiled(changed()))
    assert digest(first).startswith("sha256:")


# What of config.json gives which step; each row is (changes, name of the step, its arguments, its cause).
MEMBERS = [
    pytest.param(changed(hostname="a"), "HOSTNAME", ("a",), "/hostname", id="hostname"),
    pytest.param(changed(domainname="b"), "DOMAINNAME", ("b",), "/domainname", id="domainname"),
    pytest.param(changed(), "LOOPBACK", (), "/linux/namespaces", id="loopback"),
    pytest.param(changed(), "UNSHARE", (0x2000000,), "/linux/namespaces", id="cgroup-namespace"),
    pytest.param(changed(), "ROOT_BIND", ("/bundle/rootfs", 1), "/root/path", id="root"),
    pytest.param(changed(root=Root(path="/srv/r/")), "ROOT_BIND", ("/srv/r", 1), "/root/path", id="root-absolute"),
    pytest.param(changed(), "ROOT_READ_ONLY", (), "/root/readonly", id="root-read-only"),
    pytest.param(mounted(bind()), "VOLUME", ("/srv", "/data", 1, 0, 0, 0, -1, -1), "/mounts/7", id="bind"),
    pytest.param(
        mounted(bind("data", "vol", "ro", "noatime")),
        "VOLUME",
        ("/bundle/vol", "/data", 1, 0x11, 0xF0, 0x20000E, -1, -1),
        "/mounts/7",
        id="bind-relative",
    ),
    pytest.param(
        mounted(Mount(destination="/b", type="none", source="/srv", options=("bind",))),
        "VOLUME",
        ("/srv", "/b", 0, 0, 0, 0, -1, -1),
        "/mounts/7",
        id="bind-one",
    ),
    pytest.param(mounted(bind("/d", "/s", "rro")), "SET_ATTR", ("/d", 1, 1, 0), "/mounts/7", id="rro"),
    pytest.param(
        mounted(bind("/d", "/s", "rslave")), "SET_PROPAGATION", ("/d", 1 << 19 | 16384), "/mounts/7", id="rslave"
    ),
    pytest.param(
        mounted(bind("/d", "/s", "rshared"), linux=SHARED), "OPEN_TREE", (0, "/s", 1), "/mounts/7", id="rshared"
    ),
    pytest.param(
        mounted(Mount(destination="/t", type="tmpfs", options=("ro", "size=1k"))),
        "SET_ATTR",
        ("/t", 0, 1, 0),
        "/mounts/7",
        id="tmpfs-read-only-last",
    ),
    pytest.param(
        mounted(Mount(destination="/dev/shm", options=("remount", "ro"))),
        "SET_ATTR",
        ("/dev/shm", 0, 1, 0),
        "/mounts/7",
        id="remount",
    ),
    pytest.param(
        mounted(Mount(destination="/proc", options=("nosuid",))),
        "SET_ATTR",
        ("/proc", 0, 2, 0),
        "/mounts/7",
        id="attributes-only",
    ),
    pytest.param(
        mounted(bind("/d", "/s", "idmap").replace(uid_mappings=WIDE, gid_mappings=WIDE)),
        "ID_MAPS",
        (0, b"0 100000 65536\n", b"0 100000 65536\n"),
        "/mounts/7",
        id="idmap",
    ),
    pytest.param(
        changed(linux={"devices": (Device(type="c", path="/dev/fuse", major=10, minor=229, uid=1, gid=2),)}),
        "MKNOD",
        ("/dev/fuse", 0o020666, 10 << 8 | 229, 1, 2),
        "/linux/devices/0",
        id="device",
    ),
    pytest.param(
        changed(linux={"devices": (Device(type="b", path="/dev/b", major=259, minor=70_000, file_mode=0o060600),)}),
        "MKNOD",
        ("/dev/b", 0o060600, 259 << 8 | 70_000 & 0xFF | (70_000 & ~0xFF) << 12, 0, 0),
        "/linux/devices/0",
        id="device-large-minor",
    ),
    pytest.param(
        changed(linux={"devices": (Device(type="p", path="/run/fifo", file_mode=0o640),)}),
        "MKNOD",
        ("/run/fifo", 0o010640, 0, 0, 0),
        "/linux/devices/0",
        id="fifo",
    ),
    pytest.param(changed(process={"cwd": "/a/../srv"}), "MKDIR_IN", ("/srv", 0o755, 0, 0), "/process/cwd", id="mkdir"),
    pytest.param(changed(process={"cwd": "/srv"}), "CHDIR", ("/srv",), "/process/cwd", id="cwd"),
    pytest.param(
        changed(linux={"sysctl": {"net.ipv4.ip_forward": "1"}}),
        "SYSCTL",
        ("net.ipv4.ip_forward", "1"),
        "/linux/sysctl/net.ipv4.ip_forward",
        id="sysctl",
    ),
    pytest.param(
        changed(linux={"masked_paths": ("/proc//keys",)}), "MASK", ("/proc/keys",), "/linux/maskedPaths/0", id="mask"
    ),
    pytest.param(
        changed(linux={"readonly_paths": ("/proc/sys",)}),
        "READ_ONLY",
        ("/proc/sys",),
        "/linux/readonlyPaths/0",
        id="read-only",
    ),
    pytest.param(
        changed(linux={"rootfs_propagation": "unbindable"}),
        "SET_PROPAGATION",
        ("/", 1 << 17),
        "/linux/rootfsPropagation",
        id="unbindable",
    ),
    pytest.param(
        changed(linux={"rootfs_propagation": "private"}),
        "PROPAGATION",
        ("/", 1 << 18 | 16384),
        "/linux/rootfsPropagation",
        id="private",
    ),
    pytest.param(
        changed(process={"terminal": True, "console_size": ConsoleSize(height=24, width=80), "user": User(uid=7)}),
        "TERMINAL",
        (24, 80, "", 7),
        "/process/terminal",
        id="terminal",
    ),
    pytest.param(
        changed(process={"rlimits": (Rlimit(type="RLIMIT_CORE", soft=0, hard=2**64 - 1),)}),
        "RLIMIT",
        (4, 0, 2**64 - 1),
        "/process/rlimits/0",
        id="rlimit",
    ),
    pytest.param(changed(process={"oom_score_adj": -5}), "OOM_SCORE", (-5,), "/process/oomScoreAdj", id="oom"),
    pytest.param(
        changed(process={"scheduler": Scheduler(policy="SCHED_FIFO", priority=3, flags=("SCHED_FLAG_RECLAIM",))}),
        "SCHEDULER",
        (bytes([48, 0, 0, 0, 1, 0, 0, 0, 2, *bytes(7), 0, 0, 0, 0, 3, 0, 0, 0, *bytes(24)]),),
        "/process/scheduler",
        id="scheduler",
    ),
    pytest.param(
        changed(process={"io_priority": IoPriority(io_class="IOPRIO_CLASS_BE", priority=4)}),
        "IO_PRIORITY",
        (2 << 13 | 4,),
        "/process/ioPriority",
        id="ioprio",
    ),
    pytest.param(
        changed(linux={"memory_policy": MemoryPolicy(mode="MPOL_BIND", nodes="0-1,3", flags=("MPOL_F_STATIC_NODES",))}),
        "MEMORY_POLICY",
        (2 | 1 << 15, 65, b"\x0b\0\0\0\0\0\0\0"),
        "/linux/memoryPolicy",
        id="memory-policy",
    ),
    pytest.param(
        changed(linux={"memory_policy": MemoryPolicy(mode="MPOL_LOCAL")}),
        "MEMORY_POLICY",
        (4, 0, b""),
        "/linux/memoryPolicy",
        id="memory-policy-local",
    ),
    pytest.param(
        changed(linux={"personality": Personality(domain="LINUX32")}),
        "PERSONALITY",
        (8,),
        "/linux/personality",
        id="personality",
    ),
    pytest.param(
        changed(process={"capabilities": Capabilities(bounding=("CAP_CHOWN", "CAP_BPF"))}),
        "CAPS_BOUND",
        (1 | 1 << 39,),
        "/process/capabilities/bounding",
        id="bounding",
    ),
    pytest.param(
        changed(
            process={
                "capabilities": Capabilities(
                    bounding=("CAP_KILL", "CAP_CHOWN"),
                    permitted=("CAP_KILL",),
                    effective=("CAP_KILL", "CAP_CHOWN"),
                    inheritable=("CAP_KILL", "CAP_BPF"),
                    ambient=("CAP_KILL", "CAP_CHOWN"),
                )
            }
        ),
        "CAPS",
        (32, 32, 32, 32),
        "/process/capabilities",
        id="only-what-the-kernel-takes",
    ),
    pytest.param(changed(process={"capabilities": None}), "CAPS", (0, 0, 0, 0), "/process/capabilities", id="no-caps"),
    pytest.param(
        changed(process={"user": User(uid=1, gid=2, additional_gids=(3, 70_000))}),
        "USER",
        (1, 2, b"\x03\0\0\0\x70\x11\x01\0"),
        "/process/user",
        id="user",
    ),
    pytest.param(changed(process={"user": User(umask=0o77)}), "UMASK", (0o77,), "/process/user/umask", id="umask"),
    pytest.param(changed(), "UMASK", (0o22,), "default", id="umask-default"),
    pytest.param(changed(), "NO_NEW_PRIVS", (), "/process/noNewPrivileges", id="no-new-privs"),
    pytest.param(changed(), "EXEC", ("true", ("true",), changed().process.env), "/process/args", id="exec"),  # type: ignore[union-attr]
    pytest.param(
        changed(linux={"namespaces": namespaces(*ALL, "time"), "time_offsets": {"boottime": TimeOffset(secs=-3)}}),
        "TIME",
        (b"boottime -3 0\n",),
        "/linux/timeOffsets",
        id="time",
    ),
    pytest.param(changed(linux=USERNS), "ROOT_IDS", (), "/linux/namespaces", id="userns-root"),
    pytest.param(
        changed(linux=USERNS),
        "MAP_IDS",
        (b"0 100000 65536\n", b"0 100000 65536\n", 0),
        "/linux/uidMappings",
        id="userns-maps",
    ),
    pytest.param(changed(linux=USERNS), "ROOT_TREE", (0, "/bundle/rootfs"), "/root/path", id="userns-root-tree"),
]


@pytest.mark.parametrize(("config", "name", "args", "cause"), MEMBERS)
def test_each_member_becomes_its_step(config: Config, name: str, args: tuple[object, ...], cause: str) -> None:
    assert (args, cause) in [(step.args, step.cause) for step in named(compiled(config), name)]


def test_labels_are_set_where_the_kernel_has_the_module() -> None:
    host = V2.replace(lsm=("apparmor", "selinux"))
    config = changed(process={"apparmor_profile": "p", "selinux_label": "l"}, linux={"mount_label": "m"})
    plan = compiled(config, host)
    assert [step.args for step in named(plan, "APPARMOR", "SELINUX")] == [("p",), ("l",)]
    data = {step.args[0]: step.args[4] for step in named(plan, "MOUNT")}
    assert data["tmpfs"] == 'mode=1777,size=65536k,context="m"'
    assert str(data["devpts"]).endswith(',context="m"')
    assert data["mqueue"] == data["sysfs"] == ""
    assert data["proc"] == ""


def test_an_unconfined_profile_needs_no_module() -> None:
    assert not named(compiled(changed(process={"apparmor_profile": "unconfined"})), "APPARMOR")


def test_standard_descriptors_are_the_roots_own_once_there_is_a_root() -> None:
    plan = compiled(changed())
    assert place_of(plan, "PIVOT") < place_of(plan, "OWN_NULL") < place_of(plan, "USER")
    assert not named(compiled(changed(process={"terminal": True})), "OWN_NULL")


# cgroups


def test_limits_are_written_before_there_is_a_process_and_removed_deepest_first() -> None:
    plan = compiled(changed(), cgroup=CGROUP)
    names = ("MKDIR", "WRITE", "OPEN", "ENTER_CGROUP_SLOT", "UNSHARE", "RMDIR")
    assert [(step.name, step.phase, step.args[:2]) for step in named(plan, *names)] == [
        ("MKDIR", BEFORE, ("/cg/a", 0o755)),
        ("MKDIR", BEFORE, ("/cg/a/b", 0o755)),
        ("WRITE", BEFORE, ("/cg/a/b/memory.max", b"1000")),
        ("OPEN", BEFORE, (0, "/cg/a/b/tasks")),
        ("ENTER_CGROUP_SLOT", CHILD, (0,)),
        ("UNSHARE", CHILD, (0x2000000,)),
        ("RMDIR", AFTER, ("/cg/a/b",)),
        ("RMDIR", AFTER, ("/cg/a",)),
    ]
    assert named(plan, "WRITE")[0].cause == "/linux/resources/memory/limit"


def test_on_v2_the_process_is_born_in_its_cgroup() -> None:
    plan = compiled(changed(), cgroup=CGROUP.replace(enter=(), clone_into="/cg/a/b", device_program=PROGRAM))
    (opened,), (cloned,) = named(plan, "OPEN"), named(plan, "CLONE")
    assert opened.args[1] == "/cg/a/b"
    assert cloned.args[1] == opened.args[0]
    assert not named(plan, "ENTER_CGROUP", "ENTER_CGROUP_SLOT")
    assert named(plan, "CGROUP_DEVICES")[0].args == ("/cg/a/b", PROGRAM)
    assert place_of(plan, "MKDIR") < place_of(plan, "OPEN") < place_of(plan, "CLONE")


def test_cgroups_on_v1_are_one_mount_a_hierarchy() -> None:
    found = [(step.name, step.args) for step in compiled(changed(), HYBRID).steps if step.cause == "/mounts/6"]
    flags = 2 | 4 | 8 | 1 << 21
    assert found[:3] == [
        ("MOUNT", ("tmpfs", "cgroup", "/sys/fs/cgroup", flags, "mode=755", 1)),
        ("MOUNT", ("cgroup", "cgroup", "/sys/fs/cgroup/memory", flags | 1, "memory", 1)),
        ("MOUNT", ("cgroup", "cgroup", "/sys/fs/cgroup/cpu,cpuacct", flags | 1, "cpu,cpuacct", 1)),
    ]
    assert ("SYMLINK", ("cpu,cpuacct", "/sys/fs/cgroup/cpu")) in found
    assert ("MOUNT", ("cgroup", "cgroup", "/sys/fs/cgroup/systemd", flags | 1, "none,name=systemd", 1)) in found
    assert ("MOUNT", ("cgroup2", "cgroup", "/sys/fs/cgroup/unified", flags | 1, "", 1)) in found
    assert found[-1] == ("SET_ATTR", ("/sys/fs/cgroup", 0, 1, 0))


def test_without_a_cgroup_namespace_only_the_own_directories_are_bound() -> None:
    config = changed(linux={"namespaces": namespaces("pid", "network", "ipc", "uts", "mount")})
    layout = CgroupLayout(enter=("/sys/fs/cgroup/memory/pyrkt/c",), clone_into="/sys/fs/cgroup/unified/pyrkt/c")
    binds = [step.args for step in named(compiled(config, HYBRID, cgroup=layout), "BIND")]
    assert ("/sys/fs/cgroup/memory/pyrkt/c", "/sys/fs/cgroup/memory", 0, 15, 0x70, 1) in binds
    assert ("/sys/fs/cgroup/unified/pyrkt/c", "/sys/fs/cgroup/unified", 0, 15, 0x70, 1) in binds
    unmoved = [step.args for step in named(compiled(config, HYBRID), "BIND")]
    assert ("/sys/fs/cgroup/unified/x", "/sys/fs/cgroup/unified", 0, 15, 0x70, 1) in unmoved


def test_without_a_cgroup_namespace_version_2_is_shown_as_the_host_has_it() -> None:
    """Only a user namespace, which may not mount that, gets the container's directory."""
    config = changed(linux={"namespaces": namespaces("pid", "network", "ipc", "uts", "mount")})
    layout = CgroupLayout(clone_into="/sys/fs/cgroup/pyrkt/c")
    plan = compiled(config, cgroup=layout)
    assert [step.args[2] for step in named(plan, "MOUNT") if step.args[0] == "cgroup2"] == ["/sys/fs/cgroup"]
    assert not named(plan, "BIND")
    binds = [step.args[:2] for step in named(compiled(config, USER, cgroup=layout), "BIND")]
    assert ("/sys/fs/cgroup/pyrkt/c", "/sys/fs/cgroup") in binds


def test_a_cgroup_mount_needs_a_hierarchy_on_the_host() -> None:
    with pytest.raises(InvalidSpec) as caught:
        compiled(changed(), V2.replace(cgroup_mounts=()))
    assert caught.value.where == "mounts[6]"


# namespaces


def test_a_cgroup_namespace_is_joined_by_who_is_in_the_cgroup() -> None:
    """Within it nobody could be cloned into a cgroup from outside of it, where version 2 is mounted with nsdelegate."""
    spaces = namespaces("mount", "pid", "uts", cgroup="/c", network="/n")
    joins = named(compiled(changed(linux={"namespaces": spaces}, mounts=())), "SETNS")
    assert {(step.args[1], step.phase) for step in joins} == {(0x2000000, CHILD), (0x40000000, BEFORE)}


@pytest.mark.parametrize(
    ("host", "order"),
    [
        pytest.param(V2, [0x40000000, 0x4000000, 0x10000000], id="root-user-last"),
        pytest.param(USER, [0x10000000, 0x40000000, 0x4000000], id="ordinary-user-first"),
    ],
)
def test_joins_namespaces_in_the_order_that_its_rights_allow(host: Any, order: list[int]) -> None:
    spaces = (*namespaces("mount", "pid"), *namespaces(user="/u", network="/n", uts="/t"))
    plan = compiled(changed(linux={"namespaces": spaces}, mounts=()), host)
    joins = named(plan, "SETNS")
    assert [step.args[1] for step in joins] == order
    assert {step.phase for step in joins} == {BEFORE}
    assert place_of(plan, "OPEN", last=True) < place_of(plan, "SETNS")
    assert all(int(str(step.args[2])) & os.O_NONBLOCK for step in named(plan, "OPEN"))  # of a fifo nobody writes to
    assert place_of(plan, "SETNS", last=True) < place_of(plan, "CLONE")
    assert named(plan, "CLONE")[0].args[0] == 0x20000 | 0x20000000


def test_a_cgroup_namespace_is_joined_by_who_is_in_the_cgroup_already() -> None:
    spaces = (*namespaces("mount", "uts"), *namespaces(network="/n", cgroup="/c"))
    plan = compiled(changed(linux={"namespaces": spaces}, mounts=()))
    joins = {step.args[1]: step.phase for step in named(plan, "SETNS")}
    assert joins == {0x40000000: BEFORE, 0x2000000: CHILD}


def test_a_namespace_that_is_not_named_is_the_callers() -> None:
    plan = compiled(changed(hostname="", linux={"namespaces": namespaces("mount")}))
    assert named(plan, "CLONE")[0].args == (0x20000, -1)
    assert not named(plan, "LOOPBACK", "UNSHARE", "SETNS", "MAP_IDS", "ROOT_IDS")


def test_an_ordinary_user_maps_one_id_by_itself_and_more_by_the_helpers() -> None:
    one = rootless(example_config(), 1000, 1000)
    assert named(compiled(one, USER), "MAP_IDS")[0].args == (b"0 1000 1\n", b"0 1000 1\n", 1)
    assert one.linux is not None
    ranges = (*one.linux.uid_mappings, IdMapping(container_id=1, host_id=100_000, size=65_536))
    many = one.replace(linux=one.linux.replace(uid_mappings=ranges, gid_mappings=ranges))
    assert [step.args[0] for step in named(compiled(many, USER), "MAP_HELPER")] == [
        ("newuidmap", "{pid}", "0", "1000", "1", "1", "100000", "65536"),
        ("newgidmap", "{pid}", "0", "1000", "1", "1", "100000", "65536"),
    ]
    assert one.process is not None
    groups = one.replace(process=one.process.replace(user=User(additional_gids=(1,))))
    with pytest.raises(InvalidSpec, match="cannot set any additional groups"):
        compiled(groups, USER)


def test_a_user_namespace_gets_the_hosts_devices_and_views() -> None:
    plan = compiled(rootless(example_config(), 1000, 1000), USER)
    fuse = rootless(changed(linux={"devices": (Device(type="c", path="/dev/fuse", major=10, minor=229),)}), 1000, 1000)
    assert ("/dev/fuse", "/dev/fuse", 0, 0, 0, 1) in [step.args for step in named(compiled(fuse, USER), "BIND")]
    binds = {step.args[1]: step.args[0] for step in named(plan, "BIND", "VOLUME")}
    assert binds["/dev/null"] == "/dev/null"
    assert binds["/sys"] == "/sys"
    assert not named(plan, "MKNOD", "MKDIR", "ENTER_CGROUP")
    shared = changed(hostname="", linux=USERNS | {"namespaces": namespaces("mount", "user")})
    fallback = {step.args[1]: step.args[0] for step in named(compiled(shared), "BIND")}
    assert fallback["/proc"] == "/proc"
    assert fallback["/sys"] == "/sys"
    assert fallback["/dev/mqueue"] == "/dev/mqueue"


def test_what_only_the_hosts_root_may_do_is_done_from_outside() -> None:
    config = changed(
        process={"oom_score_adj": -1, "rlimits": (Rlimit(type="RLIMIT_NOFILE", soft=1, hard=9),)}, linux=USERNS
    )
    assert [(s.name, s.phase, s.args) for s in named(compiled(config), "RLIMIT", "OOM_SCORE")] == [
        ("RLIMIT", PARENT, (7, 9, 9)),
        ("OOM_SCORE", PARENT, (-1,)),
        ("RLIMIT", CHILD, (7, 1, 9)),
    ]


def test_trees_opened_by_the_supervisor_are_cut_off_from_the_host() -> None:
    plan = compiled(mounted(bind(), linux=USERNS))
    names = [(step.name, step.args[0]) for step in plan.steps if step.cause == "/mounts/7"]
    assert names == [("OPEN_TREE", 1), ("VOLUME", "/srv"), ("SET_PROPAGATION", "/data")]
    shared = compiled(mounted(bind("/d", "/s", "rshared"), linux=SHARED))
    assert [s.args for s in named(shared, "SET_PROPAGATION")] == [("/d", 1 << 20 | 16384), ("/", 1 << 20 | 16384)]


def test_a_shared_bind_is_the_hosts_peer_only_if_the_root_may_be() -> None:
    plan = compiled(mounted(bind("/d", "/s", "rshared")))
    names = [(step.name, step.args[0]) for step in plan.steps if step.cause == "/mounts/7"]
    assert names == [("VOLUME", "/s"), ("SET_PROPAGATION", "/d")]


@pytest.mark.parametrize(
    ("lost", "deny"), [pytest.param(1 << 21, 0, id="CAP_SYS_ADMIN"), pytest.param(1 << 21 | 1 << 6, 1, id="CAP_SETGID")]
)
def test_root_without_cap_sys_admin_works_from_inside(lost: int, deny: int) -> None:
    weak = V2.replace(effective=ALL_CAPS & ~lost)
    plan = compiled(mounted(bind(), linux=USERNS), weak)
    assert not named(plan, "OPEN_TREE", "ROOT_TREE", "MAP_HELPER")
    (ids,) = named(plan, "MAP_IDS")
    assert ids.args[2] == deny


def test_when_descriptors_run_out_binds_are_made_inside() -> None:
    plan = compiled(mounted(*(bind(f"/d{n}") for n in range(140)), linux=USERNS))
    assert len(named(plan, "OPEN_TREE")) == 124
    assert len([s for s in named(plan, "VOLUME") if s.args[6] == -1]) == 140 - 123
    each = [(IdMapping(container_id=0, host_id=n, size=1),) for n in range(130)]
    many = mounted(*(bind(f"/d{n}", "/s").replace(uid_mappings=one, gid_mappings=one) for n, one in enumerate(each)))
    with pytest.raises(InvalidSpec, match="more than 128 descriptors"):
        compiled(many)


def test_options_that_a_bind_mount_cannot_have_are_a_warning() -> None:
    plan = compiled(mounted(bind("/a", "/b", "size=1")))
    (warning,) = plan.warnings
    assert warning.startswith(
        "mounts[7].options: bind mounts cannot have any filesystem-specific options applied: 'size=1'"
    )
    assert named(plan, "VOLUME")[-1].args[:2] == ("/b", "/a")


def test_old_kernels_are_told_apart() -> None:
    old = V2.replace(kernel=(4, 19))
    mapped = mounted(bind("/d", "/s", "idmap").replace(uid_mappings=WIDE, gid_mappings=WIDE))
    with pytest.raises(InvalidSpec, match=r"needs Linux 5\.12"):
        compiled(mapped, old)
    with pytest.raises(InvalidSpec, match=r"need Linux 5\.6"):
        compiled(changed(linux={"namespaces": namespaces(*ALL, "time")}), old)


# privileges


def test_capabilities_that_cannot_be_granted_are_a_warning() -> None:
    plan = compiled(changed(), V2.replace(bounding=ALL_CAPS & ~32))
    assert plan.warnings == ("process.capabilities: not granted, since the caller has no CAP_KILL",)
    assert named(plan, "CAPS_BOUND")[0].args == (1 << 10 | 1 << 29,)
    assert compiled(changed(linux=USERNS), V2.replace(bounding=0)).warnings == ()


def test_ambient_capabilities_that_cannot_be_raised_are_one_warning() -> None:
    sets = Capabilities(
        bounding=("CAP_KILL",), permitted=("CAP_KILL",), ambient=("CAP_CHOWN", "CAP_KILL", "CAP_FOWNER")
    )
    plan = compiled(changed(process={"capabilities": sets}))
    (warning,) = [line for line in plan.warnings if "ambient" in line]
    assert "can't raise ambient capability CAP_CHOWN: " in warning
    assert warning.endswith("; nor CAP_FOWNER CAP_KILL")
    assert named(plan, "CAPS")[0].args[3] == 0


def test_capabilities_that_nobody_knows_are_a_warning() -> None:
    sets = Capabilities(bounding=("CAP_KILL", "CAP_FLY"))
    plan = compiled(changed(process={"capabilities": sets}))
    assert plan.warnings == ("process.capabilities: ignoring unknown or unavailable capabilities: [CAP_FLY]",)


def test_a_filter_that_forbids_getcwd_does_not_hold_up_the_runtime() -> None:
    for privileged in (True, False):
        config = changed(linux={"seccomp": FILTER}, process={"no_new_privileges": not privileged})
        names = [step.name for step in compiled(config, seccomp=PROGRAM).steps]
        assert names.index("CHDIR") < names.index("SECCOMP")


def test_the_filter_is_loaded_while_it_may_be() -> None:
    late = compiled(changed(linux={"seccomp": FILTER}), seccomp=PROGRAM)
    assert named(late, "SECCOMP")[0].args == (2, PROGRAM)
    assert place_of(late, "NO_NEW_PRIVS") < place_of(late, "CLOSE_FDS") < place_of(late, "SECCOMP")
    config = changed(linux={"seccomp": FILTER}, process={"no_new_privileges": False})
    early = compiled(config, seccomp=PROGRAM)
    assert place_of(early, "SECCOMP") < place_of(early, "CAPS_BOUND")
    with pytest.raises(TypeError, match="needs its compiled filter"):
        compiled(config)


def test_an_agent_gets_the_listener_and_the_state() -> None:
    rule = Syscall(names=("mkdir",), action="SCMP_ACT_NOTIFY")
    profile = FILTER.replace(listener_path="/run/agent", listener_metadata="m", syscalls=(rule,))
    plan = compiled(changed(linux={"seccomp": profile}), place=Place(id="c"), seccomp=PROGRAM)
    assert named(plan, "CONNECT")[0].args == (0, "/run/agent")
    flags, program, slot, first, second, third = named(plan, "SECCOMP_AGENT")[0].args
    assert (flags, program, slot) == (2, PROGRAM, 0)
    assert isinstance(first, str)
    assert isinstance(second, bytes)
    assert isinstance(third, bytes)
    state = {"ociVersion": "1.3.0", "id": "c", "bundle": "/bundle"}
    outer = {"ociVersion": "1.3.0", "fds": ["seccompFd"], "metadata": "m", "pid": 7}
    text = first + "7" + second.decode() + "7" + third.decode()
    assert json.loads(text) == outer | {"state": state | {"pid": 7, "status": "creating"}}

    joined = compiled(changed(linux={"seccomp": profile}), place=Place(id="c", first_pid=5), seccomp=PROGRAM)
    *_, first, second, third = named(joined, "SECCOMP_AGENT")[0].args
    assert isinstance(second, bytes)
    assert third == b""
    running = outer | {"state": state | {"pid": 5, "status": "running"}}
    assert json.loads(f"{first!s}7{second.decode()}") == running


# hooks and the life around the container


def test_each_kind_of_hook_runs_at_its_moment() -> None:
    def hook(name: str) -> tuple[Hook, ...]:
        return (Hook(path="/" + name, timeout=3),)

    kinds = ("prestart", "create_runtime", "create_container", "start_container", "poststart", "poststop")
    config = changed(hooks=Hooks(**{kind: hook(kind) for kind in kinds}), annotations={"a": "b"})
    plan = compiled(config, place=Place(id="c"))
    hooks = named(plan, "HOOK")
    assert [(str(step.args[0])[1:], step.phase) for step in hooks] == [
        ("prestart", PARENT),
        ("create_runtime", PARENT),
        ("poststart", PARENT),
        ("create_container", CHILD),
        ("start_container", CHILD),
        ("poststop", AFTER),
    ]
    assert hooks[1].cause == "/hooks/createRuntime/0"
    assert hooks[0].args[1:4] == (("/prestart",), (), 3)
    assert hooks[4].args[2] == named(plan, "EXEC")[0].args[2]  # as runc: the program's, where it has none of its own
    assert hooks[0].args[5] == (
        b',"ociVersion":"1.3.0","id":"c","status":"created","bundle":"/bundle","annotations":{"a":"b"}}'
    )
    assert hooks[5].args[5] == b""
    met = [step.phase for step in named(plan, "MEET")]
    assert met == [PARENT, CHILD]
    assert place_of(plan, "MKNOD", last=True) < place_of(plan, "MEET", last=True) < place_of(plan, "PIVOT")
    waiting = compiled(config, place=Place(id="c", exec_fifo="/f"))
    assert not named(waiting, "STARTED")
    assert "poststart" not in [str(step.args[0])[1:] for step in named(waiting, "HOOK")]
    left = compiled(config, place=Place(id="c", foreground=False))
    assert not named(left, "STARTED")


@pytest.mark.parametrize(
    ("version", "lenient"), [("1.0.2-dev", True), ("1.2.1", True), ("1.3.0", False), ("1.10.0", False)]
)
def test_a_poststart_hook_may_fail_as_its_version_says(version: str, *, lenient: bool) -> None:
    config = changed(hooks=Hooks(poststart=(Hook(path="/h"),)), oci_version=version)
    plan = compiled(config)
    assert bool(named(plan, "LENIENT")) == lenient
    if lenient:
        assert place_of(plan, "STARTED") < place_of(plan, "LENIENT") < place_of(plan, "HOOK")


def test_what_is_written_around_the_container() -> None:
    place = Place(
        pid_file="/p",
        record_file="/r",
        exit_file="/e",
        after_unlink=("/u",),
        after_rmdir=("/d",),
        rename_after=("/from", "/to"),
        on_failure=("x", "failed"),
        keyring="_ses.c",
        preserve_fds=2,
    )
    plan = compiled(changed(), place=place)
    assert [(s.name, s.args) for s in plan.steps if s.phase in {PARENT, AFTER}] == [
        ("RECORD", ("/r",)),
        ("PID_FILE", ("/p",)),
        ("EXIT_FILE", ("/e",)),
        ("UNLINK", ("/u",)),
        ("RMDIR", ("/d",)),
        ("RENAME", ("/from", "/to")),
    ]
    assert plan.steps[0].args == (("x", "failed"),)
    assert named(plan, "KEYRING")[0].args == ("_ses.c",)
    assert named(plan, "CLOSE_FDS")[0].args == (5,)


def test_a_container_that_waits_or_is_left_has_nobody_to_clean_up() -> None:
    waiting = compiled(changed(), place=Place(foreground=False, exec_fifo="/f", exit_file="/e"))
    assert named(waiting, "WAIT_START")[0].args == ("/f", 0)
    joinable = compiled(rootless(example_config(), 1000, 1000), USER, place=Place(exec_fifo="/f"))
    assert named(joinable, "WAIT_START")[0].args == ("/f", 1)
    assert not [s for s in waiting.steps if s.phase == AFTER]
    assert not named(waiting, "LEAVE")
    left = compiled(changed(), place=Place(foreground=False), cgroup=CGROUP)
    assert left.steps[0].name == "LEAVE"
    assert not [s for s in left.steps if s.phase == AFTER]


def test_a_ramfs_root_cannot_be_pivoted_from() -> None:
    assert named(compiled(changed(), place=Place(no_pivot=True)), "CHROOT", "PIVOT")[0].name == "CHROOT"


def test_the_hosts_dev_is_left_as_it_is() -> None:
    plan = compiled(changed(mounts=(bind("/dev", "/dev"),)))
    assert not named(plan, "MKNOD", "SYMLINK")


def test_a_configured_device_stands_for_the_default_one() -> None:
    nodes = (
        Device(type="c", path="/dev/null", major=1, minor=3, file_mode=0o600),
        Device(type="c", path="/dev/ptmx", major=5, minor=2),
    )
    plan = compiled(changed(linux={"devices": nodes}))
    assert [s.args[1] for s in named(plan, "MKNOD") if s.args[0] == "/dev/null"] == [0o020600]
    assert not [s for s in named(plan, "MKNOD") if s.args[0] == "/dev/ptmx"]
    assert ("pts/ptmx", "/dev/ptmx") in [s.args for s in named(plan, "SYMLINK")]


def test_without_mknod_devices_are_the_hosts() -> None:
    plan = compiled(changed(), V2.replace(bounding=ALL_CAPS & ~(1 << 27)))
    assert not named(plan, "MKNOD")
    assert ("/dev/tty", "/dev/tty", 0, 0, 0, 1) in [s.args for s in named(plan, "BIND")]


def test_an_overlay_takes_the_place_of_the_root() -> None:
    overlay = OverlayRoot(lowers=("/l2", "/l1"), upper="/u", work="/w", volatile=True)
    plan = compiled(changed(), root=overlay)
    assert named(plan, "ROOT_OVERLAY")[0].args == ("/bundle/rootfs", ("/l2", "/l1"), "/u", "/w", 1)
    inside = compiled(rootless(example_config(), 1000, 1000), USER, root=overlay)
    assert named(inside, "ROOT_OVERLAY")[0].args[4] == 3


@pytest.mark.parametrize(
    ("flags", "value"),
    [
        pytest.param(None, 4, id="nothing-said"),
        pytest.param((), 0, id="none"),
        pytest.param(("SECCOMP_FILTER_FLAG_TSYNC",), 0, id="one-thread-needs-no-tsync"),
        pytest.param(("SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"), 6, id="both"),
    ],
)
def test_flags_of_the_filter_are_those_that_runc_sets(flags: tuple[str, ...] | None, value: int) -> None:
    profile = Seccomp(default_action="SCMP_ACT_ALLOW", flags=flags)
    assert named(compiled(changed(linux={"seccomp": profile}), seccomp=PROGRAM), "SECCOMP")[0].args[0] == value


@pytest.mark.parametrize(
    ("given", "taken", "home"),
    [
        pytest.param(("A=1", "B=2", "A=3"), ("B=2", "A=3"), True, id="the-last-counts"),
        pytest.param(("HOME=/x", "HOME="), (), True, id="no-empty-home"),
        pytest.param(("HOME=", "HOME=/x"), ("HOME=/x",), False, id="home"),
        pytest.param(("A=", "B=x=y"), ("A=", "B=x=y"), True, id="empty-is-a-value"),
    ],
)
def test_the_environment_is_what_runc_makes_of_it(
    given: tuple[str, ...], taken: tuple[str, ...], *, home: bool
) -> None:
    plan = compiled(changed(process={"env": given}))
    assert named(plan, "EXEC")[0].args[2] == taken
    assert bool(named(plan, "HOME")) == home


def test_sysctls_may_be_written_with_slashes() -> None:
    plan = compiled(changed(linux={"sysctl": {"net/ipv4/conf/eth0.1/forwarding": "1"}}))
    (step,) = named(plan, "SYSCTL")
    assert step.args == ("net.ipv4.conf.eth0/1.forwarding", "1")
    assert step.cause == "/linux/sysctl/net~1ipv4~1conf~1eth0.1~1forwarding"


def test_a_network_that_is_the_hosts_keeps_its_parameters() -> None:
    spaces = (*namespaces("mount", "uts"), *namespaces(network="/run/netns/x"))
    config = changed(linux={"namespaces": spaces, "sysctl": {"net.ipv4.ip_forward": "1"}})
    assert named(compiled(config), "SYSCTL")
    with pytest.raises(InvalidSpec, match=r'sysctl "net\.ipv4\.ip_forward" not allowed in host network namespace'):
        compiled(config, place=Place(host_network=True))


def test_network_devices_move_when_there_is_somebody_to_move_to() -> None:
    devices = {"eth0": NetDevice(), "eth1": NetDevice(name="inside")}
    plan = compiled(changed(linux={"net_devices": devices}))
    steps = named(plan, "NET_DEVICE")
    assert [(step.phase, step.args, step.cause) for step in steps] == [
        (PARENT, ("eth0", "eth0"), "/linux/netDevices/eth0"),
        (PARENT, ("eth1", "inside"), "/linux/netDevices/eth1"),
    ]
    with pytest.raises(InvalidSpec, match="not supported for rootless containers"):
        compiled(changed(linux={"net_devices": devices}), USER)


def test_the_group_in_resctrl_is_made_entered_and_removed() -> None:
    layout = ResctrlLayout(make=("/r/c",), write=(("/r/c/schemata", "L3:0=f\n"),), enter=("/r/c",), remove=("/r/c",))
    plan = compiled(changed(linux={"intel_rdt": IntelRdt()}), place=Place(resctrl=layout))
    mine = [(step.name, step.phase, step.args) for step in plan.steps if step.cause == "/linux/intelRdt"]
    assert mine == [
        ("MKDIR", BEFORE, ("/r/c", 0o755)),
        ("WRITE", BEFORE, ("/r/c/schemata", b"L3:0=f\n")),
        ("OPEN", BEFORE, (0, "/r/c/tasks", os.O_WRONLY | os.O_CLOEXEC)),
        ("ENTER_CGROUP_SLOT", PARENT, (0,)),
        ("RMDIR", AFTER, ("/r/c",)),
    ]


def test_a_container_without_a_process_is_set_up_and_holds() -> None:
    plan = compiled(changed().replace(process=None), place=Place(exec_fifo="/f", foreground=False))
    assert [step.name for step in plan.steps if step.phase == CHILD][-6:] == [
        *("CLOSE_FDS", "CAPS_BOUND", "CAPS", "NO_NEW_PRIVS", "HOLD", "EXEC"),
    ]
    assert not named(plan, "WAIT_START")


def test_every_processor_of_the_cgroup_whatever_the_caller_has() -> None:
    (step,) = named(compiled(changed(), cgroup=CGROUP), "AFFINITY")
    assert (step.phase, step.args) == (CHILD, (b"",))
