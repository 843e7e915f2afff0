"""A plan for people: each step as one would write the call, grouped by who makes it, with the line that caused it."""

from __future__ import annotations

from struct import Struct

from pyrkt.plan import options
from pyrkt.plan.namespaces import FLAGS as NAMESPACES
from pyrkt.plan.place import SAYS_READY
from pyrkt.plan.steps import AFTER, BEFORE, CHILD, PARENT
from pyrkt.spec import capabilities, steps
from pyrkt.spec.runtime import IO_CLASSES, RLIMITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyrkt.plan.steps import Plan, Step

_TITLES = {
    BEFORE: "on the host, before there is a container",
    PARENT: "on the host, for the container's first process",
    CHILD: "in the container's first process",
    AFTER: "on the host, when the container has ended",
}
IN_THE_CONTAINER = f"# {_TITLES[CHILD]}"
_ACTORS = {BEFORE: "supervisor", PARENT: "supervisor", CHILD: "first process", AFTER: "supervisor"}
_COLUMN = 72
_POLICY = Struct("<4I2q")  # plan.place.Policy
_NEW_LISTENER = 8  # include/uapi/linux/seccomp.h; stage1 adds it
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:,=+@%{}")
_MS_WORDS = (
    (options.MS_RDONLY, "ro"),
    (options.MS_NOSUID, "nosuid"),
    (options.MS_NODEV, "nodev"),
    (options.MS_NOEXEC, "noexec"),
    (options.MS_SYNCHRONOUS, "sync"),
    (options.MS_REMOUNT, "remount"),
    (options.MS_MANDLOCK, "mand"),
    (options.MS_DIRSYNC, "dirsync"),
    (options.MS_NOSYMFOLLOW, "nosymfollow"),
    (options.MS_NOATIME, "noatime"),
    (options.MS_NODIRATIME, "nodiratime"),
    (options.MS_SILENT, "silent"),
    (options.MS_RELATIME, "relatime"),
    (options.MS_I_VERSION, "iversion"),
    (options.MS_STRICTATIME, "strictatime"),
    (options.MS_LAZYTIME, "lazytime"),
)
_ATTR_WORDS = (
    (options.ATTR_RDONLY, "ro", "rw"),
    (options.ATTR_NOSUID, "nosuid", "suid"),
    (options.ATTR_NODEV, "nodev", "dev"),
    (options.ATTR_NOEXEC, "noexec", "exec"),
    (options.ATTR_NODIRATIME, "nodiratime", "diratime"),
    (options.ATTR_NOSYMFOLLOW, "nosymfollow", "symfollow"),
)
_PROPAGATIONS = {flags: word for word, flags in options.PROPAGATION.items()}


def quote(text: str) -> str:
    """Return ``text`` as one word of a shell, control characters as escapes."""
    if text and all(char in _SAFE for char in text):
        return text
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return "'" + shown.replace("'", "'\\''") + "'"


def _words(words: tuple[str, ...]) -> str:
    return " ".join(quote(word) for word in words)


def _mount_words(flags: int, data: str) -> str:
    words = [word for bit, word in _MS_WORDS if flags & bit]
    return " -o " + quote(",".join([*words, data] if data else words)) if words or data else ""


def _attribute_words(given: int, taken: int) -> list[str]:
    words = [on for bit, on, _ in _ATTR_WORDS if given & bit]
    words += [off for bit, _, off in _ATTR_WORDS if taken & bit and not given & bit]
    if given & options.ATTR_ATIME or taken & options.ATTR_ATIME:
        words.append(
            {options.ATTR_NOATIME: "noatime", options.ATTR_STRICTATIME: "strictatime"}.get(
                given & options.ATTR_ATIME, "relatime"
            )
        )
    return words


def _attributes(given: int, taken: int) -> str:
    words = _attribute_words(given, taken)
    return " -o " + ",".join(words) if words else ""


def _namespace_words(flags: int) -> str:
    return " ".join(f"--{kind}" for kind, flag in sorted(NAMESPACES.items()) if flags & flag)


def _limit(value: int) -> str:
    return "unlimited" if value in {-1, (1 << 64) - 1} else str(value)


def _rlimit(resource: int, soft: int, hard: int) -> str:
    name = next((name for name, number in RLIMITS.items() if number == resource), str(resource))
    return f"prlimit --{name.removeprefix('RLIMIT_').lower()}={_limit(soft)}:{_limit(hard)}"


def _caps(bits: int) -> str:
    return ",".join(name.removeprefix("CAP_").lower() for name in capabilities.names(bits)) or "none"


