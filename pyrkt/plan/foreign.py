"""An app of a pod that another OCI runtime makes: a process of the host that runs it, and what must be there for it.

The process has a mount namespace of its own, in which the app's root file system and the pod's namespaces stand under
names that the runtime can be told. They go with it, whoever is killed when.
"""

from __future__ import annotations

from pyrkt.base.record import Record
from pyrkt.plan import namespaces, process
from pyrkt.plan.draft import Draft
from pyrkt.plan.options import MS_REC, MS_SLAVE
from pyrkt.plan.rootfs import USERXATTR, VOLATILE
from pyrkt.plan.steps import AFTER, BEFORE, PARENT
from pyrkt.spec import steps
from pyrkt.spec.layout import CgroupLayout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.plan.place import Place
    from pyrkt.plan.steps import Plan
    from pyrkt.spec.layout import OverlayRoot
    from pyrkt.spec.runtime import Process

_ENV = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root")
_MAKE_AS_SOURCE = 2
_DELETE_S = 60
CAUSE = "stage1"


class Commands(Record):
    """The command lines of the runtime: ``run`` the container to its end; ``delete`` it, whatever is left of it.

    ``tell`` it of a signal, "{signal}" being the number; () where ``run`` passes on what it is sent.
    """

    run: tuple[str, ...]
    delete: tuple[str, ...]
    tell: tuple[str, ...] = ()


def app(
    commands: Commands,
    rootfs: tuple[str, OverlayRoot | None],
    held: tuple[tuple[int, str], ...],
    program: Process,
    place: Place,
    *,
    hidden: tuple[str, ...] = (),
) -> Plan:
    """Compile an app that another runtime makes.

    ``rootfs`` is where the root has to be, and what it is made of (None: it is there); ``held`` are the descriptors of
    the pod's namespaces, each with the path at which the runtime looks for it; ``hidden`` are directories of the host
    that the runtime finds empty. A terminal of ``program`` is the runtime's affair, which relays the caller's.
    """
    draft = Draft()
    if place.on_failure:
        draft.add(steps.ON_FAILURE, place.on_failure, phase=BEFORE)
    draft.add(steps.MEMBER, phase=BEFORE)
    if commands.tell:
        draft.add(steps.TELL, commands.tell, _ENV, cause=CAUSE, phase=BEFORE)
    if not program.terminal:
        process.catch(draft, program, place.streams)
    namespaces.clone(draft, namespaces.NEWNS, CgroupLayout(), cause=CAUSE)
    # Of an app whose supervisor was killed, and which is to run again.
    _program(draft, commands.delete, PARENT)
    if not program.terminal:  # else it has to stay in the caller's session
        draft.add(steps.SETSID)
    draft.add(steps.PROPAGATION, "/", MS_SLAVE | MS_REC, cause=CAUSE)
    # Before there is a root: until then targets are the host's own.
    for number, path in held:
        draft.add(steps.BIND, f"/proc/self/fd/{number}", path, 0, 0, 0, _MAKE_AS_SOURCE, cause="/linux/namespaces")
    draft.add(steps.MASK, "/dev/null")
    if not program.terminal and place.streams:
        draft.add(steps.STREAM_ENDS)
    # crun and runsc give the standard descriptors to the container's user: through these the host's node keeps its own.
    draft.add(steps.OWN_NULL)
    for path in hidden:
        draft.add(steps.MOUNT, "tmpfs", "tmpfs", path, 0, "", 0, cause=CAUSE)
    directory, overlay = rootfs
    if overlay is not None:
        bits = VOLATILE * overlay.volatile | USERXATTR * overlay.userxattr
        args = (directory, overlay.lowers, overlay.upper, overlay.work, bits)
        draft.add(steps.ROOT_OVERLAY, *args, cause="/root/path")
    if place.gate:
        draft.add(steps.MEET, phase=PARENT)
        draft.add(steps.GATE, phase=PARENT)
        draft.add(steps.MEET)
    # Among them the pod's namespaces and its lock: no runtime closes what it does not know.
    draft.add(steps.CLOSE_FDS, 3)
    draft.add(steps.EXEC, commands.run[0], commands.run, _ENV, cause=CAUSE)
    _program(draft, commands.delete, AFTER)
    return draft.plan()


def _program(draft: Draft, words: tuple[str, ...], phase: int) -> None:
    draft.add(steps.HOOK, words[0], words, _ENV, _DELETE_S, "{}", b"", cause=CAUSE, phase=phase)
