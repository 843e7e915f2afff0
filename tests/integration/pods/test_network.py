"""Networks of pods, with the plugins that Debian packages, on a host of the tests' own: rkt's list of what works."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyrkt.net.plugin import PLACES
from tests.support.network import OUTSIDE, Host, host, until
from tests.support.pods import Pyrkt, make_aci, make_layout

pytestmark = [pytest.mark.root, pytest.mark.peers]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with a store that has one image; checks at the end that nothing stayed."""
    tool = Pyrkt(tmp_path_factory.mktemp("net"))
    tool.ok("fetch", f"oci:{make_layout(tool.base / 'layout')}:bb")
    with host(tool) as made:
        made.neighbour()
        made.serve("from the host", 8001)
        made.serve("from outside", 8002, netns="outside")
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


SERVE = "mkdir /tmp/www && cd /tmp/www && hostname >index.html && exec httpd -f -p 80"
"""What a pod does that says its name to whoever comes."""


def served(there: Host, address: str, port: int, netns: str = "") -> str:
    """Ask until somebody answers: the app begins a moment after the pod."""
    return str(until(lambda: there.ask(address, port, netns=netns, send="GET / HTTP/1.0\r\n\r\n"))).strip()


def test_the_host_and_the_world_behind_its_address(there: Host, image: str) -> None:
    script = f"nc 172.16.28.1 8001; nc 10.77.0.1 8001; nc {OUTSIDE} 8002"
    lines = there.tool.ok("run", "--net=default", image, "--", "sh", "-c", script).splitlines()
    assert re.fullmatch(r"from the host 172\.16\.28\.\d+", lines[0])
    assert lines[1].startswith("from the host 172.16.28.")
    assert lines[2] == "from outside 10.77.0.1", "masqueraded"
    answer = there.tool.call("run", "--net=default-restricted", image, "--", "sh", "-c", f"nc -w 2 {OUTSIDE} 8002")
    assert answer.code == 1
    assert "from" not in answer.out


def test_the_host_reaches_a_pod_and_pods_reach_each_other(there: Host, image: str) -> None:
    uuid = there.tool.detached("--net=default-restricted", "--hostname=first", image, "--", "sh", "-c", SERVE)
    try:
        address = there.tool.pod(uuid)["networks"][0]["ip"]
        assert served(there, address, 80) == "first"
        script = f"until wget -q -O - http://{address}/ 2>/dev/null; do sleep 0.1; done"
        assert there.tool.ok("run", "--net=default-restricted", image, "--", "sh", "-c", script) == "first\n"
    finally:
        there.tool.ok("stop", "--force", uuid)


def test_a_published_port_is_there_on_every_address_of_the_host(there: Host, image: str) -> None:
    uuid = there.tool.detached("--net=default", "--hostname=web", "--port=80-tcp:8080", image, "--", "sh", "-c", SERVE)
    try:
        for address in ("127.0.0.1", "10.77.0.1", "172.16.28.1"):
            assert served(there, address, 8080) == "web", address
        assert served(there, "10.77.0.1", 8080, netns="outside") == "web"
        second = there.tool.call("run", "--net=default", "--port=80-tcp:8080", image, "--", "true")
        assert second.code == 73
        assert f"port 8080/tcp of the host is taken by pod {uuid}" in second.err
    finally:
        there.tool.ok("stop", "--force", uuid)
    assert there.ask("127.0.0.1", 8080) == ""
    assert there.leftovers() == []


def test_a_port_of_one_address_of_the_host(there: Host, image: str) -> None:
    words = ("--net=default", "--hostname=web", "--port=80-tcp:10.77.0.1:8080")
    uuid = there.tool.detached(*words, image, "--", "sh", "-c", SERVE)
    try:
        assert served(there, "10.77.0.1", 8080) == "web"
        assert served(there, "10.77.0.1", 8080, netns="outside") == "web"
        assert there.ask("127.0.0.1", 8080) == ""
        assert there.ask("172.16.28.1", 8080) == ""
    finally:
        there.tool.ok("stop", "--force", uuid)


