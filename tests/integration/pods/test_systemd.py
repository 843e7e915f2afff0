"""Pods as systemd runs them: readiness by sd_notify(3), and sockets that it has opened, by sd_listen_fds(3)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.oci import eventually
from tests.support.pods import Pyrkt, end, make_aci
from tests.support.running import built

pytestmark = [pytest.mark.root, pytest.mark.peers]
SUPPORTS = "appc.io/executor/supports-systemd-notify"
SECONDS = 20

HELPER = r"""
#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int tell(const char *words)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	const char *path = getenv("NOTIFY_SOCKET");
	if (!path)
		return 3;
	strncpy(to.sun_path, path, sizeof to.sun_path - 1);
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	return sendto(fd, words, strlen(words), 0, (void *)&to, sizeof to) < 0 ? errno : 0;
}

/* several that never stop talking, until they are told to end */
static int chatter(const char *words)
{
	if (tell(words))
		return 5;
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	strncpy(to.sun_path, getenv("NOTIFY_SOCKET"), sizeof to.sun_path - 1);
	for (int i = 0; i < 8; i++)
		if (fork() == 0)
			break;
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	for (;;)
		sendto(fd, "X=1", 3, 0, (void *)&to, sizeof to);
}

/* answers each connection, and each datagram, with the words and the number of the descriptor */
static int serve(const char *words)
{
	const char *count = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID");
	printf("%s %s %d\n", count ? count : "none", pid && atoi(pid) == getpid() ? "mine" : "not mine", fcntl_open(3));
	fflush(stdout);
	if (!count)
		return 4;
	for (;;) {
		char answer[100];
		int client = accept(3, NULL, NULL);
		if (client < 0)
			return errno;
		snprintf(answer, sizeof answer, "%s 3\n", words);
		write(client, answer, strlen(answer));
		close(client);
	}
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "tell"))
		return tell(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "chatter"))
		return chatter(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "serve"))
		return serve(argv[2]);
	return 64;
}
""".replace("fcntl_open(3)", "dup(3) < 0 ? -1 : 3")


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pyrkt]:
    """A store with images whose program is the helper above."""
    tool = Pyrkt(tmp_path_factory.mktemp("systemd"))
    built(HELPER, tool.base / "helper")
    (tool.base / "helper").chmod(0o755)
    yield tool
    assert tool.clean() == []


def image(tool: Pyrkt, name: str, app: dict[str, Any], **more: Any) -> str:
    path = make_aci(tool.base / f"{name}.aci", f"example.com/{name}", app=app, **more)
    return str(path)


def mounts(tool: Pyrkt) -> tuple[str, ...]:
    """Return the words that put the helper into every app, as /h/helper."""
    (tool.base / "h").mkdir(exist_ok=True)
    if not (tool.base / "h/helper").exists():
        os.link(tool.base / "helper", tool.base / "h/helper")
    return f"--volume=h,kind=host,source={tool.base}/h", "--mount=volume=h,target=/h"


class Heard:
    """Who listens as systemd does, and has the messages of the main process."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.started: list[subprocess.Popen[bytes]] = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.settimeout(SECONDS)

    def message(self) -> tuple[str, int]:
        """Return the next message, and the process that has sent it."""
        data, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(12))
        return data.decode(), int.from_bytes(ancillary[0][2][:4], "little")

    def nothing(self) -> bool:
        """Tell whether there is no message now."""
        self.socket.setblocking(False)
        try:
            self.socket.recv(4096)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(SECONDS)
        return False


@pytest.fixture(params=["path", "abstract"])
def heard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Heard]:
    heard = Heard(str(tmp_path / "n") if request.param == "path" else f"@pyrkt-test-{os.getpid()}")
    yield heard
    heard.socket.close()
    for process in heard.started:
        process.kill()
        end(process)


def unit(tool: Pyrkt, heard: Heard, *words: str) -> subprocess.Popen[bytes]:
    """Run a pod as a unit of type notify does."""
    process = tool.popen("run", *words, env={**os.environ, "NOTIFY_SOCKET": heard.address})
    heard.started.append(process)
    return process


# --- readiness ---

WAITS = "trap 'exit 0' TERM; while :; do sleep 0.02; done"


