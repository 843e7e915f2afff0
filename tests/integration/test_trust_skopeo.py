"""Layers that skopeo encrypts and manifests that skopeo signs, opened and judged here."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pyrkt.base.dirs import ConfigDirs
from pyrkt.base.errors import ImageRefused, NotTrusted
from pyrkt.spec.digest import Digest
from pyrkt.trust import ocicrypt
from pyrkt.trust.identity import DockerImage
from pyrkt.trust.keys import DecryptionKeys
from pyrkt.trust.policy import Policy, Signature, judge
from tests.support.keys import Gpg, Key, gpg_home, pem, public_pem

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.peers

IMAGE = "application/vnd.oci.image"
LAYER = f"{IMAGE}.layer.v1.tar"
KEYS: dict[str, Key] = {
    "rsa": rsa.generate_private_key(65537, 2048),
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "p521": ec.generate_private_key(ec.SECP521R1()),
    "stranger": ec.generate_private_key(ec.SECP256R1()),
}


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Layout:
    """An OCI image layout on disk, written and read without help of pyrkt."""

    path: Path

    def put(self, data: bytes) -> dict[str, Any]:
        blob = self.path / "blobs/sha256" / sha256(data).removeprefix("sha256:")
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        return {"digest": sha256(data), "size": len(data)}

    def blob(self, digest: str) -> bytes:
        return (self.path / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes()

    def manifest(self) -> dict[str, Any]:
        index = json.loads((self.path / "index.json").read_bytes())
        return dict(json.loads(self.blob(index["manifests"][0]["digest"])))

    def write(self, layers: list[tuple[str, bytes]], diff_ids: list[str]) -> None:
        config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{IMAGE}.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                **self.put(json.dumps(config).encode()),
            },
            "layers": [{"mediaType": kind, **self.put(data)} for kind, data in layers],
        }
        entry = {"mediaType": manifest["mediaType"], **self.put(json.dumps(manifest).encode())}
        entry["annotations"] = {"org.opencontainers.image.ref.name": "v1"}
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
        (self.path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


def tar(name: str, size: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = size
        archive.addfile(info, io.BytesIO(os.urandom(size)))
    return file.getvalue()


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("skopeo")
    for name, key in KEYS.items():
        (directory / f"{name}.pem").write_bytes(pem(key))
        (directory / f"{name}.pub").write_bytes(public_pem(key))
    compressed, plain = tar("first", 300_000), tar("second", 100_000)
    (directory / "plain").mkdir()
    Layout(directory / "plain").write(
        [(f"{LAYER}+gzip", gzip.compress(compressed)), (LAYER, plain)], [sha256(compressed), sha256(plain)]
    )
    return directory


def encrypted(work: Path, *recipients: str, layers: tuple[int, ...] = ()) -> Layout:
    target = work / ("-".join((*recipients, *map(str, layers))).replace(":", "_").replace("/", "_"))
    if not target.exists():
        options = [f"--encryption-key={recipient}" for recipient in recipients]
        options += [f"--encrypt-layer={layer}" for layer in layers]
        skopeo(work, "copy", *options, f"oci:{work}/plain:v1", f"oci:{target}:v1")
    return Layout(target)


def skopeo(work: Path, *arguments: str | Path, **environment: str) -> bytes:
    done = subprocess.run(
        ["skopeo", "--insecure-policy", *arguments],
        cwd=work,
        capture_output=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(work), **environment},
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def keys(work: Path, *names: str) -> DecryptionKeys:
    nowhere = ConfigDirs(system="/nowhere", local="/nowhere")
    return DecryptionKeys.load([str(work / f"{name}.pem") for name in names], nowhere)


def opened(layout: Layout, held: DecryptionKeys) -> list[bytes]:
    """Return the tars of all layers, each checked as a fetch would."""
    manifest = layout.manifest()
    diff_ids = json.loads(layout.blob(manifest["config"]["digest"]))["rootfs"]["diff_ids"]
    tars = []
    for at, (layer, diff_id) in enumerate(zip(manifest["layers"], diff_ids, strict=True)):
        data = layout.blob(layer["digest"])
        kind = layer["mediaType"]
        if ocicrypt.is_encrypted(kind):
            cipher = ocicrypt.unwrap(layer["annotations"], held, f"layer {at + 1}")
            cipher.authenticate([data])
            data = b"".join(cipher.decrypt([data]))
            cipher.check_plain((sha256(data), diff_id))
        if kind.removesuffix(ocicrypt.SUFFIX).endswith("+gzip"):
            data = gzip.decompress(data)
        assert sha256(data) == diff_id
        tars.append(data)
    return tars


@pytest.mark.parametrize("name", ["rsa", "p256", "p384", "p521"])
def test_one_recipient(work: Path, name: str) -> None:
    layout = encrypted(work, f"jwe:{name}.pub")
    assert all(ocicrypt.is_encrypted(layer["mediaType"]) for layer in layout.manifest()["layers"])
    assert len(opened(layout, keys(work, "stranger", name))) == 2


@pytest.mark.parametrize("name", ["rsa", "p256"])
def test_two_recipients(work: Path, name: str) -> None:
    layout = encrypted(work, "jwe:rsa.pub", "jwe:p256.pub")
    assert len(opened(layout, keys(work, name))) == 2


@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL"])
@pytest.mark.parametrize("name", ["rsa", "p256"])
def test_key_files_of_every_form(work: Path, tmp_path: Path, name: str, form: str) -> None:
    (tmp_path / f"{name}.pem").write_bytes(pem(KEYS[name], form))
    assert opened(encrypted(work, f"jwe:{name}.pub"), keys(tmp_path, name))


def test_both_forms_of_the_wrapped_digest(work: Path) -> None:
    layout = encrypted(work, "jwe:rsa.pub")
    held = keys(work, "rsa")
    manifest = layout.manifest()
    diff_ids = json.loads(layout.blob(manifest["config"]["digest"]))["rootfs"]["diff_ids"]
    wrapped = [ocicrypt.unwrap(layer["annotations"], held).plain_digest for layer in manifest["layers"]]
    source = Layout(work / "plain").manifest()["layers"]
    assert wrapped[0] == source[0]["digest"] != diff_ids[0]  # it came compressed
    assert wrapped[1] == diff_ids[1]  # skopeo compressed it


def test_only_some_layers(work: Path) -> None:
    layout = encrypted(work, "jwe:rsa.pub", layers=(1,))
    kinds = [ocicrypt.is_encrypted(layer["mediaType"]) for layer in layout.manifest()["layers"]]
    assert kinds == [False, True]
    assert len(opened(layout, keys(work, "rsa"))) == 2


def test_a_stranger_is_told_for_whom_it_is(work: Path) -> None:
    layout = encrypted(work, "jwe:rsa.pub", "jwe:p256.pub")
    with pytest.raises(NotTrusted) as caught:
        opened(layout, keys(work, "stranger"))
    assert caught.value.message == (
        "layer 1: encrypted for 2 recipients: RSA-OAEP (2048 bits), ECDH-ES+A256KW (P-256); "
        "the private key given does not fit (EC P-256)"
    )
    with pytest.raises(NotTrusted, match="no private key was given"):
        opened(layout, keys(work))


@pytest.mark.parametrize("at", [0, -1])
def test_a_flipped_byte(work: Path, at: int) -> None:
    layout = encrypted(work, "jwe:rsa.pub")
    layer = layout.manifest()["layers"][0]
    data = bytearray(layout.blob(layer["digest"]))
    data[at] ^= 1
    with pytest.raises(ImageRefused, match="HMAC"):
        ocicrypt.unwrap(layer["annotations"], keys(work, "rsa")).authenticate([bytes(data)])


def test_annotations_of_another_layer(work: Path) -> None:
    first, second = encrypted(work, "jwe:rsa.pub").manifest()["layers"]
    layout = encrypted(work, "jwe:rsa.pub")
    with pytest.raises(ImageRefused, match="HMAC"):
        ocicrypt.unwrap(second["annotations"], keys(work, "rsa")).authenticate([layout.blob(first["digest"])])


def test_pkcs7_names_what_is_needed(work: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-key", "rsa.pem", "-subj", "/CN=test", "-out", "rsa.crt"],
        cwd=work,
        check=True,
        capture_output=True,
    )
    layout = encrypted(work, "pkcs7:rsa.crt")
    with pytest.raises(NotTrusted, match="encrypted for a pkcs7 key, which pyrkt does not unwrap yet"):
        opened(layout, keys(work, "rsa"))


@pytest.fixture(scope="module")
def gpg() -> Iterator[Gpg]:
    with gpg_home() as made:
        for name in ("signer", "other"):
            made.key(name)
        yield made


REFERENCE = "registry.test:5000/team/app:v1"


def sign(work: Path, gpg: Gpg, name: str = "signer", reference: str = REFERENCE) -> tuple[Digest, Signature]:
    index = json.loads((work / "plain/index.json").read_bytes())
    digest = index["manifests"][0]["digest"]
    manifest = work / "manifest.json"
    manifest.write_bytes(Layout(work / "plain").blob(digest))
    fingerprint = gpg.fingerprints(name)[0].upper()
    arguments = ("standalone-sign", "--output", work / "signature", manifest, reference, fingerprint)
    skopeo(work, *arguments, GNUPGHOME=str(gpg.home))
    return Digest(digest), Signature("simple", (work / "signature").read_bytes(), "signature-1")


def policy(work: Path, gpg: Gpg, **more: Any) -> Policy:
    (work / "key.gpg").write_bytes(gpg.public("signer"))
    requirement = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(work / "key.gpg"), **more}
    (work / "policy.json").write_text(
        json.dumps({"default": [{"type": "reject"}], "transports": {"docker": {"registry.test:5000": [requirement]}}})
    )
    return Policy.load([work / "policy.json"])


def test_skopeo_signs(work: Path, gpg: Gpg) -> None:
    digest, signature = sign(work, gpg)
    (signer,) = judge(policy(work, gpg), DockerImage("registry.test:5000", "team/app", "v1"), digest, [signature])
    assert (signer.format, signer.fingerprint) == ("simple", gpg.fingerprints("signer")[0])


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (DockerImage("registry.test:5000", "team/app", "v2"), "does not allow"),
        (DockerImage("registry.test:5000", "team/app2", "v1"), "does not allow"),
        (DockerImage("other.test", "team/app", "v1"), "rejects this image"),
    ],
)
def test_a_signature_for_another_image(work: Path, gpg: Gpg, image: DockerImage, problem: str) -> None:
    digest, signature = sign(work, gpg)
    with pytest.raises(NotTrusted, match=problem):
        judge(policy(work, gpg), image, digest, [signature])


def test_a_signature_for_another_manifest(work: Path, gpg: Gpg) -> None:
    _, signature = sign(work, gpg)
    image = DockerImage("registry.test:5000", "team/app", "v1")
    with pytest.raises(NotTrusted, match="not this manifest"):
        judge(policy(work, gpg), image, Digest("sha256:" + "0" * 64), [signature])


def test_a_signature_by_another(work: Path, gpg: Gpg) -> None:
    digest, signature = sign(work, gpg, "other")
    image = DockerImage("registry.test:5000", "team/app", "v1")
    with pytest.raises(NotTrusted, match="no trusted key"):
        judge(policy(work, gpg), image, digest, [signature])
    with pytest.raises(NotTrusted, match="not signed"):
        judge(policy(work, gpg), image, digest, [])


def test_every_bit_of_a_signature_counts(work: Path, gpg: Gpg) -> None:
    digest, signature = sign(work, gpg)
    image, required = DockerImage("registry.test:5000", "team/app", "v1"), policy(work, gpg)
    accepted = 0
    for at in range(len(signature.blob)):
        damaged = signature.blob[:at] + bytes((signature.blob[at] ^ 1,)) + signature.blob[at + 1 :]
        try:
            (signer,) = judge(required, image, digest, [Signature("simple", damaged, "x")])
        except NotTrusted:
            continue
        # Compression leaves a few bits open; whatever is accepted still says exactly this, by this key.
        assert signer.fingerprint == gpg.fingerprints("signer")[0]
        accepted += 1
    assert accepted < len(signature.blob) // 4
