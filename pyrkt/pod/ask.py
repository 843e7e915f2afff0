"""What a user asks of a pod, as values: the apps, the volumes, and how to run them."""

from __future__ import annotations

from pyrkt.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    PullPolicy = Literal["never", "new", "update"]


class Volume(Record):
    """A volume of the pod: a directory or file of the host, or an empty directory that lives as long as the pod.

    ``mode`` (permission bits), ``uid`` and ``gid`` are those of an empty volume's directory.
    """

    name: str
    kind: str
    source: str = ""
    read_only: bool = False
    recursive: bool = True
    mode: int = 0o755
    uid: int = 0
    gid: int = 0


class Mount(Record):
    """Where an app wants a volume."""

    volume: str
    target: str


class IoLimit(Record):
    """Limits of one block device, named by its node: bytes and operations a second; 0 is none."""

    path: str
    rbps: int = 0
    wbps: int = 0
    riops: int = 0
    wiops: int = 0


class Device(Record):
    """A device node of the host for the app: ``access`` of r, w and m."""

    path: str
    target: str
    access: str = "rwm"


class App(Record):
    """One app: the image, and what of it is to be different. Sizes in bytes, ``cpu`` in thousandths of a core.

    ``restart``: "no", "on-failure" or "always"; ``restart_max`` times at most (0: any number), each after
    ``restart_delay_ms``. ``fatal``: when it fails for good, the pod ends, if the pod's policy says so.
    """

    image: str
    name: str = ""
    args: tuple[str, ...] = ()
    exec: str = ""
    working_dir: str = ""
    user: str = ""
    group: str = ""
    supplementary_gids: tuple[int, ...] | None = None
    environment: tuple[str, ...] = ()
    readonly_rootfs: bool = False
    memory: int = 0
    cpu: int = 0
    cpu_shares: int = 0
    pids: int = 0
    oom_score_adj: int | None = None
    caps_retain: tuple[str, ...] | None = None
    caps_remove: tuple[str, ...] | None = None
    seccomp: str = ""
    devices: tuple[Device, ...] = ()
    io: tuple[IoLimit, ...] = ()
    mounts: tuple[Mount, ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    user_annotations: tuple[tuple[str, str], ...] = ()
    user_labels: tuple[tuple[str, str], ...] = ()
    signature: str = ""
    restart: str = "no"
    restart_max: int = 0
    restart_delay_ms: int = 1000
    fatal: bool = True


class PodAsk(Record):
    """A whole pod.

    ``env`` beats the image's environment, ``inherited`` yields to it. ``net`` is "none" or "host".
    ``exit_policy``: the pod ends when an app has failed ("any-failure"), when all have ended ("all"), or when one
    has ("any"); in each case when none is left.
    """

    apps: tuple[App, ...]
    volumes: tuple[Volume, ...] = ()
    env: tuple[str, ...] = ()
    inherited: tuple[str, ...] = ()
    name: str = ""
    hostname: str = ""
    net: str = "none"
    interactive: bool = False
    overlay: bool = True
    private_users: bool = False
    insecure: frozenset[str] = frozenset()
    exit_policy: str = "any-failure"


class Pull(Record):
    """How to come by the images: when to fetch, and with which keys and credentials."""

    policy: PullPolicy = "new"
    decryption_keys: tuple[str, ...] = ()
    authfile: str = ""
    insecure: frozenset[str] = frozenset()
    quiet: bool = False


def values(record: Record) -> dict[str, Any]:
    """Return the fields of ``record`` as JSON values, records in them likewise."""
    return {field: _value(getattr(record, field)) for field in record._fields}


def _value(value: Any) -> Any:
    if isinstance(value, Record):
        return values(value)
    if isinstance(value, tuple):
        return [_value(item) for item in value]
    return sorted(value) if isinstance(value, frozenset) else value