def _groups(groups: bytes) -> str:
    numbers = [str(int.from_bytes(groups[i : i + 4], "little")) for i in range(0, len(groups), 4)]
    return f"--groups {','.join(numbers)}" if numbers else "--clear-groups"


def _node(target: str, mode: int, number: int, uid: int, gid: int) -> str:
    kind = {0o020000: "c", 0o060000: "b", 0o010000: "p"}[mode & 0o170000]
    numbers = "" if kind == "p" else f" {number >> 8 & 0xFFF} {(number & 0xFF) | (number >> 12 & 0xFFF00)}"
    owner = f"    # owner {uid}:{gid}" if uid or gid else ""
    return f"mknod -m {mode & 0o7777:o} {quote(target)} {kind}{numbers}{owner}"


def _overlay(where: str, lowers: tuple[str, ...], upper: str, work: str, bits: int) -> str:
    words = ["lowerdir=" + ":".join(lowers)]
    if upper:
        words += [f"upperdir={upper}", f"workdir={work}"]
    words += [word for bit, word in ((1, "volatile"), (2, "userxattr")) if bits & bit]
    return f"mount -t overlay -o {quote(','.join(words))} overlay {quote(where)}"


def _bind(source: str, target: str, recursive: int, given: int, taken: int, _make: int) -> str:
    word = "--rbind" if recursive else "--bind"
    return f"mount {word}{_attributes(given, taken)} {quote(source)} {quote(target)}"


def _open_tree(slot: int, source: str, copy: int) -> str:
    words = f"{'-r ' if copy & 1 else ''}{'--make-rprivate ' if copy & 2 else ''}"
    return f"open_tree {words}{quote(source)}    # slot {slot}"


def _volume(source: str, target: str, how: int, *numbers: int) -> str:
    given, taken, rest, spare, maps = numbers
    words = _attribute_words(given, taken | rest)
    words += [] if maps < 0 else [f"{'r' if how & 2 else ''}idmap={{slot {maps}}}"]
    chosen = " -o " + ",".join(words) if words else ""
    other = "" if spare < 0 else f"    # slot {spare}" + ("" if how & 4 else ", if it cannot be reached")
    return f"mount --{'r' if how & 1 else ''}bind{chosen} {quote(source)} {quote(target)}{other}"


def _id_maps(slot: int, uids: bytes, gids: bytes) -> str:
    return f"unshare --user with uids {uids.decode().split()} gids {gids.decode().split()}    # slot {slot}"


def _mount(kind: str, source: str, target: str, flags: int, data: str, make: int) -> str:
    copied = f"; cp -a {quote(target)}/. there" if make == 4 else ""
    return f"mount -t {quote(kind)}{_mount_words(flags, data)} {quote(source)} {quote(target)}{copied}"


def _map_ids(uids: bytes, gids: bytes, deny: int) -> str:
    first = "echo deny > /proc/{pid}/setgroups; " if deny else ""
    uid_lines, gid_lines = (text.decode().strip().replace("\n", "\\n") for text in (uids, gids))
    return f"{first}echo '{uid_lines}' > /proc/{{pid}}/uid_map; echo '{gid_lines}' > /proc/{{pid}}/gid_map"


def _hook(path: str, args: tuple[str, ...], env: tuple[str, ...], timeout: int, *_state: object) -> str:
    limit = f"timeout {timeout} " if timeout else ""
    return f"echo STATE | {limit}env -i {_words(env)}{' ' if env else ''}{quote(path)} {_words(args[1:])}".rstrip()


def _streams(log: str, most: int, files: int, modes: int, attach: str, *_rest: object) -> str:
    ins = {1: " <null", 2: " <attached", 3: " <tty", 4: " <tty"}.get(modes & 15, "")
    words = []
    for name, mode in (("tty", modes >> 4 & 15), ("stdout", modes >> 8 & 15), ("stderr", modes >> 12 & 15)):
        takers = [word for bit, word in ((1, "log"), (2, "own"), (4, "attached"), (8, "tty")) if mode & bit]
        if takers or name != "tty":
            words.append(f" {name}>{'+'.join(takers) or 'null'}")
    where = f"    # log: {quote(log)}, {files} x {most} bytes" if log else ""
    return f"pipe{ins}{''.join(words)}" + (f" --attach={quote(attach)}" if attach else "") + where


def _clone(flags: int, slot: int) -> str:
    into = f" into the cgroup of slot {slot}" if slot >= 0 else ""
    return f"unshare {_namespace_words(flags)} --fork{into}".replace("  ", " ")