def test_a_port_that_a_process_of_the_host_has(there: Host, image: str) -> None:
    there.serve("mine", 8003)
    answer = there.tool.call("run", "--net=default", "--port=80-tcp:8003", image, "--", "true")
    assert answer.code == 73
    assert "port 8003/tcp of the host is in use" in answer.err
    assert there.ask("127.0.0.1", 8003).startswith("mine")
    assert there.leftovers() == []


@pytest.mark.parametrize("mode", ["none", "host"])
def test_ports_need_a_network(there: Host, image: str, mode: str) -> None:
    answer = there.tool.call("run", f"--net={mode}", "--port=80-tcp:8080", image, "--", "true")
    assert answer.code == 2
    assert f"--port flag does not work with '{mode}' networking" in answer.err


def ptp(there: Host, name: str, subnet: str, **more: Any) -> dict[str, Any]:
    ipam = {"type": "host-local", "subnet": subnet, "dataDir": f"{there.tool.base}/leases"}
    return {"cniVersion": "0.4.0", "name": name, "type": "ptp", "ipam": ipam} | more


@pytest.mark.parametrize("kind", ["ptp", "bridge", "macvlan"])
def test_pods_in_a_network_of_ones_own(there: Host, image: str, kind: str) -> None:
    own = ptp(there, f"{kind}-with-a-name-that-is-quite-long", "10.88.0.0/24", type=kind)
    own |= {"master": "out0"} if kind == "macvlan" else {"bridge": "br-own", "isGateway": True, "ipMasq": True}
    own["ipam"]["routes"] = [{"dst": "0.0.0.0/0"}]
    file = there.describe("10-own.conf", own)
    uuid = there.tool.detached(f"--net={own['name']}", "--hostname=first", image, "--", "sh", "-c", SERVE)
    try:
        networks = there.tool.pod(uuid)["networks"]
        assert [(each["netName"], each["ifName"]) for each in networks] == [
            (own["name"], "eth0"),
            ("default-restricted", "eth1"),
        ]
        assert networks[0]["netConf"] == str(file)
        address = networks[0]["ip"]
        script = f"until wget -q -O - http://{address}/ 2>/dev/null; do sleep 0.1; done"
        if kind != "macvlan":  # one of its own kind: the host and its neighbours know no address of it
            script += f"; nc {OUTSIDE} 8002"
        out = there.tool.ok("run", f"--net={own['name']}", image, "--", "sh", "-c", script).splitlines()
        assert out == ["first"] + (["from outside 10.77.0.1"] if kind != "macvlan" else [])
    finally:
        there.tool.ok("stop", "--force", uuid)
        file.unlink()
    if kind == "bridge":
        there.ok("ip", "link", "del", "br-own")


def test_a_file_takes_the_place_of_the_default(there: Host, image: str) -> None:
    file = there.describe("10-mine.conf", ptp(there, "default", "10.89.0.0/24"))
    try:
        assert "10.89.0.2" in there.tool.ok("run", "--net", image, "--", "sh", "-c", "ip a")
    finally:
        file.unlink()


def test_several_networks_in_the_order_of_their_files(there: Host, image: str) -> None:
    files = [there.describe(f"{n}-net.conf", ptp(there, name, f"10.9{n}.0.0/24")) for n, name in ((0, "b"), (1, "a"))]
    try:
        script = "ip -o -4 a | awk '{print $2, $4}'"
        out = there.tool.ok("run", "--net=a,b:IP=10.90.0.7,default", image, "--", "sh", "-c", script).splitlines()
        assert out[1:3] == ["eth0 10.90.0.7/24", "eth1 10.91.0.2/24"]
        assert out[3].startswith("eth2 172.16.28.")
        names = [
            line.split()[0] for line in there.tool.ok("run", "--net=all", image, "--", "sh", "-c", script).splitlines()
        ]
        assert names == ["lo", "eth0", "eth1", "eth2"]
    finally:
        for file in files:
            file.unlink()


