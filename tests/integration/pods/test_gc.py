"""``gc``: marks and sweeps what has ended, was aborted or expired; never what lives; with whatever was left behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.oci import cgroups, mounts
from tests.support.pods import Pyrkt, end

pytestmark = [pytest.mark.root, pytest.mark.peers]


def ended(tool: Pyrkt, image: str, tmp_path: Path) -> str:
    file = tmp_path / "uuid"
    tool.ok("run", f"--uuid-file-save={file}", image, "--name=a", "--", "true")
    return file.read_text().strip()


def test_what_lives_or_may_be_wanted_stays(stored: Pyrkt, image: str, tmp_path: Path) -> None:
    stored.ok("gc", "--grace-period=0")
    running = stored.detached(image, "--name=a", "--", "sleep", "600")
    prepared = stored.ok("prepare", image, "--", "true").strip()
    fresh = ended(stored, image, tmp_path)
    try:
        assert stored.ok("gc") == f'Moving pod "{fresh}" to garbage\n', "it is kept to be looked at for half an hour"
        assert stored.pod(running)["state"] == "running"
        assert stored.pod(prepared)["state"] == "prepared"
        assert stored.pod(fresh)["state"] == "exited garbage"
        assert stored.ok("gc", "--grace-period=1h") == ""
        stored.ok("rm", fresh, prepared)
    finally:
        stored.ok("stop", "--force", running)


def test_one_whose_making_was_aborted_goes(stored: Pyrkt) -> None:
    uuid = "11111111-2222-4333-8444-555555555555"
    stored.ok("gc", "--grace-period=0")
    (stored.data / "pods/prepare" / uuid / "apps/x/deep").mkdir(parents=True)
    assert stored.pod(uuid)["state"] == "aborted prepare"
    out = stored.ok("gc")
    assert out == f'Moving pod "{uuid}" to garbage\nGarbage collecting pod "{uuid}"\n'
    assert stored.call("status", uuid).code == 66


def test_mounts_and_cgroups_that_stayed_go_too(stored: Pyrkt, image: str, tmp_path: Path) -> None:
    uuid = ended(stored, image, tmp_path)
    place = stored.directory(uuid) / "apps/a/left"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
    left = next(path for path in (stored.directory(uuid) / "cgroups").read_text().split('"') if uuid in path)
    os.makedirs(left)
    stored.ok("gc", "--grace-period=0")
    assert not os.path.exists(left)
    assert cgroups(uuid) == []
    assert not [point for point in mounts() if uuid in point]
    assert stored.call("status", uuid).code == 66


def test_many_at_once_do_each_pod_once(stored: Pyrkt, image: str, tmp_path: Path) -> None:
    stored.ok("gc", "--grace-period=0")
    uuids = {ended(stored, image, tmp_path) for _ in range(6)}
    collectors = [stored.popen("gc", "--grace-period=0") for _ in range(4)]
    said = b""
    for process in collectors:
        assert process.stdout is not None
        assert process.stderr is not None
        said += process.stdout.read()
        assert process.stderr.read() == b""
        assert end(process) == 0
    for uuid in uuids:
        assert said.count(f'Garbage collecting pod "{uuid}"'.encode()) == 1
    assert not uuids & {pod["name"] for pod in stored.pods()}
