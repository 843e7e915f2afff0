"""From a pod manifest to what is asked of a pod."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyrkt.base.errors import InvalidSpec, NotFound, UsageError
from pyrkt.pod import manifest
from pyrkt.pod.ask import Mount, PodAsk, Port, Volume

ID = "sha512-" + "ab" * 64
NONE = PodAsk(apps=())
WITH_TERM = PodAsk(apps=(), interactive=True, exit_policy="all", nested_volumes=True)


def read(tmp_path: Path, asked: PodAsk = NONE, **members: Any) -> PodAsk:
    value = {"acVersion": "0.8.11", "acKind": "PodManifest", "apps": [{"name": "a", "image": {"id": ID}}]} | members
    (tmp_path / "pod").write_text(json.dumps(value))
    return manifest.read(str(tmp_path / "pod"), asked)


def app(**members: Any) -> dict[str, Any]:
    return {"apps": [{"name": "a", "image": {"id": ID}} | members]}


def notes(**values: str) -> list[dict[str, str]]:
    return [{"name": "pyrkt/" + name.replace("_", "-"), "value": value} for name, value in values.items()]


def test_an_app_is_its_image_and_what_replaces_it(tmp_path: Path) -> None:
    (found,) = read(tmp_path).apps
    assert (found.name, found.image_id, found.image, found.override) == ("a", ID, "", "")
    override = {"exec": ["/x"], "user": "0", "group": "0", "userLabels": {"l": "m"}, "userAnnotations": {"A B": "c"}}
    labels = [{"name": "version", "value": "1:0"}, {"name": "os", "value": "linux"}]
    image = {"id": ID, "name": "example.com/x", "labels": labels}
    (found,) = read(tmp_path, **app(image=image, app=override, readOnlyRootFS=True)).apps
    assert found.image == "example.com/x:1%3A0,os=linux"
    assert json.loads(found.override) == override
    assert found.readonly_rootfs
    assert (found.user_labels, found.user_annotations) == ((("l", "m"),), (("A B", "c"),))


def test_volumes_mounts_and_ports(tmp_path: Path) -> None:
    own = {"name": "w", "kind": "host", "source": "/s", "recursive": False, "readOnly": False}
    mounts = [{"volume": "v", "path": "/a"}, {"volume": "x", "path": "/b", "appVolume": own}]
    volumes = [{"name": "v", "kind": "empty", "mode": "1777", "uid": 5, "gid": 6}]
    inside = {"name": "y", "protocol": "udp", "port": 53, "count": 2}
    ports = [{"name": "p", "hostPort": 80}, {"name": "q", "hostPort": 53, "hostIP": "127.0.0.1", "podPort": inside}]
    found = read(tmp_path, **app(mounts=mounts), volumes=volumes, ports=ports)
    assert found.volumes == (Volume(name="v", kind="empty", mode=0o1777, uid=5, gid=6),)
    assert found.apps[0].mounts == (
        Mount(volume="v", target="/a"),
        Mount(
            volume="x",
            target="/b",
            own=Volume(name="w", kind="host", source="/s", read_only=False, recursive=False),
        ),
    )
    assert found.ports == (
        Port(name="p", host_port=80),
        Port(name="q", host_port=53, host_ip="127.0.0.1", protocol="udp", pod_port=53, count=2),
    )


def test_annotations_of_ours_are_settings(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        **app(annotations=notes(restart_policy="on-failure:2", restart_delay="5ms", fatal="false")),
        annotations=notes(exit_policy="until-any-exits", nested_volumes="true", linked_volumes="true"),
        userLabels={"a": "b"},
    )
    (one,) = found.apps
    assert (one.restart, one.restart_max, one.restart_delay_ms, one.fatal) == ("on-failure", 2, 5, False)
    assert (found.exit_policy, found.nested_volumes, found.linked_volumes) == ("any", True, True)
    assert dict(found.annotations)["pyrkt/exit-policy"] == "until-any-exits"
    assert found.user_labels == (("a", "b"),)


def test_what_a_flag_has_said_stays(tmp_path: Path) -> None:
    found = read(tmp_path, WITH_TERM, annotations=notes(exit_policy="until-any-exits", nested_volumes="false"))
    assert (found.interactive, found.exit_policy, found.nested_volumes) == (True, "all", True)


def test_isolators_of_the_pod_are_kept(tmp_path: Path) -> None:
    isolators = [{"name": "resource/memory", "value": {"limit": "1G"}}]
    assert json.loads(read(tmp_path, isolators=isolators).isolators) == isolators
    assert read(tmp_path).isolators == ""


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        pytest.param(app(annotations=notes(fatal="maybe")), UsageError, id="fatal"),
        pytest.param({"annotations": notes(nested_volumes="1")}, UsageError, id="nested"),
        pytest.param({"annotations": notes(exit_policy="x")}, UsageError, id="exit"),
        pytest.param({"apps": []}, InvalidSpec, id="no-apps"),
    ],
)
def test_refuses(tmp_path: Path, members: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        read(tmp_path, **members)


def test_refuses_what_is_no_manifest_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="No such file"):
        manifest.read(str(tmp_path / "none"), NONE)
    with pytest.raises(NotFound, match="Is a directory"):
        manifest.read(str(tmp_path), NONE)
    with (tmp_path / "large").open("wb") as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(InvalidSpec, match="more than 16 MiB"):
        manifest.read(str(tmp_path / "large"), NONE)
