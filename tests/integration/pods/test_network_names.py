"""How names become addresses in a pod: resolv.conf, hosts and hostname by rkt's precedence, with real networks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.network import Host, host
from tests.support.pods import Pyrkt, make_layout

pytestmark = [pytest.mark.root, pytest.mark.peers]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with a network that names a server, and one that does not."""
    tool = Pyrkt(tmp_path_factory.mktemp("names"))
    tool.ok("fetch", f"oci:{make_layout(tool.base / 'layout')}:bb")
    with host(tool) as made:
        for name, dns in (("told", {"nameservers": ["10.55.0.53"], "search": ["pods.example.com"]}), ("silent", {})):
            made.describe(
                f"10-{name}.conf",
                {
                    "cniVersion": "0.4.0",
                    "name": name,
                    "type": "ptp",
                    "dns": dns,
                    "ipam": {"type": "host-local", "subnet": "10.55.0.0/24", "dataDir": f"{tool.base}/leases"},
                },
            )
        yield made
        assert tool.clean() == []
        assert made.leftovers() == []


@pytest.fixture
def image(there: Host) -> str:
    """The reference of the image."""
    return f"oci:{there.tool.base}/layout:bb"


def test_the_networks_servers(there: Host, image: str) -> None:
    out = there.tool.ok("run", "--net=told", image, "--", "cat", "/etc/resolv.conf")
    assert out == "search pods.example.com\nnameserver 10.55.0.53\n"
    # The same pod again, from a record: what the networks said is no part of it.
    there.describe(
        "10-told.conf",
        {
            "cniVersion": "0.4.0",
            "name": "told",
            "type": "ptp",
            "dns": {"nameservers": ["10.55.0.54"]},
            "ipam": {"type": "host-local", "subnet": "10.55.0.0/24", "dataDir": f"{there.tool.base}/leases"},
        },
    )
    out = there.tool.ok("run", "--net=told", image, "--", "cat", "/etc/resolv.conf")
    assert out == "nameserver 10.55.0.54\n"


def test_a_flag_beats_the_network(there: Host, image: str) -> None:
    words = ("--net=told", "--dns=244.244.244.244", "--dns-opt=debug")
    out = there.tool.ok("run", *words, image, "--", "cat", "/etc/resolv.conf")
    assert out == "nameserver 244.244.244.244\noptions debug\n"


def test_none_leaves_the_image_as_it_is(there: Host, image: str) -> None:
    answer = there.tool.call("run", "--net=told", "--dns=none", image, "--", "ls", "/etc/resolv.conf")
    assert answer.code == 1
    assert "No such file" in answer.err


def test_the_network_beats_a_volume_which_beats_the_rest(there: Host, image: str) -> None:
    own = there.tool.base / "own-resolv"
    own.write_text("nameserver 10.66.0.1\n")
    volume = (f"--volume=r,kind=host,source={own}", "--mount=volume=r,target=/etc/resolv.conf")
    script = ("--", "cat", "/etc/resolv.conf")
    assert "10.55.0.5" in there.tool.ok("run", "--net=told", *volume, image, *script)
    assert there.tool.ok("run", "--net=silent", *volume, image, *script) == own.read_text()
    assert there.tool.ok("run", "--net=told", "--dns=none", *volume, image, *script) == own.read_text()
    assert there.tool.ok("run", "--net=silent", "--dns=10.0.0.1", *volume, image, *script) == "nameserver 10.0.0.1\n"
    assert own.read_text() == "nameserver 10.66.0.1\n"


def test_the_hosts_own_file(there: Host, image: str) -> None:
    text = there.ok("cat", "/etc/resolv.conf")
    assert there.tool.ok("run", "--net=silent", "--dns=host", image, "--", "cat", "/etc/resolv.conf") == text


def test_hosts_and_hostname(there: Host, image: str) -> None:
    script = ("--", "sh", "-c", "cat /etc/hosts /etc/hostname; hostname; ping -c 1 db >/dev/null && echo reached")
    words = ("--net=silent", "--hostname=web", "--hosts-entry=127.0.0.7=db,10.0.0.1=cache")
    assert there.tool.ok("run", *words, image, *script).splitlines() == [
        "127.0.0.1\tlocalhost web",
        "::1\tlocalhost ip6-localhost ip6-loopback web",
        "127.0.0.7\tdb",
        "10.0.0.1\tcache",
        "web",
        "web",
        "reached",
    ]
    out = there.tool.ok("run", "--hosts-entry=host", image, "--", "cat", "/etc/hosts")
    assert out == there.ok("cat", "/etc/hosts")


def test_a_pod_without_a_name_is_named_after_its_uuid(there: Host, image: str) -> None:
    out = there.tool.ok("run", "--net=none", image, "--", "sh", "-c", "hostname; cat /etc/hostname").split()
    assert out[0] == out[1]
    assert out[0].startswith("pyrkt-")
