"""pyrkt net list, status, check and gc, and what doctor and validate say of networks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.network import Host, host
from tests.support.pods import Pyrkt, make_layout

pytestmark = [pytest.mark.root, pytest.mark.peers]
# Speaks 1.1, adds a dummy of its own kind, and remembers what it was told.
YOUNG = """
cat >"$0.stdin.$CNI_COMMAND"
case $CNI_COMMAND in
VERSION) echo '{"cniVersion": "1.1.0", "supportedVersions": ["1.0.0", "1.1.0"]}' ;;
STATUS) test ! -e "$0.full" || { echo '{"code": 50, "msg": "no address is left"}'; exit 1; } ;;
ADD) nsenter --net="$CNI_NETNS" ip link add "$CNI_IFNAME" type bridge
     echo '{"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}], "ips": []}' ;;
esac
"""


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with a store that has one image, and two networks."""
    tool = Pyrkt(tmp_path_factory.mktemp("nets"))
    tool.ok("fetch", f"oci:{make_layout(tool.base / 'layout')}:bb")
    with host(tool) as made:
        made.describe("10-young.conflist", {"cniVersion": "1.1.0", "name": "young", "plugins": [{"type": "young"}]})
        made.plugin("young", YOUNG)
        yield made
        assert tool.clean() == []
        assert made.leftovers() == []


def told(there: Host, command: str) -> dict[str, Any]:
    found = json.loads((there.tool.base / f"etc/net.d/young.stdin.{command}").read_text())
    assert isinstance(found, dict)
    return found


def test_list_and_status(there: Host) -> None:
    found = {each["name"]: each for each in json.loads(there.tool.ok("net", "list", "--format=json"))}
    assert list(found) == ["young", "default", "default-restricted"]
    assert found["young"] == {
        "name": "young",
        "cniVersion": "1.1.0",
        "plugins": ["young"],
        "pods": 0,
        "file": f"{there.tool.base}/etc/net.d/10-young.conflist",
    }
    out = there.tool.ok("net", "status")
    assert out.splitlines()[1].split() == ["young", "ok", "it", "says", "so"]
    full = there.tool.base / "etc/net.d/young.full"
    full.touch()
    answer = there.tool.call("net", "status", "young")
    full.unlink()
    assert answer.code == 1
    assert "young: no address is left (code 50)" in answer.out
    assert there.tool.call("net", "status", "nosuch").code == 66


def test_a_version_that_a_plugin_does_not_speak(there: Host) -> None:
    file = there.describe("20-old.conflist", {"cniVersion": "0.4.0", "name": "old", "plugins": [{"type": "young"}]})
    answer = there.tool.call("net", "status", "old")
    file.unlink()
    assert answer.code == 1
    assert "young speaks CNI 1.0.0, 1.1.0, not 0.4.0" in answer.out


def test_check_and_gc_of_a_running_pod(there: Host) -> None:
    image = f"oci:{there.tool.base}/layout:bb"
    uuid = there.tool.detached("--net=young,default", image, "--", "sleep", "1000")
    try:
        lines = there.tool.ok("net", "check", uuid).splitlines()
        assert [line.split() for line in lines[1:]] == [
            [uuid[:8], "young", "eth0", "ok"],
            [uuid[:8], "default", "eth1", "ok"],
        ]
        assert there.tool.ok("net", "gc") == "young: kept 1 attachment\n"
        assert told(there, "GC")["cni.dev/valid-attachments"] == [{"containerID": uuid, "ifname": "eth0"}]
        pid = there.tool.pod(uuid)["pid"]
        there.ok("nsenter", f"--net=/proc/{pid}/ns/net", "ip", "addr", "flush", "dev", "eth1")
        answer = there.tool.call("net", "check")
        assert answer.code == 1
        assert "failed" in answer.out
    finally:
        there.tool.ok("stop", "--force", uuid)
    assert there.tool.ok("net", "gc") == "young: kept 0 attachments\n"
    assert told(there, "GC")["cni.dev/valid-attachments"] == []
    assert "no GC" in there.tool.call("net", "gc", "default").err


def test_doctor_and_validate(there: Host) -> None:
    facts = {fact["name"]: fact for fact in json.loads(there.tool.call("doctor", "--format=json").out)}
    assert facts["network plugins"]["verdict"] == "ok"
    assert facts["networks"]["detail"] == "young, default, default-restricted"
    assert "valid" in there.tool.ok("validate", str(there.tool.base / "etc/net.d/10-young.conflist"))
    broken = there.describe("30-broken.conf", {"name": "x", "type": "a/b"})
    try:
        assert "type" in there.tool.call("validate", str(broken)).out
        facts = {fact["name"]: fact for fact in json.loads(there.tool.call("doctor", "--format=json").out)}
        assert facts["networks"]["verdict"] == "limited"
        assert "30-broken.conf: type" in facts["networks"]["detail"]
    finally:
        broken.unlink()
