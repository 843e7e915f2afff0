"""``pyrkt logs``: what apps have written, of one and of several, while they write, and over rotation."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import signal
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.oci import eventually
from tests.support.pods import app_supervisor, end, wait_for

if TYPE_CHECKING:
    from tests.support.pods import Pyrkt

pytestmark = [pytest.mark.root, pytest.mark.peers]

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"


def finished(stored: Pyrkt, *words: str) -> str:
    """Run a detached pod to its end; return its UUID."""
    uuid = stored.detached(*words)
    assert "state=exited" in stored.ok("status", "--wait", uuid)
    return uuid


@pytest.fixture(scope="module")
def talker(stored: Pyrkt, image: str) -> str:
    """A pod that has said three things, each a moment after the other."""
    script = "echo one; sleep 0.1; echo two >&2; sleep 0.1; printf three"
    return finished(stored, "--name=talker", image, "--name=a", "--", "sh", "-c", script)


@pytest.fixture(scope="module")
def pair(stored: Pyrkt, image: str) -> str:
    """A pod of two apps that have taken turns."""
    one = "echo a1; touch /v/1; while ! [ -e /v/2 ]; do sleep 0.01; done; echo a2"
    two = "while ! [ -e /v/1 ]; do sleep 0.01; done; sleep 0.05; echo b1; sleep 0.05; touch /v/2"
    mount = "--mount=volume=v,target=/v"
    words = ["--volume=v,kind=empty", image, "--name=a", mount, "--", "sh", "-c", one, "---"]
    return finished(stored, *words, image, "--name=b", mount, "--", "sh", "-c", two)


def test_each_stream_goes_where_it_went(stored: Pyrkt, talker: str) -> None:
    answer = stored.call("logs", talker)
    assert (answer.code, answer.out, answer.err) == (0, "one\nthree", "two\n")
    assert stored.ok("logs", "talker") == "one\nthree"  # by name
    assert stored.ok("logs", talker[:8]) == "one\nthree"


@pytest.mark.parametrize(
    ("words", "out", "err"),
    [
        (["--stream=stdout"], "one\nthree", ""),
        (["--stream", "stderr"], "", "two\n"),
        (["-n", "1"], "three", ""),
        (["--tail=2"], "three", "two\n"),
        (["--tail=all"], "one\nthree", "two\n"),
        (["-n0"], "", ""),
        (["--app=a"], "one\nthree", "two\n"),
        (["--since=1h"], "one\nthree", "two\n"),
        (["--until=1h"], "", ""),
        (["--since=2001-01-01T00:00:00Z", "--until=@4000000000"], "one\nthree", "two\n"),
        (["-f"], "one\nthree", "two\n"),
        (["--follow", "-n", "1"], "three", ""),
    ],
)
def test_flags(stored: Pyrkt, talker: str, words: list[str], out: str, err: str) -> None:
    answer = stored.call("logs", *words, talker)
    assert (answer.code, answer.out, answer.err) == (0, out, err)


def test_times_that_were_printed_choose_lines(stored: Pyrkt, talker: str) -> None:
    answer = stored.call("logs", "--timestamps", talker)
    assert re.fullmatch(f"{STAMP} one\n{STAMP} three\n", answer.out)
    assert re.fullmatch(f"{STAMP} two\n", answer.err)
    second = answer.err.split()[0]
    assert abs(datetime.fromisoformat(f"{second[:26]}+00:00") - datetime.now(UTC)).total_seconds() < 3600
    assert stored.ok("logs", f"--since={second}", talker) == "three"
    assert stored.ok("logs", f"--until={second}", talker) == "one\n"


def test_json(stored: Pyrkt, talker: str) -> None:
    lines = [json.loads(line) for line in stored.ok("logs", "--format=json", talker).splitlines()]
    assert [(line["app"], line["stream"], line["partial"], line["message"]) for line in lines] == [
        ("a", "stdout", False, "one"),
        ("a", "stderr", False, "two"),
        ("a", "stdout", True, "three"),
    ]
    assert all(re.fullmatch(STAMP, line["time"]) for line in lines)


def test_several_apps_by_time(stored: Pyrkt, pair: str) -> None:
    assert stored.ok("logs", pair) == "a: a1\nb: b1\na: a2\n"
    assert stored.ok("logs", "--app=b", pair) == "b1\n"
    assert stored.ok("logs", "--app=a", "--app=b", "-n2", pair) == "b: b1\na: a2\n"
    found = [json.loads(line) for line in stored.ok("logs", "--format=json", pair).splitlines()]
    assert [(line["app"], line["message"]) for line in found] == [("a", "a1"), ("b", "b1"), ("a", "a2")]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--app=nosuch"], 66, "has no app 'nosuch'"),
        (["--since=yesterday"], 2, "'yesterday' is not a time"),
        (["-n", "-1"], 2, "is not a number of lines"),
        (["--stream=stdin"], 2, "stdin"),
    ],
)
def test_what_cannot_be(stored: Pyrkt, talker: str, words: list[str], code: int, text: str) -> None:
    answer = stored.call("logs", *words, talker)
    assert (answer.code, answer.out) == (code, "")
    assert text in answer.err
    assert "hint:" in answer.err


def test_no_such_pod(stored: Pyrkt) -> None:
    assert stored.call("logs", "nosuch").code == 66
    assert stored.call("logs").code == 2


def test_a_prepared_pod_has_written_nothing(stored: Pyrkt, image: str) -> None:
    uuid = stored.ok("prepare", image, "--", "true").strip()
    assert stored.ok("logs", uuid) == ""
    assert stored.ok("logs", "-f", uuid) == ""
    stored.ok("rm", uuid)


def test_bytes_that_are_no_text(stored: Pyrkt, image: str) -> None:
    uuid = finished(stored, image, "--name=a", "--", "sh", "-c", r"printf '\377\000x\r\n'; printf 'gr\303\274n\n'")
    raw = subprocess.run(stored.argv("logs", uuid), capture_output=True, check=True, timeout=30).stdout
    assert raw == b"\xff\0x\r\ngr\xc3\xbcn\n"
    first, second = (json.loads(line) for line in stored.ok("logs", "--format=json", uuid).splitlines())
    assert base64.b64decode(first["bytes"]) == b"\xff\0x\r"
    assert first["message"] == "\ufffd\0x\r"
    assert second["message"] == "grün"
    assert "bytes" not in second


# --- while it is written ---


def test_follow_ends_with_the_app(stored: Pyrkt, image: str) -> None:
    script = "echo ready; while ! [ -e /tmp/go ]; do sleep 0.01; done; echo bye; exit 3"
    uuid = stored.detached(image, "--name=a", "--", "sh", "-c", script)
    follower = stored.popen("logs", "-f", uuid)
    json_follower = stored.popen("logs", "-f", "--format=json", uuid)
    wait_for(follower, b"ready\n")
    wait_for(json_follower, b'"ready"}\n')
    stored.ok("exec", uuid, "touch", "/tmp/go")
    assert wait_for(follower, b"bye\n") == b"bye\n"
    assert wait_for(json_follower, b"\n").endswith(b'"bye"}\n')
    assert end(follower) == 0
    assert end(json_follower) == 0


def test_follow_over_rotation(stored: Pyrkt, image: str) -> None:
    script = (
        "echo ready; while ! [ -e /tmp/go ]; do sleep 0.01; done; i=0;"
        "while [ $i -lt 12000 ]; do i=$((i+1)); echo this is line $i; [ $((i % 1000)) = 0 ] && sleep 0.02; done"
    )
    words = ["--log-size=64Ki", "--log-files=3", image, "--name=a", "--", "sh", "-c", script]
    uuid = stored.detached(*words)
    with (stored.base / "followed").open("w+b") as out:
        follower = stored.popen("logs", "-f", uuid, stdout=out)
        assert eventually(lambda: Path(out.name).stat().st_size, 20)
        stored.ok("exec", uuid, "touch", "/tmp/go")
        assert end(follower, 60) == 0
        out.seek(0)
        followed = out.read().decode().splitlines()
    assert followed == ["ready", *(f"this is line {number}" for number in range(1, 12001))]
    logs = stored.directory(uuid) / "logs"
    assert sorted(path.name for path in logs.iterdir()) == ["a.log", "a.log.1", "a.log.2"]
    assert all(path.stat().st_size <= 64 << 10 for path in logs.iterdir())
    kept = stored.ok("logs", uuid).splitlines()
    assert kept == followed[-len(kept) :]
    assert len(kept) > 2000
    assert stored.ok("logs", "-n", "1500", uuid).splitlines() == followed[-1500:]


def test_follow_ends_with_a_pod_that_is_killed(stored: Pyrkt, image: str) -> None:
    uuid = stored.detached(image, "--name=a", "--", "sh", "-c", "echo ready; sleep 600")
    follower = stored.popen("logs", "-f", uuid)
    wait_for(follower, b"ready\n")
    stored.ok("stop", "--force", uuid)
    assert end(follower) == 0


def test_follow_survives_the_removal_of_the_pod(stored: Pyrkt, image: str) -> None:
    uuid = stored.detached(image, "--name=a", "--", "sh", "-c", "echo ready; sleep 600")
    follower = stored.popen("logs", "-f", uuid)
    wait_for(follower, b"ready\n")
    stored.ok("rm", "--force", uuid)
    assert end(follower) == 0


def test_follow_up_to_a_time(stored: Pyrkt, image: str) -> None:
    uuid = stored.detached(image, "--name=a", "--", "sh", "-c", "while :; do echo x; sleep 0.05; done")
    until = datetime.fromtimestamp(time.time() + 0.7, UTC).isoformat()
    assert "x\n" in stored.ok("logs", "-f", f"--until={until}", uuid)
    stored.ok("stop", "--force", uuid)


def test_a_reader_that_goes_is_no_error_of_ours(stored: Pyrkt, talker: str) -> None:
    read, write = os.pipe()
    os.close(read)
    process = stored.popen("logs", talker, stdout=write)
    os.close(write)
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()
    assert end(process) == 141


# --- what is kept, and what comes out ---


def test_a_hundred_megabytes_come_out_as_they_went_in(stored: Pyrkt, image: str) -> None:
    made = "head -c 104857600 /dev/urandom >/tmp/blob; sha256sum </tmp/blob >&2; cat /tmp/blob"
    process = stored.popen("run", "--log-files=2", image, "--name=a", "--", "sh", "-c", made, stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stderr is not None
    found, size = hashlib.sha256(), 0
    while data := process.stdout.read(1 << 20):
        found.update(data)
        size += len(data)
    wanted = process.stderr.read().split()[0].decode()
    assert end(process, 60) == 0
    assert (size, found.hexdigest()) == (104857600, wanted)


def test_the_logs_of_a_foreground_pod_stay(stored: Pyrkt, image: str) -> None:
    answer = stored.call(
        "run", "--name=front", image, "--", "sh", "-c", "cat; echo err >&2; exit 4", input="typed\n", stdin=None
    )
    assert (answer.code, answer.out, answer.err) == (4, "typed\n", "err\n")
    answer = stored.call("logs", "front")
    assert (answer.out, answer.err) == ("typed\n", "err\n")
    stored.ok("rm", "front")


def test_modes(stored: Pyrkt, image: str) -> None:
    script = "read x; echo out; echo err >&2; readlink /proc/$$/fd/0"
    answer = stored.call("run", image, "--stderr=null", "--stdin=null", "--", "sh", "-c", script)
    assert (answer.code, answer.out, answer.err) == (0, "out\n/dev/null\n", "")
    uuid = finished(stored, "--log=none", image, "--name=a", "--", "sh", "-c", script)
    assert stored.ok("logs", uuid) == ""
    assert list((stored.directory(uuid) / "logs").iterdir()) == []


def test_event_handlers_are_logged_with_their_app(stored: Pyrkt, image: str, tmp_path: Path) -> None:
    from tests.support.pods import make_aci

    handlers = [
        {"name": "pre-start", "exec": ["/bin/sh", "-c", "echo before"]},
        {"name": "post-stop", "exec": ["/bin/sh", "-c", "echo after"]},
    ]
    aci = make_aci(tmp_path / "h.aci", app={"exec": ["/bin/sh", "-c", "echo main"], "eventHandlers": handlers})
    uuid = finished(stored, str(aci))
    assert stored.ok("logs", uuid) == "before\nmain\nafter\n"


def test_an_app_that_is_run_again_goes_on_in_its_log(stored: Pyrkt, image: str) -> None:
    words = [image, "--name=a", "--restart=on-failure:2", "--restart-delay=10ms"]
    uuid = stored.detached(*words, "--", "sh", "-c", "echo life; exit 1")
    assert stored.ok("logs", "-f", uuid) == "life\nlife\nlife\n"


def test_a_full_disk_ends_no_app(stored: Pyrkt, image: str) -> None:
    script = "i=0; while [ $i -lt 6000 ]; do i=$((i+1)); echo this is line $i; done; exit 5"
    uuid = stored.ok("prepare", image, "--name=a", "--", "sh", "-c", script).strip()
    small = stored.directory(uuid) / "logs"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", small], check=True)
    try:
        answer = stored.call("run-prepared", uuid)
        assert (answer.code, answer.out.splitlines()[-1]) == (5, "this is line 6000")
        small = stored.directory(uuid) / "logs"
        os.truncate(small / "a.log", 0)  # there is room again
        assert stored.ok("logs", uuid) == ""
    finally:
        subprocess.run(["umount", small], check=True)


def test_memory_of_a_quiet_app(stored: Pyrkt, image: str) -> None:
    uuid = stored.detached(image, "--name=a", "--", "sh", "-c", "echo hello; sleep 600")
    member = app_supervisor(stored, uuid, "a")
    found: dict[str, list[str]] = {}
    for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        found[name] = rest.split()
    assert int(found["Pss"][0]) < 100
    stored.ok("stop", "--force", uuid)


def test_a_supervisor_that_is_killed_leaves_whole_lines(stored: Pyrkt, image: str) -> None:
    uuid = stored.detached(image, "--name=a", "--", "sh", "-c", "while :; do echo some words; done")
    log = stored.directory(uuid) / "logs/a.log"
    assert eventually(lambda: log.exists() and log.stat().st_size > 100_000)
    supervisor = int((stored.directory(uuid) / "supervisor").read_text().split()[0])
    os.kill(supervisor, signal.SIGKILL)
    assert eventually(lambda: stored.pod(uuid)["state"] != "running", 10)
    lines = stored.ok("logs", uuid).splitlines()
    assert set(lines) == {"some words"}
