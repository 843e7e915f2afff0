"""What several verbs do to a container: lock it, end its processes, run its hooks, take it away."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C half of signal; its enums cost 3 ms
import os
import time

from pyrkt.base import fastjson
from pyrkt.base.errors import Busy
from pyrkt.kernel import lock, pidfd
from pyrkt.runtime import container as containers
from pyrkt.runtime.container import STOPPED, Container, Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrkt.base.errors import PyrktError
    from pyrkt.runtime.report import Log
    from pyrkt.spec.runtime import Config

_LOCK_S = 10.0
_END_S = 10.0
_PAUSE_S = 0.005


def locked(directory: str) -> int:
    """Lock the container's directory and return the descriptor that holds it.

    Raises: Busy if another command works on the container for longer than 10 s; FileNotFoundError.
    """
    deadline = time.monotonic() + _LOCK_S
    while True:
        try:
            return lock.acquire(directory, exclusive=True, wait=False, directory=True)
        except Busy:
            if time.monotonic() > deadline:
                raise Busy("another command works on the container", hint="try again when it has ended") from None
        time.sleep(_PAUSE_S)


def config_of(container: Container) -> Config:
    """Return the configuration that the container was created with."""
    from pyrkt.spec.runtime import parse_config  # noqa: PLC0415 - sixty records that most verbs never need

    return parse_config(containers.read_file(container.path("config.json"), fastjson.MAX_SIZE))


def run_hooks(container: Container, kind: str, current: Status, failed: Callable[[PyrktError], None]) -> None:
    """Run the container's hooks of ``kind`` ("poststart", "poststop") in the runtime's namespaces, in order.

    ``failed`` is told of each that fails; the next one runs if it returns.
    """
    if kind not in container.hooks:
        return
    from pyrkt.runtime import hooks  # noqa: PLC0415 - containers with hooks are rare

    configured = config_of(container).hooks
    if configured is not None:
        hooks.run_all(getattr(configured, kind), containers.state_document(container, current), kind, failed)


def end(container: Container) -> None:
    """Kill every process of the container and return when none is left. Raises: Busy if one survives 10 s."""
    from pyrkt.cgroup import freeze, kill  # noqa: PLC0415 - only who ends something pays

    pid = containers.living_pid(container.directory)
    if pid:
        descriptor = containers.open_process(container)
        try:
            pidfd.send_signal(descriptor, _signal.SIGKILL)
            freeze.thaw(container.freezer)  # a v1 freezer keeps even SIGKILL waiting
            _await_end(container, descriptor)
        finally:
            os.close(descriptor)
    if container.cgroups:
        kill.kill_all(container.cgroups, container.cgroup.kill)


def _await_end(container: Container, descriptor: int) -> None:
    if not pidfd.wait(descriptor, _END_S):
        raise Busy(f"the container's process {containers.recorded_pid(container.directory)[0]} does not end")


def _detach_root(container: Container) -> None:
    """Take the mount away that the container added on its root in the host's mount namespace, and all below it.

    Only as long as there is one more than there was before: an engine's own is never touched.
    """
    from pyrkt.kernel import host, mount  # noqa: PLC0415 - hardly any container has its mounts there

    root = os.path.realpath(container.rootfs)
    while host.mounts_on(root) > container.mounts_before:
        mount.detach(root)


def take_away(container: Container, log: Log) -> None:
    """Remove everything the container holds: processes, cgroups, its directory; run its poststop hooks.

    Can be killed and run again at any moment. A hook that fails is warned of: the specification wants the rest done,
    the other hooks too.
    """
    from pyrkt.cgroup import remove  # noqa: PLC0415 - only who removes pays

    end(container)
    if container.cgroup.unit:
        from pyrkt.runtime import scope  # noqa: PLC0415 - only for what systemd made

        scope.end(container.cgroup, log)
    if container.mounts_before >= 0:
        _detach_root(container)
    remove.remove(container.cgroups, container.cgroup.kill)
    if container.resctrl.remove:
        remove.remove(container.resctrl.remove)
    run_hooks(container, "poststop", Status(name=STOPPED), lambda error: log.warning(error.message))
    containers.forget(container.directory)
