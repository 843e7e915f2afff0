"""Descriptors, manifests, indexes, configurations and keys that lie, through the command: one line, nothing kept."""

# ruff: noqa: E501 - one case a line: the names and verdicts are to be read down the page

from __future__ import annotations

import base64
import gzip
import hmac
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from pyrkt.base.errors import ImageRefused, InvalidSpec, NotFound, NotTrusted, PyrktError, Unavailable
from tests.support import hostile
from tests.support.hostile import HARMLESS, INDEX, LAYER, MANIFEST, Edit, Oci, Workshop, replaced
from tests.support.jose import Maker
from tests.support.keys import pem
from tests.support.pods import Pyrkt
from tests.support.skopeo import digest
from tests.support.tls import Authority
from tests.support.web import Asked, Line, Web

pytestmark = pytest.mark.root

Make = Callable[[Workshop], str]
LINUX = {"os": "linux", "architecture": "amd64"}


@pytest.fixture
def tool(tmp_path: Path) -> Pyrkt:
    return Pyrkt(tmp_path)


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    with hostile.workshop(tmp_path) as made:
        yield made


def bad(name: str, error: type[PyrktError], text: str, **lies: Any) -> Any:
    return pytest.param(lies, error, text, id=name)


def swapped(name: str) -> Callable[[Mapping[str, Path]], object]:
    """Return what gives a file other bytes of the same length."""

    def change(files: Mapping[str, Path]) -> None:
        data = files[name].read_bytes()
        files[name].write_bytes(bytes(len(data)))

    return change


def instead(name: str, make: Callable[[Path], object]) -> Callable[[Mapping[str, Path]], object]:
    """Return what puts something else in the place of a file; ``top/NAME`` is a file of the layout."""

    def change(files: Mapping[str, Path]) -> None:
        path = files["top"] / name.removeprefix("top/") if name.startswith("top/") else files[name]
        path.unlink()
        make(path)

    return change


def nothing(_: Path) -> None:
    """Put nothing there."""


def whole(data: bytes) -> Edit:
    """Return what puts ``data`` in the place of a document."""
    return lambda _: data


def again(key: bytes) -> Edit:
    """Return what gives the first member ``key`` twice."""
    return lambda data: data.replace(b'"' + key + b'":', b'"' + key + b'": null, "' + key + b'":', 1)


def added(text: bytes) -> Edit:
    """Return what adds a member to the document."""
    return lambda data: data[:-1] + b", " + text + b"}"


