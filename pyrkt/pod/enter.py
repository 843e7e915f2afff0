"""Another process in an app of a running pod, confined as the app's own: its namespaces, cgroups, filter, capabilities.

What the app runs by is in its config.json; ``runtime.joining`` compiles the new process from that, by the same steps
in the same order as the app's. Nothing of Python comes near the app: stage1, from a sealed memfd, joins it.
"""

from __future__ import annotations

import os
import stat
import time

from pyrkt.base.errors import Busy, ImageRefused, InvalidSpec, NotFound, UsageError
from pyrkt.base.record import Record
from pyrkt.kernel import host as kernel_host
from pyrkt.kernel import path as kernel_path
from pyrkt.kernel import process as kernel_process
from pyrkt.kernel import seccomp
from pyrkt.plan.place import Place
from pyrkt.plan.steps import encode
from pyrkt.pod import cgroups
from pyrkt.pod import status as states
from pyrkt.pod.flavour import read_flavour
from pyrkt.pod.program import on_failure
from pyrkt.runtime import exec as runtime_exec
from pyrkt.runtime import joining
from pyrkt.spec.runtime import User, parse_config
from pyrkt.stage1 import launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.plan.steps import Plan
    from pyrkt.pod.directory import Pod
    from pyrkt.spec.runtime import Config

_START_S = 10.0
"""How long an app may take to be started; its pre-start handler is part of that."""
_POLL_S = 0.01
_IN_ROOT = kernel_path.RESOLVE_IN_ROOT | kernel_path.RESOLVE_NO_MAGICLINKS
_SHELLS = ("/bin/bash", "/bin/sh")


class Wish(Record):
    """What shall run: ``command`` (empty: a shell), as ``user`` ("": the app's own, else USER[:GROUP]), in ``cwd``.

    ``env`` are NAME=VALUE beside the app's own. ``detach``: nobody waits for it, and it gets no input.
    """

    command: tuple[str, ...] = ()
    user: str = ""
    cwd: str = ""
    env: tuple[str, ...] = ()
    terminal: bool = False
    detach: bool = False


