"""linux.seccomp as a BPF program, by libseccomp (libseccomp.so.2, version 2.5): the only user of its C API.

The library is opened at the first filter, not at import: a caller that keeps compiled filters by key() never pays.
"""

from __future__ import annotations

import os
from errno import EEXIST, EINVAL, ENOSYS, EPERM
from struct import Struct

from pyrkt.base import fastjson
from pyrkt.base.errors import InvalidSpec, KernelError, PyrktError
from pyrkt.kernel import bpf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from ctypes import CDLL
    from typing import Any

    from pyrkt.spec.runtime import Seccomp, Syscall, SyscallArg

# include/seccomp.h of libseccomp; the values are those of the kernel's SECCOMP_RET_*.
_ACTIONS = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
_MOST_BYTES = 4096 * 8  # BPF_MAXINSNS, include/uapi/linux/bpf_common.h
_ATTR_OPTIMIZE, _BINARY_TREE = 8, 2
# What the library may use is told to it: asking the kernel would make the filter depend on where it is compiled.
_API_LEVEL = 5
# Conditions that libseccomp joins rightly where each of several rules has one of them.
_JOINED = ("SCMP_CMP_EQ", "SCMP_CMP_NE", "SCMP_CMP_MASKED_EQ")
_X86 = 0x40000003
# arch/x86/entry/syscalls/syscall_32.tbl: libseccomp names these by their place within socketcall(2) and ipc(2).
_X86_DIRECT = {
    name: number
    for first, names in (
        (
            359,
            "socket socketpair bind connect listen accept4 getsockopt setsockopt getsockname getpeername sendto "
            "sendmsg recvfrom recvmsg shutdown",
        ),
        (393, "semget semctl shmget shmctl shmat shmdt msgget msgsnd msgrcv msgctl"),
    )
    for number, name in enumerate(names.split(" "), first)
}
_X32, _X86_64 = 0x4000003E, 0xC000003E  # x32 is told from x86_64 by its numbers, not by AUDIT_ARCH_*
_UNKNOWN = -1
_X32_BIT = 1 << 30
# Who lets unknown calls through, or has a tracer decide on them, needs no answer for new ones.
_PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
_ARG_CMP = Struct("=IiQQ")
_FORMAT = 3  # raise it when compile_filter() makes something else of the same profile

_opened: list[CDLL] = []


def key(seccomp: Seccomp) -> str:
    """Return the name, 64 hex digits, under which the compiled filter of ``seccomp`` can be kept on this machine."""
    from _blake2 import blake2b  # noqa: PLC0415 - built in; hashlib would load OpenSSL

    text = f"{_FORMAT} {os.uname().machine} {fastjson.dumps(seccomp.dump(), sort=True)}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()


def action_value(action: str, errno_: int | None) -> int:
    """Return what a filter returns for ``action``: SECCOMP_RET_* with its data, EPERM where none is given."""
    value = _ACTIONS[action]
    if action in {"SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"}:
        value |= EPERM if errno_ is None else errno_
    return value


def _library() -> CDLL:
    if not _opened:
        import ctypes  # noqa: PLC0415 - 2.5 ms that a cached filter need not pay

        try:
            library = ctypes.CDLL("libseccomp.so.2")
        except OSError as error:
            raise PyrktError(
                f"libseccomp.so.2 cannot be loaded: {error}", hint="install libseccomp2, or run without seccomp"
            ) from error
        pointer, u32 = ctypes.c_void_p, ctypes.c_uint32
        library.seccomp_init.restype, library.seccomp_init.argtypes = pointer, [u32]
        library.seccomp_release.restype, library.seccomp_release.argtypes = None, [pointer]
        library.seccomp_attr_set.argtypes = [pointer, ctypes.c_int, u32]
        library.seccomp_arch_resolve_name.restype = library.seccomp_arch_native.restype = u32
        library.seccomp_syscall_resolve_name_arch.argtypes = [u32, ctypes.c_char_p]
        library.seccomp_arch_exist.argtypes = library.seccomp_arch_add.argtypes = [pointer, u32]
        library.seccomp_rule_add_array.argtypes = [pointer, u32, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p]
        library.seccomp_export_bpf.argtypes = [pointer, ctypes.c_int]
        library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
        library.seccomp_api_set(_API_LEVEL)
        _opened.append(library)
    return _opened[0]


def compile_filter(seccomp: Seccomp) -> bytes:
    """Return the filter as struct sock_filter[], for seccomp(2).

    System calls that libseccomp does not know are left out, as runc leaves them out: profiles name calls of many
    kernels and architectures. Of several rules on one call the first that holds decides. A call that is newer than
    all that the profile names does not exist (ENOSYS): programs then do it the old way, as they would on an old
    kernel, and a library that is newer than the profile works.
    Raises: InvalidSpec for an architecture, rule or size that cannot be; PyrktError where it is not installed.
    """
    library = _library()
    default = action_value(seccomp.default_action, seccomp.default_errno_ret)
    context = library.seccomp_init(default)
    if not context:
        raise KernelError("seccomp_init", EINVAL, seccomp.default_action)
    try:
        library.seccomp_attr_set(context, _ATTR_OPTIMIZE, _BINARY_TREE)
        for place, name in enumerate(seccomp.architectures):
            _add_architecture(library, context, name, place)
        alone = _decided_alone(seccomp)
        for place, rule in enumerate(seccomp.syscalls):
            _add_rule(library, context, default, (place, rule), alone)
        before = _newer(library, seccomp) + _prefix(library, seccomp, alone, default)
        program = before + _export(library, context)
    finally:
        library.seccomp_release(context)
    if len(program) > _MOST_BYTES:
        raise _refuse("syscalls", f"they make {len(program) // 8} instructions, the kernel takes {_MOST_BYTES // 8}")
    return program


