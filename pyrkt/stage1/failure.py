"""What a failed step means to a person: one sentence, with the line of configuration that asked for it, and a hint."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C half of signal; its enums cost 3 ms
import errno as numbers
from os import strerror

from pyrkt.base.errors import NotExecutable, ProgramMissing, StartFailed, printable
from pyrkt.spec import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.base.errors import PyrktError

# What stage1 was doing within the step; the numbers are those of details.h.
DETAILS = {
    0: "",
    1: "opening the source",
    2: "finding the target inside the root",
    3: "making the target inside the root",
    4: "setting an option of the file system",
    5: "creating the file system",
    6: "setting the attributes of the mount",
    7: "attaching the mount",
    8: "the target lies in a procfs of the image's making",
    9: "writing",
    10: "putting the new file in place",
    11: "making the process",
    12: "waiting for the other process",
    13: "reaching the console socket",
    14: "it is not what it should be",
    15: "it took too long",
    16: "setting the groups",
    17: "setting the group id",
    18: "setting the user id",
    19: "raising an ambient capability",
    20: "detaching the host's root",
    21: "changing the directory",
    22: "mapping the ids of the mount",
    23: "copying what the mount covers",
    24: "giving it its addresses again",
    40: "finding its interpreter",
}
NO_INTERPRETER = 40
_OPENING, _TARGET, _MAKING, _OPTION, _ATTACHING, _PROC, _TYPE, _MAPS, _COPYING = 1, 2, 3, 4, 7, 8, 14, 22, 23
TIMED_OUT, _MISSING_PROGRAM, _SIGNALLED = 124, 127, 128

# What a person would call the step; {0} is its first argument. Of mounts runc's words are known to those who look.
_WORDS = {
    steps.MKDIR: "making the directory {0}",
    steps.WRITE: "writing {1} to {0}",
    steps.OPEN: "opening {1}",
    steps.RMDIR: "removing {0}",
    steps.UNLINK: "removing {0}",
    steps.RENAME: "renaming {0} to {1}",
    steps.CREATE: "writing {0}",
    steps.OPEN_TREE: "taking {1} as a source of mounts",
    steps.CHOWN: "giving {0} to user {1}",
    steps.CGROUP_DEVICES: "setting the device rules of {0}",
    steps.CONNECT: "failed to connect with seccomp agent {1}",
    steps.ADOPT: "watching process {0}",
    steps.SEND_PIDFD: "sending a pidfd to {0}",
    steps.CLONE: "making the namespaces",
    steps.MAP_IDS: "mapping user and group ids",
    steps.MAP_HELPER: "mapping ids by {0}",
    steps.ENTER_CGROUP: "entering the cgroup {0}",
    steps.ENTER_CGROUP_SLOT: "entering a cgroup",
    steps.PID_FILE: "writing the pid file {0}",
    steps.RECORD: "recording the container's pid in {0}",
    steps.HOOK: "running the hook {0}",
    steps.LET_GO: "ending the process that held the scope",
    steps.STREAMS: "making the streams of the app, and its log {0}",
    steps.STREAM_ENDS: "setting standard input and output up",
    steps.STILL: "joining the namespaces of process {0}",
    steps.SETNS: "joining a namespace",
    steps.UNSHARE: "making a namespace",
    steps.SETSID: "starting a session",
    steps.KEYRING: "joining a session keyring",
    steps.LOOPBACK: "bringing the loopback interface up",
    steps.HOSTNAME: "setting the hostname {0!r}",
    steps.DOMAINNAME: "setting the domain name {0!r}",
    steps.ROOT_IDS: "becoming root in the user namespace",
    steps.TIME: "making a time namespace",
    steps.PROPAGATION: "setting the mount propagation of {0}",
    steps.ROOT_BIND: "taking {0} as the root file system",
    steps.ROOT_OVERLAY: "mounting the image's layers on {0}",
    steps.ROOT_TREE: "taking {1} as the root file system",
    steps.MOUNT: 'error mounting "{1}" to rootfs at "{2}"',
    steps.BIND: 'error mounting "{0}" to rootfs at "{1}"',
    steps.VOLUME: 'error mounting "{0}" to rootfs at "{1}"',
    steps.ID_MAPS: "making a user namespace with the ids of a mount",
    steps.REMOUNT: "changing the file system at {0}",
    steps.CHROOT_INTO: "going into the root file system",
    steps.DETACH: "taking the root file system's mounts away",
    steps.UNLINK_IN: "removing {0}",
    steps.SET_ATTR: "changing the mount at {0}",
    steps.SET_PROPAGATION: "setting the mount propagation of {0}",
    steps.MKNOD: "making the device {0}",
    steps.SYMLINK: "making the link {1}",
    steps.MASK: "masking {0}",
    steps.READ_ONLY: "making {0} read-only",
    steps.PIVOT: "going into the root file system",
    steps.CHROOT: "going into the root file system",
    steps.ROOT_READ_ONLY: "making the root file system read-only",
    steps.MKDIR_IN: "making the directory {0}",
    steps.TERMINAL: "setting the terminal up",
    steps.STDIO: "setting standard input and output up",
    steps.SYSCTL: "setting the kernel parameter {0} to {1!r}",
    steps.RLIMIT: "setting a resource limit",
    steps.OOM_SCORE: "setting oom_score_adj to {0}",
    steps.CAPS_BOUND: "bounding capabilities",
    steps.USER: "becoming user {0}, group {1}",
    steps.CAPS: "setting capabilities",
    steps.NO_NEW_PRIVS: "setting no_new_privs",
    steps.SECCOMP: "loading the seccomp filter",
    steps.SECCOMP_AGENT: "loading the seccomp filter for its agent",
    steps.PERSONALITY: "setting the personality",
    steps.APPARMOR: "applying the AppArmor profile {0}",
    steps.SELINUX: "applying the SELinux label {0}",
    steps.SCHEDULER: "setting the scheduler",
    steps.AFFINITY: "setting the processors to run on",
    steps.NET_DEVICE: "moving the network device {0} into the container as {1}",
    steps.HOLD: "waiting to be started",
    steps.LENIENT: "going on",
    steps.IO_PRIORITY: "setting the I/O priority",
    steps.MEMORY_POLICY: "setting the memory policy",
    steps.CHDIR: "going to the working directory {0}",
    steps.OWN_NULL: "opening the container's /dev/null",
    steps.CLOSE_FDS: "closing descriptors",
    steps.WAIT_START: "waiting to be started",
    steps.HOME: "finding the home directory of user {0}",
    steps.EXEC: "executing {0}",
    steps.METADATA: "serving the pod's metadata at {2}",
    steps.INIT: "starting the pod's first process",
    steps.POD: "starting the pod's apps",
    steps.POD_APP: "starting the app {0}",
    steps.MEMBER: "starting the app",
    steps.GATE: "waiting for the other apps",
    steps.EXIT_FILE: "writing the exit code to {0}",
}

_KILLED = "unable to start container process: container init was OOM-killed (memory limit too low?)"
"""runc's words for a process that was killed before it became the program."""

