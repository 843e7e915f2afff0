"""Files of net.d: what they may say, in which order they count, and how a mistake in one is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyrkt.base.errors import InvalidSpec
from pyrkt.net import conf

DNS = {"nameservers": ["10.0.0.53"], "domain": "example.com", "search": ["example.com"], "options": ["ndots:2"]}
MEMBERS: dict[str, Any] = {
    "type": "bridge",
    "ipMasq": True,
    "capabilities": {"ips": True},
    "ipam": {"type": "host-local", "subnet": "10.0.0.0/24"},
    "dns": DNS,
}
WHOLE: dict[str, Any] = {"name": "net", "cniVersion": "0.4.0", "pyrkt": {"timeout": 5}, **MEMBERS}
WHOLE_LIST: dict[str, Any] = {
    "name": "net",
    "cniVersion": "1.0.0",
    "cniVersions": ["1.0.0", "1.1.0"],
    "disableCheck": False,
    "disableGC": "true",
    "plugins": [MEMBERS, {"type": "portmap", "snat": True}],
    "pyrkt": {"timeout": 0.5},
}
PLUGIN: dict[str, Any] = {"type": "bridge", "bridge": "br0"}


def network(**members: Any) -> conf.Network:
    return conf.parse(json.dumps({"name": "net"} | members), "a.conf")


def test_a_single_plugin() -> None:
    found = network(cniVersion="0.4.0", ipMasq=True, **PLUGIN)
    assert (found.name, found.version, found.file) == ("net", "0.4.0", "a.conf")
    assert found.plugins == ({"name": "net", "cniVersion": "0.4.0", "ipMasq": True, **PLUGIN},)
    assert found.masquerades()
    assert found.seconds == 60


def test_without_a_version_it_is_the_first() -> None:
    assert network(**PLUGIN).version == "0.1.0"


def test_a_list() -> None:
    plugins = [PLUGIN, {"type": "portmap", "capabilities": {"portMappings": True}}]
    found = network(cniVersion="1.0.0", plugins=plugins, disableCheck=True, disableGC="true", pyrkt={"timeout": 2.5})
    assert found.plugins == tuple(plugins)
    assert (found.disable_check, found.disable_gc, found.seconds) == (True, True, 2.5)
    assert found.declares("portMappings")
    assert not found.declares("bandwidth")


def test_the_highest_version_that_both_know() -> None:
    assert network(cniVersion="0.4.0", cniVersions=["0.4.0", "1.1.0", "9.0.0"], plugins=[PLUGIN]).version == "1.1.0"
    assert network(cniVersion="0.4.0", cniVersions=["9.0.0"], plugins=[PLUGIN]).version == "0.4.0"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("{", "line 1 column 2", id="json"),
        pytest.param("[]", "expected an object", id="array"),
        pytest.param('{"type": "bridge"}', "name: is required", id="no-name"),
        pytest.param('{"name": "-x", "type": "bridge"}', "name: '-x' is no name", id="name"),
        pytest.param('{"name": "host", "type": "bridge"}', "name: 'host' means something else", id="reserved"),
        pytest.param('{"name": "a"}', "type: is required", id="no-type"),
        pytest.param('{"name": "a", "type": "../../bin/sh"}', "type: '../../bin/sh' is no name of a plugin", id="type"),
        pytest.param('{"name": "a", "type": ".."}', "type: '..' is no name", id="dots"),
        pytest.param('{"name": "a", "type": "b", "ipam": {"type": "/bin/sh"}}', "ipam.type: '/bin/sh'", id="ipam"),
        pytest.param('{"name": "a", "type": "b", "ipam": 7}', "ipam: expected an object", id="ipam-kind"),
        pytest.param(
            '{"name": "a", "type": "b", "cniVersion": "9.9.9"}', "cniVersion: '9.9.9' is none of", id="version"
        ),
        pytest.param('{"name": "a", "cniVersion": "1.0.0", "plugins": []}', "plugins: is empty", id="empty"),
        pytest.param('{"name": "a", "cniVersion": "1.0.0", "plugins": [{}]}', "plugins[0].type: is", id="list-type"),
        pytest.param('{"name": "a", "plugins": [{"type": "a"}, {"type": "b"}]}', "0.1.0 has no lists", id="old-list"),
        pytest.param(
            '{"name": "a", "type": "b", "capabilities": {"ips": 1}}',
            "capabilities.ips: expected a bool",
            id="capability",
        ),
        pytest.param('{"name": "a", "type": "b", "pyrkt": {"timeout": 0}}', "pyrkt.timeout: must be", id="timeout"),
        pytest.param('{"name": "a", "name": "b", "type": "b"}', "duplicate key", id="twice"),
    ],
)
def test_refuses_and_names_the_place(text: str, problem: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        conf.parse(text, "/etc/pyrkt/net.d/10-a.conf")
    assert caught.value.message.startswith("/etc/pyrkt/net.d/10-a.conf: ")
    assert problem in caught.value.message


def write(directory: Path, name: str, network_name: str, kind: str = "bridge") -> None:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(json.dumps({"name": network_name, "type": kind}))


def test_order_is_that_of_the_file_names_and_the_heavier_directory_wins(tmp_path: Path) -> None:
    light, heavy = tmp_path / "light", tmp_path / "heavy"
    write(light, "20-b.conf", "b", "light")
    write(light, "30-c.conf", "c")
    write(heavy, "10-z.conf", "z")
    write(heavy, "40-b.conf", "b", "heavy")
    write(heavy, ".hidden.conf", "hidden")
    write(heavy, "x.json", "x")
    found = conf.load([str(light), str(heavy), str(tmp_path / "nowhere")])
    assert [network.name for network in found] == ["z", "c", "b"]
    assert found[2].plugins[0]["type"] == "heavy"


def test_the_first_of_two_namesakes_counts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "10-a.conf", "same", "first")
    write(tmp_path, "20-a.conf", "same", "second")
    (found,) = conf.load([str(tmp_path)])
    assert found.plugins[0]["type"] == "first"
    assert f"{tmp_path}/20-a.conf: network 'same' is described by {tmp_path}/10-a.conf" in capfd.readouterr().err