def test_a_pod_is_ready_when_its_apps_run(tool: Pyrkt, heard: Heard) -> None:
    plain = image(tool, "plain", {"exec": ["/bin/sh", "-c", WAITS]})
    process = unit(tool, heard, plain)
    assert heard.message() == ("READY=1", process.pid)
    process.terminate()
    assert heard.message() == ("STOPPING=1", process.pid)
    end(process)


def test_an_app_that_tells_so_itself_is_waited_for(tool: Pyrkt, heard: Heard, tmp_path: Path) -> None:
    script = f"until test -e /g/go; do sleep 0.02; done; /h/helper tell 'STATUS=far\nMAINPID=1\nREADY=1'; {WAITS}"
    telling = image(
        tool, "telling", {"exec": ["/bin/sh", "-c", script], "user": "1000", "group": "1000"},
        annotations=[{"name": SUPPORTS, "value": "true"}],
    )  # fmt: skip
    tmp_path.chmod(0o755)
    process = unit(
        tool, heard, *mounts(tool), f"--volume=g,kind=host,source={tmp_path}", "--mount=volume=g,target=/g",
        f"--uuid-file-save={tmp_path}/uuid", telling, "--name=one",
    )  # fmt: skip
    assert eventually(lambda: (tmp_path / "uuid").exists() and "running" in tool.ok("list"))
    uuid = (tmp_path / "uuid").read_text().strip()
    assert eventually(lambda: tool.pod(uuid)["apps"][0]["state"] == "running")
    assert tool.call("status", "--wait-ready=0.05s", uuid).code == 75
    assert heard.nothing()
    (tmp_path / "go").touch()
    assert heard.message() == ("STATUS=far", process.pid)
    assert heard.message() == ("READY=1", process.pid)
    assert tool.call("status", "--wait-ready=10s", uuid).code == 0
    process.terminate()
    assert heard.message()[0] == "STOPPING=1"
    end(process)


def test_the_annotation_may_be_the_users(tool: Pyrkt, heard: Heard) -> None:
    plain = image(tool, "plain", {"exec": ["/bin/sh", "-c", f"/h/helper tell READY=1; {WAITS}"]})
    process = unit(tool, heard, *mounts(tool), plain, f"--annotation={SUPPORTS}=true")
    assert heard.message() == ("READY=1", process.pid)
    process.terminate()
    end(process)


def test_one_that_never_stops_talking_keeps_nobody_from_the_pod(tool: Pyrkt, heard: Heard) -> None:
    plain = image(tool, "plain", {"exec": ["/bin/sh", "-c", WAITS]})
    words = ("--exec=/h/helper", f"--annotation={SUPPORTS}=true", "--", "chatter", "READY=1")
    process = unit(tool, heard, *mounts(tool), plain, *words)
    assert heard.message() == ("READY=1", process.pid)
    process.terminate()
    assert heard.message() == ("STOPPING=1", process.pid)
    assert end(process) == 143


def test_one_without_it_has_no_socket(tool: Pyrkt, heard: Heard) -> None:
    plain = image(tool, "plain", {"exec": ["/bin/sh", "-c", "/h/helper tell READY=1; test $? = 3"]})
    process = unit(tool, heard, *mounts(tool), plain)
    assert end(process) == 0


def test_an_app_of_a_sandbox_is_ready_when_it_says_so(tool: Pyrkt) -> None:
    pod = tool.ok("app", "sandbox").strip()
    try:
        tool.ok("status", "--wait-ready=10s", pod)
        script = f"until test -e /go; do sleep 0.02; done; /h/helper tell READY=1; {WAITS}"
        words = (image(tool, "late", {"exec": ["/bin/sh", "-c", script]}), f"--annotation={SUPPORTS}=true")
        volume = f"--mnt-volume=name=h,kind=host,source={tool.base}/h,target=/h"
        mounts(tool)
        tool.ok("app", "add", pod, *words, volume)
        tool.ok("app", "start", pod, "late")
        assert tool.call("status", "--wait-ready=0.05s", pod).code == 75
        tool.ok("app", "exec", pod, "touch", "/go")
        tool.ok("status", "--wait-ready=10s", pod)
    finally:
        tool.ok("rm", "--force", pod)


# --- sockets ---


def activated(port: int, **more: Any) -> dict[str, Any]:
    return {"name": "www", "protocol": "tcp", "port": port, "socketActivated": True, **more}


