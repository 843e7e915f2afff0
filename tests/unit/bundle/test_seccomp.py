"""The default filter: what a program may call, by a naive reading of the rules."""

from __future__ import annotations

import errno
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.base.errors import InvalidSpec
from pyrkt.base.reader import Reader
from pyrkt.bundle import seccomp
from pyrkt.bundle.defaults import CAPABILITIES
from pyrkt.spec.capabilities import NAMES
from pyrkt.spec.runtime import Seccomp, SyscallArg

ALLOW = "allowed"


def holds(argument: SyscallArg, values: tuple[int, ...]) -> bool:
    value = values[argument.index]
    if argument.op == "SCMP_CMP_EQ":
        return value == argument.value
    assert argument.op == "SCMP_CMP_MASKED_EQ"
    return value & argument.value == argument.value_two


def verdict(filter_: Seccomp, name: str, *values: int) -> str:
    """Return what happens to a call: "allowed", an errno name, "kill"; all rules that match must agree."""
    matching = {
        (rule.action, rule.errno_ret)
        for rule in filter_.syscalls
        if name in rule.names and all(holds(argument, values) for argument in rule.args)
    }
    assert len(matching) <= 1, f"{name}{values}: {matching}"
    action, number = matching.pop() if matching else (filter_.default_action, filter_.default_errno_ret)
    if action == "SCMP_ACT_ALLOW":
        return ALLOW
    return "kill" if action == "SCMP_ACT_KILL_PROCESS" else errno.errorcode[number or 0]


DEFAULT = seccomp.default(CAPABILITIES, "x86_64")
ALL = seccomp.default(NAMES, "x86_64")


ORDINARY = """
    execve execveat exit exit_group read write openat close mmap munmap mprotect brk futex futex_waitv
    epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 sigaltstack rt_sigaction rt_sigprocmask rt_sigreturn getrandom
    sched_getaffinity sched_yield gettid tgkill nanosleep clock_gettime clock_nanosleep set_tid_address
    set_robust_list rseq prlimit64 arch_prctl pipe2 dup3 fcntl getdents64 newfstatat statx faccessat2 madvise mincore
    pread64 uname getuid setgroups setresuid chown fchownat mknodat chroot kill wait4 waitid memfd_create membarrier
    bind listen accept4 connect sendmsg recvmsg setsockopt getsockopt socketpair eventfd2 timerfd_create signalfd4
    inotify_init1 inotify_add_watch landlock_create_ruleset close_range fallocate copy_file_range splice sendfile
    prctl seccomp ptrace io_submit ioctl mremap msync flock fsync renameat2 unlinkat
    """
HOSTS = """
    mount umount2 move_mount open_tree fsopen fsmount fsconfig fspick mount_setattr pivot_root setns unshare bpf
    perf_event_open init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff
    open_by_handle_at add_key request_key keyctl userfaultfd io_uring_setup io_uring_enter io_uring_register
    settimeofday clock_settime acct quotactl syslog sethostname setdomainname iopl ioperm kcmp process_madvise
    pidfd_getfd mbind set_mempolicy move_pages vhangup fanotify_init lookup_dcookie socketcall uselib ustat
    """


@pytest.mark.parametrize("name", ORDINARY.split())
def test_lets_ordinary_programs_be(name: str) -> None:
    assert verdict(DEFAULT, name, 0, 0, 0, 0, 0, 0) == ALLOW


@pytest.mark.parametrize("name", HOSTS.split())
def test_refuses_what_reaches_the_host(name: str) -> None:
    assert verdict(DEFAULT, name, 0, 0, 0, 0, 0, 0) == "EPERM"


@pytest.mark.parametrize("name", ["clone3", "a_call_of_2040", "lsm_list_modules_2"])
def test_unknown_calls_do_not_exist(name: str) -> None:
    assert verdict(DEFAULT, name, 0) == "ENOSYS"


@pytest.mark.parametrize(
    ("capability", "name"),
    [(capability, words.split()[0]) for capability, words in seccomp.BY_CAPABILITY.items()],
)
def test_a_capability_opens_its_calls(capability: str, name: str) -> None:
    assert verdict(seccomp.default((), "x86_64"), name) == "EPERM"
    assert verdict(seccomp.default((capability,), "x86_64"), name) == ALLOW