_EXEC_HINTS = {
    numbers.ENOENT: "it must exist in the image, with the interpreter it names; PATH of the container is searched",
    numbers.ENOTDIR: "a part of its path is a file",
    numbers.EACCES: "it needs to be a regular file with execute permission for the container's user",
    numbers.ENOEXEC: "it is no program of this architecture; a script needs a first line like #!/bin/sh",
    numbers.E2BIG: "arguments and environment are too long",
    numbers.EPERM: "a file system mounted nosuid, noexec or an LSM may forbid it",
    numbers.ELOOP: "its path holds too many symbolic links",
}

_SCHEDULER_HINT = (
    "real time needs CAP_SYS_NICE; a deadline needs all processors: "
    "process scheduler can't be used together with AllowedCPUs (linux.resources.cpu.cpus)"
)
_INTERPRETER_HINT = (
    "the program is there; what its first line names, or a dynamic program's loader, is not in the image"
)

_STEP_HINTS = {
    (
        steps.METADATA,
        numbers.EADDRINUSE,
    ): "another pod or program of this network has that address; a new pod has another",
    (steps.METADATA, numbers.EADDRNOTAVAIL): "the loopback interface of the pod's network is not up",
    (steps.STILL, numbers.ESRCH): "the container has ended meanwhile",
    (steps.SETNS, numbers.EINVAL): "is the namespace of the kind that the configuration says?",
    (steps.CLONE, numbers.ENOSPC): "too many namespaces: see /proc/sys/user/max_*_namespaces",
    (steps.CLONE, numbers.EPERM): "run as root, or with a user namespace; user namespaces may be switched off here",
    (steps.APPARMOR, numbers.EINVAL): "this kernel has no AppArmor; take process.apparmorProfile out",
    (steps.SELINUX, numbers.EINVAL): "this kernel has no SELinux; take process.selinuxLabel out",
    (steps.USER, numbers.EINVAL): "cannot set uid to unmapped user in user namespace: linux.uidMappings has no such id",
    (steps.CHDIR, numbers.ENOENT): "process.cwd must exist in the root file system",
    (steps.CHDIR, numbers.EXDEV): "the working directory lies outside the container",
    (steps.RLIMIT, numbers.EPERM): "raising a hard limit needs CAP_SYS_RESOURCE on the host",
    (steps.OOM_SCORE, numbers.EACCES): "lowering oom_score_adj needs CAP_SYS_RESOURCE on the host",
    (steps.SCHEDULER, numbers.EPERM): _SCHEDULER_HINT,
    (steps.SCHEDULER, numbers.EINVAL): "sched_setattr(2) tells which values go together; SCHED_ISO is no kernel's",
    (steps.NET_DEVICE, numbers.ENODEV): "ip link shows the devices of the host",
    (steps.NET_DEVICE, numbers.EEXIST): "the container's network namespace has a device of that name",
    (steps.AFFINITY, numbers.EINVAL): "none of these processors is there, or is the container's",
    (steps.MEMORY_POLICY, numbers.EINVAL): "the nodes must exist, and be the container's; see set_mempolicy(2)",
    (steps.TERMINAL, numbers.ENOENT): "a terminal needs a devpts on /dev/pts in the container",
    (steps.VOLUME, numbers.EPERM): "a user namespace may not take away what the host's mount forbids",
    (steps.MOUNT, numbers.ENODEV): "this kernel does not know that file system",
    (steps.MAP_IDS, numbers.EPERM): "root, or newuidmap with a range in /etc/subuid and /etc/subgid, may map these ids",
    (steps.PIVOT, numbers.EINVAL): "the root may be an initramfs: try --no-pivot",
}

