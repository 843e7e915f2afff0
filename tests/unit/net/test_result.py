"""Results of plugins, in every form that a version of CNI gave them."""

from __future__ import annotations

from typing import Any

import pytest

from pyrkt.base.errors import InvalidSpec
from pyrkt.net.result import Address, Dns, Interface, Result, family_of, parse

OLD = {
    "cniVersion": "0.2.0",
    "ip4": {"ip": "10.1.0.2/16", "gateway": "10.1.0.1", "routes": [{"dst": "0.0.0.0/0"}]},
    "ip6": {"ip": "fd00::2/64"},
    "dns": {"nameservers": ["10.1.0.1"], "domain": "example.com", "search": ["a.example.com"], "options": ["ndots:2"]},
}
NEW = {
    "cniVersion": "0.4.0",
    "interfaces": [{"name": "veth0"}, {"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/x"}],
    "ips": [
        {"version": "4", "address": "10.1.0.2/16", "gateway": "10.1.0.1", "interface": 1},
        {"version": "6", "address": "fd00::2/64", "interface": 1},
    ],
    "routes": [{"dst": "0.0.0.0/0"}],
    "dns": OLD["dns"],
}
DNS = Dns(nameservers=("10.1.0.1",), domain="example.com", search=("a.example.com",), options=("ndots:2",))
INTERFACES = (Interface(name="veth0"), Interface(name="eth0", mac="02:00:00:00:00:01", sandbox="/run/netns/x"))


def address(interface: int) -> tuple[Address, ...]:
    return (
        Address(ip="10.1.0.2", prefix=16, family=4, gateway="10.1.0.1", interface=interface),
        Address(ip="fd00::2", prefix=64, family=6, interface=interface),
    )


def test_before_and_since_0_3() -> None:
    assert parse(OLD, "r") == Result(addresses=address(-1), routes=("0.0.0.0/0",), dns=DNS)
    assert parse(NEW, "r") == Result(addresses=address(1), interfaces=INTERFACES, routes=("0.0.0.0/0",), dns=DNS)


def test_1_0_and_1_1_leave_the_version_out_and_say_more() -> None:
    value: dict[str, Any] = {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "eth0", "mtu": 1500, "sandbox": "/x", "socketPath": "", "pciID": ""}],
        "ips": [{"address": "fd00::2/64"}],
        "routes": [{"dst": "::/0", "mtu": 1400, "advmss": 1300, "priority": 1, "table": 5, "scope": 0}],
    }
    found = parse(value, "r")
    assert [each.ip for each in found.addresses] == ["fd00::2"]
    assert found.routes == ("::/0",)
    assert not found.dns


def test_nothing_is_an_empty_result() -> None:
    assert parse(None, "r") == parse({}, "r") == Result()


def test_masks_as_rkt_shows_them() -> None:
    assert [each.mask() for each in address(0)] == ["255.255.0.0", "64"]
    assert Address(ip="0.0.0.0", prefix=0, family=4).mask() == "0.0.0.0"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        pytest.param([], "expected an object", id="array"),
        pytest.param(
            {"ips": [{"address": "10.1.0.2"}]}, "ips[0].address: '10.1.0.2' is not an address", id="no-prefix"
        ),
        pytest.param({"ips": [{"address": "10.1.0.2/33"}]}, "ips[0].address", id="prefix"),
        pytest.param({"ips": [{"address": "host/24"}]}, "ips[0].address", id="name"),
        pytest.param({"ips": [{"address": "10.1.0.2/24", "gateway": "x"}]}, "ips[0].gateway: 'x'", id="gateway"),
        pytest.param({"ips": {}}, "ips: expected an array", id="kind"),
        pytest.param({"dns": {"nameservers": ["x"]}}, "dns.nameservers: 'x' is not an IP address", id="server"),
        pytest.param({"dns": {"search": ["a b"]}}, "dns: 'a b' cannot stand in resolv.conf", id="blank"),
        pytest.param({"dns": {"domain": "a\nnameserver 6.6.6.6"}}, "cannot stand in resolv.conf", id="line"),
        pytest.param({"interfaces": [{}]}, "interfaces[0].name: is required", id="interface"),
    ],
)
def test_what_cannot_be_believed(value: Any, problem: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse(value, "r")
    assert problem in caught.value.message


@pytest.mark.parametrize(
    ("text", "family"), [("10.0.0.1", 4), ("fd00::1", 6), ("10.0.0", 0), ("", 0), ("a", 0), ("1.2.3.4\0", 0)]
)
def test_families(text: str, family: int) -> None:
    assert family_of(text) == family
