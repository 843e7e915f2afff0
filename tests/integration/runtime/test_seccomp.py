"""linux.seccomp in the kernel: every action, conditions, flags, and calls that the profile is too old to know."""

from __future__ import annotations

import platform
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.running import built, executed, started

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(platform.machine() not in {"x86_64", "aarch64"}, reason="its numbers are not known here"),
]

# Makes the call whose number and first two arguments it is given, and prints its errno.
CALLER = r"""
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	long a[3] = {0};
	for (int i = 0; i + 1 < argc && i < 3; i++)
		a[i] = strtol(argv[i + 1], NULL, 0);
	errno = 0;
	long r = syscall(a[0], a[1], a[2], 0, 0, 0, 0);
	printf("%ld %d\n", r, errno);
	return 0;
}
"""
PERSONALITY, KCMP, PIDFD_OPEN = (135, 312, 434) if platform.machine() == "x86_64" else (92, 272, 434)
NEWEST = 999
EPERM, ENOSYS, ENETDOWN, ENXIO = 1, 38, 100, 6
# What a static program needs to start, to print and to end.
NEEDED = [
    name
    for names in (
        "read write close openat newfstatat fstat mmap munmap mprotect brk exit exit_group execve arch_prctl prctl",
        "uname readlink readlinkat set_tid_address set_robust_list rseq prlimit64 getrandom futex ioctl writev capset",
        "setgid setuid setgroups setresgid setresuid umask fcntl rt_sigaction rt_sigprocmask close_range ppoll poll",
        "getpid gettid tgkill chdir getcwd openat2 sendmsg fchown setpgid dup3 faccessat",
    )
    for name in names.split()
]


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the program that makes one call."""
    path = tmp_path_factory.mktemp("caller") / "call"
    built(CALLER, path)
    return path


@pytest.fixture
def calling(box: Bundle, caller: Path) -> Bundle:
    """Return a bundle with that program."""
    (box.rootfs / "bin/call").write_bytes(caller.read_bytes())
    (box.rootfs / "bin/call").chmod(0o755)
    box.config["process"]["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]
    return box


def profile(*syscalls: dict[str, Any], default: str = "SCMP_ACT_ALLOW", **more: Any) -> dict[str, Any]:
    return {"defaultAction": default, "syscalls": list(syscalls), **more}


def rule(action: str, *names: str, **more: Any) -> dict[str, Any]:
    return {"names": list(names or ("personality",)), "action": f"SCMP_ACT_{action}", **more}


def result(runtime: Runtime, box: Bundle, number: int, *args: int) -> list[int]:
    """Return what a call returns, and its errno."""
    answer = runtime.run(box.runs("/bin/call", str(number), *map(str, args)).path)
    assert answer.code == 0, (answer.code, answer.err)
    return [int(word) for word in answer.out.split()]


@pytest.mark.parametrize("privileges", [True, False])
@pytest.mark.parametrize(
    ("action", "errno"),
    [
        pytest.param(rule("ERRNO"), EPERM, id="errno"),
        pytest.param(rule("ERRNO", errnoRet=ENETDOWN), ENETDOWN, id="errno-of-choice"),
        pytest.param(rule("ERRNO", errnoRet=0), 0, id="errno-none"),
        pytest.param(rule("TRACE"), ENOSYS, id="trace-without-a-tracer"),
        pytest.param(rule("LOG"), 0, id="log"),
        pytest.param(rule("ALLOW"), 0, id="allow"),
    ],
)
def test_actions_that_answer(
    runtime: Runtime, calling: Bundle, action: dict[str, Any], errno: int, *, privileges: bool
) -> None:
    calling.config["process"]["noNewPrivileges"] = not privileges
    calling.config["linux"]["seccomp"] = profile(action)
    assert result(runtime, calling, PERSONALITY, 0)[1] == errno


@pytest.mark.parametrize("action", ["KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP"])
def test_actions_that_end_the_program(runtime: Runtime, calling: Bundle, action: str) -> None:
    calling.config["linux"]["seccomp"] = profile(rule(action))
    answer = runtime.run(calling.runs("/bin/call", str(PERSONALITY)).path)
    assert answer.code == 128 + signal.SIGSYS


@pytest.mark.parametrize(
    ("op", "value", "more", "refused"),
    [
        ("EQ", 5, {}, {5}),
        ("NE", 5, {}, {4, 6, 7}),
        ("LT", 5, {}, {4}),
        ("LE", 5, {}, {4, 5}),
        ("GT", 5, {}, {6, 7}),
        ("GE", 5, {}, {5, 6, 7}),
        ("MASKED_EQ", 6, {"valueTwo": 4}, {4, 5}),
    ],
)
def test_conditions(
    runtime: Runtime, calling: Bundle, op: str, value: int, more: dict[str, int], refused: set[int]
) -> None:
    condition = {"index": 0, "value": value, "op": f"SCMP_CMP_{op}", **more}
    calling.config["linux"]["seccomp"] = profile(rule("ERRNO", "kcmp", errnoRet=ENXIO, args=[condition]))
    calls = "; ".join(f"/bin/call {KCMP} {argument} 1" for argument in (4, 5, 6, 7))
    answer = runtime.run(calling.script(calls).path)
    errors = [int(line.split()[1]) for line in answer.out.splitlines()]
    assert {argument for argument, errno in zip((4, 5, 6, 7), errors, strict=True) if errno == ENXIO} == refused


def test_two_conditions_must_both_hold(runtime: Runtime, calling: Bundle) -> None:
    conditions = [{"index": place, "value": 1, "op": "SCMP_CMP_EQ"} for place in (0, 1)]
    calling.config["linux"]["seccomp"] = profile(rule("ERRNO", "kcmp", errnoRet=ENXIO, args=conditions))
    answer = runtime.run(calling.script(f"/bin/call {KCMP} 1 1; /bin/call {KCMP} 1 2").path)
    assert [line.split()[1] == str(ENXIO) for line in answer.out.splitlines()] == [True, False]


def test_calls_newer_than_the_profile_do_not_exist(runtime: Runtime, calling: Bundle) -> None:
    calling.config["linux"]["seccomp"] = profile(
        rule("ALLOW", *NEEDED), rule("ERRNO", "pidfd_open", errnoRet=ENXIO), default="SCMP_ACT_ERRNO"
    )
    assert result(runtime, calling, PIDFD_OPEN)[1] == ENXIO
    assert result(runtime, calling, PERSONALITY)[1] == EPERM
    assert result(runtime, calling, NEWEST)[1] == ENOSYS


def test_the_default_errno_is_for_known_calls(runtime: Runtime, calling: Bundle) -> None:
    calling.config["linux"]["seccomp"] = profile(
        rule("ALLOW", *NEEDED), default="SCMP_ACT_ERRNO", defaultErrnoRet=ENXIO
    )
    assert result(runtime, calling, PERSONALITY)[1] == ENXIO
    assert result(runtime, calling, NEWEST)[1] == ENOSYS


@pytest.mark.parametrize(
    ("flags", "value"),
    [
        (None, 4),
        ([], 0),
        (["SECCOMP_FILTER_FLAG_TSYNC"], 0),
        (["SECCOMP_FILTER_FLAG_LOG"], 2),
        (["SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_LOG"], 6),
    ],
)
def test_flags(runtime: Runtime, calling: Bundle, flags: list[str] | None, value: int) -> None:
    calling.config["linux"]["seccomp"] = profile(rule("ERRNO"), flags=flags)
    calling.config["process"]["args"] = ["/bin/call", str(PERSONALITY)]
    runtime.command = (*runtime.command, "--debug")
    answer = runtime.run(calling.save().path)
    assert answer.out.split()[1] == str(EPERM)
    assert f'"seccomp filter flags: {value}"' in answer.err


def test_exec_is_under_the_same_filter(runtime: Runtime, calling: Bundle) -> None:
    calling.config["linux"]["seccomp"] = profile(rule("ERRNO", errnoRet=ENETDOWN))
    name = started(runtime, calling)
    assert executed(runtime, name, "/bin/call", str(PERSONALITY)).split()[1] == str(ENETDOWN)


def test_a_filter_that_forbids_what_sets_a_container_up(runtime: Runtime, calling: Bundle) -> None:
    names = ("close_range", "fsopen", "fsconfig", "fspick", "openat2", "open_tree", "move_mount", "mount_setattr")
    for privileges in (False, True):
        calling.config["process"]["noNewPrivileges"] = not privileges
        calling.config["linux"]["seccomp"] = profile(
            rule("ERRNO", *names, errnoRet=ENOSYS), architectures=[f"SCMP_ARCH_{platform.machine().upper()}"]
        )
        assert runtime.run(calling.runs("true").path).code == 0


def test_a_start_container_hook_is_under_the_filter(runtime: Runtime, calling: Bundle) -> None:
    calling.config["linux"]["seccomp"] = profile(rule("KILL"))
    calling.config["hooks"] = {"startContainer": [{"path": "/bin/call", "args": ["call", str(PERSONALITY)]}]}
    answer = runtime.run(calling.runs("true").path)
    assert answer.code == 1
    assert "error running startContainer hook #0" in answer.err
    assert "bad system call" in answer.err


@pytest.mark.parametrize(
    ("seccomp", "problem"),
    [
        (profile(default="SCMP_ACT_NOTIFY"), "SCMP_ACT_NOTIFY cannot be used as default action"),
        (profile(rule("NOTIFY", "mkdir")), "linux.seccomp.listenerPath: is required"),
        (profile(rule("JUMP")), "linux.seccomp.syscalls[0].action: "),
        (profile(rule("ERRNO", args=[{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}])), "args[0].index: "),
        (profile(rule("ERRNO", args=[{"index": 0, "value": 0, "op": "SCMP_CMP_X"}])), "args[0].op: "),
        (profile(architectures=["SCMP_ARCH_Z80"]), "linux.seccomp.architectures[0]: "),
        (profile(flags=["SECCOMP_FILTER_FLAG_X"]), "linux.seccomp.flags[0]: "),
        (profile(flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]), "needs a rule that says SCMP_ACT_NOTIFY"),
    ],
)
def test_what_is_refused(runtime: Runtime, box: Bundle, seccomp: dict[str, Any], problem: str) -> None:
    box.config["linux"]["seccomp"] = seccomp
    answer = runtime.run(box.save().path)
    assert answer.code == 1
    assert problem in answer.err
