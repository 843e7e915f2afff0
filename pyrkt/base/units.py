"""Quantities as people and specifications write them: 128M, 1.5Gi, 750m."""

from __future__ import annotations

from pyrkt.base.errors import InvalidSpec

_DECIMAL = {"": 0, "k": 3, "K": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18, "m": -3}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_MAX = (1 << 63) - 1


def quantity_milli(text: str, document: str = "quantity") -> int:
    """Return ``text`` in thousandths, rounded up: ``"750m"`` is 750, ``"2"`` is 2000, ``"1Ki"`` is 1024000.

    Takes: digits with an optional fraction, then a suffix (m k K M G T P E, Ki Mi Gi Ti Pi Ei) or an exponent (e3).
    Raises: InvalidSpec if it is none of those, negative, or beyond 2**63.
    Source: appc 0.8.11, types, "Resource isolators" (Kubernetes quantities).
    """

    def bad(problem: str) -> InvalidSpec:
        return InvalidSpec(problem, document=document, hint="write it as 128M, 1.5Gi or 750m")

    number = text.rstrip("kKMGTPEim")
    suffix = text[len(number) :]
    exponent = 0
    for mark in "eE":
        if mark in number:
            number, _, power = number.partition(mark)
            unsigned = power[1:] if power[:1] in {"+", "-"} else power
            if suffix or not (unsigned.isascii() and unsigned.isdigit() and len(unsigned) <= 2):
                raise bad(f"{text!r} is not a quantity")
            exponent = int(power)
    whole, _, fraction = number.partition(".")
    digits = whole + fraction
    if not digits or not (digits.isascii() and digits.isdigit()) or len(digits) > 40:
        raise bad(f"{text!r} is not a quantity")
    scaled: int  # int ** int may be a float to a type checker
    divisor: int
    if suffix in _BINARY:
        scaled, divisor = int(digits) * 1000 << _BINARY[suffix], 10 ** len(fraction)
    elif suffix in _DECIMAL:
        power10 = 3 + _DECIMAL[suffix] + exponent - len(fraction)
        if power10 > 60:
            raise bad(f"{text!r} is too large")
        scaled, divisor = int(digits) * 10 ** max(power10, 0), 10 ** max(-power10, 0)
    else:
        raise bad(f"{text!r} is not a quantity: unknown unit {suffix!r}")
    value = -(-scaled // divisor)
    if value // 1000 > _MAX:
        raise bad(f"{text!r} is too large")
    return value


def quantity(text: str, document: str = "quantity") -> int:
    """Return ``text`` in whole units (bytes, say), rounded up. As ``quantity_milli`` otherwise."""
    return -(-quantity_milli(text, document) // 1000)


def human_bytes(count: int) -> str:
    """Return ``count`` bytes for a table: ``"3.2MiB"``."""
    if count < 1024:
        return f"{count}B"
    value, units = count / 1024, ["KiB", "MiB", "GiB", "TiB", "PiB"]
    # What prints as 1024 belongs to the next unit.
    while value >= 1023.5 and len(units) > 1:
        value /= 1024
        del units[0]
    return f"{value:.0f}{units[0]}" if value >= 99.95 else f"{value:.1f}{units[0]}"
