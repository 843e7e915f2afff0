"""The token of a pod's metadata service: the first word of each path, without which it tells nothing."""

from __future__ import annotations

import os

NOBODYS = "0" * 32
"""Stands where a pod that is never made would have its token."""
MAGIC, VERSION = 0x444D4B50, 1
"""How a table begins, where the token lies (``metadata.table``)."""
_BEGINNING = MAGIC.to_bytes(4, "little") + VERSION.to_bytes(4, "little")
_PLACE = slice(16, 48)
LONGEST = 88
"""Bytes of a table before its first route."""


def new() -> str:
    """Return 128 random bits as 32 hexadecimal digits."""
    return os.urandom(16).hex()


def of_table(table: bytes) -> str:
    """Return the token in the beginning of a table; "" if it is none of this version."""
    return table[_PLACE].decode("ascii", "replace") if table.startswith(_BEGINNING) and len(table) >= LONGEST else ""
