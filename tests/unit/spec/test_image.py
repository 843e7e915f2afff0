"""Manifests, indexes and image configurations: read strictly, or refused with the place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.base.errors import InvalidSpec, NotFound
from pyrkt.base.reader import Reader
from pyrkt.spec import image
from pyrkt.spec.digest import Digest
from pyrkt.spec.image import (
    DOCKER_CONFIG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    History,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    choose,
    host_platform,
    parse_config,
    parse_manifest,
    require_image,
    user_problem,
)
from tests.unit.base.test_fastjson import JSON

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
BLOB = {"mediaType": LAYER, "digest": A, "size": 10}
CONFIG = {"mediaType": OCI_CONFIG, "digest": B, "size": 2}
MANIFEST: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": CONFIG, "layers": [BLOB]}
ENTRY = {"mediaType": OCI_MANIFEST, "digest": C, "size": 5, "platform": {"os": "linux", "architecture": "amd64"}}
INDEX: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [ENTRY]}
IMAGE: dict[str, Any] = {
    "created": "2015-10-31T22:22:56.015925234Z",
    "author": "A <a@example.com>",
    "architecture": "amd64",
    "os": "linux",
    "config": {
        "User": "alice",
        "ExposedPorts": {"8080/tcp": {}},
        "Env": ["PATH=/bin", "FOO=a=b"],
        "Entrypoint": ["/bin/app"],
        "Cmd": ["--foreground"],
        "Volumes": {"/var/data": {}},
        "WorkingDir": "/home/alice",
        "Labels": {"com.example.version": "1"},
        "StopSignal": "SIGKILL",
    },
    "rootfs": {"type": "layers", "diff_ids": [A, B]},
    "history": [
        {"created": "2015-10-31T22:22:54Z", "created_by": "ADD", "comment": "c", "author": "a"},
        {"empty_layer": True},
    ],
}


def without(document: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != name}


def manifest_of(value: Any, content_type: str | None = None) -> Manifest | Index:
    return parse_manifest(json.dumps(value).encode(), content_type, "m")


def run(**members: Any) -> dict[str, Any]:
    return IMAGE | {"config": IMAGE["config"] | members}


# --- manifests and indexes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "served", "kind"),
    [
        pytest.param(MANIFEST, OCI_MANIFEST, OCI_MANIFEST, id="oci"),
        pytest.param(MANIFEST, None, OCI_MANIFEST, id="nobody-said"),
        pytest.param(MANIFEST, "application/json; charset=utf-8", OCI_MANIFEST, id="generic-type"),
        pytest.param(MANIFEST, OCI_MANIFEST.upper() + ";v=1", OCI_MANIFEST, id="type-in-capitals-with-parameter"),
        pytest.param(without(MANIFEST, "mediaType"), OCI_MANIFEST, OCI_MANIFEST, id="served-only"),
        pytest.param(without(MANIFEST, "mediaType"), None, OCI_MANIFEST, id="by-its-shape"),
        pytest.param(MANIFEST | {"mediaType": DOCKER_MANIFEST}, DOCKER_MANIFEST, DOCKER_MANIFEST, id="docker"),
        pytest.param(MANIFEST | {"layers": []}, None, OCI_MANIFEST, id="no-layers"),
        pytest.param(MANIFEST | {"manifests": None}, None, OCI_MANIFEST, id="null-is-absent"),
        pytest.param(MANIFEST | {"future": [{}]}, None, OCI_MANIFEST, id="unknown-member"),
        pytest.param(INDEX, OCI_INDEX, OCI_INDEX, id="index"),
        pytest.param(without(INDEX, "mediaType"), None, OCI_INDEX, id="index-by-its-shape"),
        pytest.param(INDEX | {"mediaType": DOCKER_LIST}, DOCKER_LIST, DOCKER_LIST, id="docker-list"),
        pytest.param(INDEX | {"manifests": []}, None, OCI_INDEX, id="empty-index"),
        pytest.param(INDEX | {"manifests": [BLOB | {"mediaType": "x/y"}]}, None, OCI_INDEX, id="unknown-entry"),
        pytest.param(MANIFEST | {"schemaVersion": 2.0}, None, OCI_MANIFEST, id="version-2.0"),
    ],
)
def test_reads_manifests(value: dict[str, Any], served: str | None, kind: str) -> None:
    parsed = manifest_of(value, served)
    assert parsed.media_type == kind
    assert isinstance(parsed, Index) == (kind in image.INDEX_TYPES)
    assert manifest_of(parsed.dump(), kind) == parsed


def test_reads_every_member() -> None:
    layer = BLOB | {"urls": ["https://example.com/l"], "annotations": {"k": "v"}, "size": (1 << 63) - 1}
    parsed = manifest_of(
        MANIFEST | {"layers": [layer], "annotations": {"a": "b"}, "subject": BLOB, "artifactType": "application/x"}
    )
    assert isinstance(parsed, Manifest)
    assert parsed.layers[0].urls == ("https://example.com/l",)
    assert parsed.layers[0].annotations == {"k": "v"}
    assert parsed.layers[0].size == (1 << 63) - 1
    assert parsed.annotations == {"a": "b"}
    assert parsed.subject is not None
    assert parsed.subject.digest == A
    assert parsed.artifact_type == "application/x"
    assert manifest_of(parsed.dump()) == parsed


@pytest.mark.parametrize(
    ("value", "served", "where", "problem"),
    [
        pytest.param([], None, "", "expected an object, got an array", id="array"),
        pytest.param("x", None, "", "expected an object, got a string", id="string"),
        pytest.param({}, None, "schemaVersion", "is required", id="empty"),
        pytest.param({"schemaVersion": 2}, None, "", "is neither an image manifest nor an index", id="shapeless"),
        pytest.param(without(MANIFEST, "schemaVersion"), None, "schemaVersion", "is required", id="no-version"),
        pytest.param(MANIFEST | {"schemaVersion": 1}, None, "schemaVersion", "must be 2, got 1", id="version-1"),
        pytest.param(MANIFEST | {"schemaVersion": 3}, None, "schemaVersion", "must be 2, got 3", id="version-3"),
        pytest.param(MANIFEST | {"schemaVersion": "2"}, None, "schemaVersion", "an integer", id="version-text"),
        pytest.param(MANIFEST | {"schemaVersion": True}, None, "schemaVersion", "an integer", id="version-true"),
        pytest.param(
            MANIFEST,
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "",
            "Docker schema 1",
            id="schema-1-served",
        ),
        pytest.param(
            {"schemaVersion": 1, "mediaType": "application/vnd.docker.distribution.manifest.v1+json", "fsLayers": []},
            None,
            "mediaType",
            "Docker schema 1",
            id="schema-1",
        ),
        pytest.param(MANIFEST, OCI_INDEX, "mediaType", "was served as", id="served-as-index"),
        pytest.param(MANIFEST, DOCKER_MANIFEST, "mediaType", "was served as", id="served-as-docker"),
        pytest.param(INDEX, OCI_MANIFEST, "mediaType", "was served as", id="index-served-as-manifest"),
        pytest.param(MANIFEST, "text/html", "", "'text/html' is not that of an image", id="served-as-html"),
        pytest.param(MANIFEST | {"mediaType": "a/b"}, None, "mediaType", "is not that of an image", id="unknown-type"),
        pytest.param(MANIFEST | {"mediaType": ""}, None, "mediaType", "must not be empty", id="empty-type"),
        pytest.param(MANIFEST | {"mediaType": 7}, None, "mediaType", "expected a string", id="type-number"),
        pytest.param(MANIFEST | {"mediaType": OCI_CONFIG}, None, "mediaType", "is not that", id="type-of-config"),
        pytest.param(MANIFEST | {"manifests": [ENTRY]}, None, "manifests", "two meanings", id="both"),
        pytest.param(MANIFEST | {"manifests": []}, None, "manifests", "two meanings", id="both-though-empty"),
        pytest.param(INDEX | {"layers": [BLOB]}, None, "layers", "two meanings", id="index-with-layers"),
        pytest.param(INDEX | {"config": CONFIG}, None, "config", "two meanings", id="index-with-config"),
        pytest.param(MANIFEST | {"fsLayers": []}, None, "fsLayers", "two meanings", id="with-fs-layers"),
        pytest.param(INDEX | {"fsLayers": [{}]}, None, "fsLayers", "two meanings", id="index-with-fs-layers"),
        pytest.param(
            without(MANIFEST, "mediaType") | {"manifests": [ENTRY]}, OCI_MANIFEST, "manifests", "two", id="both-served"
        ),
        pytest.param(
            without(MANIFEST, "mediaType") | {"manifests": [ENTRY]}, None, "layers", "two meanings", id="both-unsaid"
        ),
        pytest.param(MANIFEST | {"Layers": []}, None, "Layers", "only in the case", id="case-twin"),
        pytest.param(MANIFEST | {"MEDIATYPE": "x"}, None, "MEDIATYPE", "only in the case", id="type-case-twin"),
        pytest.param(MANIFEST | {"layer\u017f": []}, None, "layer\u017f", "only in the case", id="long-s-twin"),
        pytest.param(INDEX | {"Manifests": []}, None, "Manifests", "only in the case", id="index-case-twin"),
        pytest.param(without(MANIFEST, "config"), None, "config.mediaType", "is required", id="no-config"),
        pytest.param(MANIFEST | {"config": []}, None, "config", "expected an object", id="config-array"),
        pytest.param(without(MANIFEST, "layers"), None, "layers", "is required", id="no-layers-member"),
        pytest.param(MANIFEST | {"layers": None}, None, "layers", "is required", id="null-layers"),
        pytest.param(MANIFEST | {"layers": {}}, None, "layers", "expected an array", id="layers-object"),
        pytest.param(MANIFEST | {"layers": [A]}, None, "layers[0]", "expected an object", id="layer-text"),
        pytest.param(without(INDEX, "manifests"), None, "manifests", "is required", id="no-manifests"),
        pytest.param(INDEX | {"manifests": "x"}, None, "manifests", "expected an array", id="manifests-text"),
        pytest.param(MANIFEST | {"annotations": {"a": 1}}, None, "annotations.a", "a string", id="annotation-number"),
        pytest.param(MANIFEST | {"annotations": []}, None, "annotations", "an object", id="annotations-array"),
        pytest.param(MANIFEST | {"subject": {}}, None, "subject.mediaType", "is required", id="subject-empty"),
        pytest.param(MANIFEST | {"artifactType": 1}, None, "artifactType", "a string", id="artifact-type-number"),
    ],
)
def test_refuses_manifests(value: Any, served: str | None, where: str, problem: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        manifest_of(value, served)
    assert caught.value.where == where
    assert problem in caught.value.problem


@pytest.mark.parametrize(
    ("change", "where", "problem"),
    [
        pytest.param({"digest": None}, "digest", "expected a string", id="digest-null"),
        pytest.param({"digest": "sha256:abc"}, "digest", "has 3 digits", id="digest-short"),
        pytest.param({"digest": "md5:" + "a" * 32}, "digest", "is not a digest algorithm", id="digest-md5"),
        pytest.param({"digest": A.upper()}, "digest", "is not a digest algorithm", id="digest-upper"),
        pytest.param({"digest": A + "/../x"}, "digest", "digits instead", id="digest-path"),
        pytest.param({"digest": "/etc/passwd"}, "digest", "is not a digest", id="digest-file"),
        pytest.param({"digest": 1}, "digest", "expected a string", id="digest-number"),
        pytest.param({"size": None}, "size", "expected an integer, got null", id="size-null"),
        pytest.param({"size": -1}, "size", "must be between 0 and", id="size-negative"),
        pytest.param({"size": 1 << 63}, "size", "must be between 0 and", id="size-beyond"),
        pytest.param({"size": 1.5}, "size", "expected an integer", id="size-fraction"),
        pytest.param({"size": "10"}, "size", "expected an integer", id="size-text"),
        pytest.param({"size": True}, "size", "expected an integer", id="size-true"),
        pytest.param({"mediaType": None}, "mediaType", "expected a string", id="type-null"),
        pytest.param({"mediaType": ""}, "mediaType", "is not a media type", id="type-empty"),
        pytest.param({"mediaType": "tar"}, "mediaType", "is not a media type", id="type-without-slash"),
        pytest.param({"mediaType": "a/b; c=d"}, "mediaType", "is not a media type", id="type-with-parameter"),
        pytest.param({"mediaType": "a/b\n"}, "mediaType", "is not a media type", id="type-line-break"),
        pytest.param({"mediaType": "a/b\0"}, "mediaType", "NUL", id="type-nul"),
        pytest.param({"urls": "https://example.com"}, "urls", "expected an array", id="urls-text"),
        pytest.param({"urls": [1]}, "urls[0]", "expected a string", id="urls-number"),
        pytest.param({"annotations": {"a": None}}, "annotations.a", "expected a string", id="annotation-null"),
        pytest.param({"platform": "linux"}, "platform", "expected an object", id="platform-text"),
        pytest.param({"platform": {"os": "linux"}}, "platform.architecture", "is required", id="platform-half"),
        pytest.param({"platform": {"os": "", "architecture": "a"}}, "platform.os", "empty", id="platform-empty"),
        pytest.param({"artifactType": "x"}, "artifactType", "is not a media type", id="artifact-type"),
        pytest.param({"Digest": B}, "Digest", "only in the case", id="case-twin"),
        pytest.param({"SIZE": 1}, "SIZE", "only in the case", id="size-case-twin"),
    ],
)
def test_refuses_descriptors(change: dict[str, Any], where: str, problem: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        manifest_of(MANIFEST | {"layers": [BLOB, BLOB | change]})
    assert caught.value.where == f"layers[1].{where}"
    assert problem in caught.value.problem
    assert "descriptor" in caught.value.rule


@pytest.mark.parametrize("member", ["mediaType", "digest", "size"])
def test_refuses_descriptors_without(member: str) -> None:
    with pytest.raises(InvalidSpec, match="is required"):
        manifest_of(MANIFEST | {"config": without(CONFIG, member)})


def test_refuses_a_manifest_beyond_every_registry() -> None:
    with pytest.raises(InvalidSpec, match="larger than 4 MiB"):
        parse_manifest(b" " * ((4 << 20) + 1), None, "m")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        pytest.param({}, "", id="image"),
        pytest.param({"config": CONFIG | {"mediaType": DOCKER_CONFIG}}, "", id="docker-config"),
        pytest.param({"layers": [BLOB | {"mediaType": LAYER + "+encrypted"}]}, "", id="encrypted"),
        pytest.param(
            {"config": CONFIG | {"mediaType": image.OCI_EMPTY}, "artifactType": "application/sig"},
            "is an artifact (application/sig), not an image",
            id="artifact",
        ),
        pytest.param(
            {"config": CONFIG | {"mediaType": "application/vnd.cncf.helm.config.v1+json"}},
            "is an artifact (application/vnd.cncf.helm.config.v1+json)",
            id="chart",
        ),
        pytest.param({"layers": [BLOB | {"mediaType": "text/plain"}]}, "is not that of a layer", id="text-layer"),
        pytest.param(
            {"layers": [BLOB | {"mediaType": LAYER + "+encrypted+encrypted"}]}, "is not that of a layer", id="twice"
        ),
    ],
)
def test_tells_images_from_artifacts(change: dict[str, Any], problem: str) -> None:
    parsed = manifest_of(MANIFEST | change)
    assert isinstance(parsed, Manifest)
    if not problem:
        require_image(parsed, "m")
        return
    with pytest.raises(InvalidSpec) as caught:
        require_image(parsed, "m")
    assert problem in caught.value.message


# --- choosing a platform -------------------------------------------------------------------------------------------


def entry(name: str, media_type: str = OCI_MANIFEST) -> Descriptor:
    parts = name.split("/")
    platform = Platform(os=parts[0], architecture=parts[1], variant="".join(parts[2:])) if name else None
    return Descriptor(media_type=media_type, digest=Digest(A), size=1, platform=platform, annotations={"n": name})


def index(*names: str) -> Index:
    return Index(media_type=OCI_INDEX, manifests=tuple(entry(name) for name in names))


@pytest.mark.parametrize(
    ("names", "wanted", "chosen"),
    [
        pytest.param(("linux/arm64", "linux/amd64"), "linux/amd64", "linux/amd64", id="simple"),
        pytest.param(("linux/arm/v5", "linux/arm/v7", "linux/arm/v6"), "linux/arm/v7", "linux/arm/v7", id="best"),
        pytest.param(("linux/arm/v5", "linux/arm/v6"), "linux/arm/v7", "linux/arm/v6", id="next-best"),
        pytest.param(("linux/arm64/v8",), "linux/arm64", "linux/arm64/v8", id="v8-is-the-base"),
        pytest.param(("linux/arm64",), "linux/arm64/v8", "linux/arm64", id="base-is-v8"),
        pytest.param(("linux/amd64/v3", "linux/amd64"), "linux/amd64", "linux/amd64", id="too-new-variant"),
        pytest.param(("unknown/unknown", "linux/amd64"), "linux/amd64", "linux/amd64", id="attestation"),
        pytest.param(("linux/x/odd",), "linux/x/odd", "linux/x/odd", id="odd-variant"),
        pytest.param(("",), "linux/amd64", "", id="only-one-without-platform"),
        pytest.param(("", "linux/amd64"), "linux/amd64", "linux/amd64", id="platform-first"),
    ],
)
def test_chooses(names: tuple[str, ...], wanted: str, chosen: str) -> None:
    platform = entry(wanted).platform
    assert platform is not None
    assert choose(index(*names), platform).annotations["n"] == chosen


@pytest.mark.parametrize(
    ("names", "wanted", "said"),
    [
        pytest.param(("linux/arm64", "windows/amd64"), "linux/amd64", "linux/arm64, windows/amd64", id="others"),
        pytest.param(("linux/arm/v7",), "linux/arm/v6", "linux/arm/v7", id="too-new"),
        pytest.param(("linux/x/odd",), "linux/x/v1", "linux/x/odd", id="odd"),
        pytest.param(("", ""), "linux/amd64", "none with a platform", id="two-without"),
        pytest.param(("unknown/unknown",), "linux/amd64", "none with a platform", id="attestation-only"),
        pytest.param((), "linux/amd64", "none with a platform", id="empty"),
        pytest.param(tuple(f"linux/a{n}" for n in range(25)), "linux/b", "and 5 more", id="many"),
    ],
)
def test_says_what_there_is(names: tuple[str, ...], wanted: str, said: str) -> None:
    platform = entry(wanted).platform
    assert platform is not None
    with pytest.raises(NotFound) as caught:
        choose(index(*names), platform)
    assert caught.value.message.startswith(f"no image for {wanted}; there is ")
    assert said in caught.value.message


def test_chooses_manifests_and_indexes_only() -> None:
    listed = Index(media_type=OCI_INDEX, manifests=(entry("linux/amd64", "a/b"), entry("linux/amd64", DOCKER_LIST)))
    assert choose(listed, Platform(os="linux", architecture="amd64")).media_type == DOCKER_LIST


@pytest.mark.parametrize(
    ("machine", "name"),
    [("x86_64", "linux/amd64"), ("aarch64", "linux/arm64/v8"), ("armv7l", "linux/arm/v7"), ("vax", "linux/vax")],
)
def test_host_platform(machine: str, name: str) -> None:
    assert str(host_platform(machine)) == name
    assert host_platform().os == "linux"


# --- image configurations ------------------------------------------------------------------------------------------


def test_reads_an_image_configuration() -> None:
    parsed = parse_config(json.dumps(IMAGE).encode())
    assert parsed == ImageConfig(
        platform=Platform(os="linux", architecture="amd64"),
        diff_ids=(Digest(A), Digest(B)),
        env=("PATH=/bin", "FOO=a=b"),
        entrypoint=("/bin/app",),
        cmd=("--foreground",),
        working_dir="/home/alice",
        user="alice",
        labels={"com.example.version": "1"},
        volumes=("/var/data",),
        exposed_ports=("8080/tcp",),
        stop_signal="SIGKILL",
        created="2015-10-31T22:22:56.015925234Z",
        author="A <a@example.com>",
        history=(
            History(created="2015-10-31T22:22:54Z", created_by="ADD", comment="c", author="a"),
            History(empty_layer=True),
        ),
    )
    assert ImageConfig.parse(Reader(parsed.dump(), "x")) == parsed


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"os": "linux", "architecture": "a", "rootfs": {"type": "layers", "diff_ids": []}}, id="least"),
        pytest.param(IMAGE | {"config": None, "history": None}, id="nulls"),
        pytest.param(run(Env=None, Cmd=None, Entrypoint=None, Volumes=None, Labels=None, User=""), id="inner-nulls"),
        pytest.param(run(Volumes={"/a": None}, ExposedPorts={"80": None}), id="null-values"),
        pytest.param(run(ExposedPorts={"80": {}, "53/udp": {}, "9/sctp": {}, "8000-8010/tcp": {}}), id="ports"),
        pytest.param(run(StopSignal="SIGRTMIN+3"), id="real-time-signal"),
        pytest.param(run(StopSignal="15"), id="numbered-signal"),
        pytest.param(run(Env=["EMPTY=", "MULTI=a\nb"]), id="env"),
        pytest.param(run(OnBuild=["x"], Healthcheck={"Test": []}), id="unknown-members"),
        pytest.param(IMAGE | {"variant": "v3", "os.version": "1"}, id="variant"),
        pytest.param(IMAGE | {"container_config": {}, "container": "x", "docker_version": "1"}, id="docker-members"),
        pytest.param(run(Labels={"Key": "a", "key": "b"}), id="labels-differ-in-case"),
    ],
)
def test_reads_image_configurations(value: dict[str, Any]) -> None:
    parsed = parse_config(json.dumps(value).encode())
    assert ImageConfig.parse(Reader(parsed.dump(), "x")) == parsed


@pytest.mark.parametrize(
    ("value", "where", "problem"),
    [
        pytest.param([], "", "expected an object", id="array"),
        pytest.param({}, "rootfs.type", "is required", id="empty"),
        pytest.param(without(IMAGE, "os"), "os", "is required", id="no-os"),
        pytest.param(without(IMAGE, "architecture"), "architecture", "is required", id="no-architecture"),
        pytest.param(IMAGE | {"os": ""}, "os", "must not be empty", id="empty-os"),
        pytest.param(IMAGE | {"os": 1}, "os", "expected a string", id="os-number"),
        pytest.param(without(IMAGE, "rootfs"), "rootfs.type", "is required", id="no-rootfs"),
        pytest.param(IMAGE | {"rootfs": []}, "rootfs", "expected an object", id="rootfs-array"),
        pytest.param(IMAGE | {"rootfs": {"type": "tar", "diff_ids": []}}, "rootfs.type", "none of", id="rootfs-type"),
        pytest.param(IMAGE | {"rootfs": {"type": "layers"}}, "rootfs.diff_ids", "is required", id="no-diff-ids"),
        pytest.param(
            IMAGE | {"rootfs": {"type": "layers", "diff_ids": ["x"]}},
            "rootfs.diff_ids[0]",
            "is not a digest",
            id="diff-id",
        ),
        pytest.param(
            IMAGE | {"rootfs": {"type": "layers", "diff_ids": [1]}}, "rootfs.diff_ids[0]", "string", id="diff-id-number"
        ),
        pytest.param(IMAGE | {"config": "x"}, "config", "expected an object", id="config-text"),
        pytest.param(IMAGE | {"config": []}, "config", "expected an object", id="config-array"),
        pytest.param(IMAGE | {"Config": {}}, "Config", "only in the case", id="case-twin"),
        pytest.param(IMAGE | {"RootFS": {}}, "RootFS", "only in the case", id="rootfs-case-twin"),
        pytest.param(run(user="0"), "config.user", "only in the case", id="user-case-twin"),
        pytest.param(run(entrypoint=["/x"]), "config.entrypoint", "only in the case", id="entrypoint-case-twin"),
        pytest.param(IMAGE | {"created": "yesterday"}, "created", "is not a date and time", id="created"),
        pytest.param(IMAGE | {"created": 5}, "created", "expected a string", id="created-number"),
        pytest.param(IMAGE | {"created": "2015-10-31 22:22:56Z"}, "created", "is not a date", id="created-blank"),
        pytest.param(IMAGE | {"history": {}}, "history", "expected an array", id="history-object"),
        pytest.param(
            IMAGE | {"history": [{"empty_layer": 1}]}, "history[0].empty_layer", "a boolean", id="history-flag"
        ),
        pytest.param(IMAGE | {"history": [{"created": "x"}]}, "history[0].created", "date", id="history-date"),
        pytest.param(run(Env="A=b"), "config.Env", "expected an array", id="env-text"),
        pytest.param(run(Env=["A"]), "config.Env[0]", "is not NAME=value", id="env-no-value"),
        pytest.param(run(Env=["=b"]), "config.Env[0]", "is not NAME=value", id="env-no-name"),
        pytest.param(run(Env=[""]), "config.Env[0]", "is not NAME=value", id="env-empty"),
        pytest.param(run(Env=["A=\0"]), "config.Env[0]", "NUL", id="env-nul"),
        pytest.param(run(Env=[1]), "config.Env[0]", "expected a string", id="env-number"),
        pytest.param(run(Cmd="sh -c x"), "config.Cmd", "expected an array", id="cmd-text"),
        pytest.param(run(Cmd=["a\0b"]), "config.Cmd[0]", "NUL", id="cmd-nul"),
        pytest.param(run(Entrypoint={}), "config.Entrypoint", "expected an array", id="entrypoint-object"),
        pytest.param(run(WorkingDir="app"), "config.WorkingDir", "is not an absolute path", id="relative-cwd"),
        pytest.param(run(WorkingDir="../x"), "config.WorkingDir", "is not an absolute path", id="climbing-cwd"),
        pytest.param(run(WorkingDir=1), "config.WorkingDir", "expected a string", id="cwd-number"),
        pytest.param(run(Labels={"a": 1}), "config.Labels.a", "expected a string", id="label-number"),
        pytest.param(run(Labels=["a"]), "config.Labels", "expected an object", id="labels-array"),
        pytest.param(run(Volumes=["/a"]), "config.Volumes", "expected an object", id="volumes-array"),
        pytest.param(run(Volumes={"a": {}}), "config.Volumes.a", "is not an absolute path", id="volume-relative"),
        pytest.param(run(Volumes={"/a/../b": {}}), "config.Volumes./a/../b", "is not", id="volume-climbs"),
        pytest.param(run(Volumes={"/": {}}), "config.Volumes./", "below the root", id="volume-root"),
        pytest.param(run(Volumes={"/a": 1}), "config.Volumes./a", "expected an object", id="volume-value"),
        pytest.param(run(ExposedPorts={"http": {}}), "config.ExposedPorts.http", "is not a port", id="port-name"),
        pytest.param(run(ExposedPorts={"0": {}}), "config.ExposedPorts.0", "is not a port", id="port-zero"),
        pytest.param(run(ExposedPorts={"70000": {}}), "config.ExposedPorts.70000", "is not a port", id="port-beyond"),
        pytest.param(run(ExposedPorts={"9-8": {}}), "config.ExposedPorts.9-8", "is not a port", id="port-backwards"),
        pytest.param(run(ExposedPorts={"1/x": {}}), "config.ExposedPorts.1/x", "is not a port", id="port-protocol"),
        pytest.param(run(StopSignal="SIG TERM"), "config.StopSignal", "is not a signal", id="signal-blank"),
        pytest.param(run(StopSignal="sigterm"), "config.StopSignal", "is not a signal", id="signal-lower"),
        pytest.param(run(StopSignal="0"), "config.StopSignal", "is not a signal", id="signal-zero"),
        pytest.param(run(StopSignal=15), "config.StopSignal", "expected a string", id="signal-number"),
        pytest.param(run(User=0), "config.User", "expected a string", id="user-number"),
        pytest.param(run(User="0:0:0"), "config.User", "more than one colon", id="user-three-parts"),
    ],
)
def test_refuses_image_configurations(value: Any, where: str, problem: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse_config(json.dumps(value).encode(), "c")
    assert caught.value.where == where
    assert problem in caught.value.problem


@pytest.mark.parametrize(
    "text",
    ["root", "0", "0:0", "web:adm", "1000:adm", "web:44", "4294967294", "a.b", "www-data", "user_1", "svc$", "dom@x"],
)
def test_users(text: str) -> None:
    assert user_problem(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("0:0:0", id="three-parts"),
        pytest.param(":0", id="no-user"),
        pytest.param("0:", id="no-group"),
        pytest.param(" 0", id="leading-blank"),
        pytest.param("0 ", id="trailing-blank"),
        pytest.param("0\n", id="line-break"),
        pytest.param("-1", id="negative"),
        pytest.param("+1", id="signed"),
        pytest.param("4294967295", id="minus-one-as-uid"),
        pytest.param("4294967296", id="wraps-to-root"),
        pytest.param("18446744073709551616", id="wraps-twice"),
        pytest.param("00000000000", id="eleven-digits"),
        pytest.param("\u0661", id="arabic-digit"),
        pytest.param("\u00b2", id="superscript"),
        pytest.param("../etc", id="path"),
        pytest.param("a\\b", id="backslash"),
        pytest.param("\x1b[0m", id="escape-sequence"),
        pytest.param("root:\x00", id="nul"),
        pytest.param("0:4294967296", id="group-wraps"),
    ],
)
def test_refuses_users(text: str) -> None:
    assert user_problem(text)


# --- laws ----------------------------------------------------------------------------------------------------------

MEMBERS = st.sampled_from([*MANIFEST, *INDEX, *BLOB, *ENTRY, *IMAGE, *IMAGE["config"], "diff_ids", "type", "subject"])
NEAR = st.recursive(
    JSON | st.sampled_from([A, OCI_MANIFEST, OCI_INDEX, OCI_CONFIG, "layers", 2, "linux", "/x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS, inner, max_size=6),
    max_leaves=20,
)


@given(NEAR, st.sampled_from([None, OCI_MANIFEST, OCI_INDEX, DOCKER_LIST]))
def test_any_json_is_a_manifest_or_refused_by_name(value: Any, served: str | None) -> None:
    try:
        parsed = manifest_of(value, served)
    except InvalidSpec as error:
        if error.document != "m":
            raise
        return
    assert manifest_of(parsed.dump(), served) == parsed


@given(NEAR, NEAR, NEAR)
def test_any_json_is_a_configuration_or_refused_by_name(value: Any, inner: Any, rest: Any) -> None:
    for candidate in (
        value,
        IMAGE | {"config": inner},
        IMAGE | (rest if isinstance(rest, dict) else {"history": rest}),
    ):
        try:
            parsed = parse_config(json.dumps(candidate).encode(), "c")
        except InvalidSpec as error:
            if error.document != "c":
                raise
            continue
        assert ImageConfig.parse(Reader(parsed.dump(), "c")) == parsed
