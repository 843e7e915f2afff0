"""The systemd driver as the verbs use it: what unit a container gets, its start, its change, its end.

A scope lives as long as a process is in it, and is started with one. The container's first process cannot be that one:
stage1, which makes it, knows no D-Bus, and it is to be born in its cgroup, with its limits around it. So a process of
ours holds the scope until then (``launch.hold``); the plan's LET_GO ends it before the container goes on.
"""

from __future__ import annotations

import os

from pyrkt.base.errors import PyrktError, Unavailable
from pyrkt.base.record import Record
from pyrkt.cgroup import devices, systemd, unit
from pyrkt.cgroup import host as cgroup_host
from pyrkt.cgroup import plan as cgroup_plan
from pyrkt.cgroup.host import read_text
from pyrkt.cgroup.systemd import Property, Unit
from pyrkt.stage1 import launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyrkt.cgroup.dbus import Bus
    from pyrkt.kernel.host import Host
    from pyrkt.runtime.report import Log
    from pyrkt.spec.layout import CgroupLayout
    from pyrkt.spec.runtime import Config

_INIT = "/init.scope"


class Scope(Record):
    """What to ask systemd for: ``properties`` beside those that every container's unit has."""

    unit: Unit
    bus: str
    properties: tuple[Property, ...]
    v1: bool


def decide(config: Config, name: str, host: Host, *, rootless: bool) -> tuple[CgroupLayout, Scope]:
    """Return the container's cgroups and the unit that they belong to. Changes nothing.

    Raises: InvalidSpec, NoPermission as ``cgroup.plan.layout``; Unavailable without a systemd to ask.
    """
    unit.check_running()
    # Root in a user namespace may have a systemd of its own there, or be an ordinary user who runs an engine.
    bus = unit.USER if rootless and (host.euid or unit.session_bus()) else unit.SYSTEM
    resources, wanted = (config.linux.resources, config.linux.cgroups_path) if config.linux else (None, "")
    given = systemd.unit_of(wanted, name, user=bus == unit.USER)
    group = _group(bus)
    path = f"{group}{given.path}"
    mounts = cgroup_host.probe(path, host.cgroup_mounts, rootless=rootless)
    top = mounts.unified.mount + group if mounts.unified else ""
    if rootless and top:
        controllers = tuple(read_text(f"{top}/cgroup.controllers").split())
        mounts = mounts.replace(controllers=controllers, delegated=True, hands_on="")
    layout = cgroup_plan.layout(resources, path, mounts, rootless=rootless)
    properties = systemd.annotated(config.annotations) + systemd.limits(layout.write, layout.clone_into)
    v1 = bool(layout.path("devices"))
    if not rootless:
        groups = systemd.device_groups(read_text("/proc/devices"))
        rules = devices.rules(resources.devices if resources else ())
        properties += systemd.device_policy(rules, groups, os.path.exists, v1=v1)
    placed = systemd.placed(layout, given, bus, top)
    return placed, Scope(unit=given, bus=bus, properties=tuple(properties), v1=v1)


def _group(bus: str) -> str:
    """Return the cgroup that the manager's units are in; of the system's manager, that of process 1."""
    if bus == unit.SYSTEM:
        paths = [line.split(":", 2) for line in read_text("/proc/1/cgroup").splitlines()]
        own = next((path for _, name, path in paths if name in ("", "name=systemd")), "")
        return own.removesuffix(_INIT).rstrip("/")
    bus_to = unit.connect(bus)
    try:
        return unit.control_group(bus_to)
    finally:
        bus_to.close()


def start(scope: Scope, name: str) -> int:
    """Start the unit; return the pidfd of the process that holds it, -1 if none has to.

    Raises: Busy, Unavailable, PyrktError; then nothing is held.
    """
    to = unit.connect(scope.bus)
    try:
        if scope.bus == unit.USER:
            _leave_session(to)
        if scope.unit.is_slice:
            unit.start(to, scope.unit.name, [*systemd.basic(scope.unit, name, 0, v1=scope.v1), *scope.properties])
            return -1
        pid, descriptor = launch.hold()
        try:
            unit.start(to, scope.unit.name, [*systemd.basic(scope.unit, name, pid, v1=scope.v1), *scope.properties])
        except BaseException:
            launch.release(descriptor)
            raise
        return descriptor
    finally:
        to.close()


def enter(layout: CgroupLayout) -> None:
    """Make ready to put a process into the container's cgroup: as an ordinary user, from within the user's manager."""
    if layout.driver != "systemd" or layout.bus != unit.USER:
        return
    to = unit.connect(layout.bus)
    try:
        _leave_session(to)
    finally:
        to.close()


def _leave_session(to: Bus) -> None:
    """Move this process into a scope of the user's manager, unless it is below that already.

    A login session is root's, and out of it no ordinary user may move a process, nor clone one into another cgroup.
    """
    group = unit.control_group(to)
    own = next((line[3:] for line in read_text("/proc/self/cgroup").splitlines() if line.startswith("0::")), "")
    if own == group or own.startswith(f"{group}/"):
        return
    itself = Unit(name=f"pyrkt-{os.getpid()}.scope", slice="user.slice", path="")
    unit.start(to, itself.name, systemd.basic(itself, "supervisor", os.getpid(), v1=False))


def change(layout: CgroupLayout, writes: Iterable[tuple[str, str, str]]) -> None:
    """Tell systemd of limits that are about to be written, so that it does not write the old ones again.

    Raises: PyrktError, Unavailable.
    """
    properties = systemd.limits(writes, layout.clone_into)
    if not properties:
        return
    to = unit.connect(layout.bus)
    try:
        unit.change(to, layout.unit, properties)
    finally:
        to.close()


def end(layout: CgroupLayout, log: Log) -> None:
    """End the container's unit; nothing to do where it has none. A systemd that does not answer is a warning."""
    if layout.driver != "systemd":
        return
    try:
        to = unit.connect(layout.bus)
        try:
            unit.stop(to, layout.unit)
        finally:
            to.close()
    except (Unavailable, PyrktError) as error:
        log.warning(f"unit {layout.unit}: {error.message}")
