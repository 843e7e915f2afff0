"""``checkpoint``: have criu write a running container to files, and end it, or let it run on."""

from __future__ import annotations

import os

from pyrkt.base.errors import Busy, PyrktError, UsageError
from pyrkt.base.record import Record
from pyrkt.kernel import lock
from pyrkt.kernel import path as paths
from pyrkt.runtime import container as containers
from pyrkt.runtime import criu, lifecycle, snapshot, wire
from pyrkt.runtime.container import PAUSED, RUNNING
from pyrkt.runtime.criu import Features, Options
from pyrkt.runtime.options import NUMBER, SWITCH, TEXT, Verb, flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.runtime.container import Container
    from pyrkt.runtime.main import Settings
    from pyrkt.spec.runtime import Config

VERB = Verb(
    name="checkpoint",
    summary="checkpoint a running container",
    flags=(
        *snapshot.FLAGS,
        flag("parent-path", TEXT, "path for previous criu image files in pre-dump"),
        flag("leave-running", SWITCH, "leave the process running after checkpointing"),
        flag("tcp-skip-in-flight", SWITCH, "skip in-flight tcp connections"),
        flag("link-remap", SWITCH, "allow one to link unlinked files back when possible"),
        flag("status-fd", NUMBER, "criu writes \\0 to this FD once lazy-pages is ready", "-1"),
        flag("page-server", TEXT, "ADDRESS:PORT of the page server"),
        flag("pre-dump", SWITCH, "dump container's memory information only, leave the container running after this"),
    ),
    about="criu(8) does it; --criu names another than the one on PATH. The container is deleted afterwards, unless\n"
    "it is to be left running: restore makes it again.",
)
_O_ACCMODE = 3


class Outside(Record):
    """A mount that criu is not to dump: its ``point``, its ``name`` in the images, and what of config.json it is.

    ``destination`` is that of the mount there, ``below`` the path from it ("" itself); both are "" for what is none.
    """

    point: str
    name: str
    destination: str = ""
    below: str = ""


def main(settings: Settings, values: dict[str, Any], arguments: list[str]) -> int:
    """Have it done."""
    container = containers.load(settings.root, arguments[0])
    descriptor = lock.acquire(container.directory, exclusive=True, directory=True)
    try:
        current = containers.status(container)
        if current.name not in (RUNNING, PAUSED):
            raise Busy(f"Container cannot be checkpointed in {current.name} state")
        _checkpoint(settings, values, container, current.pid)
        if not values["leave-running"] and not values["pre-dump"]:
            lifecycle.take_away(container, settings.log)
    finally:
        os.close(descriptor)
    return 0


def _checkpoint(settings: Settings, values: dict[str, Any], container: Container, pid: int) -> None:
    config = lifecycle.config_of(container)
    place = snapshot.place_of(values, "dump.log")
    snapshot.check_parent(place.images, values["parent-path"])
    page_server = _page_server(values["page-server"])
    wanted = snapshot.options(values, place, container.annotations) + _of_dump(values, container, pid)
    criu.version(settings.criu)  # says that there is none, before anything is made
    wanted += snapshot.directories(place)
    if page_server:
        wanted.append((Options.PAGE_SERVER, page_server))
    for kind, path in snapshot.external(config):
        inode = os.stat(path).st_ino
        name = "net" if kind == "network" else kind
        wanted.append((Options.EXTERNAL, f"{name}[{inode}]:{snapshot.key(kind)}"))
    if values["pre-dump"]:
        criu.require(settings.criu, Features.MEM_TRACK, "MemTrack")
    else:
        mounts = outside_mounts(config, pid)
        wanted += [(Options.EXT_MNT, wire.encode([(1, mount.point), (2, mount.name)])) for mount in mounts]
        snapshot.save(place, snapshot.DESCRIPTORS, _descriptors(pid))
        binds = [
            {"name": each.name, "of": each.destination, "below": each.below} for each in mounts if each.destination
        ]
        snapshot.save(place, snapshot.MOUNTS, binds)
    status_fd = _lazy(settings, values)
    answer = criu.ask(
        settings.criu,
        criu.PRE_DUMP if values["pre-dump"] else criu.DUMP,
        wanted,
        lambda script, _pid, _descriptors: _tell_ready(script, status_fd),
    )
    if not answer.success:
        raise criu.failure(answer, place.log_path)


