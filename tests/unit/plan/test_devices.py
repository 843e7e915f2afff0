"""When the device rules are set: before there is a process, unless they forbid what the plan has to make."""

from __future__ import annotations

import pytest

from pyrkt.plan.steps import BEFORE, PARENT
from pyrkt.spec.runtime import Device
from pyrkt.spec.runtime_resources import DeviceRule, Resources
from tests.unit.plan.hosts import CGROUP, PROGRAM, V2, changed, compiled, named, place_of

KMSG = Device(type="c", path="/dev/log", major=1, minor=11)
NOTHING = DeviceRule(allow=False, access="rwm")
RULES = "linux.resources.devices"


def rule(access: str, **numbers: int) -> DeviceRule:
    return DeviceRule(allow=True, type="c", access=access, **numbers)


@pytest.mark.parametrize(
    ("device", "rules", "late"),
    [
        pytest.param(KMSG, (), False, id="no-rules"),
        pytest.param(KMSG, (NOTHING,), True, id="nothing-allowed"),
        pytest.param(KMSG, (NOTHING, rule("rw", major=1, minor=11)), True, id="to-be-used-only"),
        pytest.param(KMSG, (NOTHING, rule("rwm", major=1, minor=11)), False, id="allowed"),
        pytest.param(KMSG, (NOTHING, rule("m")), False, id="all-may-be-made"),
        pytest.param(KMSG, (NOTHING, rule("", major=1)), False, id="all-of-a-major"),
        pytest.param(KMSG, (NOTHING, rule("rwm", major=1, minor=10)), True, id="another"),
        pytest.param(KMSG.replace(type="u"), (NOTHING, rule("rwm", major=1, minor=-1)), False, id="unbuffered"),
        pytest.param(KMSG.replace(type="b"), (NOTHING, rule("rwm", major=1, minor=11)), True, id="another-kind"),
        pytest.param(KMSG, (rule("rwm"), NOTHING), True, id="the-last-one-counts"),
        pytest.param(KMSG.replace(type="p"), (NOTHING,), False, id="a-fifo-is-no-device"),
    ],
)
def test_rules_wait_for_the_nodes_that_they_forbid_to_make(
    device: Device, rules: tuple[DeviceRule, ...], late: bool
) -> None:
    layout = CGROUP.replace(
        write=(("/cg/a/b/memory.max", "1000", "linux.resources.memory.limit"), ("/cg/a/b/devices.deny", "a", RULES)),
        device_program=PROGRAM,
    )
    config = changed(linux={"devices": (device,), "resources": Resources(devices=rules)})
    plan = compiled(config, cgroup=layout)
    phases = {step.args[0]: step.phase for step in named(plan, "WRITE", "CGROUP_DEVICES")}
    expected = PARENT if late else BEFORE
    assert phases == {"/cg/a/b/memory.max": BEFORE, "/cg/a/b/devices.deny": expected, "/cg/a/b": expected}
    meetings = named(plan, "MEET")
    assert len(meetings) == (2 if late else 0)
    if late:
        assert place_of(plan, "MKNOD", last=True) < place_of(plan, "MEET", last=True) < place_of(plan, "PIVOT")


@pytest.mark.parametrize("kcore", [True, False])
def test_the_kernels_memory_has_a_link_where_it_can_be_seen(kcore: bool) -> None:
    links = [step.args for step in named(compiled(changed(), V2.replace(kcore=kcore)), "SYMLINK")]
    assert (("/proc/kcore", "/dev/core") in links) is kcore