NEW = {"NEWNS": 0x20000, "NEWCGROUP": 0x2000000, "NEWUSER": 0x10000000, "NEWPID": 0x20000000, "NEWNET": 0x40000000}


@given(st.integers(0, (1 << 64) - 1))
def test_clone_makes_no_namespace_without_sys_admin(flags: int) -> None:
    expected = "EPERM" if flags & 0x7E020000 else ALLOW
    assert verdict(DEFAULT, "clone", flags) == expected
    assert verdict(ALL, "clone", flags) == ALLOW


def test_clone_flags_of_threads_and_forks_are_allowed() -> None:
    thread = 0x3D0F00  # CLONE_VM|FS|FILES|SIGHAND|THREAD|SYSVSEM|SETTLS|PARENT_SETTID|CHILD_CLEARTID
    for flags in (thread, 17, 0x1200011, 0x4111):
        assert verdict(DEFAULT, "clone", flags) == ALLOW
    for flag in NEW.values():
        assert verdict(DEFAULT, "clone", thread | flag) == "EPERM"
    assert verdict(ALL, "clone3") == ALLOW
    s390 = seccomp.default((), "s390x")
    assert verdict(s390, "clone", 0, NEW["NEWUSER"]) == "EPERM"
    assert verdict(s390, "clone", NEW["NEWUSER"], 17) == ALLOW


@given(st.integers(0, 47), st.integers(0, (1 << 32) - 1))
def test_socket_families_whatever_the_high_bits_say(family: int, high: int) -> None:
    expected = "EAFNOSUPPORT" if family in {38, 40} else ALLOW
    assert verdict(DEFAULT, "socket", high << 32 | family) == expected
    assert verdict(ALL, "socket", high << 32 | family) == expected


@pytest.mark.parametrize(
    ("persona", "expected"),
    [(0, ALLOW), (8, ALLOW), (0x20000, ALLOW), (0xFFFFFFFF, ALLOW), (0x0040000, "ENOSYS"), (4, "ENOSYS")],
)
def test_personalities(persona: int, expected: str) -> None:
    assert verdict(DEFAULT, "personality", persona) == expected


@pytest.mark.parametrize("machine", [*seccomp.ARCHITECTURES, "vax", ""])
@pytest.mark.parametrize("capabilities", [(), CAPABILITIES, NAMES], ids=["none", "default", "all"])
def test_is_a_filter_by_the_specification(machine: str, capabilities: tuple[str, ...]) -> None:
    made = seccomp.default(capabilities, machine)
    assert Seccomp.parse(Reader(made.dump(), "x")) == made
    unconditional = [name for rule in made.syscalls if not rule.args for name in rule.names]
    assert len(unconditional) == len(set(unconditional))
    # libseccomp makes socketcall of socket on x86 and then refuses rules that disagree.
    if "SCMP_ARCH_X86" in made.architectures:
        names = [(rule.names, rule.args) for rule in made.syscalls]
        first_socket = next(place for place, (calls, args) in enumerate(names) if "socket" in calls and args)
        assert any("socketcall" in calls and not args for calls, args in names[:first_socket])


def test_32_bit_programs_are_filtered_not_killed() -> None:
    assert DEFAULT.architectures == ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")
    assert "SCMP_ARCH_ARM" in seccomp.default((), "aarch64").architectures


def test_tables_say_nothing_twice() -> None:
    texts = [*seccomp.ALLOWED.values(), seccomp.REFUSED]
    words = [word for text in texts for word in text.split()]
    assert sorted(words) == sorted(set(words))
    assert not set(seccomp.allowed_names()) & set(seccomp.refused_names())
    for text in texts:
        assert all(word.isidentifier() and word == word.lower() for word in text.split())