def _change(recursive: int, given: int, taken: int, target: str) -> str:
    words = _attribute_words(given, taken)
    return f"mount -o remount,bind,{','.join('r' + w if recursive else w for w in words)} {quote(target)}"


# What a person would write, by code; the arguments are those of the step.
_CALLS: dict[int, Callable[..., str]] = {
    steps.ON_FAILURE: lambda argv: f"on failure, run {_words(argv)}",
    steps.MKDIR: lambda path, mode: f"mkdir -p -m {mode:o} {quote(path)}",
    steps.WRITE: lambda path, data: f"echo {quote(data.decode(errors='replace').rstrip())} > {quote(path)}",
    steps.OPEN: lambda slot, path, _flags: f"open {quote(path)}    # slot {slot}",
    steps.CLOSE: lambda slot: f"close    # slot {slot}",
    steps.RMDIR: lambda path: f"rmdir {quote(path)}",
    steps.UNLINK: lambda path: f"rm -f {quote(path)}",
    steps.RENAME: lambda old, new: f"mv -T {quote(old)} {quote(new)}",
    steps.CREATE: lambda path, data, mode: f"install -m {mode:o} {len(data)}-bytes {quote(path)}",
    steps.OPEN_TREE: _open_tree,
    steps.CGROUP_DEVICES: lambda path, data: (
        f"bpftool cgroup attach {quote(path)} device # {len(data) // 8} instructions"
    ),
    steps.CHOWN: lambda path, uid, gid: f"chown -h {uid}:{gid} {quote(path)}",
    steps.ADOPT: lambda pid, master: (
        f"wait {pid}" + (f"    # its terminal is descriptor {master}" if master >= 0 else "")
    ),
    steps.SEND_PIDFD: lambda path: f"sendmsg {quote(path)} SCM_RIGHTS {{pidfd}}",
    steps.CONNECT: lambda slot, path: f"connect {quote(path)}    # slot {slot}",
    steps.CLONE: _clone,
    steps.MAP_IDS: _map_ids,
    steps.MAP_HELPER: _words,
    steps.ENTER_CGROUP: lambda path: f"echo {{pid}} > {quote(path + '/cgroup.procs')}",
    steps.PID_FILE: lambda path: f"echo -n {{pid}} > {quote(path)}",
    steps.RECORD: lambda path: f"echo {{pid}} {{start-time}} > {quote(path)}",
    steps.ENTER_CGROUP_SLOT: lambda slot: f"echo 0 >&{{slot {slot}}}",
    steps.HOOK: _hook,
    steps.STARTED: lambda: "wait until the program runs",
    steps.LEAVE: lambda: "leave the container to the caller once its program runs",
    steps.MEET: lambda: "wait for each other: the mounts stand",
    steps.SETNS: lambda slot, kind: f"nsenter {_namespace_words(kind)}    # slot {slot}",
    steps.LET_GO: lambda: "kill the process that held the scope",
    steps.STREAMS: _streams,
    steps.STREAM_ENDS: lambda: "exec <streams >streams    # the program's ends of the pipes",
    steps.UNSHARE: lambda flags: f"unshare {_namespace_words(flags)}",
    steps.SETSID: lambda: "setsid",
    steps.KEYRING: lambda name: f"keyctl session {quote(name)}",
    steps.LOOPBACK: lambda: "ip link set lo up",
    steps.HOSTNAME: lambda name: f"hostname {quote(name)}",
    steps.DOMAINNAME: lambda name: f"domainname {quote(name)}",
    steps.ROOT_IDS: lambda: "setpriv --reuid 0 --regid 0 --clear-groups",
    steps.TIME: lambda text: f"unshare --time; echo {quote(text.decode().strip())} > /proc/self/timens_offsets",
    steps.STILL: lambda pid, started: f"test $(cut -d' ' -f22 /proc/{pid}/stat) = {started}",
    steps.PROPAGATION: lambda path, flags: f"mount --make-{_PROPAGATIONS.get(flags, str(flags))} {quote(path)}",
    steps.ROOT_BIND: lambda path, deep: f"mount --{'r' if deep else ''}bind {quote(path)} {quote(path)}",
    steps.ROOT_OVERLAY: _overlay,
    steps.MOUNT: _mount,
    steps.BIND: _bind,
    steps.SET_ATTR: lambda target, deep, given, taken: _change(deep, given, taken, target),
    steps.SET_PROPAGATION: lambda path, flags: f"mount --make-{_PROPAGATIONS.get(flags, str(flags))} {quote(path)}",
    steps.MKNOD: _node,
    steps.SYMLINK: lambda text, target: f"ln -s {quote(text)} {quote(target)}",
    steps.MASK: lambda target: f"mount --bind /dev/null {quote(target)}    # or an empty tmpfs",
    steps.READ_ONLY: lambda target: f"mount --bind -o ro {quote(target)} {quote(target)}",
    steps.PIVOT: lambda: "pivot_root . .; umount -l .",
    steps.CHROOT: lambda: "umount -l every procfs and sysfs of the host; mount --move . /; chroot .",
    steps.ROOT_READ_ONLY: lambda: "mount -o remount,bind,ro /",
    steps.MKDIR_IN: lambda target, mode, uid, gid: f"install -d -m {mode:o} -o {uid} -g {gid} {quote(target)}",
    steps.ROOT_EMPTY: lambda: "pivot_root into an empty read-only tmpfs",
    steps.ROOT_TREE: lambda slot, where: f"move_mount {quote(where)}    # slot {slot}",
    steps.VOLUME: _volume,
    steps.ID_MAPS: _id_maps,
    steps.REMOUNT: lambda target, flags, data: f"mount{_mount_words(flags | options.MS_REMOUNT, data)} {quote(target)}",
    steps.CHROOT_INTO: lambda slot: "chroot ." if slot < 0 else f"chroot {{slot {slot}}}",
    steps.DETACH: lambda slot: f"umount -l    # slot {slot}",
    steps.UNLINK_IN: lambda target: f"rm -f {quote(target)}",
    steps.TERMINAL: lambda rows, columns, socket, uid: (
        f"openpty --rows {rows} --columns {columns} --owner {uid}" + (f" --send-to {quote(socket)}" if socket else "")
    ),
    steps.STDIO: lambda slot, number: f"dup2 {number}    # slot {slot}",
    steps.SYSCTL: lambda name, value: f"sysctl -w {quote(name)}={quote(value)}",
    steps.RLIMIT: _rlimit,
    steps.OOM_SCORE: lambda value: f"choom -n {value}",
    steps.UMASK: lambda mask: f"umask {mask:04o}",
    steps.CAPS_BOUND: lambda mask: f"capsh --bounding={_caps(mask)}",
    steps.USER: lambda uid, gid, groups: f"setpriv --reuid {uid} --regid {gid} {_groups(groups)}",
    steps.CAPS: lambda effective, permitted, inheritable, ambient: (
        f"capset effective={_caps(effective)} permitted={_caps(permitted)} inheritable={_caps(inheritable)} "
        f"ambient={_caps(ambient)}"
    ),
    steps.NO_NEW_PRIVS: lambda: "setpriv --no-new-privs",
    steps.SECCOMP: lambda flags, data: f"seccomp --flags {flags:#x} filter of {len(data) // 8} instructions",
    steps.PERSONALITY: lambda value: f"personality {value:#x}",
    steps.APPARMOR: lambda name: f"aa-exec -p {quote(name)}",
    steps.SELINUX: lambda label: f"runcon {quote(label)}",
    steps.SCHEDULER: lambda data: f"sched_setattr policy {int.from_bytes(data[4:8], 'little')}",
    steps.AFFINITY: lambda mask: f"taskset: affinity: {int.from_bytes(mask, 'little'):#x}" if mask else "taskset all",
    steps.NET_DEVICE: lambda name, new: f"ip link set {quote(name)} netns {{pid}} name {quote(new)}",
    steps.HOLD: lambda: "wait, for nothing",
    steps.LENIENT: lambda: "from here on a hook that fails is a warning",
    steps.IO_PRIORITY: lambda value: (
        f"ionice -c {next(name for name, n in IO_CLASSES.items() if n == value >> 13)} -n {value & 7}"
    ),
    steps.CHDIR: lambda path: f"cd {quote(path)}",
    steps.OWN_NULL: lambda: "reopen standard descriptors that are /dev/null",
    steps.CLOSE_FDS: lambda first: f"close descriptors from {first} on",
    steps.WAIT_START: lambda path, _joinable: f"wait until somebody reads {quote(path)}",
    steps.HOME: lambda uid: f"export HOME=$(getent passwd {uid} | cut -d: -f6)",
    steps.EXEC: lambda program, argv, _env: f"exec {_words((program, *argv[1:]))}",
    steps.DUMPABLE: lambda value: f"prctl PR_SET_DUMPABLE {value}",
    steps.SECCOMP_AGENT: lambda flags, data, slot, *_state: (
        f"seccomp --flags {flags:#x} filter of {len(data) // 8} instructions, listener to the agent    # slot {slot}"
    ),
    steps.MEMORY_POLICY: lambda mode, _bits, mask: (
        f"set_mempolicy mode {mode:#x} nodes {int.from_bytes(mask, 'little'):#x}"
    ),
    steps.POD: lambda control, _record, mutable, grace: (
        f"listen on {quote(control)}; the apps below{'; stay without them' if mutable else ''}; {grace} ms to end"
    ),
    steps.POD_APP: lambda name, pre, _main, post, policy: (
        f"app {quote(name)}{' after its pre-start' if pre >= 0 else ''}{', then its post-stop' if post >= 0 else ''}"
        f"{_policy_words(policy)}"
    ),
    steps.LISTEN: lambda wanted: f"take the sockets at {_ports(wanted)}",
    steps.GATE: lambda: "wait until the pod's other apps are set up",
    steps.TELL: lambda args, _env: f"pass signals on by {' '.join(map(quote, args))}",
    steps.MEMBER: lambda: "end with the pod",
    steps.METADATA: lambda table, _key, address, port: f"serve {quote(table)} at {address}:{port}",
    steps.INIT: lambda: "drop everything, reap until the supervisor ends the pod",
    steps.EXIT_FILE: lambda path: f"echo {{exit code}} > {quote(path)}",
}


