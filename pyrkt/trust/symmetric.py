"""OpenPGP symmetric encryption: how an appc image may be encrypted (appc 0.8.11, "Image Encryption": PGP, AES).

What the specification leaves open is decided here: AES of any key size, binary or armoured, and only with integrity
protection (MDC or AEAD). No plaintext is at its place before the whole message has proven whole.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from hashlib import new as new_hash
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from pyrkt.base.errors import CannotCreate, ImageRefused, NotTrusted, PyrktError, printable
from pyrkt.trust import packets
from pyrkt.trust.packets import Malformed, Packet, Tag

try:
    from cryptography.hazmat.decrepit.ciphers.modes import CFB
except ImportError:  # before cryptography 46
    from cryptography.hazmat.primitives.ciphers.modes import CFB

if TYPE_CHECKING:
    from pyrkt.trust.keys import DecryptionKeys

MAX_PLAINTEXT = 64 << 30
MAX_HEAD = 64 << 10
MAX_PASSPHRASE_PACKETS = 16
"""Each costs up to a second of hashing a passphrase tried; more is an attack."""
_CIPHERS = {1: "IDEA", 2: "3DES", 3: "CAST5", 4: "Blowfish", 7: "AES128", 8: "AES192", 9: "AES256", 10: "Twofish"}
_CIPHERS |= {0: "no cipher", 11: "Camellia128", 12: "Camellia192", 13: "Camellia256"}
_AES = {7: 16, 8: 24, 9: 32}
_HASHES = {1: "md5", 2: "sha1", 3: "ripemd160", 8: "sha256", 9: "sha384", 10: "sha512", 11: "sha224"}
_WRONG_PASSPHRASE = "No key to decrypt message"


@dataclass(frozen=True, slots=True)
class _Sealed:
    """The head of a message: the passphrase packets, the cipher of the data where it stands in the open, its place."""

    passphrases: tuple[Packet, ...]
    cipher: str
    data_at: int


def is_encrypted(first_bytes: bytes) -> bool:
    """Tell whether a file that begins with ``first_bytes`` (64 suffice) is an encrypted OpenPGP message."""
    if first_bytes.startswith(b"-----BEGIN PGP MESSAGE-----"):
        return True
    if not first_bytes or not first_bytes[0] & 0x80:
        return False
    try:
        tag, start = packets.head_at(first_bytes, 0)
        if tag == Tag.MARKER:
            return is_encrypted(first_bytes[start + 3 :]) and first_bytes[start : start + 3] == b"PGP"
    except (Malformed, IndexError):
        return False
    versions = {Tag.SKESK: (4, 5, 6), Tag.PKESK: (3, 6)}
    return any(tag == kind and first_bytes[start : start + 1] in map(_octet, known) for kind, known in versions.items())


def decrypt(path: Path, keys: DecryptionKeys, into: Path, *, limit: int = MAX_PLAINTEXT, document: str = "") -> None:
    """Decrypt the message in the file ``path`` to the new file ``into`` by one of the passphrases of ``keys``.

    ``into`` appears, mode 0600, when all of the message is decrypted and proven; on failure there is nothing.
    ``limit`` is the largest plaintext in bytes. Raises: NotTrusted if no passphrase fits; ImageRefused if the
    encryption is not AES or not protected, or the content is damaged or too large.
    """
    document = document or printable(path.name)
    try:
        with path.open("rb") as file:
            head = file.read(MAX_HEAD)
            sealed = _sealed(head)
            if not packets.is_armoured(head):
                _check_end(file, sealed.data_at)
    except (ImageRefused, NotTrusted) as error:
        raise type(error)(f"{document}: {error.message}", hint=error.hint) from None
    handle, name = tempfile.mkstemp(dir=into.parent, prefix=f".{into.name}.", suffix=".tmp")
    os.close(handle)
    try:
        _open(sealed, path, keys, Path(name), limit, document)
        os.replace(name, into)
    finally:
        Path(name).unlink(missing_ok=True)


def _octet(number: int) -> bytes:
    return bytes((number,))


def _sealed(head: bytes) -> _Sealed:
    data = _dearmour_head(head) if packets.is_armoured(head) else head
    found: list[Packet] = []
    position, public = 0, 0
    while True:
        tag, start = _head_at(data, position)
        if tag in (Tag.SEIPD, Tag.AED, Tag.SED):
            return _Sealed(tuple(found), _data_cipher(tag, data[start : start + 2], found, public), position)
        if tag not in (Tag.SKESK, Tag.PKESK, Tag.MARKER, Tag.PADDING):
            raise Malformed(f"not an encrypted OpenPGP message: packet of type {tag}")
        packet, position = packets.packet_at(data, position)
        if tag == Tag.SKESK:
            found.append(packet)
        public += tag == Tag.PKESK
        if len(found) > MAX_PASSPHRASE_PACKETS:
            raise Malformed(f"encrypted with more than {MAX_PASSPHRASE_PACKETS} passphrases")


def _check_end(file: BinaryIO, position: int) -> None:
    """Check that the packet at ``position`` ends where the file does; the library would ignore what follows."""
    size = file.seek(0, os.SEEK_END)
    header = _read_at(file, position)
    if not header[0] & 0x40:
        kind = header[0] & 3
        end = size if kind == 3 else position + 1 + (1 << kind) + int.from_bytes(header[1 : 1 + (1 << kind)], "big")
    else:
        end, more = position + 1, True
        while more and end < size:
            length, used, more = packets.new_length(_read_at(file, end), 0)
            end += used + length
        if more:
            raise Malformed("encrypted OpenPGP message is cut short")
    if end != size:
        raise Malformed("encrypted OpenPGP message is cut short" if end > size else "data after the encrypted message")


def _read_at(file: BinaryIO, position: int) -> bytes:
    file.seek(position)
    return file.read(6)


def _head_at(data: bytes, position: int) -> tuple[int, int]:
    if position >= len(data):
        raise Malformed("encrypted OpenPGP message without its data")
    return packets.head_at(data, position)


def _data_cipher(tag: int, body: bytes, found: list[Packet], public: int) -> str:
    """Return the name of the cipher, "AES" if only the passphrase shows it; refuse what is not AES or not protected."""
    if tag == Tag.SED:
        raise ImageRefused(
            "encrypted without integrity protection: anybody could have changed it",
            hint="encrypt it again with gpg --symmetric --cipher-algo AES256",
        )
    if tag == Tag.AED:
        raise ImageRefused(
            "encrypted in LibrePGP's OCB form (gpg 2.3 and later), which pyrkt does not open yet",
            hint="encrypt it in the standard form: gpg --rfc4880 --symmetric --cipher-algo AES256",
        )
    if not found:
        keys = "s" if public > 1 else ""
        raise NotTrusted(f"encrypted for {public} OpenPGP public key{keys}; an appc image is encrypted by passphrase")
    named = [
        packet.body[1] for packet in found if len(packet.body) > 1 and packet.body[0] == 4 and not _wrapped(packet)
    ]
    if body[:1] == b"\x02":  # with AEAD (RFC 9580) the data packet says it
        named += list(body[1:2])
    for algorithm in named:
        if algorithm not in _AES:
            raise ImageRefused(
                f"encrypted with {_CIPHERS.get(algorithm, f'cipher {algorithm}')}, not AES",
                hint="appc images are encrypted with AES: gpg --symmetric --cipher-algo AES256",
            )
    return _CIPHERS[named[0]] if named else "AES"


def _dearmour_head(head: bytes) -> bytes:
    """Return the packets at the beginning of an armoured file of which only ``head`` was read."""
    begin = head.find(b"-----BEGIN PGP MESSAGE-----")
    text = head[begin:].partition(b"\n")[2] if begin >= 0 else b""
    end = text.find(b"\n-----END PGP")
    text = text[:end] if end >= 0 else text[: text.rfind(b"\n") + 1]
    return packets.armoured_body(text)


def _open(sealed: _Sealed, path: Path, keys: DecryptionKeys, output: Path, limit: int, document: str) -> None:
    damage: PyrktError | None = None
    for passphrase in keys.passphrases:
        if not _may_fit(sealed, passphrase.secret):
            continue
        problem = _run_opener(path, output, limit, passphrase.secret)
        if not problem:
            return
        if problem != _WRONG_PASSPHRASE and damage is None:
            # Of 65,536 wrong passphrases one looks right at first: try the others before believing in damage.
            damage = _damage(problem, document, limit)
    if damage:
        raise damage
    tried = len(keys.passphrases)
    what = "no passphrase was given" if not tried else f"{tried} passphrase{'s' if tried > 1 else ''} tried, none fits"
    raise NotTrusted(
        f"{document}: encrypted with a passphrase: {sealed.cipher}, {what}",
        hint="--decryption-key passphrase:file=F or passphrase:fd=N",
    )


def _damage(problem: str, document: str, limit: int) -> PyrktError:
    if "File too large" in problem:
        return ImageRefused(f"{document}: decrypts to more than {limit} bytes")
    if "No space left" in problem:
        return CannotCreate(f"{document}: no space left for what it decrypts to")
    if "manipulated" in problem:
        return ImageRefused(f"{document}: the encrypted image was changed: its integrity check fails")
    hint = ""
    if "Malformed Message" in problem:  # what the library says of compressions it was built without
        hint = "if bzip2 compressed it inside the encryption: gpg --compress-algo=none, the image is compressed already"
    return ImageRefused(f"{document}: cannot be decrypted: {printable(problem)}", hint=hint)


def _run_opener(path: Path, output: Path, limit: int, passphrase: bytes) -> str:
    """Return "" if the message was opened into ``output``, else the reason."""
    command = [sys.executable, "-I", "-m", "pyrkt.trust.opener", os.fspath(path), os.fspath(output), str(limit)]
    done = subprocess.run(command, input=passphrase, capture_output=True, check=False)
    if done.returncode == 0:
        return ""
    last = (done.stdout or done.stderr.strip().rpartition(b"\n")[2]).decode(errors="replace").strip()
    return last or f"the decrypting process ended with status {done.returncode}"


def _wrapped(packet: Packet) -> bool:
    """Tell whether a version 4 SKESK carries a session key of its own, instead of the passphrase making it."""
    size = _s2k_size(packet.body[2:])
    return size is None or len(packet.body) > 2 + size


def _may_fit(sealed: _Sealed, passphrase: bytes) -> bool:
    """Tell whether ``passphrase`` can open the message with AES; refuse here what it would open with another cipher.

    The cipher of the data stands inside the wrapped session key, so only the passphrase brings it to light.
    """
    if sealed.cipher != "AES":
        return True
    found = {_session_cipher(packet.body, passphrase) for packet in sealed.passphrases if packet.body[:1] == b"\x04"}
    return bool(found & _AES.keys()) or None in found or not found


def _session_cipher(body: bytes, passphrase: bytes) -> int | None:
    """Return the number of the cipher that this SKESK gives with ``passphrase``; None if it cannot be told.

    RFC 9580, section 5.3.1: the first octet of the decrypted session key; section 3.7.1: string to key.
    """
    size = _s2k_size(body[2:])
    if size is None or body[1] not in _AES or body[3] not in _HASHES:
        return None
    key = _string_to_key(body[2 : 2 + size], passphrase, _AES[body[1]])
    return Cipher(algorithms.AES(key), CFB(bytes(16))).decryptor().update(body[2 + size :])[0]


def _s2k_size(s2k: bytes) -> int | None:
    return {0: 2, 1: 10, 3: 11}.get(s2k[0]) if s2k and len(s2k) >= 2 else None


def _string_to_key(s2k: bytes, passphrase: bytes, size: int) -> bytes:
    material = s2k[2:10] + passphrase
    count = (16 + (s2k[10] & 15)) << ((s2k[10] >> 4) + 6) if s2k[0] == 3 else len(material)
    count = max(count, len(material))
    key = b""
    zeros = 0
    while len(key) < size:
        hashed = new_hash(_HASHES[s2k[1]], bytes(zeros), usedforsecurity=False)
        block = material * (65536 // len(material) + 1)
        for _ in range(count // len(block)):
            hashed.update(block)
        hashed.update((block)[: count % len(block)])
        key += hashed.digest()
        zeros += 1
    return key[:size]
