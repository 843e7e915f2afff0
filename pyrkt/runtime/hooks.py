"""Hooks that run in the runtime's own namespaces after stage1 has left: poststart and poststop."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C half of signal; its enums cost 3 ms
import os

from pyrkt.base import fastjson
from pyrkt.base.errors import PyrktError
from pyrkt.kernel import pidfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pyrkt.spec.runtime import Hook


def run_all(hooks: Sequence[Hook], state: dict[str, Any], kind: str, failed: Callable[[PyrktError], None]) -> None:
    """Run ``hooks`` in order, each with the container's ``state`` as JSON on its standard input.

    ``failed`` is told of each that cannot run, fails or takes longer than its timeout; the next one runs if it returns.
    Source: runtime-spec 1.3, config, "POSIX-platform Hooks".
    """
    data = fastjson.dumps(state).encode()
    for index, hook in enumerate(hooks):
        try:
            _run(hook, data, f"error running {kind} hook #{index}")
        except PyrktError as error:
            failed(error)


def _run(hook: Hook, data: bytes, where: str) -> None:
    source = os.memfd_create("state", os.MFD_CLOEXEC)
    try:
        os.write(source, data)
        os.lseek(source, 0, os.SEEK_SET)
        pid = os.posix_spawn(
            hook.path,
            hook.args or (hook.path,),
            dict(variable.split("=", 1) for variable in hook.env),
            file_actions=[(os.POSIX_SPAWN_DUP2, source, 0)],
            setpgroup=0,  # a timeout ends its children too
            setsigdef=(_signal.SIGPIPE,),
        )
    except OSError as error:
        raise PyrktError(f"{where}: cannot run {hook.path}: {error.strerror}") from None
    finally:
        os.close(source)
    _await(pid, hook, where)


def _await(pid: int, hook: Hook, where: str) -> None:
    descriptor = pidfd.open(pid)
    try:
        ended = pidfd.wait(descriptor, float(hook.timeout) if hook.timeout else None)
        if not ended:
            os.killpg(pid, _signal.SIGKILL)
        code = pidfd.exit_code(descriptor)
    finally:
        os.close(descriptor)
    if not ended:
        raise PyrktError(f"{where}: {hook.path} took longer than {hook.timeout} s")
    if code:
        raise PyrktError(f"{where}: {hook.path} failed with exit code {code}")
