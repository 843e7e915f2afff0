"""The end of pods: stop, wait, rm, gc. What gc will do is listed first, then done."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C half of signal; its enums cost 3 ms
import os
import time

from pyrkt.base import log
from pyrkt.base.errors import Busy, NotFound, PyrktError, UsageError
from pyrkt.base.record import Record
from pyrkt.cgroup.host import read_text, unescape
from pyrkt.cgroup.remove import remove as remove_cgroups
from pyrkt.kernel import lock, mount, pidfd
from pyrkt.pod import directory
from pyrkt.pod.status import cgroups, open_process
from pyrkt.store.remove import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.pod.directory import Held, Pod, Pods

GRACE_S, EXPIRE_PREPARED_S = 30 * 60.0, 24 * 3600.0
"""rkt's own defaults: how long an ended pod stays to be looked at, and a prepared one to be run."""
STOP_S = 10.0
_AFTER_KILL_S, _SLACK_S = 10.0, 2.0
_EMBRYO_S = 10.0
"""How long a directory without a lock may still be one whose maker is about to lock it."""
_POLL_S = 0.01


def wait(pod: Pod, seconds: float | None = None) -> bool:
    """Wait until ``pod`` has ended and its supervisor has tidied up; False if ``seconds`` pass before."""
    deadline = None if seconds is None else time.monotonic() + seconds
    process = open_process(pod)
    if process >= 0:
        try:
            if not pidfd.wait(process, seconds):
                return False
        finally:
            os.close(process)
    while lock.is_held(pod.path):
        if deadline is not None and time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def stop(pod: Pod, *, grace: float = STOP_S, force: bool = False) -> bool:
    """End ``pod``: its supervisor ends one app after the other, each in its share of the ``grace``.

    After ``grace`` seconds, or with ``force``, SIGKILL to its first process, with which all of it dies.

    Returns whether it was running. Raises: UsageError if it never ran; Busy if it does not end.
    """
    state = pod.state()
    if state in ("exited", "exited garbage", "exited deleting"):
        return False
    if state != "running":
        raise UsageError(f"pod {pod.uuid} is not running but {state}", hint="pyrkt list shows the states")
    process = _first_process(pod)
    if process < 0:
        return False
    try:
        if force or not _asked(pod, process, grace):
            pidfd.send_signal(process, _signal.SIGKILL)
    finally:
        os.close(process)
    if not wait(pod, _AFTER_KILL_S):
        raise Busy(f"pod {pod.uuid} does not end", hint="a process of it may be stuck in the kernel; see ps")
    return True


def _asked(pod: Pod, process: int, grace: float) -> bool:
    """Ask the supervisor to end the pod; return whether its first process is gone within ``grace`` seconds."""
    if _told(pod, grace):
        return pidfd.wait(process, grace + _SLACK_S)
    supervisor = open_process(pod, "supervisor")
    if supervisor < 0:
        return False
    try:
        return pidfd.send_signal(supervisor, _signal.SIGTERM) and pidfd.wait(process, grace)
    finally:
        os.close(supervisor)


def _told(pod: Pod, grace: float) -> bool:
    """Tell the supervisor how much time there is; False if it does not listen, and is to get a signal instead."""
    from pyrkt.pod import control  # noqa: PLC0415 - a socket, for who stops

    try:
        control.ask(pod.path, control.Request(verb=control.END, grace=grace), control.PATIENCE_S)
    except PyrktError:
        return False
    return True


def _first_process(pod: Pod) -> int:
    """Return the pod's first process as a pidfd; a pod that is just starting has one in a moment. -1 if it ended."""
    deadline, process = time.monotonic() + _AFTER_KILL_S, -1
    # The supervisor is the last to be recorded.
    while not (pod.read("supervisor") and (process := open_process(pod)) >= 0) and lock.is_held(pod.path):
        if time.monotonic() > deadline:
            raise Busy(f"pod {pod.uuid} has no first process", hint=f"it may still be starting; see {pod.path}")
        time.sleep(_POLL_S)
    return process


class Step(Record):
    """One thing that gc does to a pod: "mark" (move to garbage), "sweep" (remove) or "disconnect".

    The last is for a prepared pod whose start was killed while it got its networks: it stays, they go.
    """

    deed: str
    pod: Pod
    target: str = ""

    def __str__(self) -> str:
        if self.deed == "mark":
            return f'Moving pod "{self.pod.uuid}" to garbage'
        if self.deed == "disconnect":
            return f'Taking pod "{self.pod.uuid}" off its networks'
        return f'Garbage collecting pod "{self.pod.uuid}"'


