"""Networks of pods, with the plugins that Debian packages, on a host of the tests' own: rkt's list of what works."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.support.network import Host, host
from tests.support.pods import Pyrkt, make_layout

pytestmark = [pytest.mark.root, pytest.mark.peers]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with a store that has one image; checks at the end that nothing stayed."""
    tool = Pyrkt(tmp_path_factory.mktemp("net"))
    tool.ok("fetch", f"oci:{make_layout(tool.base / 'layout')}:bb")
    with host(tool) as made:
        yield made
        assert tool.clean() == []
        assert made.leftovers() == []


@pytest.fixture
def image(there: Host) -> str:
    """The reference of the image."""
    return f"oci:{there.tool.base}/layout:bb"


def test_the_default_network_is_a_link_to_the_host_and_a_default_route(there: Host, image: str) -> None:
    out = there.tool.ok(
        "run", "--net", image, "--", "sh", "-c", "ip -o -4 a show eth0; ip r; ip -o a show lo; ls /sys/class/net"
    )
    assert re.search(r"eth0 +inet 172\.16\.28\.\d+/24", out)
    assert "default via 172.16.28.1 dev eth0" in out
    assert "inet 127.0.0.1/8" in out
    assert out.split()[-2:] == ["eth0", "lo"]
    assert there.leftovers() == []


def test_the_restricted_network_has_the_host_only(there: Host, image: str) -> None:
    out = there.tool.ok("run", "--net=default-restricted", image, "--", "sh", "-c", "ip r; ping -c 1 172.31.0.1")
    assert "default" not in out
    assert "172.31.0.1" in out
    assert "1 packets received" in out


def test_a_pod_of_none_has_lo_alone_and_one_of_host_the_hosts(there: Host, image: str) -> None:
    assert there.tool.ok("run", "--net=none", image, "--", "ls", "/sys/class/net").split() == ["lo"]
    inside = there.tool.ok("run", "--net=host", image, "--", "readlink", "/proc/self/ns/net")
    assert inside == there.ok("readlink", "/proc/self/ns/net")


def test_an_unknown_network_is_named_and_nothing_is_left(there: Host, image: str) -> None:
    before = there.tool.pods()
    answer = there.tool.call("run", "--net=nosuch", image, "--", "true")
    assert answer.code == 66
    assert "networks not found: nosuch" in answer.err
    assert "failed to setup network" in answer.err
    assert there.tool.pods() == before
    assert there.leftovers() == []


def test_list_and_status_show_the_address(there: Host, image: str) -> None:
    uuid = there.tool.detached("--net=default:IP=172.16.28.77", image, "--", "sleep", "1000")
    try:
        assert "default:ip4=172.16.28.77" in there.tool.ok("list")
        (network,) = there.tool.pod(uuid)["networks"]
        assert network == {
            "netName": "default",
            "netConf": "",
            "pluginPath": "/usr/lib/cni/ptp",
            "ifName": "eth0",
            "ip": "172.16.28.77",
            "args": "IP=172.16.28.77",
            "mask": "255.255.255.0",
        }
        info = json.loads((there.tool.directory(uuid) / "net-info.json").read_text())
        assert info == [network]
        # Nobody else gets it, and the one who wanted it does not start.
        second = there.tool.call("run", "--net=default:IP=172.16.28.77", image, "--", "true")
        assert second.code == 125
        assert "failed to setup network default" in second.err
        assert "172.16.28.77" in second.err
    finally:
        there.tool.ok("stop", "--force", uuid)
    assert there.leftovers() == []
