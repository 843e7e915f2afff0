"""Transient units of systemd: to start one, to change its properties, to end it. Over D-Bus, org.freedesktop.systemd1.

Root talks to systemd directly where it can, as systemctl does: that needs no message bus and takes a third of the time.
Source: org.freedesktop.systemd1(5), systemd.resource-control(5).
"""

from __future__ import annotations

import os
from stat import S_ISDIR

from pyrkt.base.errors import Busy, PyrktError, Unavailable
from pyrkt.cgroup.dbus import Bus, CallFailed, socket_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from pyrkt.cgroup.systemd import Property

SYSTEM, USER = "system", "user"
_NAME = "org.freedesktop.systemd1"
_MANAGER = f"{_NAME}.Manager"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_DBUS = {"destination": "org.freedesktop.DBus", "path": "/org/freedesktop/DBus", "interface": "org.freedesktop.DBus"}
_MATCH = f"type='signal',sender='{_NAME}',interface='{_MANAGER}',member='JobRemoved'"
_DIRECT = "/run/systemd/private"
_SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"
_MANAGED = "/run/systemd/system"
_USER_HINT = "an ordinary user needs a user manager: install dbus-user-session, log in, or loginctl enable-linger"


def check_running() -> None:
    """Refuse a host that systemd did not boot, in runc's words. Source: sd_booted(3)."""
    try:
        if S_ISDIR(os.lstat(_MANAGED).st_mode):
            return
    except OSError:
        pass
    raise Unavailable(
        "systemd not running on this host, cannot use systemd cgroups manager",
        hint="leave --systemd-cgroup out: cgroups are made directly",
    )


def session_bus() -> str:
    """Return the address of the caller's session bus; "" if there is none."""
    if address := os.environ.get("DBUS_SESSION_BUS_ADDRESS"):
        return address
    directory = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    return f"unix:path={directory}/bus" if os.path.exists(f"{directory}/bus") else ""


def connect(which: str) -> Bus:
    """Return a connection to the manager ``which``, SYSTEM or USER. Raises: Unavailable."""
    if which == USER:
        path = socket_of(session_bus())
        if not path:
            raise Unavailable("failed to connect to dbus: there is no session bus", hint=_USER_HINT)
        return _through_bus(path, _USER_HINT)
    try:
        return Bus(_DIRECT)
    except Unavailable:
        pass  # not ours to talk to, or of a systemd that has none; the bus is there for everybody
    return _through_bus(socket_of(os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or _SYSTEM_BUS))


def _through_bus(path: str, hint: str = "") -> Bus:
    try:
        return Bus(path, _NAME)
    except Unavailable as error:
        raise Unavailable(f"failed to connect to dbus: {error.message}", hint=hint or error.hint) from None


def _subscribe(bus: Bus) -> None:
    """Ask for JobRemoved, once; a direct connection gets it anyway."""
    if bus.destination and not bus.subscribed:
        bus.call("AddMatch", "s", _MATCH, **_DBUS)
        bus.call("Subscribe", interface=_MANAGER)
        bus.subscribed = True


def _await_job(bus: Bus, job: str) -> str:
    while True:
        message = bus.signal()
        if message.member == "JobRemoved" and len(message.body) == 4 and message.body[1] == job:
            return str(message.body[3])


def manager_property(bus: Bus, name: str) -> Any:
    """Return a property of the manager, such as "Version" or "ControlGroup". Raises: CallFailed, Unavailable."""
    return bus.call("Get", "ss", _MANAGER, name, interface=_PROPERTIES)[0]


def version(bus: Bus) -> int:
    """Return systemd's version, 252; 0 if it does not say. Its text is "252.39-1~deb12u1", "v245.4" or alike."""
    text = str(manager_property(bus, "Version")).removeprefix("v")
    digits = text[: len(text) - len(text.lstrip("0123456789"))]
    return int(digits or 0)


