"""The compiler's mounts: what each kind becomes, who opens what, and what is left for the end."""

from __future__ import annotations

import pytest

from pyrkt.base.errors import InvalidSpec
from pyrkt.plan.place import Place
from pyrkt.plan.steps import AFTER, BEFORE, CHILD, PARENT
from pyrkt.spec.runtime import IdMapping, Mount
from tests.unit.plan.hosts import USERNS, V2, WIDE, bind, changed, compiled, mounted, named, namespaces, place_of

REC, PRIVATE, SLAVE, SHARED = 1 << 14, 1 << 18, 1 << 19, 1 << 20
JOINED = {"namespaces": namespaces("mount", "pid", "network", "ipc", "uts", "cgroup", user="/proc/7/ns/user")}
HOSTS = {"namespaces": namespaces("pid", "uts"), "masked_paths": (), "readonly_paths": ()}


def tmpfs(*options: str, destination: str = "/t", kind: str = "tmpfs") -> Mount:
    return Mount(destination=destination, type=kind, source=kind, options=options)


@pytest.mark.parametrize(
    ("mount", "name", "args"),
    [
        pytest.param(tmpfs("nosuid"), "MOUNT", ("tmpfs", "tmpfs", "/t", 2, "", 3), id="tmpfs-takes-the-mode"),
        pytest.param(tmpfs("tmpcopyup"), "MOUNT", ("tmpfs", "tmpfs", "/t", 0, "", 4), id="tmpcopyup"),
        pytest.param(tmpfs(kind="ramfs"), "MOUNT", ("ramfs", "ramfs", "/t", 0, "", 1), id="ramfs"),
        pytest.param(tmpfs("remount", "size=1"), "REMOUNT", ("/t", 0, "size=1"), id="remount-data"),
        pytest.param(tmpfs("remount", "sync", "nolazytime"), "REMOUNT", ("/t", 16, "nolazytime"), id="remount-flags"),
        pytest.param(tmpfs("remount", "rw", "dev"), "SET_ATTR", ("/t", 0, 0, 5), id="remount-attributes"),
        pytest.param(bind("/t", "/s", "remount", "ro"), "SET_ATTR", ("/t", 0, 1, 0), id="remount-bind"),
        pytest.param(
            bind("/bundle/rootfs/x", "/s"), "VOLUME", ("/s", "/x", 1, 0, 0, 0, -1, -1), id="destination-on-the-host"
        ),
        pytest.param(bind("/a/..", "/s"), "VOLUME", ("/s", "/", 1, 0, 0, 0, -1, -1), id="on-the-root"),
        pytest.param(
            Mount(destination="/t", source="v", options=("bind", "noexec")),
            "VOLUME",
            ("/bundle/v", "/t", 0, 8, 0, 0x200007, -1, -1),
            id="bind-without-a-type",
        ),
    ],
)
def test_each_kind_of_mount(mount: Mount, name: str, args: tuple[object, ...]) -> None:
    assert (args, "/mounts/7") in [(step.args, step.cause) for step in named(compiled(mounted(mount)), name)]


def test_what_is_read_only_in_the_end_becomes_so_after_the_terminal() -> None:
    dev = tuple(m.replace(options=(*m.options, "ro")) if m.destination == "/dev" else m for m in mounted().mounts)
    plan = compiled(changed(mounts=(*dev, tmpfs("ro")), process={"terminal": True}))
    frozen = [s.args for s in plan.steps if s.name == "SET_ATTR" and s.args[2] == 1]
    assert frozen[-2:] == [("/dev", 0, 1, 0), ("/t", 0, 1, 0)]
    assert place_of(plan, "TERMINAL") < place_of(plan, "SET_ATTR", last=True) < place_of(plan, "ROOT_READ_ONLY")


def test_in_a_user_namespace_the_supervisor_lends_what_may_be_out_of_reach() -> None:
    own = bind("/c", "/bundle/rootfs/a")
    plan = compiled(mounted(bind("/a", "/srv"), own, bind("/b", "/s", "rw"), linux=USERNS))
    assert [s.args[1] for s in named(plan, "OPEN_TREE")] == ["/bundle/rootfs", "/srv", "/s"]
    assert [s.args[2:] for s in named(plan, "VOLUME")] == [
        (9, 0, 0, 0, 1, -1),
        (9, 0, 0, 0, -1, -1),
        (9, 0, 1, 0x20000E, 2, -1),
    ]


