"""Limits: how much of an image's word we take. Each can be raised by the caller; none is ever switched off."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one archive may cost.

    ``total`` bytes of plain tar (and of any one sparse file); ``ratio`` plain bytes for each packed one, counted
    after the first ``ratio_free`` plain bytes; ``entries``; ``name`` bytes of one path or link target; ``depth``
    components of one path; ``extended`` bytes of one PAX or GNU extended header; ``xattrs`` bytes of names and
    values of one file; ``window`` bytes of memory that a stream may make its decompressor hold.
    """

    total: int = 64 * GIB
    ratio: int = 1000
    ratio_free: int = 64 * MIB
    entries: int = 5_000_000
    name: int = 4096
    depth: int = 512
    extended: int = MIB
    xattrs: int = 64 << 10
    window: int = 128 * MIB


DEFAULT = Limits()
