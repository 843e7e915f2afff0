"""From a prepared pod to a running one: the move, the lock, and stage1 in this process' place."""

from __future__ import annotations

import os

from pyrkt.base import log
from pyrkt.base.errors import Busy, InvalidSpec, NotFound, PyrktError, StartFailed, UsageError
from pyrkt.metadata import key
from pyrkt.pod import directory, measure
from pyrkt.stage1 import launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Never

    from pyrkt.base.dirs import ConfigDirs
    from pyrkt.pod.directory import Held, Pods
    from pyrkt.stage1.launch import Members, Piece
    from pyrkt.tpm.where import Log

MESSAGES = "messages"
"""What the supervisor has to say when nobody is there to hear it: that an app could not be started again."""
_REMAKE = "pyrkt rm the pod, then make it anew"


def become(pods: Pods, pod: Held, where: Log, dirs: ConfigDirs) -> Never:
    """Connect ``pod``, measure it in the log ``where``, move it to ``run`` and become its supervisor.

    The exit code is that of the first app that failed. The lock goes with the process: it is freed at the very moment
    that nothing of the pod is left. ``dirs`` is the configuration of networks.
    """
    (plan, causes), members = _read(pod.path)
    running, program = _ready(pods, pod, where, dirs, plan, members)
    try:
        _show(plan, causes, members)
        launch.run(plan, causes, copy=program, members=members)
    except BaseException:
        _disconnect(running)
        raise


def detach(pods: Pods, pod: Held, where: Log, dirs: ConfigDirs) -> int:
    """Connect ``pod``, measure it, move it to ``run``, leave its supervisor in the background.

    Returns when all apps run, with the pid of its first process.
    Raises: StartFailed and what else the failed step was; what connecting and measuring raise.
    """
    (plan, causes), members = _read(pod.path)
    running, program = _ready(pods, pod, where, dirs, plan, members)
    try:
        _show(plan, causes, members)
        kept = _redirected(running.path)
    except BaseException:
        _disconnect(running)
        raise
    try:
        # From here on it is stage1 that tidies up.
        return launch.start(plan, causes, copy=program, members=members)
    finally:
        for number, descriptor in enumerate(kept):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.close(running.descriptor)


def _ready(pods: Pods, pod: Held, where: Log, dirs: ConfigDirs, plan: bytes, members: Members) -> tuple[Held, int]:
    """Do the last things before stage1 begins; return the pod in ``run``, and the sealed copy of stage1.

    What fails leaves a pod that was prepared as it was, to be tried again, and nothing of one made for this run.
    """
    try:
        key.ensure(os.path.dirname(pods.root))
        _connect(pod, dirs)
        program = _measured(where, pod, plan, members)
        running = pods.move(pod, directory.RUN)
    except BaseException:
        _disconnect(pod)
        if pod.place == directory.PREPARE and not os.path.exists(f"{pod.path}/networks"):
            from pyrkt.store.remove import remove_tree  # noqa: PLC0415 - only failures pay

            remove_tree(pod.path)
        raise
    os.set_inheritable(running.descriptor, True)  # noqa: FBT003 - os wants it so
    return running, program


def _connect(pod: Held, dirs: ConfigDirs) -> None:
    """Give ``pod`` its networks, if it joins any."""
    if os.path.exists(f"{pod.path}/network"):
        from pyrkt.pod import network  # noqa: PLC0415 - most pods have none

        network.up(pod.path, pod.uuid, dirs)


def _disconnect(pod: Held) -> None:
    """Take ``pod`` off its networks; what a plugin does not give back, gc asks for again."""
    if os.path.exists(f"{pod.path}/networks"):
        from pyrkt.pod import network  # noqa: PLC0415 - as above

        try:
            network.down(pod.path, pod.uuid)
        except PyrktError as error:
            log.warn(error.message)


def _measured(where: Log, pod: Held, plan: bytes, members: Members) -> int:
    """Append what is about to run to the log ``where``; return the sealed copy of stage1 that is measured there."""
    program = launch.program()
    plans = [("pod", "", b"".join((plan, *(piece[0] for piece in members.values())))), ("sandbox", "", plan)]
    for number, name in _members(pod.path):
        app, _, part = name.removeprefix("apps/").rpartition("/")
        plans.append((part.removesuffix("plan").rstrip(".") or "app", app, members[number][0]))
    measure.launch(where, pod.path, plans, measure.programs(pod.path, program))
    return program