def control_group(bus: Bus) -> str:
    """Return the cgroup of the manager, below which it makes all others: "" for the system's, as a rule."""
    return str(manager_property(bus, "ControlGroup")).rstrip("/")


def known(bus: Bus, properties: Iterable[Property]) -> list[tuple[str, tuple[str, Any]]]:
    """Return ``properties`` as the calls take them, without those that this systemd is too old for."""
    wanted = list(properties)
    newest = max((p.since for p in wanted), default=0)
    current = version(bus) if newest else 0
    return [(p.name, (p.signature, p.value)) for p in wanted if p.since <= current]


def start(bus: Bus, unit: str, properties: Sequence[Property]) -> None:
    """Start a transient unit and return when it is there.

    One of that name that has ended, or is about to, is no obstacle.
    Raises: Busy if a living one has the name; PyrktError with systemd's reason; Unavailable.
    """
    _subscribe(bus)
    values = known(bus, properties)
    try:
        job = _start(bus, unit, values)
    except CallFailed as error:
        if not error.name.endswith(".UnitExists"):
            raise _said(f"unable to start unit {unit!r}", error) from None
        if not _is_over(bus, unit):
            raise Busy(f"unit {unit} already exists", hint=f"systemctl status {unit}") from None
        _end(bus, unit)
        try:
            job = _start(bus, unit, values)
        except CallFailed as again:
            raise _said(f"unable to start unit {unit!r}", again) from None
    result = _await_job(bus, job)
    if result != "done":
        _reset(bus, unit)
        raise PyrktError(f"error creating systemd unit `{unit}`: got `{result}`", hint=f"see journalctl -u {unit}")


def _start(bus: Bus, unit: str, values: Sequence[tuple[str, tuple[str, Any]]]) -> str:
    return str(bus.call("StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "replace", values, [], interface=_MANAGER)[0])


def _said(what: str, error: CallFailed) -> PyrktError:
    return PyrktError(f"{what}: {error.message}", hint=f"systemd's answer: {error.name}")


def _is_over(bus: Bus, unit: str) -> bool:
    """Tell whether ``unit`` is loaded but has no processes: it has failed, or its end is not noticed yet."""
    try:
        (path,) = bus.call("GetUnit", "s", unit, interface=_MANAGER)
        state = bus.call("Get", "ss", f"{_NAME}.Unit", "ActiveState", path=path, interface=_PROPERTIES)[0]
        if state in {"failed", "inactive", "deactivating"}:
            return True
        (processes,) = bus.call("GetUnitProcesses", "s", unit, interface=_MANAGER)
    except CallFailed:
        return True  # gone by now
    return not processes


def _end(bus: Bus, unit: str) -> None:
    try:
        (job,) = bus.call("StopUnit", "ss", unit, "replace", interface=_MANAGER)
    except CallFailed as error:
        if not error.name.endswith((".NoSuchUnit", ".LoadFailed")):
            raise _said(f"unable to stop unit {unit!r}", error) from None
    else:
        _await_job(bus, str(job))
    _reset(bus, unit)


def _reset(bus: Bus, unit: str) -> None:
    """Let systemd forget that a unit failed; one that did not, or is gone, is fine."""
    try:
        bus.call("ResetFailedUnit", "s", unit, interface=_MANAGER)
    except CallFailed:
        pass


def stop(bus: Bus, unit: str) -> None:
    """End a unit and what is in it, and let systemd forget it; one that is gone is fine. Raises: Unavailable."""
    _subscribe(bus)
    _end(bus, unit)


def change(bus: Bus, unit: str, properties: Sequence[Property]) -> None:
    """Change properties of a running unit, for as long as it runs. Raises: PyrktError with systemd's reason."""
    values = known(bus, properties)
    if not values:
        return
    try:
        bus.call("SetUnitProperties", "sba(sv)", unit, True, values, interface=_MANAGER)  # noqa: FBT003 - runtime
    except CallFailed as error:
        raise _said(f"unable to set unit properties of {unit!r}", error) from None
