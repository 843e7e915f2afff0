"""Stop every process of a container at once, and let them go on: the v1 freezer, or cgroup.freeze of version 2.

Source: Linux admin-guide/cgroup-v1/freezer-subsystem.rst; cgroup-v2.rst, "cgroup.freeze".
"""

from __future__ import annotations

import os
import time

from pyrkt.base.errors import Busy, NoPermission

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_LIMIT_S = 2.0
_PAUSE_S = 0.001


def _write(path: str, value: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value)
    finally:
        os.close(descriptor)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def _controls(directories: Iterable[str]) -> tuple[str, bool]:
    """Return the cgroup that can freeze, and whether it is a v1 freezer, which freezes the whole container at once."""
    unified = ""
    for directory in directories:
        if os.path.exists(f"{directory}/freezer.state"):
            return directory, True
        if os.path.exists(f"{directory}/cgroup.freeze"):
            unified = directory
    return unified, False


def is_frozen(directories: Iterable[str]) -> bool:
    """Tell whether the container whose cgroups are ``directories`` is frozen (or on its way to be)."""
    directory, v1 = _controls(directories)
    if not directory:
        return False
    if v1:
        return _read(f"{directory}/freezer.state").strip() in (b"FROZEN", b"FREEZING")
    return _read(f"{directory}/cgroup.freeze").strip() == b"1"


def freeze(directories: Iterable[str]) -> None:
    """Freeze every process of the container and return when all stand still.

    Raises: NoPermission without a freezer; Busy, with everything thawed again, if they do not within 2 s.
    """
    directory, v1 = _controls(directories)
    if not directory:
        raise NoPermission("the container has no cgroup that can freeze", hint="pause needs a freezer or cgroup v2")
    deadline = time.monotonic() + _LIMIT_S
    while not _stands_still(directory, v1=v1):
        if time.monotonic() > deadline:
            _thaw(directory, v1=v1)
            raise Busy("the container's processes did not stand still within 2 s")
        time.sleep(_PAUSE_S)


def _stands_still(directory: str, *, v1: bool) -> bool:
    """Ask once more for standstill (v1 may stay FREEZING while new tasks come) and tell whether it is reached."""
    if v1:
        _write(f"{directory}/freezer.state", b"FROZEN")
        return _read(f"{directory}/freezer.state").strip() == b"FROZEN"
    _write(f"{directory}/cgroup.freeze", b"1")
    return b"frozen 1" in _read(f"{directory}/cgroup.events")


def _thaw(directory: str, *, v1: bool) -> None:
    if v1:
        _write(f"{directory}/freezer.state", b"THAWED")
    else:
        _write(f"{directory}/cgroup.freeze", b"0")


def thaw(directories: Iterable[str]) -> None:
    """Let the container's processes go on; nothing where it was not frozen or its cgroups are gone."""
    directory, v1 = _controls(directories)
    if directory:
        _thaw(directory, v1=v1)
