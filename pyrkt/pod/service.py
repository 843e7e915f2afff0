"""A pod's metadata service: what it needs before the pod is made, and what has to go from it before others may look."""

from __future__ import annotations

from pyrkt.metadata.address import NO_TOKEN, address
from pyrkt.metadata.table import token_of

FILE = "metadata"
"""The file of a pod that holds its table, and with it the token."""


def token(path: str) -> str:
    """Return the token of the pod in ``path``; "" if it has none."""
    try:
        with open(f"{path}/{FILE}", "rb", buffering=0) as file:
            return token_of(file.read(256))
    except FileNotFoundError:
        return ""


def without_token(data: bytes, path: str) -> bytes:
    """Return ``data``, of the pod in ``path``, with nobody's token in the place of the pod's."""
    found = token(path)
    return data.replace(found.encode(), NO_TOKEN.encode()) if found else data


def marks(uuid: str, secret: str) -> tuple[bytes, bytes, bytes]:
    """Return the texts by which one pod differs from another one of its kind: each has one length for all pods."""
    return uuid.encode(), secret.encode(), address(uuid).encode()