def test_what_a_plugin_is_told_and_tells(there: Host, image: str) -> None:
    """As rkt's proxy plugin sees it: the environment, and on stdin the file, the same for ADD and DEL."""
    log = there.tool.base / "proxy"
    there.plugin(
        "proxy",
        f'cat >"{log}.$CNI_COMMAND"; env | grep ^CNI_ | sort >"{log}.env.$CNI_COMMAND"\n'
        f'sed "s/\\"type\\":\\"proxy\\"/\\"type\\":\\"ptp\\"/" "{log}.$CNI_COMMAND" | /usr/lib/cni/ptp\n',
    )
    file = there.describe("10-proxy.conf", ptp(there, "proxied", "10.92.0.0/24", type="proxy"))
    try:
        uuid = there.tool.detached("--net=proxied:IP=10.92.0.9;X=y", image, "--", "sleep", "1000")
        there.tool.ok("stop", "--force", uuid)
    finally:
        file.unlink()
    env = {
        command: dict(line.split("=", 1) for line in Path(f"{log}.env.{command}").read_text().splitlines())
        for command in ("ADD", "DEL")
    }
    assert env["ADD"] == {
        "CNI_ARGS": "IgnoreUnknown=1;IP=10.92.0.9;X=y",
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": uuid,
        "CNI_IFNAME": "eth0",
        "CNI_NETNS": f"/run/pyrkt/netns/{uuid}",
        "CNI_PATH": ":".join([f"{there.tool.base}/etc/net.d", f"{there.tool.base}/usr/net.d", *PLACES]),
    }
    assert env["DEL"] == env["ADD"] | {"CNI_COMMAND": "DEL"}
    told = {command: json.loads(Path(f"{log}.{command}").read_text()) for command in ("ADD", "DEL")}
    assert told["ADD"] == ptp(there, "proxied", "10.92.0.0/24", type="proxy")
    previous = told["DEL"].pop("prevResult")
    assert told["DEL"] == told["ADD"]
    assert previous["ips"][0]["address"] == "10.92.0.9/24"


