"""kill -9 at random moments of fetch and of run: nothing is lost, and gc leaves nothing (design law 3)."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.oci import cgroups, eventually, mounts, processes
from tests.support.registry import running
from tests.support.skopeo import Layout, Member, busybox_root, run

if TYPE_CHECKING:
    from collections.abc import Iterator

MOMENTS = 30
PYRKT = Path(sys.executable).with_name("pyrkt")

pytestmark = [pytest.mark.root, pytest.mark.peers, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve an image of three layers, some megabytes that do not compress, from docker-registry."""
    folder = tmp_path_factory.mktemp("served")
    noise = random.Random(1)
    layers = [busybox_root()] + [
        [Member(name=f"data/{layer}/{n}", data=noise.randbytes(1 << 17), mode=0o644) for n in range(24)]
        for layer in range(2)
    ]
    Layout(path=folder / "layout").image(layers, tag="1")
    with running(folder / "registry") as registry:
        where = f"docker://{registry.host}/kill:1"
        run("--insecure-policy", "copy", "--dest-tls-verify=false", f"oci:{folder / 'layout'}:1", where)
        yield where


def pyrkt(store: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run pyrkt on ``store`` to its end."""
    command = [str(PYRKT), f"--dir={store}", "--insecure-options=image,http", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def killed(store: Path, after: float, *words: str) -> None:
    """Start pyrkt and kill it (it alone, not what it started) after so many seconds."""
    command = [str(PYRKT), f"--dir={store}", "--insecure-options=image,http", *words]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.wait(20)


def idle(store: Path) -> bool:
    """Tell whether no process is at work on ``store``."""
    return not processes(str(store))


def succeeds(done: subprocess.CompletedProcess[str]) -> None:
    """Check that it did, or show what it said."""
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def how_long(store: Path, *words: str) -> float:
    """Return the seconds that the command takes undisturbed."""
    begin = time.monotonic()
    succeeds(pyrkt(store, *words))
    return time.monotonic() - begin


def clean(store: Path) -> None:
    """Check that after gc only images are there: no partial file, no quarantined tree, no pod, no cgroup of one."""
    uuids = [path.name for path in (store / "pods").glob("*/*") if path.is_dir()]
    succeeds(pyrkt(store, "gc", "--grace-period=0s"))
    if list((store / "pods/embryo").glob("*")):
        # Killed between making its directory and locking it: gc waits ten seconds for who may be about to lock it.
        time.sleep(11)
        succeeds(pyrkt(store, "gc", "--grace-period=0s"))
    succeeds(pyrkt(store, "image", "gc", "--grace-period=0s"))
    left = [path for name in ("tmp", "partial") for path in (store / name).iterdir()]
    assert not left
    assert not [path for path in (store / "pods").glob("*/*") if path.is_dir()]
    assert not [cgroup for uuid in uuids for cgroup in cgroups(uuid)]


def test_a_killed_fetch_leaves_a_store_that_verifies(tmp_path: Path, reference: str) -> None:
    full = how_long(tmp_path / "timed", "fetch", reference)
    moments = random.Random(2)
    for number in range(MOMENTS):
        store = tmp_path / f"store-{number % 3}"  # some fetches start from nothing, some from what another left
        if number % 3 == 0 and store.exists():
            succeeds(pyrkt(store, "image", "gc", "--grace-period=0s"))
        killed(store, moments.uniform(0, full), "fetch", "--pull-policy=update", reference)
        assert eventually(partial(idle, store), 10)
        succeeds(pyrkt(store, "image", "verify", "--all"))
        succeeds(pyrkt(store, "fetch", reference))
        succeeds(pyrkt(store, "image", "verify", "--all"))
        clean(store)


def test_a_killed_run_leaves_nothing_after_gc(tmp_path: Path, reference: str) -> None:
    store = tmp_path / "store"
    succeeds(pyrkt(store, "fetch", reference))
    words = ("run", reference, "--memory=64M", "--pids-limit=32", "--exec=/bin/sh", "--", "-c", "exit 0")
    full = how_long(store, *words)
    clean(store)
    before, moments = mounts(), random.Random(3)
    for _ in range(MOMENTS):
        killed(store, moments.uniform(0, full * 1.2), *words)
        assert eventually(partial(idle, store), 10)
        succeeds(pyrkt(store, "list"))
        clean(store)
        assert mounts() == before
    succeeds(pyrkt(store, *words))
    assert not [name for name in os.listdir(tmp_path) if name != "store"]