def nested_index(files: Mapping[str, Path]) -> None:
    """Put six indexes, one in the other, before the manifest."""
    top = files["top"]
    data, kind = files["manifest"].read_bytes(), MANIFEST
    for _ in range(6):
        entry = {"mediaType": kind, "digest": digest(data), "size": len(data), "platform": LINUX}
        data = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
        (top / "blobs" / digest(data).replace(":", "/")).write_bytes(data)
        kind = INDEX
    entry = {"mediaType": INDEX, "digest": digest(data), "size": len(data)}
    entry["annotations"] = {"org.opencontainers.image.ref.name": "t"}
    (top / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


def other_platform(files: Mapping[str, Path]) -> None:
    """Offer the image for another machine only, by a name that wants to be seen."""
    top, data = files["top"], files["manifest"].read_bytes()
    entry = {"mediaType": MANIFEST, "digest": digest(data), "size": len(data)}
    inner = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        entry | {"platform": {"os": "\x1b[2Jlinux", "architecture": "s390x"}}]}).encode()  # fmt: skip
    (top / "blobs" / digest(inner).replace(":", "/")).write_bytes(inner)
    entry = {"mediaType": INDEX, "digest": digest(inner), "size": len(inner)}
    entry["annotations"] = {"org.opencontainers.image.ref.name": "t"}
    (top / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


DIGEST = "sha256:" + "a" * 64
SHADOW = Path("/etc/shadow")
DEEP = b'"x": ' + b"[" * 50_000 + b"]" * 50_000
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

REFUSED = [
    # descriptors
    bad("layer-size-more", ImageRefused, "were declared", layer={"size": 10_000}),
    bad("layer-size-less", ImageRefused, "were declared", layer={"size": 10}),
    bad("layer-size-none", ImageRefused, "empty", layer={"size": 0}),
    bad("layer-size-negative", InvalidSpec, "layers[0].size", layer={"size": -1}),
    bad("layer-size-2-63", InvalidSpec, "layers[0].size", layer={"size": 1 << 63}),
    bad("layer-size-text", InvalidSpec, "layers[0].size", layer={"size": "100"}),
    bad("layer-size-fraction", InvalidSpec, "layers[0].size", layer={"size": 1.5}),
    bad("layer-size-true", InvalidSpec, "layers[0].size", layer={"size": True}),
    bad("layer-size-missing", InvalidSpec, "layers[0].size", layer={"size": None}),
    bad("layer-swapped", ImageRefused, "layer", after=swapped("layer")),
    bad("layer-digest-md5", InvalidSpec, "layers[0].digest", layer={"digest": "md5:" + "a" * 32}),
    bad("layer-digest-path", InvalidSpec, "layers[0].digest", layer={"digest": "sha256:../../../../etc/passwd"}),
    bad("layer-digest-absolute", InvalidSpec, "layers[0].digest", layer={"digest": "/etc/shadow"}),
    bad("layer-digest-upper", InvalidSpec, "layers[0].digest", layer={"digest": "sha256:" + "A" * 64}),
    bad("layer-digest-newline", InvalidSpec, "layers[0].digest", layer={"digest": DIGEST + "\n"}),
    bad("layer-digest-short", InvalidSpec, "layers[0].digest", layer={"digest": DIGEST[:-1]}),
    bad("layer-digest-long", InvalidSpec, "layers[0].digest", layer={"digest": "sha256:" + "a" * 100_000}),
    bad("layer-digest-object", InvalidSpec, "layers[0].digest", layer={"digest": {"sha256": "a"}}),
    bad("layer-blob-missing", NotFound, "No such file", layer={"digest": DIGEST}),
    bad("layer-blob-fifo", InvalidSpec, "is not a file", after=instead("layer", os.mkfifo)),
    bad("layer-blob-directory", InvalidSpec, "is not a file", after=instead("layer", os.mkdir)),
    bad("layer-blob-shadow", ImageRefused, "were declared", after=instead("layer", lambda path: path.symlink_to(SHADOW))),
    bad("layer-blob-device", InvalidSpec, "is not a file", after=instead("layer", lambda path: path.symlink_to("/dev/zero"))),
    bad("config-swapped", ImageRefused, "image config", after=swapped("config")),
    bad("config-missing", NotFound, "No such file", after=instead("config", nothing)),
    bad("manifest-swapped", ImageRefused, "manifest", after=swapped("manifest")),
    bad("manifest-size", ImageRefused, "were declared", entry={"size": 5}),
    bad("manifest-size-huge", ImageRefused, "larger than", entry={"size": 1 << 40}),
    # diffIDs
    bad("diffid-wrong", ImageRefused, "unpacks to", diff_ids=[DIGEST]),
    bad("diffid-too-few", InvalidSpec, "0 diff_ids for 1 layers", diff_ids=[]),
    bad("diffid-too-many", InvalidSpec, "2 diff_ids for 1 layers", diff_ids=[digest(HARMLESS)] * 2),
    bad("diffid-path", InvalidSpec, "diff_ids[0]", diff_ids=["sha256:/../../x"]),
    bad("diffid-of-packed", ImageRefused, "unpacks to", diff_ids=[digest(gzip.compress(HARMLESS, 1, mtime=0))]),
    # manifests
    bad("layers-none", InvalidSpec, "0 layers", tars=[]),
    bad("layers-missing", InvalidSpec, "layers", manifest={"layers": None}),
    bad("layers-null", InvalidSpec, "layers", manifest_bytes=lambda data: data[:-1].partition(b', "layers"')[0] + b', "layers": null}'),
    bad("layers-object", InvalidSpec, "layers", manifest={"layers": {}}),
    bad("layers-5000", InvalidSpec, "5000 layers", diff_ids=[digest(HARMLESS)] * 5000, manifest={"layers": [{"mediaType": LAYER, "digest": DIGEST, "size": 1}] * 5000}),
    bad("config-none", InvalidSpec, "config", manifest={"config": None}),
    bad("config-text", InvalidSpec, "config", manifest={"config": DIGEST}),
    bad("media-type-unknown", InvalidSpec, "is not that of a layer", layer={"mediaType": "application/x-shockwave-flash"}),
    bad("media-type-control", InvalidSpec, "is not a media type", layer={"mediaType": LAYER + "\x1b[31m"}),
    bad("media-type-long", InvalidSpec, "is not a media type", layer={"mediaType": "a/" + "b" * 100_000}),
    bad("media-type-of-manifest", InvalidSpec, "is not that of an image", manifest={"mediaType": "application/x"}),
    bad("media-type-of-manifest-long", InvalidSpec, "is not that of an image", manifest={"mediaType": "x" * 1_000_000}),
    bad("media-type-schema1", InvalidSpec, "schema 1", manifest={"mediaType": "application/vnd.docker.distribution.manifest.v1+json"}),
    bad("artifact", InvalidSpec, "artifact", manifest_bytes=replaced(b"image.config.v1+json", b"empty.v1+json")),
    bad("artifact-long", InvalidSpec, "artifact", manifest_bytes=lambda data: replaced(b"image.config.v1+json", b"empty.v1+json")(data)[:-1] + b', "artifactType": "' + b"x" * 100_000 + b'"}'),
    bad("manifest-and-index", InvalidSpec, "two meanings", manifest={"manifests": []}),
    bad("index-called-manifest", InvalidSpec, "two meanings", manifest_bytes=whole(json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "manifests": []}).encode())),
    bad("manifest-called-index", InvalidSpec, "was served as", entry={"mediaType": INDEX}),
    bad("fslayers", InvalidSpec, "two meanings", manifest={"fsLayers": [{"blobSum": DIGEST}]}),
    bad("schema-version", InvalidSpec, "schemaVersion", manifest={"schemaVersion": 1}),
    bad("nested-indexes", InvalidSpec, "nested", after=nested_index),
    bad("other-platform", NotFound, r"\x1b[2Jlinux", after=other_platform),
    # JSON
    bad("json-duplicate", InvalidSpec, "duplicate key 'layers'", manifest_bytes=again(b"layers")),
    bad("json-duplicate-inside", InvalidSpec, "duplicate key 'digest'", manifest_bytes=again(b"digest")),
    bad("json-duplicate-escaped", InvalidSpec, "duplicate key", manifest_bytes=added(rb'"l\u0061yers": []')),
    bad("json-duplicate-control", InvalidSpec, r"\x1b", manifest_bytes=added(rb'"\u001b[31m": 1, "\u001b[31m": 2')),
    bad("json-case-twin", InvalidSpec, "only in the case", manifest_bytes=added(b'"Layers": []')),
    bad("json-kelvin-twin", InvalidSpec, "only in the case", manifest_bytes=added('"layer\u017f": []'.encode())),
    bad("json-deep", InvalidSpec, "levels deep", manifest_bytes=added(DEEP)),
    bad("json-deep-config", InvalidSpec, "levels deep", config_bytes=added(DEEP)),
    bad("json-deep-index", InvalidSpec, "levels deep", index_bytes=added(DEEP)),
    bad("json-digits", InvalidSpec, "digits", manifest_bytes=added(b'"x": ' + b"9" * 10_000)),
    bad("json-exponent", InvalidSpec, "out of range", manifest_bytes=added(b'"x": 1e999999')),
    bad("json-nan", InvalidSpec, "NaN", manifest_bytes=added(b'"x": NaN')),
    bad("json-infinity", InvalidSpec, "Infinity", config_bytes=added(b'"x": -Infinity')),
    bad("json-utf16", InvalidSpec, "UTF-8", manifest_bytes=lambda data: data.decode().encode("utf-16")),
    bad("json-utf32", InvalidSpec, "JSON", manifest_bytes=lambda data: data.decode().encode("utf-32-le")),
    bad("json-bom", InvalidSpec, "not JSON", manifest_bytes=lambda data: b"\xef\xbb\xbf" + data),
    bad("json-latin1", InvalidSpec, "UTF-8", manifest_bytes=added(b'"x": "\xe4"')),
    bad("json-surrogate", InvalidSpec, "surrogate", manifest_bytes=added(rb'"x": "\ud800"')),
    bad("json-nul", InvalidSpec, "NUL", manifest_bytes=added(rb'"annotations": {"a": "b\u0000c"}')),
    bad("json-trailing", InvalidSpec, "text after", manifest_bytes=lambda data: data + b"{}"),
    bad("json-cut", InvalidSpec, "not JSON", manifest_bytes=lambda data: data[:-9]),
    bad("json-empty", InvalidSpec, "not JSON", manifest_bytes=whole(b"")),
    bad("json-array", InvalidSpec, "expected an object", manifest_bytes=whole(b"[]")),
    bad("json-long-key", InvalidSpec, "expected", manifest_bytes=added(b'"annotations": {"' + b"k" * 1_000_000 + b'": 1}')),
    bad("json-large", ImageRefused, "larger than 4 MiB", manifest_bytes=added(b'"x": "' + b"x" * (5 << 20) + b'"')),
    bad("config-large", ImageRefused, "larger than 8 MiB", config_bytes=added(b'"x": "' + b"x" * (9 << 20) + b'"')),
    # the layout
    bad("layout-version", InvalidSpec, "imageLayoutVersion", after=lambda files: (files["top"] / "oci-layout").write_text('{"imageLayoutVersion": "9\x1b"}'.replace("\x1b", "\\u001b"))),
    bad("layout-missing", NotFound, "oci-layout", after=instead("top/oci-layout", nothing)),
    bad("layout-huge", InvalidSpec, "larger than", after=lambda files: os.truncate(files["top"] / "oci-layout", 1 << 40)),
    bad("index-missing", NotFound, "index.json", after=instead("top/index.json", nothing)),
    bad("index-fifo", InvalidSpec, "is not a file", after=instead("top/index.json", os.mkfifo)),
    bad("index-loop", NotFound, "index.json", after=instead("top/index.json", lambda path: path.symlink_to("index.json"))),
    bad("index-huge", InvalidSpec, "larger than", after=lambda files: os.truncate(files["top"] / "index.json", 1 << 40)),
    bad("index-tags", NotFound, "no image", entry={"annotations": {"org.opencontainers.image.ref.name": "\x1b]0;x\x07"}}),
    bad("index-tag-long", NotFound, "no image", entry={"annotations": {"org.opencontainers.image.ref.name": "x" * 1_000_000}}),
    # configurations
    bad("config-os", InvalidSpec, "containers here are Linux", config={"os": "windows"}),
    bad("config-os-control", InvalidSpec, r"\x1b[31m", config={"os": "\x1b[31m"}),
    bad("config-rootfs-type", InvalidSpec, "rootfs.type", config={"rootfs": {"type": "erofs", "diff_ids": [DIGEST]}}),
    bad("config-env", InvalidSpec, "Env[0]", run={"Env": ["LD_PRELOAD"]}),
    bad("config-env-nul", InvalidSpec, "NUL", run={"Env": ["A=b\0c"]}),
    bad("config-env-long", InvalidSpec, "Env[0]", run={"Env": ["x" * 1_000_000]}),
    bad("config-user-2-32", InvalidSpec, "config.User", run={"User": "4294967296"}),
    bad("config-user-long", InvalidSpec, "config.User", run={"User": "9" * 100_000}),
    bad("config-user-space", InvalidSpec, "config.User", run={"User": " 0"}),
    bad("config-user-negative", InvalidSpec, "config.User", run={"User": "-1"}),
    bad("config-user-arabic", InvalidSpec, "config.User", run={"User": "\u0661"}),
    bad("config-user-colons", InvalidSpec, "config.User", run={"User": "0:0:0"}),
    bad("config-user-newline", InvalidSpec, "config.User", run={"User": "a\nb"}),
    bad("config-cwd-relative", InvalidSpec, "config.WorkingDir", run={"WorkingDir": "../.."}),
    bad("config-volume-dotdot", InvalidSpec, "config.Volumes", run={"Volumes": {"/a/../..": {}}}),
    bad("config-volume-root", InvalidSpec, "config.Volumes", run={"Volumes": {"/.": {}}}),
    bad("config-port", InvalidSpec, "ExposedPorts", run={"ExposedPorts": {"99999/tcp": {}}}),
    bad("config-signal", InvalidSpec, "StopSignal", run={"StopSignal": "SIGKILL; rm -rf /"}),
    bad("config-cmd-text", InvalidSpec, "config.Cmd", run={"Cmd": "/bin/sh"}),
    bad("config-labels", InvalidSpec, "config.Labels", run={"Labels": {"a": 1}}),
    bad("config-case-twin", InvalidSpec, "only in the case", run={"user": "root"}),
    bad("config-created", InvalidSpec, "created", config={"created": "\x1b[31m"}),
]  # fmt: skip


