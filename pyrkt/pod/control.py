"""The control socket of a running pod: its owner adds, starts, stops and removes apps. The other side is control.c."""

from __future__ import annotations

import os
from errno import EBADF, EBUSY, ECHILD, EEXIST, EINVAL, ENOENT, ENOSPC, ESHUTDOWN, ESRCH
from struct import Struct

from pyrkt.base.errors import Busy, CannotCreate, NotFound, StartFailed, Unavailable, UsageError
from pyrkt.base.record import Record
from pyrkt.plan.place import Policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from pyrkt.base.errors import PyrktError
    from pyrkt.stage1.launch import Piece

STATUS, END, ADD, START, STOP, REMOVE, SIGNAL = range(1, 8)
_REQUEST, _NAME, _ANSWER = Struct("<2Iq"), 64, Struct("<i2Ii2q2iq")
_MOST_SAID = 4096
PATIENCE_S = 20.0
"""Seconds for what a supervisor answers at once, however busy the machine is."""
_STAGES = ("", "created", "starting", "running", "stopping", "restarting", "exited")

_REASONS: dict[int, tuple[type[PyrktError], str, str]] = {
    ENOENT: (NotFound, "the pod has no app {name!r}", "pyrkt app list shows the apps"),
    EEXIST: (CannotCreate, "the pod has an app {name!r}", "choose another name, or pyrkt app rm it"),
    EBUSY: (Busy, "app {name!r} is running", "pyrkt app stop it"),
    ESHUTDOWN: (Busy, "the pod is ending", "pyrkt status shows how it goes on"),
    ENOSPC: (CannotCreate, "the pod has as many apps as it can", "64 at most; pyrkt app rm one"),
    EINVAL: (UsageError, "{name!r} is no name of an app", "lower case letters, digits, and - between them"),
    ESRCH: (Busy, "app {name!r} does not run", "pyrkt app start it"),
    EBADF: (StartFailed, "app {name!r} has no plan", "make it anew"),
    ECHILD: (StartFailed, "app {name!r} did not start", "pyrkt logs, and standard error of the pod, say why"),
}


class AppState(Record):
    """How the supervisor sees an app; ``code`` is its last exit code, ``delay_ms`` how long it waits to be restarted.

    ``state``: "created", "starting" (its pre-start runs), "running", "stopping" (its post-stop runs), "restarting",
    "exited".
    """

    state: str
    restarts: int
    code: int
    delay_ms: int = 0

    @property
    def runs(self) -> bool:
        """Whether the supervisor has something to do for it, be it only to wait."""
        return self.state not in ("created", "exited")


class Request(Record):
    """What is asked of a supervisor.

    ``grace``: seconds until an app that does not stop is killed, -1 for its own. ``number``: of the signal.
    ``plans``: descriptors of the sealed plans of an app to be added: pre-start, app, post-stop, -1 for none.
    ``pieces``: what is in these plans, so that a step of them that fails can be told of.
    """

    verb: int
    name: str = ""
    grace: float = -1.0
    number: int = 0
    policy: Policy = Policy()
    plans: tuple[int, ...] = ()
    pieces: tuple[Piece | None, ...] = ()


def ask(path: str, request: Request, seconds: float | None = None) -> AppState:
    """Send one request to the supervisor of the pod in ``path``, and wait ``seconds`` at most for its answer.

    Raises: Unavailable if nobody listens; what the supervisor refuses, as _REASONS has it; the error of a failed step.
    """
    import socket  # noqa: PLC0415 - most commands on pods do not talk to the supervisor

    milliseconds = int(request.grace * 1000) if request.grace >= 0 else -1
    given = [plan for plan in request.plans if plan >= 0]
    number = sum(1 << place for place, plan in enumerate(request.plans) if plan >= 0) or request.number
    words = _REQUEST.pack(request.verb, number, milliseconds) + request.policy.pack()
    name = request.name.encode("utf-8", "surrogateescape").ljust(_NAME, b"\0")[:_NAME]
    with connected(path) as client:
        client.settimeout(seconds)
        try:
            socket.send_fds(client, [words + name], given)
            data = client.recv(_ANSWER.size + _MOST_SAID)
        except TimeoutError:
            raise Busy("the pod's supervisor does not answer", hint="it may wait for an app to end") from None
        except OSError as error:
            raise Unavailable(f"the pod's supervisor: {error.strerror}", hint="pyrkt status shows its state") from None
    if len(data) < _ANSWER.size:
        raise Unavailable("the pod has ended meanwhile", hint="pyrkt status shows its state")
    errno, stage, restarts, plan, code, delay, index, fault, detail = _ANSWER.unpack(data[: _ANSWER.size])
    if errno and index >= 0 and 0 <= plan < len(request.pieces) and (piece := request.pieces[plan]):
        from pyrkt.stage1.failure import failure  # noqa: PLC0415 - for apps that cannot be started

        raise failure(piece[0], piece[1], index, fault, detail, said=data[_ANSWER.size :])
    if errno:
        raise _refusal(errno, request.name)
    state = _STAGES[stage] if stage < len(_STAGES) else "unknown"
    return AppState(state=state, restarts=restarts, code=code, delay_ms=delay)


def connected(path: str) -> socket.socket:
    """Return a connection to the supervisor of the pod in ``path``. Raises: Unavailable."""
    import socket  # noqa: PLC0415

    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    directory = -1
    try:
        # The name of a socket has 108 bytes at most, the pod's directory may have more.
        directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        client.connect(f"/proc/self/fd/{directory}/control")
    except OSError as error:
        client.close()
        reason = error.strerror or str(error)
        raise Unavailable(
            f"the pod's supervisor cannot be reached: {reason}", hint="pyrkt status shows whether the pod runs"
        ) from None
    finally:
        if directory >= 0:
            os.close(directory)
    return client


def _refusal(errno: int, name: str) -> PyrktError:
    kind, text, hint = _REASONS.get(errno, (StartFailed, f"app {{name!r}}: {os.strerror(errno)}", "pyrkt logs"))
    return kind(text.format(name=name), hint=hint)
