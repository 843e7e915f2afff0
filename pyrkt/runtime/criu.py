"""criu as a worker: ``criu swrk FD`` takes one request by a socket and tells what it is about to do (criu.org/RPC)."""

from __future__ import annotations

import _socket
import os

from pyrkt.base.errors import NotFound, PyrktError
from pyrkt.runtime import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    # script, pid it is about, descriptors that come along
    Told = Callable[[str, int, list[int]], None]

# The kinds of requests.
DUMP, RESTORE, PRE_DUMP, NOTIFY, FEATURE_CHECK, VERSION = 1, 2, 4, 6, 9, 10
_NAMES = {1: "DUMP", 2: "RESTORE", 4: "PRE_DUMP", 6: "NOTIFY", 9: "FEATURE_CHECK", 10: "VERSION"}
_MOST, _MOST_FDS = 65536, 4


class Options:
    """The numbers of criu_opts' fields."""

    IMAGES_DIR_FD, PID, LEAVE_RUNNING, EXT_UNIX_SK, TCP_ESTABLISHED, EVASIVE_DEVICES, SHELL_JOB = range(1, 8)
    FILE_LOCKS, LOG_LEVEL, LOG_FILE, PAGE_SERVER, NOTIFY_SCRIPTS, ROOT, PARENT_IMG, TRACK_MEM, AUTO_DEDUP = range(8, 17)
    WORK_DIR_FD, LINK_REMAP, EXT_MNT, MANAGE_CGROUPS, CG_ROOT, RST_SIBLING, INHERIT_FD = 17, 18, 23, 24, 25, 26, 27
    CGROUPS_MODE, EXTERNAL, EMPTY_NS, JOIN_NS, FREEZE_CGROUP, TCP_SKIP_IN_FLIGHT = 34, 37, 38, 39, 44, 46
    LAZY_PAGES, STATUS_FD, ORPHAN_PTS_MASTER, CONFIG_FILE, LSM_PROFILE, LSM_MOUNT_CONTEXT = 48, 49, 50, 51, 53, 63


class Features:
    """The numbers of criu_features' fields."""

    MEM_TRACK, LAZY_PAGES = 1, 2


def connection() -> tuple[_socket.socket, int]:
    """Return our end, and the number of criu's, which is inherited by what we start; the caller closes both."""
    ours, its = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    number = its.detach()
    os.set_inheritable(number, True)  # noqa: FBT003 - positional only
    return ours, number


def spawn(program: str, number: int) -> int:
    """Start criu as a child that serves the socket ``number``; return its pid."""
    try:
        return os.posix_spawnp(program, [program, "swrk", str(number)], os.environ)
    except FileNotFoundError:
        raise NotFound(
            f'exec: "{program}": executable file not found in $PATH', hint="install criu, or name it with --criu"
        ) from None


def ask(program: str, kind: int, options: Sequence[tuple[int, wire.Value]], told: Told | None = None) -> Answer:
    """Have a criu of its own serve one request; return its answer."""
    ours, number = connection()
    try:
        try:
            pid = spawn(program, number)
        finally:
            os.close(number)
        try:
            return converse(ours, kind, options, told)
        finally:
            ours.close()
            os.waitpid(pid, 0)
    finally:
        ours.close()


class Answer:
    """What criu answers: ``success``, and for a restore the ``pid``; ``errno`` and ``reason`` if it says so."""

    def __init__(self, message: dict[int, list[int | bytes]]) -> None:
        """Take a criu_resp."""
        self.kind = wire.number(message, 1)
        self.success = bool(wire.number(message, 2))
        self.pid = wire.number(wire.inner(message, 4), 1)
        self.notify = wire.inner(message, 5)
        self.errno = wire.number(message, 7)
        self.features = wire.inner(message, 8)
        self.reason = wire.text(message, 9)
        self.version = wire.inner(message, 10)


