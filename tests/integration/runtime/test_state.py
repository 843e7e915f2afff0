"""state: what engines read, from create to delete."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.support import oci

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


def test_from_create_to_delete(runtime: Runtime, box: Bundle) -> None:
    box.config["annotations"] = {"org.example.key": "value"}
    name = runtime.new_id()
    assert runtime.call("state", name).code == 1
    assert runtime.detached("create", "-b", str(box.save().path), name).code == 0
    answer = runtime.call("state", name)
    assert not answer.out.endswith("\n")  # as runc
    state = json.loads(answer.out)
    members = ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "annotations", "owner"]
    assert list(state) == members
    assert (state["id"], state["status"], state["bundle"]) == (name, "created", str(box.path))
    assert (state["rootfs"], state["owner"]) == (str(box.rootfs), "root")
    assert state["annotations"] == {"org.example.key": "value"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", state["created"])
    pid = state["pid"]
    for words, status in (
        (["start"], "running"),
        (["pause"], "paused"),
        (["resume"], "running"),
    ):
        assert runtime.call(*words, name).code == 0
        found = runtime.state(name)
        assert (found["status"], found["pid"], found["created"]) == (status, pid, state["created"])
    assert runtime.call("kill", name, "KILL").code == 0
    assert oci.eventually(lambda: runtime.state(name)["status"] == "stopped")
    assert runtime.state(name)["pid"] == 0
    assert runtime.call("delete", name).code == 0
    answer = runtime.call("state", name)
    assert (answer.code, "container does not exist" in answer.err) == (1, True)


@pytest.mark.peers
def test_the_members_are_runcs(runtime: Runtime, box: Bundle, tmp_path_factory: pytest.TempPathFactory) -> None:
    box.save()
    found = []
    runc = oci.peer("runc", tmp_path_factory.mktemp("runc"))
    for each in (runtime, runc):
        name = each.new_id()
        assert each.detached("run", "-d", "-b", str(box.path), name).code == 0
        found.append({member: type(value) for member, value in each.state(name).items()})
    runc.clean()
    assert found[0] == found[1]
