"""pyrkt fetch of registry images and layouts that skopeo made, signed and encrypted: end to end into the store."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pyrkt.base.dirs import ConfigDirs
from pyrkt.base.errors import ImageRefused, InvalidSpec, NotFound, NotTrusted, PyrktError
from pyrkt.image.pull import FetchRequest, fetch
from pyrkt.image.wire import Limits
from pyrkt.spec.image import Platform
from pyrkt.store import Rootfs, Store
from pyrkt.store.gc import verify
from pyrkt.trust.keys import DecryptionKeys
from pyrkt.trust.keystore import Keystore
from pyrkt.trust.policy import Policy
from tests.support import registry as support
from tests.support import skopeo
from tests.support.gpg import Gpg
from tests.support.skopeo import Layout, Member
from tests.support.tls import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyrkt.store import ImageRecord
    from tests.support.registry import RunningRegistry

pytestmark = [pytest.mark.root, pytest.mark.peers]

ANYTHING = Policy.parse(b'{"default":[{"type":"insecureAcceptAnything"}]}')
AMD64 = Platform(os="linux", architecture="amd64")
QUICK = Limits(connect=5, idle=5, answer=5, document=5, tries=3, pause=0.01, longest_pause=0.2)

BASE = [Member(name="etc/"), Member(name="etc/motd", data=b"base\n", mode=0o644), Member(name="gone", data=b"x")]
TOP = [Member(name="etc/"), Member(name="etc/motd", data=b"top\n", mode=0o644), Member(name=".wh.gone")]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[RunningRegistry]:
    with support.running(tmp_path_factory.mktemp("registry"), authority) as running:
        yield running


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(path=tmp_path / "layout")
    for compression in ("gzip", "zstd", ""):
        made.image([BASE, TOP], tag=compression or "plain", compression=compression)
    arm = made.image([BASE], architecture="arm64")
    made.index([made.image([BASE, TOP]), arm], "multi")
    return made


@pytest.fixture
def request_(tmp_path: Path, authority: Authority, registry: RunningRegistry) -> FetchRequest:
    directory = tmp_path / "config/certs.d" / registry.host
    directory.mkdir(parents=True)
    (directory / "ca.crt").write_bytes(authority.cert.read_bytes())
    dirs = ConfigDirs(system="/nonexistent", local=str(tmp_path / "config"))
    return FetchRequest(
        store=Store(tmp_path / "data").open(),
        keystore=Keystore(dirs),
        policy=ANYTHING,
        pull_policy="update",
        platform=AMD64,
        dirs=dirs,
        limits=QUICK,
    )


def certs(request: FetchRequest, registry: RunningRegistry) -> str:
    return f"{request.dirs.local}/certs.d/{registry.host}"


def push(layout: Layout, tag: str, request: FetchRequest, registry: RunningRegistry, *options: str) -> str:
    """Copy an image of the layout to the registry; return its reference."""
    name = f"docker://{registry.host}/t/{os.urandom(4).hex()}:{tag}"
    skopeo.run("copy", "-q", "--insecure-policy", f"--dest-cert-dir={certs(request, registry)}", *options,
               f"oci:{layout.path}:{tag}", name)  # fmt: skip
    return name


def read(request: FetchRequest, record: ImageRecord, path: str) -> bytes | None:
    lowers = tuple(str(request.store.trees.path(tree)) for tree in record.trees)
    return Rootfs(lowers).read(path)


def assert_nothing_stored(store: Store) -> None:
    assert store.images.all() == []
    assert list(store.blobs.all()) == []
    assert store.trees.all() == []
    assert os.listdir(store.tmp) == []


def assert_whole(request: FetchRequest, record: ImageRecord) -> None:
    assert read(request, record, "/etc/motd") == b"top\n"
    assert read(request, record, "/gone") is None
    assert request.store.images.find(record.id) == record
    assert verify(request.store) == []
    assert os.listdir(request.store.tmp) == []
    assert os.listdir(request.store.root / "partial") == []


@pytest.mark.parametrize(
    ("tag", "kind"), [("gzip", "oci"), ("zstd", "oci"), ("plain", "oci"), ("gzip", "v2s2"), ("plain", "v2s2")]
)
def test_a_registry_image_of_each_form(
    request_: FetchRequest, registry: RunningRegistry, layout: Layout, tag: str, kind: str
) -> None:
    name = push(layout, tag, request_, registry, "--format", kind, "--dest-compress-format", "gzip")
    record = fetch(name, request_)
    assert_whole(request_, record)
    assert record.kind == "oci"
    assert record.reference == name
    assert record.name == name.removeprefix("docker://").removesuffix(f":{tag}")
    assert record.labels == {"version": tag, "os": "linux", "arch": "amd64"}
    assert record.insecure == ()
    manifest = json.loads(request_.store.blobs.read(record.manifest, 1 << 20))
    assert {layer["digest"] for layer in manifest["layers"]} == set(record.blobs)


@pytest.mark.parametrize("kind", ["oci", "v2s2"])
def test_an_index_gives_the_image_of_the_platform(
    request_: FetchRequest, registry: RunningRegistry, layout: Layout, kind: str
) -> None:
    name = push(layout, "multi", request_, registry, "--all", "--format", kind)
    assert_whole(request_, fetch(name, request_))
    arm = fetch(name, replace(request_, platform=Platform(os="linux", architecture="arm64", variant="v8")))
    assert read(request_, arm, "/etc/motd") == b"base\n"
    with pytest.raises(NotFound, match="no image for linux/s390x"):
        fetch(name, replace(request_, platform=Platform(os="linux", architecture="s390x")))


@pytest.mark.parametrize("tag", ["gzip", "zstd", "plain", "multi"])
def test_a_layout(request_: FetchRequest, layout: Layout, tag: str) -> None:
    record = fetch(f"oci:{layout.path}:{tag}", request_)
    assert_whole(request_, record)
    assert record.reference == f"oci:{layout.path}:{tag}"


def test_a_layout_of_several_needs_a_tag(request_: FetchRequest, layout: Layout) -> None:
    with pytest.raises(NotFound, match="it holds") as caught:
        fetch(f"oci:{layout.path}", request_)
    assert "gzip, zstd, plain, multi" in caught.value.hint
    with pytest.raises(NotFound, match="no image with tag 'other'"):
        fetch(f"oci:{layout.path}:other", request_)


def test_without_a_policy_nothing_is_believed(request_: FetchRequest, layout: Layout) -> None:
    strict = replace(request_, policy=None)
    with pytest.raises(NotTrusted, match=r"no policy\.json"):
        fetch(f"oci:{layout.path}:gzip", strict)
    assert_nothing_stored(request_.store)
    record = fetch(f"oci:{layout.path}:gzip", replace(strict, insecure=frozenset({"image"})))
    assert record.insecure == ("image",)


def test_pull_policies(request_: FetchRequest, registry: RunningRegistry, layout: Layout) -> None:
    name = push(layout, "gzip", request_, registry)
    never, new = replace(request_, pull_policy="never"), replace(request_, pull_policy="new")
    with pytest.raises(NotFound, match="not in the store"):
        fetch(name, never)
    first = fetch(name, new)
    assert fetch(name, never).id == first.id
    assert fetch(first.id[:20], never).id == first.id
    layout.image([BASE], tag="gzip2")
    skopeo.run("copy", "-q", "--insecure-policy", f"--dest-cert-dir={certs(request_, registry)}",
               f"oci:{layout.path}:gzip2", name)  # fmt: skip
    assert fetch(name, new).id == first.id
    assert fetch(name, request_).id != first.id


def test_a_layout_that_was_made_anew_is_the_new_image(request_: FetchRequest, tmp_path: Path) -> None:
    name, new = f"oci:{tmp_path}/made:1", replace(request_, pull_policy="new")
    made = Layout(path=tmp_path / "made")
    made.index([made.image([BASE]), made.image([TOP], architecture="arm64")], "1")
    first = fetch(name, new)
    assert fetch(name, new).imported == first.imported
    made.manifests.clear()
    made.image([BASE, TOP], tag="1")
    assert fetch(name, replace(request_, pull_policy="never")).id == first.id
    second = fetch(name, new)
    assert read(request_, second, "/etc/motd") == b"top\n"
    made.path.rename(tmp_path / "gone")
    assert fetch(name, new).id == second.id


def test_what_was_stored_unchecked_is_not_used_as_if_it_were(request_: FetchRequest, layout: Layout) -> None:
    name = f"oci:{layout.path}:gzip"
    loose = replace(request_, insecure=frozenset({"image"}))
    fetch(name, loose)
    rejecting = replace(request_, policy=Policy.parse(b'{"default":[{"type":"reject"}]}'))
    with pytest.raises(NotTrusted, match="without a check"):
        fetch(name, replace(rejecting, pull_policy="never"))
    with pytest.raises(NotTrusted, match="rejects"):
        fetch(name, replace(rejecting, pull_policy="new"))
    assert fetch(name, replace(loose, pull_policy="never")).insecure == ("image",)


def damage(layout: Layout, digest: str, data: bytes) -> None:
    (layout.path / "blobs" / digest.replace(":", "/")).write_bytes(data)


def blob(layout: Layout, digest: object) -> bytes:
    return (layout.path / "blobs" / str(digest).replace(":", "/")).read_bytes()


@pytest.mark.parametrize("what", ["flipped", "short", "long", "other-diff-id", "config", "manifest", "layer-count"])
def test_content_that_is_not_what_was_declared(request_: FetchRequest, layout: Layout, what: str) -> None:
    expected: type[PyrktError] = ImageRefused
    if what == "other-diff-id":
        layout.image([BASE], tag="bad", diff_ids=["sha256:" + "0" * 64])
    elif what == "layer-count":
        layout.image([BASE], tag="bad", diff_ids=["sha256:" + "0" * 64] * 2)
        expected = InvalidSpec
    else:
        found = layout.image([BASE], tag="bad")
        manifest = json.loads(blob(layout, found["digest"]))
        target = {"config": manifest["config"]["digest"], "manifest": str(found["digest"])}.get(
            what, manifest["layers"][0]["digest"]
        )
        data = blob(layout, target)
        damaged = {"short": data[:-1], "long": data + b"x"}.get(what, data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
        damage(layout, target, damaged)
    with pytest.raises(expected) as caught:
        fetch(f"oci:{layout.path}:bad", request_)
    assert caught.value.message.isprintable()
    assert_nothing_stored(request_.store)
    assert os.listdir(request_.store.root / "partial") == []


@pytest.fixture(scope="module")
def gpg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gpg]:
    made = Gpg(tmp_path_factory.mktemp("gnupg"))
    for name in ("signer", "stranger"):
        made.make_key(name)
    yield made
    made.close()


@pytest.fixture
def signing(tmp_path: Path, request_: FetchRequest, registry: RunningRegistry, gpg: Gpg) -> FetchRequest:
    """A request whose policy wants the signer's signature on everything of the registry."""
    key = tmp_path / "signer.asc"
    key.write_bytes(gpg.run("--armor", "--export", "signer@example.com"))
    folder = tmp_path / "config/registries.d"
    folder.mkdir()
    (folder / "tests.yaml").write_text(
        f"docker:\n  {registry.host}:\n    lookaside: file://{tmp_path}/lookaside\n"
        f"    lookaside-staging: file://{tmp_path}/lookaside\n"
    )
    signed_by = [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(key)}]
    policy = {"default": [{"type": "reject"}], "transports": {"docker": {registry.host: signed_by}}}
    return replace(request_, policy=Policy.parse(json.dumps(policy).encode()))


