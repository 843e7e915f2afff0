"""Hooks that run in the runtime's own namespaces after stage1 has left: poststart and poststop."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C half of signal; its enums cost 3 ms
import os

from pyrkt.base import fastjson
from pyrkt.base.errors import PyrktError
from pyrkt.kernel import pidfd
from pyrkt.stage1 import failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pyrkt.spec.runtime import Hook

_MOST_SAID = 4096


def run_all(hooks: Sequence[Hook], state: dict[str, Any], kind: str, failed: Callable[[PyrktError], None]) -> None:
    """Run ``hooks`` in order, each with the container's ``state`` as JSON on its standard input.

    ``failed`` is told of each that cannot run, fails or takes longer than its timeout; the next one runs if it returns.
    Source: runtime-spec 1.3, config, "POSIX-platform Hooks".
    """
    data = fastjson.dumps(state).encode()
    for index, hook in enumerate(hooks):
        said = os.memfd_create("said", os.MFD_CLOEXEC)
        try:
            problem = _run(hook, data, said)
            words = os.pread(said, _MOST_SAID, max(0, os.fstat(said).st_size - _MOST_SAID))
        finally:
            os.close(said)
        if problem:
            failed(PyrktError(failure.hook_words(f"/hooks/{kind}/{index}", hook.path, problem, words)))


def _run(hook: Hook, data: bytes, said: int) -> str:
    source = os.memfd_create("state", os.MFD_CLOEXEC)
    try:
        os.write(source, data)
        os.lseek(source, 0, os.SEEK_SET)
        pid = os.posix_spawn(
            hook.path,
            hook.args or (hook.path,),
            dict(variable.split("=", 1) for variable in hook.env if "=" in variable),
            file_actions=[(os.POSIX_SPAWN_DUP2, source, 0)] + [(os.POSIX_SPAWN_DUP2, said, fd) for fd in (1, 2)],
            setpgroup=0,  # a timeout ends its children too
            setsigdef=(_signal.SIGPIPE,),
        )
    except OSError as error:
        return f"it cannot run: {error.strerror}"
    finally:
        os.close(source)
    return _await(pid, hook)


def _await(pid: int, hook: Hook) -> str:
    descriptor = pidfd.open(pid)
    try:
        ended = pidfd.wait(descriptor, float(hook.timeout) if hook.timeout else None)
        if not ended:
            os.killpg(pid, _signal.SIGKILL)
        code = pidfd.exit_code(descriptor)
    finally:
        os.close(descriptor)
    return failure.how_it_ended(code if ended else failure.TIMED_OUT, hook.timeout or 0) if code else ""
