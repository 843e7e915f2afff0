"""specs/: the schemas are sound, whole, and of one mind with the readers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pyrkt.base.errors import InvalidSpec
from pyrkt.net import conf
from pyrkt.spec.appc import parse_image_manifest, parse_pod_manifest
from pyrkt.spec.image import DOCKER_LIST, DOCKER_MANIFEST, parse_config, parse_manifest
from tests.unit.net import test_conf
from tests.unit.spec import test_appc, test_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SPECS = Path(__file__).parents[3] / "specs"
NAMES = sorted(path.name.removesuffix(".schema.json") for path in SPECS.glob("*.schema.json"))
A = test_image.A

DESCRIPTOR = test_image.ENTRY | {
    "urls": ["https://example.com/x"],
    "annotations": {"a": "b"},
    "artifactType": "application/x",
    "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"},
}
COMMON = {"annotations": {"a": "b"}, "subject": DESCRIPTOR, "artifactType": "application/x"}
RULE = {"name": "read", "action": "SCMP_ACT_ALLOW"}
THROTTLE = [{"major": 8, "minor": 0, "rate": 600}]
# One document for each schema, with every member that the schema names.
WHOLE: dict[str, dict[str, Any]] = {
    "appc-image": test_appc.IMAGE,
    "appc-pod": test_appc.POD,
    "oci-manifest": test_image.MANIFEST | COMMON | {"layers": [DESCRIPTOR]},
    "oci-index": test_image.INDEX | COMMON,
    "oci-image-config": test_image.IMAGE | {"variant": "v3", "os.version": "1"},
    "oci-layout": {"imageLayoutVersion": "1.0.0"},
    "cni-network": test_conf.WHOLE,
    "cni-network-list": test_conf.WHOLE_LIST,
    "containers-policy": {
        "default": [{"type": "reject"}],
        "transports": {
            "docker": {
                "example.com/signed": [
                    {
                        "type": "signedBy",
                        "keyType": "GPGKeys",
                        "keyPath": "/k",
                        "signedIdentity": {"type": "remapIdentity", "prefix": "a", "signedPrefix": "b"},
                    },
                    {"type": "signedBy", "keyType": "GPGKeys", "keyPaths": ["/a", "/b"]},
                    {
                        "type": "signedBy",
                        "keyType": "GPGKeys",
                        "keyData": "YQ==",
                        "signedIdentity": {"type": "matchExact"},
                    },
                    {
                        "type": "sigstoreSigned",
                        "keyPath": "/k",
                        "keyPaths": ["/k"],
                        "keyData": "YQ==",
                        "keyDatas": ["YQ=="],
                        "fulcio": {},
                        "pki": {},
                        "rekorPublicKeyPath": "/r",
                        "rekorPublicKeyPaths": ["/r"],
                        "rekorPublicKeyData": "YQ==",
                        "rekorPublicKeyDatas": ["YQ=="],
                        "signedIdentity": {"type": "exactReference", "dockerReference": "example.com/a:1"},
                    },
                ],
                "": [
                    {
                        "type": "signedBy",
                        "keyType": "GPGKeys",
                        "keyPath": "/k",
                        "signedIdentity": {"type": "exactRepository", "dockerRepository": "example.com/a"},
                    },
                ],
            },
            "oci": {"": [{"type": "insecureAcceptAnything"}]},
        },
    },
    "oci-2015-config": {
        "version": "0.2.0",
        "ociVersion": "0.2.0",
        "platform": {"os": "linux", "arch": "amd64"},
        "process": {
            "terminal": True,
            "user": {"uid": 1, "gid": 1, "additionalGids": [5]},
            "args": ["sh"],
            "env": ["A=b"],
            "cwd": "/",
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "h",
        "mounts": [{"name": "proc", "path": "/proc"}],
        "linux": {"capabilities": ["CAP_KILL"]},
        "annotations": {"a": "b"},
    },
    "oci-2015-runtime": {
        "mounts": {"proc": {"type": "proc", "source": "proc", "options": ["ro"]}},
        "hooks": {
            name: [{"path": "/h", "args": ["h"], "env": ["A=b"]}] for name in ("prestart", "poststart", "poststop")
        },
        "linux": {
            "uidMappings": [{"hostID": 1000, "containerID": 0, "size": 10}],
            "gidMappings": [{"hostID": 1000, "containerID": 0, "size": 10}],
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}],
            "sysctl": {"net.ipv4.ip_forward": "1"},
            "resources": {
                "disableOOMKiller": False,
                "oomScoreAdj": 5,
                "memory": dict.fromkeys(("limit", "reservation", "swap", "kernel", "kernelTCP", "swappiness"), 0),
                "cpu": dict.fromkeys(("shares", "quota", "period", "realtimeRuntime", "realtimePeriod"), 0)
                | {"cpus": "0", "mems": "0"},
                "pids": {"limit": -1},
                "blockIO": {
                    "blkioWeight": 10,
                    "blkioLeafWeight": 10,
                    "blkioWeightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
                    "blkioThrottleReadBpsDevice": THROTTLE,
                    "blkioThrottleWriteBpsDevice": THROTTLE,
                    "blkioThrottleReadIOPSDevice": THROTTLE,
                    "blkioThrottleWriteIOPSDevice": THROTTLE,
                },
                "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
                "network": {"classID": 1, "priorities": [{"name": "eth0", "priority": 5}]},
            },
            "cgroupsPath": "/x",
            "namespaces": [{"type": "pid", "path": "/proc/1/ns/pid"}, {"type": "mount"}],
            "devices": [
                {
                    "path": "/dev/null",
                    "type": "c",
                    "major": 1,
                    "minor": 3,
                    "permissions": "rwm",
                    "fileMode": 438,
                    "uid": 0,
                    "gid": 0,
                },
                {"type": "c", "major": 5, "minor": -1, "permissions": "rw"},
            ],
            "apparmorProfile": "p",
            "selinuxProcessLabel": "l",
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "architectures": ["SCMP_ARCH_X86"],
                "syscalls": [RULE | {"args": [{"index": 0, "value": 1, "valueTwo": 0, "op": "SCMP_CMP_EQ"}]}],
            },
            "rootfsPropagation": "rslave",
            "noNewPrivileges": True,
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
        },
    },
}
READERS: dict[str, Callable[[bytes], Any]] = {
    "appc-image": parse_image_manifest,
    "appc-pod": parse_pod_manifest,
    "oci-manifest": lambda data: parse_manifest(data, None, "m"),
    "oci-index": lambda data: parse_manifest(data, None, "m"),
    "oci-image-config": parse_config,
}
JUDGES: dict[str, Callable[[bytes], Any]] = {
    **READERS,
    "cni-network": lambda data: conf.parse(data, "n"),
    "cni-network-list": lambda data: conf.parse(data, "n"),
}


def schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((SPECS / f"{name}.schema.json").read_text())
    return loaded


def is_valid(name: str, value: object) -> bool:
    return Draft202012Validator(schema(name)).is_valid(value)


def named(part: Any, root: dict[str, Any], seen: tuple[str, ...] = (), inside: str = "") -> Iterator[tuple[str, str]]:
    """Yield (name of the definition it stands in, property) of each property that ``part`` allows."""
    if isinstance(part, list):
        for item in part:
            yield from named(item, root, seen, inside)
    if not isinstance(part, dict):
        return
    if (reference := part.get("$ref")) and reference not in seen:
        yield from named(root["$defs"][reference.rpartition("/")[2]], root, (*seen, reference), inside)
    for name, value in part.get("properties", {}).items():
        if value is not False:
            yield inside, name
            yield from named(value, root, seen, f"{inside}.{name}")
    for keyword in ("items", "additionalProperties", "oneOf", "allOf"):
        yield from named(part.get(keyword), root, seen, inside)


def present(value: Any, inside: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for item in value:
            yield from present(item, inside)
    if isinstance(value, dict):
        for name, member in value.items():
            yield inside, name
            yield from present(member, f"{inside}.{name}")


@pytest.mark.parametrize("name", NAMES)
def test_schemas_are_sound(name: str) -> None:
    loaded = schema(name)
    Draft202012Validator.check_schema(loaded)
    assert loaded["$id"] == f"urn:pyrkt:{name}"
    assert loaded["title"]
    assert name in (SPECS / "README.md").read_text()


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_whole_documents_are_valid_and_leave_no_property_out(name: str) -> None:
    errors = [error.message for error in Draft202012Validator(schema(name)).iter_errors(WHOLE[name])]
    assert errors == []
    mentioned = {member for _, member in present(WHOLE[name])}
    assert {member for _, member in named(schema(name), schema(name))} <= mentioned


@pytest.mark.parametrize("name", sorted(READERS))
def test_readers_read_whole_documents_and_lose_nothing(name: str) -> None:
    parsed = READERS[name](json.dumps(WHOLE[name]).encode())
    assert is_valid(name, parsed.dump())
    assert {member for _, member in present(parsed.dump())} == {member for _, member in present(WHOLE[name])}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        pytest.param("appc-image", {"acKind": "PodManifest"}, id="image-kind"),
        pytest.param("appc-image", {"acVersion": "1.0.0"}, id="image-version"),
        pytest.param("appc-image", {"name": "A"}, id="image-name"),
        pytest.param("appc-image", {"labels": [{"name": "name", "value": "x"}]}, id="image-label-name"),
        pytest.param("appc-image", {"pathWhitelist": ["etc"]}, id="image-whitelist"),
        pytest.param("appc-image", {"app": {"user": "0"}}, id="image-no-group"),
        pytest.param("appc-image", {"dependencies": [{"imageName": "a", "imageID": "sha512-abc"}]}, id="image-id"),
        pytest.param("appc-pod", {"apps": []}, id="pod-no-apps"),
        pytest.param("appc-pod", {"volumes": [{"name": "v", "kind": "host"}]}, id="pod-no-source"),
        pytest.param("appc-pod", {"ports": [{"name": "p", "hostPort": 0}]}, id="pod-port"),
        pytest.param("oci-manifest", {"manifests": []}, id="manifest-with-manifests"),
        pytest.param("oci-manifest", {"fsLayers": []}, id="manifest-with-fs-layers"),
        pytest.param("oci-manifest", {"layers": [test_image.BLOB | {"size": -1}]}, id="manifest-negative-size"),
        pytest.param("oci-manifest", {"mediaType": DOCKER_LIST}, id="manifest-of-index-type"),
        pytest.param("oci-manifest", {"schemaVersion": 1}, id="manifest-version"),
        pytest.param("oci-index", {"layers": []}, id="index-with-layers"),
        pytest.param("oci-index", {"mediaType": DOCKER_MANIFEST}, id="index-of-manifest-type"),
        pytest.param("oci-image-config", {"rootfs": {"type": "layers", "diff_ids": ["md5:x"]}}, id="config-diff-id"),
        pytest.param("oci-image-config", {"config": {"Env": ["A"]}}, id="config-env"),
        pytest.param("oci-image-config", {"config": {"WorkingDir": "x"}}, id="config-cwd"),
        pytest.param("oci-layout", {"imageLayoutVersion": "2.0.0"}, id="layout-version"),
        pytest.param("cni-network", {"name": "host"}, id="network-reserved"),
        pytest.param("cni-network", {"type": "../sh"}, id="network-type"),
        pytest.param("cni-network", {"cniVersion": "9.9.9"}, id="network-version"),
        pytest.param("cni-network", {"ipam": {"type": "/sh"}}, id="network-ipam"),
        pytest.param("cni-network", {"pyrkt": {"timeout": 0}}, id="network-timeout"),
        pytest.param("cni-network-list", {"plugins": []}, id="list-empty"),
        pytest.param("cni-network-list", {"plugins": [{}]}, id="list-no-type"),
        pytest.param("cni-network-list", {"disableCheck": "yes"}, id="list-flag"),
        pytest.param("containers-policy", {"default": []}, id="policy-empty"),
        pytest.param("containers-policy", {"defualt": [{"type": "reject"}]}, id="policy-misspelt"),
        pytest.param(
            "containers-policy", {"default": [{"type": "reject", "keyPath": "/k"}]}, id="policy-reject-by-key"
        ),
        pytest.param(
            "containers-policy",
            {"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k", "keyData": "YQ=="}]},
            id="policy-two-keys",
        ),
        pytest.param("oci-2015-config", {"version": "1.0.0"}, id="old-config-version"),
        pytest.param("oci-2015-config", {"mounts": [{"name": "a", "path": "rel"}]}, id="old-config-mount"),
        pytest.param("oci-2015-runtime", {"mounts": [{"type": "proc"}]}, id="old-runtime-mounts-array"),
        pytest.param(
            "oci-2015-runtime", {"linux": {"namespaces": [{"type": "cgroup"}], "devices": []}}, id="old-namespace"
        ),
        pytest.param(
            "oci-2015-runtime",
            {"linux": {"namespaces": [], "devices": [{"path": "/d", "type": "c", "major": 1, "minor": 1}]}},
            id="old-device-without-mode",
        ),
    ],
)
def test_schemas_refuse(name: str, change: dict[str, Any]) -> None:
    value = WHOLE[name] | change
    assert not is_valid(name, value)
    if reader := JUDGES.get(name):
        with pytest.raises(InvalidSpec):
            reader(json.dumps(value).encode())


@given(test_appc.NEAR, st.sampled_from(sorted(test_appc.IMAGE)), st.sampled_from(sorted(test_appc.APP)))
def test_what_is_read_of_appc_is_valid(value: Any, member: str, inner: str) -> None:
    for candidate in (test_appc.IMAGE | {member: value}, test_appc.app(**{inner: value})):
        try:
            parsed = parse_image_manifest(json.dumps(candidate).encode())
        except InvalidSpec:
            continue
        assert is_valid("appc-image", parsed.dump())


@given(test_image.NEAR, st.sampled_from(sorted(test_image.MANIFEST)), st.sampled_from(sorted(test_image.IMAGE)))
def test_what_is_read_of_images_is_valid(value: Any, member: str, inner: str) -> None:
    try:
        manifest = parse_manifest(json.dumps(test_image.MANIFEST | {member: value}).encode(), None, "m")
        assert is_valid("oci-manifest", manifest.dump())
        config = parse_config(json.dumps(test_image.IMAGE | {inner: value}).encode())
        assert is_valid("oci-image-config", config.dump())
    except InvalidSpec:
        return
