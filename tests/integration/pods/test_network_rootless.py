"""Networks of an ordinary user's pods, by pasta and by slirp4netns, on a host of the tests' own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.network import OUTSIDE, OUTSIDE_6, Host, host, until
from tests.support.pods import ordinary

pytestmark = [pytest.mark.root, pytest.mark.peers]
UID = 54323
SERVE = "mkdir /tmp/www && cd /tmp/www && hostname >index.html && exec httpd -f -p 80"
GET = "GET / HTTP/1.0\r\n\r\n"
_DEVICE = "mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200"  # as udev makes it


@pytest.fixture(scope="module")
def there() -> Iterator[Host]:
    """A host with a way out, and a user there with an image."""
    with ordinary(UID) as tool, host(tool) as made:
        made.ok("sh", "-c", _DEVICE)
        made.neighbour()
        made.ok("ip", "route", "add", "default", "via", OUTSIDE)
        made.ok("ip", "route", "add", "default", "via", OUTSIDE_6)
        made.serve("from the host", 8001, address="127.0.0.1")
        made.serve("from outside", 8002, netns="outside")
        yield made
        assert tool.clean() == []
        assert [name for name in ("pasta", "slirp4netns") if running(made, name)] == []


def running(there: Host, name: str) -> bool:
    """Tell whether a helper runs that was started on this host."""
    mine = os.readlink(f"/proc/{there.pid}/ns/mnt")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
            # pasta leaves for namespaces of its own; where it was started from is in its command line
            if words.split(b"\0")[0].endswith(name.encode()) and (
                str(there.tool.base).encode() in words or mine == os.readlink(process / "ns/mnt")
            ):
                return True
        except OSError:
            continue
    return False


@pytest.fixture(params=["pasta", "slirp4netns"])
def helper(there: Host, request: pytest.FixtureRequest) -> Iterator[str]:
    """Each of the two: which one comes first depends on pasta's age, so that the other one is put out of sight."""
    other = "/usr/bin/pasta" if request.param == "slirp4netns" else "/usr/bin/slirp4netns"
    there.ok("mount", "--bind", "/dev/null", other)
    yield str(request.param)
    there.ok("umount", other)


@pytest.fixture
def image(there: Host) -> str:
    """The reference of the image."""
    return f"oci:{there.tool.base}/layout:bb"


def test_the_way_out_but_none_to_the_hosts_loopback(there: Host, image: str, helper: str) -> None:
    script = (
        f"sleep 1 | nc {OUTSIDE} 8002; ip -o -4 a show eth0; cat /etc/resolv.conf;"
        " for host in 10.0.2.2 127.0.0.1; do sleep 1 | nc -w 2 $host 8001; done; true"
    )
    answer = there.tool.call("run", "--net=default", "--dns=10.0.0.53", image, "--", "sh", "-c", script)
    assert answer.code == 0, answer.err
    assert answer.out.startswith("from outside 10.77.0.1\n")
    assert "inet 10.0.2.100/24" in answer.out
    assert "from the host" not in answer.out
    assert "nameserver 10.0.0.53" in answer.out
    assert not running(there, helper)


def test_ports_of_the_host(there: Host, image: str, helper: str) -> None:
    words = ("--net=default", "--hostname=web", "--port=80-tcp:8080", "--port=80-tcp:10.77.0.1:8081")
    uuid = there.tool.detached(*words, image, "--", "sh", "-c", SERVE)
    try:
        assert running(there, helper)
        (network,) = there.tool.pod(uuid)["networks"]
        assert (network["netName"], network["ip"], network["ifName"]) == ("default", "10.0.2.100", "eth0")
        assert network["pluginPath"].endswith(helper)
        for address in ("127.0.0.1", "10.77.0.1", *(("::1",) if helper == "pasta" else ())):
            answer = until(lambda address=address: there.ask(address, 8080, send=GET))
            assert answer == "web\n", address
        assert there.ask("10.77.0.1", 8080, netns="outside", send=GET) == "web\n"
        assert there.ask("10.77.0.1", 8081, send=GET) == "web\n"
        assert there.ask("127.0.0.1", 8081, send=GET) == ""
    finally:
        there.tool.ok("stop", uuid)
    assert until(lambda: not running(there, helper))


def test_what_needs_root_is_refused_before_anything_runs(there: Host, image: str) -> None:
    answer = there.tool.call("run", "--net=default-restricted", image, "--", "true")
    assert answer.code == 77
    assert "CNI's plugins need root" in answer.err
    answer = there.tool.call("run", "--net=default", "--port=80-tcp:80", image, "--", "true")
    assert answer.code == 125
    assert "port 80 of the host is root's" in answer.err


SAYS = {"pasta": "Failed to open tun socket in namespace", "slirp4netns": 'open("/dev/net/tun")'}


def test_a_helper_that_cannot_work_says_why(there: Host, image: str, helper: str) -> None:
    there.ok("chmod", "600", "/dev/net/tun")
    try:
        answer = there.tool.call("run", "--net=default", image, "--", "true")
    finally:
        there.ok("chmod", "666", "/dev/net/tun")
    assert answer.code == 125
    assert f"failed to setup network: {helper}: {SAYS[helper]}" in answer.err
    assert not running(there, helper)


def test_a_host_without_helpers(there: Host, image: str) -> None:
    for name in ("pasta", "slirp4netns"):
        there.ok("mount", "--bind", "/dev/null", f"/usr/bin/{name}")
    try:
        answer = there.tool.call("run", "--net=default", image, "--", "true")
    finally:
        for name in ("pasta", "slirp4netns"):
            there.ok("umount", f"/usr/bin/{name}")
    assert answer.code == 66
    assert "neither is here" in answer.err
    assert "apt-get install passt" in answer.err


def test_a_helper_whose_pod_was_killed_is_ended_by_gc(there: Host, image: str, helper: str) -> None:
    uuid = there.tool.detached("--net=default", image, "--", "sleep", "1000")
    supervisor = int((there.tool.directory(uuid) / "supervisor").read_text().split()[0])
    assert running(there, helper)
    os.kill(supervisor, 9)
    assert until(lambda: there.tool.pod(uuid)["state"] == "exited")
    there.tool.ok("gc", "--mark-only")
    assert until(lambda: not running(there, helper))
