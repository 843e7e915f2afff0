"""The life of pods: prepare, run-prepared, detach, list, status, stop, rm, gc, export, plan; what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.oci import cgroups, ended, eventually, peer
from tests.support.pods import Pyrkt, end, make_layout, wait_for

pytestmark = [pytest.mark.root, pytest.mark.peers]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pyrkt]:
    """A store with one OCI image; checks at the end that nothing stayed."""
    tool = Pyrkt(tmp_path_factory.mktemp("life"))
    tool.ok("fetch", f"oci:{make_layout(tool.base / 'layout')}:bb")
    yield tool
    assert tool.clean() == []


@pytest.fixture(scope="module")
def image(stored: Pyrkt) -> str:
    """The reference of the image."""
    return f"oci:{stored.base}/layout:bb"


def sleeping(tool: Pyrkt, image: str, *words: str) -> str:
    """Start a pod that sleeps; return its UUID."""
    return tool.detached(*words, image, "--name=nap", "--", "sleep", "600")


def test_prepare_then_run_prepared(stored: Pyrkt, image: str) -> None:
    uuid = stored.ok("prepare", image, "--name=a", "--", "sh", "-c", "hostname; exit 4").strip()
    assert stored.pod(uuid)["state"] == "prepared"
    answer = stored.call("run-prepared", uuid[:8])
    assert (answer.code, answer.out) == (4, f"pyrkt-{uuid}\n")
    found = stored.pod(uuid)
    assert (found["state"], found["apps"][0]["exit_code"]) == ("exited", 4)
    again = stored.call("run-prepared", uuid)
    assert again.code == 2
    assert "is not prepared but exited" in again.err


def test_run_prepared_with_other_flags(stored: Pyrkt, image: str) -> None:
    uuid = stored.ok("prepare", image, "--", "hostname").strip()
    assert stored.ok("run-prepared", "--hostname=other", uuid) == "other\n"


def test_a_pod_prepared_before_a_reboot_is_compiled_anew(stored: Pyrkt, image: str) -> None:
    uuid = stored.ok("prepare", image, "--", "echo", "still").strip()
    made = stored.directory(uuid) / "made"
    made.write_text(f"another-{made.read_text()}")
    (stored.directory(uuid) / "plan").write_bytes(b"of another kernel")
    assert stored.ok("run-prepared", uuid) == "still\n"


def test_of_two_that_run_one_prepared_pod_one_wins(stored: Pyrkt, image: str) -> None:
    uuid = stored.ok("prepare", image, "--", "sleep", "0.3").strip()
    both = [stored.popen("run-prepared", uuid) for _ in range(2)]
    codes = sorted(end(process) for process in both)
    assert codes[0] == 0
    assert codes[1] in {2, 66, 75}


def test_detached(stored: Pyrkt, image: str) -> None:
    uuid = stored.detached(image, "--name=a", "--", "sh", "-c", "echo hello; echo there >&2; sleep 2; exit 9")
    found = stored.pod(uuid)
    assert found["state"] == "running"
    assert found["pid"] > 1
    out = stored.ok("status", "--wait", uuid)
    assert "state=exited" in out
    assert "app-a=9" in out
    assert stored.ok("logs", "--stream=stdout", uuid) == "hello\n"
    assert stored.call("logs", "--stream=stderr", uuid).err == "there\n"


def test_any_user_can_open_the_log_by_its_name(stored: Pyrkt, image: str) -> None:
    words = ["--user=1000", "--name=speaker", "--", "sh", "-c", "echo by name >/dev/stdout; echo >&2 by number"]
    uuid = stored.detached(image, *words)
    answer = stored.call("logs", "--follow", uuid)
    assert (answer.out, answer.err) == ("by name\n", "by number\n")


def test_a_shell_does_not_wait_for_a_detached_pod(stored: Pyrkt, image: str) -> None:
    begin = time.monotonic()
    done = subprocess.run(
        stored.argv("run", "-d", image, "--", "sleep", "600"), capture_output=True, text=True, timeout=30, check=True
    )
    assert time.monotonic() - begin < 20
    stored.ok("stop", "--force", done.stdout.strip())


def test_a_detached_pod_that_cannot_start_says_why(stored: Pyrkt, image: str) -> None:
    answer = stored.call("run", "-d", image, "--", "/no/such")
    assert answer.code == 127
    assert "/no/such" in answer.err
    assert answer.out == ""


@pytest.mark.parametrize("recorded", [False, True])
def test_a_pod_whose_uuid_cannot_be_saved_is_not_left_behind(stored: Pyrkt, image: str, recorded: bool) -> None:
    words = [image, "--", "echo", str(recorded)]
    if recorded:
        stored.ok("run", *words)
    before = stored.pods()
    answer = stored.call("run", "--uuid-file-save=/no/such/file", *words)
    assert (answer.code != 0, answer.out) == (True, "")
    assert "/no/such" in answer.err
    assert stored.pods() == before


def test_what_was_kept_to_start_faster_goes_with_the_image(tmp_path: Path) -> None:
    tool = Pyrkt(tmp_path)
    image = f"oci:{make_layout(tmp_path / 'layout')}:bb"
    tool.ok("fetch", image)
    tool.ok("run", image, "--environment=TOKEN=passw0rd", "--", "true")
    tool.ok("run", image, "--", "echo", "s3cret")

    def holders(word: str = "s3cret") -> bytes:
        return subprocess.run(["grep", "-rlF", word, tool.data], check=False, capture_output=True).stdout

    assert b"/cache/" in holders()
    assert b"/cache/" not in holders("passw0rd"), "what passwords come by is not kept"
    tool.ok("image", "rm", json.loads(tool.ok("image", "list", "--format=json"))[0]["id"])
    tool.ok("gc", "--grace-period=0")
    assert holders() == b""
    assert tool.call("run", "--pull-policy=never", image, "--", "true").code != 0
    assert tool.clean() == []


def test_names(stored: Pyrkt, image: str) -> None:
    uuid = sleeping(stored, image, "--name=web")
    try:
        assert stored.pod("web")["name"] == uuid
        answer = stored.call("run", "--name=web", image, "--", "true")
        assert answer.code == 73
        assert uuid in answer.err
    finally:
        stored.ok("stop", "--force", "web")
    stored.ok("rm", "web")
    stored.ok("run", "--name=web", image, "--", "true")
    stored.ok("rm", "web")


def test_the_first_pod_of_a_data_directory_may_have_a_name(stored: Pyrkt, image: str, tmp_path: Path) -> None:
    tool = Pyrkt(tmp_path / "new")
    tool.base.mkdir()
    assert tool.ok("run", "--name=first", image, "--", "echo", "here") == "here\n"
    assert tool.clean() == []


def test_list_shows_a_row_an_app(stored: Pyrkt, image: str) -> None:
    uuid = stored.detached(image, "--name=a", "--", "sleep", "600", "---", image, "--name=b", "--", "sleep", "600")
    try:
        lines = stored.ok("list").splitlines()
        assert lines[0].split() == ["UUID", "APP", "IMAGE", "NAME", "STATE", "CREATED", "STARTED", "NETWORKS"]
        at = next(index for index, line in enumerate(lines) if line.startswith(uuid[:8]))
        assert lines[at].split()[1] == "a"
        assert "running" in lines[at]
        assert lines[at + 1].split()[0] == "b"
        assert not stored.ok("list", "--no-legend").startswith("UUID")
        assert uuid in stored.ok("list", "--full")
        found = next(pod for pod in stored.pods() if pod["name"] == uuid)
        assert found["app_names"] == ["a", "b"]
        assert found["started_at"] >= found["created_at"] > 1_600_000_000
    finally:
        stored.ok("stop", "--force", uuid)


def test_stop_asks_first_and_kills_after_the_grace(stored: Pyrkt, image: str) -> None:
    ready = "echo ready; while :; do sleep 0.05; done"
    polite = stored.detached(image, "--name=a", "--", "sh", "-c", f"trap 'exit 3' TERM; {ready}")
    log = stored.directory(polite) / "logs/a.log"
    assert eventually(lambda: "ready" in log.read_text())
    assert stored.ok("stop", polite[:8]) == f'"{polite}"\n'
    assert stored.pod(polite)["apps"][0]["exit_code"] == 3
    stubborn = stored.detached(image, "--name=a", "--", "sh", "-c", f"trap '' TERM; {ready}")
    log = stored.directory(stubborn) / "logs/a.log"
    assert eventually(lambda: "ready" in log.read_text())
    begin = time.monotonic()
    stored.ok("stop", "--grace=0.3", stubborn)
    assert time.monotonic() - begin < 8
    again = stored.call("stop", stubborn)
    assert (again.code, again.out) == (0, "")
    assert "already stopped" in again.err


def test_stop_by_uuid_file_and_of_several(stored: Pyrkt, image: str, tmp_path: Path) -> None:
    file = tmp_path / "uuid"
    first = sleeping(stored, image, f"--uuid-file-save={file}")
    stored.ok("stop", f"--uuid-file={file}", "--force")
    assert stored.pod(first)["state"] == "exited"
    second = sleeping(stored, image)
    answer = stored.call("stop", "--force", "nosuchpod", second)
    assert answer.code == 66
    assert stored.pod(second)["state"] == "exited"


def test_rm_removes_what_has_ended_and_nothing_else(stored: Pyrkt, image: str) -> None:
    uuid = sleeping(stored, image)
    answer = stored.call("rm", uuid)
    assert answer.code == 75
    assert "is running" in answer.err
    home = stored.directory(uuid)
    stored.ok("stop", "--force", uuid)
    assert stored.ok("rm", uuid) == f'"{uuid}"\n'
    assert not home.exists()
    assert stored.leftovers([uuid]) == []
    prepared = stored.ok("prepare", image).strip()
    stored.ok("rm", prepared)
    assert stored.call("status", prepared).code == 66


def test_gc_marks_and_sweeps(stored: Pyrkt, image: str) -> None:
    stored.ok("gc", "--grace-period=0")
    uuid_file = stored.base / "gc-uuid"
    stored.ok("run", f"--uuid-file-save={uuid_file}", image, "--", "true")
    uuid = uuid_file.read_text().strip()
    prepared = stored.ok("prepare", image).strip()
    assert stored.ok("gc", "--mark-only") == f'Moving pod "{uuid}" to garbage\n'
    assert stored.pod(uuid)["state"] == "exited garbage"
    assert stored.ok("gc") == ""
    assert stored.ok("gc", "--grace-period=0s") == f'Garbage collecting pod "{uuid}"\n'
    assert stored.pod(prepared)["state"] == "prepared"
    out = stored.ok("gc", "--expire-prepared=0")
    assert out == f'Moving pod "{prepared}" to garbage\nGarbage collecting pod "{prepared}"\n'


def test_kill_of_the_supervisor_leaves_nothing_after_gc(stored: Pyrkt, image: str) -> None:
    uuid_file = stored.base / "kill-uuid"
    process = stored.popen(
        "run", f"--uuid-file-save={uuid_file}", image, "--name=a", "--", "sh", "-c", "echo up; sleep 600"
    )
    wait_for(process, b"up")
    uuid = uuid_file.read_text().strip()
    first = stored.pod(uuid)["pid"]
    process.kill()
    assert end(process) == -9
    assert ended(first, 5), "the pod's first process dies with its supervisor"
    assert eventually(lambda: stored.pod(uuid)["state"] == "exited")
    stored.ok("gc", "--grace-period=0")
    assert stored.leftovers([uuid]) == []
    assert uuid not in stored.ok("list", "--full")


@pytest.mark.parametrize("delay_ms", [5, 15, 25, 35, 45, 60, 80, 120, 160])
def test_kill_at_any_moment_leaves_nothing_after_gc(stored: Pyrkt, image: str, delay_ms: int) -> None:
    known = {pod["name"] for pod in stored.pods()}
    # Without a record the whole way is walked: configure, compile, write, start.
    process = stored.popen("run", "--inherit-env", image, "--", "sleep", "600", start_new_session=True)
    time.sleep(delay_ms / 1000)
    os.killpg(process.pid, signal.SIGKILL)
    end(process)
    new = [pod["name"] for pod in stored.pods() if pod["name"] not in known]
    for uuid in new:
        assert eventually(lambda uuid=uuid: stored.pod(uuid)["state"] != "running", 5)  # type: ignore[misc]
    stored.ok("gc", "--grace-period=0")
    assert stored.leftovers(new) == []
    assert not {pod["name"] for pod in stored.pods()} & set(new)


def test_a_damaged_pod_hinders_no_other(stored: Pyrkt, image: str) -> None:
    broken = stored.ok("prepare", image).strip()
    for name in ("pod", "recipe", "plan", "causes", "cgroups", "created", "trees"):
        (stored.directory(broken) / name).write_bytes(b"\xff{" * 10)
    uuid = sleeping(stored, image)
    assert {broken, uuid} <= {pod["name"] for pod in stored.pods()}
    stored.ok("stop", "--force", uuid)
    answer = stored.call("run-prepared", broken)
    assert answer.code == 64
    assert "Traceback" not in answer.err
    stored.ok("rm", broken, uuid)


def test_cat_manifest(stored: Pyrkt, image: str) -> None:
    uuid = stored.ok("prepare", image, "--name=a", "--memory=64Mi", "--", "true").strip()
    found = json.loads(stored.ok("cat-manifest", uuid))
    (app,) = found["apps"]
    assert (found["acKind"], app["name"]) == ("PodManifest", "a")
    assert app["app"]["exec"] == ["true"]
    assert app["app"]["isolators"] == [{"name": "resource/memory", "value": {"limit": str(64 << 20)}}]
    assert stored.ok("cat-manifest", "--no-pretty-print", uuid).count("\n") == 1


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_an_exported_bundle_runs_elsewhere_with_what_the_app_changed(
    stored: Pyrkt, image: str, tmp_path: Path, runtime: str
) -> None:
    file = tmp_path / "uuid"
    script = "test -e /made && echo made; test -e /data/seed || echo deleted; touch /made; rm /data/seed"
    stored.ok("run", f"--uuid-file-save={file}", image, "--name=a", "--", "sh", "-c", script)
    stored.ok("export", "--bundle", file.read_text().strip(), str(tmp_path / "bundle"))
    assert not (tmp_path / "bundle/rootfs/data/seed").exists()
    other = peer(runtime, tmp_path)
    try:
        answer = other.run(tmp_path / "bundle")
        assert answer.out.split() == ["made", "deleted"], answer.err
    finally:
        other.clean()


def test_export_refuses_what_runs_and_what_is_there(stored: Pyrkt, image: str, tmp_path: Path) -> None:
    uuid = sleeping(stored, image)
    assert stored.call("export", "--bundle", uuid, str(tmp_path / "x")).code == 75
    stored.ok("stop", "--force", uuid)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("x")
    assert stored.call("export", "--bundle", uuid, str(tmp_path / "full")).code == 73
    assert (tmp_path / "full/file").exists()


def test_plan_of_images_of_a_pod_and_of_a_bundle(stored: Pyrkt, image: str, tmp_path: Path) -> None:
    words = [image, "--name=a", "--memory=64Mi", "--", "true"]
    text = stored.ok("plan", *words)
    assert "linux/resources/memory/limit" in text
    assert "exec" in text
    first = stored.ok("plan", "--hash", *words)
    assert first.startswith("sha256:")
    assert stored.ok("plan", "--hash", *words) == first
    assert stored.ok("plan", "--hash", image, "--name=a", "--memory=65Mi", "--", "true") != first
    steps = json.loads(stored.ok("plan", "--json", *words))
    assert len(steps) > 20
    uuid = stored.ok("prepare", *words).strip()
    assert len(stored.ok("plan", uuid).splitlines()) >= len(text.splitlines())
    stored.ok("export", "--bundle", uuid, str(tmp_path / "bundle"))
    assert "exec" in stored.ok("plan", str(tmp_path / "bundle"))


def test_limits_are_gone_with_the_pod(stored: Pyrkt, image: str) -> None:
    uuid = sleeping(stored, image)
    assert cgroups(uuid)
    stored.ok("stop", "--force", uuid)
    assert eventually(lambda: not cgroups(uuid))


def test_ordinary_users_see_and_touch_nothing(stored: Pyrkt) -> None:
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *stored.argv("list")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 77}
    assert "Traceback" not in done.stderr
