"""Plugins that fail, hang or lie, a user who changes his mind, a killed pyrkt, a reboot: nothing may stay behind."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.network import Host, host, until
from tests.support.pods import Pyrkt, end, make_layout

pytestmark = [pytest.mark.root, pytest.mark.peers]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with a store that has one image; checks at the end that nothing stayed."""
    tool = Pyrkt(tmp_path_factory.mktemp("fail"))
    tool.ok("fetch", f"oci:{make_layout(tool.base / 'layout')}:bb")
    with host(tool) as made:
        yield made
        assert tool.clean() == []
        assert made.leftovers() == []


@pytest.fixture(autouse=True)
def nothing_left(there: Host) -> Iterator[None]:
    """After each test the host is as before, but for what net.d says."""
    yield
    for pod in there.tool.pods():
        there.tool.call("rm", pod["name"])
    assert there.leftovers() == []
    assert leases(there) == []
    for path in (there.tool.base / "etc/net.d").glob("*"):
        path.unlink()


@pytest.fixture
def image(there: Host) -> str:
    """The reference of the image."""
    return f"oci:{there.tool.base}/layout:bb"


def leases(there: Host) -> list[str]:
    """Return the addresses that are taken in networks of the tests' own."""
    return [path.name for path in there.tool.base.glob("leases/*/10.*")]


def network(there: Host, *plugins: dict[str, Any], timeout: float = 20.0) -> None:
    """Describe the network "n": a ptp of Debian's, masqueraded, and ``plugins`` after it."""
    ipam = {"type": "host-local", "subnet": "10.94.0.0/24", "dataDir": f"{there.tool.base}/leases"}
    ptp = {"type": "ptp", "ipMasq": True, "ipam": ipam}
    value = {"cniVersion": "1.0.0", "name": "n", "plugins": [ptp, *plugins], "pyrkt": {"timeout": timeout}}
    there.describe("10-n.conflist", value)


FAILING = 'echo \'{"cniVersion": "1.0.0", "code": 104, "msg": "no luck", "details": "today"}\'; exit 1\n'
HANGING = 'test $CNI_COMMAND = ADD || exit 0; cat >/dev/null; echo $$ >"$0.pid"; sleep 1000 & sleep 1000\n'


@pytest.mark.parametrize(
    ("script", "message"),
    [
        pytest.param(FAILING, "own: no luck: today (code 104)", id="always"),
        pytest.param(f"test $CNI_COMMAND = ADD || exit 0\n{FAILING}", "own: no luck: today (code 104)", id="add"),
        pytest.param("kill -9 $$", "own: was killed by signal 9", id="killed"),
        pytest.param("echo no json", "own: what the plugin own answers: not JSON", id="no-json"),
        pytest.param(
            'echo \'{"ips": [{"address": "nowhere"}]}\'', "the result of the plugin own: ips[0]", id="garbage"
        ),
        pytest.param(
            'echo \'{"cniVersion": "1.0.0", "ips": [{"address": "10.94.0.99/24"}]}\'',
            "it is said to be done, but the pod does not have the address 10.94.0.99",
            id="liar",
        ),
        pytest.param(
            # ptp itself then forgets to take back its rule.
            "test $CNI_COMMAND = ADD && nsenter --net=$CNI_NETNS ip link del eth0; cat >/dev/null",
            "it is said to be done, but the pod has no eth0",
            id="saboteur",
        ),
    ],
)
def test_a_plugin_that_fails_or_lies(there: Host, image: str, script: str, message: str) -> None:
    network(there, {"type": "own"})
    there.plugin("own", f"exec 0<&-\n{script}" if "nsenter" not in script else script)
    before = there.tool.pods()
    answer = there.tool.call("run", "--net=n", image, "--", "echo", "started")
    assert answer.code == 125
    assert f"failed to setup network n: {message}" in answer.err
    assert "hint:" in answer.err
    assert "10-n.conflist" in answer.err
    assert answer.out == ""
    assert there.leftovers() == []
    assert leases(there) == []
    left = [pod["name"] for pod in there.tool.pods() if pod not in before]
    # A plugin that also refuses DEL is asked again by gc; nothing else of the pod is left to it.
    assert bool(left) == (script in (FAILING, "kill -9 $$"))