def _refuse(where: str, problem: str) -> InvalidSpec:
    return InvalidSpec(problem, document="config.json", where=f"linux.seccomp.{where}")


def _add_architecture(library: CDLL, context: Any, name: str, place: int) -> None:
    token = library.seccomp_arch_resolve_name(name.removeprefix("SCMP_ARCH_").lower().encode())
    if token == 0:
        raise _refuse(f"architectures[{place}]", f"libseccomp here does not know {name}")
    if library.seccomp_arch_exist(context, token) == 0:
        return
    if (result := library.seccomp_arch_add(context, token)) < 0:
        raise _refuse(f"architectures[{place}]", f"libseccomp refuses {name}: {os.strerror(-result)}")


def _alternatives(rule: Syscall) -> list[tuple[SyscallArg, ...]]:
    """Return the sets of conditions any of which suffices; () is "always".

    Two conditions on one argument become two alternatives: profiles are written for runc, which reads them so.
    """
    if len({arg.index for arg in rule.args}) < len(rule.args):
        return [(arg,) for arg in rule.args]
    return [rule.args]


def _decided_alone(seccomp: Seccomp) -> dict[str, list[bpf.Rule]]:
    """Return the calls whose rules libseccomp cannot be trusted to join, each with its rules in order."""
    found: dict[str, list[bpf.Rule]] = {}
    for rule in seccomp.syscalls:
        action = action_value(rule.action, rule.errno_ret)
        for name in rule.names:
            found.setdefault(name, []).extend((action, args) for args in _alternatives(rule))
    return {name: rules for name, rules in found.items() if len(rules) > 1 and not _can_be_joined(rules)}


def _can_be_joined(rules: list[bpf.Rule]) -> bool:
    one_action = len({action for action, _ in rules}) == 1
    return one_action and all(not args or (len(args) == 1 and args[0].op in _JOINED) for _, args in rules)


def _tokens(library: CDLL, seccomp: Seccomp) -> dict[int, None]:
    """Return libseccomp's numbers of the profile's architectures, the native one among them, in a fixed order."""
    names = [name.removeprefix("SCMP_ARCH_").lower().encode() for name in seccomp.architectures]
    return {library.seccomp_arch_native(): None} | {library.seccomp_arch_resolve_name(name): None for name in names}


def _newer(library: CDLL, seccomp: Seccomp) -> bytes:
    """Return the program that answers ENOSYS for calls newer than any that the profile names on the architecture."""
    if seccomp.default_errno_ret == ENOSYS or seccomp.default_action in _PERMISSIVE:
        return b""
    limits: dict[int, tuple[int, int]] = {}
    calls = {name.encode() for rule in seccomp.syscalls for name in rule.names}
    for token in _tokens(library, seccomp):
        highest = max([library.seccomp_syscall_resolve_name_arch(token, name) for name in calls], default=0)
        if highest <= 0:
            continue
        arch = _X86_64 if token == _X32 else token
        plain, other = limits.get(arch, (0, 0))
        limits[arch] = (plain, highest) if token == _X32 else (highest, other)
    return bpf.newer(limits, _X32_BIT, action_value("SCMP_ACT_ERRNO", ENOSYS))


def _prefix(library: CDLL, seccomp: Seccomp, alone: dict[str, list[bpf.Rule]], default: int) -> bytes:
    """Return the program for the calls in ``alone``, on every architecture of the profile.

    A call made by socketcall(2) or ipc(2) is left to the rules for those: its arguments are behind a pointer, which a
    filter cannot follow.
    """
    tokens = _tokens(library, seccomp)
    calls: dict[tuple[int, int], list[bpf.Rule]] = {}
    for name, rules in alone.items():
        for token in tokens:
            number = library.seccomp_syscall_resolve_name_arch(token, name.encode())
            if number < 0 and token == _X86:
                number = _X86_DIRECT.get(name, number)
            if number >= 0:
                calls[_X86_64 if token == _X32 else token, number] = rules
    return bpf.prefix(calls, default)


def _add_rule(library: CDLL, context: Any, default: int, what: tuple[int, Syscall], alone: Container[str]) -> None:
    place, rule = what
    action = action_value(rule.action, rule.errno_ret)
    if action == default:
        return  # says nothing new, and libseccomp refuses it
    for name in rule.names:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == _UNKNOWN or name in alone:
            continue
        for args in _alternatives(rule):
            # struct scmp_arg_cmp: argument, operator, first and second number; for MASKED_EQ the mask comes first.
            packed = [_ARG_CMP.pack(arg.index, _OPERATORS[arg.op], arg.value, arg.value_two) for arg in args]
            result = library.seccomp_rule_add_array(context, action, number, len(packed), b"".join(packed) or None)
            if result < 0 and result != -EEXIST:
                raise _refuse(f"syscalls[{place}]", f"libseccomp refuses the rule for {name}: {os.strerror(-result)}")


def _export(library: CDLL, context: Any) -> bytes:
    memory = os.memfd_create("pyrkt-seccomp", os.MFD_CLOEXEC)
    try:
        if (result := library.seccomp_export_bpf(context, memory)) < 0:
            raise KernelError("seccomp_export_bpf", -result)
        return os.pread(memory, os.fstat(memory).st_size, 0)
    finally:
        os.close(memory)
