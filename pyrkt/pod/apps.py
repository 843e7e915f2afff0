"""The apps of a mutable pod as its owner drives them: started, stopped, each start measured before anything runs."""

from __future__ import annotations

import os

from pyrkt.base import fastjson
from pyrkt.base.errors import Busy, NotFound, StartFailed, UsageError
from pyrkt.base.reader import Reader
from pyrkt.kernel import lock, memfd
from pyrkt.plan.place import Policy
from pyrkt.pod import control, kept, measure
from pyrkt.pod import status as states
from pyrkt.pod.start import read_piece

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.pod.ask import PodAsk
    from pyrkt.pod.directory import Pod
    from pyrkt.stage1.launch import Piece
    from pyrkt.tpm.where import Log

LOCK, RECIPE = "pod.lck", "recipe"
"""The lock of a pod's changes, as rkt has it; and the file of an added app that says what its plans were made of."""
_PLANS = (("pre-start", "pre-start.plan"), ("app", "plan"), ("post-stop", "post-stop.plan"))


def mutable(pod: Pod) -> PodAsk:
    """Return what was asked of the running, mutable ``pod``. Raises: UsageError if it does not run, or takes none."""
    ask = kept.read(pod.path)
    if ask is None:
        raise UsageError(
            f"the apps of pod {pod.uuid[:8]} are what they were when it was made",
            hint="pyrkt app sandbox makes a pod to which apps can be added",
        )
    state = pod.state()
    if state != "running":
        raise UsageError(f"pod {pod.uuid} is not running but {state}", hint="pyrkt list shows the states")
    return ask


def known(pod: Pod, name: str) -> states.AppStatus:
    """Return the app ``name`` of ``pod``. Raises: NotFound."""
    for app in states.status(pod).apps:
        if app.name == name:
            return app
    raise NotFound(f"pod {pod.uuid[:8]} has no app {name!r}", hint=f"pyrkt app list {pod.uuid[:8]} shows the apps")


def _pieces(pod: Pod, name: str) -> tuple[Piece | None, ...]:
    """Return the plans of an app: pre-start, its own, post-stop."""
    home = f"apps/{name}"
    return tuple(
        read_piece(pod.path, f"{home}/{file}") if os.path.exists(f"{pod.path}/{home}/{file}") else None
        for _, file in _PLANS
    )


def _policy(pod: Pod, name: str) -> Policy:
    file = f"{pod.path}/apps/{name}/{RECIPE}"
    with open(file, "rb") as opened:
        recipe = Reader(fastjson.loads(opened.read(), file), file)
    return Policy.read(recipe["policy"])


def hand_over(pod: Pod, name: str) -> None:
    """Give the plans of the app ``name``, as they are in its directory, to the pod's supervisor."""
    sealed = [-1 if piece is None else memfd.sealed("plan", piece[0] + _causes(piece)) for piece in _pieces(pod, name)]
    try:
        request = control.Request(verb=control.ADD, name=name, plans=tuple(sealed), policy=_policy(pod, name))
        control.ask(pod.path, request, control.PATIENCE_S)
    finally:
        for descriptor in sealed:
            if descriptor >= 0:
                os.close(descriptor)


def _causes(piece: Piece) -> bytes:
    return "".join(f"{cause}\0" for cause in piece[1]).encode("utf-8", "surrogateescape")


def start(pod: Pod, name: str, where: Log) -> None:
    """Start the app ``name``, when it is measured in the log ``where``; returns when it runs.

    Raises: NotFound; Busy if it runs; StartFailed and its kin, what measuring raises.
    """
    mutable(pod)
    known(pod, name)
    # Two that start it at once must not both measure what only one of them starts.
    guard = lock.acquire(f"{pod.path}/apps/{name}", exclusive=True, directory=True)
    try:
        if control.ask(pod.path, control.Request(verb=control.STATUS, name=name), control.PATIENCE_S).runs:
            raise Busy(f"app {name!r} of pod {pod.uuid[:8]} runs already", hint="pyrkt app stop it first")
        pieces = _pieces(pod, name)
        _measure(pod, name, pieces, where)
        before = states.record(pod, f"apps/{name}/pid")
        state = control.ask(pod.path, control.Request(verb=control.START, name=name, pieces=pieces))
    finally:
        os.close(guard)
    if state.code and pieces[0] is not None and states.record(pod, f"apps/{name}/pid") == before:
        raise StartFailed(
            f"the pre-start handler of app {name!r} ended with {state.code}", hint=f"pyrkt logs {pod.uuid[:8]}"
        )


def _measure(pod: Pod, name: str, pieces: tuple[Piece | None, ...], where: Log) -> None:
    """Append what is about to run, and the very program that the pod's supervisor is."""
    plans = [(part, name, piece[0]) for (part, _), piece in zip(_PLANS, pieces, strict=True) if piece is not None]
    supervisor = states.record(pod, "supervisor")[0]
    program = os.open(f"/proc/{supervisor}/exe", os.O_RDONLY | os.O_CLOEXEC)
    try:
        programs = measure.programs(pod.path, program)
    finally:
        os.close(program)
    measure.launch(where, pod.path, plans, programs, apps=(name,))


def stop(pod: Pod, name: str, grace: float = -1.0) -> bool:
    """Stop the app ``name``: its signal, and after ``grace`` seconds (-1: its own) SIGKILL; returns when it has ended.

    Returns whether it was running. Raises: NotFound.
    """
    mutable(pod)
    known(pod, name)
    if not control.ask(pod.path, control.Request(verb=control.STATUS, name=name), control.PATIENCE_S).runs:
        return False
    control.ask(pod.path, control.Request(verb=control.STOP, name=name, grace=grace))
    return True