def test_a_plugin_that_hangs(there: Host, image: str) -> None:
    network(there, {"type": "own"}, timeout=1.0)
    own = there.plugin("own", HANGING)
    answer = there.tool.call("run", "--net=n", image, "--", "true")
    assert answer.code == 125
    assert "failed to setup network n: own: did not end within 1 s" in answer.err
    assert leases(there) == []
    assert there.leftovers() == []
    leader = int(Path(f"{own}.pid").read_text())
    assert until(lambda: not group(leader))


def group(leader: int) -> list[int]:
    """Return the processes of a group that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == leader and fields[0] not in ("Z", "X"):
            found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_user_who_changes_his_mind(there: Host, image: str, number: int, code: int) -> None:
    network(there, {"type": "own"})
    own = there.plugin("own", HANGING)
    process = there.tool.popen("run", "--net=n", image, "--", "true")
    assert until(lambda: Path(f"{own}.pid").exists() and Path(f"{own}.pid").read_text())
    assert leases(there) != []
    process.send_signal(number)
    assert end(process) == code
    assert leases(there) == []
    assert there.leftovers() == []
    assert until(lambda: not group(int(Path(f"{own}.pid").read_text())))
    assert there.tool.pods() == []


@pytest.mark.parametrize("prepared", [False, True])
def test_a_killed_pyrkt_is_tidied_up_after_by_gc(there: Host, image: str, prepared: bool) -> None:
    network(there, {"type": "own"})
    own = there.plugin("own", HANGING)
    words = ("--net=n", image, "--", "echo", "started")
    uuid = there.tool.ok("prepare", *words).strip() if prepared else ""
    process = there.tool.popen("run-prepared", uuid) if prepared else there.tool.popen("run", *words)
    assert until(lambda: Path(f"{own}.pid").exists() and Path(f"{own}.pid").read_text())
    process.kill()
    end(process)
    assert leases(there) != []
    leader = int(Path(f"{own}.pid").read_text())
    assert group(leader), "the plugin goes on, whoever has started it"
    there.tool.ok("gc")
    assert until(lambda: not group(leader))
    assert leases(there) == []
    assert there.leftovers() == []
    if prepared:
        assert [pod["state"] for pod in there.tool.pods()] == ["prepared"]
        there.plugin("own", "test $CNI_COMMAND = ADD && sed 's/.*\"prevResult\"://; s/}$//' || cat >/dev/null")
        assert there.tool.ok("run-prepared", uuid) == "started\n"
    else:
        assert there.tool.pods() == []


def test_a_prepared_pod_whose_network_failed_can_be_tried_again(there: Host, image: str) -> None:
    network(there, {"type": "own"})
    there.plugin("own", f"test $CNI_COMMAND = ADD || exit 0\n{FAILING}")
    uuid = there.tool.ok("prepare", "--net=n", image, "--", "echo", "started").strip()
    assert there.tool.call("run-prepared", uuid).code == 125
    assert there.tool.pod(uuid)["state"] == "prepared"
    network(there)
    assert there.tool.ok("run-prepared", uuid) == "started\n"


def killed(there: Host, uuid: str) -> None:
    """Kill a pod's supervisor and its first process: nobody is left to do anything at its end."""
    directory = there.tool.directory(uuid)
    for name in ("supervisor", "pid"):
        try:
            os.kill(int((directory / name).read_text().split()[0]), signal.SIGKILL)
        except ProcessLookupError:
            pass
    assert until(lambda: there.tool.pod(uuid)["state"] == "exited")


def test_a_pod_whose_supervisor_was_killed(there: Host, image: str) -> None:
    network(there)
    uuid = there.tool.detached("--net=n", "--port=80-tcp:8080", image, "--", "sleep", "1000")
    assert len(leases(there)) == 1
    killed(there, uuid)
    assert there.leftovers() != []
    there.tool.ok("gc")
    assert there.leftovers() == []
    assert leases(there) == []
    assert there.tool.pod(uuid)["state"] == "exited garbage", "it stays to be looked at"


