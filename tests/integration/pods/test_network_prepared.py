"""Pods that were prepared for one network and are run in another, with other names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.network import Host, host, until
from tests.support.pods import Pyrkt, make_layout

pytestmark = [pytest.mark.root, pytest.mark.peers]
SCRIPT = "ls /sys/class/net; cat /etc/hosts; hostname; cat /etc/hostname; cat /etc/resolv.conf 2>/dev/null; true"


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with a store that has one image; checks at the end that nothing stayed."""
    tool = Pyrkt(tmp_path_factory.mktemp("prepared"))
    tool.ok("fetch", f"oci:{make_layout(tool.base / 'layout')}:bb")
    with host(tool) as made:
        yield made
        assert tool.clean() == []
        assert made.leftovers() == []


@pytest.fixture
def image(there: Host) -> str:
    """The reference of the image."""
    return f"oci:{there.tool.base}/layout:bb"


def run(there: Host, image: str, prepare: tuple[str, ...], then: tuple[str, ...], script: str = SCRIPT) -> list[str]:
    uuid = there.tool.ok("prepare", *prepare, image, "--", "sh", "-c", script).strip()
    out = there.tool.ok("run-prepared", *then, uuid).replace(uuid, "UUID").splitlines()
    assert there.leftovers() == []
    return out


def test_the_network_is_that_of_run_prepared(there: Host, image: str) -> None:
    out = run(there, image, (), ("--net=default:IP=172.16.28.99", "--dns=10.0.0.53"))
    assert out[:2] == ["eth0", "lo"]
    assert out[2] == "127.0.0.1\tlocalhost pyrkt-UUID"
    assert out[-1] == "nameserver 10.0.0.53"


def test_from_a_network_to_none_and_to_the_hosts(there: Host, image: str) -> None:
    assert run(there, image, ("--net=default",), ("--net=none",))[0:2] == ["lo", "127.0.0.1\tlocalhost pyrkt-UUID"]
    script = "readlink /proc/self/ns/net; wget -q -O - $AC_METADATA_URL/acMetadata/v1/pod/uuid; cat /etc/resolv.conf"
    out = run(there, image, ("--net=default",), ("--net=host",), script)
    assert out[0] == there.ok("readlink", "/proc/self/ns/net").strip()
    assert out[1].startswith("UUID"), "the metadata service is where the variable says"
    assert there.ok("cat", "/etc/resolv.conf").strip().splitlines()[0] in "\n".join(out)


def test_from_the_hosts_network_to_one_of_its_own(there: Host, image: str) -> None:
    out = run(there, image, ("--net=host",), ("--net=default",))
    assert out[:3] == ["eth0", "lo", "127.0.0.1\tlocalhost pyrkt-UUID"]


def test_names_of_both(there: Host, image: str) -> None:
    prepare = ("--net=default", "--hosts-entry=10.0.0.1=db", "--dns=10.0.0.53")
    out = run(there, image, prepare, ("--hostname=web", "--dns-search=example.com", "--dns=10.0.0.54"))
    assert out[2:] == [
        "127.0.0.1\tlocalhost web",
        "::1\tlocalhost ip6-localhost ip6-loopback web",
        "10.0.0.1\tdb",
        "web",
        "web",
        "search example.com",
        "nameserver 10.0.0.54",
    ]


def test_ports_are_prepared_and_published_in_the_end(there: Host, image: str) -> None:
    serve = "mkdir /tmp/www && cd /tmp/www && hostname >index.html && exec httpd -f -p 80"
    uuid = there.tool.ok("prepare", "--port=80-tcp:8080", image, "--", "sh", "-c", serve).strip()
    process = there.tool.popen("run-prepared", "--net=default", "--hostname=web", uuid)
    try:
        assert until(lambda: there.ask("127.0.0.1", 8080, send="GET / HTTP/1.0\r\n\r\n")) == "web\n"
    finally:
        there.tool.ok("stop", uuid)
        process.communicate(timeout=60)
    answer = there.tool.call("prepare", "--net=host", "--port=80-tcp:8080", image, "--", "true")
    assert answer.code == 2
    uuid = there.tool.ok("prepare", "--port=80-tcp:8080", image, "--", "true").strip()
    answer = there.tool.call("run-prepared", "--net=none", uuid)
    assert answer.code == 0
    assert "the pod's ports are not published: its network is none" in answer.err


def test_a_user_namespace(there: Host, image: str) -> None:
    out = run(there, image, ("--private-users",), ("--net=default",), "ip -o -4 a show eth0")
    assert "172.16.28." in out[-1]
    out = run(there, image, ("--private-users", "--net=default"), ("--net=host",), "readlink /proc/self/ns/net")
    assert out == [there.ok("readlink", "/proc/self/ns/net").strip()]


def test_a_network_that_is_described_only_when_it_starts(there: Host, image: str) -> None:
    uuid = there.tool.ok("prepare", "--net=later", image, "--", "ls", "/sys/class/net").strip()
    assert there.tool.call("run-prepared", uuid).code == 66
    ipam = {"type": "host-local", "subnet": "10.95.0.0/24", "dataDir": f"{there.tool.base}/leases"}
    there.describe("10-later.conf", {"cniVersion": "0.4.0", "name": "later", "type": "ptp", "ipam": ipam})
    assert there.tool.ok("run-prepared", uuid).split() == ["eth0", "eth1", "lo"]
