"""checkpoint and restore where criu may not know this kernel: what is refused, and that it harms nobody.

That they work is shown on a kernel that the guest's criu knows (tests/v2).
"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support import oci

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


@pytest.fixture
def name(runtime: Runtime, box: Bundle) -> str:
    """The id of a container that runs."""
    box.save()
    found = runtime.new_id()
    answer = runtime.detached("run", "-d", "-b", str(box.path), found)
    assert answer.code == 0, answer.err
    return found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--criu", "/nonexistent/criu", "checkpoint"],
            'exec: "/nonexistent/criu": executable file not found in $PATH',
        ),
        (["--criu", "/bin/true", "checkpoint"], "criu ended without an answer"),
        (["checkpoint", "--parent-path", "/parent"], "--parent-path must be relative"),
        (["checkpoint", "--parent-path", "parent"], "invalid --parent-path"),
        (["checkpoint", "--manage-cgroups-mode", "mine"], "invalid manage-cgroups-mode value"),
        (["checkpoint", "--empty-ns", "pid"], 'namespace "pid" is not supported'),
        (["checkpoint", "--page-server", "host"], "Use --page-server ADDRESS:PORT to specify page server"),
        (["checkpoint", "--page-server", "host:x"], "Invalid port number"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_refused(runtime: Runtime, name: str, tmp_path: Path, words: list[str], message: str) -> None:
    answer = runtime.call(*words, "--image-path", str(tmp_path / "images"), name)
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert message in answer.err.replace('\\"', '"')
    assert runtime.state(name)["status"] == "running"


def test_a_criu_that_does_not_know_the_kernel_says_why(runtime: Runtime, name: str, tmp_path: Path) -> None:
    """Where it does, it works (or says of what is open on the host: the container's output is a file there)."""
    assert shutil.which("criu", path="/usr/sbin:/usr/bin:/sbin:/bin"), "criu is not installed: apt-get install criu"
    knows = subprocess.run(["criu", "check"], capture_output=True, check=False, timeout=60).returncode == 0
    answer = runtime.call("checkpoint", "--image-path", str(tmp_path / "images"), name)
    assert answer.code == 1
    assert "criu failed: type DUMP errno" in answer.err
    assert f"the whole story: {tmp_path}/images/dump.log" in answer.err
    assert ("Can't lookup mount" in answer.err) == knows
    assert runtime.state(name)["status"] == "running"
    assert runtime.call("exec", name, "true").code == 0


def test_only_what_runs_is_checkpointed(runtime: Runtime, box: Bundle) -> None:
    box.save()
    name = runtime.new_id()
    assert runtime.detached("create", "-b", str(box.path), name).code == 0
    answer = runtime.call("checkpoint", name)
    assert (answer.code, "Container cannot be checkpointed in created state" in answer.err) == (1, True)
    runtime.call("kill", name, "KILL")
    assert oci.eventually(lambda: runtime.state(name)["status"] == "stopped")
    answer = runtime.call("checkpoint", name)
    assert "Container cannot be checkpointed in stopped state" in answer.err


def test_a_restore_without_a_checkpoint(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    box.save()
    name = runtime.new_id()
    for images, message in ((tmp_path / "none", "none: no such file"), (tmp_path, "descriptors.json: no such file")):
        answer = runtime.call("restore", "--image-path", str(images), "-b", str(box.path), name)
        assert (answer.code, answer.err.count("\n")) == (1, 1)
        assert message in answer.err
    (tmp_path / "descriptors.json").write_text('["", "", ""]')
    answer = runtime.call("restore", "--image-path", str(tmp_path), "-b", str(box.path), name)
    assert answer.code == 1
    assert "criu failed: type RESTORE errno" in answer.err
    assert runtime.call("state", name).code == 1
    assert not oci.cgroups(name)
