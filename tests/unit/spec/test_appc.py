"""appc manifests: what the specification says, and what actool lets pass."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.base.errors import InvalidSpec
from pyrkt.base.reader import Reader
from pyrkt.spec.appc import (
    App,
    Dependency,
    EventHandler,
    ExposedPort,
    ImageManifest,
    Isolator,
    Mount,
    MountPoint,
    PodApp,
    PodManifest,
    Port,
    Volume,
    is_identifier,
    is_image_id,
    is_name,
    parse_image_manifest,
    parse_pod_manifest,
)
from tests.unit.base.test_fastjson import JSON

ID = "sha512-" + "a" * 128
APP: dict[str, Any] = {
    "exec": ["/usr/bin/app", "-v"],
    "user": "100",
    "group": "300",
    "supplementaryGIDs": [400, 500],
    "eventHandlers": [{"name": "pre-start", "exec": ["/pre"]}, {"name": "post-stop", "exec": ["post", "x"]}],
    "workingDirectory": "/opt/work",
    "environment": [{"name": "A.b-C_1", "value": "v=1"}, {"name": "EMPTY", "value": ""}],
    "isolators": [
        {"name": "resource/memory", "value": {"request": "1G", "limit": "2G"}},
        {"name": "example.com/custom", "value": {"any": [1]}},
    ],
    "mountPoints": [{"name": "work", "path": "/opt/work", "readOnly": True}, {"name": "data", "path": "/d"}],
    "ports": [
        {"name": "health", "port": 4000, "protocol": "tcp", "socketActivated": True},
        {"name": "range", "port": 65000, "count": 536, "protocol": "udp"},
    ],
    "userAnnotations": {"k": "v"},
    "userLabels": {"k": "v"},
}
IMAGE: dict[str, Any] = {
    "acKind": "ImageManifest",
    "acVersion": "0.8.11",
    "name": "example.com/reduce-worker",
    "labels": [
        {"name": "version", "value": "1.0.0"},
        {"name": "arch", "value": "amd64"},
        {"name": "os", "value": "linux"},
    ],
    "app": APP,
    "dependencies": [
        {
            "imageName": "example.com/base",
            "imageID": ID,
            "labels": [{"name": "os", "value": "linux"}],
            "size": 22017258,
        },
        {"imageName": "example.com/other"},
    ],
    "pathWhitelist": ["/etc/ca", "/usr"],
    "annotations": [
        {"name": "authors", "value": "A <a@example.com>"},
        {"name": "created", "value": "2014-10-27T19:32:27.67021798Z"},
        {"name": "homepage", "value": "https://example.com"},
        {"name": "documentation", "value": "http://example.com/docs?a=b#c"},
        {"name": "appc.io/executor/supports-systemd-notify", "value": "true"},
    ],
}
POD: dict[str, Any] = {
    "acVersion": "0.8.11",
    "acKind": "PodManifest",
    "apps": [
        {
            "name": "reduce-worker",
            "image": {"name": "example.com/reduce-worker", "id": ID, "labels": [{"name": "version", "value": "1"}]},
            "app": APP,
            "readOnlyRootFS": True,
            "mounts": [
                {"volume": "work", "path": "/var/w"},
                {
                    "volume": "own",
                    "path": "/own",
                    "appVolume": {"name": "own", "kind": "host", "source": "/s", "readOnly": False},
                },
            ],
            "annotations": [{"name": "foo", "value": "baz"}],
        },
        {"name": "backup", "image": {"id": ID}},
    ],
    "volumes": [
        {"name": "work", "kind": "host", "source": "/opt/tenant1/work", "readOnly": True, "recursive": False},
        {"name": "buildoutput", "kind": "empty", "mode": "0700", "uid": 1, "gid": 2},
    ],
    "isolators": [{"name": "resource/memory", "value": {"limit": "4G"}}],
    "annotations": [{"name": "ip-address", "value": "10.1.2.3"}],
    "ports": [
        {"name": "ftp", "hostPort": 2121, "hostIP": "127.0.0.1"},
        {"name": "www", "hostPort": 1, "podPort": {"name": "www", "port": 80, "protocol": "tcp"}},
    ],
    "userAnnotations": {"a": "b"},
    "userLabels": {"a": "b"},
}


def image(value: Any) -> ImageManifest:
    return parse_image_manifest(json.dumps(value).encode())


def pod(value: Any) -> PodManifest:
    return parse_pod_manifest(json.dumps(value).encode())


def app(**members: Any) -> dict[str, Any]:
    return IMAGE | {"app": APP | members}


def isolated(*isolators: tuple[str, Any]) -> dict[str, Any]:
    return app(isolators=[{"name": name, "value": value} for name, value in isolators])


def first(**members: Any) -> dict[str, Any]:
    return POD | {"apps": [POD["apps"][0] | members, POD["apps"][1]]}


def volume(**members: Any) -> dict[str, Any]:
    return POD | {"volumes": [POD["volumes"][0] | members]}


def test_reads_an_image_manifest() -> None:
    parsed = image(IMAGE)
    assert parsed == ImageManifest(
        name="example.com/reduce-worker",
        labels={"version": "1.0.0", "arch": "amd64", "os": "linux"},
        app=App(
            exec=("/usr/bin/app", "-v"),
            user="100",
            group="300",
            supplementary_gids=(400, 500),
            working_directory="/opt/work",
            environment={"A.b-C_1": "v=1", "EMPTY": ""},
            isolators=(
                Isolator(name="resource/memory", value={"request": "1G", "limit": "2G"}),
                Isolator(name="example.com/custom", value={"any": [1]}),
            ),
            mount_points=(
                MountPoint(name="work", path="/opt/work", read_only=True),
                MountPoint(name="data", path="/d"),
            ),
            ports=(
                Port(name="health", protocol="tcp", port=4000, socket_activated=True),
                Port(name="range", protocol="udp", port=65000, count=536),
            ),
            event_handlers=(
                EventHandler(name="pre-start", exec=("/pre",)),
                EventHandler(name="post-stop", exec=("post", "x")),
            ),
            user_annotations={"k": "v"},
            user_labels={"k": "v"},
        ),
        dependencies=(
            Dependency(image_name="example.com/base", image_id=ID, labels={"os": "linux"}, size=22017258),
            Dependency(image_name="example.com/other"),
        ),
        path_whitelist=("/etc/ca", "/usr"),
        annotations={each["name"]: each["value"] for each in IMAGE["annotations"]},
    )
    assert ImageManifest.parse(Reader(parsed.dump(), "x")) == parsed


def test_reads_a_pod_manifest() -> None:
    parsed = pod(POD)
    reader = image(IMAGE).app
    assert parsed == PodManifest(
        apps=(
            PodApp(
                name="reduce-worker",
                image_id=ID,
                image_name="example.com/reduce-worker",
                image_labels={"version": "1"},
                app=reader,
                read_only_root_fs=True,
                mounts=(
                    Mount(volume="work", path="/var/w"),
                    Mount(
                        volume="own",
                        path="/own",
                        app_volume=Volume(name="own", kind="host", source="/s", read_only=False),
                    ),
                ),
                annotations={"foo": "baz"},
            ),
            PodApp(name="backup", image_id=ID),
        ),
        volumes=(
            Volume(name="work", kind="host", source="/opt/tenant1/work", read_only=True, recursive=False),
            Volume(name="buildoutput", kind="empty", mode="0700", uid=1, gid=2),
        ),
        isolators=(Isolator(name="resource/memory", value={"limit": "4G"}),),
        annotations={"ip-address": "10.1.2.3"},
        ports=(
            ExposedPort(name="ftp", host_port=2121, host_ip="127.0.0.1"),
            ExposedPort(name="www", host_port=1, pod_port=Port(name="www", port=80, protocol="tcp")),
        ),
        user_annotations={"a": "b"},
        user_labels={"a": "b"},
    )
    assert PodManifest.parse(Reader(parsed.dump(), "x")) == parsed


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"acKind": "ImageManifest", "acVersion": "0.1.0", "name": "a"}, id="least"),
        pytest.param(IMAGE | {"app": None, "labels": None, "annotations": None}, id="nulls"),
        pytest.param(IMAGE | {"acVersion": "0.9.1-rc.1+git5"}, id="newer-minor-version"),
        pytest.param(IMAGE | {"future": 1}, id="unknown-member"),
        pytest.param(IMAGE | {"labels": [{"name": "os", "value": "freebsd"}]}, id="os-alone"),
        pytest.param(app(exec=["app"]), id="exec-searched-in-path"),
        pytest.param(app(exec=None), id="exec-left-to-the-user"),
        pytest.param(app(user="/file", group="root"), id="owner-of-a-file"),
        pytest.param(isolated(("resource/cpu", {"limit": "250m"})), id="cpu"),
        pytest.param(isolated(("resource/cpu", {"request": "1", "limit": 2})), id="numbers-as-quantities"),
        pytest.param(isolated(("resource/block-iops", {"default": True, "limit": "100"})), id="iops"),
        pytest.param(isolated(("os/linux/capabilities-retain-set", {"set": []})), id="no-capabilities"),
        pytest.param(isolated(("os/linux/seccomp-remove-set", {"set": ["@appc.io/empty"], "errno": ""})), id="seccomp"),
        pytest.param(isolated(("os/linux/no-new-privileges", True), ("os/linux/no-new-privileges", False)), id="twice"),
        pytest.param(isolated(("os/linux/oom-score-adj", -50), ("os/linux/cpu-shares", 512)), id="integers"),
        pytest.param(
            isolated(("os/linux/selinux-context", {"user": "u", "role": "r", "type": "t", "level": "s0"})), id="selinux"
        ),
        pytest.param(isolated(("os/linux/apparmor-profile", {"profile": "p"})), id="apparmor"),
        pytest.param(isolated(("os/unix/sysctl", {"kernel.shmmax": "1"})), id="sysctl"),
        pytest.param(isolated(("resource/network-bandwidth", {"default": True, "limit": "1G"})), id="bandwidth"),
    ],
)
def test_reads_image_manifests(value: dict[str, Any]) -> None:
    parsed = image(value)
    assert ImageManifest.parse(Reader(parsed.dump(), "x")) == parsed


@pytest.mark.parametrize(
    ("value", "where", "problem"),
    [
        pytest.param([], "", "expected an object", id="array"),
        pytest.param({}, "acKind", "is required", id="empty"),
        pytest.param(IMAGE | {"acKind": "PodManifest"}, "acKind", "none of ImageManifest", id="kind"),
        pytest.param(IMAGE | {"acVersion": None}, "acVersion", "expected a string", id="no-version"),
        pytest.param(IMAGE | {"acVersion": "0.8"}, "acVersion", "is not a version", id="version-two-parts"),
        pytest.param(IMAGE | {"acVersion": "00.8.1"}, "acVersion", "is not a version", id="version-leading-zero"),
        pytest.param(IMAGE | {"acVersion": "1.0.0"}, "acVersion", "is not one we can read", id="newer-major"),
        pytest.param(IMAGE | {"name": None}, "name", "expected a string", id="no-name"),
        pytest.param(IMAGE | {"name": ""}, "name", "is not an AC Identifier", id="name-empty"),
        pytest.param(IMAGE | {"name": "Example.com"}, "name", "is not an AC Identifier", id="name-capital"),
        pytest.param(IMAGE | {"name": "a//b"}, "name", "is not an AC Identifier", id="name-two-slashes"),
        pytest.param(IMAGE | {"name": "a/../b"}, "name", "is not an AC Identifier", id="name-climbs"),
        pytest.param(IMAGE | {"name": "/a"}, "name", "is not an AC Identifier", id="name-absolute"),
        pytest.param(IMAGE | {"name": "a\n"}, "name", "is not an AC Identifier", id="name-line-break"),
        pytest.param(IMAGE | {"labels": {}}, "labels", "expected an array", id="labels-object"),
        pytest.param(IMAGE | {"labels": [{"name": "name", "value": "x"}]}, "labels[0].name", "not a label", id="label"),
        pytest.param(
            IMAGE | {"labels": [{"name": "a", "value": "x"}, {"name": "a", "value": "y"}]},
            "labels[1].name",
            "'a' is given twice",
            id="label-twice",
        ),
        pytest.param(IMAGE | {"labels": [{"name": "a"}]}, "labels[0].value", "is required", id="label-no-value"),
        pytest.param(IMAGE | {"labels": [{"name": "A", "value": ""}]}, "labels[0].name", "Identifier", id="label-name"),
        pytest.param(
            IMAGE | {"labels": [{"name": "arch", "value": "amd64"}]}, "labels", "arch without os", id="arch-without-os"
        ),
        pytest.param(IMAGE | {"labels": [{"name": "os", "value": "beos"}]}, "labels", "'beos' is none of", id="os"),
        pytest.param(
            IMAGE | {"labels": [{"name": "os", "value": "darwin"}, {"name": "arch", "value": "amd64"}]},
            "labels",
            "arch 'amd64' of darwin",
            id="arch-of-another-os",
        ),
        pytest.param(app(exec=[]), "app.exec", "names no program", id="exec-empty"),
        pytest.param(app(exec=[""]), "app.exec", "names no program", id="exec-empty-name"),
        pytest.param(app(exec=["bin/app"]), "app.exec", "is a relative path", id="exec-relative"),
        pytest.param(app(exec=["./app"]), "app.exec", "is a relative path", id="exec-dot"),
        pytest.param(app(exec="/app"), "app.exec", "expected an array", id="exec-text"),
        pytest.param(app(exec=["/a\0"]), "app.exec[0]", "NUL", id="exec-nul"),
        pytest.param(app(user=None), "app.user", "expected a string", id="no-user"),
        pytest.param(app(user=""), "app.user", "must not be empty", id="user-empty"),
        pytest.param(app(user=0), "app.user", "expected a string", id="user-number"),
        pytest.param(app(user="a:b"), "app.user", "is not a user or group", id="user-colon"),
        pytest.param(app(group=None), "app.group", "expected a string", id="no-group"),
        pytest.param(app(group="a\nb"), "app.group", "is not a user or group", id="group-line-break"),
        pytest.param(app(supplementaryGIDs=[-1]), "app.supplementaryGIDs[0]", "between 0", id="gid-negative"),
        pytest.param(app(supplementaryGIDs=[4294967295]), "app.supplementaryGIDs[0]", "between", id="gid-beyond"),
        pytest.param(app(workingDirectory="work"), "app.workingDirectory", "is not an absolute", id="cwd-relative"),
        pytest.param(app(workingDirectory="/a/.."), "app.workingDirectory", "climbs", id="cwd-climbs"),
        pytest.param(app(environment={"A": "b"}), "app.environment", "expected an array", id="env-object"),
        pytest.param(
            app(environment=[{"name": "A", "value": ""}] * 2), "app.environment[1].name", "given twice", id="env-twice"
        ),
        pytest.param(
            app(environment=[{"name": "A=B", "value": ""}]), "app.environment[0].name", "is not the name", id="env-name"
        ),
        pytest.param(
            app(environment=[{"name": "", "value": ""}]), "app.environment[0].name", "is not the name", id="env-empty"
        ),
        pytest.param(
            app(eventHandlers=[{"name": "pre-stop", "exec": ["/x"]}]),
            "app.eventHandlers[0].name",
            "none of pre-start, post-stop",
            id="handler-name",
        ),
        pytest.param(
            app(eventHandlers=[{"name": "pre-start", "exec": ["/x"]}] * 2),
            "app.eventHandlers[1].name",
            "given twice",
            id="handler-twice",
        ),
        pytest.param(
            app(eventHandlers=[{"name": "pre-start"}]), "app.eventHandlers[0].exec", "is required", id="handler-no-exec"
        ),
        pytest.param(
            app(mountPoints=[{"name": "Work", "path": "/w"}]), "app.mountPoints[0].name", "AC Name", id="mount-name"
        ),
        pytest.param(
            app(mountPoints=[{"name": "w", "path": "w"}]), "app.mountPoints[0].path", "absolute", id="mount-relative"
        ),
        pytest.param(
            app(mountPoints=[{"name": "w", "path": "/"}]), "app.mountPoints[0].path", "the root", id="mount-root"
        ),
        pytest.param(
            app(mountPoints=[{"name": "w", "path": "/a"}, {"name": "w", "path": "/b"}]),
            "app.mountPoints[1].name",
            "given twice",
            id="mount-twice",
        ),
        pytest.param(
            app(mountPoints=[{"name": "w", "path": "/a", "readOnly": "yes"}]),
            "app.mountPoints[0].readOnly",
            "a boolean",
            id="mount-read-only",
        ),
        pytest.param(
            app(ports=[{"name": "a", "protocol": "tcp", "port": 0}]), "app.ports[0].port", "between 1", id="port-zero"
        ),
        pytest.param(
            app(ports=[{"name": "a", "protocol": "tcp", "port": 65536}]), "app.ports[0].port", "between", id="port"
        ),
        pytest.param(
            app(ports=[{"name": "a", "protocol": "tcp", "port": 65000, "count": 537}]),
            "app.ports[0].count",
            "end beyond 65535",
            id="port-count",
        ),
        pytest.param(
            app(ports=[{"name": "a", "protocol": "tcp", "port": 1, "count": 0}]),
            "app.ports[0].count",
            "between 1",
            id="port-count-zero",
        ),
        pytest.param(app(ports=[{"name": "a", "port": 1}]), "app.ports[0].protocol", "is required", id="port-protocol"),
        pytest.param(app(userLabels={"a": 1}), "app.userLabels.a", "expected a string", id="user-label"),
        pytest.param(
            IMAGE | {"dependencies": [{}]}, "dependencies[0].imageName", "is required", id="dependency-no-name"
        ),
        pytest.param(
            IMAGE | {"dependencies": [{"imageName": "a", "imageID": "sha512-abc"}]},
            "dependencies[0].imageID",
            "128 hex digits",
            id="dependency-id-short",
        ),
        pytest.param(
            IMAGE | {"dependencies": [{"imageName": "a", "imageID": "sha256-" + "a" * 64}]},
            "dependencies[0].imageID",
            "128 hex digits",
            id="dependency-id-sha256",
        ),
        pytest.param(
            IMAGE | {"dependencies": [{"imageName": "a", "size": -1}]},
            "dependencies[0].size",
            "between 0",
            id="dependency-size",
        ),
        pytest.param(IMAGE | {"pathWhitelist": ["etc"]}, "pathWhitelist[0]", "is not an absolute", id="whitelist"),
        pytest.param(IMAGE | {"pathWhitelist": ["/a/../b"]}, "pathWhitelist[0]", "climbs", id="whitelist-climbs"),
        pytest.param(
            IMAGE | {"annotations": [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}]},
            "annotations[1].name",
            "given twice",
            id="annotation-twice",
        ),
        pytest.param(
            IMAGE | {"annotations": [{"name": "created", "value": "2014-10-27"}]}, "annotations", "date", id="created"
        ),
        pytest.param(
            IMAGE | {"annotations": [{"name": "homepage", "value": "ftp://x"}]}, "annotations", "URL", id="homepage"
        ),
        pytest.param(
            IMAGE | {"annotations": [{"name": "appc.io/executor/supports-systemd-notify", "value": "yes"}]},
            "annotations",
            "true or false",
            id="notify",
        ),
    ],
)
def test_refuses_image_manifests(value: Any, where: str, problem: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        image(value)
    assert caught.value.where == where
    assert problem in caught.value.problem


RETAIN, REMOVE = "os/linux/capabilities-retain-set", "os/linux/capabilities-remove-set"
CALLS, NO_CALLS = "os/linux/seccomp-retain-set", "os/linux/seccomp-remove-set"


@pytest.mark.parametrize(
    ("isolators", "where", "problem"),
    [
        pytest.param([("resource/memory", {})], "[0].value", "needs a limit or a request", id="memory-nothing"),
        pytest.param([("resource/memory", None)], "[0].value", "needs a limit", id="memory-null"),
        pytest.param([("resource/memory", 5)], "[0].value", "expected an object", id="memory-number"),
        pytest.param([("resource/memory", {"limit": "x"})], "[0].value.limit", "is not a quantity", id="memory-text"),
        pytest.param([("resource/memory", {"limit": "-1"})], "[0].value.limit", "is not a quantity", id="memory-minus"),
        pytest.param([("resource/memory", {"limit": -1})], "[0].value.limit", "between 0", id="memory-minus-number"),
        pytest.param([("resource/memory", {"limit": "0"})], "[0].value.limit", "more than nothing", id="memory-zero"),
        pytest.param([("resource/memory", {"limit": True})], "[0].value.limit", "an integer", id="memory-true"),
        pytest.param(
            [("resource/memory", {"limit": "1G", "request": "2G"})],
            "[0].value.request",
            "more than the limit",
            id="mem",
        ),
        pytest.param(
            [("resource/cpu", {"limit": "100m", "request": "1"})], "[0].value.request", "more than the limit", id="cpu"
        ),
        pytest.param([("resource/block-iops", {"limit": "1"})], "[0].value.default", "must be true", id="iops-default"),
        pytest.param(
            [("resource/block-bandwidth", {"default": False, "limit": "1"})], "[0].value.default", "true", id="band"
        ),
        pytest.param(
            [("resource/network-bandwidth", {"default": True, "limit": "1", "request": "1"})],
            "[0].value.request",
            "must not be set",
            id="network-request",
        ),
        pytest.param([("resource/block-iops", {"default": True})], "[0].value.limit", "is required", id="iops-limit"),
        pytest.param([(RETAIN, {})], "[0].value.set", "is required", id="caps-no-set"),
        pytest.param([(RETAIN, {"set": ["NET_ADMIN"]})], "[0].value.set[0]", "is not a capability", id="caps-name"),
        pytest.param([(RETAIN, {"set": ["cap_chown"]})], "[0].value.set[0]", "is not a capability", id="caps-lower"),
        pytest.param(
            [(RETAIN, {"set": []}), (REMOVE, {"set": []})], "[1].name", "cannot stand beside", id="caps-both-sets"
        ),
        pytest.param([(RETAIN, {"set": []})] * 2, "[1].name", "is given twice", id="caps-twice"),
        pytest.param([(CALLS, {"set": []})], "[0].value.set", "must not be empty", id="seccomp-empty"),
        pytest.param([(CALLS, {"set": ["a b"]})], "[0].value.set[0]", "is not a system call", id="seccomp-name"),
        pytest.param([(CALLS, {"set": ["read"], "errno": "1"})], "[0].value.errno", "is not an errno", id="errno"),
        pytest.param(
            [(CALLS, {"set": ["a"]}), (NO_CALLS, {"set": ["a"]})], "[1].name", "cannot stand beside", id="seccomp-both"
        ),
        pytest.param([(NO_CALLS, {"set": ["a"]})] * 2, "[1].name", "is given twice", id="seccomp-twice"),
        pytest.param([("os/linux/selinux-context", {"user": "u"})], "[0].value.role", "is required", id="selinux"),
        pytest.param([("os/linux/apparmor-profile", {"profile": ""})], "[0].value.profile", "empty", id="apparmor"),
        pytest.param([("os/linux/no-new-privileges", "true")], "[0].value", "a boolean", id="no-new-privileges"),
        pytest.param([("os/unix/sysctl", {"a": 1})], "[0].value.a", "expected a string", id="sysctl-number"),
        pytest.param([("os/unix/sysctl", None)], "[0].value", "is required", id="sysctl-null"),
        pytest.param([("os/linux/oom-score-adj", 1001)], "[0].value", "between -1000 and 1000", id="oom"),
        pytest.param([("os/linux/cpu-shares", -1)], "[0].value", "between 0", id="shares"),
        pytest.param([("example.com/x", None)], "[0].value", "is required", id="unknown-without-value"),
        pytest.param([("Bad Name", 1)], "[0].name", "is not an AC Identifier", id="bad-name"),
    ],
)
def test_refuses_isolators(isolators: list[tuple[str, Any]], where: str, problem: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        image(isolated(*isolators))
    assert caught.value.where == f"app.isolators{where}"
    assert problem in caught.value.problem


@pytest.mark.parametrize(
    ("value", "where", "problem"),
    [
        pytest.param(POD | {"acKind": "ImageManifest"}, "acKind", "none of PodManifest", id="kind"),
        pytest.param(POD | {"apps": None}, "apps", "at least one application", id="no-apps-member"),
        pytest.param(POD | {"apps": []}, "apps", "at least one application", id="no-apps"),
        pytest.param(first(name="backup"), "apps[1].name", "'backup' is given twice", id="app-twice"),
        pytest.param(first(name="a.b"), "apps[0].name", "is not an AC Name", id="app-name"),
        pytest.param(first(image=None), "apps[0].image.id", "is required", id="no-image"),
        pytest.param(first(image={"name": "a"}), "apps[0].image.id", "is required", id="no-image-id"),
        pytest.param(first(image={"id": ID[:-1]}), "apps[0].image.id", "128 hex digits", id="image-id-cut"),
        pytest.param(first(app={}), "apps[0].app.user", "is required", id="app-empty"),
        pytest.param(first(readOnlyRootFS=1), "apps[0].readOnlyRootFS", "a boolean", id="read-only"),
        pytest.param(
            first(mounts=[{"volume": "other", "path": "/x"}]),
            "apps[0].mounts[0].volume",
            "is not a volume of this pod",
            id="mount-of-no-volume",
        ),
        pytest.param(first(mounts=[{"volume": "work"}]), "apps[0].mounts[0].path", "is required", id="mount-no-path"),
        pytest.param(
            first(mounts=[{"volume": "work", "path": "x"}]), "apps[0].mounts[0].path", "absolute", id="mount-relative"
        ),
        pytest.param(
            first(mounts=[{"volume": "v", "path": "/x", "appVolume": {"name": "v", "kind": "host"}}]),
            "apps[0].mounts[0].appVolume.source",
            "is required",
            id="app-volume",
        ),
        pytest.param(volume(kind="nfs"), "volumes[0].kind", "none of host, empty", id="volume-kind"),
        pytest.param(volume(source="x"), "volumes[0].source", "is not an absolute path", id="volume-relative"),
        pytest.param(volume(source=None), "volumes[0].source", "expected a string", id="volume-no-source"),
        pytest.param(volume(kind="empty"), "volumes[0].source", "means nothing", id="empty-with-source"),
        pytest.param(volume(mode="rwx"), "volumes[0].mode", "is not an octal mode", id="volume-mode"),
        pytest.param(volume(mode="99999"), "volumes[0].mode", "is not an octal mode", id="volume-mode-digits"),
        pytest.param(volume(uid=-1), "volumes[0].uid", "between 0", id="volume-uid"),
        pytest.param(volume(recursive="no"), "volumes[0].recursive", "a boolean", id="volume-recursive"),
        pytest.param(
            POD | {"volumes": [POD["volumes"][0]] * 2}, "volumes[1].name", "'work' is given twice", id="volume-twice"
        ),
        pytest.param(
            POD | {"isolators": [{"name": "os/linux/magic", "value": 1}]},
            "isolators[0].name",
            "is not an isolator we know",
            id="unknown-isolator",
        ),
        pytest.param(POD | {"ports": [{"name": "a", "hostPort": 0}]}, "ports[0].hostPort", "between 1", id="port-zero"),
        pytest.param(POD | {"ports": [{"name": "a", "hostPort": 70000}]}, "ports[0].hostPort", "between", id="port"),
        pytest.param(
            POD | {"ports": [{"name": "a", "hostPort": 1, "hostIP": "::1"}]}, "ports[0].hostIP", "IPv4", id="ip-v6"
        ),
        pytest.param(
            POD | {"ports": [{"name": "a", "hostPort": 1, "hostIP": "1.2.3.256"}]}, "ports[0].hostIP", "IPv4", id="ip"
        ),
        pytest.param(
            POD | {"ports": [{"name": "a", "hostPort": 1, "hostIP": "01.2.3.4"}]}, "ports[0].hostIP", "IPv4", id="octal"
        ),
        pytest.param(
            POD | {"ports": [{"name": "a", "hostPort": 1}] * 2}, "ports[1].name", "given twice", id="port-twice"
        ),
        pytest.param(POD | {"userLabels": []}, "userLabels", "expected an object", id="user-labels"),
    ],
)
def test_refuses_pod_manifests(value: Any, where: str, problem: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        pod(value)
    assert caught.value.where == where
    assert problem in caught.value.problem


@pytest.mark.parametrize(
    ("text", "identifier", "name"),
    [
        ("a", True, True),
        ("a-b", True, True),
        ("example.com/app-1_x~y", True, False),
        ("", False, False),
        ("a-", False, False),
        ("a--b", False, False),
        ("A", False, False),
        ("a b", False, False),
        ("ä", False, False),
        ("a\n", False, False),
    ],
)
def test_names(text: str, identifier: bool, name: bool) -> None:
    assert is_identifier(text) is identifier
    assert is_name(text) is name


@pytest.mark.parametrize(
    ("text", "whole"), [(ID, True), (ID[:-1], False), (ID + "a", False), (ID.upper(), False), (ID + "\n", False)]
)
def test_image_ids(text: str, whole: bool) -> None:
    assert is_image_id(text) is whole


MEMBERS = st.sampled_from([*IMAGE, *APP, *POD, *POD["apps"][0], *POD["volumes"][0], "value", "set", "limit", "request"])
NEAR = st.recursive(
    JSON | st.sampled_from(["0.8.11", "ImageManifest", "a", "/x", ID, "1G", "host", *dict.fromkeys([RETAIN, CALLS])]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS, inner, max_size=6),
    max_leaves=20,
)


@given(NEAR, st.sampled_from(sorted(IMAGE)), st.sampled_from(sorted(APP)), st.sampled_from(sorted(POD)))
def test_any_json_is_read_or_refused_by_name(value: Any, member: str, inner: str, other: str) -> None:
    for candidate in (value, IMAGE | {member: value}, app(**{inner: value})):
        try:
            manifest = image(candidate)
        except InvalidSpec as error:
            if error.document != "image manifest":
                raise
            continue
        assert ImageManifest.parse(Reader(manifest.dump(), "x")) == manifest
    try:
        parsed = pod(POD | {other: value})
    except InvalidSpec:
        return
    assert PodManifest.parse(Reader(parsed.dump(), "x")) == parsed
