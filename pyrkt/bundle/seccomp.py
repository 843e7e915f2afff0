"""The default filter of system calls, and the named sets that images and users build filters from.

A list of what is allowed, ordered by purpose. A call that is known and refused fails with EPERM; one that nobody has
heard of fails with ENOSYS, so that a newer C library falls back to what it did before (glibc tries clone3, faccessat2
or fchmodat2 first, and takes EPERM for the final word).
"""

from __future__ import annotations

import errno
import platform
from typing import TYPE_CHECKING

from pyrkt.base.errors import InvalidSpec
from pyrkt.spec.runtime import Seccomp, Syscall, SyscallArg

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

# What any program may do. Names of all architectures together; one that an architecture lacks is skipped there.
ALLOWED: Mapping[str, str] = {
    "processes": """
        fork vfork execve execveat exit exit_group wait4 waitid waitpid getpid getppid gettid getpgid getpgrp getsid
        setpgid setsid set_tid_address set_thread_area get_thread_area set_robust_list get_robust_list rseq membarrier
        prctl seccomp restart_syscall getpriority setpriority getrusage times sysinfo uname umask getcpu ptrace
        process_vm_readv process_vm_writev process_mrelease pidfd_open pidfd_send_signal riscv_hwprobe
        map_shadow_stack uretprobe
        """,
    "identity": """
        getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getresuid getresuid32 getresgid
        getresgid32 getgroups getgroups32 setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32
        setresuid setresuid32 setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 setgroups setgroups32
        capget capset landlock_create_ruleset landlock_add_rule landlock_restrict_self
        """,
    "scheduling and limits": """
        sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam sched_setparam
        sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval
        sched_rr_get_interval_time64 ioprio_get ioprio_set getrlimit ugetrlimit setrlimit prlimit64 nice
        """,
    "signals": """
        kill tkill tgkill pause sigaction signal sigpending sigprocmask sigreturn sigsuspend sigaltstack rt_sigaction
        rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_tgsigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
        rt_sigtimedwait_time64 signalfd signalfd4 alarm
        """,
    "time": """
        time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_nanosleep
        clock_nanosleep_time64 clock_adjtime clock_adjtime64 adjtimex nanosleep getitimer setitimer timer_create
        timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd
        timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64
        """,
    "memory": """
        brk mmap mmap2 munmap mremap mprotect madvise msync mincore mlock mlock2 mlockall munlock munlockall mseal
        remap_file_pages pkey_alloc pkey_free pkey_mprotect memfd_create memfd_secret cachestat
        """,
    "files": """
        open openat openat2 creat close close_range dup dup2 dup3 fcntl fcntl64 flock ioctl lseek _llseek read readv
        pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 sendfile sendfile64 splice tee vmsplice
        copy_file_range readahead fadvise64 fadvise64_64 fallocate ftruncate ftruncate64 truncate truncate64 fsync
        fdatasync sync syncfs sync_file_range
        """,
    "names and attributes": """
        stat stat64 fstat fstat64 lstat lstat64 fstatat64 newfstatat statx statfs statfs64 fstatfs fstatfs64 statmount
        listmount access faccessat faccessat2 getcwd chdir fchdir getdents getdents64 readdir readlink readlinkat
        mkdir mkdirat rmdir mknod mknodat link linkat symlink symlinkat unlink unlinkat rename renameat renameat2
        chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat lchown lchown32 utime utimes utimensat
        utimensat_time64 futimesat getxattr getxattrat lgetxattr fgetxattr setxattr setxattrat lsetxattr fsetxattr
        listxattr listxattrat llistxattr flistxattr removexattr removexattrat lremovexattr fremovexattr
        name_to_handle_at inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark
        """,
    "waiting": """
        select _newselect pselect6 pselect6_time64 poll ppoll ppoll_time64 epoll_create epoll_create1 epoll_ctl
        epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2 futex futex_time64
        futex_wait futex_wake futex_waitv futex_requeue io_setup io_submit io_cancel io_getevents io_destroy
        io_pgetevents io_pgetevents_time64
        """,
    "talking": """
        pipe pipe2 socketpair bind listen accept accept4 connect shutdown getsockname getpeername getsockopt
        setsockopt send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64 getrandom ipc msgget
        msgsnd msgrcv msgctl semget semop semtimedop semtimedop_time64 semctl shmget shmat shmdt shmctl mq_open
        mq_unlink mq_timedsend mq_timedsend_time64 mq_timedreceive mq_timedreceive_time64 mq_notify mq_getsetattr
        """,
}

