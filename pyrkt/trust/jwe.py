"""JSON Web Encryption (RFC 7516), as far as encrypted layers use it: RSA-OAEP and ECDH-ES wraps, AES content.

Only what is listed here is accepted. Password-based wraps, "dir", RSA1_5, compression and critical extensions are
refused by name: each has been the hole of some JOSE library (CVE-2016-9121, CVE-2024-28180 and their kin).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256, sha384, sha512

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap
from cryptography.hazmat.primitives.padding import PKCS7

from pyrkt.base import fastjson
from pyrkt.base.errors import InvalidSpec, printable
from pyrkt.base.reader import Reader
from pyrkt.trust.keys import PrivateKey, curve_name

MAX_SIZE = 256 << 10
MAX_RECIPIENTS = 64
MAX_PARTY_INFO = 1024
_RULE = "RFC 7516"
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")

_OAEP = {"RSA-OAEP": hashes.SHA1, "RSA-OAEP-256": hashes.SHA256}
_AGREEMENT = {"ECDH-ES": 0, "ECDH-ES+A128KW": 16, "ECDH-ES+A192KW": 24, "ECDH-ES+A256KW": 32}
"""Key agreements, and the bytes of the key that unwraps the content key (0: the agreed key *is* the content key)."""
_CONTENT = {
    "A128GCM": 16,
    "A192GCM": 24,
    "A256GCM": 32,
    "A128CBC-HS256": 32,
    "A192CBC-HS384": 48,
    "A256CBC-HS512": 64,
}
"""Content encryptions and the bytes of their key (of CBC: MAC and cipher key together)."""
_CURVES: dict[str, type[ec.EllipticCurve]] = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1}
_DIGESTS = {32: sha256, 48: sha384, 64: sha512}


class NoKeyFits(Exception):
    """None of the keys at hand opens the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """One wrapped content key: the joined header, the wrapped bytes, and the sender's one-time key for ECDH."""

    algorithm: str
    key_id: str
    encrypted_key: bytes
    ephemeral: ec.EllipticCurvePublicKey | None = None
    party_u: bytes = b""
    party_v: bytes = b""

    def __str__(self) -> str:
        """Return how people are told for whom the message is: "ECDH-ES+A256KW (P-256, key id x)"."""
        about = [curve_name(self.ephemeral) if self.ephemeral else f"{len(self.encrypted_key) * 8} bits"]
        if self.key_id:
            about.append(f"key id {printable(self.key_id[:80])}")
        return f"{self.algorithm} ({', '.join(about)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message that was taken apart; nothing of it is proven before ``decrypt``."""

    encryption: str
    recipients: tuple[Recipient, ...]
    iv: bytes
    ciphertext: bytes
    tag: bytes
    associated: bytes = field(repr=False)


def parse(blob: bytes, document: str = "JWE") -> Message:
    """Return the message in ``blob``: general, flattened or compact serialisation (RFC 7516, section 7).

    Raises: InvalidSpec, also for every algorithm and header that is not supported.
    """
    if len(blob) > MAX_SIZE:
        raise InvalidSpec(f"larger than {MAX_SIZE >> 10} KiB", document=document)
    if blob[:1] in (b"{", b" ", b"\t", b"\r", b"\n"):
        return _message(Reader(fastjson.loads(blob, document), document, rule=_RULE))
    parts = blob.split(b".")
    if len(parts) != 5 or not blob.isascii():
        raise InvalidSpec("neither JSON nor five parts with dots between", document=document, rule=_RULE)
    names = ("protected", "encrypted_key", "iv", "ciphertext", "tag")
    return _message(
        Reader({name: part.decode() for name, part in zip(names, parts, strict=True)}, document, rule=_RULE)
    )


def decrypt(message: Message, keys: Sequence[PrivateKey]) -> bytes:
    """Return the content, opened by the first of ``keys`` that fits any recipient. Raises: NoKeyFits."""
    for recipient in message.recipients:
        for key in keys:
            content_key = _unwrap(recipient, message.encryption, key.key)
            # A key that fits by accident (ECDH-ES has no check of its own) fails at the tag.
            if content_key and (content := _open(message, content_key)) is not None:
                return content
    raise NoKeyFits


def _message(r: Reader) -> Message:
    protected_text = r["protected"].text("")
    protected = _protected(r["protected"], protected_text)
    shared = _header(r["unprotected"])
    rows = r["recipients"].items()
    # go-jose writes both a list and, of its first element, the flattened form: the list has all of them.
    rows = rows or [r]
    if len(rows) > MAX_RECIPIENTS:
        raise r["recipients"].fail(f"more than {MAX_RECIPIENTS} recipients")
    encryptions: set[str] = set()
    recipients: list[Recipient] = []
    for row in rows:
        header = _joined(row, protected, shared, _header(row["header"]))
        encryptions.add(header["enc"].choice(tuple(_CONTENT)))
        recipients.append(_recipient(header, _binary(row["encrypted_key"], optional=True)))
    if len(encryptions) != 1:
        raise r.fail("recipients differ in enc")
    associated = protected_text
    if r["aad"].present:
        _binary(r["aad"])
        associated += "." + r["aad"].text()
    return Message(
        encryption=encryptions.pop(),
        recipients=tuple(recipients),
        iv=_binary(r["iv"]),
        ciphertext=_binary(r["ciphertext"]),
        tag=_binary(r["tag"]),
        associated=associated.encode("ascii"),
    )