def test_maps_are_made_once_and_applied_by_whom_the_kernel_lets() -> None:
    other = (IdMapping(container_id=0, host_id=5, size=1),)
    each = [bind(f"/{n}", "/s", *words) for n, words in enumerate(((), ("idmap",), ("ridmap",), ()))]
    each = [mount.replace(uid_mappings=WIDE, gid_mappings=WIDE) for mount in each[:3]]
    each.append(bind("/3", "/s").replace(uid_mappings=other, gid_mappings=WIDE))
    plan = compiled(mounted(*each))
    assert [(s.phase, s.args) for s in named(plan, "ID_MAPS")] == [
        (BEFORE, (0, b"0 100000 65536\n", b"0 100000 65536\n")),
        (BEFORE, (1, b"0 5 1\n", b"0 100000 65536\n")),
    ]
    assert [(s.args[2], s.args[7]) for s in named(plan, "VOLUME")] == [(1, 0), (1, 0), (3, 0), (1, 1)]
    inside = compiled(mounted(*each, linux=USERNS))
    assert [s.args[2] for s in named(inside, "VOLUME")] == [25, 25, 27, 25]


def test_a_joined_user_namespace_gives_its_maps_by_itself() -> None:
    plan = compiled(mounted(bind("/a", "/s", "idmap"), bind("/b", "/s", "ridmap"), linux=JOINED))
    opened = {s.args[0] for s in named(plan, "OPEN") if s.cause == "/mounts/7"}
    assert {s.args[7] for s in named(plan, "VOLUME")} == opened
    assert len(opened) == 1
    assert not named(plan, "ID_MAPS")


def test_an_ordinary_user_maps_no_ids_of_files() -> None:
    weak = V2.replace(euid=1000, egid=1000)
    with pytest.raises(InvalidSpec, match="not supported for rootless containers"):
        compiled(mounted(bind("/a", "/s", "idmap"), linux=USERNS), weak)


def test_owners_of_a_devpts_that_nobody_is_are_left_out() -> None:
    few = (IdMapping(container_id=0, host_id=1000, size=5),)
    plan = compiled(changed(linux=USERNS | {"gid_mappings": few, "uid_mappings": few}))
    (data,) = [str(s.args[4]) for s in named(plan, "MOUNT") if s.args[0] == "devpts"]
    assert "gid=" not in data
    assert "mode=0620" in data
    assert not [line for line in plan.warnings if "gid=5" in line]
    kept = compiled(changed(linux=USERNS))
    assert any("gid=5" in str(s.args[4]) for s in named(kept, "MOUNT"))


def test_a_path_is_masked_once() -> None:
    plan = compiled(changed(linux={"masked_paths": ("/a", "/b", "/a/", "/b/../a")}))
    assert [s.args[0] for s in named(plan, "MASK")] == ["/a", "/b"]


@pytest.mark.parametrize("no_pivot", [False, True])
def test_without_a_mount_namespace_the_host_is_left_as_it_was(no_pivot: bool) -> None:
    plan = compiled(changed(hostname="", linux=HOSTS), place=Place(no_pivot=no_pivot))
    assert not named(plan, "PROPAGATION", "PIVOT", "CHROOT", "ROOT_BIND")
    assert [(s.name, s.phase, s.args) for s in named(plan, "OPEN_TREE", "ROOT_TREE", "SET_PROPAGATION", "DETACH")] == [
        ("OPEN_TREE", BEFORE, (0, "/bundle/rootfs", 3)),
        ("ROOT_TREE", CHILD, (0, "/bundle/rootfs")),
        ("SET_PROPAGATION", CHILD, ("/", PRIVATE | REC)),
        ("DETACH", AFTER, (0,)),
    ]
    assert named(plan, "CHROOT_INTO")[0].args == (-1,)
    assert not [s for s in plan.steps if s.phase == PARENT and s.name == "ROOT_TREE"]


@pytest.mark.parametrize(
    ("linux", "problem"),
    [
        (HOSTS | {"masked_paths": ("/a",)}, "unable to restrict sys entries without a private MNT namespace"),
        (HOSTS | {"readonly_paths": ("/a",)}, "unable to restrict sys entries without a private MNT namespace"),
        (HOSTS | USERNS | {"namespaces": namespaces("pid", "uts", "user")}, "a mount namespace is required"),
    ],
)
def test_what_needs_a_mount_namespace_is_refused(linux: dict[str, object], problem: str) -> None:
    with pytest.raises(InvalidSpec, match=problem):
        compiled(changed(hostname="", linux=linux))


def test_a_shared_volume_stays_a_peer_of_the_hosts_where_the_root_is_shared() -> None:
    plan = compiled(mounted(bind("/v", "/s", "rshared"), linux={"rootfs_propagation": "rshared"}))
    assert [s.args[2:] for s in named(plan, "VOLUME")] == [(5, 0, 0, 0, 0, -1)]
    assert [s.args for s in named(plan, "SET_PROPAGATION")] == [("/v", SHARED | REC), ("/", SHARED | REC)]
    alone = compiled(mounted(bind("/v", "/s", "rslave")))
    assert [s.args for s in named(alone, "SET_PROPAGATION")] == [("/v", SLAVE | REC)]
