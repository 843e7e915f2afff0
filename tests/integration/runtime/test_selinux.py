"""Labels of security modules that this kernel does not run: an error, never a container with less than was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyrkt.kernel import host
from tests.support.running import executed_process, started

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(host.probe().lsm), reason="for kernels without such modules")]

LABEL = "system_u:system_r:container_t:s0:c4,c5"


@pytest.mark.parametrize(
    ("member", "label", "module"),
    [("selinuxLabel", LABEL, "selinux"), ("apparmorProfile", "pyrkt-test", "apparmor")],
)
def test_the_programs_label(runtime: Runtime, box: Bundle, member: str, label: str, module: str) -> None:
    box.config["process"][member] = label
    answer = runtime.run(box.save().path)
    assert answer.code == 1
    assert f"process.{member}: this kernel does not run {module}" in answer.err


@pytest.mark.parametrize(
    ("flag", "member", "label"), [("--process-label", "selinuxLabel", LABEL), ("--apparmor", "apparmorProfile", "x")]
)
def test_the_label_of_exec(runtime: Runtime, box: Bundle, flag: str, member: str, label: str) -> None:
    name = started(runtime, box)
    answer = runtime.call("exec", flag, label, name, "true")
    assert answer.code == 255
    assert f"process.{member}: this kernel does not run" in answer.err
    answer = executed_process(runtime, box.path, name, args=["true"], **{member: label})
    assert answer.code == 255
    assert f"process.{member}: this kernel does not run" in answer.err


def test_no_label_and_unconfined_need_no_module(runtime: Runtime, box: Bundle) -> None:
    box.config["process"] |= {"selinuxLabel": "", "apparmorProfile": "unconfined"}
    assert runtime.run(box.runs("true").path).code == 0