@pytest.mark.parametrize(("lies", "error", "text"), REFUSED)
def test_is_refused(tool: Pyrkt, workshop: Workshop, lies: dict[str, Any], error: type[PyrktError], text: str) -> None:
    ended = hostile.call(tool.argv("fetch", workshop.oci(**lies)))
    hostile.assert_refused(ended, error, text)
    hostile.assert_nothing_stored(tool)


def test_an_image_for_another_machine_is_told(tool: Pyrkt, workshop: Workshop) -> None:
    name = workshop.oci(config={"architecture": "s390x\x1b[31m"})
    ended = hostile.call(tool.argv("fetch", name))
    assert ended.code == 0
    lines = ended.err.decode().split("\n")
    assert lines[0].startswith("pyrkt: warning: ")
    assert lines[0].endswith(r"is for linux/s390x\x1b[31m, not for linux/amd64")
    assert all(line.isprintable() for line in lines)


def test_foreign_layers_come_from_the_source_asked_and_no_other(tool: Pyrkt, workshop: Workshop) -> None:
    """The urls of a descriptor would lead us to any host; docker followed them once."""
    with Web() as web:
        name = workshop.oci(layer={"mediaType": FOREIGN, "urls": [f"{web.url}/layer"]}, after=instead("layer", nothing))
        hostile.assert_refused(hostile.call(tool.argv("fetch", name)), NotFound, "No such file")
        assert web.connections == 0
    hostile.assert_nothing_stored(tool)


