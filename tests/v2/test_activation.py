"""A pod as the main process of systemd's own units: readiness, and sockets.

By plans: the guest has not what ``pyrkt`` itself needs.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyrkt.spec import steps as s
from tests.support import handmade as hand
from tests.support import oci

if TYPE_CHECKING:
    from collections.abc import Iterator

UNITS = Path("/run/systemd/system")
NAME = "pyrkt-test-pod"
SAYS_READY, MAKE_AS_SOURCE = 4, 2
BECOME = """
import sys
from pyrkt.stage1 import launch
with open(sys.argv[1], "rb") as file:
    plan, members = eval(file.read())
launch.run(plan, members=members)
"""
APP = """
import os, socket, sys
def tell(words):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.sendto(words.encode(), os.environ["NOTIFY_SOCKET"])
listening = int(os.environ.get("LISTEN_FDS", "0")) if os.environ.get("LISTEN_PID") == str(os.getpid()) else 0
tell(f"STATUS=has {listening}")
while not os.path.exists(sys.argv[1]):
    pass
tell("READY=1")
with socket.socket(fileno=3) as door:
    while True:
        client, _ = door.accept()
        client.sendall(b"welcome")
        client.close()
"""


def systemctl(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, timeout=120, check=False)


def shown(name: str) -> str:
    return systemctl("show", "--value", f"--property={name}", f"{NAME}.service").stdout.strip()


def pod(directory: Path, port: int) -> hand.Pod:
    """Return a pod of one app: Python on the guest's own files, with a socket of the pod's and one to tell by."""
    home = directory / "apps/a"
    home.mkdir(parents=True)
    inside = (
        (s.BIND, hand.C, home / "notify", "/dev/notify", 0, 0, 0, MAKE_AS_SOURCE),
        (s.LISTEN, hand.C, port.to_bytes(2, "little") + bytes(2)),
    )
    env = (*hand.ENV, "NOTIFY_SOCKET=/dev/notify")
    app = hand.app("a", "/", sys.executable, "-c", APP, str(directory / "go"), ends=1 | SAYS_READY, inside=inside)
    _, main, _ = app.plans
    main[-1] = (*main[-1][:-1], env)
    return hand.pod(app, control=directory / "control")


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[int]:
    """A service of type notify and its socket; the port that this has."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    plan = pod(tmp_path, port)
    (tmp_path / "plan").write_bytes(repr((hand.encode(plan), hand.members(plan))).encode())
    (tmp_path / "become").write_text(BECOME)
    (UNITS / f"{NAME}.service").write_text(
        f"[Service]\nType=notify\nEnvironment=PYTHONPATH={os.getcwd()}\nTimeoutStopSec=20\nKillMode=mixed\n"
        f"ExecStart={sys.executable} -P {tmp_path}/become {tmp_path}/plan\n"
    )
    (UNITS / f"{NAME}.socket").write_text(f"[Socket]\nListenStream=127.0.0.1:{port}\n")
    systemctl("daemon-reload")
    yield port
    systemctl("stop", f"{NAME}.socket", f"{NAME}.service")
    for kind in ("service", "socket"):
        (UNITS / f"{NAME}.{kind}").unlink()
    systemctl("daemon-reload")
    systemctl("reset-failed", f"{NAME}.service")


def test_a_unit_is_started_when_the_app_says_so_and_its_socket_is_the_apps(unit: int, tmp_path: Path) -> None:
    assert systemctl("start", f"{NAME}.socket").returncode == 0
    with socket.create_connection(("127.0.0.1", unit), 60) as client:
        assert oci.eventually(lambda: shown("StatusText") == "has 1", 60), shown("StatusText")
        assert shown("ActiveState") == "activating"
        (tmp_path / "go").touch()
        assert client.recv(100) == b"welcome"
    assert oci.eventually(lambda: shown("ActiveState") == "active", 20)
    with socket.create_connection(("127.0.0.1", unit), 60) as client:
        assert client.recv(100) == b"welcome"
    assert systemctl("stop", f"{NAME}.service").returncode == 0
    assert shown("ExecMainStatus") == "143"  # the app's, by SIGTERM