def call(step: Step) -> str:
    """Return one step as a person would write it."""
    return _CALLS[step.code](*step.args)


def _ports(wanted: bytes) -> str:
    found = (wanted[at : at + 4] for at in range(0, len(wanted), 4))
    return " ".join(f"{int.from_bytes(each[:2], 'little')}/{'udp' if any(each[2:]) else 'tcp'}" for each in found)


def _policy_words(policy: bytes) -> str:
    if len(policy) != _POLICY.size:
        return f", a policy of {len(policy)} bytes"  # which stage1 refuses
    ends, restart, most, number, delay, grace = _POLICY.unpack(policy)
    words = {0: "", 1: ", again if it fails", 2: ", again whenever it ends"}[restart]
    words += f" after {delay} ms" if restart else ""
    words += f", {most} times" if restart and most else ""
    means = {0: "", 1: ", its failure ends the pod", 2: ", its success ends the pod", 3: ", its end ends the pod"}
    words += means[ends & 3] + (", says when it is ready" if ends & SAYS_READY else "")
    return words + f"; signal {number or 15}, {grace} ms"


def _groups_of(plan: Plan) -> list[tuple[int, list[tuple[int, Step]]]]:
    """Return (phase, [(index, step)]) in the order in which they act."""
    phases: dict[int, list[tuple[int, Step]]] = {}
    for index, step in enumerate(plan.steps):
        phases.setdefault(step.phase, []).append((index, step))
    return [(phase, phases[phase]) for phase in (BEFORE, PARENT, CHILD, AFTER) if phase in phases]


