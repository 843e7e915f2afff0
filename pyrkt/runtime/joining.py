"""The plan of another process in a running container: its namespaces, its cgroups, its confinement, the same way.

The new process is given up to the container as the first one was, by the same steps in the same order; an ``exec``
that skips some of them is how rkt's ``enter`` handed out full privileges (CVE-2019-10144, 10145, 10147).
"""

from __future__ import annotations

from pyrkt.plan import namespaces, process
from pyrkt.plan.draft import O_DIRECTORY, O_PATH, Draft, Subject
from pyrkt.plan.steps import BEFORE
from pyrkt.spec import steps
from pyrkt.spec.runtime import Linux, Namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.kernel.host import Host
    from pyrkt.plan.place import Place
    from pyrkt.plan.steps import Plan
    from pyrkt.spec.layout import CgroupLayout
    from pyrkt.spec.runtime import Config

_FILES = {"network": "net", "mount": "mnt"}
"""Where /proc/PID/ns differs from the specification."""


def joined(config: Config, pid: int) -> Config:
    """Return ``config`` with each of its namespaces to be joined where process ``pid`` is, and named already."""
    linux = config.linux or Linux()
    spaces = tuple(
        Namespace(type=space.type, path=f"/proc/{pid}/ns/{_FILES.get(space.type, space.type)}")
        for space in linux.namespaces
    )
    return config.replace(hostname="", domainname="", linux=linux.replace(namespaces=spaces))


def plan_of(
    config: Config,
    bundle: str,
    host: Host,
    cgroup: CgroupLayout,
    place: Place,
    seccomp: bytes,
    first: tuple[int, int],
) -> Plan:
    """Compile the process of ``config``, whose namespaces are all to be joined.

    ``first`` is pid and start time of the container's first process: it may end before its namespaces are opened,
    and its number be used again, by a process of the host. ``cgroup`` is that of the running container: it is
    entered, neither made nor removed.
    """
    draft, subject = Draft(), Subject(config, bundle, host)
    program = process.required(subject)
    if place.on_failure:
        draft.add(steps.ON_FAILURE, place.on_failure, phase=BEFORE)
    if not place.foreground:
        draft.add(steps.LEAVE, phase=BEFORE)
    process.initial_affinity(draft, program)
    namespaces.join(draft, subject)
    root = -1
    if "mount" not in subject.own:
        # The container shares the host's mounts, and only its root is its own: that of its first process.
        root = draft.open(f"/proc/{first[0]}/root", O_PATH | O_DIRECTORY, "/root/path")
    draft.add(steps.STILL, *first, phase=BEFORE)
    namespaces.clone(draft, 0, cgroup)
    namespaces.enter_cgroup(draft, subject, cgroup)
    process.final_affinity(draft, program)
    namespaces.enter_resctrl(draft, place.resctrl)
    process.limits_from_outside(draft, subject, program)
    process.announce(draft, place)
    namespaces.own(draft, subject, place.keyring)
    if root >= 0:
        draft.add(steps.CHROOT_INTO, root, cause="/root/path")
    process.terminal(draft, program, place)
    process.temper(draft, subject, program)
    process.privileges(draft, subject, program, place, seccomp)
    process.execute(draft, program)
    return draft.plan()