# How it shows that a link or a file stands where a procfs or sysfs belongs.
_NO_DIRECTORY = {
    (_TARGET, numbers.ELOOP),
    (_TARGET, numbers.ENOTDIR),
    (_MAKING, numbers.ELOOP),
    (_ATTACHING, numbers.ENOTDIR),
}

_DETAIL_HINTS = {
    (_OPENING, numbers.ENOENT): "the source must exist on the host",
    (_MAKING, numbers.EROFS): "make the mount point in the image, or the root file system writable",
    (_TARGET, numbers.ELOOP): "the image has a symbolic link where none may be",
    (_TARGET, numbers.ENOENT): "the target must exist in the root file system",
    (_OPTION, numbers.EINVAL): "the file system does not take one of the mount options",
    (_MAKING, numbers.ELOOP): "the image has a symbolic link that leads to itself",
    (_ATTACHING, numbers.ENOTDIR): "a directory can be mounted on a directory only, a file on a file",
    (_MAPS, numbers.EINVAL): "the file system, or one mounted below it, cannot have its ids mapped",
    (_COPYING, numbers.ENOSPC): "what the tmpfs covers does not fit: give it a larger size",
    (_COPYING, numbers.ELOOP): "its directories lie more than 100 deep in one another",
    (_PROC, numbers.EXDEV): "the image leads the mount into /proc by a symbolic link",
    (_TYPE, numbers.ENOTTY): "/dev/pts/ptmx of the image is no terminal multiplexer",
}


def _arguments(plan: bytes, index: int) -> tuple[int, list[str | int]]:
    """Return code and arguments, blobs and lists as their first words, of step ``index``."""
    at = 16
    for number in range(index + 1):
        code, count = int.from_bytes(plan[at : at + 2], "little"), plan[at + 3]
        lengths = [int.from_bytes(plan[at + 4 + 4 * i : at + 8 + 4 * i], "little") for i in range(count)]
        at += 4 + 4 * count
        if number == index:
            values: list[str | int] = []
            for kind, length in zip(steps.TABLE[code][1], lengths, strict=True):
                data, at = plan[at : at + length], at + length
                words = data.split(b"\0", 1)[0].decode("utf-8", "replace").strip()
                values.append(int.from_bytes(data, "little", signed=True) if kind == "i" else words)
            return code, values
        at += sum(lengths)
    raise IndexError(index)


def _because(cause: str) -> str:
    """Return where the step was asked for; what no document asked for has no place to show."""
    if cause in {"", "default"}:
        return ""
    return f" (config.json: {cause})" if cause.startswith("/") else f" ({cause})"


def _ended(detail: int) -> str:
    if detail == TIMED_OUT:
        return "it took too long and was killed"
    return f"it was killed by signal {detail - _SIGNALLED}" if detail > _SIGNALLED else f"it failed with code {detail}"


def _hint(code: int, errno: int, detail: int) -> str:
    found = _STEP_HINTS.get((code, errno)) or _DETAIL_HINTS.get((detail, errno))
    if found:
        return found
    if errno == numbers.EPERM:
        return "this needs a privilege that the runtime, or the user namespace it works in, does not have"
    return "pyrkt plan shows every step and the line of configuration that caused it"


