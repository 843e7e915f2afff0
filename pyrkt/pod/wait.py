"""Waiting for pods: until one is ready, until one has ended; wherever it is moved meanwhile."""

from __future__ import annotations

import os
import time

from pyrkt.base.errors import NotFound
from pyrkt.pod import kept, lifecycle
from pyrkt.pod import status as states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.pod.directory import Pod, Pods

_POLL_S = 0.02
_BEFORE = ("embryo", "preparing", "prepared")


def until_ended(pods: Pods, pod: Pod, seconds: float) -> Pod:
    """Wait ``seconds`` at most until ``pod`` has ended; return where it is then. One that never ran is waited for, too.

    Raises: NotFound if somebody removes it meanwhile.
    """
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        state = pod.state()
        if state == "running":
            lifecycle.wait(pod, None if left == float("inf") else left)
        elif state not in _BEFORE:
            break
        else:
            time.sleep(min(_POLL_S, left))
        pod = _again(pods, pod)
    return pod


def until_ready(pods: Pods, pod: Pod, seconds: float) -> tuple[Pod, bool]:
    """Wait ``seconds`` at most until all apps of ``pod`` have been started; return where it is, and whether they were.

    A pod that ends is waited for no longer. Raises: NotFound if somebody removes it meanwhile.
    """
    deadline = time.monotonic() + seconds
    while True:
        ready = is_ready(pod)
        left = deadline - time.monotonic()
        if ready or left <= 0 or pod.state() not in (*_BEFORE, "running"):
            return pod, ready
        time.sleep(min(_POLL_S, left))
        pod = _again(pods, pod)


def is_ready(pod: Pod) -> bool:
    """Tell whether each app of ``pod`` runs, or has run and ended; one that tells by itself has to be ready, too.

    A pod to which apps may be added is ready without any.
    """
    if pod.state() != "running" or not os.path.exists(f"{pod.path}/pid"):
        return False
    found = states.status(pod)
    if os.path.exists(f"{pod.path}/{kept.FILE}"):
        return all(app.ready or app.state != "running" for app in found.apps)
    return bool(found.apps) and all(
        app.state == "exited" or (app.state == "running" and app.ready) for app in found.apps
    )


def _again(pods: Pods, pod: Pod) -> Pod:
    found = pods.look(pod.uuid)
    if found is None:
        raise NotFound(f"pod {pod.uuid} was removed meanwhile", hint="pyrkt list shows the pods")
    return found
