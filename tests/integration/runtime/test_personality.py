"""linux.personality, personality(2): what uname(2) says the machine is."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.running import executed, started

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root

NATIVE = platform.machine()
COMPAT = {"x86_64": "i686", "aarch64": "armv8l"}[NATIVE]


@pytest.mark.parametrize(("domain", "machine"), [("LINUX", NATIVE), ("LINUX32", COMPAT)])
def test_the_program_and_exec_have_it(runtime: Runtime, box: Bundle, domain: str, machine: str) -> None:
    (box.rootfs / "bin/uname").symlink_to("busybox")
    box.config["linux"]["personality"] = {"domain": domain, "flags": []}
    box.config["process"]["args"] = ["sh", "-c", "uname -m > /dev/shm/machine; sleep 300"]
    name = started(runtime, box)
    assert executed(runtime, name, "uname", "-m").strip() == machine
    assert executed(runtime, name, "cat", "/dev/shm/machine").strip() == machine


def test_a_filter_that_forbids_the_call_comes_after_it(runtime: Runtime, box: Bundle) -> None:
    (box.rootfs / "bin/uname").symlink_to("busybox")
    box.config["linux"]["personality"] = {"domain": "LINUX32"}
    box.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_ERRNO"}],
    }
    for allowed in (True, False):
        box.config["process"]["noNewPrivileges"] = allowed
        assert runtime.run(box.runs("uname", "-m").path).out.strip() == COMPAT


@pytest.mark.parametrize("personality", [{"domain": "SVR4"}, {"domain": "LINUX", "flags": ["X"]}, {}])
def test_what_is_refused(runtime: Runtime, box: Bundle, personality: dict[str, Any]) -> None:
    box.config["linux"]["personality"] = personality
    answer = runtime.run(box.save().path)
    assert answer.code == 1
    assert "linux.personality." in answer.err
