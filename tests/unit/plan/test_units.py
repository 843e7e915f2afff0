"""A container in a unit of systemd: who holds the unit, until when, and what is left to systemd at the end."""

from __future__ import annotations

from pyrkt.plan import explain
from pyrkt.plan.steps import AFTER, BEFORE, PARENT
from pyrkt.spec.layout import CgroupLayout
from tests.unit.plan.hosts import HYBRID, changed, compiled

SCOPE = "/sys/fs/cgroup/system.slice/a-b.scope"
UNIT = CgroupLayout(
    write=((f"{SCOPE}/pids.max", "2", "linux.resources.pids.limit"),),
    remove=(SCOPE,),
    clone_into=SCOPE,
    kill=(f"{SCOPE}/cgroup.kill",),
    driver="systemd",
    unit="a-b.scope",
    bus="system",
    managed=(SCOPE,),
    late=((f"{SCOPE}/pids.max", "1", "linux.resources.pids.limit"),),
)


def test_the_holder_leaves_once_the_first_process_is_in() -> None:
    found = [(step.name, step.args) for step in compiled(changed(), cgroup=UNIT).steps if step.phase == PARENT]
    assert found[:2] == [("LET_GO", ()), ("WRITE", (f"{SCOPE}/pids.max", b"1"))]


def test_the_unit_is_not_made_nor_removed_by_us() -> None:
    plan = compiled(changed(), cgroup=UNIT)
    assert not [step for step in plan.steps if step.name == "MKDIR" and step.phase == BEFORE]
    ends = [(step.name, step.args) for step in plan.steps if step.phase == AFTER]
    assert ends[0] == ("WRITE", (f"{SCOPE}/cgroup.kill", b"1"))
    assert not [step for step in ends if step[0] == "RMDIR" and step[1] == (SCOPE,)]


def test_in_version_1_alone_the_process_is_put_where_systemd_looks() -> None:
    named, pids = "/sys/fs/cgroup/systemd/system.slice/a-b.scope", "/sys/fs/cgroup/pids/system.slice/a-b.scope"
    layout = UNIT.replace(
        clone_into="",
        kill=(),
        make=(pids,),
        enter=(named, pids),
        remove=(named, pids),
        managed=(named,),
        late=(),
        write=(),
    )
    plan = compiled(changed(), host=HYBRID, cgroup=layout)
    found = [(step.name, step.args) for step in plan.steps if step.phase == PARENT]
    assert found[:2] == [("ENTER_CGROUP", (named,)), ("LET_GO", ())]
    ends = [(step.name, step.args) for step in plan.steps if step.phase == AFTER]
    assert ("RMDIR", (pids,)) in ends
    assert ("RMDIR", (named,)) not in ends


def test_a_slice_has_no_holder() -> None:
    plan = compiled(changed(), cgroup=UNIT.replace(unit="a.slice", late=()))
    assert not [step for step in plan.steps if step.name == "LET_GO"]


def test_the_holder_is_explained() -> None:
    assert any("held the scope" in line for line in explain.lines(compiled(changed(), cgroup=UNIT)))
