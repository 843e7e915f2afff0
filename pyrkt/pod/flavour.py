"""The stage1 flavour of a pod, as a value: what every launch and every look at a pod needs to know of it."""

from __future__ import annotations

from pyrkt.base.errors import InvalidSpec
from pyrkt.base.record import Record

FLAVOUR = "flavour"
"""The file of a pod with its flavour, and the absolute path of the runtime if it has one."""
FOREIGN = ("crun", "runc", "runsc")
"""The flavours that are OCI runtimes of the host."""


class Flavour(Record):
    """How a pod's apps are made: ``name`` is one of flavours.NAMES, ``program`` an OCI runtime's path, or ""."""

    name: str = "native"
    program: str = ""

    @property
    def is_foreign(self) -> bool:
        """Whether another runtime makes the apps."""
        return bool(self.program)

    def text(self) -> str:
        """Return the content of the file FLAVOUR."""
        return f"{self.name} {self.program}".rstrip() + "\n"


def read_flavour(path: str) -> Flavour:
    """Return the flavour of the pod in ``path``; one of an older pyrkt is native. Raises: InvalidSpec, OSError."""
    try:
        with open(f"{path}/{FLAVOUR}", "rb", buffering=0) as file:
            text = file.read().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return Flavour()
    name, _, program = text.strip().partition(" ")
    if name not in ("native", "fly", *FOREIGN) or bool(program) != (name in FOREIGN):
        raise InvalidSpec("is damaged", document=f"{path}/{FLAVOUR}", hint="pyrkt rm the pod, then make it anew")
    return Flavour(name=name, program=program)
