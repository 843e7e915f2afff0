"""A container as the runtime remembers it: a directory below the state root, written before anything else is done.

    ROOT/ID/state.json   what there is to undo and to show; written first, removed last
    ROOT/ID/quick        the same for the launcher, which starts, kills and deletes without an interpreter (quick.c)
    ROOT/ID/config.json  the bundle's configuration as it was at create: later edits have no effect (runtime-spec)
    ROOT/ID/pid          "PID START-TIME" of the first process, written by stage1
    ROOT/ID/exec.fifo    there as long as the container waits to be started

A kill at any moment leaves either no state.json, and then nothing was done yet, or one that names everything that may
have been made. The directory itself is the lock: whoever changes the container holds flock(2) on it.
"""

from __future__ import annotations

import os
import time
from errno import EEXIST, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, ENOTEMPTY
from stat import S_IMODE, S_ISREG

from pyrkt.base import fastjson
from pyrkt.base.errors import Busy, CannotCreate, InvalidSpec, NoPermission, NotFound, UsageError
from pyrkt.base.reader import Reader
from pyrkt.base.record import Record
from pyrkt.kernel import lock, process
from pyrkt.spec.layout import CgroupLayout, ResctrlLayout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMAT = 1
CREATING, CREATED, RUNNING, PAUSED, STOPPED = "creating", "created", "running", "paused", "stopped"
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
_FILES = ("exec.fifo", "pid", "config.json", "quick", "state.json")
"""What may lie in a container's directory, in the order of removal."""
_MAX_STATE = 1 << 20


def check_id(text: str) -> str:
    """Return ``text`` if it may name a container: ASCII letters, digits, ``_+-.``, as with runc."""
    if not text:
        raise UsageError("container id cannot be empty")
    if not _LETTERS.issuperset(text) or text in (".", "..") or len(text) > 255:
        raise UsageError("invalid container ID format", hint="ASCII letters, digits, '_', '+', '-' and '.'")
    return text


class Container(Record):
    """What state.json says. ``created`` is RFC 3339; ``hooks`` names the kinds that Python is still to run.

    ``startable`` tells whether it has a process; ``resctrl`` are its groups there: enter, remove.
    ``mounts_before``: how many mounts lay on the root's directory when a container came that has no mount namespace of
    its own, and so adds one there; -1 for any other container.
    """

    directory: str
    id: str
    bundle: str
    rootfs: str
    oci_version: str
    created: str
    annotations: dict[str, str]
    cgroup: CgroupLayout
    own_pids: bool = True
    hooks: tuple[str, ...] = ()
    startable: bool = True
    resctrl: ResctrlLayout = ResctrlLayout()
    mounts_before: int = -1

    @property
    def cgroups(self) -> tuple[str, ...]:
        """The container's cgroup directories, of every hierarchy."""
        return self.cgroup.remove

    @property
    def freezer(self) -> tuple[str, ...]:
        """The directory of the cgroup that stops all of the container for a while, if there is one."""
        directory = self.cgroup.path("freezer") or self.cgroup.path("")
        return (directory,) if directory else ()

    def path(self, name: str) -> str:
        """Return the path of the file ``name`` in the container's directory."""
        return f"{self.directory}/{name}"


class Status(Record):
    """What a container is doing: ``name`` as the specification calls it, ``pid`` of its first process or 0."""

    name: str
    pid: int = 0


def now() -> str:
    """Return the time, RFC 3339 with nanoseconds, as Go writes it."""
    nanoseconds = time.time_ns()
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(nanoseconds // 10**9))
    fraction = f"{nanoseconds % 10**9:09d}".rstrip("0")
    return f"{text}.{fraction}Z" if fraction else f"{text}Z"


# --- the state root ---


def make_root(root: str) -> None:
    """Make the state root, 0700, if it is missing."""
    runtime_dir = os.environ.get("XDG_RUNTIME_DIR") or "/run/user"
    # XDG Base Directory Specification: what is old there may be swept away, unless its sticky bit is set.
    mode = 0o1700 if root.startswith((f"{runtime_dir}/", "/run/user/")) else 0o700
    try:
        os.mkdir(root, mode)
    except FileExistsError:
        pass
    except FileNotFoundError:
        os.makedirs(root, mode, exist_ok=True)  # two containers may be the first
    check_root(root)


def check_root(root: str) -> None:
    """Refuse a state root that others could have filled: what lies there names processes to kill and cgroups to remove.

    One that is missing holds nothing.
    """
    try:
        info = os.stat(root)
    except (FileNotFoundError, NotADirectoryError):
        return
    owners = {info.st_uid, os.lstat(root).st_uid}  # of the directory, and of a link in its place
    if not owners <= {os.geteuid(), 0} or S_IMODE(info.st_mode) & 0o022:
        raise NoPermission(
            f"{root}: others may write there", hint="chown it to you and chmod it to 0700, or use --root"
        )


def claim(root: str, name: str) -> int:
    """Make the directory of a new container and return the descriptor that locks it; of two who try, one gets it.

    A directory without state.json, which a killed create left before it had done anything, is taken over.
    """
    make_root(root)
    directory = f"{root}/{check_id(name)}"
    while True:
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            pass
        try:
            descriptor = lock.acquire(directory, exclusive=True, wait=False, directory=True)
        except FileNotFoundError:
            continue  # removed meanwhile
        except (Busy, NotADirectoryError):
            raise _taken(name) from None
        # Between the two calls another may have made its container here, or taken the directory away.
        if os.path.lexists(f"{directory}/state.json"):
            os.close(descriptor)
            raise _taken(name)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)


