"""What the metadata service of one pod serves, as bytes for stage1, which reads them in ``stage1/routes.c``.

Little-endian: magic, version, 0, size of all, number of routes; the token; the UUID, and 4 bytes of 0; then each route:
size of its path, type, size of its body, path, body. Token and UUID stand in it as text, so that a record of a pod can
be written again for another one (``pod.replay``).
"""

from __future__ import annotations

from _struct import Struct

from pyrkt.base.record import Record
from pyrkt.metadata.token import MAGIC, VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

JSON, TEXT = 0, 1
_HEADER, _ROUTE = Struct("<IHHII32s36sI"), Struct("<HHI")


class Route(Record):
    """One answer: ``path`` below acMetadata/v1/, ``kind`` JSON or TEXT."""

    path: str
    kind: int
    body: bytes


def encode(uuid: str, token: str, routes: Sequence[Route]) -> bytes:
    """Return the table's bytes."""
    body = b"".join(
        part
        for route in routes
        for part in (_ROUTE.pack(len(route.path), route.kind, len(route.body)), route.path.encode("ascii"), route.body)
    )
    size = _HEADER.size + len(body)
    return _HEADER.pack(MAGIC, VERSION, 0, size, len(routes), token.encode("ascii"), uuid.encode("ascii"), 0) + body