# -- encrypted layers

KEY, STRANGER = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
SYMKEY, NONCE = bytes(range(32)), bytes(16)
PACKED = gzip.compress(HARMLESS, 1, mtime=0)
_CTR = Cipher(algorithms.AES(SYMKEY), modes.CTR(NONCE)).encryptor()
SEALED = _CTR.update(PACKED) + _CTR.finalize()


def b64(value: Any) -> str:
    return base64.b64encode(value if isinstance(value, bytes) else json.dumps(value).encode()).decode()


def encrypted(
    sealed: bytes = SEALED, *, public: Any = None, private: Any = None, keys: str | None = None, **more: Any
) -> dict[str, Any]:
    """Return the lies that make the layer an encrypted one; right, if nothing is said."""
    mac = b64(hmac.digest(SYMKEY, SEALED, "sha256"))
    options = {"cipher": "AES_256_CTR_HMAC_SHA256", "hmac": mac, "cipheroptions": {}, **(public or {})}
    secret = {
        "symkey": b64(SYMKEY),
        "digest": digest(HARMLESS),
        "cipheroptions": {"nonce": b64(NONCE)},
        **(private or {}),
    }
    wrapped = b64(Maker([("RSA-OAEP", KEY.public_key())]).make(json.dumps(secret).encode()))
    prefix = "org.opencontainers.image.enc."
    annotations = {f"{prefix}keys.jwe": wrapped if keys is None else keys, f"{prefix}pubopts": b64(options)}
    layer = {"mediaType": LAYER + "+encrypted", "annotations": annotations, **more.pop("layer", {})}
    return {"packed": [sealed], "layer": layer, **more}


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