def test_a_reboot_takes_the_namespaces_but_not_the_leases(there: Host, image: str) -> None:
    network(there)
    uuid = there.tool.detached("--net=n", image, "--", "sleep", "1000")
    killed(there, uuid)
    # What a boot does: interfaces, rules and all below /run are gone. And net.d has been edited meanwhile.
    there.ok("umount", f"/run/pyrkt/netns/{uuid}")
    there.ok("rm", "-r", "/run/pyrkt")
    there.ok("iptables", "-t", "nat", "-F")
    there.ok("iptables", "-t", "nat", "-X")
    (there.tool.base / "etc/net.d/10-n.conflist").unlink()
    assert len(leases(there)) == 1
    there.tool.ok("rm", uuid)
    assert leases(there) == []


def test_rm_goes_on_without_a_plugin_that_refuses(there: Host, image: str) -> None:
    network(there, {"type": "own"})
    there.plugin("own", f"test $CNI_COMMAND = ADD && exec sed 's/.*\"prevResult\"://; s/}}$//'\n{FAILING}")
    uuid = there.tool.detached("--net=n", image, "--", "sleep", "1000")
    there.tool.ok("stop", "--force", uuid)
    assert leases(there) == [], "the other plugins have done their part"
    answer = there.tool.call("rm", uuid)
    assert answer.code == 0
    assert "network n: own: no luck: today" in answer.err
    assert there.tool.pods() == []


def test_failures_in_a_user_namespace(there: Host, image: str) -> None:
    network(there, {"type": "own"})
    there.plugin("own", f"test $CNI_COMMAND = ADD || exit 0\n{FAILING}")
    answer = there.tool.call("run", "--private-users", "--net=n", image, "--", "true")
    assert answer.code == 125
    assert "failed to setup network n: own: no luck: today (code 104)" in answer.err
    assert leases(there) == []


def test_root_of_a_user_namespace_joins_networks_too(there: Host, image: str) -> None:
    network(there)
    script = "ip -o -4 a show eth0; cat /proc/self/uid_map; ping -c 1 10.94.0.1"
    out = there.tool.ok("run", "--private-users", "--net=n:IP=10.94.0.7", image, "--", "sh", "-c", script)
    assert "inet 10.94.0.7/24" in out
    assert " 0 0 " not in out
    assert "1 packets received" in out


def test_no_network_is_asked_for_that_is_described_wrongly(there: Host, image: str) -> None:
    there.describe("20-x.conf", {"name": "x"})
    answer = there.tool.call("run", "--net=default", image, "--", "true")
    assert answer.code == 64
    assert "20-x.conf: type: is required" in answer.err
    assert there.tool.call("run", "--net=none", image, "--", "true").code == 0


def test_a_plugin_that_is_not_there(there: Host, image: str) -> None:
    network(there, {"type": "nosuch"})
    answer = there.tool.call("run", "--net=n", image, "--", "true")
    assert answer.code == 125
    assert "failed to setup network n: the network plugin 'nosuch' is in none of" in answer.err
    assert leases(there) == [], "not even the first one was run"


def test_many_at_once_get_an_address_each(there: Host, image: str) -> None:
    network(there)
    script = "ip -o -4 a show eth0 | awk '{print $4}'; sleep 2"
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    pods = [there.tool.popen("run", "--net=n", image, "--", "sh", "-c", script, **options) for _ in range(6)]
    found = [process.communicate(timeout=60)[0].decode().strip() for process in pods]
    assert len(set(found)) == 6
    assert all(text.startswith("10.94.0.") for text in found)


def test_an_app_that_takes_its_own_network_down(there: Host, image: str) -> None:
    network(there)
    script = "ip link del eth0; ls /sys/class/net"
    words = ("run", "--net=n", image, "--caps-retain=CAP_NET_ADMIN", "--", "sh", "-c", script)
    assert there.tool.ok(*words).split() == ["eth1", "lo"]
    assert there.leftovers() == []
