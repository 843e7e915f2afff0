"""linux.sysctl: parameters of the container's own namespaces, and of no other."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.running import started

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


@pytest.mark.parametrize(
    ("name", "value", "path"),
    [
        ("net.ipv4.ip_forward", "1", "net/ipv4/ip_forward"),
        ("net/ipv4/conf/lo/forwarding", "1", "net/ipv4/conf/lo/forwarding"),
        ("fs.mqueue.msg_max", "11", "fs/mqueue/msg_max"),
        ("kernel.shmmni", "4097", "kernel/shmmni"),
        ("kernel.msgmax", "8191", "kernel/msgmax"),
        ("kernel.domainname", "example.com", "kernel/domainname"),
    ],
)
def test_in_the_containers_namespaces(runtime: Runtime, box: Bundle, name: str, value: str, path: str) -> None:
    before = Path("/proc/sys", path).read_text()
    box.config["linux"]["sysctl"] = {name: value}
    answer = runtime.run(box.runs("cat", f"/proc/sys/{path}").path)
    assert answer.out.strip() == value, answer.err
    assert Path("/proc/sys", path).read_text() == before


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("vm.swappiness", "is not in a separate kernel namespace"),
        ("kernel.core_pattern", "is not in a separate kernel namespace"),
        ("net/../vm/swappiness", "is not the name of a sysctl"),
        ("net.//.vm.swappiness", "is not the name of a sysctl"),
        ("kernel.hostname", "use hostname"),
        ("user.max_user_namespaces", "needs a user namespace"),
    ],
)
def test_those_of_the_host_are_refused(runtime: Runtime, box: Bundle, name: str, problem: str) -> None:
    box.config["linux"]["sysctl"] = {name: "1"}
    answer = runtime.run(box.save().path)
    assert answer.code == 1
    assert problem in answer.err


@pytest.mark.parametrize(("kind", "name"), [("ipc", "kernel.shmmni"), ("network", "net.ipv4.ip_forward")])
def test_a_namespace_that_is_the_hosts_keeps_its_own(runtime: Runtime, box: Bundle, kind: str, name: str) -> None:
    spaces = box.config["linux"]["namespaces"]
    box.config["linux"]["namespaces"] = [space for space in spaces if space["type"] != kind]
    box.config["linux"]["sysctl"] = {name: "1"}
    answer = runtime.run(box.save().path)
    assert answer.code == 1
    assert f"needs a {kind} namespace" in answer.err


def test_the_hosts_network_by_path_is_the_hosts(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    other = tmp_path / "net"
    other.touch()
    subprocess.run(["mount", "--bind", "/proc/self/ns/net", str(other)], check=True)
    try:
        for path in (f"/proc/{os.getpid()}/ns/net", str(other)):
            for space in box.config["linux"]["namespaces"]:
                if space["type"] == "network":
                    space["path"] = path
            box.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
            answer = runtime.run(box.save().path)
            assert answer.code == 1
            assert "not allowed in host network namespace" in answer.err
    finally:
        subprocess.run(["umount", str(other)], check=True)


def test_another_containers_network_by_path_is_not(runtime: Runtime, box: Bundle) -> None:
    first = started(runtime, box)
    for space in box.config["linux"]["namespaces"]:
        if space["type"] == "network":
            space["path"] = f"/proc/{runtime.state(first)['pid']}/ns/net"
    box.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
    assert runtime.run(box.runs("cat", "/proc/sys/net/ipv4/ip_forward").path).out == "1\n"