def test_two_families(there: Host, image: str) -> None:
    dual = ptp(there, "dual", "", ipMasq=True)
    dual["ipam"] = {
        "type": "host-local",
        "dataDir": f"{there.tool.base}/leases",
        "ranges": [[{"subnet": "10.93.0.0/24"}], [{"subnet": "fd93::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    }
    file = there.describe("10-dual.conf", dual)
    there.serve("six", 8006, address="::")
    words = ("--net=dual", "--port=80-tcp:8080", "--hostname=dual")
    uuid = there.tool.detached(*words, image, "--", "sh", "-c", SERVE)
    try:
        (network, restricted) = there.tool.pod(uuid)["networks"]
        assert (network["ip"], network["ip6"], network["mask6"]) == ("10.93.0.2", "fd93::2", "64")
        assert "dual:ip4=10.93.0.2, dual:ip6=fd93::2" in there.tool.ok("list")
        assert restricted["netName"] == "default-restricted"
        assert served(there, "fd93::2", 80) == "dual"
        assert served(there, "10.93.0.1", 8080) == "dual"
        assert served(there, "fd93::1", 8080) == "dual", "published on the host's IPv6 addresses as well"
        answer = there.tool.ok("run", "--net=dual", image, "--", "sh", "-c", "sleep 2; nc fd93::1 8006")
        assert answer.startswith("six fd93::")
    finally:
        there.tool.ok("stop", "--force", uuid)
        file.unlink()
    assert there.leftovers() == []


def test_bandwidth(there: Host) -> None:
    """An isolator of the image becomes a token bucket for each direction, at the end of the veth on the host."""
    isolators = [{"name": "resource/network-bandwidth", "value": {"default": True, "limit": "1M"}}]
    aci = make_aci(there.tool.base / "slow.aci", "example.com/slow", {"isolators": isolators})
    there.tool.ok("fetch", str(aci))
    uuid = there.tool.detached("--net=default", "--strict", str(aci), "--exec=/bin/sleep", "--", "1000")
    try:
        shaped = there.ok("tc", "qdisc", "show").splitlines()
        assert sum("tbf" in line and "rate 8Mbit" in line for line in shaped) == 2, shaped
    finally:
        there.tool.ok("stop", "--force", uuid)
    file = there.describe("10-own.conf", ptp(there, "own", "10.96.0.0/24", type="macvlan", master="out0"))
    try:
        answer = there.tool.call("run", "--net=own", str(aci), "--exec=/bin/true")
        assert answer.code == 0
        assert "resource/network-bandwidth: ignored (no plugin of the network own limits bandwidth)" in answer.err
    finally:
        file.unlink()


def test_a_host_that_forwards_nothing_unasked(there: Host, image: str) -> None:
    """As docker leaves it."""
    there.ok("iptables", "-P", "FORWARD", "DROP")
    try:
        assert there.tool.ok("run", "--net", image, "--", "sh", "-c", f"nc {OUTSIDE} 8002").startswith("from outside")
        words = ("--net=default", "--hostname=web", "--port=80-tcp:8080")
        uuid = there.tool.detached(*words, image, "--", "sh", "-c", SERVE)
        try:
            assert served(there, "10.77.0.1", 8080, netns="outside") == "web"
        finally:
            there.tool.ok("stop", "--force", uuid)
        assert not re.search(r"172\.16\.28\.\d+/32", there.ok("iptables", "-S"))
    finally:
        there.ok("iptables", "-P", "FORWARD", "ACCEPT")


def test_kernel_parameters_of_the_pods_own_network(there: Host) -> None:
    """The namespace is joined, not made by the clone: it is the pod's own nevertheless."""
    aci = make_aci(there.tool.base / "tuned.aci", "example.com/tuned")
    there.tool.ok("fetch", str(aci))
    (record,) = [
        each for each in json.loads(there.tool.ok("image", "list", "--format=json")) if "tuned" in each["name"]
    ]
    app = {"exec": ["/bin/cat", "/proc/sys/net/ipv4/ip_default_ttl"], "user": "0", "group": "0"}
    manifest = {
        "acKind": "PodManifest",
        "acVersion": "0.8.11",
        "apps": [{"name": "tuned", "image": {"id": record["id"]}, "app": app}],
        "isolators": [{"name": "os/unix/sysctl", "value": {"net.ipv4.ip_default_ttl": "77"}}],
        "ports": [{"name": "80-tcp", "hostPort": 8080}],
    }
    file = there.tool.base / "pod.json"
    file.write_text(json.dumps(manifest))
    assert there.tool.ok("run", "--net=default", f"--pod-manifest={file}") == "77\n"
    assert there.ok("cat", "/proc/sys/net/ipv4/ip_default_ttl") == "64\n"


def test_apps_that_come_later_are_in_the_network_and_know_its_name_servers(there: Host, image: str) -> None:
    told = ptp(there, "told", "10.97.0.0/24", dns={"nameservers": ["10.97.0.53"]})
    told["ipam"]["routes"] = [{"dst": "0.0.0.0/0"}]
    file = there.describe("10-told.conf", told)
    uuid = there.tool.ok("app", "sandbox", "--net=told", "--port=web:tcp:80:0.0.0.0:8080", "--hostname=web").strip()
    try:
        there.tool.ok("app", "add", uuid, image, "--name=late", "--", "sh", "-c", f"cat /etc/resolv.conf; {SERVE}")
        there.tool.ok("app", "start", uuid, "--app=late")
        assert served(there, "10.77.0.1", 8080) == "web"
        assert "nameserver 10.97.0.53" in there.tool.ok("logs", uuid)
    finally:
        there.tool.ok("stop", "--force", uuid)
        file.unlink()
    assert there.leftovers() == []


@pytest.mark.parametrize("flavour", ["fly", "crun", "runc"])
def test_other_flavours_join_the_same_networks(there: Host, image: str, flavour: str) -> None:
    script = f"nc {OUTSIDE} 8002; ip -o -4 a show eth0"
    out = there.tool.ok("run", f"--stage1={flavour}", "--net=default", image, "--", "sh", "-c", script)
    assert out.startswith("from outside 10.77.0.1\n")
    assert "172.16.28." in out
    assert there.leftovers() == []
