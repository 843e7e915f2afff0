"""pidfd, process, namespaces: which process it is, and what it may do."""

from __future__ import annotations

import os
import subprocess

import pytest

from pyrkt.base.errors import KernelError
from pyrkt.kernel import namespaces, pidfd, process


def test_pidfd_signals_waits_and_reads_the_code() -> None:
    child = subprocess.Popen(["sleep", "60"])
    held = pidfd.open(child.pid)
    try:
        assert not pidfd.wait(held, 0.01)
        assert pidfd.send_signal(held, 15)
        assert pidfd.exit_code(held) == 128 + 15
        assert not pidfd.send_signal(held, 15)
    finally:
        child.returncode = -15  # reaped above, behind its back
        os.close(held)


def test_exit_code_of_a_child_that_exits() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    held = pidfd.open(pid)
    assert pidfd.wait(held)
    assert pidfd.exit_code(held) == 7
    os.close(held)


def test_start_time_names_the_living_only() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        first = process.start_time(child.pid)
        assert first > 0
        assert process.start_time(child.pid) == first
    finally:
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert process.start_time(child.pid) == 0
        child.wait()
    assert process.start_time(child.pid) == 0


def test_capabilities_are_those_of_proc() -> None:
    masks = process.capabilities()
    assert set(masks) == {"inheritable", "permitted", "effective", "bounding", "ambient"}
    assert masks["effective"] & ~masks["permitted"] == 0
    assert 1 << process.last_cap() >= masks["bounding"] >> 1


def test_namespace_identity_and_support() -> None:
    assert set(namespaces.FLAGS) == set(namespaces.FILES)
    assert namespaces.supported("mount")
    assert namespaces.identity("self", "mount") == namespaces.identity(os.getpid(), "mount")
    assert namespaces.identity("self", "mount") != namespaces.identity("self", "uts")


def test_a_failing_call_names_itself_and_its_object() -> None:
    with pytest.raises(KernelError) as caught:
        namespaces.unshare(1)
    assert caught.value.errno == 22
    assert "unshare(0x1)" in caught.value.message
    with pytest.raises(KernelError):
        namespaces.enter(-1, "mount")
