"""Encrypted OCI layers, as ocicrypt writes them (skopeo, buildah, containerd's imgcrypt).

A layer is AES-256-CTR with HMAC-SHA256 over the ciphertext; its annotations carry the key, wrapped for each
recipient, and what is public. That proves the layer to whoever holds the key, not who made it: only a signature does.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from pyrkt.base import fastjson
from pyrkt.base.errors import ImageRefused, InvalidSpec, NotTrusted, printable
from pyrkt.base.reader import Reader
from pyrkt.spec.digest import Digest, parse_digest
from pyrkt.trust import jwe

if TYPE_CHECKING:
    from pyrkt.spec.image import Descriptor
    from pyrkt.trust.keys import DecryptionKeys

SUFFIX = "+encrypted"
PREFIX = "org.opencontainers.image.enc."
_KEYS = f"{PREFIX}keys."
JWE_KEYS, PUBLIC_OPTIONS = f"{_KEYS}jwe", f"{PREFIX}pubopts"
MAX_ANNOTATION = 1 << 20
_CIPHER = "AES_256_CTR_HMAC_SHA256"
_RULE = "ocicrypt"


def is_encrypted(media_type: str) -> bool:
    """Tell whether a layer of ``media_type`` is encrypted."""
    return media_type.endswith(SUFFIX)


class LayerCipher:
    """The opened key of one layer: first ``authenticate`` all of the ciphertext, then ``decrypt`` the same bytes."""

    __slots__ = ("_authentic", "_hmac", "_key", "_nonce", "document", "plain_digest")

    def __init__(self, key: bytes, nonce: bytes, mac: bytes, plain_digest: Digest, document: str) -> None:
        """Take the 32-byte key, the 16-byte first counter block and the 32-byte HMAC of the ciphertext."""
        self._key, self._nonce, self._hmac = key, nonce, mac
        self._authentic = False
        self.plain_digest, self.document = plain_digest, document

    def authenticate(self, chunks: Iterable[bytes]) -> None:
        """Check the HMAC over the whole ciphertext. Raises: ImageRefused if it was changed."""
        mac = hmac.new(self._key, digestmod=sha256)  # ocicrypt uses one key for both
        for chunk in chunks:
            mac.update(chunk)
        if not hmac.compare_digest(mac.digest(), self._hmac):
            raise ImageRefused(f"{self.document}: the encrypted layer was changed: its HMAC does not match")
        self._authentic = True

    def decrypt(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the plaintext of ``chunks``, which ``authenticate`` has seen before."""
        if not self._authentic:
            raise RuntimeError("decrypt before authenticate")
        return self._plaintext(chunks)

    def _plaintext(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        decryptor = Cipher(algorithms.AES(self._key), modes.CTR(self._nonce)).decryptor()
        for chunk in chunks:
            yield decryptor.update(chunk)

    def check_plain(self, found: Collection[str]) -> None:
        """Check the digest that was encrypted with the key against what came out.

        ``found`` are the digests of the decrypted bytes and of the tar inside: which one ocicrypt recorded depends on
        whether the maker compressed while it encrypted. Raises: ImageRefused if it is neither.
        """
        if self.plain_digest not in found:
            raise ImageRefused(f"{self.document}: decrypts to other content than its maker encrypted")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Public:
    """What stands in the open beside the wrapped key."""

    mac: bytes
    nonce: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Private:
    """What was wrapped."""

    key: bytes = field(repr=False)
    digest: Digest
    nonce: bytes


def unwrap(annotations: Mapping[str, str], keys: DecryptionKeys, document: str = "layer") -> LayerCipher:
    """Return the cipher of the layer with ``annotations``, its key opened by one of ``keys``.

    Raises: NotTrusted naming the recipients if no key fits; InvalidSpec if the annotations are malformed.
    """
    messages = _messages(annotations, document)
    public = _public_options(annotations, document)
    private = _private_options(_open(messages, annotations, keys, document), f"{document}: wrapped options")
    nonce = public.nonce or private.nonce  # as ocicrypt: the public one wins
    if len(nonce) != 16:
        raise InvalidSpec(f"nonce of {len(nonce)} bytes, not 16", document=document, rule=_RULE)
    return LayerCipher(private.key, nonce, public.mac, private.digest, document)


def cipher_of(layer: Descriptor, keys: DecryptionKeys) -> LayerCipher | None:
    """Return the cipher of ``layer``, None if it is not encrypted. Raises: as ``unwrap``.

    A layer that carries wrapped keys under a plain media type had its content exchanged: who decrypts takes both away.
    """
    document = f"layer {layer.digest}"
    if is_encrypted(layer.media_type):
        return unwrap(layer.annotations, keys, document)
    if any(name.startswith(_KEYS) for name in layer.annotations):
        raise InvalidSpec(
            f"carries wrapped keys, but {layer.media_type!r} is the type of a plain layer",
            document=document,
            rule=_RULE,
        )
    return None


def recipients(annotations: Mapping[str, str], document: str = "layer") -> tuple[str, ...]:
    """Return for whom the layer is encrypted, a line each: "RSA-OAEP (2048 bits)", "pkcs7"."""
    wrapped = [str(recipient) for message in _messages(annotations, document) for recipient in message.recipients]
    return (*wrapped, *_other_kinds(annotations))


def _other_kinds(annotations: Mapping[str, str]) -> tuple[str, ...]:
    names = sorted(name for name in annotations if name.startswith(_KEYS) and name != JWE_KEYS)
    return tuple(printable(name.removeprefix(_KEYS)) for name in names)


def _messages(annotations: Mapping[str, str], document: str) -> list[jwe.Message]:
    text = annotations.get(JWE_KEYS, "")
    if len(text) > MAX_ANNOTATION:
        raise InvalidSpec(f"larger than {MAX_ANNOTATION >> 20} MiB", document=document, where=JWE_KEYS)
    blobs = text.split(",") if text else []
    if len(blobs) > jwe.MAX_RECIPIENTS:
        raise InvalidSpec(f"more than {jwe.MAX_RECIPIENTS} wrapped keys", document=document, where=JWE_KEYS)
    return [jwe.parse(_base64(blob, document, JWE_KEYS), f"{document}: {JWE_KEYS}") for blob in blobs]


def _open(messages: list[jwe.Message], annotations: Mapping[str, str], keys: DecryptionKeys, document: str) -> bytes:
    for message in messages:
        try:
            return jwe.decrypt(message, keys.private)
        except jwe.NoKeyFits:
            continue
    kinds = [str(recipient) for message in messages for recipient in message.recipients]
    others = _other_kinds(annotations)
    if not kinds and not others:
        raise InvalidSpec("encrypted, but it carries no wrapped key", document=document, rule=_RULE)
    raise NotTrusted(f"{document}: {_who(kinds, others)}; {_what_was_tried(keys)}", hint=_advice(kinds, keys))


def _who(kinds: list[str], others: tuple[str, ...]) -> str:
    foreign = f"a {' or '.join(others)} key, which pyrkt does not unwrap yet" if others else ""
    if not kinds:
        return f"encrypted for {foreign}"
    shown = ", ".join(kinds[:8]) + (f" and {len(kinds) - 8} more" if len(kinds) > 8 else "")
    text = f"encrypted for {len(kinds)} recipient{'s' if len(kinds) > 1 else ''}: {shown}"
    return f"{text}; also for {foreign}" if foreign else text


def _what_was_tried(keys: DecryptionKeys) -> str:
    if not keys.private:
        return "no private key was given"
    kinds = ", ".join(dict.fromkeys(key.kind for key in keys.private))
    return (
        f"none of {len(keys.private)} private keys fits ({kinds})"
        if len(keys.private) > 1
        else (f"the private key given does not fit ({kinds})")
    )


def _advice(kinds: list[str], keys: DecryptionKeys) -> str:
    if keys.problems:
        return f"not usable: {keys.problems[0]}"
    return "give the private key of a recipient: --decryption-key KEYFILE" if kinds else ""


def _public_options(annotations: Mapping[str, str], document: str) -> _Public:
    where = PUBLIC_OPTIONS
    text = annotations.get(where, "")
    if not text:
        raise InvalidSpec("missing from an encrypted layer", document=document, where=where, rule=_RULE)
    r = _options(_base64(text, document, where), f"{document}: {where}", ("cipher", "hmac", "cipheroptions"))
    r["cipher"].choice((_CIPHER,))
    mac = _bytes(r["hmac"])
    if len(mac) != 32:
        raise r["hmac"].fail(f"{len(mac)} bytes, not 32")
    return _Public(mac=mac, nonce=_nonce(r))


def _private_options(data: bytes, document: str) -> _Private:
    r = _options(data, document, ("symkey", "digest", "cipheroptions"))
    key = _bytes(r["symkey"])
    if len(key) != 32:
        raise r["symkey"].fail(f"{len(key)} bytes, not 32")
    return _Private(key=key, digest=parse_digest(r["digest"].text(), document), nonce=_nonce(r))


def _options(data: bytes, document: str, allowed: tuple[str, ...]) -> Reader:
    r = Reader(fastjson.loads(data, document), document, rule=_RULE)
    for name, value in r.members():
        if name not in allowed:
            raise value.fail("unknown member")
    return r


def _nonce(r: Reader) -> bytes:
    options = r["cipheroptions"]
    for name, value in options.members():
        if name != "nonce":
            raise value.fail("unknown member")
    return _bytes(options["nonce"]) if options["nonce"].present else b""


def _bytes(r: Reader) -> bytes:
    try:
        return base64.b64decode(r.text(), validate=True)
    except (binascii.Error, ValueError):
        raise r.fail("not base64") from None


def _base64(text: str, document: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidSpec("not base64", document=document, where=where, rule=_RULE) from None
