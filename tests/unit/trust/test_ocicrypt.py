"""Annotations of encrypted layers: what opens, what is refused, and what an error names."""

from __future__ import annotations

import base64
import hmac
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from pyrkt.base.errors import ImageRefused, InvalidSpec, NotTrusted
from pyrkt.trust import ocicrypt
from pyrkt.trust.keys import DecryptionKeys, PrivateKey
from tests.support.jose import Maker, Public

if TYPE_CHECKING:
    from tests.support.keys import Key

RSA, EC = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
STRANGER = ec.generate_private_key(ec.SECP256R1())
PLAIN = b"the layer " * 10_000
SYMKEY, NONCE = os.urandom(32), os.urandom(16)
DIGEST = "sha256:" + "d" * 64
_ENCRYPTOR = Cipher(algorithms.AES(SYMKEY), modes.CTR(NONCE)).encryptor()
CIPHERTEXT = _ENCRYPTOR.update(PLAIN) + _ENCRYPTOR.finalize()
PUBLIC: dict[str, Any] = {
    "cipher": "AES_256_CTR_HMAC_SHA256",
    "hmac": base64.b64encode(hmac.digest(SYMKEY, CIPHERTEXT, "sha256")).decode(),
    "cipheroptions": {},
}
PRIVATE: dict[str, Any] = {
    "symkey": base64.b64encode(SYMKEY).decode(),
    "digest": DIGEST,
    "cipheroptions": {"nonce": base64.b64encode(NONCE).decode()},
}


