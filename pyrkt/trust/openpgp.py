"""OpenPGP signatures: which trusted key made one, or precisely why none did.

pysequoia does the cryptography. Four decisions are taken here, because it decides otherwise or not at all:
keys and subkeys are judged *now*, not at the time of the signature (whoever holds an expired or revoked key can
date a signature as he likes); every signature of a file is tried, not only the first; only signatures over binary
documents count (a "text" signature leaves line ends open); and nothing is unpacked without a bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import pysequoia
from pysequoia.packet import HashAlgorithm, PacketPile, SignatureType
from pysequoia.packet import Tag as PileTag

from pyrkt.base.errors import NotTrusted, UsageError, printable
from pyrkt.store.index import Signer
from pyrkt.trust import packets
from pyrkt.trust.packets import Malformed, Packet, Tag

if TYPE_CHECKING:
    from pysequoia import Cert, Sig
    from pysequoia.packet import Packet as LibraryPacket

MAX_SIGNATURE = 1 << 20
MAX_SIGNATURES = 64
MAX_KEY = 1 << 20
MAX_TRIES = 8
"""Each try of a signature hashes the whole file; forged ones that name a trusted key must not cost 64 times that."""
_CLOCKS_DIFFER = timedelta(seconds=60)
_WEAK = ((HashAlgorithm.MD5, "MD5"), (HashAlgorithm.SHA1, "SHA-1"), (HashAlgorithm.RipeMD, "RIPEMD-160"))

Data = bytes | PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A primary key or subkey: when it ends, and whether its owner withdrew it."""

    fingerprint: str
    key_id: str
    expires: datetime | None
    revoked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    """A trusted certificate, and what of it may be named as the maker of a signature."""

    cert: Cert
    parts: tuple[_Part, ...]

    def part(self, names: tuple[str, ...]) -> _Part | None:
        """Return the key that one of ``names`` (fingerprint or key id) means."""
        return next((part for part in self.parts if part.fingerprint in names or part.key_id in names), None)


def verify_detached(data: Data, signature: bytes, keys: Sequence[bytes], *, document: str = "signature") -> Signer:
    """Return who of ``keys`` signed ``data`` (bytes, or the path of a file) by the detached ``signature``.

    ``signature`` is armoured or binary and may hold several signatures; one valid one suffices. ``keys`` are
    certificates, armoured or binary. ``document`` is what errors call the signature.
    Raises: NotTrusted with the reason of each signature that did not count.
    """
    return _judge(data, _detached(signature, document), _load(keys), document)


def verify_message(blob: bytes, keys: Sequence[bytes], *, document: str = "signature") -> tuple[bytes, Signer]:
    """Return (content, signer) of a signed OpenPGP message, as ``gpg --sign`` and simple signing write it.

    Raises: NotTrusted, also where the message is anything but one document and signatures over it.
    """
    if len(blob) > MAX_SIGNATURE:
        raise NotTrusted(f"{document}: larger than {MAX_SIGNATURE >> 20} MiB")
    try:
        content, signatures = _message(blob)
    except Malformed as error:
        raise NotTrusted(f"{document}: {error.message}") from None
    return content, _judge(content, signatures, _load(keys), document)


def fingerprint(key: bytes) -> str:
    """Return the fingerprint (40 or 64 lowercase hex digits) of the one certificate in ``key``.

    Raises: UsageError if it is no certificate, or several.
    """
    return one_certificate(key).fingerprint


def one_certificate(key: bytes) -> Cert:
    """Return the certificate that ``key`` (armoured or binary) holds, and nothing else. Raises: UsageError."""
    certs = certificates(key)
    if len(certs) != 1:
        raise UsageError(
            f"expected one OpenPGP public key, found {len(certs)}",
            hint="gpg --armor --export FINGERPRINT writes one key",
        )
    return certs[0]