def _protected(r: Reader, text: str) -> Reader:
    if not text:
        return Reader({}, r.document, r.where, r.rule)
    return _header(Reader(fastjson.loads(_binary(r), f"{r.document}: protected header"), r.document, r.where, r.rule))


def _header(r: Reader) -> Reader:
    r.members()  # refuses what is no object
    return r if r.present else Reader({}, r.document, r.where, r.rule)


def _joined(row: Reader, *headers: Reader) -> Reader:
    """Return the union of the headers; a name in two of them could be read in two ways (RFC 7516, section 4)."""
    joined: dict[str, object] = {}
    for header in headers:
        for name, value in header.members():
            if name in joined:
                raise value.fail("stands in two headers")
            joined[name] = value.value
    for forbidden in ("crit", "zip", "p2c", "p2s"):
        if forbidden in joined:
            raise row.fail(f"header {forbidden} is not accepted")
    return Reader(joined, row.document, f"{row.where}.header" if row.where else "header", row.rule)


def _recipient(header: Reader, encrypted_key: bytes) -> Recipient:
    algorithm = header["alg"].choice((*_OAEP, *_AGREEMENT))
    key_id = header["kid"].text("")
    if algorithm in _OAEP:
        return Recipient(algorithm=algorithm, key_id=key_id, encrypted_key=encrypted_key)
    if algorithm == "ECDH-ES" and encrypted_key:
        raise header.fail("ECDH-ES carries no encrypted key")
    return Recipient(
        algorithm=algorithm,
        key_id=key_id,
        encrypted_key=encrypted_key,
        ephemeral=_public_key(header["epk"]),
        party_u=_binary(header["apu"], optional=True, limit=MAX_PARTY_INFO),
        party_v=_binary(header["apv"], optional=True, limit=MAX_PARTY_INFO),
    )


def _public_key(r: Reader) -> ec.EllipticCurvePublicKey:
    r["kty"].choice(("EC",))
    curve = _CURVES[r["crv"].choice(tuple(_CURVES))]()
    x, y = (int.from_bytes(_binary(r[name], limit=66), "big") for name in ("x", "y"))
    try:
        # The library refuses a point that is not on the curve; without that check it would leak our key bit by bit.
        return ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
    except ValueError:
        raise r.fail(f"no point of curve {r['crv'].text()}") from None


def _binary(r: Reader, *, optional: bool = False, limit: int = MAX_SIZE) -> bytes:
    text = r.text("") if optional else r.text()
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise r.fail("not base64url")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise r.fail("not base64url") from None
    if len(data) > limit:
        raise r.fail(f"longer than {limit} bytes")
    return data


def _unwrap(recipient: Recipient, encryption: str, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """Return the content key, or b"" if ``key`` does not fit this recipient."""
    if isinstance(key, rsa.RSAPrivateKey):
        content_key = _unwrap_rsa(recipient, key)
    else:
        content_key = _unwrap_agreed(recipient, encryption, key)
    return content_key if len(content_key) == _CONTENT[encryption] else b""


def _unwrap_rsa(recipient: Recipient, key: rsa.RSAPrivateKey) -> bytes:
    if recipient.algorithm not in _OAEP or len(recipient.encrypted_key) * 8 != (key.key_size + 7) // 8 * 8:
        return b""
    digest = _OAEP[recipient.algorithm]
    try:
        return key.decrypt(
            recipient.encrypted_key, padding.OAEP(mgf=padding.MGF1(digest()), algorithm=digest(), label=None)
        )
    except ValueError:
        return b""


def _unwrap_agreed(recipient: Recipient, encryption: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    ephemeral = recipient.ephemeral
    if ephemeral is None or ephemeral.curve.name != key.curve.name:
        return b""
    size = _AGREEMENT[recipient.algorithm]
    secret = key.exchange(ec.ECDH(), ephemeral)
    # RFC 7518, section 4.6.2: of a direct agreement the name is that of the content encryption.
    name = recipient.algorithm if size else encryption
    parts = (name.encode(), recipient.party_u, recipient.party_v)
    info = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    length = size or _CONTENT[encryption]
    agreed = ConcatKDFHash(hashes.SHA256(), length, info + (length * 8).to_bytes(4, "big")).derive(secret)
    if not size:
        return agreed
    try:
        return aes_key_unwrap(agreed, recipient.encrypted_key)
    except (InvalidUnwrap, ValueError):
        return b""


def _open(message: Message, key: bytes) -> bytes | None:
    """Return the content, or None where the tag does not prove it."""
    if message.encryption.endswith("GCM"):
        if len(message.iv) != 12 or len(message.tag) != 16:
            return None
        try:
            return AESGCM(key).decrypt(message.iv, message.ciphertext + message.tag, message.associated)
        except InvalidTag:
            return None
    return _open_cbc(message, key)


def _open_cbc(message: Message, key: bytes) -> bytes | None:
    """AES-CBC, then HMAC over header, IV, ciphertext and the header's length in bits (RFC 7518, section 5.2.2)."""
    half = len(key) // 2
    bits = (len(message.associated) * 8).to_bytes(8, "big")
    covered = message.associated + message.iv + message.ciphertext + bits
    expected = hmac.digest(key[:half], covered, _DIGESTS[len(key)])[:half]
    if not hmac.compare_digest(expected, message.tag) or len(message.iv) != 16:
        return None
    try:
        decryptor = Cipher(algorithms.AES(key[half:]), modes.CBC(message.iv)).decryptor()
        padded = decryptor.update(message.ciphertext) + decryptor.finalize()
        unpadder = PKCS7(128).unpadder()
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError:
        return None