def b64(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.b64encode(data).decode()


def wrapped(private: Any = PRIVATE, *keys: Key, form: str = "flattened") -> str:
    recipients: list[tuple[str, Public]] = [
        ("RSA-OAEP" if isinstance(key, rsa.RSAPrivateKey) else "ECDH-ES+A256KW", key.public_key())
        for key in keys or (RSA,)
    ]
    content = private if isinstance(private, bytes) else json.dumps(private).encode()
    return b64(Maker(recipients).make(content, form))


def annotated(keys: str | None = None, public: Any = PUBLIC, **more: str) -> dict[str, str]:
    return {ocicrypt.JWE_KEYS: wrapped() if keys is None else keys, ocicrypt.PUBLIC_OPTIONS: b64(public), **more}


def having(*keys: Key, problems: tuple[str, ...] = ()) -> DecryptionKeys:
    return DecryptionKeys(private=tuple(PrivateKey(key=key, source="test") for key in keys), problems=problems)


def chunks(data: bytes, size: int = 4093) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("key", [RSA, EC])
def test_opens(key: Key) -> None:
    cipher = ocicrypt.unwrap(annotated(wrapped(PRIVATE, key)), having(STRANGER, key))
    cipher.authenticate(chunks(CIPHERTEXT))
    assert b"".join(cipher.decrypt(chunks(CIPHERTEXT))) == PLAIN
    assert cipher.plain_digest == DIGEST


def test_media_types() -> None:
    layer = "application/vnd.oci.image.layer.v1.tar+zstd"
    assert ocicrypt.is_encrypted(layer + "+encrypted")
    assert not ocicrypt.is_encrypted(layer)


@pytest.mark.parametrize("key", [RSA, EC])
def test_recipients_added_later(key: Key) -> None:
    both = annotated(f"{wrapped(PRIVATE, EC)},{wrapped(PRIVATE, RSA)}")
    assert ocicrypt.unwrap(both, having(key)).plain_digest == DIGEST
    assert ocicrypt.recipients(both) == ("ECDH-ES+A256KW (P-256)", "RSA-OAEP (2048 bits)")


@pytest.mark.parametrize(
    ("public", "private", "right"),
    [
        pytest.param({}, PRIVATE["cipheroptions"], True, id="private"),
        pytest.param(PRIVATE["cipheroptions"], {}, True, id="public"),
        pytest.param(None, PRIVATE["cipheroptions"], True, id="null"),
        pytest.param(PRIVATE["cipheroptions"], {"nonce": b64(bytes(16))}, True, id="public-wins"),
        pytest.param({"nonce": b64(bytes(16))}, PRIVATE["cipheroptions"], False, id="public-wins-though-wrong"),
    ],
)
def test_nonce(public: Any, private: Any, right: bool) -> None:
    given = annotated(wrapped(PRIVATE | {"cipheroptions": private}), PUBLIC | {"cipheroptions": public})
    cipher = ocicrypt.unwrap(given, having(RSA))
    cipher.authenticate([CIPHERTEXT])
    assert (b"".join(cipher.decrypt([CIPHERTEXT])) == PLAIN) is right


@pytest.mark.parametrize("at", [0, 5000, len(CIPHERTEXT) - 1])
def test_a_flipped_byte_of_the_layer(at: int) -> None:
    cipher = ocicrypt.unwrap(annotated(), having(RSA), "layer 3")
    changed = bytearray(CIPHERTEXT)
    changed[at] ^= 1
    with pytest.raises(ImageRefused, match="layer 3: the encrypted layer was changed"):
        cipher.authenticate([bytes(changed)])
    with pytest.raises(RuntimeError):
        cipher.decrypt([CIPHERTEXT])


@pytest.mark.parametrize("ciphertext", [b"", CIPHERTEXT[:-1], CIPHERTEXT + b"\0", PLAIN])
def test_another_layer(ciphertext: bytes) -> None:
    with pytest.raises(ImageRefused):
        ocicrypt.unwrap(annotated(), having(RSA)).authenticate([ciphertext])


def test_a_flipped_hmac() -> None:
    mac = bytearray(base64.b64decode(PUBLIC["hmac"]))
    mac[0] ^= 1
    cipher = ocicrypt.unwrap(annotated(public=PUBLIC | {"hmac": b64(bytes(mac))}), having(RSA))
    with pytest.raises(ImageRefused):
        cipher.authenticate([CIPHERTEXT])


def test_the_digest_that_was_wrapped() -> None:
    cipher = ocicrypt.unwrap(annotated(), having(RSA), "layer 3")
    cipher.check_plain(("sha256:" + "0" * 64, DIGEST))
    cipher.check_plain((DIGEST,))
    for found in ((), ("sha256:" + "0" * 64,)):
        with pytest.raises(ImageRefused, match="layer 3: decrypts to other content"):
            cipher.check_plain(found)


@pytest.mark.parametrize(
    ("keys", "more", "message"),
    [
        pytest.param(
            having(),
            {},
            "layer 3: encrypted for 1 recipient: RSA-OAEP (2048 bits); no private key was given",
            id="no-key",
        ),
        pytest.param(
            having(STRANGER),
            {},
            "layer 3: encrypted for 1 recipient: RSA-OAEP (2048 bits); the private key given does not fit (EC P-256)",
            id="one-key",
        ),
        pytest.param(
            having(STRANGER, EC),
            {"org.opencontainers.image.enc.keys.pkcs7": "AAAA"},
            "layer 3: encrypted for 1 recipient: RSA-OAEP (2048 bits); also for a pkcs7 key, which pyrkt does not "
            "unwrap yet; none of 2 private keys fits (EC P-256)",
            id="also-pkcs7",
        ),
    ],
)
def test_no_key_fits(keys: DecryptionKeys, more: dict[str, str], message: str) -> None:
    with pytest.raises(NotTrusted) as caught:
        ocicrypt.unwrap(annotated(**more), keys, "layer 3")
    assert caught.value.message == message
    assert "--decryption-key" in caught.value.hint


@pytest.mark.parametrize("kind", ["pkcs7", "pgp", "provider.keeper", "pkcs11"])
def test_wraps_that_are_not_supported(kind: str) -> None:
    given = annotated("", **{f"org.opencontainers.image.enc.keys.{kind}": "AAAA"})
    with pytest.raises(NotTrusted, match=f"encrypted for a {kind} key, which pyrkt does not unwrap yet"):
        ocicrypt.unwrap(given, having(RSA))
    assert ocicrypt.recipients(given) == (kind,)


def test_several_recipients_are_counted() -> None:
    given = annotated(wrapped(PRIVATE, RSA, EC, form="both"))
    with pytest.raises(
        NotTrusted, match=r"for 2 recipients: RSA-OAEP \(2048 bits\), ECDH-ES\+A256KW \(P-256\); no pri"
    ):
        ocicrypt.unwrap(given, having())


def test_files_that_could_not_be_used_are_the_hint() -> None:
    with pytest.raises(NotTrusted) as caught:
        ocicrypt.unwrap(annotated(), having(problems=("/etc/x.pem: others may read this secret",)))
    assert "others may read this secret" in caught.value.hint


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        pytest.param({ocicrypt.PUBLIC_OPTIONS: b64(PUBLIC)}, "carries no wrapped key", id="nothing"),
        pytest.param(annotated(""), "carries no wrapped key", id="no-keys"),
        pytest.param(annotated("!"), "not base64", id="base64"),
        pytest.param(annotated(wrapped() + ","), "neither JSON nor", id="trailing-comma"),
        pytest.param(annotated(",".join([wrapped()] * 65)), "more than 64 wrapped keys", id="many"),
        pytest.param(annotated("A" * ((1 << 20) + 4)), "larger than 1 MiB", id="huge"),
        pytest.param({ocicrypt.JWE_KEYS: wrapped()}, "missing from an encrypted layer", id="no-public"),
        pytest.param(annotated(public=b"{"), "not JSON", id="public-json"),
        pytest.param(annotated(public=[]), "expected an object", id="public-array"),
        pytest.param(annotated(public=PUBLIC | {"cipher": "NONE"}), "'NONE' is none of", id="cipher"),
        pytest.param(annotated(public={"hmac": PUBLIC["hmac"]}), "cipher: is required", id="no-cipher"),
        pytest.param(annotated(public=PUBLIC | {"hmac": ""}), "0 bytes, not 32", id="no-hmac"),
        pytest.param(annotated(public=PUBLIC | {"hmac": None}), "hmac: expected a string", id="null-hmac"),
        pytest.param(annotated(public=PUBLIC | {"x": 1}), "x: unknown member", id="public-more"),
        pytest.param(annotated(public=PUBLIC | {"cipheroptions": {"iv": ""}}), "iv: unknown", id="option"),
        pytest.param(annotated(wrapped(PRIVATE | {"symkey": b64(bytes(16))})), "16 bytes, not 32", id="short-key"),
        pytest.param(annotated(wrapped(PRIVATE | {"digest": "x"})), "digest", id="digest"),
        pytest.param(annotated(wrapped(PRIVATE | {"digest": "md5:" + "0" * 32})), "md5", id="weak-digest"),
        pytest.param(annotated(wrapped(PRIVATE | {"more": 1})), "more: unknown member", id="private-more"),
        pytest.param(annotated(wrapped(PRIVATE | {"cipheroptions": {}})), "nonce of 0 bytes", id="no-nonce"),
        pytest.param(
            annotated(wrapped(PRIVATE | {"cipheroptions": {"nonce": b64(bytes(12))}})),
            "nonce of 12",
            id="short-nonce",
        ),
        pytest.param(annotated(wrapped(b"not json")), "not JSON", id="private-json"),
    ],
)
def test_malformed(given: dict[str, str], problem: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        ocicrypt.unwrap(given, having(RSA), "layer 3")
    assert problem in caught.value.message
    assert caught.value.message.startswith("layer 3")
    assert "\n" not in caught.value.message


def test_secrets_do_not_show() -> None:
    cipher = ocicrypt.unwrap(annotated(), having(RSA))
    assert SYMKEY.hex() not in repr(cipher)
    assert repr(SYMKEY)[2:-1] not in repr(cipher)
