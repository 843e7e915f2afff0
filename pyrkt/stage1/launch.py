"""Starting stage1: from a sealed copy of itself, with a sealed plan, as this process or beside it.

The memfd that stage1 gets holds the plan's bytes and, behind them, the cause of each step with its NUL. stage1 reads
the first part only; should a step fail, whoever has to say so finds both there.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C half of signal; its enums cost 3 ms
import os

from pyrkt.base.errors import StartFailed
from pyrkt.kernel import memfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from pyrkt.base.errors import PyrktError

    Piece = tuple[bytes, tuple[str, ...]]
    """The bytes of a plan, and the causes of its steps."""
    Members = dict[int, Piece]
    """Plans by the number of the descriptor where stage1 looks for them."""

_NAME = "pyrkt-stage1"
_REPORT_SIZE = 16  # struct report of supervise.c: i32 index, i32 errno, i64 detail or pid
_MOST_SAID = 4096  # bytes of what a failed program has said: its end
_STAYS, _LEFT, _PLAN_AT = -1, -2, 16
_SIZE_AT, _HEADER_SIZE = 12, 16


def binary() -> str:
    """Return the path of the static program that carries plans out."""
    return os.path.join(os.path.dirname(__file__), "stage1")


def program() -> int:
    """Return a sealed copy of stage1: what is looked at now is what ``run`` or ``start`` then executes.

    Raises: StartFailed if it is not there.
    """
    try:
        return memfd.sealed_copy(_NAME, binary())
    except FileNotFoundError:
        raise StartFailed(f"{binary()}: not there", hint="install pyrkt again, or run scripts/develop") from None


def _handed_over(plan: bytes, causes: tuple[str, ...]) -> int:
    words = "".join(f"{cause}\0" for cause in causes).encode("utf-8", "surrogateescape")
    descriptor = memfd.sealed("plan", plan + words)
    os.set_inheritable(descriptor, True)  # noqa: FBT003 - positional only; stage1 closes it for all who come after
    return descriptor


def hold() -> tuple[int, int]:
    """Start a process that waits to be killed, and dies with this one: (pid, pidfd), for a plan with LET_GO.

    It keeps a scope of systemd alive until the container's first process is in it.
    """
    pid = os.posix_spawn(binary(), [_NAME, "hold", str(os.getpid())], {})
    return pid, os.pidfd_open(pid)


def release(holder: int) -> None:
    """End the process that ``hold`` has started, and close its pidfd."""
    _end(holder)
    os.waitid(os.P_PIDFD, holder, os.WEXITED)
    os.close(holder)


def _holder_words(holder: int) -> list[str]:
    """Return the argument for the holder's pidfd, which becomes stage1's."""
    if holder < 0:
        return []
    os.set_inheritable(holder, True)  # noqa: FBT003 - positional only
    return [str(holder)]


def _place(members: Members) -> list[int]:
    """Put the plans of a pod's apps at the descriptors where the pod's plan looks for them; return them."""
    for number, (plan, causes) in members.items():
        descriptor = _handed_over(plan, causes)
        os.dup2(descriptor, number)
        if descriptor != number:
            os.close(descriptor)
    return list(members)


def run(
    plan: bytes, causes: tuple[str, ...] = (), *, holder: int = -1, copy: int = -1, members: Members | None = None
) -> NoReturn:
    """Become stage1 with ``plan``; what then ends this process is the container's exit code, or 128 + its signal.

    If a step fails, stage1 becomes the plan's ON_FAILURE program, with five more arguments: hand them to ``failed``.
    ``holder`` is the pidfd of ``hold``, ``copy`` what ``program`` has returned, ``members`` are a pod's apps.
    """
    _place(members or {})
    copy = program() if copy < 0 else copy
    argv = [_NAME, str(_handed_over(plan, causes)), "-", *_holder_words(holder)]
    os.execve(copy, argv, os.environ)  # noqa: S606 - to become it is the point


def start(
    plan: bytes,
    causes: tuple[str, ...] = (),
    *,
    preserve_fds: int = 0,
    holder: int = -1,
    copy: int = -1,
    members: Members | None = None,
) -> int:
    """Run stage1 beside this process until the container is set up and waits or runs; return the container's pid.

    After that stage1 is gone if the plan has WAIT_START or LEAVE, and the container is a child of our nearest
    subreaper; otherwise it stays, in a session of its own, as the container's supervisor.
    ``preserve_fds`` descriptors from 3 on, those of them that are open, reach the container if the plan lets them.
    ``holder`` is the pidfd of ``hold``, ``copy`` what ``program`` has returned, ``members`` are a pod's apps.
    Raises: the error of the failed step; then stage1 has taken everything down again.
    """
    for descriptor in range(3, 3 + preserve_fds):
        try:
            os.set_inheritable(descriptor, True)  # noqa: FBT003 - positional only
        except OSError:
            pass  # not open: the caller has promised more than it gave
    placed = _place(members or {})
    copy, words = program() if copy < 0 else copy, _handed_over(plan, causes)
    inward, outward = os.pipe()
    try:
        os.set_inheritable(outward, True)  # noqa: FBT003 - positional only
        argv = [_NAME, str(words), str(outward), *_holder_words(holder)]
        if holder >= 0:
            # The holder is our child; stage1, its sibling, waits until nothing is left of it, so the kernel reaps it.
            _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)
        pid = os.posix_spawn(f"/proc/self/fd/{copy}", argv, os.environ)
    finally:
        for descriptor in (copy, words, outward, *placed):
            os.close(descriptor)
    try:
        return _outcome(pid, inward, {0: (plan, causes), **(members or {})}, holder)
    finally:
        os.close(inward)
        if holder >= 0:
            _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)


def _end(holder: int) -> None:
    try:
        _signal.pidfd_send_signal(holder, _signal.SIGKILL)
    except ProcessLookupError:
        pass


def _waited(pid: int) -> str:
    """Wait until the child ``pid`` is gone; return how it ended, as far as that is known."""
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:  # the kernel has reaped it for us
        return ""
    return f" with {os.waitstatus_to_exitcode(status)}"


def _read(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := os.read(descriptor, size - len(data))):
        data += more
    return data


def _outcome(pid: int, inward: int, plans: Members, holder: int) -> int:
    report = _read(inward, _REPORT_SIZE)
    if holder >= 0:
        _end(holder)  # if stage1 failed before it did that
    if len(report) < _REPORT_SIZE:
        raise StartFailed(f"stage1 ended{_waited(pid)} before the container was set up", hint="see dmesg(1)")
    index, errno, value = (int.from_bytes(report[a:b], "little", signed=True) for a, b in ((0, 4), (4, 8), (8, 16)))
    if errno == 0 and index == _STAYS:
        return value
    said = _read(inward, _MOST_SAID) if index >= 0 else b""
    _waited(pid)  # when it is gone, the container is our subreaper's child
    if errno == 0 and index == _LEFT:
        return value

    # In a pod the step may be of an app's plan: then that one's descriptor is in the upper half.
    plan, causes = plans.get(index >> _PLAN_AT if index > 0 else 0, plans[0])
    raise _failure(plan, causes, (index & 0xFFFF if index > 0 else index, errno, value), said)


def _failure(plan: bytes, causes: tuple[str, ...], numbers: tuple[int, int, int], said: bytes) -> PyrktError:
    from pyrkt.stage1.failure import failure  # noqa: PLC0415 - a start that succeeds needs none of its words

    return failure(plan, causes, *numbers, said=said)


def failed(arguments: list[str]) -> PyrktError:
    """Return the error behind the five arguments that stage1 appends to ON_FAILURE, which are the last ones.

    They are the failed step's index, errno, detail, the descriptor that holds plan and causes, and the one that holds
    what a failed program has said, or -1.
    """
    index, errno, detail, descriptor, said = (int(word) for word in arguments[-5:])
    data = _whole(descriptor)
    size = int.from_bytes(data[_SIZE_AT:_HEADER_SIZE], "little")
    causes = data[size:].decode("utf-8", "surrogateescape").split("\0")[:-1]

    text = _whole(said)[-_MOST_SAID:] if said >= 0 else b""
    return _failure(data[:size], tuple(causes), (index, errno, detail), text)


def _whole(descriptor: int) -> bytes:
    data = b""
    while more := os.pread(descriptor, 1 << 20, len(data)):
        data += more
    os.close(descriptor)
    return data