def push_signed(
    layout: Layout, tag: str, request: FetchRequest, registry: RunningRegistry, gpg: Gpg, *options: str
) -> str:
    """Push and sign, as the first option says who; return the reference."""
    name = f"docker://{registry.host}/t/{os.urandom(4).hex()}:{tag}"
    skopeo.run(
        "--registries.d", f"{request.dirs.local}/registries.d", "--insecure-policy", "copy", "-q",
        f"--dest-cert-dir={certs(request, registry)}", "--sign-by", *options, f"oci:{layout.path}:{tag}", name,
        env={**os.environ, "GNUPGHOME": str(gpg.home)},
    )  # fmt: skip
    return name


def test_a_signed_image(signing: FetchRequest, registry: RunningRegistry, layout: Layout, gpg: Gpg) -> None:
    name = push_signed(layout, "gzip", signing, registry, gpg, "signer@example.com")
    record = fetch(name, signing)
    assert_whole(signing, record)
    assert [signer.format for signer in record.signers] == ["simple"]
    assert "signer@example.com" in record.signers[0].name
    by_digest = name.rpartition(":")[0] + "@" + record.id.replace("-", ":")
    assert fetch(by_digest, signing).id == record.id


def test_a_signed_index(signing: FetchRequest, registry: RunningRegistry, layout: Layout, gpg: Gpg) -> None:
    name = push_signed(layout, "multi", signing, registry, gpg, "signer@example.com", "--all")
    assert_whole(signing, fetch(name, signing))