def _taken(name: str) -> CannotCreate:
    return CannotCreate("container with given ID already exists", hint=f"delete {name!r} first")


def names(root: str) -> list[str]:
    """Return the ids below ``root``, sorted. Raises: NoPermission if others may write there."""
    check_root(root)
    try:
        with os.scandir(root) as entries:
            return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False) and _LETTERS.issuperset(e.name))
    except FileNotFoundError:
        return []


# --- one container ---


def save(container: Container, config: bytes) -> None:
    """Write the container's state: what is about to be made, before it is.

    Neither file is fsynced (a reboot voids them) nor renamed into place: one that is cut short says that nothing was
    done yet, for the caller goes on only after this returned.
    """
    _write_new(container.path("config.json"), config)
    if facts := _facts(container):
        _write_new(container.path("quick"), facts)
    layout = container.cgroup
    document: dict[str, Any] = {
        "format": FORMAT,
        "ociVersion": container.oci_version,
        "id": container.id,
        "bundle": container.bundle,
        "rootfs": container.rootfs,
        "created": container.created,
        "annotations": container.annotations,
        "cgroups": {
            "driver": layout.driver,
            "unit": layout.unit,
            "bus": layout.bus,
            "enter": layout.enter,
            "remove": layout.remove,
            "into": layout.clone_into,
            "kill": layout.kill,
            "paths": dict(layout.paths),
        },
        "ownPids": container.own_pids,
        "hooks": container.hooks,
    }
    if not container.startable:
        document["startable"] = False
    if container.resctrl.enter:
        document["resctrl"] = {"enter": container.resctrl.enter, "remove": container.resctrl.remove}
    if container.mounts_before >= 0:
        document["mountsBefore"] = container.mounts_before
    _write_new(container.path("state.json"), fastjson.dumps(document).encode())


def _facts(container: Container) -> bytes:
    """Return what the launcher needs to know, in lines; nothing if a name in it would spoil the lines."""
    lines = ["pyrkt 1"]
    if "poststart" not in container.hooks and container.startable:
        lines.append("start")
    if "poststop" not in container.hooks and not container.cgroup.unit and container.mounts_before < 0:
        lines.append("delete")
    if container.own_pids:
        lines.append("kill")
    file = "freezer.state" if container.cgroup.path("freezer") else "cgroup.freeze"
    lines += [f"freezer {directory}/{file}" for directory in container.freezer]
    lines += [f"cgroup {directory}" for directory in (*container.cgroups, *container.resctrl.remove)]
    if any("\n" in line for line in lines):
        return b""
    return "\n".join([*lines, "end", ""]).encode("utf-8", "surrogateescape")


def _write_new(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)


def read_file(path: str, limit: int = _MAX_STATE) -> bytes:
    """Return the content of the regular file ``path``, which a stranger may have made.

    Raises: FileNotFoundError; InvalidSpec for what is no regular file or longer than ``limit`` bytes.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno != ELOOP:
            raise
        raise InvalidSpec("is a link", document=path) from None
    try:
        info = os.fstat(descriptor)
        if not S_ISREG(info.st_mode) or info.st_size > limit:
            raise InvalidSpec("is no regular file of a sensible size", document=path)
        chunks = []
        while chunk := os.read(descriptor, 1 << 16):
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        os.close(descriptor)


def read_given(path: str, limit: int) -> bytes:
    """Return what is in a file that the caller names, at most ``limit`` + 1 bytes: a pipe of its shell's, too.

    A fifo that nobody writes to is empty; to wait for somebody would be for ever. Raises: OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    os.set_blocking(descriptor, True)
    with open(descriptor, "rb") as file:
        return file.read(limit + 1)


