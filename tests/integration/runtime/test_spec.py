"""spec: a configuration to start from, which runs, and is where people and scripts look for what to change."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from tests.support import oci

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

SCHEMA = Path(__file__).parents[3] / "specs/oci-runtime.schema.json"


def written(runtime: Runtime, directory: Path, *words: str) -> dict[str, Any]:
    answer = runtime.call("spec", *words, cwd=directory)
    assert (answer.code, answer.out, answer.err) == (0, "", "")
    found = json.loads((directory / "config.json").read_text())
    assert isinstance(found, dict)
    return found


def test_it_is_valid_and_has_what_people_change(runtime: Runtime, tmp_path: Path) -> None:
    found = written(runtime, tmp_path)
    assert not list(Draft202012Validator(json.loads(SCHEMA.read_text())).iter_errors(found))
    assert found["process"]["user"] == {"uid": 0, "gid": 0}
    assert found["process"]["args"] == ["sh"]
    assert found["process"]["terminal"] is True
    assert found["root"] == {"path": "rootfs", "readonly": True}
    kinds = {each["type"] for each in found["linux"]["namespaces"]}
    assert {"pid", "network", "ipc", "uts", "mount"} <= kinds
    assert ("cgroup" in kinds) == Path("/sys/fs/cgroup/cgroup.controllers").exists()


def test_never_over_another(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("mine")
    for words in ([], ["--bundle", str(tmp_path)], ["-b", "."]):
        answer = runtime.call("spec", *words, cwd=tmp_path)
        assert (answer.code, "config.json exists. Remove it first" in answer.err) == (1, True)
    assert (tmp_path / "config.json").read_text() == "mine"


def test_for_an_ordinary_user(runtime: Runtime, tmp_path: Path) -> None:
    found = written(runtime, tmp_path, "--rootless")
    linux = found["linux"]
    assert linux["uidMappings"] == [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
    assert linux["gidMappings"] == [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
    kinds = {each["type"] for each in linux["namespaces"]}
    assert "user" in kinds
    assert "network" not in kinds
    assert "resources" not in linux


@pytest.mark.root
def test_it_runs(runtime: Runtime, box: Bundle) -> None:
    (box.path / "config.json").unlink(missing_ok=True)
    found = written(runtime, box.path)
    found["process"] |= {"args": ["echo", "Hello"], "terminal": False}
    (box.path / "config.json").write_text(json.dumps(found))
    answer = runtime.run(box.path)
    assert (answer.code, answer.out) == (0, "Hello\n"), answer.err


@pytest.mark.root
@pytest.mark.peers
def test_runc_runs_it_too(box: Bundle, runtime: Runtime, tmp_path: Path) -> None:
    (box.path / "config.json").unlink(missing_ok=True)
    found = written(runtime, box.path)
    found["process"] |= {"args": ["echo", "Hello"], "terminal": False}
    (box.path / "config.json").write_text(json.dumps(found))
    runc = oci.peer("runc", tmp_path)
    answer = runc.run(box.path)
    runc.clean()
    assert (answer.code, answer.out) == (0, "Hello\n"), answer.err
