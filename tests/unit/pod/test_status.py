"""What a pod's files say, and that nothing in them can break a list."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrkt.base.errors import InvalidSpec
from pyrkt.pod import directory
from pyrkt.pod import status as states
from pyrkt.pod.directory import Held, Pods

MANIFEST = """{"acVersion": "0.8.11", "acKind": "PodManifest", "apps": [
  {"name": "a", "image": {"id": "sha512-1", "name": "example.com/a"}, "mounts": [{"volume": "v", "path": "/v"}],
   "app": {"userLabels": {"k": "l"}, "userAnnotations": {}}},
  {"name": "b", "image": {"id": "sha256-2"}}], "volumes": []}"""


@pytest.fixture
def pods(tmp_path: Path) -> Pods:
    return Pods(str(tmp_path))


@pytest.fixture
def pod(pods: Pods) -> Iterator[Held]:
    held = pods.move(pods.create(), directory.RUN)
    os.mkdir(f"{held.path}/status")
    Path(held.path, "pod").write_text(MANIFEST)
    Path(held.path, "created").write_text("1700000000500000000")
    Path(held.path, "net").write_text("host")
    for name in ("a", "b"):
        os.makedirs(f"{held.path}/apps/{name}")
        Path(held.path, "apps", name, "pid").write_text("125 457\n")
    yield held
    os.close(held.descriptor)


def test_a_running_pod(pods: Pods, pod: Held) -> None:
    Path(pod.path, "pid").write_text("123 456\n")
    found = states.status(pods.find(pod.uuid))
    assert (found.state, found.created, found.pid, found.net) == ("running", 1700000000.5, 123, "host")
    assert [(app.name, app.image_id, app.state, app.exit_code) for app in found.apps] == [
        ("a", "sha512-1", "running", None),
        ("b", "sha256-2", "running", None),
    ]
    assert found.apps[0].user_labels == {"k": "l"}


def test_an_app_that_waits_for_its_handler_is_created(pods: Pods, pod: Held) -> None:
    os.unlink(f"{pod.path}/apps/b/pid")
    found = states.status(pods.find(pod.uuid))
    assert [(app.state, app.started > 0) for app in found.apps] == [("running", True), ("created", False)]


def test_an_app_says_where_its_bundle_and_its_cgroups_are(pods: Pods, pod: Held) -> None:
    mine, other = (f"/sys/fs/cgroup/memory/pyrkt-{pod.uuid}/{name}" for name in ("a", "b/a"))
    Path(pod.path, "cgroups").write_text(f'{{"remove": ["{mine}", "{other}", "/sys/fs/cgroup"], "kill": []}}')
    app = states.as_json(states.status(pods.find(pod.uuid)))["apps"][0]
    assert app["bundle"] == f"{pod.path}/apps/a"
    assert app["cgroups"] == [mine]


def test_a_pod_that_does_not_run_has_no_cgroups(pods: Pods, pod: Held) -> None:
    Path(pod.path, "cgroups").write_text(f'{{"remove": ["/x/pyrkt-{pod.uuid}-a"], "kill": []}}')
    pods.move(pod, directory.EXITED_GARBAGE)
    held = states.as_json(states.status(pods.find(pod.uuid)))
    assert held["state"] == "exited deleting"
    assert "cgroups" not in held["apps"][0]


def test_an_app_that_ended_has_its_code(pods: Pods, pod: Held) -> None:
    Path(pod.path, "status/a").write_text("137\n")
    value = states.as_json(states.status(pods.find(pod.uuid)))
    assert value["apps"][0]["exit_code"] == 137
    assert value["apps"][0]["state"] == "exited"
    assert value["apps"][1]["state"] == "running"
    assert value["app_names"] == ["a", "b"]
    assert "pid" not in value


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("{", id="cut"),
        pytest.param("[]", id="no-object"),
        pytest.param('{"apps": 5}', id="apps-a-number"),
        pytest.param('{"apps": [{}]}', id="app-without-name"),
        pytest.param('{"apps": [{"name": "../../x", "image": []}]}', id="app-of-wrong-types"),
        pytest.param("\x00" * 100, id="zeros"),
        pytest.param('{"a": ' * 200 + "1" + "}" * 200, id="deep"),
    ],
)
def test_a_damaged_manifest_breaks_no_list(pods: Pods, pod: Held, text: str) -> None:
    Path(pod.path, "pod").write_text(text)
    found = states.status(pods.find(pod.uuid))
    assert found.state == "running"
    assert found.apps == ()


@pytest.mark.parametrize("text", ["", "x y", "1", "1 2 3", "-1 5", "99999999999999999999 1", "1_0 5"])
def test_a_damaged_record_names_no_process(pods: Pods, pod: Held, text: str) -> None:
    Path(pod.path, "pid").write_text(text)
    assert states.record(pods.find(pod.uuid)) == (0, 0)
    assert states.open_process(pods.find(pod.uuid)) == -1


def test_a_missing_manifest_is_an_error_where_it_is_asked_for(pods: Pods, pod: Held) -> None:
    os.unlink(f"{pod.path}/pod")
    with pytest.raises(InvalidSpec, match="has no manifest"):
        states.manifest(pods.find(pod.uuid))


def test_an_app_says_what_is_mounted_where(pods: Pods, pod: Held) -> None:
    volumes = [
        {"name": "v", "kind": "host", "source": "/srv/v", "readOnly": True},
        {"name": "e", "kind": "empty"},
    ]
    mounts = [
        {"volume": "v", "path": "/v"},
        {"volume": "e", "path": "/e"},
        {"volume": "own", "path": "/o", "appVolume": {"name": "own", "kind": "host", "source": "/srv/o"}},
    ]
    manifest = {"apps": [{"name": "a", "image": {"id": "sha512-1"}, "mounts": mounts}], "volumes": volumes}
    Path(pod.path, "pod").write_text(json.dumps(manifest))
    app = states.as_json(states.status(pods.find(pod.uuid)))["apps"][0]
    assert app["mounts"] == [
        {"name": "v", "container_path": "/v", "host_path": "/srv/v", "read_only": True},
        {"name": "e", "container_path": "/e", "host_path": f"{pod.path}/volumes/e", "read_only": False},
        {"name": "own", "container_path": "/o", "host_path": "/srv/o", "read_only": False},
    ]


def test_cgroups_of_an_app_lie_below_those_of_its_pod(pods: Pods, pod: Held) -> None:
    whole = f"/sys/fs/cgroup/memory/pyrkt-{pod.uuid}"
    listed = [f"{whole}/a", f"{whole}/b-a", whole]
    Path(pod.path, "cgroups").write_text(json.dumps({"remove": listed, "kill": []}))
    assert states.app_cgroups(pods.find(pod.uuid), "a") == (f"{whole}/a",)
    assert states.pod_cgroups(pods.find(pod.uuid)) == (whole,)


def test_networks_are_those_of_the_record(pods: Pods, pod: Held) -> None:
    networks = [
        {"netName": "default", "ifName": "eth0", "ip": "172.16.28.2"},
        {"netName": "six", "ifName": "eth1", "ip": "fd00::2"},
        {"netName": "both", "ifName": "eth2", "ip": "10.1.2.3", "ip6": "fd00::3"},
        {"netName": "bare"},
    ]
    Path(pod.path, "net-info.json").write_text(json.dumps(networks))
    found = states.status(pods.find(pod.uuid))
    assert found.networks_text() == (
        "default:ip4=172.16.28.2, six:ip6=fd00::2, both:ip4=10.1.2.3, both:ip6=fd00::3, bare"
    )
    assert states.as_json(found)["networks"] == networks


@pytest.mark.parametrize("text", ["", "{", "5", "[5]", '{"networks": 7}'])
def test_a_damaged_record_of_networks_breaks_no_list(pods: Pods, pod: Held, text: str) -> None:
    Path(pod.path, "net-info.json").write_text(text)
    found = states.status(pods.find(pod.uuid))
    assert (found.networks, found.networks_text()) == ((), "host")


def test_times_of_apps_are_in_nanoseconds(pods: Pods, pod: Held) -> None:
    for name, seconds in (("apps/a/config.json", 1_700_000_001), ("apps/a/pid", 1_700_000_002)):
        Path(pod.path, name).write_text("")
        os.utime(Path(pod.path, name), (seconds, seconds))
    Path(pod.path, "status/a").write_text("0\n")
    os.utime(Path(pod.path, "status/a"), (1_700_000_003, 1_700_000_003))
    app = states.as_json(states.status(pods.find(pod.uuid)))["apps"][0]
    times = [app[name] for name in ("created_at", "started_at", "finished_at")]
    assert times == [1_700_000_001 * 10**9, 1_700_000_002 * 10**9, 1_700_000_003 * 10**9]
