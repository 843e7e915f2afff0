"""One record of the measurement log: the canonical bytes of an event, their digests, and the line that holds them.

The form is that of systemd's own log: records of the TCG Canonical Event Log, JSON encoding, in a JSON text sequence
(RFC 7464). What is hashed is the event's ``content`` in canonical JSON (RFC 8785), as it stands in the line.
"""

from __future__ import annotations

from sys import version_info

from pyrkt.base import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PCR = 15
"""The register: only a reset of the machine clears it, and the operating system extends it (docs/measurements.md)."""
ALGORITHMS = ("sha256", "sha384", "sha512")
CONTENT_TYPE = "pyrkt"
FORMAT = 1
"""The version of all that this module says; the record BEGIN of a log names it."""

BEGIN, INTERRUPTED = "begin", "interrupted"
IMAGE, POD_MANIFEST, APP_CONFIG, PLAN, STAGE1 = "image", "pod-manifest", "app-config", "plan", "stage1"
"""The types of events; those of a launch in their order."""

# The interpreter's own: hashlib would load OpenSSL, which takes longer (3 ms) than a launch has to hash.
_HASHES = ("_sha2", "_sha2") if version_info >= (3, 12) else ("_sha256", "_sha512")

SEPARATOR, END = b"\x1e", b"\n"


def canonical(content: dict[str, Any]) -> bytes:
    """Return ``content`` as RFC 8785 has it: members sorted, no blanks, UTF-8.

    It holds strings, arrays, objects, booleans and integers below 2**53 only, and its names are ASCII: then sorting by
    code point is sorting by UTF-16 unit, and no number needs ECMAScript's form.
    """
    return fastjson.dumps(content, sort=True).encode()


def digests(data: bytes) -> dict[str, str]:
    """Return the digests of ``data`` in lower-case hex, by algorithm."""
    return {name: function(data).hexdigest() for name, function in zip(ALGORITHMS, _functions(), strict=True)}


def sha256(data: bytes) -> str:
    """Return "sha256:" and the digest of ``data`` in hex, by which one record refers to a document."""
    return f"sha256:{_functions()[0](data).hexdigest()}"


def _functions() -> tuple[Callable[[bytes], Any], ...]:
    try:
        short, long = map(__import__, _HASHES)
    except ImportError:  # an interpreter built without them
        short = long = __import__("hashlib")
    return short.sha256, long.sha384, long.sha512


def line(number: int, content: dict[str, Any]) -> bytes:
    """Return the record ``number`` of a log, from the record separator to the line feed."""
    data = canonical(content)
    listed = ",".join(f'{{"hashAlg":"{name}","digest":"{value}"}}' for name, value in digests(data).items())
    head = f'{{"recnum":{number},"pcr":{PCR},"digests":[{listed}],"content_type":"{CONTENT_TYPE}","content":'
    return b"".join((SEPARATOR, head.encode(), data, b"}", END))
