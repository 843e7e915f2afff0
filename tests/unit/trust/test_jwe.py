"""JWE: every accepted algorithm and form, and the hostile messages that broke others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.base.errors import InvalidSpec
from pyrkt.trust import jwe
from pyrkt.trust.keys import PrivateKey
from tests.support.jose import KEY_SIZES, Maker, Public, b64, compact, encoded

if TYPE_CHECKING:
    from tests.support.keys import Key

RSA, RSA_2, RSA_3072 = (rsa.generate_private_key(65537, bits) for bits in (2048, 2048, 3072))
P256, P256_2 = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
P384, P521 = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP521R1())
K256 = ec.generate_private_key(ec.SECP256K1())
SECRET = b'{"symkey":"..."}'
AGREEMENTS = ("ECDH-ES", "ECDH-ES+A128KW", "ECDH-ES+A192KW", "ECDH-ES+A256KW")
WRAPS: list[tuple[str, Key]] = [
    ("RSA-OAEP", RSA),
    ("RSA-OAEP-256", RSA),
    ("RSA-OAEP", RSA_3072),
    *((algorithm, key) for algorithm in AGREEMENTS for key in (P256, P384, P521)),
]


def opened(message: Any, *keys: Key) -> bytes:
    blob = message if isinstance(message, bytes) else json.dumps(message).encode()
    return jwe.decrypt(jwe.parse(blob), [PrivateKey(key=key, source="test") for key in keys])


def made(algorithm: str = "RSA-OAEP", key: Key = RSA, **options: Any) -> dict[str, Any]:
    return Maker([(algorithm, key.public_key())], **options).make(SECRET)


@pytest.mark.parametrize(("algorithm", "key"), WRAPS)
@pytest.mark.parametrize("enc", KEY_SIZES)
def test_every_wrap_with_every_content_encryption(algorithm: str, key: Key, enc: str) -> None:
    message = made(algorithm, key, enc=enc)
    assert opened(message, key) == SECRET
    assert opened(compact(message), key) == SECRET


@pytest.mark.parametrize("form", ["flattened", "general", "both"])
def test_forms(form: str) -> None:
    message = Maker([("RSA-OAEP", RSA.public_key())]).make(SECRET, form)
    assert opened(message, P256, RSA_2, RSA) == SECRET


@pytest.mark.parametrize("form", ["general", "both"])
@pytest.mark.parametrize("key", [RSA, P256, P521])
def test_any_of_several_recipients(form: str, key: Key) -> None:
    recipients: list[tuple[str, Public]] = [("RSA-OAEP", RSA.public_key()), ("ECDH-ES+A256KW", P256.public_key())]
    message = Maker([*recipients, ("ECDH-ES+A128KW", P521.public_key())]).make(SECRET, form)
    assert opened(message, key) == SECRET
    with pytest.raises(jwe.NoKeyFits):
        opened(message, RSA_2, P256_2)


def test_party_information_and_associated_data() -> None:
    maker = Maker([("ECDH-ES+A256KW", P256.public_key())], party={"apu": b64(b"Alice"), "apv": b64(b"Bob")})
    assert opened(maker.make(SECRET, aad=b64(b"more")), P256) == SECRET
    message = maker.make(SECRET, aad=b64(b"more"))
    with pytest.raises(jwe.NoKeyFits):
        opened(message | {"aad": b64(b"less")}, P256)


@pytest.mark.parametrize(("algorithm", "key"), WRAPS)
def test_other_keys_do_not_fit(algorithm: str, key: Key) -> None:
    message = made(algorithm, key)
    strangers = [other for other in (RSA, RSA_2, RSA_3072, P256, P256_2, P384, P521, K256) if other is not key]
    with pytest.raises(jwe.NoKeyFits):
        opened(message, *strangers)
    assert opened(message, *strangers, key) == SECRET


@pytest.mark.parametrize("enc", KEY_SIZES)
@pytest.mark.parametrize("part", ["iv", "ciphertext", "tag", "encrypted_key"])
def test_a_flipped_bit_anywhere(enc: str, part: str) -> None:
    message = made("ECDH-ES+A256KW", P256, enc=enc)
    text = message[part]
    message[part] = ("B" if text[0] != "B" else "C") + text[1:]
    with pytest.raises(jwe.NoKeyFits):
        opened(message, P256)


@pytest.mark.parametrize("enc", ["A256GCM", "A256CBC-HS512"])
@pytest.mark.parametrize("part", ["iv", "tag", "ciphertext"])
@pytest.mark.parametrize("value", ["", b64(b"x"), b64(bytes(8))])
def test_short_parts(enc: str, part: str, value: str) -> None:
    with pytest.raises(jwe.NoKeyFits):
        opened(made(enc=enc) | {part: value}, RSA)


def test_the_protected_header_is_protected() -> None:
    message = made()
    header = {"enc": "A256GCM", "alg": "RSA-OAEP", "kid": "x"}
    with pytest.raises(jwe.NoKeyFits):
        opened(message | {"protected": encoded(header)}, RSA)


EPK = {"kty": "EC", "crv": "P-256", "x": b64(bytes(31) + b"\x01"), "y": b64(bytes(31) + b"\x01")}


def with_header(**header: Any) -> dict[str, Any]:
    return {"protected": encoded(header), "encrypted_key": "AA", "iv": "AA", "ciphertext": "AA", "tag": "AA"}


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        pytest.param(with_header(alg="none", enc="A256GCM"), "'none' is none of", id="alg-none"),
        pytest.param(with_header(alg="dir", enc="A256GCM"), "'dir' is none of", id="dir"),
        pytest.param(with_header(alg="RSA1_5", enc="A256GCM"), "'RSA1_5' is none of", id="rsa1_5"),
        pytest.param(with_header(alg="A256KW", enc="A256GCM"), "'A256KW' is none of", id="a256kw"),
        pytest.param(with_header(alg="PBES2-HS256+A128KW", enc="A256GCM", p2c=10**9), "p2c is not", id="pbes2"),
        pytest.param(with_header(alg="PBES2-HS512+A256KW", enc="A256GCM"), "is none of", id="pbes2-bare"),
        pytest.param(with_header(alg="RSA-OAEP", enc="none"), "'none' is none of", id="enc-none"),
        pytest.param(with_header(alg="RSA-OAEP", enc="A256CTR"), "'A256CTR' is none of", id="enc-ctr"),
        pytest.param(with_header(alg="RSA-OAEP"), "enc: is required", id="no-enc"),
        pytest.param(with_header(enc="A256GCM"), "alg: is required", id="no-alg"),
        pytest.param(with_header(alg=["RSA-OAEP"], enc="A256GCM"), "expected a string", id="alg-array"),
        pytest.param(with_header(alg="RSA-OAEP", enc="A256GCM", zip="DEF"), "zip is not accepted", id="zip"),
        pytest.param(with_header(alg="RSA-OAEP", enc="A256GCM", crit=["x"]), "crit is not accepted", id="crit"),
        pytest.param(made() | {"unprotected": {"crit": []}}, "crit is not accepted", id="crit-unprotected"),
        pytest.param(made() | {"header": {"zip": "DEF"}}, "zip is not accepted", id="zip-unprotected"),
        pytest.param(made() | {"header": {"alg": "RSA-OAEP"}}, "stands in two headers", id="alg-twice"),
        pytest.param(made() | {"header": []}, "expected an object", id="header-array"),
        pytest.param(made() | {"protected": encoded([])}, "expected an object", id="protected-array"),
        pytest.param(made() | {"protected": b64(b'{"enc":"A256GCM","enc":"A256GCM"}')}, "duplicate", id="duplicate"),
        pytest.param(made() | {"recipients": [{}] * 65}, "more than 64", id="recipients"),
        pytest.param(made() | {"recipients": [1]}, "expected an object", id="recipient-number"),
        pytest.param(made() | {"iv": "A"}, "not base64url", id="base64-length"),
        pytest.param(made() | {"iv": "AA=="}, "not base64url", id="base64-padding"),
        pytest.param(made() | {"tag": "A+/A"}, "not base64url", id="base64-plain"),
        pytest.param(made() | {"aad": "\n"}, "not base64url", id="aad"),
        pytest.param({"protected": encoded({"alg": "RSA-OAEP", "enc": "A256GCM"})}, "iv: is required", id="nothing"),
        pytest.param(
            with_header(alg="ECDH-ES+A256KW", enc="A256GCM", epk=EPK), "no point of curve P-256", id="invalid-curve"
        ),
        pytest.param(
            with_header(alg="ECDH-ES", enc="A256GCM", epk=EPK | {"x": "", "y": ""}),
            "encrypted key",
            id="direct-with-key",
        ),
        pytest.param(
            with_header(alg="ECDH-ES+A256KW", enc="A256GCM", epk=EPK | {"x": "", "y": ""}), "no point", id="zero"
        ),
        pytest.param(
            with_header(alg="ECDH-ES+A256KW", enc="A256GCM", epk=EPK | {"x": b64(b"\xff" * 66)}), "no point", id="range"
        ),
        pytest.param(
            with_header(alg="ECDH-ES+A256KW", enc="A256GCM", epk=EPK | {"x": b64(bytes(67))}),
            "longer than 66",
            id="long",
        ),
        pytest.param(
            with_header(alg="ECDH-ES+A256KW", enc="A256GCM", epk=EPK | {"crv": "P-192"}), "'P-192' is none", id="curve"
        ),
        pytest.param(
            with_header(alg="ECDH-ES+A256KW", enc="A256GCM", epk={"kty": "OKP"}), "'OKP' is none of", id="okp"
        ),
        pytest.param(with_header(alg="ECDH-ES+A256KW", enc="A256GCM"), "epk.kty: is required", id="no-epk"),
        pytest.param(
            Maker([("ECDH-ES", P256.public_key())], party={"apu": "A" * 2000}).make(SECRET),
            "longer than 1024",
            id="apu",
        ),
        pytest.param(b"", "neither JSON nor five parts", id="empty"),
        pytest.param(b"a.b.c.d", "neither JSON nor five parts", id="four-parts"),
        pytest.param(b"....", "is required", id="only-dots"),
        pytest.param(b"{", "not JSON", id="half"),
        pytest.param(b"{" * 1000, "nested more than", id="deep"),
        pytest.param(b"{" + b" " * (256 << 10) + b"}", "larger than 256 KiB", id="huge"),
    ],
)
def test_refused(message: Any, problem: str) -> None:
    blob = message if isinstance(message, bytes) else json.dumps(message).encode()
    with pytest.raises(InvalidSpec) as caught:
        jwe.parse(blob)
    assert problem in caught.value.message
    assert "\n" not in caught.value.message


def test_recipients_that_differ_in_enc() -> None:
    rows = [{"header": {"alg": "RSA-OAEP", "enc": enc}, "encrypted_key": "AA"} for enc in ("A256GCM", "A128GCM")]
    with pytest.raises(InvalidSpec, match="differ in enc"):
        jwe.parse(json.dumps({"recipients": rows, "iv": "AA", "ciphertext": "AA", "tag": "AA"}).encode())


def test_a_content_key_of_the_wrong_length_is_not_used() -> None:
    class Short(Maker):
        def wrap(self, algorithm: str, public: Any, key: bytes) -> tuple[dict[str, Any], bytes]:
            return super().wrap(algorithm, public, key[:16])

    with pytest.raises(jwe.NoKeyFits):
        opened(Short([("RSA-OAEP", RSA.public_key())]).make(SECRET), RSA)


def test_recipients_are_told_to_people() -> None:
    recipients: list[tuple[str, Public]] = [("RSA-OAEP", RSA.public_key()), ("ECDH-ES+A256KW", P384.public_key())]
    blob = Maker(recipients, header={"kid": "release\x1b[31m"}).make(SECRET, "general")
    told = [str(recipient) for recipient in jwe.parse(json.dumps(blob).encode()).recipients]
    assert told == [
        "RSA-OAEP (2048 bits, key id release\\x1b[31m)",
        "ECDH-ES+A256KW (P-384, key id release\\x1b[31m)",
    ]


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda v: st.lists(v, max_size=3))
NAMES = st.sampled_from(
    ["protected", "unprotected", "recipients", "header", "encrypted_key", "iv", "ciphertext", "tag"]
)


@given(st.dictionaries(NAMES, JSON | st.dictionaries(st.sampled_from(["alg", "enc", "epk"]), JSON)))
def test_any_json_is_read_or_refused(value: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec):
        jwe.parse(json.dumps(value).encode())