def converse(
    ours: _socket.socket, kind: int, options: Sequence[tuple[int, wire.Value]], told: Told | None = None
) -> Answer:
    """Send the request and return the answer; ``told`` hears in between what criu is about to do.

    Raises: PyrktError if criu ends without a word; what ``told`` raises, and then criu gives up.
    """
    field = 5 if kind == FEATURE_CHECK else 2
    request: list[tuple[int, wire.Value]] = [(1, kind)]
    if options:
        request.append((field, wire.encode(options)))
    _send(ours, wire.encode(request))
    while True:
        data, descriptors = _receive(ours)
        answer = Answer(wire.decode(data))
        if answer.kind != NOTIFY or not answer.success:
            return answer
        try:
            if told:
                told(wire.text(answer.notify, 1), wire.number(answer.notify, 2), descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        _send(ours, wire.encode([(1, NOTIFY), (3, 1)]))


def _gone() -> PyrktError:
    return PyrktError("criu ended without an answer", hint="is it criu? its log in the work directory may say why")


def _send(ours: _socket.socket, data: bytes) -> None:
    try:
        ours.send(data)
    except OSError:
        raise _gone() from None


def _receive(ours: _socket.socket) -> tuple[bytes, list[int]]:
    room = _socket.CMSG_SPACE(_MOST_FDS * 4)
    try:
        data, control, _, _ = ours.recvmsg(_MOST, room, _socket.MSG_CMSG_CLOEXEC)
    except OSError:
        raise _gone() from None
    if not data:
        raise _gone()
    found: list[int] = []
    for level, kind, payload in control:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            found += [int.from_bytes(payload[at : at + 4], "little") for at in range(0, len(payload) - 3, 4)]
    return data, found


def version(program: str) -> int:
    """Return criu's version as a number: 3.17.1 is 31701."""
    found = ask(program, VERSION, ()).version
    return wire.number(found, 1) * 10000 + wire.number(found, 2) * 100 + wire.number(found, 4)


def require(program: str, feature: int, name: str) -> None:
    """Raise PyrktError unless criu, on this kernel, has the feature."""
    answer = ask(program, FEATURE_CHECK, [(feature, 1)])
    if not answer.success or not wire.number(answer.features, feature):
        raise PyrktError(f"criu is missing features: [{name}]", hint="criu check --all says what this kernel lacks")


def failure(answer: Answer, log: str) -> PyrktError:
    """Return what to say of a request that failed: with the reason from criu's ``log``, which it names."""
    said = _reason(answer.reason) or reason(log)
    hint = next((words for part, words in _HINTS if part in said), "")
    text = f"criu failed: type {_NAMES.get(answer.kind, answer.kind)} errno {answer.errno}"
    return PyrktError(
        f"{text}: {said}" if said else text,
        hint=f"{hint}; the whole story: {log}" if hint else f"the whole story: {log}",
    )


_HINTS = (
    ("Can't lookup mount", "what the container has open, its output for one, must be its own, or a pipe or a terminal"),
    ("vdso", "this criu is older than the kernel"),
    ("in-flight connection", "--tcp-skip-in-flight leaves it out"),
    ("Connected TCP socket", "--tcp-established brings it back"),
    ("external connection", "--ext-unix-sk lets it be"),
    ("file lock", "--file-locks brings them back"),
    ("session leader", "--shell-job lets a terminal be the caller's"),
)


def _reason(text: str) -> str:
    """Return a line of criu's log without its time and place."""
    before, found, after = text.partition("): ")
    return (after if found and before.lstrip().startswith("Error (") else text).strip()


def reason(log: str) -> str:
    """Return from criu's log the first of the errors that stand together at its end: the others come from it."""
    found, running = "", False
    try:
        with open(log, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                _, error, rest = line.partition("Error (")
                text = _reason(error + rest) if error else ""
                if text and not running and not text.endswith(" FAILED."):
                    found = text
                running = bool(text)
    except OSError:
        pass
    return found
