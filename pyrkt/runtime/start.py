"""``start``: let a created container run its program."""

from __future__ import annotations

import os
import select
import time

from pyrkt.base.errors import Busy, InvalidSpec, PyrktError
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
        if not container.startable:
            raise InvalidSpec("process property must not be empty", document="config.json", where="process")
        hooks = "poststart" in container.hooks
        _release(container, until_it_runs=hooks)
        if hooks:
            poststart(settings, container, current.pid)
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


def poststart(settings: Settings, container: Container, pid: int) -> None:
    """Run the poststart hooks; a failing one ends the container, or is warned of, as its ociVersion has it."""
    from pyrkt.plan.hooks import ends_at_poststart  # noqa: PLC0415 - containers with hooks are rare
    from pyrkt.runtime import lifecycle  # noqa: PLC0415 - the same

    def failed(error: PyrktError) -> None:
        if ends_at_poststart(container.oci_version):
            raise error
        settings.log.warning(error.message)

    try:
        lifecycle.run_hooks(container, "poststart", Status(name=RUNNING, pid=pid), failed)
    except PyrktError:
        lifecycle.take_away(container, settings.log)
        raise
