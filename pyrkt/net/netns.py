"""The network namespaces of pods: each mounted on a file of its own below /run, so that it lives without a process."""

from __future__ import annotations

import os
from errno import EINVAL

from pyrkt.base.errors import KernelError
from pyrkt.kernel import mount, network

DIRECTORY = "/run/pyrkt/netns"


def path(uuid: str) -> str:
    """Return where the network namespace of pod ``uuid`` is mounted."""
    return f"{DIRECTORY}/{uuid}"


def make(uuid: str) -> str:
    """Make the namespace of a pod, lo up, and return its path. What is left of an earlier one goes.

    Raises: OSError; then nothing is left.
    """
    place = _place(uuid)
    try:
        network.create(place)
    except BaseException:
        remove(uuid)
        raise
    return place


def hold(uuid: str, pid: int) -> str:
    """Mount the namespace that process ``pid`` has as that of pod ``uuid``, and return its path. Raises: OSError."""
    place = _place(uuid)
    try:
        network.hold(pid, place)
    except BaseException:
        remove(uuid)
        raise
    return place


def _place(uuid: str) -> str:
    remove(uuid)
    os.makedirs(DIRECTORY, 0o755, exist_ok=True)
    place = path(uuid)
    os.close(os.open(place, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    return place


def remove(uuid: str) -> bool:
    """Take the namespace of pod ``uuid`` away; False if there was none. It ends with its last process."""
    place = path(uuid)
    if not os.path.lexists(place):
        return False
    while True:
        try:
            mount.detach(place)
        except KernelError as error:
            if error.errno != EINVAL:  # no mount, or no more of them
                raise
            break
    try:
        os.unlink(place)
    except FileNotFoundError:
        return False
    return True


def exists(uuid: str) -> bool:
    """Tell whether the pod has a namespace: after a reboot the file may be there, but not what was mounted on it."""
    try:
        return os.stat(path(uuid)).st_dev != os.stat(DIRECTORY).st_dev
    except OSError:
        return False
