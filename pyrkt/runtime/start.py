"""``start``: let a created container run its program."""

from __future__ import annotations

import os
import select
import time

from pyrkt.base.errors import Busy, PyrktError
from pyrkt.runtime import container as containers
from pyrkt.runtime.container import CREATED, RUNNING, STOPPED, Container, Status
from pyrkt.runtime.options import Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.runtime.main import Settings

VERB = Verb(name="start", summary="start the process of a created container")
_LIMIT_S = 10.0


def main(settings: Settings, _values: dict[str, Any], arguments: list[str]) -> int:
    """Open the fifo behind which the container waits."""
    container = containers.load(settings.root, arguments[0])
    descriptor = _locked(container)
    try:
        current = containers.status(container)
        if current.name != CREATED:
            if current.name == STOPPED:
                raise Busy("cannot start a container that has stopped", hint="delete it and create it again")
            raise Busy("cannot start an already running container")
        hooks = "poststart" in container.hooks
        _release(container, until_it_runs=hooks)
        if hooks:
            _poststart(settings, container, current.pid)
    finally:
        os.close(descriptor)
    return 0


def _locked(container: Container) -> int:
    from pyrkt.kernel import lock  # noqa: PLC0415 - after the container is known to exist

    return lock.acquire(container.directory, exclusive=True, directory=True)


def _release(container: Container, *, until_it_runs: bool) -> None:
    """Open the fifo, see the container pass it, and remove it: then nobody can start it again.

    Never blocks on the open (O_NONBLOCK), and watches the process meanwhile: it may have been killed.
    ``until_it_runs`` waits for the program, or the container's end: startContainer hooks take as long as they take.
    """
    process = containers.open_process(container)
    fifo = -1
    try:
        fifo = os.open(container.path("exec.fifo"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        poll = select.poll()
        poll.register(fifo, select.POLLIN)
        poll.register(process, select.POLLIN)
        _await_passage(poll, fifo)
        os.unlink(container.path("exec.fifo"))
        if until_it_runs:
            _await_program(poll, fifo, process)
    finally:
        os.close(process)
        if fifo >= 0:
            os.close(fifo)


def _await_passage(poll: select.poll, fifo: int) -> None:
    deadline = time.monotonic() + _LIMIT_S
    while True:
        events = dict(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
        if fifo in events and os.read(fifo, 1):
            return
        if not events:
            raise PyrktError("the container does not answer", hint="kill it, or delete it with --force")
        if fifo not in events:
            raise Busy("cannot start a container that has stopped", hint="delete it and create it again")


def _await_program(poll: select.poll, fifo: int, process: int) -> None:
    """Wait until the container's end of the fifo is closed: executing the program does it."""
    while process not in dict(poll.poll()) and os.read(fifo, 1):
        pass


def _poststart(settings: Settings, container: Container, pid: int) -> None:
    """Run the poststart hooks; a failing one ends the container, or is warned of, as its ociVersion has it."""
    from pyrkt.runtime import lifecycle  # noqa: PLC0415 - containers with hooks are rare

    def failed(error: PyrktError) -> None:
        if _fails(container.oci_version):
            raise error
        settings.log.warning(error.message)

    try:
        lifecycle.run_hooks(container, "poststart", Status(name=RUNNING, pid=pid), failed)
    except PyrktError:
        lifecycle.take_away(container, settings.log)
        raise


def _fails(version: str) -> bool:
    """Tell whether a failing poststart hook is an error: so says 1.3 ("Lifecycle" 9); before, it was a warning."""
    major, minor = version.split(".")[:2]
    return (int(major), int(minor)) >= (1, 3)
