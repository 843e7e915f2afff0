"""Pods: what all apps share is one plan, each app is a container that joins it."""

from __future__ import annotations

import struct

import pytest

from pyrkt.plan import explain
from pyrkt.plan.compile import joining_sandbox, sandbox
from pyrkt.plan.place import SAYS_READY, Place, PodApp, Policy
from pyrkt.plan.steps import AFTER, BEFORE, CHILD, PARENT
from pyrkt.spec.layout import CgroupLayout
from tests.unit.plan.hosts import CGROUP, USERNS, V2, bind, changed, compiled, mounted, named, namespaces

POD = CgroupLayout(make=("/cg/a",), remove=("/cg/a",))


def test_the_sandbox_holds_the_namespaces_and_knows_the_apps() -> None:
    apps = (
        PodApp(name="web", plan=201, pre_start=200, policy=Policy(restart=2, delay_ms=5)),
        PodApp(name="db", plan=202, post_stop=203, policy=Policy(ends=0)),
    )
    place = Place(exit_dir="/status", keyring="k", grace_ms=5, control="/c", supervisor_file="/s", record_file="/p")
    plan = sandbox(changed(), apps, V2, place, (POD, CGROUP))
    assert named(plan, "CLONE")[0].args[0] == 0x20000 | 0x4000000 | 0x8000000 | 0x20000000 | 0x40000000
    assert named(plan, "POD")[0].args == ("/c", "/s", 0, 5)
    assert [step.args[:4] for step in named(plan, "POD_APP")] == [("web", 200, 201, -1), ("db", -1, 202, 203)]
    assert struct.unpack("<4I2q", named(plan, "POD_APP")[0].args[4]) == (1, 2, 0, 0, 5, 10_000)  # type: ignore[arg-type]
    assert [s.name for s in plan.steps if s.phase == CHILD][-2:] == ["ROOT_EMPTY", "INIT"]
    assert not named(plan, "EXEC", "MOUNT", "ENTER_CGROUP", "USER")
    assert [s.phase for s in named(plan, "HOSTNAME", "LOOPBACK", "KEYRING")] == [CHILD] * 3
    assert [s.args[0] for s in named(plan, "MKDIR")] == ["/cg/a"]
    assert named(plan, "EXIT_FILE")[0].args == ("/status",)
    assert [s.args[0] for s in named(plan, "RMDIR")] == ["/cg/a/b", "/cg/a", "/cg/a"]


def test_an_app_joins_what_is_shared_and_makes_the_rest() -> None:
    config = joining_sandbox(changed(linux={"sysctl": {"net.ipv4.ip_forward": "1"}}))
    place = Place(member=True, gate=True)
    plan = compiled(config, place=place, cgroup=CGROUP)
    assert [s.args[1] for s in named(plan, "OPEN") if "fd" in str(s.args[1])] == [
        f"/proc/self/fd/{number}" for number in (101, 104, 102, 103)
    ]
    assert named(plan, "CLONE")[0].args[0] == 0x20000
    assert named(plan, "UNSHARE")[0].args == (0x2000000,)
    assert not named(plan, "HOSTNAME", "LOOPBACK", "SYSCTL")
    assert named(plan, "MEMBER")[0].phase == BEFORE
    assert [s.phase for s in named(plan, "MEET", "GATE")] == [PARENT, PARENT, CHILD]
    assert [s.name for s in plan.steps].index("GATE") < [s.name for s in plan.steps].index("PIVOT")


@pytest.mark.parametrize("kinds", [("mount",), ("mount", "uts"), ("mount", "pid", "ipc", "uts", "cgroup")])
def test_what_the_pod_has_from_the_host_nobody_joins(kinds: tuple[str, ...]) -> None:
    config = changed(hostname="", linux={"namespaces": namespaces(*kinds)})
    joined = [n.type for n in joining_sandbox(config).linux.namespaces if n.path]  # type: ignore[union-attr]
    assert joined == [kind for kind in kinds if kind not in {"mount", "cgroup"}]


def test_a_network_that_is_there_already_is_joined_by_the_sandbox() -> None:
    config = changed(linux={"namespaces": (*namespaces("mount", "pid", "uts"), *namespaces(network="/run/netns/x"))})
    plan = sandbox(config, (), V2, Place())
    assert [s.args[1] for s in named(plan, "OPEN")] == ["/run/netns/x"]
    assert not named(plan, "LOOPBACK")


def test_programs_for_the_pods_networks_are_told_the_pid_before_it_begins_and_run_when_all_has_ended() -> None:
    place = Place(record_file="/pid", join_run=("/bin/net", "up"), after_run=("/bin/net", "down"), exit_dir="/status")
    plan = sandbox(changed(), (), V2, place, (POD,))
    join, after = named(plan, "HOOK")
    assert (join.phase, join.args[:2], join.args[4:]) == (PARENT, ("/bin/net", ("/bin/net", "up")), ('{"pid":', b"}"))
    assert (after.phase, after.args[:2], after.args[4:]) == (AFTER, ("/bin/net", ("/bin/net", "down")), ("{}", b""))
    names = [step.name for step in plan.steps]
    assert names.index("RECORD") < names.index("HOOK"), "should it be killed meanwhile, gc knows whom to end"
    assert plan.steps[-1] is after, "the cgroups are gone by then"


def test_what_an_apps_root_could_not_reach_is_opened_by_the_supervisor() -> None:
    config = joining_sandbox(mounted(bind(), linux=USERNS))
    plan = compiled(config, cgroup=CGROUP.replace(clone_into="/v2"))
    opened = [s.args[1] for s in named(plan, "OPEN", "OPEN_TREE") if "fd" not in str(s.args[1])]
    assert opened == ["/v2", "/cg/a/b/tasks", "/bundle/rootfs", "/srv"]
    assert [s.phase for s in named(plan, "ROOT_TREE", "VOLUME")] == [CHILD] * 2
    assert not named(plan, "MAP_IDS")


def test_the_hosts_views_are_bound_read_only_all_the_way_down() -> None:
    plan = compiled(changed(hostname="", linux=USERNS | {"namespaces": namespaces("mount", "user")}))
    assert [s.args for s in named(plan, "SET_ATTR") if s.args[0] == "/sys"] == [("/sys", 1, 15, 0)]


def test_an_app_gets_the_sockets_of_its_ports_while_they_are_open() -> None:
    plan = compiled(changed(), place=Place(listen=((80, False), (0x1234, True))))
    assert [step.args for step in named(plan, "LISTEN")] == [(b"\x50\x00\x00\x00\x34\x12\x01\x00",)]
    names = [step.name for step in plan.steps]
    assert names.index("CLONE") < names.index("LISTEN") < names.index("CLOSE_FDS")
    assert any("take the sockets at 80/tcp 4660/udp" in line for line in explain.lines(plan))
    assert not named(compiled(changed()), "LISTEN")


def test_a_policy_says_that_the_app_tells_when_it_is_ready() -> None:
    policy = Policy(ends=1 | SAYS_READY)
    plan = sandbox(changed(), (PodApp(name="a", plan=200, policy=policy),), V2, Place(control="/c"))
    (line,) = [line for line in explain.lines(plan) if "app a" in line]
    assert "its failure ends the pod, says when it is ready" in line