@pytest.mark.parametrize("who", ["", "stranger@example.com"])
def test_an_image_that_the_right_one_did_not_sign(
    signing: FetchRequest, registry: RunningRegistry, layout: Layout, gpg: Gpg, who: str
) -> None:
    name = push_signed(layout, "gzip", signing, registry, gpg, who) if who else push(layout, "gzip", signing, registry)
    with pytest.raises(NotTrusted) as caught:
        fetch(name, signing)
    assert ("not signed" in caught.value.message) == (not who)
    assert_nothing_stored(signing.store)
    assert "GET /v2/" in registry.log
    repository = name.split("/", 3)[3].rpartition(":")[0]
    assert f"/v2/{repository}/manifests/" in registry.log
    assert f'"GET /v2/{repository}/blobs/' not in registry.log, "layers were fetched before the verdict"
    assert fetch(name, replace(signing, insecure=frozenset({"image"}))).insecure == ("image",)


def test_a_signature_for_another_name_does_not_count(
    signing: FetchRequest, registry: RunningRegistry, layout: Layout, gpg: Gpg
) -> None:
    identity = ("--sign-identity", f"{registry.host}/t/other:gzip")
    name = push_signed(layout, "gzip", signing, registry, gpg, "signer@example.com", *identity)
    with pytest.raises(NotTrusted, match="does not allow"):
        fetch(name, signing)
    assert_nothing_stored(signing.store)


