"""A pod as a service of systemd's: what a service manager does to its main process, done here by hand.

A unit of KillMode=mixed: SIGTERM goes to the main process alone, SIGKILL to all of its cgroup later.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.oci import eventually, processes
from tests.support.pods import Pyrkt, end

pytestmark = [pytest.mark.root, pytest.mark.peers]

ENDS_WELL = "trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.05; done"


def started(tool: Pyrkt, mark: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start a pod as a service manager does; return its main process once all of its apps run."""
    process = tool.popen("run", f"--uuid-file-save={mark}", *words)
    assert eventually(mark.exists, 20)
    uuid = mark.read_text().strip()
    assert eventually(lambda: tool.call("status", "--wait-ready=5s", uuid).code == 0, 20)
    assert process.stdout is not None
    seen = b""
    while seen.count(b"ready") < words.count(ENDS_WELL):
        seen += os.read(process.stdout.fileno(), 4096)
    return process


def test_the_main_process_is_the_pods_supervisor_to_the_end(stored: Pyrkt, image: str, tmp_path: Path) -> None:
    mark = tmp_path / "uuid"
    process = started(stored, mark, image, "--name=one", "--", "sh", "-c", ENDS_WELL)
    try:
        uuid = mark.read_text().strip()
        supervisor = int((stored.directory(uuid) / "supervisor").read_text().split()[0])
        assert supervisor == process.pid
        # ppid of the pod's first process: nothing stands between
        first = int((stored.directory(uuid) / "pid").read_text().split()[0])
        assert f"PPid:\t{process.pid}\n" in Path(f"/proc/{first}/status").read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        end(process)


def test_terminated_it_ends_its_apps_and_its_code_is_theirs(stored: Pyrkt, image: str, tmp_path: Path) -> None:
    mark = tmp_path / "uuid"
    words = (image, "--name=one", "--", "sh", "-c", ENDS_WELL, "---", image, "--name=two", "--", "sh", "-c", ENDS_WELL)
    process = started(stored, mark, *words)
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    said = process.stdout.read()
    assert end(process) == 0
    assert said.count(b"asked") == 2
    uuid = mark.read_text().strip()
    assert processes(uuid) == []
    # ExecStopPost=pyrkt gc --mark-only: the end is noted, nothing is removed
    assert uuid in stored.ok("gc", "--mark-only", "--grace-period=0")
    assert stored.pod(uuid)["state"] == "exited garbage"


def test_a_failing_app_fails_the_unit(stored: Pyrkt, image: str) -> None:
    process = stored.popen("run", image, "--", "sh", "-c", "exit 3")
    assert end(process) == 3


def test_killed_nothing_of_it_goes_on(stored: Pyrkt, image: str, tmp_path: Path) -> None:
    mark = tmp_path / "uuid"
    process = started(stored, mark, image, "--", "sh", "-c", ENDS_WELL)
    uuid = mark.read_text().strip()
    inside = stored.ok("ps", uuid)
    assert ENDS_WELL.split(";", maxsplit=1)[0] in inside
    process.kill()
    assert end(process) == -signal.SIGKILL
    assert eventually(lambda: processes(uuid) == [], 10)
    assert eventually(lambda: stored.pod(uuid)["state"] == "exited", 10)