def filters(plan: Plan) -> list[str]:
    """Return, in runc's words, the flags with which the plan loads its filters."""
    found = []
    for step in plan.steps:
        if step.code in {steps.SECCOMP, steps.SECCOMP_AGENT}:
            flags = step.args[0]
            assert isinstance(flags, int)  # noqa: S101 - the table says so
            found.append(flags | (_NEW_LISTENER if step.code == steps.SECCOMP_AGENT else 0))
    return [f"seccomp filter flags: {flags}" for flags in found]


def lines(plan: Plan) -> list[str]:
    """Return the plan as text, a line a step, under a line that says who acts."""
    shown: list[str] = []
    for phase, found in _groups_of(plan):
        shown += ["", f"# {_TITLES[phase]}"] if shown else [f"# {_TITLES[phase]}"]
        for _, step in found:
            text = call(step)
            shown.append(f"{text:<{_COLUMN}}  # {step.cause}")
    return shown


def as_json(plan: Plan) -> list[dict[str, Any]]:
    """Return the plan as JSON-ready objects: index, actor, phase, step, arguments, cause, and the call as text.

    ``index`` is the step's place in the plan's bytes; the list is in the order of acting.
    """
    shown: list[dict[str, Any]] = []
    for phase, found in _groups_of(plan):
        for index, step in found:
            row: dict[str, Any] = {"index": index, "actor": _ACTORS[phase], "step": step.name}
            row |= {"args": [_plain(arg) for arg in step.args], "cause": step.cause, "call": call(step)}
            shown.append(row)
    return shown


def _plain(arg: object) -> object:
    if isinstance(arg, tuple):
        return list(arg)
    if not isinstance(arg, bytes):
        return arg
    try:
        return arg.decode()
    except UnicodeDecodeError:
        return {"hex": arg.hex()}
