"""Compiled filters against a naive reading of the profile, by a small BPF machine."""

from __future__ import annotations

import platform
import struct
import subprocess
import sys
from collections.abc import Callable
from operator import and_, eq, ge, gt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.base.errors import InvalidSpec
from pyrkt.kernel import seccomp
from pyrkt.spec.runtime import Seccomp, Syscall, SyscallArg

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}.get(platform.machine())
pytestmark = pytest.mark.skipif(AUDIT_ARCH is None, reason="the numbers below are of x86_64 and aarch64")
NUMBERS = (
    {"read": 0, "write": 1, "mmap": 9, "clone": 56, "personality": 135, "keyctl": 250, "openat": 257}
    if platform.machine() == "x86_64"
    else {"read": 63, "write": 64, "mmap": 222, "clone": 220, "personality": 92, "keyctl": 219, "openat": 56}
)
KILL_PROCESS, ERRNO, ALLOW, LOG, TRACE, NOTIFY, TRAP = (
    0x80000000,
    0x00050000,
    0x7FFF0000,
    0x7FFC0000,
    0x7FF00000,
    0x7FC00000,
    0x00030000,
)
PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
VALUES = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_ALLOW": ALLOW,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_NOTIFY": NOTIFY,
}
X86_64, I386, X32 = 0xC000003E, 0x40000003, 1 << 30
# What a filter looks at: struct seccomp_data of include/uapi/linux/seccomp.h.
DATA = struct.Struct("<iIQ6Q")


def run(program: bytes, number: int, args: tuple[int, ...], arch: int) -> int:
    """Run a classic BPF program, the part of it that seccomp allows, on one system call."""
    data = DATA.pack(number, arch, 0, *args)
    code = list(struct.iter_unpack("<HBBI", program))
    accumulator, at = 0, 0
    jumps: dict[int, Callable[[int, int], object]] = {0x15: eq, 0x25: gt, 0x35: ge, 0x45: and_}
    while True:
        op, yes, no, k = code[at]
        at += 1
        if op == 0x20:  # ld [k]
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif op == 0x54:  # and #k
            accumulator &= k
        elif op == 0x05:  # ja k
            at += k
        elif op == 0x06:  # ret #k
            return int(k)
        else:
            at += yes if jumps[op](accumulator, k) else no


def holds(arg: SyscallArg, args: tuple[int, ...]) -> bool:
    """Judge one condition as the specification words it."""
    value = args[arg.index]
    if arg.op == "SCMP_CMP_MASKED_EQ":
        return value & arg.value == arg.value_two
    return {
        "SCMP_CMP_NE": value != arg.value,
        "SCMP_CMP_LT": value < arg.value,
        "SCMP_CMP_LE": value <= arg.value,
        "SCMP_CMP_EQ": value == arg.value,
        "SCMP_CMP_GE": value >= arg.value,
        "SCMP_CMP_GT": value > arg.value,
    }[arg.op]


def value_of(action: str, errno: int | None) -> int:
    if action == "SCMP_ACT_ERRNO":
        return ERRNO | (1 if errno is None else errno)
    if action == "SCMP_ACT_TRACE":
        return TRACE | (1 if errno is None else errno)
    return VALUES[action]


def naive(profile: Seccomp, name: str, args: tuple[int, ...]) -> int:
    """Judge a call by reading the rules one after the other."""
    highest = max([NUMBERS.get(known, 0) for rule in profile.syscalls for known in rule.names], default=0)
    if 0 < highest < NUMBERS[name] and profile.default_action not in PERMISSIVE:
        return ERRNO | 38
    for rule in profile.syscalls:
        if name not in rule.names:
            continue
        conditions = [holds(arg, args) for arg in rule.args]
        repeated = len({arg.index for arg in rule.args}) < len(rule.args)
        if not conditions or (any(conditions) if repeated else all(conditions)):
            return value_of(rule.action, rule.errno_ret)
    return value_of(profile.default_action, profile.default_errno_ret)


INTERESTING = st.one_of(st.integers(0, 3), st.sampled_from([2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1]))
WORDS = INTERESTING | st.integers(0, 2**64 - 1)


