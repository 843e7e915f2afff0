"""Classic BPF for seccomp(2): rules on the arguments of one system call, tried in order (linux/filter.h, seccomp.h).

libseccomp 2.5 joins several rules on one call into a tree; where they overlap it may lose one (an ERRNO became ALLOW),
or never come to an end. Those few calls are decided here, before its program runs.
"""

from __future__ import annotations

from struct import Struct
from sys import byteorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyrkt.spec.runtime import SyscallArg

    Rule = tuple[int, tuple[SyscallArg, ...]]
    Instruction = tuple[int, int, int, int]

_INSTRUCTION = Struct("=HBBI")
_LOAD, _AND, _JUMP, _EQUAL, _GREATER, _GREATER_EQUAL, _RETURN = 0x20, 0x54, 0x05, 0x15, 0x25, 0x35, 0x06
_HAS_BITS = 0x45
_NUMBER_AT, _ARCH_AT, _ARGS_AT = 0, 4, 16
_LOW, _HIGH = (0, 4) if byteorder == "little" else (4, 0)
_FAIL = -1  # a jump to the next rule, filled in when its place is known


def _condition(arg: SyscallArg) -> list[tuple[int, int, int, int]]:
    """Return the instructions that go on behind themselves if ``arg`` holds, and jump to _FAIL if not."""
    at = _ARGS_AT + 8 * arg.index
    low_word, high_word = (_LOAD, 0, 0, at + _LOW), (_LOAD, 0, 0, at + _HIGH)
    value = arg.value_two & arg.value if arg.op == "SCMP_CMP_MASKED_EQ" else arg.value
    high, low = value >> 32, value & 0xFFFFFFFF
    if arg.op == "SCMP_CMP_EQ":
        return [high_word, (_EQUAL, 0, _FAIL, high), low_word, (_EQUAL, 0, _FAIL, low)]
    if arg.op == "SCMP_CMP_NE":
        return [high_word, (_EQUAL, 0, 2, high), low_word, (_EQUAL, _FAIL, 0, low)]
    if arg.op == "SCMP_CMP_MASKED_EQ":
        first, second = (_AND, 0, 0, arg.value >> 32), (_AND, 0, 0, arg.value & 0xFFFFFFFF)
        return [high_word, first, (_EQUAL, 0, _FAIL, high), low_word, second, (_EQUAL, 0, _FAIL, low)]
    last = _GREATER_EQUAL if arg.op in {"SCMP_CMP_GE", "SCMP_CMP_LT"} else _GREATER
    if arg.op in {"SCMP_CMP_GE", "SCMP_CMP_GT"}:
        return [high_word, (_GREATER, 3, 0, high), (_EQUAL, 0, _FAIL, high), low_word, (last, 0, _FAIL, low)]
    return [high_word, (_GREATER, _FAIL, 0, high), (_EQUAL, 0, 2, high), low_word, (last, _FAIL, 0, low)]


def _call(rules: Iterable[Rule], default: int) -> list[Instruction]:
    """Return the instructions that decide on one call: the first rule that holds, else ``default``."""
    code: list[Instruction] = []
    for action, args in rules:
        body = [instruction for arg in args for instruction in _condition(arg)]
        end = len(body) + 1
        for place, (op, yes, no, k) in enumerate(body):
            fail = end - place - 1
            code.append((op, fail if yes == _FAIL else yes, fail if no == _FAIL else no, k))
        code.append((_RETURN, 0, 0, action))
    return [*code, (_RETURN, 0, 0, default)]


def prefix(calls: dict[tuple[int, int], list[Rule]], default: int) -> bytes:
    """Return a program to stand before another: it decides on ``calls`` and lets all others go on behind it.

    ``calls``: (AUDIT_ARCH_*, number) to its rules, (SECCOMP_RET_* with data, conditions).
    """
    code: list[Instruction] = []
    for (arch, number), rules in calls.items():
        body = _call(rules, default)
        # A jump that depends on something reaches 255 instructions, one that does not any number.
        code += [(_LOAD, 0, 0, _ARCH_AT), (_EQUAL, 0, 2, arch), (_LOAD, 0, 0, _NUMBER_AT), (_EQUAL, 1, 0, number)]
        code += [(_JUMP, 0, 0, len(body)), *body]
    return b"".join([_INSTRUCTION.pack(*instruction) for instruction in code])


def newer(limits: dict[int, tuple[int, int]], other_abi: int, action: int) -> bytes:
    """Return a program to stand before another: it returns ``action`` for calls with numbers above the limits.

    ``limits``: AUDIT_ARCH_* to the highest number known, and the highest with the bit ``other_abi`` set (x32 on
    x86_64); one that is 0 limits nothing.
    """
    code: list[Instruction] = []
    for arch, (highest, highest_other) in limits.items():
        body: list[Instruction] = [(_LOAD, 0, 0, _NUMBER_AT), (_HAS_BITS, 2, 0, other_abi)]
        # Behind the test: two instructions for plain numbers, and two for those with the bit.
        body += _above(highest, action, 2) + _above(highest_other, action, 0)
        code += [(_LOAD, 0, 0, _ARCH_AT), (_EQUAL, 0, len(body), arch), *body]
    return b"".join([_INSTRUCTION.pack(*instruction) for instruction in code])


def _above(highest: int, action: int, skip: int) -> list[Instruction]:
    if not highest:
        return [(_JUMP, 0, 0, 1 + skip), (_RETURN, 0, 0, action)]
    return [(_GREATER, 0, 1 + skip, highest), (_RETURN, 0, 0, action)]
