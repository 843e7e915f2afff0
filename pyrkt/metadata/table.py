"""What the metadata service of one pod serves, as bytes for stage1, which reads them in ``stage1/routes.c``.

Little-endian: magic, version, 0, size of all, number of routes; the token; the UUID, and 4 bytes of 0; then each route:
size of its path, type, size of its body, path, body. Token and UUID stand in it as text, so that a record of a pod can
be written again for another one (``pod.replay``).
"""

from __future__ import annotations

from struct import Struct, error

from pyrkt.base.errors import InvalidSpec
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


def decode(data: bytes) -> tuple[str, str, tuple[Route, ...]]:
    """Return UUID, token and routes of a table. Raises: InvalidSpec on anything that encode() does not write."""
    routes: list[Route] = []
    try:
        magic, version, zero, size, count, token, uuid, rest = _HEADER.unpack_from(data)
        if (magic, version, zero, size, rest) != (MAGIC, VERSION, 0, len(data), 0):
            raise InvalidSpec("not a table of this version", document="metadata")
        place = _HEADER.size
        for _ in range(count):
            length, kind, size = _ROUTE.unpack_from(data, place)
            place += _ROUTE.size
            path, body = data[place : place + length], data[place + length : place + length + size]
            place += length + size
            routes.append(Route(path=path.decode("ascii"), kind=kind, body=body))
        found = uuid.decode("ascii"), token.decode("ascii"), tuple(routes)
    except (error, UnicodeError) as problem:
        raise InvalidSpec(f"damaged: {problem}", document="metadata") from problem
    if place != len(data):
        raise InvalidSpec("damaged: it does not end with its last route", document="metadata")
    return found