@st.composite
def conditions(draw: st.DrawFn) -> SyscallArg:
    op = draw(st.sampled_from(["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]))
    mask, value = draw(WORDS), draw(WORDS)
    if op == "MASKED_EQ":
        return SyscallArg(index=draw(st.integers(0, 5)), op="SCMP_CMP_MASKED_EQ", value=mask, value_two=value & mask)
    return SyscallArg(index=draw(st.integers(0, 5)), op=f"SCMP_CMP_{op}", value=mask)


@st.composite
def profiles(draw: st.DrawFn) -> Seccomp:
    """Draw a profile: on each call none, one or several rules, with conditions that overlap and actions that differ."""
    default = draw(st.sampled_from(["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_LOG"]))
    rules = []
    for name in draw(st.lists(st.sampled_from(sorted(NUMBERS)), max_size=8)):
        action = draw(st.sampled_from(["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"]))
        errno = draw(st.none() | st.integers(0, 4095)) if action in {"SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"} else None
        args = draw(st.lists(conditions(), max_size=3))
        rules.append(Syscall(names=(name, "no_such_call"), action=action, errno_ret=errno, args=tuple(args)))
    return Seccomp(default_action=default, syscalls=tuple(rules))


@given(profiles(), st.lists(st.tuples(*[WORDS] * 6), min_size=1, max_size=6))
def test_the_filter_says_what_the_profile_says(profile: Seccomp, calls: list[tuple[int, ...]]) -> None:
    assert AUDIT_ARCH is not None
    program = seccomp.compile_filter(profile)
    seeds = [tuple(a.value_two or a.value for a in rule.args for _ in range(6))[:6] for rule in profile.syscalls]
    for args in [*calls, *(seed for seed in seeds if len(seed) == 6)]:
        for name, number in NUMBERS.items():
            assert run(program, number, args, AUDIT_ARCH) == naive(profile, name, args)


@pytest.mark.parametrize("action", [*VALUES, "SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"])
def test_every_action(action: str) -> None:
    assert AUDIT_ARCH is not None
    default = "SCMP_ACT_ERRNO" if action == "SCMP_ACT_ALLOW" else "SCMP_ACT_ALLOW"
    rule = Syscall(names=("read", "keyctl"), action=action)  # the second is the last of those below
    program = seccomp.compile_filter(Seccomp(default_action=default, default_errno_ret=None, syscalls=(rule,)))
    assert run(program, NUMBERS["read"], (0,) * 6, AUDIT_ARCH) == value_of(action, None)
    assert run(program, NUMBERS["write"], (0,) * 6, AUDIT_ARCH) == value_of(default, None)


ENOSYS = ERRNO | 38


@pytest.mark.skipif(platform.machine() != "x86_64", reason="its numbers")
@pytest.mark.parametrize(
    ("architectures", "answers"),
    [
        pytest.param((), {(257, X86_64): ERRNO | 1, (258, X86_64): ENOSYS}, id="native-is-implied"),
        pytest.param(
            ("X86_64", "X86", "X32"),
            {
                (257, X86_64): ERRNO | 1,
                (258, X86_64): ENOSYS,
                (257 | X32, X86_64): ERRNO | 1,
                (258 | X32, X86_64): ENOSYS,
                (1, X86_64): ALLOW,
                (4, I386): ALLOW,
                (295, I386): ERRNO | 1,
                (296, I386): ENOSYS,
            },
            id="each-has-its-own-limit",
        ),
        pytest.param(("X86",), {(258, X86_64): ENOSYS, (258 | X32, X86_64): 0}, id="x32-is-killed-as-before"),
    ],
)
def test_calls_newer_than_the_profile_do_not_exist(
    architectures: tuple[str, ...], answers: dict[tuple[int, int], int]
) -> None:
    profile = Seccomp(
        default_action="SCMP_ACT_ERRNO",
        architectures=tuple(f"SCMP_ARCH_{name}" for name in architectures),
        syscalls=(
            Syscall(names=("write",), action="SCMP_ACT_ALLOW"),
            Syscall(names=("openat", "call_of_tomorrow"), action="SCMP_ACT_ERRNO"),
        ),
    )
    program = seccomp.compile_filter(profile)
    found = {call: run(program, call[0], (0,) * 6, call[1]) for call in answers}
    assert found == answers


@pytest.mark.parametrize("default", ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"])
def test_a_default_that_lets_calls_through_lets_new_ones_through(default: str) -> None:
    assert AUDIT_ARCH is not None
    profile = Seccomp(default_action=default, syscalls=(Syscall(names=("openat",), action="SCMP_ACT_KILL"),))
    assert run(seccomp.compile_filter(profile), 400, (0,) * 6, AUDIT_ARCH) == value_of(default, None)


def lines(*rules: list[tuple[int, str, int]]) -> Seccomp:
    """Return a profile that refuses clone(2) by each of ``rules``."""
    return Seccomp(
        default_action="SCMP_ACT_ALLOW",
        syscalls=tuple(
            Syscall(
                names=("clone",),
                action="SCMP_ACT_ERRNO",
                args=tuple(SyscallArg(index=i, op=f"SCMP_CMP_{op}", value=value) for i, op, value in rule),
            )
            for rule in rules
        ),
    )


@pytest.mark.parametrize(
    ("profile", "args"),
    [
        pytest.param(lines([(0, "NE", 1)], [(0, "LT", 2**32)]), (1, 0), id="one-got-lost"),
        pytest.param(lines([(0, "LT", 2**32 + 1)], [(0, "LE", 2**31)]), (2**32 - 1, 0), id="ranges-that-overlap"),
        pytest.param(lines([(0, "NE", 9), (1, "EQ", 2)], [(0, "NE", 9), (1, "NE", 9)]), (1, 2), id="never-ended"),
    ],
)
def test_what_libseccomp_could_not_join(profile: Seccomp, args: tuple[int, int]) -> None:
    assert AUDIT_ARCH is not None
    program = seccomp.compile_filter(profile)
    assert run(program, NUMBERS["clone"], (*args, 0, 0, 0, 0), AUDIT_ARCH) == ERRNO | 1
    assert run(program, NUMBERS["read"], (*args, 0, 0, 0, 0), AUDIT_ARCH) == ALLOW


@pytest.mark.skipif(platform.machine() != "x86_64", reason="its numbers")
def test_rules_on_arguments_hold_on_every_listed_architecture() -> None:
    profile = lines([(0, "LT", 3)], [(0, "GT", 7)]).replace(
        architectures=("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")
    )
    program = seccomp.compile_filter(profile)
    for number, arch in ((56, 0xC000003E), (120, 0x40000003), (56 | 1 << 30, 0xC000003E)):
        results = [run(program, number, (value, 0, 0, 0, 0, 0), arch) for value in (2, 5, 8)]
        assert results == [ERRNO | 1, ALLOW, ERRNO | 1]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="its numbers")
def test_sockets_of_32_bit_programs_are_judged_too() -> None:
    rules = lines([(0, "LT", 3)], [(0, "GT", 7)])
    renamed = tuple(rule.replace(names=("socket",)) for rule in rules.syscalls)
    program = seccomp.compile_filter(rules.replace(syscalls=renamed, architectures=("SCMP_ARCH_X86",)))
    assert [run(program, 359, (n, 0, 0, 0, 0, 0), 0x40000003) for n in (2, 5)] == [ERRNO | 1, ALLOW]


def test_a_filter_that_the_kernel_would_refuse_is_refused_by_name() -> None:
    profile = lines(*([(0, "LT", n), (1, "GT", n)] for n in range(500)))
    with pytest.raises(
        InvalidSpec, match=r"linux\.seccomp\.syscalls: they make \d+ instructions, the kernel takes 4096"
    ):
        seccomp.compile_filter(profile)


def test_the_default_action_takes_its_errno() -> None:
    assert AUDIT_ARCH is not None
    program = seccomp.compile_filter(Seccomp(default_action="SCMP_ACT_ERRNO", default_errno_ret=38))
    assert run(program, 0, (0,) * 6, AUDIT_ARCH) == ERRNO | 38


def test_calls_of_another_architecture_are_killed_unless_it_is_listed() -> None:
    profile = Seccomp(default_action="SCMP_ACT_ALLOW", syscalls=(Syscall(names=("read",), action="SCMP_ACT_ERRNO"),))
    i386 = 0x40000003
    assert run(seccomp.compile_filter(profile), 3, (0,) * 6, i386) == 0
    if platform.machine() == "x86_64":
        both = profile.replace(architectures=("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"))
        program = seccomp.compile_filter(both)
        assert run(program, 3, (0,) * 6, i386) == ERRNO | 1  # read(2) is number 3 there
        assert run(program, 4, (0,) * 6, i386) == ALLOW


def test_a_rule_that_says_what_the_default_says_changes_nothing() -> None:
    plain = Seccomp(default_action="SCMP_ACT_ALLOW")
    rule = Syscall(names=("read",), action="SCMP_ACT_ALLOW")
    assert seccomp.compile_filter(plain.replace(syscalls=(rule,))) == seccomp.compile_filter(plain)


def test_an_architecture_that_libseccomp_does_not_know_is_named() -> None:
    profile = Seccomp(default_action="SCMP_ACT_ALLOW", architectures=("SCMP_ARCH_X86_64", "SCMP_ARCH_SHEB"))
    try:
        seccomp.compile_filter(profile)
    except InvalidSpec as error:
        assert error.where == "linux.seccomp.architectures[1]"  # noqa: PT017 - a later libseccomp knows it


def test_equal_profiles_have_one_key_and_it_needs_no_library() -> None:
    script = (
        "import sys; from pyrkt.kernel.seccomp import key; from pyrkt.spec.runtime import Seccomp\n"
        "print(key(Seccomp(default_action='SCMP_ACT_ALLOW')), 'ctypes' in sys.modules, 'hashlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    profile = Seccomp(default_action="SCMP_ACT_ALLOW")
    assert done.stdout == f"{seccomp.key(profile)} False False\n"
    assert seccomp.key(profile) != seccomp.key(profile.replace(default_action="SCMP_ACT_LOG"))
