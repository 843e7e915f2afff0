"""delete: what is left of a container, sub-cgroups of its own making among it; nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import oci
from tests.support.limits import TOP, detached, place, stops

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root

WRITABLE = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw", "nosuid"]}


@pytest.mark.parametrize("command", [oci.LAUNCHER, oci.INTERPRETED], ids=["launcher", "interpreted"])
def test_sub_cgroups_of_the_container(runtime: Runtime, box: Bundle, command: tuple[str, ...]) -> None:
    runtime.command = command
    box.config["mounts"].append(WRITABLE)
    box.script(
        "for s in memory freezer pids; do mkdir -p /sys/fs/cgroup/$s/a/b; done; sleep 300 &"
        "echo $! > /sys/fs/cgroup/memory/a/b/tasks; echo $! > /sys/fs/cgroup/freezer/a/tasks; sleep 300"
    )
    name = detached(runtime, box)
    inner = place(box, "freezer") / "a/tasks"
    assert oci.eventually(lambda: inner.exists() and inner.read_text().split())
    pid = int(inner.read_text())
    assert runtime.call("delete", "--force", name).code == 0
    assert oci.ended(pid)
    assert not oci.cgroups(name)
    assert runtime.call("state", name).code == 1


def test_parents_and_siblings_stay(runtime: Runtime, box: Bundle) -> None:
    parent = runtime.new_id()
    sibling = TOP / "memory" / parent / "sibling"
    sibling.mkdir(parents=True)
    try:
        box.config["linux"]["cgroupsPath"] = f"/{parent}/deep/inner"
        name = detached(runtime, box)
        assert place(box, "memory").is_dir()
        assert runtime.call("delete", "--force", name).code == 0
        assert not place(box, "memory").exists()
        assert sibling.is_dir()
        assert sibling.parent.is_dir()
    finally:
        for directory in sorted(oci.cgroups(parent), key=len, reverse=True):
            (TOP / directory).rmdir()


def test_what_is_not_stopped_stays(runtime: Runtime, box: Bundle) -> None:
    name = detached(runtime, box)
    answer = runtime.call("delete", name)
    assert answer.code == 1
    assert f"cannot delete container {name} that is not stopped: running" in answer.err
    assert runtime.call("kill", name, "KILL").code == 0
    assert stops(runtime, name)
    assert runtime.call("delete", name).code == 0
    assert "container does not exist" in runtime.call("delete", name).err
    assert runtime.call("delete", "--force", name).code == 0
