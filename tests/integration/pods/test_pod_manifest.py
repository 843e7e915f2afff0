"""`--pod-manifest`: rkt's cases and more, on the real kernel; what is refused, and that the reified one says all."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.pods import Pyrkt, make_aci, make_layout, sha512

pytestmark = [pytest.mark.root, pytest.mark.peers]

JSON = dict[str, Any]
DIR1 = [{"name": "dir1", "path": "/dir1"}]
DIR1_RO = [{"name": "dir1", "path": "/dir1", "readOnly": True}]
WRITE = "echo host:foo > /dir1/file && cat /dir1/file"
ROFS = "Read-only file system"


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pyrkt]:
    """A store with plain images and some that have a mount point, a capability set or a memory limit."""
    made = Pyrkt(tmp_path_factory.mktemp("manifest"))
    for name, app in IMAGES.items():
        aci = make_aci(made.base / f"{name}.aci", f"example.com/{name}", app, files={"dir1/file": "<<<dir1>>>\n"})
        made.ok("fetch", str(aci))
    yield made
    assert made.clean() == []


IMAGES: dict[str, JSON] = {
    "plain": {"exec": ["/bin/sh", "-c", "echo the image"]},
    "point": {"exec": ["/bin/sh", "-c", WRITE], "mountPoints": DIR1},
    "point-ro": {"exec": ["/bin/sh", "-c", WRITE], "mountPoints": DIR1_RO},
    "caps": {"isolators": [{"name": "os/linux/capabilities-retain-set", "value": {"set": ["CAP_NET_ADMIN"]}}]},
}


def image_id(tool: Pyrkt, name: str) -> str:
    found = json.loads(tool.ok("image", "list", "--format=json"))
    return str(next(record["id"] for record in found if record["name"] == f"example.com/{name}"))


def script(text: str, **more: Any) -> JSON:
    return {"exec": ["/bin/sh", "-c", text], "user": "0", "group": "0"} | more


def one(tool: Pyrkt, app: JSON | None = None, image: str = "plain", **more: Any) -> JSON:
    """Return an app of a pod manifest."""
    found: JSON = {"name": "app", "image": {"id": image_id(tool, image)}} | more
    return found | ({"app": app} if app is not None else {})


def manifest(path: Path, *apps: JSON, **more: Any) -> str:
    """Write a pod manifest; return its path."""
    value = {"acVersion": "0.8.11", "acKind": "PodManifest", "apps": list(apps)} | more
    file = path / "pod.json"
    file.write_text(json.dumps(value))
    return f"--pod-manifest={file}"


def host(source: Path, **more: Any) -> list[JSON]:
    return [{"name": "dir1", "kind": "host", "source": str(source)} | more]


def both_ways(tool: Pyrkt, flag: str, code: int, *texts: str) -> None:
    """Check run, and prepare followed by run-prepared: the exit code, and that each text is in what they print."""
    ran = tool.call("run", flag)
    uuid = tool.ok("prepare", "--quiet", flag).split()[-1]
    again = tool.call("run-prepared", uuid)
    for answer in (ran, again):
        assert answer.code == code, answer
        for text in texts:
            assert text in answer.out + answer.err


@pytest.mark.parametrize(
    ("app", "text"),
    [
        pytest.param(
            {"exec": ["/bin/echo", "\n'\"$ {x} %n"], "user": "0", "group": "0"}, "\n'\"$ {x} %n\n", id="chars"
        ),
        pytest.param(
            script('echo "$A"', environment=[{"name": "A", "value": "\n'\"$ #;="}]), "\n'\"$ #;=\n", id="environment"
        ),
        pytest.param(script("pwd", workingDirectory="/dir1"), "/dir1\n", id="working-directory"),
        pytest.param(script("cat /dir1/file"), "<<<dir1>>>\n", id="read"),
        pytest.param(script("id -u; id -g", user="1000", group="100"), "1000\n100\n", id="user-by-number"),
        pytest.param(script("id -u; id -g", user="user", group="users"), "1000\n100\n", id="user-by-name"),
        pytest.param(script("id -u; id -g", user="root", group="root"), "0\n0\n", id="root"),
        pytest.param(script("id -u; id -g", user="/owned", group="/owned"), "77\n78\n", id="user-by-path"),
        pytest.param(script("id -G", supplementaryGIDs=[400, 500, 1200]), "0 400 500 1200\n", id="groups"),
    ],
)
def test_the_manifests_app_replaces_the_images(tool: Pyrkt, tmp_path: Path, app: JSON, text: str) -> None:
    both_ways(tool, manifest(tmp_path, one(tool, app)), 0, text)


def test_without_an_app_of_its_own_the_image_says_what_runs(tool: Pyrkt, tmp_path: Path) -> None:
    both_ways(tool, manifest(tmp_path, one(tool)), 0, "the image\n")


@pytest.mark.parametrize("read_only", [False, True], ids=["rw-root", "ro-root"])
@pytest.mark.parametrize(
    ("image", "points", "volume", "works"),
    [
        pytest.param("plain", DIR1, {}, True, id="volume"),
        pytest.param("plain", DIR1_RO, {}, False, id="read-only-point"),
        pytest.param("point", DIR1, {"readOnly": True}, False, id="read-only-volume"),
        pytest.param("point-ro", DIR1, {}, True, id="point-of-the-manifest-beats-the-images"),
        pytest.param("point", None, {}, True, id="point-of-the-image"),
        pytest.param("point-ro", None, {}, False, id="read-only-point-of-the-image"),
        pytest.param("point-ro", None, {"readOnly": False}, True, id="volume-beats-point"),
        pytest.param("point", None, {"readOnly": True}, False, id="read-only-volume-for-the-images-point"),
    ],
)
def test_volumes_and_mount_points(
    tool: Pyrkt, tmp_path: Path, image: str, points: list[JSON] | None, volume: JSON, works: bool, read_only: bool
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    app = script(WRITE, mountPoints=points) if points is not None else None
    flag = manifest(tmp_path, one(tool, app, image, readOnlyRootFS=read_only), volumes=host(source, **volume))
    both_ways(tool, flag, 0 if works else 1, "host:foo" if works else ROFS)
    assert (source / "file").exists() == works


@pytest.mark.parametrize("read_only", [False, True], ids=["rw-root", "ro-root"])
def test_an_empty_volume_has_its_mode_and_owners(tool: Pyrkt, tmp_path: Path, read_only: bool) -> None:
    app = script(f"stat -c '%a %u %g' /dir1; {WRITE}", mountPoints=DIR1)
    volume = {"name": "dir1", "kind": "empty", "mode": "0123", "uid": 9991, "gid": 9992}
    flag = manifest(tmp_path, one(tool, app, readOnlyRootFS=read_only), volumes=[volume])
    both_ways(tool, flag, 0, "123 9991 9992\n", "host:foo")


def test_a_read_only_root_is_read_only(tool: Pyrkt, tmp_path: Path) -> None:
    app = script("cat /dir1/file; echo x > /dir1/new")
    both_ways(tool, manifest(tmp_path, one(tool, app, readOnlyRootFS=True)), 1, "<<<dir1>>>", ROFS)


def test_a_mount_names_a_volume_of_the_pod_or_its_own(tool: Pyrkt, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("of the pod\n")
    own = {"name": "x", "kind": "empty", "mode": "0750"}
    mounts = [{"volume": "dir1", "path": "/new/a"}, {"volume": "dir1", "path": "/new/b", "appVolume": own}]
    app = script("cat /new/a/a; ls /new/b; stat -c %a /new/b")
    flag = manifest(tmp_path, one(tool, app, mounts=mounts), volumes=host(source))
    both_ways(tool, flag, 0, "of the pod\n750\n")


def test_ports_of_a_pod_without_a_network_are_told_of(tool: Pyrkt, tmp_path: Path) -> None:
    ports = [{"name": "x", "hostPort": 8080, "podPort": {"name": "x", "protocol": "tcp", "port": 80}}]
    answer = tool.call("run", manifest(tmp_path, one(tool, script("true")), ports=ports))
    assert answer.code == 0
    assert "the ports of the pod are not published" in answer.err


def test_two_apps_share_a_volume(tool: Pyrkt, tmp_path: Path) -> None:
    reads = script(
        "until [ -s /dir/file ]; do sleep 0.02; done; cat /dir/file", mountPoints=[{"name": "v", "path": "/dir"}]
    )
    writes = script("echo hello > /dir/file", mountPoints=[{"name": "v", "path": "/dir"}])
    apps = one(tool, reads, name="reads"), one(tool, writes, name="writes")
    both_ways(tool, manifest(tmp_path, *apps, volumes=[{"name": "v", "kind": "empty"}]), 0, "hello\n")


def test_the_manifests_isolators_replace_the_images(tool: Pyrkt, tmp_path: Path) -> None:
    show = "grep CapBnd /proc/self/status"
    flag = manifest(tmp_path, one(tool, script(show), "caps"))
    assert "00000000a80425fb" in tool.ok("run", flag)  # the default fourteen, without CAP_NET_ADMIN
    retain = [{"name": "os/linux/capabilities-retain-set", "value": {"set": ["CAP_KILL"]}}]
    assert "0000000000000020" in tool.ok("run", manifest(tmp_path, one(tool, script(show, isolators=retain), "caps")))


def test_limits_of_the_manifest(tool: Pyrkt, tmp_path: Path) -> None:
    isolators = [
        {"name": "resource/cpu", "value": {"request": "100m", "limit": "100m"}},
        {"name": "resource/memory", "value": {"request": "4194304", "limit": "4194304"}},
    ]
    text = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us; exit 0"
    flag = manifest(tmp_path, one(tool, script(text, isolators=isolators)))
    assert tool.call("run", flag).out.split() == ["4194304", "10000"]


@pytest.mark.parametrize(
    ("app", "problem"),
    [
        pytest.param({"user": "user2"}, "'user2'", id="no-such-user"),
        pytest.param({"group": "group2"}, "'group2'", id="no-such-group"),
        pytest.param({"user": "/etc/nofile"}, "'/etc/nofile'", id="no-such-file-for-the-user"),
        pytest.param({"group": "/etc/nofile"}, "'/etc/nofile'", id="no-such-file-for-the-group"),
        pytest.param({"workingDirectory": "/nowhere"}, "/nowhere", id="no-such-directory"),
    ],
)
def test_what_the_image_does_not_have_is_one_line(tool: Pyrkt, tmp_path: Path, app: JSON, problem: str) -> None:
    answer = tool.call("run", manifest(tmp_path, one(tool, script("true", **app))))
    assert answer.code not in (0, 1)
    error, hint = answer.err.splitlines()
    assert problem in error
    assert hint.strip().startswith("hint: ")


ID = "sha512-" + "0" * 128
IMAGE = {"id": ID}
V = {"name": "v", "kind": "empty"}


@pytest.mark.parametrize(
    ("apps", "more", "problem"),
    [
        pytest.param([], {}, "pod must contain at least one application", id="no-apps"),
        pytest.param([{"name": "a"}], {}, "image.id: is required", id="no-image"),
        pytest.param(
            [{"name": "a", "image": {"name": "example.com/x"}}], {}, "image.id: is required", id="no-image-id"
        ),
        pytest.param([{"name": "a", "image": {"id": ID[:40]}}], {}, "is not an image id", id="cut-image-id"),
        pytest.param(
            [{"name": "a", "image": IMAGE, "mounts": [{"volume": "v", "path": "/v"}]}],
            {},
            "'v' is not a volume of this pod",
            id="mount-of-no-volume",
        ),
        pytest.param(
            [{"name": "a", "image": IMAGE, "mounts": [{"volume": "v"}]}],
            {"volumes": [V]},
            "mounts[0].path: is required",
            id="mount-without-path",
        ),
        pytest.param([{"name": "a", "image": IMAGE}], {"volumes": [V, V]}, "'v' is given twice", id="volume-twice"),
        pytest.param([{"name": "a", "image": IMAGE}] * 2, {}, "'a' is given twice", id="app-twice"),
        pytest.param(
            [{"name": "a", "image": IMAGE}], {"ports": [{"name": "p", "hostPort": 0}]}, "ports[0].hostPort", id="port-0"
        ),
        pytest.param(
            [{"name": "a", "image": IMAGE}], {"ports": [{"name": "p", "hostPort": 70000}]}, "hostPort", id="port-high"
        ),
        pytest.param(
            [{"name": "a", "image": IMAGE}],
            {"isolators": [{"name": "example.com/x", "value": 1}]},
            "is not an isolator we know",
            id="unknown-isolator-of-the-pod",
        ),
        pytest.param(
            [{"name": "a", "image": IMAGE}],
            {"volumes": [{"name": "v", "kind": "host", "source": "relative"}]},
            "is not an absolute path",
            id="relative-source",
        ),
        pytest.param([{"name": "a", "image": IMAGE}], {}, "is not in the store", id="image-not-stored"),
        pytest.param(
            [{"name": "a", "image": IMAGE, "annotations": [{"name": "pyrkt/restart-policy", "value": "x"}]}],
            {},
            "pyrkt/restart-policy",
            id="no-restart-policy",
        ),
        pytest.param(
            [{"name": "a", "image": IMAGE}],
            {"annotations": [{"name": "pyrkt/exit-policy", "value": "x"}]},
            "pyrkt/exit-policy",
            id="no-exit-policy",
        ),
    ],
)
def test_a_wrong_manifest_is_refused(tool: Pyrkt, tmp_path: Path, apps: list[JSON], more: JSON, problem: str) -> None:
    for verb in ("run", "prepare"):
        answer = tool.call(verb, manifest(tmp_path, *apps, **more))
        assert answer.code not in (0, 1)
        assert problem in answer.err.splitlines()[0]


def test_a_missing_manifest_is_refused(tool: Pyrkt, tmp_path: Path) -> None:
    answer = tool.call("run", f"--pod-manifest={tmp_path}/none")
    assert (answer.code, answer.err.splitlines()[0]) == (
        66,
        f"pyrkt: --pod-manifest {tmp_path}/none: No such file or directory",
    )


@pytest.mark.parametrize(
    "words",
    [
        ["example.com/plain"],
        ["--volume=v,kind=empty"],
        ["--mount=volume=v,target=/x"],
        ["--set-env=A=b"],
        ["--set-env-file=/dev/null"],
        ["--inherit-env"],
        ["--pull-policy=new"],
    ],
    ids=lambda words: words[0].partition("=")[0],
)
@pytest.mark.parametrize("verb", ["run", "prepare"])
def test_flags_that_the_manifest_leaves_no_room_for(tool: Pyrkt, tmp_path: Path, verb: str, words: list[str]) -> None:
    answer = tool.call(verb, manifest(tmp_path, one(tool)), *words)
    assert answer.code == 2
    assert "conflicting flags set with --pod-manifest (see --help)" in answer.err


def test_an_image_that_is_not_stored_is_fetched_by_name_and_must_be_the_one(tool: Pyrkt, tmp_path: Path) -> None:
    empty = Pyrkt(tmp_path)
    aci = make_aci(tmp_path / "other.aci", "example.com/other")
    stored = empty.ok("fetch", "--full", str(aci)).strip()
    flag = manifest(
        tmp_path, {"name": "a", "image": {"id": ID, "name": "example.com/other", "labels": []}, "app": script("true")}
    )
    answer = empty.call("run", flag)
    assert answer.code == 65
    assert f"is image {stored[:19]}, but the pod manifest wants {ID[:19]} for a" in answer.err
    assert empty.clean() == []


def test_the_reified_manifest_says_all_and_runs_again(tool: Pyrkt, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    app = script(
        "pwd; id -u; echo $A",
        user="user",
        environment=[{"name": "A", "value": "b"}],
        workingDirectory="/tmp",
        mountPoints=[*DIR1_RO, {"name": "left", "path": "/left"}],
        ports=[{"name": "www", "protocol": "tcp", "port": 80, "count": 2}],
        eventHandlers=[{"name": "pre-start", "exec": ["/bin/true"]}],
        isolators=[
            {"name": "resource/memory", "value": {"limit": "64M"}},
            {"name": "example.com/unknown", "value": {}},
        ],
        userAnnotations={"Any Key": "x"},
        userLabels={"l": "y"},
    )
    annotations = [{"name": "example.com/note", "value": "n"}]
    flag = manifest(
        tmp_path,
        one(tool, app, annotations=annotations),
        volumes=host(source),
        annotations=annotations,
        isolators=[{"name": "resource/memory", "value": {"limit": "1G"}}],
        userLabels={"p": "q"},
    )
    uuid = tool.ok("prepare", "--quiet", flag).split()[-1]
    text = tool.ok("cat-manifest", uuid)
    found = json.loads(text)
    (entry,) = found["apps"]
    assert entry["image"]["id"] == image_id(tool, "plain")
    assert entry["image"]["name"] == "example.com/plain"
    assert {"name": "version", "value": "1.0"} in entry["image"]["labels"]
    assert entry["mounts"] == [{"volume": "dir1", "path": "/dir1"}, {"volume": "app-left", "path": "/left"}]
    assert [volume["name"] for volume in found["volumes"]] == ["dir1", "app-left"]
    for name in ("user", "workingDirectory", "mountPoints", "ports", "eventHandlers", "userAnnotations", "userLabels"):
        assert entry["app"][name] == app[name]
    assert entry["app"]["isolators"] == app["isolators"][:1]
    assert {"name": "A", "value": "b"} in entry["app"]["environment"]
    assert not {"AC_APP_NAME", "container"} & {variable["name"] for variable in entry["app"]["environment"]}
    assert (entry["annotations"], found["annotations"]) == (annotations, annotations)
    assert found["isolators"] == [{"name": "resource/memory", "value": {"limit": "1G"}}]
    assert found["userLabels"] == {"p": "q"}
    again = tmp_path / "again.json"
    again.write_text(text)
    assert subprocess.run(["actool", "validate", str(again)], check=False).returncode == 0
    second = tool.ok("prepare", "--quiet", f"--pod-manifest={again}").split()[-1]
    assert json.loads(tool.ok("cat-manifest", second)) == found
    assert tool.call("run-prepared", uuid).out == tool.call("run-prepared", second).out == "/tmp\n1000\nb\n"


def test_an_oci_image_has_an_appc_id_in_the_manifest_by_which_it_runs_again(tool: Pyrkt, tmp_path: Path) -> None:
    # Its own is the SHA-256 of its manifest, which appc does not know.
    layout = make_layout(tmp_path / "My_Layout", "--config.volume", "/data")
    uuid = tool.ok("prepare", "--quiet", f"oci:{layout}:bb", "--", "cat", "/data/seed").split()[-1]
    path = tmp_path / "pod.json"
    path.write_text(tool.ok("cat-manifest", uuid))
    (entry,) = json.loads(path.read_text())["apps"]
    (listed,) = json.loads((layout / "index.json").read_text())["manifests"]
    blob = layout / "blobs/sha256" / listed["digest"].removeprefix("sha256:")
    assert entry["image"]["id"] == f"sha512-{sha512(blob)}"
    assert {"name": "pyrkt/id", "value": f"sha256-{blob.name}"} in entry["image"]["labels"]
    assert entry["mounts"] == [{"volume": "my-layout-volume-data", "path": "/data"}]
    assert subprocess.run(["actool", "validate", str(path)], check=False).returncode == 0
    assert tool.ok("run-prepared", uuid) == "from the image\n"
    # A volume with a name of its own begins empty.
    again = tool.call("run", f"--pod-manifest={path}")
    assert (again.code, again.out) == (1, "")
    assert os.path.isdir(tool.data)
