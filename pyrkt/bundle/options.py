"""RunOptions: everything a user may ask of one app, whatever the family of its image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pyrkt.base.errors import UsageError

if TYPE_CHECKING:
    from pyrkt.spec.appc_isolators import Isolator

Insecure = Literal["capabilities", "paths", "seccomp"]
INSECURE: tuple[Insecure, ...] = ("capabilities", "paths", "seccomp")
"""The protections of a running app that ``--insecure-options`` can switch off ("all-run": all three)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeMount:
    """A volume, and where the app sees it.

    ``name`` is what mount points of the image are satisfied by; ``target``, an absolute path in the container, is
    empty where only that name says it: then a volume that no mount point names is left out, as rkt does.
    ``kind`` "host" is the directory or file ``source`` of the host; "empty" a directory that lives as long as the
    pod, made with ``mode``, ``uid`` and ``gid``. ``readonly`` None leaves it to the mount point. ``is_file``: the
    source is no directory.
    """

    target: str = ""
    source: str = ""
    name: str = ""
    kind: Literal["host", "empty"] = "host"
    readonly: bool | None = None
    recursive: bool = True
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    is_file: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SeccompChoice:
    """``--seccomp mode=retain|remove[,errno=NAME],CALL...``: the calls that remain, or those that are taken away."""

    mode: Literal["retain", "remove"]
    syscalls: tuple[str, ...]
    errno: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdRange:
    """``size`` ids from ``host`` on appear in the user namespace from ``container`` on."""

    container: int
    host: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IoLimit:
    """Limits at one block device: bytes and operations a second, 0 for none; ``weight`` 10..1000, 0 for none."""

    major: int
    minor: int
    read_bps: int = 0
    write_bps: int = 0
    read_iops: int = 0
    write_iops: int = 0
    weight: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceNode:
    """A device of the host that the app may use: ``kind`` c or b, ``access`` of r, w and m."""

    path: str
    kind: Literal["c", "b"]
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0
    access: str = "rwm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """How names become addresses. ``resolv``: "" as the networks, a volume or the image say, "none", "host" or "given".

    ``text`` is the given resolv.conf. ``hosts``: "" as a volume or the image say, "host", or "given": what we write,
    and the ``entries`` (address, name).
    """

    resolv: str = ""
    text: str = ""
    hosts: str = ""
    entries: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What decides whether the host can enforce an isolator.

    ``apparmor``: the loaded profiles ("*": any), None without AppArmor. ``disk``: (major, minor) of the one below the
    app's files, if its controller is there, and ``disks`` how many there are. ``capabilities``: those that the caller
    can give, None for all. ``oom_floor``: the lowest score that it may set. ``shaped``: whether the pod's network
    limits bandwidth, and ``network`` why not. ``apps``: how many of them share the pod.
    """

    selinux: bool = False
    apparmor: frozenset[str] | None = None
    disk: tuple[int, int] | None = None
    disks: int = 0
    capabilities: frozenset[str] | None = None
    oom_floor: int = -1000
    shaped: bool = False
    network: str = ""
    apps: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What is asked of one app. An empty string, an empty collection or None means: as the image says.

    The environment is laid over the image's from ``inherit_env`` (below the image's own) over ``set_env`` (the pod's
    --set-env-file and --set-env) to ``env`` (the app's --environment).
    ``net``: "none", "host", or "cni", whose namespace is the file ``netns``.
    ``memory`` in bytes; ``cpu_milli`` in thousandths of a processor; ``io_weight`` 10..1000. ``pod_isolators`` are
    those of the whole pod. Without ``signs`` nobody has looked at the host: the bundle is for another one.
    """

    name: str = ""
    pod_uuid: str = ""
    metadata_url: str = ""
    exec: str = ""
    args: tuple[str, ...] | None = None
    inherit_env: Mapping[str, str] = field(default_factory=dict)
    set_env: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    group: str = ""
    supplementary_gids: tuple[int, ...] | None = None
    working_dir: str = ""
    readonly_rootfs: bool = False
    hostname: str = ""
    net: str = "none"
    netns: str = ""
    names: Names = Names()
    interactive: bool = False
    host_ipc: bool = False
    caps_retain: tuple[str, ...] | None = None
    caps_remove: tuple[str, ...] | None = None
    seccomp: SeccompChoice | None = None
    no_new_privileges: bool | None = None
    memory: int | None = None
    cpu_milli: int | None = None
    cpu_shares: int | None = None
    pids: int | None = None
    io_weight: int | None = None
    io: tuple[IoLimit, ...] = ()
    devices: tuple[DeviceNode, ...] = ()
    oom_score_adj: int | None = None
    mounts: tuple[VolumeMount, ...] = ()
    nested_volumes: bool = False
    userns: bool = False
    uid_mappings: tuple[IdRange, ...] = ()
    gid_mappings: tuple[IdRange, ...] = ()
    insecure: frozenset[str] = frozenset()
    annotations: Mapping[str, str] = field(default_factory=dict)
    cgroups_path: str = ""
    pod_isolators: tuple[Isolator, ...] = ()
    signs: Signs | None = None
    implicit_volumes: bool = True
    """Whether volumes that the image declares and nobody provides become empty ones; False for a bundle that has a
    real tree of its own, where the image's data simply stay in place."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself. Raises: UsageError."""
        if self.caps_retain is not None and self.caps_remove is not None:
            raise UsageError("--caps-retain and --caps-remove exclude each other")
        if self.userns and not (self.uid_mappings and self.gid_mappings):
            raise UsageError("a user namespace needs id mappings")
