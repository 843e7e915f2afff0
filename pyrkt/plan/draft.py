"""A plan in the making: the steps so far, the slots given out, and who is being set up."""

from __future__ import annotations

from pyrkt.base.errors import InvalidSpec
from pyrkt.plan.steps import BEFORE, CHILD, Plan, Step
from pyrkt.spec import steps
from pyrkt.spec.runtime import Linux

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.kernel.host import Host
    from pyrkt.plan.steps import Argument
    from pyrkt.spec.runtime import Config

MAX_SLOTS = 128
(
    O_RDONLY,
    O_WRONLY,
    O_CREAT,
    O_APPEND,
    O_NONBLOCK,
    O_DIRECTORY,
    O_CLOEXEC,
    O_PATH,
) = (  # include/uapi/asm-generic/fcntl.h
    0,
    1,
    0o100,
    0o2000,
    0o4000,
    0o200000,
    0o2000000,
    0o10000000,
)


def refuse(where: str, problem: str, *, hint: str = "") -> InvalidSpec:
    """Return (to raise) the complaint that config.json, valid by itself, asks at ``where`` for what cannot work."""
    return InvalidSpec(problem, document="config.json", where=where, hint=hint)


def pointer(where: str) -> str:
    """Return a place such as "mounts[3].type" as the JSON pointer "/mounts/3/type"."""
    if where.startswith("/") or where == "default":
        return where
    return "/" + where.replace("[", ".").replace("]", "").replace(".", "/")


class Draft:
    """Collects steps. ``phase`` is where a step goes that does not say otherwise."""

    def __init__(self) -> None:
        self.phase = CHILD
        self.steps: list[Step] = []
        self.warnings: list[str] = []
        self._slots = 0

    def add(self, code: int, *args: Argument, cause: str = "default", phase: int | None = None) -> None:
        """Append one step."""
        self.steps.append(Step(code=code, phase=self.phase if phase is None else phase, args=args, cause=cause))

    def slot(self, cause: str) -> int:
        """Return the number of a descriptor not used so far."""
        if self._slots == MAX_SLOTS:
            raise refuse(cause, f"the plan needs more than {MAX_SLOTS} descriptors")
        self._slots += 1
        return self._slots - 1

    def free_slots(self) -> int:
        """Return how many descriptors the plan may still keep."""
        return MAX_SLOTS - self._slots

    def open(self, path: str, flags: int, cause: str) -> int:
        """Append the opening of a host file by the supervisor; return its slot."""
        slot = self.slot(cause)
        self.add(steps.OPEN, slot, path, flags | O_CLOEXEC, cause=cause, phase=BEFORE)
        return slot

    def plan(self) -> Plan:
        """Return what has been collected."""
        return Plan(steps=tuple(self.steps), warnings=tuple(self.warnings))


class Subject:
    """The container (or app) that is compiled: its config and what follows from it and the host."""

    def __init__(self, config: Config, bundle: str, host: Host) -> None:
        self.config, self.bundle, self.host = config, bundle, host
        self.linux = config.linux or Linux()
        self.new = {namespace.type for namespace in self.linux.namespaces if not namespace.path}
        self.joined = {namespace.type for namespace in self.linux.namespaces if namespace.path}
        self.own = self.new | self.joined
        # Inside a user namespace the kernel keeps back device nodes, foreign file systems, raised limits.
        self.confined = "user" in self.own or host.in_userns or host.euid != 0
        # What root of the host can reach, root of this user namespace may not.
        self.from_outside = "user" in self.own and host.administers

    def host_path(self, path: str) -> str:
        """Return ``path`` of the document as a host path: relative ones start at the bundle."""
        return path if path.startswith("/") else f"{self.bundle}/{path}"