def _program_hint(code: int, detail: int) -> str:
    if code == steps.MAP_HELPER:
        if detail == _MISSING_PROGRAM:
            return "it is in the Debian package uidmap"
        return "it needs to be installed setuid, and the ids to be the caller's in /etc/subuid and /etc/subgid"
    if detail in {_MISSING_PROGRAM, _MISSING_PROGRAM - 1}:
        return "it must be there, and be executable, with the interpreter it names"
    return "run by itself, with the state on its standard input, it should end with 0"


def how_it_ended(code: int, timeout: int) -> str:
    """Return, in runc's words, how a hook failed: by its exit code, 128 + its signal, or TIMED_OUT."""
    if code == TIMED_OUT:
        return f"hook ran past specified timeout of {float(timeout):.1f}s"
    if code > _SIGNALLED:
        return f"signal: {(_signal.strsignal(code - _SIGNALLED) or str(code - _SIGNALLED)).lower()}"
    return f"exit status {code}"


def _heard(said: bytes) -> str:
    """Return what a program has written, in one line."""
    return printable(" | ".join(said.decode("utf-8", "replace").strip().splitlines()))


def hook_words(cause: str, path: str, how: str, said: bytes) -> str:
    """Return, in runc's words, that the hook at the place ``cause`` failed; what it has ``said`` is the reason."""
    _, kind, number = cause.rsplit("/", 2)
    text = _heard(said)
    message = f"error running {kind} hook #{number}: {path} (config.json: {cause}): {how}"
    return f"{message}, it said: {text}" if text else message


def _of_ours(said: bytes) -> PyrktError:
    """Return the error of pyrkt itself, which stage1 has run (no hook of config.json): it has said it in our form."""
    lines = [line for line in said.decode("utf-8", "replace").splitlines() if "warning: " not in line]
    message = next((line for line in lines if line.startswith("pyrkt: ")), lines[0] if lines else "it failed")
    hint = next((line for line in lines if line.startswith("  hint: ")), "")
    return StartFailed(printable(message.removeprefix("pyrkt: ")), hint=printable(hint.removeprefix("  hint: ")))


def _of_program(sentence: str, errno: int, detail: int) -> PyrktError:
    if detail == NO_INTERPRETER:
        return ProgramMissing(f"{sentence}: {DETAILS[detail]}: {strerror(errno)}", hint=_INTERPRETER_HINT)
    kind = ProgramMissing if errno in {numbers.ENOENT, numbers.ENOTDIR} else NotExecutable
    return kind(f"{sentence}: {strerror(errno)}", hint=_EXEC_HINTS.get(errno, ""))


def failure(
    plan: bytes, causes: tuple[str, ...], index: int, errno: int, detail: int, *, said: bytes = b""
) -> PyrktError:
    """Return the error to raise for step ``index`` of ``plan`` that failed with ``errno``.

    ``errno`` 0 means that a program which the step ran failed, and ``detail`` is its exit code or 128 + its signal;
    otherwise ``detail`` is a number of details.h. The class is ProgramMissing or NotExecutable for the program
    itself, else StartFailed. ``said`` is what the program has written.
    """
    try:
        code, values = _arguments(plan, index)
    except (IndexError, KeyError):
        return StartFailed(f"stage1 refused the plan ({strerror(errno)})", hint="this is a defect of pyrkt: report it")
    if code == steps.EXEC and errno == numbers.ECHILD:
        return StartFailed(_KILLED, hint="give it more memory; or somebody has killed it: see dmesg(1)")
    sentence = _WORDS.get(code, steps.TABLE[code][0]).format(*values)
    sentence += _because(causes[index]) if index < len(causes) else ""
    if code == steps.EXEC:
        return _of_program(sentence, errno, detail)
    if errno == 0:
        words = f"{sentence}: {_ended(detail)}"
        if code == steps.HOOK and index < len(causes) and causes[index] == "default" and said:
            return _of_ours(said)
        if code == steps.HOOK and index < len(causes) and causes[index].startswith("/hooks/"):
            words = hook_words(causes[index], str(values[0]), how_it_ended(detail, int(values[3])), said)
        elif code == steps.MAP_HELPER:
            missing = detail == _MISSING_PROGRAM and not said
            words = f"{sentence}: {'this host has no such program' if missing else _heard(said) or _ended(detail)}"
        return StartFailed(words, hint=_program_hint(code, detail))
    if code == steps.MOUNT and values[0] in {"proc", "sysfs"} and (detail, errno) in _NO_DIRECTORY:
        sentence += f': filesystem "{values[0]}" must be mounted on ordinary directory'
    reason = f"{DETAILS[detail]}: {strerror(errno)}" if DETAILS.get(detail) else strerror(errno)
    return StartFailed(f"{sentence}: {reason}", hint=_hint(code, errno, detail))
