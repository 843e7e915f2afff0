"""The process: terminal, limits, labels, privileges, and the program at the end."""

from __future__ import annotations

from struct import pack

from pyrkt.plan.draft import refuse
from pyrkt.plan.hooks import agent_text
from pyrkt.plan.namespaces import check_mapped, denies_groups
from pyrkt.plan.steps import BEFORE, CHILD, PARENT
from pyrkt.spec import capabilities, steps
from pyrkt.spec.runtime import IO_CLASSES, RLIMITS, SCHEDULER_FLAGS, SCHEDULERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.plan.draft import Draft, Subject
    from pyrkt.plan.place import Place, Streams
    from pyrkt.spec.runtime import Process, Scheduler, Seccomp

# include/uapi/linux/seccomp.h
SECCOMP_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 0,  # of use to more than one thread only, and not to be had with a listener
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}
_MEMORY_MODES = {  # include/uapi/linux/mempolicy.h
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
_MEMORY_FLAGS = {"MPOL_F_NUMA_BALANCING": 1 << 13, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_STATIC_NODES": 1 << 15}
_STDIN = ("inherit", "null", "stream", "tty", "own")
_LOGGED, _PASSED_ON, _SERVED, _IS_TERMINAL = 1, 2, 4, 8  # the modes of STREAMS
_PERSONALITIES = {"LINUX": 0, "LINUX32": 8}  # include/uapi/linux/personality.h


def required(subject: Subject) -> Process:
    """Return the process; a container that is never started has none, and there is nothing to compile."""
    process = subject.config.process
    if process is None:
        raise refuse("process", "is required to create a container")
    return process


def nothing(draft: Draft) -> None:
    """Wait for an end that only a signal can bring: a container may be made without saying what it is to run.

    Source: runtime-spec 1.3, config, "process" is required when start is called, not before.
    """
    draft.add(steps.CLOSE_FDS, 3)
    draft.add(steps.CAPS_BOUND, 0)
    draft.add(steps.CAPS, 0, 0, 0, 0)
    draft.add(steps.NO_NEW_PRIVS)
    draft.add(steps.HOLD, cause="/process")
    draft.add(steps.EXEC, "/", ("/",), (), cause="/process")  # where every plan ends; this one does not come here


def catch(draft: Draft, process: Process, streams: Streams | None) -> None:
    """Let the supervisor take what the program writes, and hand it what others type."""
    if streams is None:
        return
    if streams.terminal() != process.terminal:
        raise TypeError("process.terminal is not what the streams need")
    served = _SERVED if streams.attach else 0
    kept = _LOGGED * bool(streams.log or streams.journal) | _PASSED_ON * streams.pass_on
    outputs = {"null": 0, "log": kept, "stream": kept | served, "tty": _IS_TERMINAL}
    screen = kept | served if "tty" in {streams.stdout, streams.stderr} else 0
    modes = _STDIN.index(streams.stdin) | screen << 4 | outputs[streams.stdout] << 8 | outputs[streams.stderr] << 12
    fields = "".join([f"{name}={value}\n" for name, value in streams.journal]).encode()
    files = (streams.log, streams.most, streams.files)
    draft.add(steps.STREAMS, *files, modes, streams.attach, streams.name, fields, phase=BEFORE)


def terminal(draft: Draft, process: Process, place: Place) -> None:
    """Make the terminal after the pivot, from the container's own devpts (CVE-2025-52565)."""
    if not process.terminal:
        if place.streams:
            draft.add(steps.STREAM_ENDS)
        draft.add(steps.OWN_NULL)
        return
    size = process.console_size
    rows, columns = (size.height, size.width) if size else (0, 0)
    for name, value in (("height", rows), ("width", columns)):
        if value > 0xFFFF:
            raise refuse(f"process.consoleSize.{name}", f"{value} is more than the kernel's 65535")
    args = (rows, columns, place.console_socket, process.user.uid)
    draft.add(steps.TERMINAL, *args, cause="/process/terminal")
    if place.streams:
        draft.add(steps.STREAM_ENDS)
        draft.add(steps.OWN_NULL)


def all_processors(draft: Draft) -> None:
    """Let the process run on all processors of its cgroup, whatever the caller may run on."""
    draft.add(steps.AFFINITY, b"")


def initial_affinity(draft: Draft, process: Process) -> None:
    """Let the supervisor, and whom it makes, run where execCPUAffinity wants it before the cgroup is entered."""
    affinity = process.exec_cpu_affinity
    if affinity and affinity.initial:
        cause = "/process/execCPUAffinity/initial"
        draft.add(steps.AFFINITY, cpu_mask(affinity.initial), cause=cause, phase=BEFORE)


def final_affinity(draft: Draft, process: Process) -> None:
    """The same once it has entered the cgroup; nothing said at all is all processors of that."""
    affinity = process.exec_cpu_affinity
    if affinity and affinity.final:
        draft.add(steps.AFFINITY, cpu_mask(affinity.final), cause="/process/execCPUAffinity/final")
    elif not (affinity and affinity.initial):
        all_processors(draft)


def limits_from_outside(draft: Draft, subject: Subject, process: Process) -> None:
    """What root of the host must do for a process in a user namespace: raise hard limits, lower its OOM score."""
    if not subject.confined:
        return
    for place, limit in enumerate(process.rlimits):
        args = (RLIMITS[limit.type], limit.hard, limit.hard)
        draft.add(steps.RLIMIT, *args, cause=f"/process/rlimits/{place}", phase=PARENT)
    if process.oom_score_adj is not None:
        draft.add(steps.OOM_SCORE, process.oom_score_adj, cause="/process/oomScoreAdj", phase=PARENT)


def temper(draft: Draft, subject: Subject, process: Process) -> None:
    """Scheduling, memory policy, personality, labels and limits: all that needs privileges but no identity."""
    if process.scheduler:
        draft.add(steps.SCHEDULER, _attributes(process.scheduler), cause="/process/scheduler")
    if process.io_priority:
        value = IO_CLASSES[process.io_priority.io_class] << 13 | process.io_priority.priority
        draft.add(steps.IO_PRIORITY, value, cause="/process/ioPriority")
    _memory_policy(draft, subject)
    if subject.linux.personality:
        draft.add(steps.PERSONALITY, _PERSONALITIES[subject.linux.personality.domain], cause="/linux/personality")
    _labels(draft, subject, process)
    if process.oom_score_adj is not None and not (subject.confined and draft.phase == CHILD):
        draft.add(steps.OOM_SCORE, process.oom_score_adj, cause="/process/oomScoreAdj")
    for place, limit in enumerate(process.rlimits):
        draft.add(steps.RLIMIT, RLIMITS[limit.type], limit.soft, limit.hard, cause=f"/process/rlimits/{place}")


def _attributes(scheduler: Scheduler) -> bytes:
    """Return struct sched_attr (include/uapi/linux/sched/types.h, its first version).

    Numbers of another policy are refused: the kernel would pass over them in silence.
    """
    s, where = scheduler, "process.scheduler"
    if s.priority and s.policy not in {"SCHED_FIFO", "SCHED_RR"}:
        raise refuse(f"{where}.priority", f"{s.policy} has none", hint="SCHED_FIFO and SCHED_RR have priorities")
    for name in ("runtime", "deadline", "period"):
        if getattr(s, name) and s.policy != "SCHED_DEADLINE":
            raise refuse(f"{where}.{name}", f"{s.policy} has none", hint="SCHED_DEADLINE has")
    flags = sum(SCHEDULER_FLAGS[name] for name in set(s.flags))
    return pack("<IIQiIQQQ", 48, SCHEDULERS[s.policy], flags, s.nice, s.priority, s.runtime, s.deadline, s.period)


def _memory_policy(draft: Draft, subject: Subject) -> None:
    policy = subject.linux.memory_policy
    if policy is None:
        return
    nodes = _bits(policy.nodes)
    mode = _MEMORY_MODES[policy.mode] | sum(_MEMORY_FLAGS[name] for name in set(policy.flags))
    size = (nodes.bit_length() + 63) // 64 * 8
    # The kernel reads one bit less than it is told (mm/mempolicy.c, get_nodes).
    args = (mode, size * 8 + 1 if size else 0, nodes.to_bytes(size, "little"))
    draft.add(steps.MEMORY_POLICY, *args, cause="/linux/memoryPolicy")


def _bits(text: str) -> int:
    """Return the mask of a list such as "0-3,7", which has been judged when it was read."""
    bits = 0
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        bits |= (1 << int(last or first) + 1) - (1 << int(first))
    return bits


def cpu_mask(text: str) -> bytes:
    """Return a list of processors as sched_setaffinity(2) takes it."""
    bits = _bits(text)
    return bits.to_bytes((bits.bit_length() + 63) // 64 * 8, "little")


def _labels(draft: Draft, subject: Subject, process: Process) -> None:
    """Labels that the kernel cannot enforce are an error: a container must not run with less than was asked."""
    lsm = subject.host.lsm
    for module, where, label in (
        ("apparmor", "process.apparmorProfile", process.apparmor_profile),
        ("selinux", "process.selinuxLabel", process.selinux_label),
        ("selinux", "linux.mountLabel", subject.linux.mount_label),
    ):
        if label and module not in lsm and label != "unconfined":
            raise refuse(where, f"this kernel does not run {module}", hint="leave it out, or boot with that module")
    if process.apparmor_profile and "apparmor" in lsm:
        draft.add(steps.APPARMOR, process.apparmor_profile, cause="/process/apparmorProfile")
    if process.selinux_label and "selinux" in lsm:
        draft.add(steps.SELINUX, process.selinux_label, cause="/process/selinuxLabel")


class Caps:
    """The five sets as masks, cut to what can be granted; what was cut is a warning, not an error."""

    def __init__(self, draft: Draft, subject: Subject, process: Process) -> None:
        host, sets = subject.host, process.capabilities
        known = (1 << host.last_cap + 1) - 1
        # A new user namespace comes with a full bounding set of its own.
        granted = known if "user" in subject.own else known & host.bounding
        wanted = {
            name: capabilities.mask(getattr(sets, name)) if sets else 0
            for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
        }
        missing = 0
        for name, mask in wanted.items():
            missing |= mask & ~granted
            wanted[name] = mask & granted
        if missing:
            names = " ".join(capabilities.names(missing))
            draft.warnings.append(f"process.capabilities: not granted, since the caller has no {names}")
        self.bounding, self.permitted = wanted["bounding"], wanted["permitted"]
        self.effective = wanted["effective"] & self.permitted
        self.inheritable = wanted["inheritable"] & (self.permitted | self.bounding)
        self.ambient = wanted["ambient"] & self.permitted & self.inheritable
        if wanted["effective"] & ~self.permitted:
            draft.warnings.append("process.capabilities.effective: only what is permitted, too, takes effect")
        if left := capabilities.names(wanted["ambient"] & ~self.ambient):
            # One line for all: buildah asks for eleven in vain, and shows its users what the runtime says.
            reason = "only what is permitted and inheritable, too, takes effect"
            others = f"; nor {' '.join(left[1:])}" if left[1:] else ""
            warning = f"process.capabilities.ambient: can't raise ambient capability {left[0]}: {reason}{others}"
            draft.warnings.append(warning)


def privileges(draft: Draft, subject: Subject, process: Process, place: Place, seccomp: bytes) -> None:
    """Give up everything that config.json does not leave, in the one order in which each step still may.

    Without no_new_privs the filter needs CAP_SYS_ADMIN, so it comes before the identity; with it, as late as can be.
    """
    caps, user, first_fd = Caps(draft, subject, process), process.user, 3 + place.preserve_fds
    home(draft, process)  # before the filter, which may forbid to open the file
    # As root first: images name directories that their user may not enter, and runc and crun let them. Before the
    # filter too, which may forbid to ask where one is.
    draft.add(steps.CHDIR, process.cwd, cause="/process/cwd")
    if not process.no_new_privileges:
        draft.add(steps.CLOSE_FDS, first_fd)  # under it there may be no way to, and an image may have chosen it
        filter_calls(draft, subject, place, seccomp)
    draft.add(steps.CAPS_BOUND, caps.bounding, cause="/process/capabilities/bounding")
    if user.additional_gids and denies_groups(subject):
        raise refuse(
            "process.user.additionalGids",
            "cannot set any additional groups in a rootless container that has one id",
            hint="map more ids, with newuidmap and newgidmap installed",
        )
    check_mapped(subject, user)
    groups = b"".join([gid.to_bytes(4, "little") for gid in user.additional_gids])
    draft.add(steps.USER, user.uid, user.gid, groups, cause="/process/user")
    args = (caps.effective, caps.permitted, caps.inheritable, caps.ambient)
    draft.add(steps.CAPS, *args, cause="/process/capabilities")
    if process.no_new_privileges:
        draft.add(steps.NO_NEW_PRIVS, cause="/process/noNewPrivileges")
    umask = 0o022 if user.umask is None else user.umask
    draft.add(steps.UMASK, umask, cause="default" if user.umask is None else "/process/user/umask")
    if process.no_new_privileges:
        draft.add(steps.CLOSE_FDS, first_fd)
        filter_calls(draft, subject, place, seccomp)


def filter_calls(draft: Draft, subject: Subject, place: Place, program: bytes) -> None:
    """Load the compiled filter of linux.seccomp; one with an agent hands it the listener."""
    seccomp = subject.linux.seccomp
    if seccomp is None:
        return
    if not program:
        raise TypeError("linux.seccomp needs its compiled filter")
    # As runc: a filter without a word on it does not slow memory down (Spectre v4 is the program's own to mind).
    flags = SECCOMP_FLAGS["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]
    if seccomp.flags is not None:
        flags = sum(SECCOMP_FLAGS[name] for name in set(seccomp.flags))
    if not _asks_agent(seccomp):
        draft.add(steps.SECCOMP, flags, program, cause="/linux/seccomp")
        return
    slot = draft.slot("linux.seccomp.listenerPath")
    draft.add(steps.CONNECT, slot, seccomp.listener_path, cause="/linux/seccomp/listenerPath", phase=BEFORE)
    first, second, third = agent_text(subject, place.id, seccomp.listener_metadata, place.first_pid)
    args = (flags, program, slot, first, second.encode(), third.encode())
    draft.add(steps.SECCOMP_AGENT, *args, cause="/linux/seccomp")


def _asks_agent(seccomp: Seccomp) -> bool:
    return any(rule.action == "SCMP_ACT_NOTIFY" for rule in seccomp.syscalls)


def listen(draft: Draft, place: Place) -> None:
    """Take the sockets that are for the app, while those of all are still open."""
    if place.listen:
        wanted = b"".join(port.to_bytes(2, "little") + int(udp).to_bytes(2, "little") for port, udp in place.listen)
        draft.add(steps.LISTEN, wanted)


def announce(draft: Draft, place: Place) -> None:
    """Tell whoever asked which process it is, by a file and by a descriptor."""
    if place.pidfd_socket:
        draft.add(steps.SEND_PIDFD, place.pidfd_socket, phase=PARENT)
    if place.pid_file:
        draft.add(steps.PID_FILE, place.pid_file, phase=PARENT)


def home(draft: Draft, process: Process) -> None:
    """Let a program that is given no HOME find its own: engines rely on the runtime for it."""
    if not any(variable.startswith("HOME=") for variable in environment(process)):
        draft.add(steps.HOME, process.user.uid, cause="/process/user")


def environment(process: Process) -> tuple[str, ...]:
    """Return process.env as the program gets it: of each name the last one, and no empty HOME. As runc does it."""
    last = {variable.partition("=")[0]: place for place, variable in enumerate(process.env)}
    places = sorted(last.values())
    return tuple(process.env[place] for place in places if process.env[place] != "HOME=")


def execute(draft: Draft, process: Process) -> None:
    """Become the program."""
    draft.add(steps.EXEC, process.args[0], process.args, environment(process), cause="/process/args")
