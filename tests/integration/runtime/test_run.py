"""run: what stays with --keep, and the exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import oci

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


def test_nothing_stays(runtime: Runtime, box: Bundle) -> None:
    answer = runtime.run(box.runs("echo", "Hello").path)
    assert (answer.code, answer.out, answer.err) == (0, "Hello\n", "")
    assert runtime.call("state", runtime.ids[-1]).code == 1


def test_all_stays_for_delete(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    box.config["hooks"] = {"poststop": [{"path": "/bin/sh", "args": ["sh", "-c", f"echo stop >> {seen}"]}]}
    answer = runtime.run(box.script("exit 3").path, "--keep")
    assert answer.code == 3
    name = runtime.ids[-1]
    state = runtime.state(name)
    assert (state["status"], state["pid"]) == ("stopped", 0)
    assert oci.cgroups(name)
    assert not seen.exists()
    assert runtime.call("delete", name).code == 0
    assert seen.read_text() == "stop\n"
    assert not oci.cgroups(name)
    assert runtime.call("state", name).code == 1


def test_one_that_cannot_start_is_not_kept(runtime: Runtime, box: Bundle) -> None:
    answer = runtime.run(box.runs("/nonexistent").path, "--keep")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert runtime.call("state", runtime.ids[-1]).code == 1
    assert not oci.cgroups(runtime.ids[-1])


def test_the_root_is_the_bundle_itself(runtime: Runtime, box: Bundle) -> None:
    box.config["root"]["path"] = "."
    box.runs("echo", "Hello")
    (box.path / "config.json").rename(box.rootfs / "config.json")
    answer = runtime.run(box.rootfs)
    assert (answer.code, answer.out) == (0, "Hello\n"), answer.err


def test_an_id_that_is_empty(runtime: Runtime, box: Bundle) -> None:
    answer = runtime.call("run", "-b", str(box.save().path), "")
    assert (answer.code, "container id cannot be empty" in answer.err) == (1, True)