# What needs a capability anyhow, or a kernel path too rich in holes to be open to who has not.
BY_CAPABILITY: Mapping[str, str] = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": """
        bpf fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules
        lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname
        sethostname setns syslog umount umount2 unshare
        """,
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module init_module finit_module query_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYSLOG": "syslog",
}

# Known and refused whatever the capabilities: keys are not namespaced, userfaultfd and io_uring serve exploits more
# than programs, the rest is obsolete or the host's. socketcall, 32-bit x86's one call for all of networking, keeps
# its arguments in memory: whoever may use it may have any socket family. C libraries have not needed it since 2015
# (Linux 4.3 gave x86 the calls themselves); Go programs built for 386 still do.
REFUSED = """
    add_key keyctl request_key userfaultfd io_uring_setup io_uring_enter io_uring_register kexec_load kexec_file_load
    migrate_pages move_pages nfsservctl pivot_root swapon swapoff sysfs _sysctl uselib ustat vm86 vm86old bdflush
    create_module get_kernel_syms pciconfig_iobase pciconfig_read pciconfig_write sgetmask ssetmask
    socketcall
    """

_ARCHITECTURE_CALLS: Mapping[str, str] = {
    "SCMP_ARCH_X86_64": "arch_prctl modify_ldt",
    "SCMP_ARCH_X86": "arch_prctl modify_ldt",
    "SCMP_ARCH_AARCH64": "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
    "SCMP_ARCH_ARM": "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
    "SCMP_ARCH_PPC64LE": "sync_file_range2 swapcontext",
    "SCMP_ARCH_S390X": "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
    "SCMP_ARCH_RISCV64": "riscv_flush_icache",
}

# uname -m, and the architectures whose programs run there; without the 32-bit ones their calls would kill.
ARCHITECTURES: Mapping[str, tuple[str, ...]] = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "i686": ("SCMP_ARCH_X86",),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
    "armv7l": ("SCMP_ARCH_ARM",),
    "armv6l": ("SCMP_ARCH_ARM",),
    "ppc64le": ("SCMP_ARCH_PPC64LE",),
    "s390x": ("SCMP_ARCH_S390X", "SCMP_ARCH_S390"),
    "riscv64": ("SCMP_ARCH_RISCV64",),
    "loongarch64": ("SCMP_ARCH_LOONGARCH64",),
    "mips64": ("SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_MIPSEL"),
}

# include/uapi/linux/sched.h: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. (NEWTIME shares its bit with
# the exit signal; clone does not take it, and clone3, whose flags lie in memory, is refused as unknown.)
_CLONE_NEW = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)  # LINUX, LINUX32, with UNAME26; ask
_WORD = 0xFFFFFFFF
_ERRNO = "SCMP_ACT_ERRNO"
_ALLOW = "SCMP_ACT_ALLOW"
# All socket families but AF_ALG (38) and AF_VSOCK (40), as (mask, value). The kernel looks at the low 32 bits of the
# argument only, so a plain comparison of 64 could be walked around.
_FAMILIES = (
    (0xFFFFFFE0, 0),
    (0xFFFFFFFC, 32),
    (0xFFFFFFFE, 36),
    (_WORD, 39),
    (_WORD, 41),
    (0xFFFFFFFE, 42),
    (0xFFFFFFFC, 44),
)
_REFUSED_FAMILIES = (38, 40)


def _words(texts: Collection[str]) -> list[str]:
    return [word for text in texts for word in text.split()]


def default(capabilities: Collection[str], machine: str = "") -> Seccomp:
    """Return the default filter for a process that has ``capabilities``, on ``machine`` (``uname -m``; empty: here)."""
    architectures = ARCHITECTURES.get(machine or platform.machine(), ())
    allowed = _words(ALLOWED.values())
    for architecture in architectures:
        allowed += _words((_ARCHITECTURE_CALLS.get(architecture, ""),))
    gated = set(_words(BY_CAPABILITY.values()))
    for name in capabilities:
        allowed += _words((BY_CAPABILITY.get(name, ""),))
    # The order matters: libseccomp turns rules for socket into rules for socketcall on x86, without their arguments,
    # and that conflicts unless socketcall is refused whole before.
    rules = [Syscall(names=tuple(sorted(set(allowed))), action=_ALLOW)]
    refused = (gated | set(_words((REFUSED,)))) - set(allowed)
    rules.append(Syscall(names=tuple(sorted(refused)), action=_ERRNO, errno_ret=errno.EPERM))
    rules += [_when("personality", 0, value, op="SCMP_CMP_EQ") for value in _PERSONALITIES]
    rules += [_when("socket", 0, value, mask) for mask, value in _FAMILIES]
    rules += [_when("socket", 0, family, _WORD, refuse=errno.EAFNOSUPPORT) for family in _REFUSED_FAMILIES]
    if "CAP_SYS_ADMIN" in capabilities:
        rules.append(Syscall(names=("clone", "clone3"), action=_ALLOW))
    else:
        place = 1 if "SCMP_ARCH_S390X" in architectures else 0  # s390 swaps the first two arguments
        rules.append(_when("clone", place, 0, sum(_CLONE_NEW)))
        rules += [_when("clone", place, flag, flag, refuse=errno.EPERM) for flag in _CLONE_NEW]
    return Seccomp(
        default_action="SCMP_ACT_ERRNO",
        default_errno_ret=errno.ENOSYS,
        architectures=architectures,
        syscalls=tuple(rules),
    )


def _when(name: str, index: int, value: int, mask: int = 0, *, op: str = "", refuse: int = 0) -> Syscall:
    """Return the rule for ``name`` with argument ``index`` that under ``mask`` is ``value``; ``refuse``: an errno."""
    if op:
        argument = SyscallArg(index=index, value=value, op=op)
    else:
        argument = SyscallArg(index=index, value=mask, value_two=value, op="SCMP_CMP_MASKED_EQ")
    if refuse:
        return Syscall(names=(name,), action=_ERRNO, errno_ret=refuse, args=(argument,))
    return Syscall(names=(name,), action=_ALLOW, args=(argument,))


def allowed_names() -> tuple[str, ...]:
    """Return the calls that the default filter leaves to any process, the conditional ones among them."""
    names = _words(ALLOWED.values()) + _words(_ARCHITECTURE_CALLS.values())
    return tuple(sorted({*names, "clone", "personality", "socket"}))


def refused_names() -> tuple[str, ...]:
    """Return the calls that the default filter refuses to a process without capabilities."""
    return tuple(sorted((set(_words(BY_CAPABILITY.values())) | set(_words((REFUSED,)))) - set(allowed_names())))


# What a process needs to begin and to end, which a set "only these" always includes: systemd, under which such sets
# were written, adds them silently; we add them and say so.
ALWAYS = ("execve", "exit", "exit_group", "getrlimit", "rt_sigreturn", "sigreturn")

_EVERYTHING, _NOTHING = "@appc.io/all", "@appc.io/empty"


def retain(names: Collection[str], errno_name: str, machine: str = "") -> Seccomp | None:
    """Return the filter that leaves ``names``, named sets among them; None where that is no filter at all.

    ``errno_name`` is what a refused call fails with; empty: it kills the process (appc 0.8, seccomp-retain-set).
    """
    if _EVERYTHING in names:
        return None
    calls = _expand(names) | set(ALWAYS)
    action, number = _refusal(errno_name)
    return Seccomp(
        default_action=action,
        default_errno_ret=number,
        architectures=ARCHITECTURES.get(machine or platform.machine(), ()),
        syscalls=(Syscall(names=tuple(sorted(calls)), action=_ALLOW),),
    )


def remove(names: Collection[str], errno_name: str, machine: str = "") -> Seccomp:
    """Return the filter that takes ``names`` away and leaves the rest (appc 0.8, seccomp-remove-set).

    Raises: InvalidSpec if nothing would be left: no program could even be started.
    """
    if _EVERYTHING in names:
        raise InvalidSpec("no system call would be left to the program", document="seccomp set")
    action, number = _refusal(errno_name)
    return Seccomp(
        default_action=_ALLOW,
        architectures=ARCHITECTURES.get(machine or platform.machine(), ()),
        syscalls=(Syscall(names=tuple(sorted(_expand(names))), action=action, errno_ret=number),),
    )


def is_default(mode: str, names: Collection[str]) -> bool:
    """Tell whether a set asks for the default filter: "remove nothing", which masks whatever stands beside it.

    Source: appc 0.8, seccomp-remove-set, note 4.
    """
    return mode == "remove" and _NOTHING in names


def added(names: Collection[str]) -> tuple[str, ...]:
    """Return the calls that ``retain`` leaves a process although ``names`` does not say them."""
    return () if _EVERYTHING in names else tuple(name for name in ALWAYS if name not in _expand(names))


def check_names(names: Collection[str], errno_name: str) -> None:
    """Refuse a set or an errno that does not exist: left out, it would open what was meant to be shut.

    Raises: InvalidSpec.
    """
    for name in names:
        if name.startswith("@") and name not in _SETS:
            raise InvalidSpec(f"no set is called {name!r}", document="seccomp", hint=f"known are {', '.join(_SETS)}")
    if errno_name and errno_number(errno_name) is None:
        raise InvalidSpec(f"no error is called {errno_name!r}", document="seccomp", hint="errno(3) lists them")


# rkt's names; its whitelist was Docker's, so both mean ours. Blacklists: what the default refuses.
_SETS: Mapping[str, tuple[str, ...]] = {
    _EVERYTHING: (),
    _NOTHING: (),
    "@rkt/default-whitelist": allowed_names(),
    "@docker/default-whitelist": allowed_names(),
    "@rkt/default-blacklist": refused_names(),
    "@docker/default-blacklist": refused_names(),
}


def _expand(names: Collection[str]) -> set[str]:
    """Return the calls that ``names`` stands for; a set that does not exist stands for none."""
    return {call for name in names for call in (_SETS.get(name, ()) if name.startswith("@") else (name,))}


def _refusal(errno_name: str) -> tuple[str, int | None]:
    if not errno_name:
        return "SCMP_ACT_KILL_PROCESS", None
    return "SCMP_ACT_ERRNO", errno_number(errno_name)


_ERRNO_PYTHON_LACKS = {"EHWPOISON": 133}  # include/uapi/asm-generic/errno.h


def errno_number(name: str) -> int | None:
    """Return the number of an errno name; None if there is none."""
    number = getattr(errno, name, _ERRNO_PYTHON_LACKS.get(name))
    return number if isinstance(number, int) else None