ENCRYPTED = [
    bad("flipped", ImageRefused, "HMAC", **encrypted(flipped(SEALED, 30))),
    bad("flipped-last", ImageRefused, "HMAC", **encrypted(flipped(SEALED, len(SEALED) - 1))),
    bad("truncated", ImageRefused, "HMAC", **encrypted(SEALED[:-20])),
    bad("longer", ImageRefused, "HMAC", **encrypted(SEALED + b"x")),
    bad("nothing", ImageRefused, "HMAC", **encrypted(b"")),
    bad("plain-instead", ImageRefused, "HMAC", **encrypted(PACKED)),
    bad("hmac-wrong", ImageRefused, "HMAC", **encrypted(public={"hmac": b64(bytes(32))})),
    bad("hmac-short", InvalidSpec, "hmac", **encrypted(public={"hmac": b64(bytes(31))})),
    bad("hmac-none", InvalidSpec, "hmac", **encrypted(public={"hmac": ""})),
    bad("cipher-none", InvalidSpec, "cipher", **encrypted(public={"cipher": "NONE"})),
    bad("nonce-other", ImageRefused, "layer", **encrypted(private={"cipheroptions": {"nonce": b64(b"x" * 16)}})),
    bad("nonce-short", InvalidSpec, "nonce", **encrypted(private={"cipheroptions": {"nonce": b64(b"x")}})),
    bad("key-short", InvalidSpec, "symkey", **encrypted(private={"symkey": b64(b"x")})),
    bad("digest-other", ImageRefused, "other content", **encrypted(private={"digest": DIGEST})),
    bad("diffid-other", ImageRefused, "unpacks to", **encrypted(diff_ids=[DIGEST])),
    bad("annotations-none", InvalidSpec, "", **encrypted(layer={"annotations": None})),
    bad("annotations-array", InvalidSpec, "annotations", **encrypted(layer={"annotations": []})),
    bad("keys-none", InvalidSpec, "no wrapped key", **encrypted(keys="")),
    bad("keys-not-base64", InvalidSpec, "not base64", **encrypted(keys="\x1b[31m!")),
    bad("keys-cut", InvalidSpec, "layer", **encrypted(keys=b64(b'{"protected":'))),
    bad("keys-many", InvalidSpec, "more than 64", **encrypted(keys=",".join(["AAAA"] * 65))),
    bad("type-trimmed", InvalidSpec, "carries wrapped keys", **encrypted(layer={"mediaType": LAYER})),
    bad("type-trimmed-and-plain", InvalidSpec, "carries wrapped keys", **encrypted(PACKED, layer={"mediaType": LAYER})),
    bad("type-twice", InvalidSpec, "is not that of a layer", **encrypted(layer={"mediaType": LAYER + "+encrypted+encrypted"})),
]  # fmt: skip