def certificates(key: bytes) -> list[Cert]:
    """Return the certificates in a key file or keyring. Raises: UsageError if there is none, or a private one."""
    if len(key) > MAX_KEY:
        raise UsageError(f"OpenPGP key larger than {MAX_KEY >> 20} MiB")
    try:
        found = _public_packets(key)
        certs = list(pysequoia.Cert.split_bytes(found)) if found else []
        for cert in certs:
            bytes(cert)  # some that the library can read it cannot write, and they are looked into by their packets
    except Malformed as error:
        raise UsageError(f"not an OpenPGP public key: {error.message}") from None
    except RuntimeError as error:
        raise UsageError(f"not an OpenPGP public key: {first_line(error)}") from None
    if not certs:
        raise UsageError("not an OpenPGP public key")
    return certs


def _public_packets(key: bytes) -> bytes:
    blocks = packets.dearmour(key) if packets.is_armoured(key) else [packets.Block("PUBLIC KEY BLOCK", key)]
    found = b""
    for block in blocks:
        parsed = packets.parse(block.data)
        if block.kind == "PRIVATE KEY BLOCK" or {packet.tag for packet in parsed} & {Tag.SECRET_KEY, Tag.SECRET_SUBKEY}:
            raise UsageError(
                "this is a private key; trust needs only the public one",
                hint="gpg --armor --export FINGERPRINT writes the public key",
            )
        if block.kind != "PUBLIC KEY BLOCK":
            raise Malformed(f"found a PGP {block.kind}")
        found += block.data
    return found


def state(cert: Cert) -> str:
    """Return why signatures by ``cert`` cannot count now: "expired on 2024-01-01", "revoked", or "" if they can."""
    try:
        if cert.is_revoked:
            return "revoked"
        return _expired(cert.expiration)
    except RuntimeError as error:  # its own signatures do not count, mostly because they use SHA-1
        return f"not usable: {first_line(error)}"


def describe(key: bytes) -> list[str]:
    """Return what a person needs to see before trusting the certificate ``key``: a line a fact, fingerprint first."""
    cert = one_certificate(key)
    lines = [f"fingerprint: {spaced(cert.fingerprint)}"]
    lines += [f"user id: {name}" for name in _names(cert)] or ["user id: none"]
    pile = PacketPile.from_bytes(bytes(cert))
    primary = next(iter(pile))
    made = _asked(primary, "key_created")
    created = made.date() if made else "at an unknown time"
    try:
        ends = cert.expiration
    except RuntimeError:
        ends = None
    algorithm = _word(_asked(primary, "key_algorithm") or "of an unknown algorithm")
    lines.append(f"key: {algorithm}, created {created}, {_until(ends)}")
    for part in _subkeys(pile):
        lines.append(f"subkey: {spaced(part.fingerprint)}, {'revoked' if part.revoked else _until(part.expires)}")
    if problem := state(cert):
        lines.append(f"warning: this key is {problem}; signatures by it are refused")
    return lines


def spaced(text: str) -> str:
    """Return a fingerprint as people compare it: capitals in groups of four."""
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4)).upper()


def first_line(error: BaseException) -> str:
    """Return the message of a pysequoia error without the backtrace that it carries."""
    return printable(str(error).partition("\n")[0].strip()) or type(error).__name__


def _word(value: object) -> str:
    return str(value).rpartition(".")[2]


def _until(moment: datetime | None) -> str:
    return f"expires {moment.date()}" if moment else "does not expire"


def _names(cert: Cert) -> list[str]:
    try:
        return [printable(str(user)) for user in cert.user_ids]
    except RuntimeError:
        return []


def _expired(moment: datetime | None) -> str:
    return f"expired on {moment.date()}" if moment and moment <= datetime.now(UTC) else ""


def _load(keys: Sequence[bytes]) -> list[_Key]:
    return [_key(cert) for key in keys for cert in certificates(key)]


def _key(cert: Cert) -> _Key:
    pile = PacketPile.from_bytes(bytes(cert))
    primary = next(iter(pile))
    first = _Part(fingerprint=cert.fingerprint, key_id=primary.key_id or "", expires=None, revoked=False)
    return _Key(cert=cert, parts=(first, *_subkeys(pile)))


