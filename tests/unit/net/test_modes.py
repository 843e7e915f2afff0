"""What --net means: rkt's words, arguments, and which networks a pod joins in which order."""

from __future__ import annotations

import pytest

from pyrkt.base.errors import NotFound, UsageError
from pyrkt.net import modes, ports
from pyrkt.net.conf import Network


def described(*names: str) -> tuple[Network, ...]:
    return tuple(
        Network(name=name, version="1.0.0", plugins=({"type": "bridge"},), file=f"/net.d/{name}") for name in names
    )


def joined(words: str, *names: str) -> list[str]:
    return [
        f"{network.name}{'*' if network.file else ''}:{args}".rstrip(":")
        for network, args in modes.select(modes.parse([words]), described(*names))
    ]


@pytest.mark.parametrize(
    ("words", "names", "expected"),
    [
        pytest.param("default", (), ["default"], id="default"),
        pytest.param("default-restricted", (), ["default-restricted"], id="restricted"),
        pytest.param("b", ("a", "b"), ["b*", "default-restricted"], id="restricted-comes-along"),
        pytest.param("b,default", ("a", "b"), ["b*", "default"], id="default-comes-last"),
        pytest.param("b,a", ("a", "b"), ["a*", "b*", "default-restricted"], id="order-of-the-files"),
        pytest.param("all", ("a", "b"), ["a*", "b*", "default"], id="all"),
        pytest.param("all", ("a", "default"), ["a*", "default*"], id="all-with-a-default-of-ones-own"),
        pytest.param("default", ("default",), ["default*"], id="override"),
        pytest.param("a,default", ("default-restricted", "a"), ["a*", "default"], id="the-other-is-not-asked-for"),
        pytest.param("default,default-restricted", (), ["default", "default-restricted"], id="both"),
        pytest.param("default:IP=172.16.28.5", (), ["default:IP=172.16.28.5"], id="args"),
        pytest.param(
            "a:IP=10.1.2.3;MAC=02:00:00:00:00:07",
            ("a",),
            ["a*:IP=10.1.2.3;MAC=02:00:00:00:00:07", "default-restricted"],
            id="several-args",
        ),
    ],
)
def test_select(words: str, names: tuple[str, ...], expected: list[str]) -> None:
    assert joined(words, *names) == expected


def test_several_flags_are_one_list() -> None:
    assert [str(each) for each in modes.parse(["a,b:X=1", "c"])] == ["a", "b:X=1", "c"]


def test_a_network_that_nobody_has() -> None:
    with pytest.raises(NotFound) as caught:
        joined("a,x,y", "a", "b")
    assert caught.value.message == "failed to setup network: networks not found: x, y"
    assert "a, b, default, default-restricted" in caught.value.hint


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("none,a", "--net=none excludes"),
        ("a,host", "--net=host excludes"),
        ("", "names no network"),
        ("a,", "names no network"),
        ("a/b", "names no network"),
        ("a,a", "names 'a' twice"),
        ("a:", "is not KEY=VALUE"),
        ("a:IP", "is not KEY=VALUE"),
        ("a:IP=1.2.3.4;", "is not KEY=VALUE"),
        ("a:IP=1.2.3", "is not an IP address"),
    ],
)
def test_refuses(words: str, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        modes.parse([words])
    assert problem in caught.value.message


def test_ports_go_to_the_first_network_that_masquerades_else_to_the_last() -> None:
    plain = described("a", "b")
    masqueraded = plain[0].replace(plugins=({"type": "ptp", "ipMasq": True},))
    assert modes.forwarding(plain) == 1
    assert modes.forwarding((*plain, masqueraded, *plain)) == 2
    restricted = modes.OWN["default-restricted"]
    assert modes.forwarding((*plain, restricted)) == 1
    assert modes.forwarding((restricted,)) == 0
    assert modes.forwarding((restricted, restricted)) == 1


def test_ports_are_published_by_the_networks_own_plugin_or_by_portmap() -> None:
    (network,) = described("a")
    own = network.replace(plugins=({"type": "bridge"}, {"type": "mine", "capabilities": {"portMappings": True}}))
    assert ports.publishing(own) == own
    added = ports.publishing(network.replace(version="0.1.0"))
    assert [plugin["type"] for plugin in added.plugins] == ["bridge", "portmap"]
    assert added.version == "0.3.1"
    published = ports.Published(name="web", protocol="tcp", pod_port=80, host_port=8080)
    assert ports.mappings([published, published.replace(host_ip="10.0.0.1", protocol="udp")]) == [
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 8080, "containerPort": 80, "protocol": "udp", "hostIP": "10.0.0.1"},
    ]