def load(root: str, name: str) -> Container:
    """Return the container ``name``.

    Raises: NotFound, in the words that engines look for; InvalidSpec if its state is damaged; NoPermission if
    others may write to ``root``.
    """
    check_id(name)
    check_root(root)
    try:
        data = read_file(f"{root}/{name}/state.json")
    except OSError as error:
        if error.errno not in (ENOENT, ENOTDIR, ENAMETOOLONG):
            raise
        raise NotFound("container does not exist") from None
    return _parse(data, f"{root}/{name}")


def _parse(data: bytes, directory: str) -> Container:
    path = f"{directory}/state.json"
    try:
        r = Reader(fastjson.loads(data, path), path)
        if r["format"].integer(0, 1 << 30) != FORMAT:
            raise r["format"].fail("was written by another version of pyrkt-oci", hint="use that version for it")
        cgroups = r["cgroups"]
        return Container(
            directory=directory,
            id=r["id"].text(),
            bundle=r["bundle"].text(),
            rootfs=r["rootfs"].text(),
            oci_version=r["ociVersion"].text(),
            created=r["created"].text(),
            annotations=r["annotations"].text_map(),
            cgroup=CgroupLayout(
                enter=cgroups["enter"].texts(),
                remove=cgroups["remove"].texts(),
                clone_into=cgroups["into"].text(),
                kill=cgroups["kill"].texts(),
                paths=tuple(cgroups["paths"].text_map().items()),
                driver=cgroups["driver"].text("cgroupfs"),
                unit=cgroups["unit"].text(""),
                bus=cgroups["bus"].text(""),
            ),
            own_pids=r["ownPids"].boolean(),
            hooks=r["hooks"].texts(),
            startable=r["startable"].boolean(default=True),
            resctrl=ResctrlLayout(enter=r["resctrl"]["enter"].texts(), remove=r["resctrl"]["remove"].texts()),
            mounts_before=r["mountsBefore"].integer(-1, 1 << 30, -1),
        )
    except InvalidSpec as error:
        error.hint = error.hint or "delete --force removes what is left of the container"
        raise


def forget(directory: str) -> None:
    """Remove the container's directory; its state.json goes last, so that a kill in between forgets nothing."""
    for name in _FILES:
        try:
            os.unlink(f"{directory}/{name}")
        except FileNotFoundError:
            continue
        except NotADirectoryError:
            return
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (ENOTEMPTY, EEXIST):
            raise
        _remove_strangers(directory)


def _remove_strangers(directory: str) -> None:
    """Remove a directory with files that this version does not know: temporary ones of a killed writer."""
    with os.scandir(directory) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                raise CannotCreate(f"{entry.path}: is in the way of removing the container", hint="remove it by hand")
            os.unlink(entry.path)
    os.rmdir(directory)


# --- what it is doing ---


def recorded_pid(directory: str) -> tuple[int, int]:
    """Return (pid, start time) of the first process as stage1 recorded them; (0, 0) if it did not."""
    try:
        words = read_file(f"{directory}/pid", 64).split()
    except (FileNotFoundError, InvalidSpec):  # then the cgroup still names them
        return 0, 0
    if len(words) != 2 or not all(word.isdigit() for word in words):
        return 0, 0
    return int(words[0]), int(words[1])


def living_pid(directory: str) -> int:
    """Return the pid of the container's first process, 0 if it has ended, even if the number is used again."""
    pid, started = recorded_pid(directory)
    return pid if pid and process.start_time(pid) == started else 0


def status(container: Container) -> Status:
    """Return what the container is doing now."""
    pid = living_pid(container.directory)
    if not pid:
        return Status(name=_without_process(container))
    from pyrkt.cgroup import freeze  # noqa: PLC0415 - only who asks pays

    if freeze.is_frozen(container.freezer):
        return Status(name=PAUSED, pid=pid)
    return Status(name=CREATED if os.path.lexists(container.path("exec.fifo")) else RUNNING, pid=pid)


def _without_process(container: Container) -> str:
    if recorded_pid(container.directory)[0]:
        return STOPPED
    return CREATING if lock.is_held(container.directory) else STOPPED


def open_process(container: Container) -> int:
    """Return a pidfd of the container's first process. Raises NotFound if it has ended.

    The number is looked up twice: what the pidfd holds had the recorded start time while it was held.
    """
    pid = living_pid(container.directory)
    if pid:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            pass
        else:
            if living_pid(container.directory) == pid:
                return descriptor
            os.close(descriptor)
    raise NotFound("container not running")


def state_document(container: Container, current: Status) -> dict[str, Any]:
    """Return the state of runtime-spec 1.3, "State", which hooks read too; an ended process has no pid."""
    document: dict[str, Any] = {
        "ociVersion": container.oci_version,
        "id": container.id,
        "status": current.name,
        "pid": current.pid,
        "bundle": container.bundle,
    }
    if container.annotations:
        document["annotations"] = container.annotations
    return document