def plan(pods: Pods, *, grace: float, expire_prepared: float, mark_only: bool, now: float) -> list[Step]:
    """Return what gc will do; touches nothing.

    ``grace`` and ``expire_prepared`` are seconds that a pod stays where it is, counted from its last move.
    """
    steps: list[Step] = []
    for pod in pods.each():
        age = now - _moved(pod.path)
        if pod.place in (directory.EXITED_GARBAGE, directory.GARBAGE):
            # Garbage never ran: nobody looks at it again.
            if not mark_only and (age >= grace or pod.place == directory.GARBAGE) and not lock.is_held(pod.path):
                steps.append(Step(deed="sweep", pod=pod))
            continue
        target = directory.EXITED_GARBAGE if pod.place == directory.RUN else directory.GARBAGE
        minimum = {directory.EMBRYO: _EMBRYO_S, directory.PREPARED: expire_prepared}.get(pod.place, 0.0)
        if age >= minimum and not lock.is_held(pod.path):
            steps.append(Step(deed="mark", pod=pod, target=target))
            if not mark_only and (grace <= 0 or target == directory.GARBAGE):
                moved = pod.replace(place=target, path=pods.path(target, pod.uuid))
                steps.append(Step(deed="sweep", pod=moved))
        elif pod.place == directory.PREPARED and has_network(pod.path, pod.uuid) and not lock.is_held(pod.path):
            steps.append(Step(deed="disconnect", pod=pod))
    return steps


def carry_out(pods: Pods, step: Step) -> bool:
    """Do one ``step``; False if somebody else was faster, which is no error."""
    try:
        held = pods.hold(step.pod)
    except (Busy, NotFound):
        return False
    try:
        if step.deed == "disconnect":
            disconnect(held)
        elif step.deed == "mark":
            # At once: others may want its addresses and ports while it is kept to be looked at.
            disconnect(held)
            pods.move(held, step.target)
        else:
            sweep(held)
    finally:
        os.close(held.descriptor)
    return True


def remove(pods: Pods, pod: Pod) -> None:
    """Remove ``pod`` now. Raises: Busy if it runs or is being prepared."""
    held = pods.hold(pod)
    try:
        if pod.place not in (directory.EXITED_GARBAGE, directory.GARBAGE):
            held = pods.move(held, directory.EXITED_GARBAGE if pod.place == directory.RUN else directory.GARBAGE)
        sweep(held)
    finally:
        os.close(held.descriptor)


def sweep(held: Held) -> None:
    """Remove what a pod left: processes, cgroups, mounts, files. What was done before is found done."""
    pod = directory.Pod(uuid=held.uuid, place=held.place, path=held.path)
    process = open_process(pod)
    if process >= 0:
        # Its supervisor was killed; the first process takes all the others of the pod with it.
        pidfd.send_signal(process, _signal.SIGKILL)
        pidfd.wait(process, _AFTER_KILL_S)
        os.close(process)
    disconnect(held, forget=True)
    if os.path.isdir(f"{pod.path}/runtime"):
        from pyrkt.pod import flavours  # noqa: PLC0415 - of pods that another runtime made

        flavours.forget(pod)
    remove_cgroups(*cgroups(pod))
    _unmount_below(held.path)
    try:
        remove_tree(held.path)
    except PermissionError:
        from pyrkt.pod import foreign  # noqa: PLC0415 - only an ordinary user's pods with users of their own need it

        foreign.remove(held.path)


def has_network(path: str, uuid: str) -> bool:
    """Tell whether networks of the pod in ``path`` are still to be left: it was killed before it could do that."""
    return os.path.isdir(f"{path}/networks") or os.path.lexists(f"/run/pyrkt/netns/{uuid}")


def disconnect(held: Held, *, forget: bool = False) -> None:
    """Take a pod that has ended off its networks; what fails is warned of, and tried again unless ``forget``."""
    if not has_network(held.path, held.uuid):
        return
    from pyrkt.pod import network  # noqa: PLC0415 - most pods have none, or have left theirs

    try:
        network.down(held.path, held.uuid, forget=forget)
    except (PyrktError, OSError) as error:
        log.warn(f"pod {held.uuid}: {error}")


def _unmount_below(path: str) -> None:
    """Detach what is mounted below ``path`` on the host. Nothing should be; an EBUSY would keep the pod for ever."""
    points = [unescape(line.split(" ")[4]) for line in read_text("/proc/self/mountinfo").splitlines()]
    for point in reversed(points):
        if point.startswith(f"{path}/"):
            mount.detach(point)


def _moved(path: str) -> float:
    try:
        return os.lstat(path).st_ctime  # rename(2) into another directory sets it
    except OSError:
        return float("inf")


def failures(errors: list[PyrktError]) -> None:
    """Raise the first of ``errors``, the others noted beside it."""
    if errors:
        for other in errors[1:]:
            errors[0].add_note(other.message)
            for note in getattr(other, "__notes__", ()):
                errors[0].add_note(note)
        raise errors[0]
