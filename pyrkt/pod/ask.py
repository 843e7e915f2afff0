"""What a user asks of a pod, as values: the apps, the volumes, and how to run them."""

from __future__ import annotations

from pyrkt.base.record import Record
from pyrkt.pod.flavour import Flavour

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    PullPolicy = Literal["never", "new", "update"]


STDIN = ("null", "tty", "stream")
STDOUT = ("log", "null", "tty", "stream")
"""rkt's words for where input comes from, and where output goes."""
LOGS = ("file", "journald", "none")
MIN_LOG_SIZE, MAX_LOG_SIZE, MAX_LOG_FILES = 64 << 10, 1 << 40, 1000
"""Bytes of a log file, files of a log: a line of LINE_MOST bytes (stage1, streams.h) fits in the smallest."""


class Volume(Record):
    """A volume of the pod: a directory or file of the host, or an empty directory that lives as long as the pod.

    ``read_only`` None leaves it to each mount point. ``mode`` (permission bits), ``uid`` and ``gid`` are those of an
    empty volume's directory.
    """

    name: str
    kind: str
    source: str = ""
    read_only: bool | None = None
    recursive: bool = True
    mode: int = 0o755
    uid: int = 0
    gid: int = 0


class Mount(Record):
    """Where an app wants a volume: one of the pod's, or ``own``, which only this app has."""

    volume: str
    target: str
    own: Volume | None = None


class Port(Record):
    """A port of an app that is made reachable on the host: ``host_port`` of ``host_ip`` ("": of every address).

    Which one is said by an app, which calls a port of its own ``name``; or, unless ``pod_port`` is 0, right here:
    ``count`` ports from ``pod_port`` on, of ``protocol``.
    """

    name: str
    host_port: int
    host_ip: str = ""
    protocol: str = ""
    pod_port: int = 0
    count: int = 1


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
    ``stdin``, ``stdout``, ``stderr``: one of STDIN, of STDOUT; "" is the default.
    ``image_id``, of a pod manifest: the image must be this one; ``image`` is then how to fetch it, if it is not stored
    ("": not at all). ``override``, of a pod manifest, too: the JSON of an appc app that takes the place of the image's.
    """

    image: str
    image_id: str = ""
    override: str = ""
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
    no_new_privileges: bool | None = None
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
    stdin: str = ""
    stdout: str = ""
    stderr: str = ""


class Names(Record):
    """How names become addresses. ``resolv``: "" by the usual precedence, "none", "host", or "given": ``text``.

    ``hosts``: "" likewise, "host", or "given": what is written otherwise, and the ``entries`` (address, name).
    """

    resolv: str = ""
    text: str = ""
    hosts: str = ""
    entries: tuple[tuple[str, str], ...] = ()

    @property
    def is_given(self) -> bool:
        """Whether it says anything."""
        return bool(self.resolv or self.hosts)


class PodAsk(Record):
    """A whole pod.

    ``env`` beats the image's environment, ``inherited`` yields to it. ``net`` is "none", "host", or a list of networks
    as --net has it. ``ipc`` is "private", the pod's own, or "host".
    ``isolators``: JSON of the pod's own. ``strict``: refuse to run where one of them, or of an app's, is not enforced
    as it stands. ``nested_volumes``, ``linked_volumes``: a volume may lie in another one; its source may be a symlink.
    ``exit_policy``: the pod ends when an app has failed ("any-failure"), when all have ended ("all"), or when one
    has ("any"); in each case when none is left. ``log``: "file", "journald" (there, too) or "none"; of ``log_files``
    files, ``log_size`` bytes each. ``is_mutable``: apps may be added, and it goes on when none is left.
    """

    apps: tuple[App, ...]
    volumes: tuple[Volume, ...] = ()
    env: tuple[str, ...] = ()
    inherited: tuple[str, ...] = ()
    name: str = ""
    hostname: str = ""
    net: str = "none"
    ipc: str = "private"
    names: Names = Names()
    interactive: bool = False
    overlay: bool = True
    private_users: bool = False
    insecure: frozenset[str] = frozenset()
    exit_policy: str = "any-failure"
    flavour: Flavour = Flavour()
    isolators: str = ""
    strict: bool = False
    nested_volumes: bool = False
    linked_volumes: bool = False
    is_mutable: bool = False
    ports: tuple[Port, ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    user_annotations: tuple[tuple[str, str], ...] = ()
    user_labels: tuple[tuple[str, str], ...] = ()
    log: str = "file"
    log_size: int = 10 << 20
    log_files: int = 5


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
