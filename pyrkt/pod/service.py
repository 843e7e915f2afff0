"""A pod's metadata service: what it needs before the pod is made, and what has to go from it before others may look."""

from __future__ import annotations

from pyrkt.metadata.address import address
from pyrkt.metadata.token import LONGEST, of_table

FILE = "metadata"
"""The file of a pod that holds its table, and with it the token."""


def token(path: str) -> str:
    """Return the token of the pod in ``path``; "" if it has none."""
    try:
        with open(f"{path}/{FILE}", "rb", buffering=0) as file:
            return of_table(file.read(LONGEST))
    except FileNotFoundError:
        return ""


def marks(uuid: str, secret: str) -> tuple[bytes, bytes, bytes]:
    """Return the texts by which one pod differs from another one of its kind: each has one length for all pods."""
    return uuid.encode(), secret.encode(), address(uuid).encode()
