"""Pods of an ordinary user: a user namespace with one id, no cgroups unless delegated, and a word about it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pods import Ordinary, Pyrkt, ordinary

pytestmark = [pytest.mark.root, pytest.mark.peers]
UID = 54321


@pytest.fixture(scope="module")
def user() -> Iterator[Ordinary]:
    """A user with a data directory and a fetched image."""
    with ordinary(UID) as tool:
        yield tool


def image(user: Ordinary) -> str:
    return f"oci:{user.base}/layout:bb"


def test_root_inside_is_the_user_outside(user: Ordinary) -> None:
    out = user.ok(
        "run", image(user), "--", "sh", "-c", "id -u; cat /proc/self/uid_map; touch /x; stat -c %u /x /etc/passwd"
    )
    assert out.split() == ["0", "0", str(UID), "1", "0", "0"]


def test_a_limit_that_cannot_be_set_is_said_and_no_error(user: Ordinary) -> None:
    for _ in range(3):  # the third is written from a record, and says it too
        answer = user.call("run", image(user), "--memory=64Mi", "--", "echo", "ran")
        assert (answer.code, answer.out) == (0, "ran\n")
        assert answer.err.count("\n") == 1
        assert "linux.resources.memory.limit" in answer.err


def test_detach_stop_rm(user: Ordinary) -> None:
    uuid = user.detached(image(user), "--name=a", "--", "sleep", "600")
    assert user.pod(uuid)["state"] == "running"
    user.ok("stop", "--force", uuid)
    user.ok("rm", uuid)
    assert user.leftovers([uuid]) == []


def test_apps_come_and_go(user: Ordinary) -> None:
    pod = user.ok("app", "sandbox").strip()
    for name in ("a", "b"):
        user.ok("app", "add", pod, image(user), f"--name={name}", "--", "sh", "-c", "id -u; sleep 600")
        user.ok("app", "start", pod, name)
    assert user.ok("app", "list", pod) == "a\trunning\nb\trunning\n"
    assert user.ok("app", "exec", "--app=b", pod, "id", "-u") == "0\n"
    user.ok("app", "stop", "--force", pod, "a")
    user.ok("app", "rm", pod, "a")
    assert user.ok("app", "list", pod) == "b\trunning\n"
    user.ok("stop", "--force", pod)
    user.ok("rm", pod)
    assert user.leftovers([pod]) == []


def test_a_copied_tree(user: Ordinary) -> None:
    assert user.ok("run", "--no-overlay", image(user), "--", "cat", "/data/seed") == "from the image\n"


def test_data_of_others_is_not_used(user: Ordinary) -> None:
    root = Pyrkt(user.base)
    answer = root.call("run", image(user), "--", "true")
    assert answer.code == 77
    assert "belongs to uid" in answer.err


def test_unpack_makes_a_bundle_that_runs_as_that_user(user: Ordinary) -> None:
    user.ok("image", "unpack", image(user), str(user.base / "bundle"))
    oci = Path(shutil.which("runc") or "/usr/sbin/runc")
    command = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "env", f"XDG_RUNTIME_DIR={user.base}"]
    command += [
        str(oci),
        "--root",
        f"{user.base}/runc",
        "run",
        "--bundle",
        f"{user.base}/bundle",
        "pyrkt-test-rootless",
    ]
    done = subprocess.run(command, input="echo ran\n", capture_output=True, text=True, check=False)
    assert done.stdout == "ran\n", done.stderr


def test_one_enters_ones_own_pod(user: Ordinary) -> None:
    uuid = user.detached(image(user), "--name=a", "--", "sleep", "600")
    try:
        look = "id -u; cd /proc/self; readlink ns/user; readlink ns/mnt; grep CapBnd status; cat uid_map"
        out = user.ok("enter", uuid, "sh", "-c", look).splitlines()
        pid = int((user.directory(uuid) / "apps/a/pid").read_text().split()[0])
        assert out[0] == "0"
        assert out[1:3] == [os.readlink(f"/proc/{pid}/ns/{name}") for name in ("user", "mnt")]
        assert f"\n{out[3]}\n" in Path(f"/proc/{pid}/status").read_text()
        assert out[4].split() == ["0", str(UID), "1"]
        assert user.ok("exec", uuid, "touch", "/etc/mine") == ""
        assert user.call("enter", uuid, "mount", "-t", "tmpfs", "none", "/tmp").code != 0
        found = {process.get("app", ""): process for process in json.loads(user.ok("ps", "--format=json", uuid))}
        assert (found["a"]["pid"], found["a"]["uid"]) == (pid, UID), "by its files, where there are no cgroups"
        (pod,) = json.loads(user.ok("stats", "--no-stream", "--format=json", uuid))
        assert [app["name"] for app in pod["apps"]] == ["a"]
    finally:
        user.ok("stop", "--force", uuid)
