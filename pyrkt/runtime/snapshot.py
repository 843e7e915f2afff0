"""What ``checkpoint`` and ``restore`` have in common: directories, criu's options, what lies outside the container."""

from __future__ import annotations

import os
from errno import ENOTDIR

from pyrkt.base import fastjson
from pyrkt.base.errors import PyrktError, UsageError
from pyrkt.base.record import Record
from pyrkt.kernel import namespaces
from pyrkt.runtime.criu import Options
from pyrkt.runtime.options import SWITCH, TEXT, TEXTS, flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.runtime.wire import Value
    from pyrkt.spec.runtime import Config

DESCRIPTORS, MOUNTS = "descriptors.json", "mounts.json"
"""Beside criu's images: what descriptors 0..2 were, as runc writes it too; which mounts of config.json are theirs."""
CONFIG_FILE, CONFIG_ANNOTATION = "/etc/criu/runc.conf", "org.criu.config"
NULL = "/dev/null"
_MODES = {"": 6, "ignore": 0, "soft": 3, "full": 4, "strict": 5}
_LOG_LEVEL = 4
FLAGS = (
    flag("image-path", TEXT, "path for criu image files (default: checkpoint in the current directory)"),
    flag("work-path", TEXT, "path for saving work files and logs"),
    flag("tcp-established", SWITCH, "allow open tcp connections"),
    flag("ext-unix-sk", SWITCH, "allow external unix sockets"),
    flag("shell-job", SWITCH, "allow shell jobs"),
    flag("file-locks", SWITCH, "handle file locks, for safety"),
    flag("lazy-pages", SWITCH, "use userfaultfd to lazily restore memory pages"),
    flag("manage-cgroups-mode", TEXT, "cgroups mode: soft|full|strict|ignore (default: soft)"),
    flag("empty-ns", TEXTS, "create a namespace, but don't restore its properties"),
    flag("auto-dedup", SWITCH, "enable auto deduplication of memory images"),
)


class Place(Record):
    """Where the images lie and where criu works, as absolute paths; ``log`` is the name of that of this work."""

    images: str
    work: str
    log: str

    @property
    def log_path(self) -> str:
        """The path of the log."""
        return f"{self.work}/{self.log}"


def place_of(values: dict[str, Any], log: str) -> Place:
    """Return what --image-path and --work-path mean."""
    images = os.path.abspath(values["image-path"] or "checkpoint")
    return Place(images=images, work=os.path.abspath(values["work-path"]) if values["work-path"] else images, log=log)


def directories(place: Place) -> list[tuple[int, Value]]:
    """Open the directories, make them if they are missing, and return the options for them.

    criu goes there through our descriptors, which have to be of its own mount namespace. They close with this process.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    for directory in (place.images, place.work):
        os.makedirs(directory, 0o700, exist_ok=True)
    return [
        (Options.IMAGES_DIR_FD, os.open(place.images, flags)),
        (Options.WORK_DIR_FD, os.open(place.work, flags)),
    ]


def check_parent(images: str, parent: str) -> None:
    """Refuse a --parent-path that criu would not find."""
    if not parent:
        return
    if os.path.isabs(parent):
        raise UsageError("--parent-path must be relative", hint="it is looked up from --image-path")
    os.makedirs(images, 0o700, exist_ok=True)  # a parent such as ../first goes through it
    path = os.path.join(images, parent)
    try:
        if not os.path.isdir(path):
            os.stat(path)
            raise OSError(ENOTDIR, os.strerror(ENOTDIR), path)
    except OSError as error:
        raise UsageError(f"invalid --parent-path: {path}: {error.strerror}") from None


def options(values: dict[str, Any], place: Place, annotations: dict[str, str]) -> list[tuple[int, Value]]:
    """Return the options of criu that the flags of both verbs mean."""
    if values["manage-cgroups-mode"] not in _MODES:
        raise UsageError("invalid manage-cgroups-mode value", hint="soft, full, strict or ignore")
    for kind in values["empty-ns"]:
        if kind != "network":
            raise UsageError(f'namespace "{kind}" is not supported', hint="--empty-ns takes network")
    found: list[tuple[int, Value]] = [
        (Options.LOG_LEVEL, _LOG_LEVEL),
        (Options.LOG_FILE, place.log),
        (Options.NOTIFY_SCRIPTS, 1),
        (Options.MANAGE_CGROUPS, 1),
        (Options.CGROUPS_MODE, _MODES[values["manage-cgroups-mode"]]),
        (Options.ORPHAN_PTS_MASTER, 1),
        # What is in a network namespace is for the engine to make, and comes from it again.
        (Options.EMPTY_NS, namespaces.CLONE_NEWNET),
    ]
    for name, number in (
        ("tcp-established", Options.TCP_ESTABLISHED),
        ("ext-unix-sk", Options.EXT_UNIX_SK),
        ("shell-job", Options.SHELL_JOB),
        ("file-locks", Options.FILE_LOCKS),
        ("lazy-pages", Options.LAZY_PAGES),
        ("auto-dedup", Options.AUTO_DEDUP),
    ):
        found.append((number, int(values[name])))
    # Settings in the file win over these. The annotation, as engines know it, names another; empty, none.
    file = annotations.get(CONFIG_ANNOTATION, CONFIG_FILE)
    return [*found, (Options.CONFIG_FILE, file)] if file else found


def save(place: Place, name: str, value: object) -> None:
    """Write a file of ours beside criu's."""
    with open(f"{place.images}/{name}", "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(fastjson.dumps(value))


def load(place: Place, name: str) -> Any:
    """Return what ``save`` has written; None if it is not there."""
    path = f"{place.images}/{name}"
    try:
        with open(path, "rb") as file:
            return fastjson.loads(file.read(), path)
    except FileNotFoundError:
        return None


def check_namespaces(config: Config) -> None:
    """Refuse what criu cannot bring back: a cgroup namespace that is somebody else's."""
    for space in config.linux.namespaces if config.linux else ():
        if space.type == "cgroup" and space.path:
            raise PyrktError("criu cannot join a cgroup namespace", hint="leave the path of that namespace out")


def key(kind: str) -> str:
    """Return how an external namespace is called in the images: "extRootNetNS"."""
    return f"extRoot{namespaces.FILES[kind].capitalize()}NS"


def external(config: Config) -> list[tuple[str, str]]:
    """Return (kind, path) of the namespaces that exist by themselves, and are neither dumped nor made."""
    spaces = config.linux.namespaces if config.linux else ()
    return [(space.type, space.path) for space in spaces if space.path and space.type in {"network", "pid"}]


def is_bind(config: Config, place: int) -> bool:
    """Tell whether a mount of config.json is a bind of something of the host."""
    mount = config.mounts[place]
    return mount.type == "bind" or not {"bind", "rbind"}.isdisjoint(mount.options)


def devices(config: Config) -> list[str]:
    """Return where device nodes are, each of which is a bind of the host's in a user namespace."""
    names = ("null", "zero", "full", "random", "urandom", "tty")
    return [
        *(f"/dev/{name}" for name in names),
        *(device.path for device in (config.linux.devices if config.linux else ())),
    ]