@pytest.mark.parametrize(("lies", "error", "text"), ENCRYPTED)
def test_an_encrypted_layer_is_refused(
    tool: Pyrkt, workshop: Workshop, lies: dict[str, Any], error: type[PyrktError], text: str
) -> None:
    key = workshop.base / "key.pem"
    key.write_bytes(pem(KEY))
    key.chmod(0o600)
    ended = hostile.call(tool.argv("fetch", f"--decryption-key={key}", workshop.oci(**lies)))
    hostile.assert_refused(ended, error, text)
    hostile.assert_nothing_stored(tool)


def test_the_right_key_opens_and_no_other_does(tool: Pyrkt, workshop: Workshop) -> None:
    for name, key in (("right", KEY), ("wrong", STRANGER)):
        path = workshop.base / name
        path.write_bytes(pem(key))
        path.chmod(0o600)
    name = workshop.oci(**encrypted())
    for words in ([], [f"--decryption-key={workshop.base}/wrong"]):
        ended = hostile.call(tool.argv("fetch", *words, name))
        hostile.assert_refused(ended, NotTrusted, "encrypted for 1 recipient: RSA-OAEP (2048 bits)")
        hostile.assert_nothing_stored(tool)
    tool.ok("fetch", f"--decryption-key={workshop.base}/right", name)


# -- what only a server can do


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def web(tmp_path: Path, authority: Authority) -> Iterator[Web]:
    with Web(authority.server_context(authority.issue("evil"))) as served:
        certs = tmp_path / "etc/certs.d" / served.host
        certs.mkdir(parents=True)
        (certs / "ca.crt").write_bytes(authority.cert.read_bytes())
        served.routes["/v2/"] = lambda _, line: line.reply(200)
        yield served


def serve(web: Web, workshop: Workshop, kind: str = MANIFEST, **lies: Any) -> tuple[str, str]:
    """Serve an image; return the paths of its manifest and its layer."""
    found: dict[str, Path] = {}
    Oci(**lies, after=found.update).write(workshop.base / "image")
    for path in (workshop.base / "image/blobs/sha256").iterdir():
        web.files[f"/v2/app/blobs/sha256:{path.name}"] = path.read_bytes()
    manifest = found["manifest"].read_bytes()
    for pointer in ("t", digest(manifest)):
        web.routes[f"/v2/app/manifests/{pointer}"] = lambda _, line: line.reply(200, manifest, Content_Type=kind)
    return "/v2/app/manifests/t", f"/v2/app/blobs/sha256:{found['layer'].name}"


