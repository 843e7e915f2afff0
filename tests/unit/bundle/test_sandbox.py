"""What the apps of a pod share: the same whether it is told by the options or by one of the apps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyrkt.base import fastjson
from pyrkt.base.reader import Reader
from pyrkt.bundle import from_oci, sandbox
from pyrkt.bundle.isolators import Limits
from pyrkt.bundle.options import IdRange, RunOptions
from pyrkt.spec.image import ImageConfig
from pyrkt.spec.runtime import Config, Namespace, parse_config
from pyrkt.store import Rootfs

UUID = "11111111-2222-4333-8444-555555555555"
LIMITS = Limits(memory=1 << 26, sysctl={"net.core.somaxconn": "1"})
SPANS = (IdRange(container=0, host=100_000, size=65536),)


def app(tmp_path: Path, **more: Any) -> Config:
    document = {"os": "linux", "architecture": "amd64", "config": {"Cmd": ["/bin/a"]}}
    image = ImageConfig.parse(Reader(document | {"rootfs": {"type": "layers", "diff_ids": []}}, "image"))
    return from_oci.compose(image, Rootfs((str(tmp_path),)), options("app", **more)).config


def options(name: str, **more: Any) -> RunOptions:
    return RunOptions(name=name, pod_uuid=UUID, cgroups_path=f"/pyrkt-{UUID}{'/' if name else ''}{name}", **more)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({}, id="plain"),
        pytest.param({"net": "host", "hostname": "box"}, id="host-network"),
        pytest.param({"host_ipc": True}, id="host-ipc"),
        pytest.param({"net": "cni", "netns": "/run/n"}, id="networks"),
        pytest.param({"userns": True, "uid_mappings": SPANS, "gid_mappings": SPANS}, id="users"),
    ],
)
def test_it_is_the_same_without_an_app(tmp_path: Path, more: dict[str, Any]) -> None:
    alone = sandbox.container(options("", **more), LIMITS)
    assert alone == sandbox.of(app(tmp_path, **more), LIMITS, f"/pyrkt-{UUID}")
    assert parse_config(fastjson.dumps(alone.dump()).encode(), "sandbox.json") == alone


def test_it_runs_nothing_and_mounts_nothing() -> None:
    alone = sandbox.container(options(""), LIMITS)
    assert (alone.process, alone.root, alone.mounts) == (None, None, ())
    assert alone.linux is not None
    assert alone.linux.sysctl == {"net.core.somaxconn": "1"}
    assert alone.linux.resources is not None
    assert alone.linux.resources.memory is not None
    assert alone.linux.resources.memory.limit == 1 << 26
    assert alone.linux.namespaces == tuple(Namespace(type=kind) for kind in ("pid", "network", "ipc", "uts"))


def test_where_apps_have_no_cgroup_the_pod_has_none(tmp_path: Path) -> None:
    given = app(tmp_path)
    assert given.linux is not None
    without = given.replace(linux=given.linux.replace(cgroups_path=""))
    found = sandbox.of(without, LIMITS, "/pyrkt-x").linux
    assert found is not None
    assert found.cgroups_path == ""
