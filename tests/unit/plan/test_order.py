"""The laws of the order: what holds of the plan of every container and of every app."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pyrkt.plan import explain
from pyrkt.plan.compile import joining_sandbox, sandbox
from pyrkt.plan.draft import pointer
from pyrkt.plan.place import Place, PodApp
from pyrkt.plan.steps import CHILD, Plan, decode, encode
from pyrkt.spec.layout import CgroupLayout
from pyrkt.spec.runtime import (
    Config,
    Hook,
    Hooks,
    Root,
)
from pyrkt.spec.steps import TABLE
from tests.unit.plan.hosts import (
    CGROUP,
    FILTER,
    HYBRID,
    PROGRAM,
    V2,
    WIDE,
    changed,
    compiled,
    namespaces,
)

NAMESPACE_SETS = st.lists(st.sampled_from(["pid", "network", "ipc", "uts", "cgroup", "time"]), unique=True, max_size=6)


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """Draw a config that compiles, with what makes the order differ."""
    kinds = draw(NAMESPACE_SETS)
    user = draw(st.booleans())
    extra: dict[str, Any] = {"namespaces": namespaces("mount", *kinds, *(["user"] if user else []))}
    if user:
        extra |= {"uid_mappings": WIDE, "gid_mappings": WIDE}
    if draw(st.booleans()):
        extra["seccomp"] = FILTER
    hook = (Hook(path="/h"),)
    hooks = draw(st.sampled_from([None, Hooks(prestart=hook, start_container=hook), Hooks(poststop=hook)]))
    return changed(
        hostname="h" if "uts" in kinds else "",
        hooks=hooks,
        root=Root(path="r", readonly=draw(st.booleans())),
        linux=extra,
        process={"no_new_privileges": draw(st.booleans()), "terminal": draw(st.booleans())},
    )


PLACES = st.sampled_from(
    [Place(), Place(foreground=False), Place(exec_fifo="/f", foreground=False, pid_file="/p"), Place(no_pivot=True)]
)


def laws(plan: Plan, phase: int) -> None:
    """Check the order within the steps of one process."""
    names = [step.name for step in plan.steps if step.phase == phase]

    def before(first: str, second: str) -> None:
        if first in names and second in names:
            last = len(names) - 1 - names[::-1].index(first)
            assert last < names.index(second), f"{first} after {second}"

    root_steps = (
        "ROOT_BIND",
        "ROOT_OVERLAY",
        "ROOT_TREE",
        "MOUNT",
        "BIND",
        "VOLUME",
        "MKNOD",
        "SYMLINK",
        "MKDIR_IN",
        "SYSCTL",
    )
    turn = "PIVOT" if "PIVOT" in names else "CHROOT"
    for name in (*root_steps, "MASK", "READ_ONLY"):
        before(name, turn)
    for name in ("MOUNT", "BIND", "VOLUME", "MKNOD"):
        before(name, "MASK")
        before(name, "READ_ONLY")
    before("READ_ONLY", "MASK")
    before("PROPAGATION", "ROOT_BIND")
    before("ROOT_IDS", "PROPAGATION")
    before(turn, "TERMINAL")
    before("TERMINAL", "ROOT_READ_ONLY")
    before(turn, "USER")
    before("CAPS_BOUND", "USER")
    before("CHDIR", "USER")
    before("CLOSE_FDS", "SECCOMP")
    before("USER", "CAPS")
    before("CAPS", "NO_NEW_PRIVS")
    before("CLOSE_FDS", "WAIT_START")
    before("SECCOMP", "WAIT_START")
    before("NO_NEW_PRIVS", "EXEC")
    if "NO_NEW_PRIVS" in names:
        before("NO_NEW_PRIVS", "SECCOMP")
    else:
        before("SECCOMP", "CAPS_BOUND")
    assert names[-1] == "EXEC"
    assert names.count("EXEC") == names.count("USER") == names.count("CAPS") == names.count(turn) == 1


def check_table(plan: Plan) -> None:
    """Check what holds of every plan: phases, slots, bytes."""
    opened: set[object] = set()
    for step in plan.steps:
        name, kinds, phases = TABLE[step.code]
        assert phases >> step.phase & 1, f"{name} in phase {step.phase}"
        assert len(step.args) == len(kinds)
        assert step.cause == "default" or step.cause.startswith("/")
        if name in {"OPEN", "OPEN_TREE", "CONNECT", "ID_MAPS"}:
            assert step.args[0] not in opened
            assert 0 <= int(str(step.args[0])) < 128
            opened.add(step.args[0])
        if name == "OPEN":
            assert int(str(step.args[2])) & 0o2000000, "not closed on exec"
        if name in {"SETNS", "STDIO", "ROOT_TREE", "DETACH", "ENTER_CGROUP_SLOT"}:
            assert step.args[0] in opened
        if name == "VOLUME":
            assert {step.args[6], step.args[7]} <= {-1} | opened
    assert decode(encode(plan), plan.causes).steps == tuple(
        step.replace(args=tuple(-1 if arg == 2**64 - 1 else arg for arg in step.args)) for step in plan.steps
    )
    assert len(explain.lines(plan)) > len(plan.steps)
    assert len(explain.as_json(plan)) == len(plan.steps)


@given(configs(), PLACES, st.sampled_from([V2, HYBRID]), st.sampled_from([CgroupLayout(), CGROUP]))
def test_the_order_holds_in_every_container(config: Config, place: Place, host: Any, cgroup: CgroupLayout) -> None:
    program = PROGRAM if config.linux and config.linux.seccomp else b""
    plan = compiled(config, host, place, cgroup=cgroup, seccomp=program)
    laws(plan, CHILD)
    check_table(plan)


@given(configs(), st.sampled_from([V2, HYBRID]))
def test_the_order_holds_in_every_app_of_a_pod(config: Config, host: Any) -> None:
    program = PROGRAM if config.linux and config.linux.seccomp else b""
    place = Place(member=True, gate=True)
    plan = compiled(joining_sandbox(config), host, place, cgroup=CGROUP, seccomp=program)
    laws(plan, CHILD)
    check_table(plan)
    check_table(sandbox(config, (PodApp(name="a", plan=200),), host, Place(exit_dir="/e"), (CGROUP, CGROUP)))


def test_places_become_pointers() -> None:
    assert pointer("linux.resources.blockIO.weightDevice[0].weight") == "/linux/resources/blockIO/weightDevice/0/weight"
    assert pointer("/a") == "/a"
    assert pointer("default") == "default"