def cut(_: Asked, line: Line) -> None:
    line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\nabc")
    line.hang_up()


def endless(_: Asked, line: Line) -> None:
    line.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while not line.ended.is_set():
        line.send(b"x" * 65536)


def away(_: Asked, line: Line) -> None:
    line.reply(302, Location="/v2/app/manifests/t")


def elsewhere(_: Asked, line: Line) -> None:
    line.reply(302, Location="file:///etc/shadow")


def shouting(_: Asked, line: Line) -> None:
    line.reply(400, b'{"errors":[{"code":"X","message":"\\u001b]0;owned\\u0007\\u001b[31m' + b"x" * 10_000 + b'"}]}')


def status(_: Asked, line: Line) -> None:
    line.send(b"HTTP/1.1 200 \x1b[31mOK\r\nX: \x1b]0;x\x07\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")
    line.hang_up()


SERVED = [
    pytest.param("blob", endless, Unavailable, "", id="layer-endless"),
    pytest.param("blob", lambda _, line: line.reply(200, b"x" * 400), ImageRefused, "400 bytes are announced", id="layer-of-other-length"),
    pytest.param("blob", elsewhere, Unavailable, "", id="layer-redirected-to-file"),
    pytest.param("blob", shouting, Unavailable, "app: blob", id="layer-error-shouts"),
    pytest.param("manifest", endless, Unavailable, "", id="manifest-endless"),
    pytest.param("manifest", away, Unavailable, "redirect", id="manifest-redirect-loop"),
    pytest.param("manifest", elsewhere, Unavailable, "", id="manifest-redirected-to-file"),
    pytest.param("manifest", shouting, Unavailable, r"\x1b]0;owned\x07", id="manifest-error-shouts"),
    pytest.param("manifest", status, InvalidSpec, "not JSON", id="manifest-status-shouts"),
    pytest.param("manifest", lambda _, line: line.reply(200, b"{}", Content_Type="text/html"), InvalidSpec, "", id="manifest-html"),
    pytest.param("manifest", lambda _, line: line.reply(404, b'{"errors":[{"message":"\\u009b31m\\nhint: no"}]}'), NotFound, "app", id="manifest-404-shouts"),
]  # fmt: skip


@pytest.mark.parametrize(("part", "route", "error", "text"), SERVED)
def test_a_registry_that_lies_is_refused(
    tool: Pyrkt,
    workshop: Workshop,
    web: Web,
    part: str,
    route: Callable[[Asked, Line], None],
    error: type[PyrktError],
    text: str,
) -> None:
    manifest, layer = serve(web, workshop)
    web.routes[manifest if part == "manifest" else layer] = route
    ended = hostile.call(tool.argv("fetch", f"docker://{web.host}/app:t"))
    hostile.assert_refused(ended, error, text)
    hostile.assert_nothing_stored(tool, parts=error is Unavailable)


def test_a_cut_layer_waits_for_its_rest_and_a_swapped_one_does_not(tool: Pyrkt, workshop: Workshop, web: Web) -> None:
    _, layer = serve(web, workshop)
    good = web.files[layer]
    web.files[layer] = bytes(len(good))
    name = f"docker://{web.host}/app:t"
    hostile.assert_refused(hostile.call(tool.argv("fetch", name)), ImageRefused, "layer")
    hostile.assert_nothing_stored(tool)
    web.files[layer] = good
    assert hostile.call(tool.argv("fetch", name)).code == 0


def test_a_manifest_by_digest_is_that_one(tool: Pyrkt, workshop: Workshop, web: Web) -> None:
    serve(web, workshop)
    web.routes[f"/v2/app/manifests/{DIGEST}"] = web.routes["/v2/app/manifests/t"]
    ended = hostile.call(tool.argv("fetch", f"docker://{web.host}/app@{DIGEST}"))
    hostile.assert_refused(ended, ImageRefused, "digest")
    hostile.assert_nothing_stored(tool)


def test_there_are_enough_cases() -> None:
    names = [case.id for case in (*REFUSED, *ENCRYPTED, *SERVED)]
    assert len(names) >= 120
