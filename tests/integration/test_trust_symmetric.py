"""OpenPGP symmetric encryption, made by gpg: what opens, and that nothing appears before all of it is proven."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pysequoia
import pytest

from pyrkt.base.errors import ImageRefused, NotTrusted, PyrktError
from pyrkt.trust import symmetric
from pyrkt.trust.keys import DecryptionKeys, Passphrase
from tests.support.keys import Gpg, gpg_home

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.peers

PLAIN = os.urandom(200_000)
AES = ("--cipher-algo=AES256", "--s2k-count=65536")


@pytest.fixture(scope="module")
def gpg() -> Iterator[Gpg]:
    with gpg_home() as made:
        yield made


def having(*secrets: str) -> DecryptionKeys:
    return DecryptionKeys(passphrases=tuple(Passphrase(secret=secret.encode(), source="test") for secret in secrets))


def opened(directory: Path, message: bytes, *secrets: str, limit: int = 1 << 30) -> bytes:
    source, target = directory / "app.aci", directory / "plain"
    source.write_bytes(message)
    assert symmetric.is_encrypted(message[:64])
    symmetric.decrypt(source, having(*secrets), target, limit=limit)
    assert target.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in directory.iterdir()) == ["app.aci", "plain"]
    return target.read_bytes()


def refusal(directory: Path, message: bytes, *secrets: str, limit: int = 1 << 30) -> PyrktError:
    with pytest.raises(PyrktError) as caught:
        opened(directory, message, *secrets, limit=limit)
    assert [path.name for path in directory.iterdir()] == ["app.aci"]  # no plaintext, not even a part of it
    assert caught.value.message.startswith("app.aci: ")
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="default"),
        pytest.param(("--cipher-algo=AES",), id="AES128"),
        pytest.param(("--cipher-algo=AES192",), id="AES192"),
        pytest.param(("--cipher-algo=AES256",), id="AES256"),
        pytest.param((*AES, "--digest-algo=sha256"), id="as-the-specification"),
        pytest.param((*AES, "--armor"), id="armoured"),
        pytest.param((*AES, "--compress-algo=none"), id="not-compressed"),
        pytest.param((*AES, "--compress-algo=zlib"), id="zlib"),
        pytest.param((*AES, "--s2k-mode=1"), id="salted"),
        pytest.param((*AES, "--s2k-digest-algo=SHA512"), id="sha512"),
    ],
)
def test_gpg_encrypts(gpg: Gpg, tmp_path: Path, options: tuple[str, ...]) -> None:
    assert opened(tmp_path, gpg.encrypt(PLAIN, "sesame", *options), "wrong", "sesame") == PLAIN


@pytest.mark.parametrize("secrets", [["sesame"], ["other", "sesame"]])
@pytest.mark.parametrize("armoured", [False, True])
def test_wrapped_session_keys(tmp_path: Path, secrets: list[str], armoured: bool) -> None:
    message = pysequoia.encrypt(passwords=secrets, bytes=PLAIN, armor=armoured)
    assert opened(tmp_path, message, "wrong", "sesame") == PLAIN


def test_unicode_passphrase(gpg: Gpg, tmp_path: Path) -> None:
    assert opened(tmp_path, gpg.encrypt(PLAIN, "Sésam öffne dich", *AES), "Sésam öffne dich") == PLAIN


@pytest.mark.parametrize(
    ("secrets", "words"),
    [
        ((), "encrypted with a passphrase: AES256, no passphrase was given"),
        (("a",), "encrypted with a passphrase: AES256, 1 passphrase tried, none fits"),
        (("a", "b"), "encrypted with a passphrase: AES256, 2 passphrases tried, none fits"),
    ],
)
def test_wrong_passphrase(gpg: Gpg, tmp_path: Path, secrets: tuple[str, ...], words: str) -> None:
    error = refusal(tmp_path, gpg.encrypt(PLAIN, "sesame", *AES), *secrets)
    assert isinstance(error, NotTrusted)
    assert error.message == f"app.aci: {words}"
    assert "--decryption-key passphrase:file=" in error.hint


@pytest.mark.parametrize("secrets", [("wrong",), ("wrong", "sesam")])
def test_wrong_passphrase_for_a_wrapped_key(tmp_path: Path, secrets: tuple[str, ...]) -> None:
    message = pysequoia.encrypt(passwords=["sesame", "other"], bytes=PLAIN, armor=False)
    assert "none fits" in refusal(tmp_path, message, *secrets).message


@pytest.mark.parametrize("cipher", ["3DES", "CAST5", "BLOWFISH", "TWOFISH", "CAMELLIA128", "CAMELLIA256"])
def test_only_aes(gpg: Gpg, tmp_path: Path, cipher: str) -> None:
    error = refusal(tmp_path, gpg.encrypt(PLAIN, "sesame", f"--cipher-algo={cipher}"), "sesame")
    assert isinstance(error, ImageRefused)
    assert error.message.lower() == f"app.aci: encrypted with {cipher.lower()}, not aes"


def test_without_integrity_protection(gpg: Gpg, tmp_path: Path) -> None:
    message = gpg.encrypt(PLAIN, "sesame", "--rfc2440", "--disable-mdc", "--cipher-algo=AES256")
    assert "without integrity protection" in refusal(tmp_path, message, "sesame").message


@pytest.mark.parametrize("where", [0.3, 0.6, 0.99, 1])
def test_a_flipped_byte(gpg: Gpg, tmp_path: Path, where: float) -> None:
    message = bytearray(gpg.encrypt(PLAIN, "sesame", *AES))
    message[int((len(message) - 1) * where)] ^= 1
    error = refusal(tmp_path, bytes(message), "sesame")
    assert isinstance(error, ImageRefused)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.999])
def test_cut_short(gpg: Gpg, tmp_path: Path, kept: float) -> None:
    message = gpg.encrypt(PLAIN, "sesame", *AES)
    error = refusal(tmp_path, message[: int(len(message) * kept)], "sesame")
    assert error.message == "app.aci: encrypted OpenPGP message is cut short"


@pytest.mark.parametrize("extra", [b"\0", b"\xc3\x00", b"\n", b"again"])
def test_something_after_the_message(gpg: Gpg, tmp_path: Path, extra: bytes) -> None:
    message = gpg.encrypt(PLAIN, "sesame", *AES)
    error = refusal(tmp_path, message + (message if extra == b"again" else extra), "sesame")
    assert error.message == "app.aci: data after the encrypted message"


def test_a_bomb(gpg: Gpg, tmp_path: Path) -> None:
    message = gpg.encrypt(bytes(50 << 20), "sesame", *AES)
    assert len(message) < 100_000
    error = refusal(tmp_path, message, "sesame", limit=1 << 20)
    assert error.message == "app.aci: decrypts to more than 1048576 bytes"


def test_for_a_public_key(gpg: Gpg, tmp_path: Path) -> None:
    gpg.key("reader", kind="rsa2048", use="encr")
    message = gpg.run("--trust-model=always", "--recipient=reader", "--encrypt", stdin=PLAIN)
    error = refusal(tmp_path, message, "sesame")
    assert "encrypted for 1 OpenPGP public key; an appc image is encrypted by passphrase" in error.message


@pytest.mark.parametrize(
    "head", [b"", b"\x8c", b"\x8c\x04\x04\x09\x03\x08", b"\xc3\xff\xff\xff\xff\xff", b"\x8c\x00" * 99]
)
def test_heads_that_are_none(tmp_path: Path, head: bytes) -> None:
    source = tmp_path / "app.aci"
    source.write_bytes(head)
    with pytest.raises(ImageRefused, match=r"^app\.aci: "):
        symmetric.decrypt(source, having("sesame"), tmp_path / "plain")
    assert [path.name for path in tmp_path.iterdir()] == ["app.aci"]