def pem_pair(folder: Path, name: str, *how: str) -> tuple[Path, Path]:
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    subprocess.run(["openssl", "genpkey", *how, "-out", str(private)], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", str(private), "-pubout", "-out", str(public)], check=True)
    private.chmod(0o600)
    return private, public


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    folder = tmp_path_factory.mktemp("keys")
    return {
        "rsa": pem_pair(folder, "rsa", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
        "ec": pem_pair(folder, "ec", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
        "other": pem_pair(folder, "other", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
    }


def with_key(request: FetchRequest, private: Path) -> FetchRequest:
    return replace(request, keys=DecryptionKeys.load([str(private)], request.dirs))


def encrypted(layout: Layout, request: FetchRequest, registry: RunningRegistry, public: Path, tag: str = "gzip") -> str:
    return push(layout, tag, request, registry, "--encryption-key", f"jwe:{public}")


@pytest.mark.parametrize("kind", ["rsa", "ec"])
@pytest.mark.parametrize("tag", ["gzip", "plain"])
def test_an_encrypted_image(
    request_: FetchRequest,
    registry: RunningRegistry,
    layout: Layout,
    pairs: dict[str, tuple[Path, Path]],
    kind: str,
    tag: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    private, public = pairs[kind]
    record = fetch(encrypted(layout, request_, registry, public, tag), with_key(request_, private))
    assert_whole(request_, record)
    assert record.encrypted
    assert "is encrypted but not signed" in capfd.readouterr().err


def test_what_skopeo_has_decrypted_is_plain(
    request_: FetchRequest,
    registry: RunningRegistry,
    layout: Layout,
    pairs: dict[str, tuple[Path, Path]],
    tmp_path: Path,
) -> None:
    private, public = pairs["rsa"]
    name = encrypted(layout, request_, registry, public)
    skopeo.run("copy", "-q", "--insecure-policy", f"--src-cert-dir={certs(request_, registry)}",
               f"--decryption-key={private}", name, f"oci:{tmp_path}/opened:1")  # fmt: skip
    record = fetch(f"oci:{tmp_path}/opened:1", request_)
    assert_whole(request_, record)
    assert not record.encrypted


def test_a_wrong_or_missing_key_names_the_recipients(
    request_: FetchRequest, registry: RunningRegistry, layout: Layout, pairs: dict[str, tuple[Path, Path]]
) -> None:
    name = encrypted(layout, request_, registry, pairs["rsa"][1])
    for request in (request_, with_key(request_, pairs["other"][0]), with_key(request_, pairs["ec"][0])):
        with pytest.raises(NotTrusted, match="encrypted for 1 recipient: RSA-OAEP"):
            fetch(name, request)
        assert_nothing_stored(request_.store)
        assert os.listdir(request_.store.root / "partial") == [], "no layer is fetched that cannot be opened"
    fetch(name, with_key(request_, pairs["rsa"][0]))
    with pytest.raises(NotTrusted):  # that the plain trees are here by now opens nothing
        fetch(name, request_)


def test_a_changed_ciphertext_is_found_out_before_it_is_decrypted(
    tmp_path: Path, request_: FetchRequest, pairs: dict[str, tuple[Path, Path]], layout: Layout
) -> None:
    """Whoever can push can exchange the ciphertext and every digest of it, but not the HMAC."""
    private, public = pairs["rsa"]
    sealed = tmp_path / "sealed"
    skopeo.run("copy", "-q", "--insecure-policy", "--encryption-key", f"jwe:{public}", f"oci:{layout.path}:gzip",
               f"oci:{sealed}:gzip")  # fmt: skip
    index = json.loads((sealed / "index.json").read_text())
    forged = Layout(path=tmp_path / "forged")
    (tmp_path / "forged/blobs/sha256").rmdir()
    (sealed / "blobs/sha256").rename(tmp_path / "forged/blobs/sha256")
    manifest = json.loads(blob(forged, index["manifests"][0]["digest"]))
    data = bytearray(blob(forged, manifest["layers"][1]["digest"]))
    data[20] ^= 1
    manifest["layers"][1] |= {"digest": forged.blob(bytes(data))}
    kind = "application/vnd.oci.image.manifest.v1+json"
    forged.list(forged.descriptor(kind, json.dumps(manifest).encode()), "gzip")
    with pytest.raises(ImageRefused, match="HMAC"):
        fetch(f"oci:{forged.path}:gzip", with_key(request_, private))
    assert_nothing_stored(request_.store)