def _subkeys(pile: PacketPile) -> list[_Part]:
    """Return the subkeys with the term of the newest binding; a revocation withdraws one for good."""
    found: list[_Part] = []
    key, newest, expires, revoked = None, None, None, False
    for packet in [*pile, None]:
        tag = _asked(packet, "tag") if packet else None
        if packet is None or tag in (PileTag.PublicKey, PileTag.PublicSubkey, PileTag.UserID):
            if key is not None:
                names = {name: _asked(key, name) or "" for name in ("fingerprint", "key_id")}
                found.append(_Part(**names, expires=expires, revoked=revoked))
            key, newest, expires, revoked = packet if tag == PileTag.PublicSubkey else None, None, None, False
        elif key is not None and _asked(packet, "signature_type") == SignatureType.SubkeyRevocation:
            revoked = True
        elif key is not None and _asked(packet, "signature_type") == SignatureType.SubkeyBinding:
            created = packet.signature_created
            if created and key.key_created and (newest is None or created >= newest):
                term = packet.key_validity_period
                newest, expires = created, key.key_created + term if term else None
    return found


def _asked(packet: LibraryPacket, question: str) -> Any:
    """Return the attribute ``question`` of a packet; None where the library has no name for the answer."""
    try:
        return getattr(packet, question)
    except RuntimeError:
        return None


def _detached(signature: bytes, document: str) -> list[Packet]:
    if not signature.strip():
        raise NotTrusted(f"{document}: empty: the image is not signed")
    if len(signature) > MAX_SIGNATURE:
        raise NotTrusted(f"{document}: larger than {MAX_SIGNATURE >> 20} MiB")
    try:
        found = _signature_packets(signature)
    except Malformed as error:
        raise NotTrusted(f"{document}: not an OpenPGP signature: {error.message}") from None
    if len(found) > MAX_SIGNATURES:
        raise NotTrusted(f"{document}: more than {MAX_SIGNATURES} signatures")
    return found


def _signature_packets(signature: bytes) -> list[Packet]:
    if not packets.is_armoured(signature):
        parts = packets.parse(signature)
    else:
        blocks = packets.dearmour(signature)
        for block in blocks:
            if block.kind == "SIGNED MESSAGE":
                raise Malformed("it is clearsigned; a detached signature is needed (gpg --armor --detach-sign)")
            if block.kind != "SIGNATURE":
                raise Malformed(f"found a PGP {block.kind}")
        parts = [packet for block in blocks for packet in packets.parse(block.data)]
    tags = {packet.tag for packet in parts} - {Tag.MARKER, Tag.PADDING}
    if tags & {Tag.COMPRESSED, Tag.LITERAL, Tag.ONE_PASS_SIGNATURE}:
        raise Malformed("it is a signed message; a detached signature is needed (gpg --armor --detach-sign)")
    if tags != {Tag.SIGNATURE}:
        raise Malformed("it holds other packets than signatures" if tags else "it is empty")
    return [packet for packet in parts if packet.tag == Tag.SIGNATURE]


def _message(blob: bytes) -> tuple[bytes, list[Packet]]:
    """Unwrap OPS* literal signature*, or signature* literal, either inside at most one compressed packet."""
    if packets.is_armoured(blob):
        blocks = packets.dearmour(blob)
        if [block.kind for block in blocks] != ["MESSAGE"]:
            raise Malformed("expected one PGP MESSAGE")
        blob = blocks[0].data
    parts = packets.parse(blob)
    if [packet.tag for packet in parts] == [Tag.COMPRESSED]:
        parts = packets.parse(packets.uncompress(parts[0], MAX_SIGNATURE))
    parts = [packet for packet in parts if packet.tag not in (Tag.MARKER, Tag.PADDING)]
    signatures = [packet for packet in parts if packet.tag == Tag.SIGNATURE]
    if len(signatures) > MAX_SIGNATURES:
        raise Malformed(f"more than {MAX_SIGNATURES} signatures")
    if [packet.tag for packet in parts] not in _shapes(len(signatures)):
        raise Malformed("not a signed OpenPGP message")
    _, content = packets.literal(next(packet for packet in parts if packet.tag == Tag.LITERAL))
    return content, signatures


def _shapes(count: int) -> tuple[list[int], ...]:
    """Return the orders of packets that ``count`` signatures over one document may have (RFC 9580, section 10.3)."""
    if not count:
        return ()
    signatures: list[int] = [Tag.SIGNATURE] * count
    return [Tag.ONE_PASS_SIGNATURE] * count + [Tag.LITERAL, *signatures], [*signatures, Tag.LITERAL]


