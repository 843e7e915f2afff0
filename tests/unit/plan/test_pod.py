"""Pods: one PID 1, shared namespaces, a root and cgroups an app."""

from __future__ import annotations

import pytest

from pyrkt.base.errors import InvalidSpec
from pyrkt.plan.compile import pod
from pyrkt.plan.place import Place, PodApp
from pyrkt.plan.steps import APP, CHILD
from pyrkt.spec.layout import OverlayRoot
from pyrkt.spec.runtime import (
    IdMapping,
)
from tests.unit.plan.hosts import (
    CGROUP,
    USERNS,
    V2,
    app,
    bind,
    changed,
    compiled,
    mounted,
    named,
    namespaces,
)


def test_a_pod_shares_its_namespaces_and_each_app_has_its_own_root() -> None:
    apps = (
        app(
            "web",
            rootfs=OverlayRoot(lowers=("/l",), upper="/u", work="/w"),
            cgroup=CGROUP,
            stdout="/log",
            stderr="/log",
        ),
        app("db", stdin="/dev/null", fatal=False),
    )
    plan = pod(apps, V2, Place(exit_dir="/status", keyring="k", grace_ms=5))
    assert named(plan, "CLONE")[0].args[0] == 0x20000 | 0x4000000 | 0x8000000 | 0x20000000 | 0x40000000
    assert [(s.args, s.phase) for s in named(plan, "APP")] == [
        (("web", 0x20000, 1), CHILD),
        (("db", 0x20000, 0), CHILD),
    ]
    assert [s.name for s in plan.steps if s.phase == CHILD][-2:] == ["ROOT_EMPTY", "INIT"]
    assert named(plan, "INIT")[0].args == (5,)
    assert [(s.args[1], s.args[2]) for s in named(plan, "OPEN")] == [("/log", 0o2002101), ("/dev/null", 0o2000000)]
    assert [s.args for s in named(plan, "STDIO")] == [(0, 1), (0, 2), (1, 0)]
    assert [s.phase for s in named(plan, "ENTER_CGROUP", "UNSHARE", "EXEC")] == [APP] * 5
    assert named(plan, "EXIT_FILE")[0].args == ("/status",)
    assert [s.args[0] for s in named(plan, "RMDIR")] == ["/cg/a/b", "/cg/a"]
    assert [s.phase for s in named(plan, "HOSTNAME", "LOOPBACK", "KEYRING")] == [CHILD] * 3


@pytest.mark.parametrize(
    ("apps", "problem"),
    [
        pytest.param((), "at least one app", id="none"),
        pytest.param((app("a"), app("a")), "the same name", id="twice"),
        pytest.param(
            (app("a"), app("b", changed(hostname="", linux={"namespaces": namespaces("mount")}))),
            "b differs from the first",
            id="other-namespaces",
        ),
        pytest.param(
            (
                app("a", changed(linux=USERNS)),
                app("b", changed(linux=USERNS | {"uid_mappings": (IdMapping(container_id=0, host_id=1, size=1),)})),
            ),
            "b differs from the first app",
            id="other-ids",
        ),
    ],
)
def test_refuses_a_pod_that_cannot_be_one(apps: tuple[PodApp, ...], problem: str) -> None:
    with pytest.raises(InvalidSpec, match=problem):
        pod(apps, V2, Place())


def test_what_an_apps_root_could_not_reach_is_opened_by_the_supervisor() -> None:
    plan = pod((app("a", mounted(bind(), linux=USERNS), cgroup=CGROUP.replace(clone_into="/v2")),), V2, Place())
    assert [s.args[1] for s in named(plan, "OPEN", "OPEN_TREE")] == [
        "/cg/a/b/tasks",
        "/v2/cgroup.procs",
        "/pod/a/rootfs",
        "/srv",
    ]
    assert [s.phase for s in named(plan, "ENTER_CGROUP_SLOT", "ROOT_TREE", "VOLUME")] == [APP] * 4


def test_the_hosts_views_are_bound_read_only_all_the_way_down() -> None:
    plan = compiled(changed(hostname="", linux=USERNS | {"namespaces": namespaces("mount", "user")}))
    assert [s.args for s in named(plan, "SET_ATTR") if s.args[0] == "/sys"] == [("/sys", 1, 15, 0)]
