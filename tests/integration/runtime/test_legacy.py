"""A bundle of 2015, config.json and runtime.json, runs as the one of today that it came from."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import oci

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root
SCRIPT = (
    "id; hostname; pwd; env | sort; grep -E 'Cap|NoNewPrivs' /proc/self/status; ulimit -n; cat /proc/self/oom_score_adj"
    "; "
    "grep ' /data ' /proc/self/mountinfo | cut -d' ' -f6; echo x > /proc/sys/kernel/hostname || echo read-only;"
    "ls -l /dev/own | cut -c1-10; cat /proc/self/cgroup | grep pids"
)


def convert(*words: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.prefix) / "bin/pyrkt"), "bundle", "convert", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def both(box: Bundle, tmp_path: Path) -> Bundle:
    """A bundle of today with something of everything that 2015 could say."""
    config = box.config
    config["process"] |= {"user": {"uid": 5, "gid": 6, "additionalGids": [7]}, "cwd": "/tmp", "oomScoreAdj": 500}
    config["process"]["env"].append("MADE=2015")
    config["mounts"].append({"destination": "/data", "source": str(tmp_path), "options": ["bind", "ro"]})
    linux = config["linux"]
    linux["namespaces"] = [each for each in linux["namespaces"] if each["type"] != "cgroup"]
    linux["cgroupsPath"] = f"/pyrkt-test-{tmp_path.name}"
    linux["devices"] = [
        {"type": "c", "path": "/dev/own", "major": 1, "minor": 5, "fileMode": 0o604, "uid": 0, "gid": 0}
    ]
    linux.setdefault("resources", {})["pids"] = {"limit": 20}
    return box.script(SCRIPT)


def test_both_forms_run_alike(runtime: Runtime, both: Bundle, tmp_path: Path) -> None:
    modern = runtime.run(both.path)
    assert modern.code == 0, modern.err
    done = convert(str(both.path), str(tmp_path / "old"))
    assert done.returncode == 0, done.stderr
    portable = json.loads((tmp_path / "old/config.json").read_text())
    assert (portable["version"], "linux" in portable) == ("0.2.0", True)
    old = runtime.run(tmp_path / "old")
    assert (old.code, old.out, old.err) == (0, modern.out, modern.err)
    assert "uid=5 gid=6" in old.out
    back = convert(str(tmp_path / "old"), str(tmp_path / "new"), "--to=1.x")
    assert back.returncode == 0, back.stderr
    assert runtime.run(tmp_path / "new").out == modern.out


def test_exec_and_hooks_know_it_as_one_of_today(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    box.config["hooks"] = {"prestart": [{"path": "/bin/sh", "args": ["sh", "-c", f"cat > {seen}"]}]}
    box.save()
    assert convert("--drop", str(box.path)).returncode == 0
    name = runtime.new_id()
    answer = runtime.detached("create", "-b", str(box.path), name)
    assert answer.code == 0, answer.err
    assert json.loads(seen.read_text())["id"] == name
    assert runtime.call("start", name).code == 0
    assert runtime.call("exec", name, "hostname").out == "box\n"
    assert runtime.state(name)["ociVersion"] == "1.0.0"
    runtime.call("kill", name, "KILL")
    assert oci.eventually(lambda: runtime.state(name)["status"] == "stopped")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"mounts": {}}, "is not among the mounts of runtime.json", id="mounts"),
        pytest.param({"linux": {"rlimits": [{"type": "X"}]}}, "runtime.json: linux.rlimits[0].type", id="rlimits"),
        pytest.param(None, "JSON specification file runtime.json not found", id="no-second-half"),
    ],
)
def test_what_is_wrong_is_said_of_the_right_half(
    runtime: Runtime, box: Bundle, change: dict[str, Any] | None, message: str
) -> None:
    box.save()
    assert convert("--drop", "--to=2015", str(box.path)).returncode == 0
    half = box.path / "runtime.json"
    if change is None:
        half.unlink()
    else:
        half.write_text(json.dumps(json.loads(half.read_text()) | change))
    answer = runtime.run(box.path)
    assert answer.code == 1
    assert message in answer.err
    assert answer.err.count("\n") == 1


def test_a_newer_draft_is_refused(runtime: Runtime, box: Bundle) -> None:
    box.config["ociVersion"] = "0.5.0"
    box.save()
    (box.path / "runtime.json").write_text("{}")
    answer = runtime.run(box.path)
    assert answer.code == 1
    assert "ociVersion: version 0.5.0 is not supported" in answer.err
