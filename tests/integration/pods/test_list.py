"""``list``: rkt's columns and JSON, of pods in every state; what an ordinary user may see of root's."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from tests.support.pods import Pyrkt, make_layout

pytestmark = [pytest.mark.root, pytest.mark.peers]


def test_each_state_has_its_row(stored: Pyrkt, image: str) -> None:
    prepared = stored.ok("prepare", image, "--name=p", "--", "true").strip()
    running = stored.detached(image, "--name=r", "--", "sleep", "600")
    try:
        rows = {row.split()[0]: row for row in stored.ok("list", "--no-legend").splitlines()}
        assert " prepared " in rows[prepared[:8]]
        assert " running " in rows[running[:8]]
        header, *full = stored.ok("list", "--full").splitlines()
        assert re.split(r"  +", header) == [
            *("UUID", "APP", "IMAGE NAME", "IMAGE ID", "STATE", "CREATED", "STARTED", "NETWORKS")
        ]
        row = next(line for line in full if line.startswith(running))
        assert re.search(r"sha256-[0-9a-f]{12} ", row)
        assert len(re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}", row)) == 2, "created and started"
    finally:
        stored.ok("stop", "--force", running)
    assert " exited " in next(line for line in stored.ok("list").splitlines() if line.startswith(running[:8]))
    stored.ok("gc", "--mark-only")
    assert " exited garbage " in next(line for line in stored.ok("list").splitlines() if line.startswith(running[:8]))
    stored.ok("rm", running, prepared)


def test_json_has_what_rkts_has(stored: Pyrkt, image: str) -> None:
    uuid = stored.detached(image, "--name=a", "--user-annotation=x=y", "--", "sleep", "600")
    try:
        line = stored.ok("list", "--format=json")
        assert line.count("\n") == 1
        assert json.loads(stored.ok("list", "--format=json-pretty")) == json.loads(line)
        found = next(pod for pod in json.loads(line) if pod["name"] == uuid)
        assert (found["state"], found["app_names"]) == ("running", ["a"])
        assert found["started_at"] >= found["created_at"]
        (app,) = found["apps"]
        assert app["image_id"].startswith("sha256-")
        assert app["user_annotations"] == {"x": "y"}
        assert "networks" not in found, "it is in none"
    finally:
        stored.ok("stop", "--force", uuid)


def test_the_name_of_an_image_outlives_it(stored: Pyrkt) -> None:
    reference = f"oci:{make_layout(stored.base / 'other')}:bb"
    uuid = stored.ok("prepare", reference, "--", "true").strip()
    name = next(line for line in stored.ok("list", "--no-legend").splitlines() if line.startswith(uuid[:8])).split()[2]
    stored.ok("image", "rm", reference)
    assert f" {name} " in next(line for line in stored.ok("list").splitlines() if line.startswith(uuid[:8]))
    stored.ok("rm", uuid)


@pytest.mark.parametrize(
    "words",
    [
        *(["list"], ["status", "abc"], ["stop", "abc"], ["rm", "abc"], ["cat-manifest", "abc"], ["gc"]),
        *(["image", "list"], ["image", "rm", "abc"], ["image", "gc"], ["run-prepared", "abc"]),
    ],
    ids=" ".join,
)
def test_root_s_store_is_closed_to_others(stored: Pyrkt, words: list[str]) -> None:
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *stored.argv(*words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (77, "", 2), done.stderr
    assert "hint: " in done.stderr
