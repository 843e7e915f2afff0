"""Hooks that run when stage1 has left: poststart after the program, poststop after the container."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support import bundle, oci

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


@pytest.fixture
def box(tmp_path: Path) -> Bundle:
    made = bundle.make(tmp_path / "bundle", "sleep", "60")
    made.config["root"]["readonly"] = False
    return made


def hook(script: str, *words: str) -> dict[str, object]:
    return {"path": "/bin/sh", "args": ["sh", "-c", script, *words]}


def create(runtime: Runtime, box: Bundle) -> str:
    name = runtime.new_id()
    answer = runtime.detached("create", "--bundle", str(box.save().path), name)
    assert answer.code == 0, answer.err
    return name


def test_poststart_comes_after_the_program_is_executed(runtime: Runtime, box: Bundle) -> None:
    box.config["hooks"] = {
        "startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "sleep 0.3; echo startContainer >>/tmp/order"]}],
        "poststart": [
            hook(f"tr '\\0' ' ' </proc/$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/')/cmdline >>{box.rootfs}/tmp/order")
        ],
    }
    name = create(runtime, box)
    assert runtime.call("start", name).code == 0
    assert (box.rootfs / "tmp/order").read_text() == "startContainer\nsleep 60 "


def test_a_failing_poststart_hook_was_a_warning_before_1_3(runtime: Runtime, box: Bundle) -> None:
    box.config["ociVersion"] = "1.2.1"
    box.config["hooks"] = {"poststart": [{"path": "/bin/false"}, hook(f"echo second >{box.path}/order")]}
    name = create(runtime, box)
    answer = runtime.call("start", name)
    assert answer.code == 0
    assert "level=warning" in answer.err
    assert "error running poststart hook #0" in answer.err
    assert (box.path / "order").read_text() == "second\n"
    assert runtime.state(name)["status"] == "running"


def test_a_failing_poststart_hook_ends_the_container_since_1_3(runtime: Runtime, box: Bundle) -> None:
    box.config["ociVersion"] = "1.3.0"
    box.config["hooks"] = {
        "poststart": [{"path": "/bin/true"}, {"path": "/bin/false"}, hook(f"echo third >>{box.path}/order")],
        "poststop": [hook(f"echo poststop >>{box.path}/order")],
    }
    name = create(runtime, box)
    pid = runtime.state(name)["pid"]
    answer = runtime.call("start", name)
    assert answer.code == 1
    assert "error running poststart hook #1" in answer.err
    assert (box.path / "order").read_text() == "poststop\n"
    assert oci.ended(pid)
    assert "does not exist" in runtime.call("state", name).err


def test_after_a_failing_poststop_hook_the_others_run(runtime: Runtime, box: Bundle) -> None:
    box.config["hooks"] = {"poststop": [{"path": "/bin/false"}, hook(f"echo second >{box.path}/order")]}
    answer = runtime.call("delete", create(runtime, box))
    assert answer.code == 0
    assert "error running poststop hook #0" in answer.err
    assert (box.path / "order").read_text() == "second\n"


def test_each_hook_is_told_how_far_the_container_is(runtime: Runtime, box: Bundle) -> None:
    kinds = {
        "prestart": "created",
        "createRuntime": "creating",
        "createContainer": "creating",
        "startContainer": "created",
        "poststart": "running",
        "poststop": "stopped",
    }
    box.config["hooks"] = {kind: [hook(f"cat >{box.path}/{kind}")] for kind in kinds}
    box.config["hooks"]["startContainer"] = [hook("cat >/tmp/startContainer")]
    name = create(runtime, box)
    assert runtime.call("start", name).code == 0
    assert runtime.call("delete", "--force", name).code == 0
    (box.rootfs / "tmp/startContainer").rename(box.path / "startContainer")
    assert {kind: json.loads((box.path / kind).read_text())["status"] for kind in kinds} == kinds
