"""``stats``, ``top`` and ``ps``: what pods use and what runs in them, held against the kernel's own files."""

from __future__ import annotations

import json
import os
import pty
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.oci import eventually
from tests.support.pods import Pyrkt, end

pytestmark = [pytest.mark.root, pytest.mark.peers]

BUSY = ["sh", "-c", "while :; do :; done"]


@pytest.fixture(scope="module")
def busy(stored: Pyrkt, image: str) -> Iterator[str]:
    """A pod of two apps: one that keeps a processor busy, and one that sleeps."""
    uuid = stored.detached(
        *("--name=pair", image, "--name=loop", "--memory=64Mi", "--pids=9", "--", *BUSY, "---"),
        *(image, "--name=nap", "--", "sleep", "600"),
    )
    yield uuid
    stored.ok("stop", "--force", uuid)


def once(tool: Pyrkt, *words: str) -> list[dict[str, Any]]:
    found = json.loads(tool.ok("stats", "--no-stream", "--format=json", *words))
    assert isinstance(found, list)
    return found


def test_json_has_the_kernels_numbers(stored: Pyrkt, busy: str) -> None:
    (pod,) = once(stored, busy)
    assert (pod["name"], pod["short_name"]) == (busy, "pair")
    apps = {app["name"]: app for app in pod["apps"]}
    loop, nap = apps["loop"], apps["nap"]
    assert (loop["memory_limit_bytes"], loop["pids_limit"], loop["pids"]) == (64 << 20, 9, 1)
    assert 0 < loop["memory_bytes"] <= 64 << 20
    assert loop["cpu_percent"] > nap["cpu_percent"]
    assert "memory_limit_bytes" not in nap
    assert pod["total"]["cpu_ns"] >= loop["cpu_ns"]
    assert pod["total"]["memory_bytes"] >= loop["memory_bytes"]


def test_the_table_has_a_row_an_app_and_one_for_all(stored: Pyrkt, busy: str) -> None:
    header, *rows = stored.ok("top", busy).splitlines()
    assert header.split()[:3] == ["POD", "APP", "CPU"]
    assert sorted(row.split()[1] for row in rows) == ["(all)", "loop", "nap"]
    assert rows[-1].split()[1] == "nap", "the busiest comes first"
    by_name = stored.ok("stats", "--no-stream", "--no-legend", "--sort=name", "pair").splitlines()
    assert [row.split()[:2] for row in by_name] == [["pair", "(all)"], ["pair", "loop"], ["pair", "nap"]]


def test_stats_go_on_until_the_pod_has_ended(stored: Pyrkt, image: str) -> None:
    uuid = stored.detached(image, "--name=a", "--", "sleep", "600")
    process = stored.popen("stats", "--interval=0.05s", "--format=json", uuid)
    assert process.stdout is not None
    lines = [json.loads(process.stdout.readline()) for _ in range(3)]
    assert all(pod["name"] == uuid for line in lines for pod in line)
    stored.ok("stop", "--force", uuid)
    assert json.loads(process.stdout.read().splitlines()[-1]) == []
    assert end(process) == 0


def test_top_is_live_on_a_terminal_and_ends_with_an_interrupt(stored: Pyrkt, busy: str) -> None:
    master, slave = pty.openpty()
    try:
        process = stored.popen("top", "--interval=0.05s", stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        seen, deadline = b"", time.monotonic() + 20
        while seen.count(b"loop") < 3:
            assert time.monotonic() < deadline, seen
            seen += os.read(master, 4096)
        process.send_signal(signal.SIGINT)
        while not seen.endswith(b"\x1b[?25h"):
            seen += os.read(master, 4096)
        assert end(process) == 0
    finally:
        os.close(master)
    assert b"Traceback" not in seen
    assert b"\x1b[?25l" in seen


def test_pods_that_do_not_run_are_left_out_unless_they_are_named(stored: Pyrkt, image: str, busy: str) -> None:
    uuid = stored.ok("prepare", image, "--", "true").strip()
    assert busy in {pod["name"] for pod in once(stored)}
    assert uuid not in {pod["name"] for pod in once(stored)}
    for command in (["stats", "--no-stream"], ["top"], ["ps"]):
        answer = stored.call(*command, uuid)
        assert (answer.code, "is not running but prepared" in answer.err) == (66, True)
    assert stored.call("stats", "--no-stream", "nosuchpod").code == 66


def test_ps_shows_each_process_with_both_numbers(stored: Pyrkt, busy: str) -> None:
    found = json.loads(stored.ok("ps", "--format=json", "pair"))
    apps = {process.get("app", ""): process for process in found}
    assert set(apps) == {"", "loop", "nap"}
    assert (apps[""]["pod_pid"], apps[""]["pid"]) == (1, stored.pod(busy)["pid"])
    nap = apps["nap"]
    assert nap["command"] == "sleep 600"
    assert Path(f"/proc/{nap['pid']}/cmdline").read_bytes() == b"sleep\x00600\x00"
    assert int(Path(f"/proc/{nap['pid']}/status").read_text().partition("NSpid:")[2].split()[1]) == nap["pod_pid"]
    rows = stored.ok("ps", "--app=nap", "--no-legend", busy).splitlines()
    assert [row.split()[0] for row in rows] == ["nap"]


def test_an_app_that_ends_takes_nothing_with_it(stored: Pyrkt, image: str) -> None:
    uuid = stored.detached(image, "--name=a", "--", "true", "---", image, "--name=b", "--", "sleep", "600")
    try:
        assert eventually(lambda: stored.pod(uuid)["apps"][0]["state"] == "exited")
        (pod,) = once(stored, uuid)
        assert {app["name"] for app in pod["apps"]} == {"a", "b"}
        assert [process.get("app") for process in json.loads(stored.ok("ps", "--format=json", uuid))] == [None, "b"]
    finally:
        stored.ok("stop", "--force", uuid)