def activate(tool: Pyrkt, addresses: list[str], *words: str) -> subprocess.Popen[bytes]:
    """Start a pod by systemd-socket-activate, which opens the sockets and waits for the first connection."""
    flags = [f"--listen={address}" for address in addresses]
    command = ["systemd-socket-activate", *flags, *tool.argv("run", *words)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def free_ports(count: int) -> list[int]:
    found = [socket.socket() for _ in range(count)]
    for one in found:
        one.bind(("127.0.0.1", 0))
    numbers = [int(one.getsockname()[1]) for one in found]
    for one in found:
        one.close()
    return numbers


def ask(port: int) -> str:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
                return client.makefile().read()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_each_app_gets_the_sockets_of_its_ports(tool: Pyrkt) -> None:
    first, second, other = free_ports(3)
    one = image(tool, "one", {"exec": ["/h/helper", "serve", "one"], "ports": [activated(first)]})
    two = image(tool, "two", {"exec": ["/h/helper", "serve", "two"], "ports": [activated(second)]})
    addresses = [f"127.0.0.1:{port}" for port in (other, second, first)]
    process = activate(tool, addresses, *mounts(tool), one, two)
    try:
        assert ask(first) == "one 3\n"
        assert [ask(port) for port in (second, first, second)] == ["two 3\n", "one 3\n", "two 3\n"]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        said = process.stdout.read().decode()
        end(process)
    assert [line for line in said.splitlines() if "mine" in line] == ["1 mine 3"] * 2


def test_a_port_of_the_host_is_meant(tool: Pyrkt, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    path = image(tool, "box", {"exec": ["/h/helper", "serve", "box"], "ports": [activated(80)]})
    tool.ok("fetch", path)
    stored = json.loads(tool.ok("image", "list", "--format=json"))
    (identity,) = [each["id"] for each in stored if each["name"].startswith("example.com/box")]
    manifest = {
        "acVersion": "0.8.11",
        "acKind": "PodManifest",
        "apps": [
            {
                "name": "box", "image": {"id": identity},
                "mounts": [{"volume": "h", "path": "/h"}],
            }
        ],
        "volumes": [{"name": "h", "kind": "host", "source": f"{tool.base}/h"}],
        "ports": [{"name": "www", "hostPort": port}],
    }  # fmt: skip
    mounts(tool)
    (tmp_path / "pod").write_text(json.dumps(manifest))
    process = activate(tool, [f"127.0.0.1:{port}"], f"--pod-manifest={tmp_path}/pod")
    try:
        assert ask(port) == "box 3\n"
    finally:
        process.send_signal(signal.SIGTERM)
        end(process)


def test_restarted_it_gets_them_again_and_others_get_none(tool: Pyrkt) -> None:
    (port,) = free_ports(1)
    script = "test -e /again || { touch /again; exit 1; }; exec /h/helper serve again"
    app = {"exec": ["/bin/sh", "-c", script], "ports": [activated(port)]}
    open_ones = "ls /proc/self/fd | wc -l; echo ${LISTEN_FDS-unset}; sleep 600"
    words = [image(tool, "again", app), "--restart=on-failure:1", "--restart-delay=5ms"]
    words += [image(tool, "plain", {"exec": ["/bin/sh", "-c", open_ones]})]
    process = activate(tool, [f"127.0.0.1:{port}"], *mounts(tool), *words)
    try:
        assert ask(port) == "again 3\n"
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        said = process.stdout.read().decode().split()
        end(process)
    assert {"unset", "4"} <= set(said)  # 0, 1, 2, and the directory itself


def test_without_a_socket_it_gets_no_word_of_any(tool: Pyrkt) -> None:
    (port,) = free_ports(1)
    app = {"exec": ["/h/helper", "serve", "x"], "ports": [activated(port)]}
    answer = tool.call("run", *mounts(tool), image(tool, "none", app))
    assert (answer.code, answer.out) == (4, "none not mine -1\n")
    lying = {**os.environ, "LISTEN_FDS": "2", "LISTEN_PID": "1"}
    answer = tool.call("run", *mounts(tool), image(tool, "none", app), env=lying)
    assert (answer.code, answer.out) == (4, "none not mine -1\n")