def _show(plan: bytes, causes: tuple[str, ...], members: Members) -> None:
    """Print with --debug each step, before any is done."""
    if not log.debugging():
        return
    from pyrkt.plan import explain, steps  # noqa: PLC0415 - for people who look

    for data, words in ((plan, causes), *members.values()):
        for line in explain.lines(steps.decode(data, words)):
            log.debug(line)


def _redirected(path: str) -> list[int]:
    """Give the supervisor-to-be no end of the caller's pipes, which would wait for it; return the old descriptors."""
    kept = [os.dup(number) for number in (0, 1, 2)]
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    out = os.open(f"{path}/{MESSAGES}", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    for descriptor, number in ((null, 0), (out, 1), (out, 2)):
        os.dup2(descriptor, number)
    os.close(null)
    os.close(out)
    return kept


def _read(path: str) -> tuple[Piece, Members]:
    """Return the pod's plan, and those of its apps by the descriptor at which stage1 looks for them."""
    try:
        return read_piece(path, "plan"), {number: read_piece(path, name) for number, name in _members(path)}
    except FileNotFoundError:
        raise StartFailed(
            "the pod has no plan: its making was interrupted", hint="pyrkt gc, then make it anew"
        ) from None


def _members(path: str) -> list[tuple[int, str]]:
    with open(f"{path}/members", encoding="utf-8") as file:
        lines = [line.split(" ", 1) for line in file.read().splitlines()]
    try:
        return [(int(number), name) for number, name in lines]
    except ValueError:
        raise InvalidSpec("is damaged", document=f"{path}/members", hint=_REMAKE) from None


def pieces(path: str) -> tuple[Piece, list[tuple[str, Piece]]]:
    """Return the plan of the pod in ``path``, and those of its apps, each with the name of its file."""
    own, found = _read(path)
    members = list(zip((name for _, name in _members(path)), found.values(), strict=True))
    return own, [*members, *((name, read_piece(path, name)) for name in _added(path, {name for name, _ in members}))]


def _added(path: str, known: set[str]) -> list[str]:
    """Return the plans of apps that came later than the pod, each as the name of its file."""
    found = []
    for app in sorted(os.listdir(f"{path}/apps")):
        names = (f"apps/{app}/{part}plan" for part in ("pre-start.", "", "post-stop."))
        found += [name for name in names if name not in known and os.path.exists(f"{path}/{name}")]
    return found


def read_piece(path: str, name: str) -> Piece:
    """Return the bytes of the plan in the file ``name`` of a pod, and the causes of its steps."""
    with open(f"{path}/{name}", "rb") as file:
        plan = file.read()
    with open(f"{path}/{causes_file(name)}", "rb") as file:
        causes = tuple(file.read().decode("utf-8", "surrogateescape").split("\0"))
    # The size that its header tells: a plan that was cut could not even say what to do when a step fails.
    if plan[:4] != b"PKRT" or int.from_bytes(plan[12:16], "little") != len(plan):
        raise InvalidSpec("is damaged", document=f"{path}/{name}", hint=_REMAKE)
    return plan, causes


def causes_file(name: str) -> str:
    """Return the name of the file with the causes of the plan in the file ``name``."""
    return f"{name.removesuffix('plan')}causes"


def take(pods: Pods, text: str) -> Held:
    """Return the prepared pod that ``text`` means, locked. Raises: NotFound; UsageError if it is in another state."""
    found = pods.find(text)
    if found.place != directory.PREPARED:
        raise UsageError(f"pod {found.uuid} is not prepared but {found.state()}", hint="pyrkt list shows the states")
    try:
        return pods.hold(found)
    except (Busy, NotFound):
        raise Busy(f"pod {found.uuid} is being started by another", hint="pyrkt status shows how it goes on") from None


def fits(pod: Held) -> bool:
    """Tell whether the pod's plan was made for a foreground run, since the last reboot."""
    try:
        with open(f"{pod.path}/made", "rb", buffering=0) as file:
            return file.read() == made(detach=False).encode()
    except FileNotFoundError:
        return False


def made(*, detach: bool) -> str:
    """Return what a plan is good for: this boot (cgroups may lie elsewhere after another), and a way to run."""
    with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
        return f"{file.read().decode().strip()} {'background' if detach else 'foreground'}"
