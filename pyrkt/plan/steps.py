"""A plan: the steps in order, and their bytes as stage1 reads them."""

from __future__ import annotations

from struct import Struct, error

from pyrkt.base.errors import InvalidSpec
from pyrkt.base.record import Record
from pyrkt.spec.steps import TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Argument = str | int | bytes | tuple[str, ...]

BEFORE, PARENT, CHILD, AFTER = 0, 1, 2, 4

MAGIC, VERSION = 0x54524B50, 1  # "PKRT", little endian
_HEADER, _STEP, _LENGTH, _NUMBER = Struct("<IHHII"), Struct("<HBB"), Struct("<I"), Struct("<q")


class Step(Record):
    """One thing to do: ``code`` (pyrkt.spec.steps) in ``phase``; ``cause`` is the JSON pointer of what asked for it."""

    code: int
    phase: int
    args: tuple[Argument, ...] = ()
    cause: str = "default"

    @property
    def name(self) -> str:
        """The step's name in the table."""
        return TABLE[self.code][0]


class Plan(Record):
    """All steps, each phase in its order; ``warnings`` are lines for the user, and no part of the bytes."""

    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()

    @property
    def causes(self) -> tuple[str, ...]:
        """The cause of each step, by index."""
        return tuple(step.cause for step in self.steps)


def _text(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape") + b"\0"


def _texts(value: tuple[str, ...]) -> bytes:
    return b"".join([_text(item) for item in value])


def _int(value: int) -> bytes:
    # -1 and 2**64-1 are the same to the kernel (RLIM_INFINITY); the bytes hold a signed number.
    return _NUMBER.pack(value - (1 << 64) if value >= 1 << 63 else value)


_ENCODE: dict[str, Callable[[Any], bytes]] = {"s": _text, "i": _int, "b": bytes, "l": _texts}


def encode(plan: Plan) -> bytes:
    """Return the bytes of ``plan``: header, then each step with its lengths before its arguments."""
    body = []
    for step in plan.steps:
        kinds = TABLE[step.code][1]
        if len(kinds) != len(step.args):
            raise TypeError(f"{step.name} takes {len(kinds)} arguments, not {len(step.args)}")
        args = [_ENCODE[kind](arg) for kind, arg in zip(kinds, step.args, strict=True)]
        body.append(_STEP.pack(step.code, step.phase, len(args)))
        body += [_LENGTH.pack(len(arg)) for arg in args]
        body += args
    total = _HEADER.size + sum(map(len, body))
    return b"".join([_HEADER.pack(MAGIC, VERSION, 0, len(plan.steps), total), *body])


def decode(data: bytes, causes: tuple[str, ...] = ()) -> Plan:
    """Return the plan in ``data``; each step gets its cause from ``causes``, where it has one.

    Raises: InvalidSpec on anything that encode() does not write.
    """
    try:
        magic, version, flags, count, total = _HEADER.unpack_from(data)
        if (magic, version, flags, total) != (MAGIC, VERSION, 0, len(data)):
            raise InvalidSpec("not a plan of this version", document="plan")
        steps, place = [], _HEADER.size
        for index in range(count):
            step, place = _decode_step(data, place, causes[index] if index < len(causes) else "default")
            steps.append(step)
    except (error, KeyError, IndexError, UnicodeError) as problem:
        raise InvalidSpec(f"damaged: {problem}", document="plan") from problem
    if place != total:
        raise InvalidSpec("bytes after the last step", document="plan")
    return Plan(steps=tuple(steps))


def _decode_step(data: bytes, place: int, cause: str) -> tuple[Step, int]:
    code, phase, count = _STEP.unpack_from(data, place)
    _, kinds, phases = TABLE[code]
    if len(kinds) != count or not phases >> phase & 1:
        raise InvalidSpec(f"step {code} in phase {phase} with {count} arguments", document="plan")
    place += _STEP.size
    lengths = [_LENGTH.unpack_from(data, place + _LENGTH.size * i)[0] for i in range(count)]
    place += _LENGTH.size * count
    args = []
    for kind, length in zip(kinds, lengths, strict=True):
        if place + length > len(data):
            raise InvalidSpec(f"step {code} runs past the end", document="plan")
        args.append(_argument(kind, data[place : place + length]))
        place += length
    return Step(code=code, phase=phase, args=tuple(args), cause=cause), place


def _argument(kind: str, data: bytes) -> Argument:
    if kind == "b":
        return data
    if kind == "i":
        if len(data) != _NUMBER.size:
            raise InvalidSpec(f"a number of {len(data)} bytes", document="plan")
        return int(_NUMBER.unpack(data)[0])
    if kind == "s":
        if data.find(0) != len(data) - 1:
            raise InvalidSpec("a string that does not end with its only NUL", document="plan")
        return data[:-1].decode("utf-8", "surrogateescape")
    if not data:
        return ()
    if data[-1]:
        raise InvalidSpec("a list that does not end with NUL", document="plan")
    return tuple(item.decode("utf-8", "surrogateescape") for item in data[:-1].split(b"\0"))


def digest(*plans: Plan) -> str:
    """Return "sha256:<hex>" of the plans' bytes: the same for the same input, on every host with the same facts."""
    import hashlib  # noqa: PLC0415 - starting a container does not hash its plan

    return "sha256:" + hashlib.sha256(b"".join(map(encode, plans))).hexdigest()
