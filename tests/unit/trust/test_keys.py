"""Decryption keys: every form of file, where the password comes from, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pyrkt.base.dirs import ConfigDirs
from pyrkt.base.errors import NotFound, NotTrusted, PyrktError, UsageError
from pyrkt.trust.keys import DecryptionKeys
from tests.support.keys import Key, pem, public_pem

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
NOWHERE = ConfigDirs(system="/nowhere", local="/nowhere")


def load(*specs: str | Path, dirs: ConfigDirs = NOWHERE) -> DecryptionKeys:
    return DecryptionKeys.load([str(spec) for spec in specs], dirs)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    path.write_bytes(pem(RSA, password=b"sesame"))
    return path


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_bytes(b"sesame\n")
    return path


@pytest.mark.parametrize("made", [pytest.param(RSA, id="RSA"), pytest.param(EC, id="EC")])
@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL"])
@pytest.mark.parametrize("encoding", ["PEM", "DER"])
@pytest.mark.parametrize("secret", [b"", b"sesame"])
def test_forms(tmp_path: Path, made: Key, form: str, encoding: str, secret: bytes, password: Path) -> None:
    if encoding == "DER" and form == "TraditionalOpenSSL" and secret:
        return  # no such format exists
    path = tmp_path / "key"
    path.write_bytes(pem(made, form, secret, encoding))
    (found,) = load(f"{path}:file={password}" if secret else path).private
    assert found.key.private_numbers() == made.private_numbers()
    assert found.kind == ("RSA 2048" if made is RSA else "EC P-256")
    assert found.source == str(path)


def test_text_before_the_block(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"my key\n" + pem(EC))
    assert load(path).private[0].kind == "EC P-256"


def test_password_by_descriptor(key: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"sesame")
    os.close(writer)
    try:
        # One descriptor may serve several keys although it can be read only once.
        assert len(load(f"{key}:fd={reader}", f"{key}:fd={reader}").private) == 2
    finally:
        os.close(reader)


def test_wrong_password(key: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"sesam")
    with pytest.raises(NotTrusted) as caught:
        load(f"{key}:file={wrong}")
    assert caught.value.message == f"{key}: the password does not open this key"


@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL"])
def test_missing_password(tmp_path: Path, form: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(pem(RSA, form, b"sesame"))
    with pytest.raises(NotTrusted, match="is encrypted and no password was given") as caught:
        load(path)
    assert f"{path}:file=" in caught.value.hint


def test_passphrases(password: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"open\r\n")
    os.close(writer)
    try:
        found = load(f"passphrase:file={password}", f"passphrase:fd={reader}").passphrases
    finally:
        os.close(reader)
    assert [phrase.secret for phrase in found] == [b"sesame", b"open"]


@pytest.mark.parametrize("spec", ["KEY:pass=sesame", "KEY:sesame", "passphrase:sesame", "passphrase:pass=sesame"])
def test_no_secret_on_the_command_line(key: Path, spec: str) -> None:
    with pytest.raises(UsageError, match="can be read by every user") as caught:
        load(spec.replace("KEY", str(key)))
    assert ":file=" in caught.value.hint
    assert ":fd=" in caught.value.hint
    assert "sesame" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        pytest.param("", "empty decryption key", id="empty"),
        pytest.param("passphrase", "passphrase of what", id="passphrase-of-nothing"),
        pytest.param("KEY:file=", "file= needs a value", id="no-file"),
        pytest.param("KEY:fd=x", "fd= needs a value", id="no-number"),
        pytest.param("KEY:fd=-1", "fd= needs a value", id="negative"),
        pytest.param("KEY:fd=999999", "descriptor 999999", id="closed"),
        pytest.param("KEY:fd=99999999999", "fd= needs a value", id="huge"),
        pytest.param("KEY:file=EMPTY", "the secret is empty", id="empty-secret"),
    ],
)
def test_malformed_specs(key: Path, tmp_path: Path, spec: str, problem: str) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(b"\n")
    with pytest.raises(UsageError, match=problem):
        load(spec.replace("KEY", str(key)).replace("EMPTY", str(empty)))


def test_missing_files(key: Path, tmp_path: Path) -> None:
    for spec in (tmp_path / "none", f"{key}:file={tmp_path}/none", f"passphrase:file={tmp_path}/none"):
        with pytest.raises(NotFound, match="no such key file"):
            load(spec)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(b"", "not a private key", id="empty"),
        pytest.param(b"garbage", "not a private key", id="garbage"),
        pytest.param(public_pem(RSA), "a PEM PUBLIC KEY is no private key", id="public"),
        pytest.param(b"-----BEGIN CERTIFICATE-----\n", "a PEM CERTIFICATE is no private key", id="certificate"),
        pytest.param(b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n", "an OpenPGP key", id="pgp"),
        pytest.param(b"-----BEGIN RSA PRIVATE KEY-----\nx\n-----END RSA PRIVATE KEY-----\n", "not a private", id="bad"),
        pytest.param(ED, "neither an RSA nor an EC key", id="ed25519"),
        pytest.param(pem(rsa.generate_private_key(65537, 1024)), "1024 bits protects nothing", id="short"),
        pytest.param(bytes((1 << 20) + 1), "larger than 1024 KiB", id="large"),
    ],
)
def test_files_that_are_no_keys(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=problem) as caught:
        load(path)
    assert "\n" not in caught.value.message + caught.value.hint


def test_directories(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    dirs = ConfigDirs(system=str(tmp_path / "usr"), local=str(tmp_path / "etc"))
    for layer in ("usr", "etc"):
        (tmp_path / layer / "decryptionkeys.d").mkdir(parents=True)
    directory = tmp_path / "etc/decryptionkeys.d"
    files = {
        "a.pem": pem(RSA),
        "b.key": pem(EC, password=b"sesame"),
        "b.pass": b"sesame\n",
        "c.der": pem(EC, encoding="DER"),
        "images.pass": b"open\n",
        "open.pem": pem(RSA),
        "bad.pem": b"garbage",
        "locked.pem": pem(RSA, password=b"x"),
        "README": b"read me",
    }
    for name, content in files.items():
        (directory / name).write_bytes(content)
        (directory / name).chmod(0o644 if name == "open.pem" else 0o600)
    (tmp_path / "usr/decryptionkeys.d/system.pem").write_bytes(pem(EC))
    (tmp_path / "usr/decryptionkeys.d/system.pem").chmod(0o600)
    keys = load(dirs=dirs)
    assert [Path(found.source).name for found in keys.private] == ["a.pem", "b.key", "c.der", "system.pem"]
    assert [found.secret for found in keys.passphrases] == [b"open"]
    assert [Path(problem.partition(":")[0]).name for problem in keys.problems] == ["bad.pem", "locked.pem", "open.pem"]
    assert "others may read this secret" in keys.problems[2]
    assert capfd.readouterr().err.count("warning") == 3


def test_secrets_do_not_show(key: Path, password: Path) -> None:
    shown = repr(load(f"{key}:file={password}", f"passphrase:file={password}"))
    assert "sesame" not in shown
    assert "private_numbers" not in shown


def test_errors_are_ours(tmp_path: Path) -> None:
    with pytest.raises(PyrktError):
        load(tmp_path)  # a directory