class Inside:
    """The files of a running app, by a descriptor of its root: no link and no race of its making leads out."""

    def __init__(self, pid: int) -> None:
        """Open the root of process ``pid``. Raises: OSError."""
        self._root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of the root."""
        os.close(self._root)

    def _status(self, path: str) -> os.stat_result | None:
        try:
            descriptor = kernel_path.openat2(self._root, path, os.O_PATH, 0, _IN_ROOT)
        except OSError:
            return None
        try:
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)

    def is_file(self, path: str) -> bool:
        """Tell whether ``path`` leads to a regular file."""
        found = self._status(path)
        return found is not None and stat.S_ISREG(found.st_mode)

    def owner(self, path: str) -> tuple[int, int] | None:
        """Return (uid, gid), as the host has them, of what ``path`` leads to; None if it leads to nothing."""
        found = self._status(path)
        return (found.st_uid, found.st_gid) if found else None

    def read(self, path: str, limit: int = 1 << 20) -> bytes | None:
        """Return the content of the regular file that ``path`` leads to; None if there is none.

        Raises: ImageRefused if it has more than ``limit`` bytes.
        """
        if not self.is_file(path):  # looked at first: to open a device can do something
            return None
        try:
            descriptor = kernel_path.openat2(self._root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, 0, _IN_ROOT)
        except OSError:
            return None
        with open(descriptor, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            data = file.read(limit + 1) or b""
        if len(data) > limit:
            raise ImageRefused(f"{path} of the app is larger than {limit} bytes")
        return data


def chosen(pod: Pod, app: str) -> str:
    """Return the app ``app`` of ``pod``, the only one if "". Raises: UsageError naming them, NotFound."""
    names = states.app_names(pod)
    listed = ", ".join(names) or "none"
    if app in names:
        return app
    if app or not names:
        raise NotFound(f"pod {pod.uuid[:8]} has no app {app!r}", hint=f"its apps are: {listed}")
    if len(names) > 1:
        raise UsageError(f"pod {pod.uuid[:8]} has several apps: {listed}", hint="--app=NAME")
    return names[0]


def first_process(pod: Pod, app: str) -> tuple[int, int]:
    """Return (pid, start time) of the app's first process; of one that is being started, as soon as there is one.

    Raises: NotFound if pod or app does not run; Busy if the app does not get started.
    """
    deadline = time.monotonic() + _START_S
    while True:
        pid, started = _recorded(pod, app)
        if pid and kernel_process.start_time(pid) == started:
            return pid, started
        state = pod.state()
        if state != "running":
            raise NotFound(f"pod {pod.uuid} is not running but {state}", hint="pyrkt list shows the states")
        if pid or pod.read(f"status/{app}"):
            raise NotFound(f"app {app!r} of pod {pod.uuid} is not running", hint=f"pyrkt status {pod.uuid[:8]}")
        if time.monotonic() > deadline:
            raise Busy(f"app {app!r} of pod {pod.uuid} has not been started yet", hint="pyrkt status --wait-ready")
        time.sleep(_POLL_S)


def _recorded(pod: Pod, app: str) -> tuple[int, int]:
    flavour = read_flavour(pod.path)
    if not flavour.is_foreign:
        return states.record(pod, f"apps/{app}/pid")
    from pyrkt.pod import flavours  # noqa: PLC0415 - of pods that another runtime made

    return flavours.first_process(flavour, pod, app)


def enter(pod: Pod, app: str, wish: Wish) -> int:
    """Run what ``wish`` says in the app ``app`` of ``pod``; in the foreground this becomes it, and never returns.

    Raises: UsageError, NotFound, Busy, InvalidSpec; StartFailed and its kin if a step fails.
    """
    name = chosen(pod, app)
    if read_flavour(pod.path).name == "runsc":
        from pyrkt.pod import flavours  # noqa: PLC0415 - the host's kernel knows nothing of what is in there

        flavours.enter_guest(pod, name, wish)
    first = first_process(pod, name)
    plan = plan_of(pod, name, first, wish)
    if not wish.detach:
        launch.run(encode(plan), plan.causes)
    kept = [os.dup(number) for number in (0, 1, 2)]
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for number in (0, 1, 2):
        os.dup2(null, number)
    try:
        launch.start(encode(plan), plan.causes)
    finally:
        for number, descriptor in enumerate(kept):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.close(null)
    return 0


def plan_of(pod: Pod, app: str, first: tuple[int, int], wish: Wish) -> Plan:
    """Return the plan of ``wish`` in the app whose first process is ``first``."""
    config = _with(_config(pod, app), wish, first[0])
    facts = kernel_host.probe()
    layout = cgroups.layout(states.app_cgroups(pod, app))
    place = Place(
        id=pod.uuid,
        foreground=not wish.detach,
        on_failure=() if wish.detach else on_failure(),
        keyring=f"_ses.{pod.uuid}",
        first_pid=first[0],
    )
    return joining.plan_of(
        joining.joined(config, first[0]),
        f"{pod.path}/apps/{app}",
        facts,
        runtime_exec.cgroups(layout, [], first[0], facts),
        place,
        seccomp.compile_filter(config.linux.seccomp) if config.linux and config.linux.seccomp else b"",
        first,
    )


def _config(pod: Pod, app: str) -> Config:
    file = f"{pod.path}/apps/{app}/config.json"
    with open(file, "rb") as opened:
        return parse_config(opened.read(), file)


def _with(config: Config, wish: Wish, pid: int) -> Config:
    """Return the app's ``config`` with the process of ``wish``; what that leaves open is the app's."""
    given = config.process
    if given is None:
        raise InvalidSpec("has no process", document="config.json", where="process")
    inside = Inside(pid)
    try:
        changed = given.replace(
            args=wish.command or (next(filter(inside.is_file, _SHELLS), _SHELLS[-1]),),
            env=(*given.env, *wish.env),
            cwd=wish.cwd or given.cwd,
            terminal=wish.terminal,
            user=_user(wish.user, inside) if wish.user else given.user,
        )
    finally:
        inside.close()
    return config.replace(process=changed)


def _user(text: str, inside: Inside) -> User:
    if text in ("root", "0"):  # also where the app's passwd has no root, or says something else of it
        return User(uid=0, gid=0)
    from pyrkt.bundle.users import Accounts  # noqa: PLC0415 - the usual user needs no names

    found = Accounts(inside).oci(text)
    return User(uid=found.uid, gid=found.gid, additional_gids=found.groups)
