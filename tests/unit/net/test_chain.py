"""Plugins as programs: what they are told, in which order, and what becomes of those that fail, hang or lie."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pyrkt.base.errors import InvalidSpec
from pyrkt.net import cache, chain, plugin
from pyrkt.net.cache import Attachment
from pyrkt.net.conf import Network
from pyrkt.net.plugin import Call, PluginFailed, PluginMissing

RECORD = 'cat >"$0.stdin.$CNI_COMMAND"; env | grep ^CNI | sort >"$0.env.$CNI_COMMAND"; echo "$0 $CNI_COMMAND" >>{log}\n'
RESULT = '{{"cniVersion": "1.0.0", "ips": [{{"address": "10.0.0.{}/24"}}]}}'


@pytest.fixture
def places(tmp_path: Path) -> Path:
    (tmp_path / "plugins").mkdir()
    return tmp_path / "plugins"


def write(places: Path, name: str, script: str) -> None:
    path = places / name
    path.write_text(f"#!/bin/sh\n{RECORD.replace('{log}', str(places / 'log'))}{script}")
    path.chmod(0o755)


def attachment(places: Path, *plugins: dict[str, Any], version: str = "1.0.0", **more: Any) -> Attachment:
    fields: dict[str, Any] = {
        "number": 0,
        "network": Network(name="net", version=version, plugins=plugins, seconds=20.0),
        "container": "u-u-i-d",
        "netns": "/run/pyrkt/netns/u-u-i-d",
        "interface": "eth0",
        "places": (str(places),),
    }
    return Attachment(**(fields | more))


def calls(places: Path) -> list[str]:
    return [line.replace(f"{places}/", "") for line in (places / "log").read_text().splitlines()]


def stdin(places: Path, name: str, command: str) -> dict[str, Any]:
    found = json.loads((places / f"{name}.stdin.{command}").read_text())
    assert isinstance(found, dict)
    return found


def test_add_in_order_and_each_is_told_what_the_one_before_did(places: Path) -> None:
    write(places, "one", f"echo '{RESULT.format(1)}'")
    write(places, "two", f"echo '{RESULT.format(2)}'")
    caps = {"portMappings": [{"hostPort": 1}], "ips": ["10.0.0.1"]}
    given = attachment(
        places,
        {"type": "one", "own": 7, "prevResult": "mine", "name": "other", "cniVersion": "0.2.0"},
        {"type": "two", "capabilities": {"portMappings": True, "ips": False}},
        args="IgnoreUnknown=1;IP=10.0.0.1",
        capabilities=caps,
    )
    assert chain.add(given) == json.loads(RESULT.format(2))
    assert calls(places) == ["one ADD", "two ADD"]
    assert stdin(places, "one", "ADD") == {"type": "one", "own": 7, "name": "net", "cniVersion": "1.0.0"}
    assert stdin(places, "two", "ADD") == {
        "type": "two",
        "capabilities": {"portMappings": True, "ips": False},
        "name": "net",
        "cniVersion": "1.0.0",
        "runtimeConfig": {"portMappings": [{"hostPort": 1}]},
        "prevResult": json.loads(RESULT.format(1)),
    }
    assert (places / "two.env.ADD").read_text().splitlines() == [
        "CNI_ARGS=IgnoreUnknown=1;IP=10.0.0.1",
        "CNI_COMMAND=ADD",
        "CNI_CONTAINERID=u-u-i-d",
        "CNI_IFNAME=eth0",
        "CNI_NETNS=/run/pyrkt/netns/u-u-i-d",
        f"CNI_PATH={places}",
    ]


def test_nothing_of_our_environment_reaches_a_plugin(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    write(places, "one", f"env >\"$0.all\"; echo '{RESULT.format(1)}'")
    chain.add(attachment(places, {"type": "one"}))
    names = {line.partition("=")[0] for line in (places / "one.all").read_text().splitlines()}
    assert {name for name in names if not name.startswith("CNI_")} <= {"PATH", "PWD", "SHLVL", "_", "OLDPWD"}


def test_del_in_reverse_with_the_last_result_even_when_one_fails(places: Path) -> None:
    for name in ("one", "three"):
        write(places, name, "")
    write(places, "two", 'echo \'{"code": 100, "msg": "no", "details": "not today"}\'; exit 1')
    given = attachment(places, {"type": "one"}, {"type": "two"}, {"type": "three"}, result={"ips": []})
    with pytest.raises(PluginFailed) as caught:
        chain.delete(given)
    assert caught.value.message == "two: no: not today (code 100)"
    assert caught.value.code == 100
    assert calls(places) == ["three DEL", "two DEL", "one DEL"]
    assert stdin(places, "one", "DEL")["prevResult"] == {"ips": []}


def test_before_0_4_del_has_no_previous_result_and_there_is_no_check(places: Path) -> None:
    write(places, "one", "")
    given = attachment(places, {"type": "one"}, version="0.3.1", result={"ips": []})
    chain.delete(given)
    assert "prevResult" not in stdin(places, "one", "DEL")
    assert not chain.check(given)


def test_check_in_order_until_one_says_no(places: Path) -> None:
    write(places, "one", "")
    write(places, "two", 'echo \'{"code": 7, "msg": "gone"}\'; exit 1')
    write(places, "three", "")
    given = attachment(places, {"type": "one"}, {"type": "two"}, {"type": "three"}, result={"ips": []})
    with pytest.raises(PluginFailed, match="two: gone"):
        chain.check(given)
    assert calls(places) == ["one CHECK", "two CHECK"]
    assert stdin(places, "one", "CHECK")["prevResult"] == {"ips": []}
    quiet = given.replace(network=given.network.replace(disable_check=True))
    assert not chain.check(quiet)


def test_gc_and_status_since_1_1(places: Path) -> None:
    write(places, "one", 'test $CNI_COMMAND = GC || { echo \'{"code": 50, "msg": "full"}\'; exit 1; }')
    network = attachment(places, {"type": "one"}, version="1.1.0").network
    assert chain.collect(network, (str(places),), [("u-u-i-d", "eth0")])
    assert stdin(places, "one", "GC")["cni.dev/valid-attachments"] == [{"containerID": "u-u-i-d", "ifname": "eth0"}]
    assert (places / "one.env.GC").read_text().splitlines() == ["CNI_COMMAND=GC", f"CNI_PATH={places}"]
    with pytest.raises(PluginFailed, match=r"one: full \(code 50\)"):
        chain.status(network, (str(places),))
    assert not chain.collect(network.replace(disable_gc=True), (str(places),), [])
    old = network.replace(version="1.0.0")
    assert not chain.collect(old, (str(places),), [])
    assert not chain.status(old, (str(places),))


def test_version(places: Path) -> None:
    write(places, "one", 'echo \'{"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}\'')
    assert chain.versions("one", (str(places),)) == ("0.4.0", "1.0.0")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        pytest.param('echo \'{"code": 11, "msg": "busy"}\'; exit 1', "one: busy (code 11)", id="json"),
        pytest.param("echo oops >&2; exit 3", "one: oops", id="stderr"),
        pytest.param("exit 3", "one: ended with 3", id="silent"),
        pytest.param("kill -9 $$", "one: was killed by signal 9", id="killed"),
        pytest.param("echo hello", "one: what the plugin one answers: not JSON", id="no-json"),
        pytest.param("", "one: it says that all went well, but not what it did", id="no-result"),
        pytest.param('echo \'{"ips": [{"address": "x"}]}\'', "ips[0].address", id="no-address"),
        pytest.param("head -c 2000000 /dev/zero; sleep 100", "one: answers more than 1 MiB", id="flood"),
        pytest.param('printf \'{"msg": "\\033[31mred"}\'; exit 1', "not JSON", id="control-characters"),
    ],
)
def test_a_failure_is_one_line(places: Path, script: str, message: str) -> None:
    write(places, "one", script)
    with pytest.raises(PluginFailed) as caught:
        chain.add(attachment(places, {"type": "one"}))
    if message == "not JSON":
        assert "\033" not in caught.value.message
    else:
        assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_a_plugin_that_lacks_a_program_of_the_host(places: Path) -> None:
    said = 'failed to locate iptables: exec: \\"iptables\\": executable file not found in $PATH'
    write(places, "one", f'echo \'{{"code": 999, "msg": "{said}"}}\'; exit 1')
    with pytest.raises(PluginFailed, match="failed to locate iptables") as caught:
        chain.add(attachment(places, {"type": "one"}))
    assert caught.value.hint == "apt-get install iptables"


def test_a_plugin_that_hangs_is_ended_with_all_that_it_started(places: Path) -> None:
    write(places, "one", 'sleep 1000 & echo $! >"$0.child"; wait')
    given = attachment(places, {"type": "one"})
    given = given.replace(network=given.network.replace(seconds=0.5))
    pids: list[int] = []
    begin = time.monotonic()
    with pytest.raises(PluginFailed, match=r"did not end within 0\.5 s"):
        chain.add(given, pids.append)
    assert time.monotonic() - begin < 15
    assert not Path(f"/proc/{pids[0]}").exists()
    child = int((places / "one.child").read_text())
    deadline = time.monotonic() + 10
    while _lives(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _lives(child)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


def test_what_a_plugin_leaves_in_the_background_holds_nobody_up(places: Path) -> None:
    write(places, "one", f"sleep 60 & echo $! >\"$0.child\"; echo '{RESULT.format(1)}'")
    begin = time.monotonic()
    try:
        assert chain.add(attachment(places, {"type": "one"})) == json.loads(RESULT.format(1))
        assert time.monotonic() - begin < 30
    finally:
        os.kill(int((places / "one.child").read_text()), 9)


def test_a_plugin_that_does_not_read_and_one_that_gets_much(places: Path) -> None:
    (places / "one").write_text(f"#!/bin/sh\nexec 0<&-\necho '{RESULT.format(1)}'\n")
    (places / "one").chmod(0o755)
    write(places, "two", f"echo '{RESULT.format(2)}'")
    big = "x" * 300_000
    assert chain.add(attachment(places, {"type": "one", "big": big}, {"type": "two", "big": big}))
    assert stdin(places, "two", "ADD")["big"] == big


def test_a_plugin_gets_its_orders_only_when_somebody_has_noted_it(places: Path) -> None:
    write(places, "one", f"echo '{RESULT.format(1)}'")

    def refuse(_pid: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        chain.add(attachment(places, {"type": "one"}), refuse)
    assert not (places / "one.stdin.ADD").exists() or not (places / "one.stdin.ADD").read_text()


def test_missing_plugins_and_such_as_are_no_programs(places: Path) -> None:
    with pytest.raises(PluginMissing, match="the network plugin 'nosuch' is in none of") as caught:
        chain.add(attachment(places, {"type": "nosuch"}))
    assert "containernetworking-plugins" in caught.value.hint
    (places / "text").write_text("no program\n")
    (places / "text").chmod(0o755)
    with pytest.raises(PluginFailed, match="text"):
        plugin.call("ADD", {"type": "text"}, Call(places=(str(places),)))


def test_the_cache_gives_back_what_it_was_given(tmp_path: Path) -> None:
    first = attachment(
        tmp_path, {"type": "one", "deep": [1, {"x": None}]}, args="IP=1.2.3.4", capabilities={"ips": ["a"]}
    )
    second = first.replace(number=1, interface="eth1", result={"ips": []}, added=True)
    for each in (second, first):
        cache.save(str(tmp_path), each)
    assert cache.load(str(tmp_path)) == (first, second)
    cache.save(str(tmp_path), first.replace(added=True, result={"a": 1}))
    assert cache.load(str(tmp_path))[0].result == {"a": 1}
    cache.forget(str(tmp_path), first)
    cache.forget(str(tmp_path), first)
    assert cache.names(str(tmp_path)) == ["0001-eth1.json"]
    (tmp_path / "networks/0001-eth1.json").write_text("{}")
    with pytest.raises(InvalidSpec):
        cache.load(str(tmp_path))


def test_the_noted_plugin(tmp_path: Path) -> None:
    (tmp_path / "networks").mkdir()
    assert cache.noted_plugin(str(tmp_path)) == (0, 0)
    cache.note_plugin(str(tmp_path), 12, 345)
    assert cache.noted_plugin(str(tmp_path)) == (12, 345)
    (tmp_path / "networks/plugin").write_text("x y z")
    assert cache.noted_plugin(str(tmp_path)) == (0, 0)
    cache.close(str(tmp_path))
    assert not (tmp_path / "networks").exists()