def _of_dump(values: dict[str, Any], container: Container, pid: int) -> list[tuple[int, wire.Value]]:
    found: list[tuple[int, wire.Value]] = [
        (Options.PID, pid),
        (Options.ROOT, container.rootfs),
        (Options.LEAVE_RUNNING, int(values["leave-running"])),
        (Options.TCP_SKIP_IN_FLIGHT, int(values["tcp-skip-in-flight"])),
        (Options.LINK_REMAP, int(values["link-remap"])),
    ]
    if container.freezer:  # else by ptrace(2), one after the other
        found.append((Options.FREEZE_CGROUP, container.freezer[0]))
    if values["parent-path"]:
        found += [(Options.PARENT_IMG, values["parent-path"]), (Options.TRACK_MEM, 1)]
    return found


def _page_server(text: str) -> bytes:
    address, _, port = text.rpartition(":")
    if not text:
        return b""
    if not address or not port:
        raise UsageError("Use --page-server ADDRESS:PORT to specify page server")
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise UsageError("Invalid port number")
    return wire.encode([(1, address), (2, int(port))])


def _lazy(settings: Settings, values: dict[str, Any]) -> int:
    """Check what --lazy-pages needs; return the descriptor to tell when the pages are served, -1 for none."""
    if not values["lazy-pages"]:
        return -1
    criu.require(settings.criu, Features.LAZY_PAGES, "LazyPages")
    number: int = values["status-fd"]
    if number == -1:
        return -1
    try:
        with open(f"/proc/self/fdinfo/{number}", encoding="ascii") as lines:
            flags = next(int(line.split()[1], 8) for line in lines if line.startswith("flags:"))
    except (OSError, StopIteration):
        raise UsageError(f"invalid --status-fd argument {number}: bad file descriptor") from None
    if flags & _O_ACCMODE not in (os.O_WRONLY, os.O_RDWR):
        raise UsageError(f"invalid --status-fd argument {number}: not writable")
    return number


def _tell_ready(script: str, descriptor: int) -> None:
    if script == "status-ready" and descriptor >= 0:
        os.write(descriptor, b"\0")
        os.close(descriptor)


def _descriptors(pid: int) -> list[str]:
    """Return what standard input, output and error are: a pipe is another one when it is restored."""
    names = []
    for number in range(3):
        try:
            names.append(os.readlink(f"/proc/{pid}/fd/{number}"))
        except OSError:
            names.append("")
    return names


def outside_mounts(config: Config, pid: int) -> list[Outside]:
    """Return the mounts whose content is the host's: binds, masks, devices.

    As the kernel shows them: what config.json names may lead elsewhere by a link.
    """
    points = _mount_points(pid)
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_CLOEXEC)
    try:
        found: dict[str, Outside] = {}
        for place, mount in enumerate(config.mounts):
            top = _point(root, mount.destination, points) if snapshot.is_bind(config, place) else ""
            if top and mount.uid_mappings:
                raise PyrktError(f"criu cannot checkpoint the id-mapped mount {mount.destination}")
            for point in points.values() if top else ():
                # What is mounted below a bind of a whole tree is the host's as well.
                if point == top or point.startswith(f"{top}/"):
                    below = point.removeprefix(top)
                    found[point] = Outside(point=point, name=point, destination=mount.destination, below=below)
        for path in config.linux.masked_paths if config.linux else ():
            point = _point(root, path, points)
            if point == os.path.normpath(path) and not os.path.isdir(f"/proc/{pid}/root{point}"):
                found[point] = Outside(point=point, name=snapshot.NULL)
        for device in snapshot.devices(config):
            if device in points.values() and device not in found:
                found[device] = Outside(point=device, name=device)
        return list(found.values())
    finally:
        os.close(root)


def _mount_points(pid: int) -> dict[int, str]:
    """Return the mount points of the container by the numbers of the mounts, but for its root."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        rows = [line.split(" ", 5) for line in lines]
    return {int(row[0]): _plain(row[4]) for row in rows if row[4] != "/"}


def _plain(text: str) -> str:
    """Return a path of mountinfo without its escapes: blanks and the like stand there as \\040."""
    first, *rest = text.split("\\")
    return first + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)


def _point(root: int, path: str, points: dict[int, str]) -> str:
    """Return the mount point that ``path`` leads to, "" if it is not there or no mount."""
    try:
        return points.get(paths.mount_id(root, path), "")
    except OSError:
        return ""