# --- sets of appc and rkt ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "names", "errno_name", "call", "expected"),
    [
        ("retain", ("read", "write"), "", "read", ALLOW),
        ("retain", ("read", "write"), "", "stat", "kill"),
        ("retain", ("read",), "EXFULL", "stat", "EXFULL"),
        ("retain", ("read",), "", "execve", ALLOW),
        ("retain", ("read",), "", "exit_group", ALLOW),
        ("retain", ("@appc.io/empty",), "EPERM", "read", "EPERM"),
        ("retain", ("@rkt/default-whitelist", "mount"), "", "mount", ALLOW),
        ("retain", ("@docker/default-whitelist",), "EPERM", "openat", ALLOW),
        ("retain", ("@docker/default-whitelist",), "EPERM", "mount", "EPERM"),
        ("remove", ("stat",), "EXFULL", "stat", "EXFULL"),
        ("remove", ("stat",), "", "stat", "kill"),
        ("remove", ("stat",), "", "read", ALLOW),
        ("remove", ("@rkt/default-blacklist",), "EPERM", "mount", "EPERM"),
        ("remove", ("@docker/default-blacklist",), "EPERM", "read", ALLOW),
    ],
)
def test_sets(mode: str, names: tuple[str, ...], errno_name: str, call: str, expected: str) -> None:
    made = (seccomp.retain if mode == "retain" else seccomp.remove)(names, errno_name, "x86_64")
    assert made is not None
    assert verdict(made, call) == expected
    assert Seccomp.parse(Reader(made.dump(), "x")) == made


def test_sets_that_mean_all_or_nothing() -> None:
    assert seccomp.retain(("@appc.io/all",), "") is None
    assert seccomp.is_default("remove", ("@appc.io/empty",))
    assert seccomp.is_default("remove", ("@appc.io/empty", "read"))  # it masks what stands beside it
    assert not seccomp.is_default("remove", ("read",))
    assert not seccomp.is_default("retain", ("@appc.io/empty",))
    with pytest.raises(InvalidSpec, match="no system call would be left"):
        seccomp.remove(("@appc.io/all",), "")


@pytest.mark.parametrize(
    ("names", "errno_name", "problem"),
    [
        (("@systemd/clock",), "", "no set is called '@systemd/clock'"),
        (("read",), "ENOTHING", "no error is called 'ENOTHING'"),
        (("read",), "errorcode", "no error is called 'errorcode'"),
    ],
)
def test_what_does_not_exist_is_refused(names: tuple[str, ...], errno_name: str, problem: str) -> None:
    with pytest.raises(InvalidSpec, match=problem):
        seccomp.check_names(names, errno_name)
    seccomp.check_names(("read", "@appc.io/all"), "EPERM")


POSIX = """
E2BIG EACCES EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EAGAIN EALREADY EBADF EBADMSG EBUSY ECANCELED ECHILD ECONNABORTED
ECONNREFUSED ECONNRESET EDEADLK EDESTADDRREQ EDOM EDQUOT EEXIST EFAULT EFBIG EHOSTUNREACH EIDRM EILSEQ EINPROGRESS EINTR
EINVAL EIO EISCONN EISDIR ELOOP EMFILE EMLINK EMSGSIZE EMULTIHOP ENAMETOOLONG ENETDOWN ENETRESET ENETUNREACH ENFILE
ENOBUFS ENODATA ENODEV ENOENT ENOEXEC ENOLCK ENOLINK ENOMEM ENOMSG ENOPROTOOPT ENOSPC ENOSR ENOSTR ENOSYS ENOTCONN
ENOTDIR ENOTEMPTY ENOTSOCK ENOTSUP ENOTTY ENXIO EOPNOTSUPP EOVERFLOW EPERM EPIPE EPROTO EPROTONOSUPPORT EPROTOTYPE
ERANGE EROFS ESPIPE ESRCH ESTALE ETIME ETIMEDOUT ETXTBSY EWOULDBLOCK EXDEV
"""


def test_every_errno_of_posix_and_c99_is_known() -> None:
    """appc 0.8, seccomp sets: MUST support the codes of POSIX.1-2001 and C99, SHOULD those of Linux alone."""
    unknown = [name for name in (*POSIX.split(), "EXFULL", "EHWPOISON") if not seccomp.errno_number(name)]
    assert unknown == []


def test_the_naive_reading_is_never_torn() -> None:
    for capability, flags in product((CAPABILITIES, NAMES), (0, *NEW.values())):
        verdict(seccomp.default(capability, "aarch64"), "clone", flags)
