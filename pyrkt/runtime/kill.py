"""``kill``: a signal for the container's first process, or for all of them."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C half of signal; its enums cost 3 ms
import os

from pyrkt.base.errors import KernelError, NotFound, UsageError
from pyrkt.kernel import pidfd
from pyrkt.runtime import container as containers
from pyrkt.runtime.options import SWITCH, Verb, flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.runtime.container import Container
    from pyrkt.runtime.main import Settings

VERB = Verb(
    name="kill",
    summary="send a signal (default: SIGTERM) to a container's first process",
    arguments="<container-id> [signal]",
    least=1,
    most=2,
    flags=(flag("all a", SWITCH, "send the signal to all processes inside the container"),),
)


def signal_number(text: str) -> int:
    """Return the number of a signal given as "15", "TERM", "sigterm", "RTMIN+2" or "SIGRTMAX".

    Raises: UsageError in runc's words.
    """
    if text.isascii() and text.isdigit() and len(text) < 4:
        return int(text)
    name = text.upper().removeprefix("SIG")
    base, plus, offset = name.partition("+")
    number = getattr(_signal, f"SIG{base}", None) if base.isalnum() else None
    if not isinstance(number, int) or (plus and not (base == "RTMIN" and offset.isascii() and offset.isdigit())):
        raise UsageError(f'unknown signal "{text}"', hint="signal(7) lists the names")
    return number + int(offset or 0)


def _signal_all(container: Container, number: int) -> None:
    from pyrkt.cgroup import kill  # noqa: PLC0415 - engines use --all only without a pid namespace

    if not container.cgroups:
        from pyrkt.runtime import members  # noqa: PLC0415 - an ordinary user's containers, mostly

        for pid in members.pids(container):
            kill.signal_one(pid, number)
        return
    kill.signal_all(container.cgroups, number, container.cgroup.kill)


def _end_all(container: Container) -> None:
    """Kill every process, whether the first one lives or not: it is no PID 1 whose end is the end of all."""
    from pyrkt.cgroup import kill  # noqa: PLC0415 - as above

    lives = containers.living_pid(container.directory)
    if not kill.signal_all(container.cgroups, _signal.SIGKILL, container.cgroup.kill) and not lives:
        raise NotFound("container not running")


def main(settings: Settings, values: dict[str, Any], arguments: list[str]) -> int:
    """Send it."""
    container = containers.load(settings.root, arguments[0])
    number = signal_number(arguments[1] if len(arguments) > 1 else "SIGTERM")
    if values["all"]:
        _signal_all(container, number)
        return 0
    if number == _signal.SIGKILL and not container.own_pids and container.cgroups:
        _end_all(container)
        return 0
    descriptor = containers.open_process(container)
    try:
        if not pidfd.send_signal(descriptor, number):
            raise NotFound("container not running")
    except OSError as error:
        raise KernelError("kill", error.errno or 0, f"container {container.id}, signal {number}") from None
    finally:
        os.close(descriptor)
    if number == _signal.SIGKILL:
        from pyrkt.cgroup import freeze  # noqa: PLC0415 - only who kills pays

        freeze.thaw(container.freezer)  # a v1 freezer keeps even SIGKILL waiting
    return 0
