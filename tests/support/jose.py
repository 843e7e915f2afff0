"""An encrypting side of JWE for tests: well-formed messages with any header, and malformed ones."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

Public = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
KEY_SIZES = {"A128GCM": 16, "A192GCM": 24, "A256GCM": 32, "A128CBC-HS256": 32, "A192CBC-HS384": 48, "A256CBC-HS512": 64}
CURVES = {"secp256r1": ("P-256", 32), "secp384r1": ("P-384", 48), "secp521r1": ("P-521", 66)}


def b64(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def encoded(value: Any) -> str:
    """Return a header as it stands in a message."""
    return b64(json.dumps(value).encode())


@dataclass
class Maker:
    """Makes one message for several recipients, each (algorithm, public key)."""

    recipients: list[tuple[str, Public]]
    enc: str = "A256GCM"
    header: dict[str, Any] = field(default_factory=dict)
    party: dict[str, str] = field(default_factory=dict)

    def wrap(self, algorithm: str, public: Public, key: bytes) -> tuple[dict[str, Any], bytes]:
        """Return (header, wrapped key); for ECDH-ES without wrap, the agreed key itself."""
        if isinstance(public, rsa.RSAPublicKey):
            digest = hashes.SHA256() if algorithm == "RSA-OAEP-256" else hashes.SHA1()
            return {"alg": algorithm}, public.encrypt(key, padding.OAEP(padding.MGF1(digest), digest, None))
        ephemeral = ec.generate_private_key(public.curve)
        numbers = ephemeral.public_key().public_numbers()
        curve, width = CURVES[public.curve.name]
        epk = {"kty": "EC", "crv": curve, "x": b64(numbers.x.to_bytes(width)), "y": b64(numbers.y.to_bytes(width))}
        size = int(algorithm[9:12]) // 8 if "+" in algorithm else KEY_SIZES[self.enc]
        name = algorithm if "+" in algorithm else self.enc
        parties = [base64.urlsafe_b64decode(self.party.get(p, "") + "==") for p in ("apu", "apv")]
        info = b"".join(len(part).to_bytes(4) + part for part in (name.encode(), *parties)) + (size * 8).to_bytes(4)
        agreed = ConcatKDFHash(hashes.SHA256(), size, info).derive(ephemeral.exchange(ec.ECDH(), public))
        header = {"alg": algorithm, "epk": epk, **self.party}
        return header, aes_key_wrap(agreed, key) if "+" in algorithm else agreed

    def seal(self, key: bytes, content: bytes, associated: bytes) -> tuple[bytes, bytes, bytes]:
        """Return (iv, ciphertext, tag)."""
        if self.enc.endswith("GCM"):
            iv = os.urandom(12)
            sealed = AESGCM(key).encrypt(iv, content, associated)
            return iv, sealed[:-16], sealed[-16:]
        iv, half = os.urandom(16), len(key) // 2
        padded = content + bytes((16 - len(content) % 16,)) * (16 - len(content) % 16)
        encryptor = Cipher(algorithms.AES(key[half:]), modes.CBC(iv)).encryptor()
        ciphertext = encryptor.update(padded) + encryptor.finalize()
        digest = {32: hashlib.sha256, 48: hashlib.sha384, 64: hashlib.sha512}[len(key)]
        covered = associated + iv + ciphertext + (len(associated) * 8).to_bytes(8)
        return iv, ciphertext, hmac.digest(key[:half], covered, digest)[:half]

    def make(self, content: bytes, form: str = "flattened", aad: str = "") -> dict[str, Any]:
        """Return the message: "flattened", "general", or "both" as go-jose writes it."""
        key = os.urandom(KEY_SIZES[self.enc])
        wrapped = [self.wrap(algorithm, public, key) for algorithm, public in self.recipients]
        if self.recipients[0][0] == "ECDH-ES":
            key, wrapped = wrapped[0][1], [(wrapped[0][0], b"")]
        own = form == "flattened"
        protected = encoded({"enc": self.enc, **self.header, **(wrapped[0][0] if own else {})})
        associated = f"{protected}.{aad}" if aad else protected
        iv, ciphertext, tag = self.seal(key, content, associated.encode())
        message = {"protected": protected, "iv": b64(iv), "ciphertext": b64(ciphertext), "tag": b64(tag)}
        if aad:
            message["aad"] = aad
        if form != "general":
            message["encrypted_key"] = b64(wrapped[0][1])
        if not own:
            rows = [{"header": header, "encrypted_key": b64(sealed)} for header, sealed in wrapped]
            return {**message, "recipients": rows}
        return message


def compact(message: dict[str, Any]) -> bytes:
    """Return a flattened message in the five-part form."""
    return ".".join(message[name] for name in ("protected", "encrypted_key", "iv", "ciphertext", "tag")).encode()
