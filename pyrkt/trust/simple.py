"""Simple signing ("atomic"): an OpenPGP message that says "this manifest is that image".

Source: containers/image, containers-signature(5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyrkt.base import fastjson
from pyrkt.base.errors import InvalidSpec, NotTrusted
from pyrkt.base.reader import Reader
from pyrkt.spec.digest import Digest, parse_digest
from pyrkt.trust import openpgp

if TYPE_CHECKING:
    from pyrkt.store.index import Signer

TYPE = "atomic container signature"
_RULE = "containers-signature(5)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a signature says: the manifest with ``digest`` is the image ``reference``."""

    digest: Digest
    reference: str


def verify(blob: bytes, keys: Sequence[bytes], document: str = "signature") -> tuple[Claim, Signer]:
    """Return what the signature ``blob`` claims, and who of ``keys`` made it.

    The content is read only after the cryptography has passed. Raises: NotTrusted.
    """
    payload, signer = openpgp.verify_message(blob, keys, document=document)
    try:
        return parse(payload, document), replace(signer, format="simple")
    except InvalidSpec as error:
        raise NotTrusted(error.message) from error


def parse(payload: bytes, document: str = "signature") -> Claim:
    """Return the claim in ``payload``; a member that is unknown, missing or given twice is refused.

    Only "optional" may hold more than is known: signers put their own remarks there. Raises: InvalidSpec.
    """
    r = _exactly(Reader(fastjson.loads(payload, document), document, rule=_RULE), ("critical", "optional"))
    critical = _exactly(r["critical"], ("type", "image", "identity"))
    image = _exactly(critical["image"], ("docker-manifest-digest",))
    identity = _exactly(critical["identity"], ("docker-reference",))
    critical["type"].choice((TYPE,))
    optional = r["optional"]
    optional.members()
    optional["creator"].text("")
    optional["timestamp"].integer(-(2**63), 2**63 - 1, 0)
    return Claim(
        digest=parse_digest(image["docker-manifest-digest"].text(), document),
        reference=identity["docker-reference"].text(),
    )


def _exactly(r: Reader, names: tuple[str, ...]) -> Reader:
    if not isinstance(r.value, dict):
        raise r.fail("expected an object")
    for name, value in r.members():
        if name not in names:
            raise value.fail("unknown member")
    for name in names:
        if name not in r.value:
            raise r[name].fail("is required")
    return r
