"""Which cgroups a container gets: what is given to its user, and what it finds there already."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from pyrkt.base.errors import Busy
from pyrkt.base.reader import Reader
from pyrkt.cgroup import existing
from pyrkt.runtime import placing
from pyrkt.spec.runtime import Config

if TYPE_CHECKING:
    from pathlib import Path

MOUNT = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "rw"]}
IDS = [{"containerID": 0, "hostID": 100000, "size": 1000}, {"containerID": 1000, "hostID": 500, "size": 1}]


def config(**changes: Any) -> Config:
    value = {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "process": {"args": ["a"], "cwd": "/", "user": {"uid": changes.get("uid", 0), "gid": 0}},
        "mounts": [MOUNT | changes.get("mount", {})],
        "linux": {
            "namespaces": [{"type": "user"}, {"type": "mount"}, changes.get("space", {"type": "cgroup"})],
            "uidMappings": IDS,
            "gidMappings": IDS,
        },
    }
    return Config.parse(Reader(value, "config.json"))


@pytest.fixture(autouse=True)
def _delegate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "delegate").write_text("cgroup.procs\ncgroup.threads\n")
    monkeypatch.setattr(placing, "_DELEGATE", str(tmp_path / "delegate"))


@pytest.mark.parametrize(
    ("changes", "owner"),
    [
        pytest.param({}, 100000, id="root-of-the-container"),
        pytest.param({"uid": 1000}, 500, id="its-user"),
        pytest.param({"mount": {"type": "cgroup2", "destination": "/sys/fs/cgroup/"}}, 100000, id="cgroup2"),
        pytest.param({"uid": 5000}, None, id="nobody"),
        pytest.param({"mount": {"options": ["ro"]}}, None, id="read-only"),
        pytest.param({"mount": {"destination": "/cg"}}, None, id="elsewhere"),
        pytest.param({"space": {"type": "ipc"}}, None, id="the-hosts-view"),
        pytest.param({"space": {"type": "cgroup", "path": "/proc/1/ns/cgroup"}}, None, id="anothers-view"),
    ],
)
def test_a_cgroup_is_given_to_who_may_see_and_write_it(changes: dict[str, Any], owner: int | None) -> None:
    given = placing._given(config(**changes), "/cg/x")
    expected = ("/cg/x", "/cg/x/cgroup.procs", "/cg/x/cgroup.threads")
    assert given == (() if owner is None else tuple((path, owner, 100000) for path in expected))


def test_a_cgroup_with_processes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/cgroup.procs").write_text(f"{os.getpid()}\n")
    with pytest.raises(Busy, match=r"container's cgroup is not empty: 1 process\(es\) found"):
        existing.check([str(tmp_path)])


@pytest.mark.parametrize(("file", "text"), [("freezer.state", "FROZEN\n"), ("cgroup.freeze", "1\n")])
def test_a_frozen_cgroup_is_refused(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(Busy, match="container's cgroup unexpectedly frozen"):
        existing.check([str(tmp_path)])


@pytest.mark.parametrize(
    ("there", "limit", "first"),
    [("10", "20", "memsw"), ("10", "-1", "memsw"), ("10", "5", "limit"), ("", "20", "limit")],
)
def test_memory_and_swap_over_those_that_are_there(tmp_path: Path, there: str, limit: str, first: str) -> None:
    if there:
        (tmp_path / "memory.memsw.limit_in_bytes").write_text(there)
    writes = [
        (f"{tmp_path}/cpu.shares", "5", "a"),
        (f"{tmp_path}/memory.limit_in_bytes", limit, "b"),
        (f"{tmp_path}/memory.memsw.limit_in_bytes", "30", "c"),
    ]
    found = existing.arranged(writes)
    assert sorted(found) == sorted(writes)
    assert found[0] == writes[0]
    assert f"memory.{first}" in found[1][0]
