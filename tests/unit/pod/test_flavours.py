"""What a flavour makes of a configuration, and the plan of an app that another runtime makes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pyrkt.base.errors import InvalidSpec, UsageError
from pyrkt.bundle.assemble import Bundle
from pyrkt.plan.place import Place
from pyrkt.plan.steps import AFTER, BEFORE, CHILD, PARENT, decode, encode
from pyrkt.pod import flavours
from pyrkt.pod.ask import App, PodAsk
from pyrkt.pod.flavour import FLAVOUR, Flavour, read_flavour
from pyrkt.spec import steps
from pyrkt.spec.layout import OverlayRoot
from pyrkt.spec.runtime import Config, DeviceRule, Linux, Mount, Namespace, Process, Resources, Root
from tests.unit.plan.hosts import V2 as HOST

UUID = "00000000-0000-4000-8000-000000000001"
HOME = f"/data/pods/run/{UUID}/apps/web"
CRUN = Flavour(name="crun", program="/usr/bin/crun")
RUNSC = Flavour(name="runsc", program="/usr/bin/runsc")
KINDS = ("pid", "network", "ipc", "uts", "mount", "cgroup")
ROOT = OverlayRoot(lowers=("/b", "/a"), upper=f"{HOME}/upper", work=f"{HOME}/work", volatile=True, userxattr=True)
HYBRID = (("/sys/fs/cgroup/pids", "rw,pids", "/"), ("/sys/fs/cgroup/unified", "", "/"))


def config(netns: str = "", kinds: tuple[str, ...] = KINDS) -> Config:
    spaces = tuple(Namespace(type=kind, path=netns if kind == "network" else "") for kind in kinds)
    return Config(
        oci_version="1.0.2",
        root=Root(path="rootfs"),
        process=Process(cwd="/", args=("true",), no_new_privileges=True),
        hostname="pyrkt",
        mounts=(
            Mount(destination="/proc", type="proc", source="proc"),
            Mount(destination="/dev", type="tmpfs", source="tmpfs"),
            Mount(destination="/etc/hosts", type="bind", source="files/hosts", options=("rbind",)),
            Mount(destination="/v", type="bind", source="/host", options=("bind",)),
        ),
        linux=Linux(
            namespaces=spaces,
            sysctl={"kernel.shm_rmid_forced": "1"},
            cgroups_path=f"/pyrkt-{UUID}/web",
            resources=Resources(devices=(DeviceRule(allow=False, access="rwm"),)),
        ),
    )


def plan(flavour: Flavour, given: Config, part: str = "plan") -> list[tuple[str, int, tuple[object, ...]]]:
    whose = flavours.Whose(home=HOME, part=part)
    found = flavours.plan(flavour, given, whose, ROOT, Place(member=True, gate=True), HOST)
    assert decode(encode(found), found.causes) == found
    return [(step.name, step.phase, step.args) for step in found.steps]


def test_the_pods_namespaces_have_names_and_nothing_is_relative() -> None:
    found = flavours.handed(CRUN, config(), HOME)
    assert found.linux is not None
    paths = {each.type: each.path for each in found.linux.namespaces}
    assert paths == {
        **{kind: f"{HOME}/ns/{kind}" for kind in ("pid", "network", "ipc", "uts")},
        "mount": "",
        "cgroup": "",
    }
    assert found.root is not None
    assert found.root.path == f"{HOME}/rootfs"
    assert [mount.source for mount in found.mounts][2:] == [f"{HOME}/files/hosts", "/host"]
    # These are the pod's, which PID 1 has set already.
    assert (found.hostname, found.linux.sysctl) == ("", {})


@pytest.mark.parametrize(
    ("netns", "kinds", "path", "flag"),
    [
        pytest.param("", KINDS, "", "none", id="none"),
        pytest.param("/run/netns/x", KINDS, f"{HOME}/ns/network", "sandbox", id="cni"),
        pytest.param("", tuple(kind for kind in KINDS if kind != "network"), None, "host", id="host"),
    ],
)
def test_gvisor_has_all_of_its_own_but_networks(
    netns: str, kinds: tuple[str, ...], path: str | None, flag: str
) -> None:
    found = flavours.handed(RUNSC, config(netns, kinds), HOME)
    assert found.linux is not None
    paths = {each.type: each.path for each in found.linux.namespaces}
    assert paths.pop("network", None) == path
    assert set(paths.values()) == {""}
    assert found.hostname == "pyrkt"
    assert ("EXEC", CHILD) in {(name, phase) for name, phase, _ in plan(RUNSC, config(netns, kinds))}
    words = next(args[1] for name, _, args in plan(RUNSC, config(netns, kinds)) if name == "EXEC")
    assert isinstance(words, tuple)
    assert f"--network={flag}" in words


def test_the_plan_of_an_app() -> None:
    found = plan(CRUN, config())
    names = [(name, phase) for name, phase, _ in found]
    state, bundle, name = f"/data/pods/run/{UUID}/runtime", f"{HOME}/bundles/main", f"pyrkt-{UUID}-web"
    run = ("/usr/bin/crun", "--root", state, "run", "--bundle", bundle, name)
    delete = ("/usr/bin/crun", "--root", state, "delete", "--force", name)
    assert names[:2] == [("MEMBER", BEFORE), ("CLONE", BEFORE)]
    assert [args[1] for step, _, args in found if step == "EXEC"] == [run]
    assert [(phase, args[1]) for step, phase, args in found if step == "HOOK"] == [(PARENT, delete), (AFTER, delete)]
    binds = [args[:2] for step, _, args in found if step == "BIND"]
    assert binds == [
        ("/proc/self/fd/101", f"{HOME}/ns/pid"),
        ("/proc/self/fd/104", f"{HOME}/ns/network"),
        ("/proc/self/fd/102", f"{HOME}/ns/ipc"),
        ("/proc/self/fd/103", f"{HOME}/ns/uts"),
    ]
    # The names of the namespaces are the host's, so they come before the root; nothing stays open for the runtime.
    order = [step for step, phase in names if phase == CHILD]
    assert order.index("PROPAGATION") < order.index("BIND") < order.index("ROOT_OVERLAY") < order.index("CLOSE_FDS")
    assert order[-2:] == ["CLOSE_FDS", "EXEC"]
    assert next(args[0] for step, _, args in found if step == "CLOSE_FDS") == 3
    assert "SETSID" in order


def test_a_handler_is_a_container_of_its_own() -> None:
    words = next(args[1] for name, _, args in plan(CRUN, config(), "pre-start.plan") if name == "EXEC")
    assert isinstance(words, tuple)
    assert words[-2:] == (f"{HOME}/bundles/pre-start", f"pyrkt-{UUID}-web-pre-start")


def test_signals_reach_gvisor_by_a_program() -> None:
    assert not [name for name, _, _ in plan(CRUN, config()) if name == "TELL"]
    ((_, phase, args),) = [step for step in plan(RUNSC, config()) if step[0] == "TELL"]
    assert phase == BEFORE
    assert isinstance(args[0], tuple)
    assert args[0][-3:] == ("kill", f"pyrkt-{UUID}-web", "{signal}")


def test_crun_sees_no_second_version_of_cgroups() -> None:
    for flavour, mounts, hidden in (
        (CRUN, HYBRID, 1),
        (CRUN, HYBRID[1:], 0),
        (CRUN, HYBRID[:1], 0),
        (RUNSC, HYBRID, 0),
    ):
        whose = flavours.Whose(home=HOME, part="plan")
        found = flavours.plan(flavour, config(), whose, None, Place(), HOST.replace(cgroup_mounts=mounts))
        assert sum(step.code == steps.MOUNT for step in found.steps) == hidden


def test_a_terminal_needs_the_callers_session() -> None:
    given = config()
    assert given.process is not None
    found = plan(CRUN, given.replace(process=given.process.replace(terminal=True)))
    assert "SETSID" not in [name for name, _, _ in found]


def test_fly() -> None:
    bundle = flavours.composed(Flavour(name="fly"), Bundle(config=config()))
    found = bundle.config
    assert found.linux is not None
    assert [each.type for each in found.linux.namespaces] == ["network", "mount"]
    assert (found.hostname, found.linux.sysctl) == ("", {})
    assert found.linux.resources is not None
    assert found.linux.resources.devices == ()
    assert found.linux.cgroups_path
    assert found.process is not None
    assert found.process.no_new_privileges is False
    assert [mount.destination for mount in found.mounts] == ["/dev", "/proc", "/sys", "/tmp", "/etc/hosts", "/v"]
    own = replace(bundle, config=found.replace(mounts=(*found.mounts[4:], Mount(destination="/tmp", type="bind"))))
    again = flavours.composed(Flavour(name="fly"), own).config
    assert [mount.destination for mount in again.mounts].count("/tmp") == 1
    assert flavours.composed(Flavour(), bundle) is bundle


@pytest.mark.parametrize(
    ("name", "apps", "more", "said"),
    [
        ("fly", 2, {}, "for a pod of one app"),
        ("runsc", 2, {}, "for a pod of one app"),
        ("fly", 1, {"private_users": True}, "exclude each other"),
        ("runsc", 1, {"interactive": True}, "relays no terminal"),
        ("fly", 1, {}, ""),
        ("native", 2, {"private_users": True}, ""),
    ],
)
def test_what_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, apps: int, more: dict[str, bool], said: str
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    flavour = Flavour(name=name, program="/usr/bin/runsc" if name == "runsc" else "")
    ask = PodAsk(apps=(App(image="x"),) * apps, flavour=flavour).replace(**more)
    if not said:
        flavours.check(ask)
        return
    with pytest.raises(UsageError, match=said):
        flavours.check(ask)


@pytest.mark.parametrize("flavour", [Flavour(), Flavour(name="fly"), CRUN, Flavour(name="runc", program="/a b/runc")])
def test_a_pod_remembers_its_flavour(tmp_path: Path, flavour: Flavour) -> None:
    assert read_flavour(str(tmp_path)) == Flavour()
    (tmp_path / FLAVOUR).write_text(flavour.text())
    assert read_flavour(str(tmp_path)) == flavour


@pytest.mark.parametrize("text", ["", "crun\n", "native /bin/sh\n", "what\n"])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FLAVOUR).write_text(text)
    with pytest.raises(InvalidSpec):
        read_flavour(str(tmp_path))
