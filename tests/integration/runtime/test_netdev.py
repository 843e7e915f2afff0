"""linux.netDevices: a device of the host goes into the container's network namespace, with all it has."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


def ip(*words: str) -> str:
    """Return what ip(8) prints."""
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def device(box: Bundle) -> Iterator[str]:
    """Return one end of a pair of devices; the other, which stays, takes it away wherever it is."""
    name, peer = f"pyr{os.getpid()}a", f"pyr{os.getpid()}b"
    ip("link", "add", name, "type", "veth", "peer", "name", peer)
    (box.rootfs / "bin/ip").symlink_to("busybox")
    box.config["linux"]["netDevices"] = {name: {}}
    yield name
    # with a network namespace its devices go, and with one end of a pair the other
    subprocess.run(["ip", "link", "del", peer], capture_output=True, check=False)


@pytest.fixture
def netns(box: Bundle) -> Iterator[str]:
    """Return the name of a network namespace that the container joins."""
    name = f"pyrkt-test-{os.getpid()}"
    ip("netns", "add", name)
    for space in box.config["linux"]["namespaces"]:
        if space["type"] == "network":
            space["path"] = f"/run/netns/{name}"
    yield name
    ip("netns", "del", name)


def test_it_moves_and_is_up(runtime: Runtime, box: Bundle, device: str) -> None:
    answer = runtime.run(box.runs("ip", "link", "show", "dev", device).path)
    assert answer.code == 0, answer.err
    assert f"{device}@" in answer.out
    assert ",UP" in answer.out
    assert not Path("/sys/class/net", device).exists()


def test_name_addresses_mtu_and_mac(runtime: Runtime, box: Bundle, device: str) -> None:
    ip("link", "set", "dev", device, "mtu", "1789", "address", "02:11:22:33:44:55", "up")
    for address in ("169.254.169.77/32", "10.99.1.2/24", "fd00:99::2/64"):
        ip("address", "add", address, "dev", device)
    for address in ("127.0.0.33/8", "10.99.2.2/24"):  # of the host, and for a time
        life = ("valid_lft", "600", "preferred_lft", "600") if address.startswith("10.") else ("scope", "host")
        ip("address", "add", address, "dev", device, *life)
    box.config["linux"]["netDevices"] = {device: {"name": "ctr0"}}
    answer = runtime.run(box.runs("ip", "address", "show", "dev", "ctr0").path)
    for text in ("ctr0@", " 169.254.169.77/32 ", " 10.99.1.2/24 ", " fd00:99::2/64 ", "mtu 1789 ", "02:11:22:33:44:55"):
        assert text in answer.out, answer
    for text in ("127.0.0.33", "10.99.2.2"):
        assert text not in answer.out


def test_into_a_namespace_that_is_joined_it_stays_there(runtime: Runtime, box: Bundle, device: str, netns: str) -> None:
    ip("address", "add", "10.99.1.2/24", "dev", device)
    box.config["linux"]["netDevices"] = {device: {"name": "ctr0"}}
    assert runtime.run(box.runs("ip", "address", "show", "dev", "ctr0").path).code == 0
    assert "inet 10.99.1.2/24" in ip("netns", "exec", netns, "ip", "address", "show", "dev", "ctr0")


def test_into_a_namespace_of_a_user_namespace(runtime: Runtime, box: Bundle, device: str) -> None:
    box.config["linux"]["namespaces"].append({"type": "user"})
    for kind in ("uidMappings", "gidMappings"):
        box.config["linux"][kind] = [{"containerID": 0, "hostID": 0, "size": 65536}]
    ip("address", "add", "10.99.1.2/24", "dev", device)
    answer = runtime.run(box.runs("ip", "address", "show", "dev", device).path)
    assert "10.99.1.2/24" in answer.out, answer.err


@pytest.mark.parametrize(
    ("devices", "problem"),
    [
        ({"pyrktnodev": {}}, "moving the network device pyrktnodev into the container as pyrktnodev"),
        ({"a/b": {}}, "cannot be the name of a network device"),
        ({"eth0": {"name": "a b"}}, "cannot be the name of a network device"),
        ({"eth0": {"name": "x" * 16}}, "cannot be the name of a network device"),
        ({"x" * 16: {}}, "cannot be the name of a network device"),
    ],
)
def test_what_is_refused(runtime: Runtime, box: Bundle, devices: dict[str, dict[str, str]], problem: str) -> None:
    box.config["linux"]["netDevices"] = devices
    answer = runtime.run(box.save().path)
    assert answer.code == 1
    assert problem in answer.err


def test_without_a_network_namespace_it_is_refused(runtime: Runtime, box: Bundle) -> None:
    spaces = box.config["linux"]["namespaces"]
    box.config["linux"]["namespaces"] = [space for space in spaces if space["type"] != "network"]
    box.config["linux"]["netDevices"] = {"lo": {}}
    answer = runtime.run(box.save().path)
    assert answer.code == 1
    assert "unable to move network devices without a NET namespace" in answer.err


def test_a_name_that_is_taken_leaves_the_device_where_it_was(runtime: Runtime, box: Bundle, device: str) -> None:
    ip("link", "set", "dev", device, "up")
    ip("address", "add", "10.99.1.2/24", "dev", device)
    box.config["linux"]["netDevices"] = {device: {"name": "lo"}}
    answer = runtime.run(box.save().path)
    assert answer.code == 1
    assert "has a device of that name" in answer.err
    shown = ip("address", "show", "dev", device)
    assert ",UP" in shown
    assert "10.99.1.2/24" in shown
