"""A config.json to start from: a shell in a container that may do little, as ``pyrkt-oci spec`` writes it."""

from __future__ import annotations

from pyrkt.spec.runtime import (
    SPEC_VERSION,
    Capabilities,
    Config,
    DeviceRule,
    IdMapping,
    Linux,
    Mount,
    Namespace,
    Process,
    Resources,
    Rlimit,
    Root,
)

TYPE_CHECKING = False

_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
_NODEV = ("nosuid", "noexec", "nodev")
MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def example_config(*, args: tuple[str, ...] = ("sh",), terminal: bool = True) -> Config:
    """Return the example for a caller who is root: every namespace but the user's is the container's own."""
    sets = Capabilities(bounding=_CAPABILITIES, effective=_CAPABILITIES, permitted=_CAPABILITIES)
    return Config(
        oci_version=SPEC_VERSION,
        root=Root(path="rootfs", readonly=True),
        process=Process(
            terminal=terminal,
            args=args,
            env=("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"),
            cwd="/",
            capabilities=sets,
            rlimits=(Rlimit(type="RLIMIT_NOFILE", soft=1024, hard=1024),),
            no_new_privileges=True,
        ),
        hostname="pyrkt",
        mounts=(
            Mount(destination="/proc", type="proc", source="proc"),
            Mount(
                destination="/dev",
                type="tmpfs",
                source="tmpfs",
                options=("nosuid", "strictatime", "mode=755", "size=65536k"),
            ),
            Mount(
                destination="/dev/pts",
                type="devpts",
                source="devpts",
                options=("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
            ),
            Mount(
                destination="/dev/shm",
                type="tmpfs",
                source="shm",
                options=(*_NODEV, "mode=1777", "size=65536k"),
            ),
            Mount(destination="/dev/mqueue", type="mqueue", source="mqueue", options=_NODEV),
            Mount(destination="/sys", type="sysfs", source="sysfs", options=(*_NODEV, "ro")),
            Mount(
                destination="/sys/fs/cgroup",
                type="cgroup",
                source="cgroup",
                options=(*_NODEV, "relatime", "ro"),
            ),
        ),
        linux=Linux(
            resources=Resources(devices=(DeviceRule(allow=False, access="rwm"),)),
            namespaces=tuple(Namespace(type=kind) for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")),
            masked_paths=MASKED,
            readonly_paths=READ_ONLY,
        ),
    )


def rootless(config: Config, uid: int, gid: int) -> Config:
    """Return ``config`` for the ordinary user ``uid``: a user namespace where that user is root, no cgroup limits.

    An ordinary user may not mount sysfs without a network namespace of the own, nor chown /dev/pts to gid 5.
    """
    linux = config.linux or Linux()
    # The cgroup mount is left out: it comes with the host's /sys, read-only.
    mounts = tuple(_for_user(mount) for mount in config.mounts if mount.type != "cgroup")
    kept = tuple(namespace for namespace in linux.namespaces if namespace.type not in {"network", "user"})
    return config.replace(
        mounts=mounts,
        linux=linux.replace(
            resources=None,
            namespaces=(*kept, Namespace(type="user")),
            uid_mappings=(IdMapping(container_id=0, host_id=uid, size=1),),
            gid_mappings=(IdMapping(container_id=0, host_id=gid, size=1),),
        ),
    )


def _for_user(mount: Mount) -> Mount:
    if mount.type == "sysfs":
        return Mount(destination="/sys", type="none", source="/sys", options=("rbind", *_NODEV, "ro", "rro"))
    return mount.replace(options=tuple(option for option in mount.options if not option.startswith("gid=")))
