"""``status``: what it says in rkt's forms, and how it waits."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.support.pods import Pyrkt, end

pytestmark = [pytest.mark.root, pytest.mark.peers]


def keys(out: str) -> list[str]:
    return [line.partition("=")[0] for line in out.splitlines()]


def test_lines_come_in_rkts_order(stored: Pyrkt, image: str) -> None:
    uuid = stored.ok("prepare", "--name=life", image, "--name=a", "--", "sh", "-c", "exit 7").strip()
    assert keys(stored.ok("status", uuid)) == ["state", "created", "name"]
    assert stored.call("run-prepared", "life").code == 7
    out = stored.ok("status", "life")
    assert keys(out) == ["state", "created", "started", "networks", "exited", "app-a", "name"]
    assert {"state=exited", "exited=true", "app-a=7", "name=life"} <= set(out.splitlines())
    stored.ok("rm", "life")


def test_a_running_pod(stored: Pyrkt, image: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    uuid = stored.detached(
        *(f"--volume=data,kind=host,source={tmp_path}/data,readOnly=true", image, "--name=a"),
        *("--mount=volume=data,target=/data", "--user-label=k=v", "--", "sleep", "600"),
    )
    try:
        assert keys(stored.ok("status", uuid)) == ["state", "created", "started", "networks", "pid", "exited"]
        found = json.loads(stored.ok("status", "--format=json-pretty", uuid))
        (app,) = found["apps"]
        assert (found["name"], found["state"], found["app_names"]) == (uuid, "running", ["a"])
        mount = {"name": "data", "container_path": "/data", "host_path": f"{tmp_path}/data", "read_only": True}
        assert mount in app["mounts"]
        assert app["user_labels"] == {"k": "v"}
        assert app["created_at"] // 10**9 >= found["created_at"] - 1
        assert app["started_at"] >= app["created_at"]
        assert "exit_code" not in app
    finally:
        stored.ok("stop", uuid)
    (app,) = stored.pod(uuid)["apps"]
    assert (app["state"], app["exit_code"]) == ("exited", 143)
    assert app["finished_at"] >= app["started_at"]


def test_wait_ends_with_the_pod_or_with_the_time(stored: Pyrkt, image: str, tmp_path: Path) -> None:
    go = tmp_path / "go"
    go.mkdir()
    script = "while ! test -e /go/now; do sleep 0.02; done; exit 3"
    words = [f"--volume=go,kind=host,source={go}", image, "--name=a", "--mount=volume=go,target=/go"]
    uuid = stored.detached(*words, "--", "sh", "-c", script)
    assert "state=running" in stored.ok("status", "--wait=0.1s", uuid)
    assert "state=running" in stored.ok("status", "--wait=false", uuid)
    waiting = stored.popen("status", "--wait", uuid)
    (go / "now").touch()
    assert waiting.stdout is not None
    out = waiting.stdout.read().decode()
    assert end(waiting) == 0
    assert {"state=exited", "app-a=3"} <= set(out.splitlines())
    assert "state=exited" in stored.ok("status", "--wait=true", uuid)


def test_a_prepared_pod_is_waited_for(stored: Pyrkt, image: str) -> None:
    uuid = stored.ok("prepare", image, "--name=a", "--", "true").strip()
    waiting = stored.popen("status", "--wait=60s", uuid)
    stored.ok("run-prepared", uuid)
    assert waiting.stdout is not None
    assert b"app-a=0" in waiting.stdout.read()
    assert end(waiting) == 0


def test_ready_is_when_all_apps_run(stored: Pyrkt, image: str) -> None:
    nap = ["--", "sleep", "600"]
    uuid = stored.ok("prepare", image, "--name=a", *nap, "---", image, "--name=b", *nap).strip()
    early = stored.call("status", "--wait-ready=0.05s", uuid)
    assert (early.code, early.out.splitlines()[0]) == (75, "state=prepared")
    waiting = stored.popen("status", "--wait-ready", "--format=json", uuid)
    running = stored.popen("run-prepared", uuid)
    try:
        assert waiting.stdout is not None
        found = json.loads(waiting.stdout.read())
        assert end(waiting) == 0
        assert [app["state"] for app in found["apps"]] == ["running", "running"]
    finally:
        stored.ok("stop", "--force", uuid)
        end(running)
    assert stored.call("status", "--wait-ready", uuid).code == 75, "what has ended will not get ready"


def test_the_uuid_may_be_in_a_file(stored: Pyrkt, image: str, tmp_path: Path) -> None:
    file = tmp_path / "uuid"
    stored.ok("run", f"--uuid-file-save={file}", image, "--name=a", "--", "true")
    begin = time.time()
    assert "app-a=0" in stored.ok("status", f"--uuid-file={file}", "--wait")
    assert time.time() - begin < 60
    assert json.loads(stored.ok("cat-manifest", "--pretty-print=false", f"--uuid-file={file}"))["acKind"]
    both = stored.call("status", f"--uuid-file={file}", "abc")
    assert (both.code, "exclude each other" in both.err) == (2, True)
    missing = stored.call("status", f"--uuid-file={tmp_path}/nothing")
    assert (missing.code, missing.err.count("\n")) == (66, 2)
    stored.ok("rm", f"--uuid-file={file}")
    assert stored.call("status", f"--uuid-file={file}").code == 66


@pytest.mark.parametrize(
    ("uuid", "code", "word"), [("", 2, "UUID cannot be empty"), ("0", 66, "no matches found for '0'")]
)
def test_what_names_no_pod(stored: Pyrkt, uuid: str, code: int, word: str) -> None:
    for command in ("status", "stop", "rm", "cat-manifest"):
        answer = stored.call(command, uuid)
        assert (answer.code, word in answer.err, answer.out) == (code, True, ""), command
