"""Files that a pod's other users have left: an ordinary user gets at them from a user namespace like the pod's."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from pyrkt.base.errors import NoPermission, PyrktError
from pyrkt.kernel import namespaces
from pyrkt.pod import ids
from pyrkt.store.remove import remove_tree

if TYPE_CHECKING:
    from pyrkt.bundle.options import IdRange
    from pyrkt.pod.ids import Mappings

_READY, _DONE = b"\n", "done"
_SYSTEM = {"PATH": ids.HELPER_PATH}


def remove(path: str) -> None:
    """Remove the tree ``path`` of a pod, whoever its files belong to. Raises: NoPermission."""
    spaces = ids.rootless() if os.geteuid() != 0 else ids.Mappings()
    if len(spaces.uids) < 2:
        raise NoPermission(f"{path}: there are files of others", hint="have root remove it")
    (ready, tell), (go, let) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ready)
        os.close(let)  # or the gate would never be seen to close
        _child(path, tell, go)
    os.close(tell)
    os.close(go)
    try:
        with open(ready, "rb") as answer, open(let, "wb", buffering=0) as gate:
            first = answer.read(1)
            if first == _READY:
                _map(child, spaces)
                gate.write(_READY)
            problem = (first + answer.read()).decode(errors="replace").strip()
    finally:
        os.waitpid(child, 0)  # a gate that closes without a word ends it
    if problem != _DONE:
        raise NoPermission(
            f"{path}: files of the pod's other users stay: {problem or 'no user namespace can be made'}",
            hint="have root remove it",
        )


def _child(path: str, tell: int, go: int) -> None:
    words = ""
    try:
        namespaces.unshare(namespaces.CLONE_NEWUSER)
        os.write(tell, _READY)
        if os.read(go, 1):
            os.setgroups([])
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            remove_tree(path)
            words = _DONE
    except (OSError, PyrktError) as error:
        words = str(error)
    finally:
        os.write(tell, words.encode())
        os._exit(0)


def _map(pid: int, spaces: Mappings) -> None:
    for helper, ranges in (("newuidmap", spaces.uids), ("newgidmap", spaces.gids)):
        done = subprocess.run(
            [helper, str(pid), *_numbers(ranges)], env=_SYSTEM, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise NoPermission(f"{helper}: {done.stderr.strip()}", hint="see subuid(5)")


def _numbers(ranges: tuple[IdRange, ...]) -> list[str]:
    return [str(number) for one in ranges for number in (one.container, one.host, one.size)]
