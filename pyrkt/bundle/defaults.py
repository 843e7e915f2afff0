"""What a container gets where neither image nor user says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyrkt.kernel import process
from pyrkt.spec import capabilities
from pyrkt.spec.runtime import DeviceRule, Mount

if TYPE_CHECKING:
    from collections.abc import Iterable

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Source: appc 0.8, executor, "Execution Environment"; Docker's is the same."""

CONTAINER = "pyrkt"
"""The value of $container: which executor runs the app (systemd's convention, required by appc)."""
OWN_VARIABLES = ("AC_APP_NAME", "AC_METADATA_URL", "container")
"""Variables that tell an app of a pod where it is; nobody may tell it otherwise. Source: as PATH."""


NOTIFY = "appc.io/executor/supports-systemd-notify"
"""The annotation "true" of an app that tells by sd_notify(3) when it is ready. Source: appc 0.8, image manifest."""


def own_variables(app: str, metadata_url: str) -> dict[str, str]:
    """Return these variables for ``app``; without a ``metadata_url`` there is no such variable."""
    values = (app, metadata_url, CONTAINER)
    return {name: value for name, value in zip(OWN_VARIABLES, values, strict=True) if value}


# appc 0.8, os/linux/capabilities: the default bounding set. Docker came to the same fourteen.
CAPABILITIES = (
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)

NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")

# What tells of the host (kernel memory, keys, timers, power) or reaches its firmware.
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/config.gz",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kmem",
    "/proc/latency_stats",
    "/proc/mem",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
    "/sys/hypervisor",
    "/sys/module",
    "/sys/power",
)
# What changes the host when written to.
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_DEVICES = (  # those that every container has (runtime-spec 1.3, "Default Devices")
    (1, 3),  # null
    (1, 5),  # zero
    (1, 7),  # full
    (1, 8),  # random
    (1, 9),  # urandom
    (5, 0),  # tty
)


def device_rules() -> tuple[DeviceRule, ...]:
    """Return the device controller's rules: nothing but the default devices and terminals.

    /dev/ptmx may be opened but not made again: another one would reach the host's terminals.
    """
    return (
        DeviceRule(allow=False, access="rwm"),
        *(DeviceRule(allow=True, type="c", major=major, minor=minor, access="rwm") for major, minor in _DEVICES),
        DeviceRule(allow=True, type="c", major=5, minor=1, access="rw"),  # console
        DeviceRule(allow=True, type="c", major=5, minor=2, access="rw"),  # ptmx
        DeviceRule(allow=True, type="c", major=136, access="rw"),  # pts/*
    )


_PLAIN = ("nosuid", "noexec", "nodev")


NO_CONSOLE = Mount(destination="/dev/console", type="bind", source="/dev/null", options=("bind",))
"""appc wants a /dev/console in every app (OS-SPEC, Linux); where there is no terminal, one that nobody reads."""


def mounts(*, host_network: bool = False, userns: bool = False, tty_group: bool = True) -> tuple[Mount, ...]:
    """Return the file systems of every container, parents first.

    A new sysfs belongs to a network namespace, so that a user namespace in the host's network may not mount one
    and sees the host's, read-only. ``tty_group``: whether group 5, tty, exists in the user namespace.
    """
    pts = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620")
    if host_network and userns:
        system = Mount(destination="/sys", type="none", source="/sys", options=("rbind", *_PLAIN, "ro"))
    else:
        system = Mount(destination="/sys", type="sysfs", source="sysfs", options=(*_PLAIN, "ro"))
    return (
        Mount(destination="/proc", type="proc", source="proc", options=_PLAIN),
        Mount(
            destination="/dev",
            type="tmpfs",
            source="tmpfs",
            options=("nosuid", "noexec", "strictatime", "mode=755", "size=65536k"),
        ),
        Mount(
            destination="/dev/pts",
            type="devpts",
            source="devpts",
            options=(*pts, "gid=5") if tty_group else pts,
        ),
        Mount(
            destination="/dev/shm",  # its path in the container
            type="tmpfs",
            source="shm",
            options=(*_PLAIN, "mode=1777", "size=65536k"),
        ),
        Mount(destination="/dev/mqueue", type="mqueue", source="mqueue", options=_PLAIN),
        system,
        Mount(
            destination="/sys/fs/cgroup",
            type="cgroup",
            source="cgroup",
            options=(*_PLAIN, "relatime", "ro"),
        ),
    )


def all_capabilities() -> tuple[str, ...]:
    """Return every capability that this process could pass on: those of its bounding set that have a name."""
    return capabilities.names(process.capabilities()["bounding"])


def reduce_capabilities(
    *, retain: Iterable[str] | None, remove: Iterable[str] | None, base: tuple[str, ...] = CAPABILITIES
) -> tuple[str, ...]:
    """Return the capabilities that stay, sorted: ``retain`` itself, or ``base`` without ``remove``."""
    if retain is not None:
        return tuple(sorted(set(retain)))
    return tuple(sorted(set(base) - set(remove or ())))