def _judge(data: Data, found: list[Packet], keys: list[_Key], document: str) -> Signer:
    reasons: list[str] = []
    tries = 0
    for packet in found:
        try:
            signature = pysequoia.Sig.from_bytes(bytes(packet))
            names = tuple(name.lower() for name in (signature.issuer_fingerprint, signature.issuer_key_id) if name)
            key = next((key for key in keys if key.part(names)), None)
            reason = _unfit(signature, key, names)
        except RuntimeError as error:  # also of a type or algorithm that the library has no name for
            reasons.append(f"not readable: {first_line(error)}")
            continue
        if not reason and key:
            tries += 1
            if tries > MAX_TRIES:
                raise NotTrusted(f"{document}: more than {MAX_TRIES} signatures that name trusted keys but are bad")
            reason = _check(data, signature, key)
            if not reason:
                return Signer(format="openpgp", fingerprint=key.cert.fingerprint, name=next(iter(_names(key.cert)), ""))
        reasons.append(reason)
    raise NotTrusted(f"{document}: {_summary(reasons)}", hint=_hint(reasons))


def _summary(reasons: list[str]) -> str:
    different = list(dict.fromkeys(reasons))
    if len(different) == 1:
        return different[0]
    shown = "; ".join(different[:4]) + (f"; and {len(different) - 4} more" if len(different) > 4 else "")
    return f"none of {len(reasons)} signatures counts: {shown}"


def _hint(reasons: list[str]) -> str:
    if any("no trusted key" in reason for reason in reasons):
        return "if you know that key to be the publisher's, `pyrkt trust` adds it"
    return ""


def _unfit(signature: Sig, key: _Key | None, names: tuple[str, ...]) -> str:
    """Return why ``signature`` cannot count whatever it was made over; "" if only the data can tell."""
    part = key.part(names) if key else None
    if key is None or part is None:
        return f"made by {names[0]}, which is no trusted key" if names else "does not say which key made it"
    if problem := state(key.cert):
        return f"key {key.cert.fingerprint} is {problem}"
    if part.revoked:
        return f"subkey {part.fingerprint} is revoked"
    if problem := _expired(part.expires):
        return f"subkey {part.fingerprint} is {problem}"
    return _unfit_itself(signature)


def _unfit_itself(signature: Sig) -> str:
    now = datetime.now(UTC)
    for weak, name in _WEAK:
        if signature.hash_algorithm == weak:
            return f"made with {name}, which no longer proves anything"
    if signature.signature_type != SignatureType.Binary:
        return f"of type {_word(signature.signature_type)}, not over a binary document"
    if signature.created is None:
        return "without a date"
    if signature.created > now + _CLOCKS_DIFFER:
        return f"dated in the future ({signature.created.date()})"
    if signature.expiration and signature.expiration <= now:
        return f"the signature expired on {signature.expiration.date()}"
    return ""


def _check(data: Data, signature: Sig, key: _Key) -> str:
    """Return "" if ``key`` made ``signature`` over ``data``, else the reason."""

    def store(_ids: list[str]) -> list[Cert]:
        return [key.cert]

    try:
        if isinstance(data, bytes):
            result = pysequoia.verify(bytes=data, store=store, signature=signature)
        else:
            result = pysequoia.verify(file=fspath(data), store=store, signature=signature)
    except (RuntimeError, OSError) as error:
        if "no valid signatures" in first_line(error):
            return f"bad: the data is not what key {key.cert.fingerprint} signed, or that key may not sign"
        return f"cannot be checked: {first_line(error)}"
    made_by = {valid.signing_key for valid in result.valid_sigs if valid.certificate == key.cert.fingerprint}
    if not made_by & {part.fingerprint for part in key.parts}:
        return "bad: no valid signature by the key that it names"
    # The library may have found another subkey than the one named: judge the one that really signed.
    withdrawn = [part for part in key.parts if part.fingerprint in made_by and (part.revoked or _expired(part.expires))]
    return f"subkey {withdrawn[0].fingerprint} is expired or revoked" if withdrawn else ""
