"""Compiled seccomp filters, kept by their content: libseccomp takes 10 ms for a usual profile, a file 0.1 ms."""

from __future__ import annotations

import os

from pyrkt.base.atomic import write_file
from pyrkt.kernel import seccomp
from pyrkt.runtime import container as containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.spec.runtime import Config

DIRECTORY = "@seccomp"
"""Below the state root; no container can have that name."""
_MAX_FILTER = 8 * 4096
"""Bytes; BPF_MAXINSNS instructions of 8."""


def compiled(config: Config, root: str) -> bytes:
    """Return linux.seccomp as BPF instructions; nothing without one.

    The cache is private to the owner of the state root (0700, checked when the root is made); a reboot empties it.
    """
    if config.linux is None or config.linux.seccomp is None:
        return b""
    path = f"{root}/{DIRECTORY}/{seccomp.key(config.linux.seccomp)}"
    try:
        found = containers.read_file(path, _MAX_FILTER)
        if found and len(found) % 8 == 0:
            return found
    except OSError:
        pass
    program = seccomp.compile_filter(config.linux.seccomp)
    _keep(path, program, root)
    return program


def _keep(path: str, program: bytes, root: str) -> None:
    try:
        containers.make_root(root)
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        write_file(path, program, durable=False)
    except OSError:
        pass  # a full or read-only state root will be said by who needs it
