"""``restore``: a container that criu has written to files goes on where it was."""

from __future__ import annotations

import _socket
import os

from pyrkt.base import fastjson
from pyrkt.base.atomic import write_file
from pyrkt.base.errors import InvalidSpec, NotFound, PyrktError
from pyrkt.base.reader import Reader
from pyrkt.base.record import Record
from pyrkt.kernel import host as kernel_host
from pyrkt.kernel import namespaces, process
from pyrkt.plan import compile as compiler
from pyrkt.plan.place import Place as PlanPlace
from pyrkt.plan.steps import encode
from pyrkt.runtime import container as containers
from pyrkt.runtime import criu, launching, snapshot, wire
from pyrkt.runtime.container import CREATING, Container, Status
from pyrkt.runtime.criu import Options
from pyrkt.runtime.options import SWITCH, TEXT, Verb, flag
from pyrkt.spec.runtime import Config, Linux, Namespace, parse_config
from pyrkt.stage1 import launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.runtime.criu import Answer
    from pyrkt.runtime.launching import Intent
    from pyrkt.runtime.main import Settings
    from pyrkt.runtime.snapshot import Place

VERB = Verb(
    name="restore",
    summary="restore a container from a previous checkpoint",
    flags=(
        *snapshot.FLAGS,
        flag("bundle b", TEXT, "path to the root of the bundle directory, defaults to the current directory"),
        flag(
            "console-socket",
            TEXT,
            "path to an AF_UNIX socket which will receive a file descriptor referencing the master end of the "
            "console's pseudoterminal",
        ),
        flag("detach d", SWITCH, "detach from the container's process"),
        flag("pid-file", TEXT, "specify the file to write the process id to"),
        flag("no-subreaper", SWITCH, "accepted for compatibility"),
        flag("no-pivot", SWITCH, "accepted for compatibility: criu has its own way into the root"),
        flag("lsm-profile", TEXT, "Specify an LSM profile to be used during restore in the form of TYPE:NAME"),
        flag("lsm-mount-context", TEXT, "Specify an LSM mount context to be used during restore"),
    ),
    about="criu(8) does it; --criu names another than the one on PATH.",
)
_LSM_SINCE, _TIME_SINCE = 31600, 31400


class Work(Record):
    """What is being restored: the ``intent``, its ``config``, criu's version, and where the images lie."""

    intent: Intent
    config: Config
    criu: int
    place: Place

    @property
    def container(self) -> Container:
        """The container."""
        return self.intent.container


class Restored:
    """What criu tells while it works: pid and terminal of the container, and the hooks that are due."""

    def __init__(self, work: Work, console_socket: str, spaces: tuple[int, int]) -> None:
        """Take what is restored, who is to get the terminal ("" keeps it), the host's mount namespace and criu's."""
        self.work, self.console_socket, self.spaces, self.master = work, console_socket, spaces, -1

    def told(self, script: str, pid: int, descriptors: list[int]) -> None:
        """Do what belongs to the moment that criu names."""
        if script == "setup-namespaces":
            linux = self.work.config.linux
            network = linux.namespace("network") if linux else None
            if network and not network.path:
                plan = compiler.loopback(pid)
                launch.start(encode(plan), plan.causes)
            self._run_hooks(pid)
        elif script == "post-restore":
            # Before it runs on: killed here, delete must find it.
            record(self.work.container, pid)
        elif script == "orphan-pts-master" and descriptors:
            if self.console_socket:
                send_terminal(self.console_socket, descriptors[0])
            else:
                self.master = os.dup(descriptors[0])

    def _run_hooks(self, pid: int) -> None:
        configured = self.work.config.hooks
        if configured is None:
            return
        from pyrkt.runtime import hooks  # noqa: PLC0415 - containers with hooks are rare

        state = containers.state_document(self.work.container, Status(name=CREATING, pid=pid))
        namespaces.enter(self.spaces[0], "mount")
        try:
            for kind, wanted in (("prestart", configured.prestart), ("createRuntime", configured.create_runtime)):
                hooks.run_all(wanted, state, kind, _raise)
        finally:
            namespaces.enter(self.spaces[1], "mount")


def _raise(error: PyrktError) -> None:
    raise error


def main(settings: Settings, values: dict[str, Any], arguments: list[str]) -> int:
    """Have it restored; in the foreground stage1 takes this process's place then."""
    defaults = {"config": "config.json", "pidfd-socket": "", "no-new-keyring": False, "preserve-fds": 0}
    detached = values["detach"]
    place = snapshot.place_of(values, "restore.log")
    # This process changes its mount namespace, and with that its directory.
    for name in ("console-socket", "pid-file"):
        values[name] = os.path.abspath(values[name]) if values[name] else ""
    intent = launching.decide(settings, defaults | values, arguments[0], verb="restore", detached=detached)
    config = parse_config(intent.config)
    snapshot.check_namespaces(config)
    version = criu.version(settings.criu)
    if version < _LSM_SINCE and (values["lsm-profile"] or values["lsm-mount-context"]):
        raise PyrktError("--lsm-profile and --lsm-mount-context require at least CRIU 3.16")
    if not os.path.isdir(place.images):
        hint = "--image-path is the directory of a checkpoint"
        raise NotFound(f"open {place.images}: no such file or directory", hint=hint)
    work = Work(intent=intent, config=config, criu=version, place=place)
    options = snapshot.options(values, place, intent.container.annotations) + _options(work, values)
    descriptor = launching.remember(intent)
    try:
        pid, master = _restore(settings, values, work, options)
    except BaseException:
        launching.give_up(settings, intent.container)
        raise
    if not detached:
        _watch(settings, work, pid, master)
    os.close(descriptor)
    return 0


def _options(work: Work, values: dict[str, Any]) -> list[tuple[int, wire.Value]]:
    found: list[tuple[int, wire.Value]] = [
        (Options.ROOT, work.container.rootfs),
        (Options.EVASIVE_DEVICES, 1),
        (Options.RST_SIBLING, 1),
    ]
    for name, source in mounts(work):
        found.append((Options.EXT_MNT, wire.encode([(1, name), (2, source)])))
    for name, number in (("lsm-profile", Options.LSM_PROFILE), ("lsm-mount-context", Options.LSM_MOUNT_CONTEXT)):
        if values[name]:
            found.append((number, values[name]))
    names = snapshot.load(work.place, snapshot.DESCRIPTORS)
    if names is None:
        path = f"{work.place.images}/{snapshot.DESCRIPTORS}"
        raise NotFound(f"open {path}: no such file or directory", hint="is that the directory of a checkpoint?")
    for number, text in enumerate(Reader(names, snapshot.DESCRIPTORS).texts()[:3]):
        if "pipe:" in text:
            found.append((Options.INHERIT_FD, wire.encode([(1, text), (2, number)])))
    return found


def mounts(work: Work) -> list[tuple[str, str]]:
    """Return (name in the images, path on this host) of what is mounted from outside the container."""
    config, bundle = work.config, work.container.bundle
    sources = {
        mount.destination: os.path.normpath(os.path.join(bundle, mount.source))
        for place, mount in enumerate(config.mounts)
        if snapshot.is_bind(config, place)
    }
    saved = snapshot.load(work.place, snapshot.MOUNTS)
    found: list[tuple[str, str]] = []
    if saved is None:  # a checkpoint of another runtime: it calls them as config.json does
        found = [(os.path.normpath(destination), source) for destination, source in sources.items()]
    for item in Reader(saved, snapshot.MOUNTS).items() if saved is not None else ():
        destination = item["of"].text()
        if destination not in sources:
            raise InvalidSpec(
                f"has no bind mount on {destination}, which the checkpoint has",
                document="config.json",
                where="mounts",
                hint="restore with the bundle that was checkpointed",
            )
        found.append((item["name"].text(), sources[destination] + item["below"].text("")))
    if config.linux and config.linux.masked_paths:
        found.append((snapshot.NULL, snapshot.NULL))
    return found + [(device, device) for device in snapshot.devices(config)]


def _restore(
    settings: Settings, values: dict[str, Any], work: Work, options: list[tuple[int, wire.Value]]
) -> tuple[int, int]:
    """Make the container's cgroups and mount points, let criu restore it there; return its pid and terminal, or -1."""
    container = work.container
    holder = launching.hold(work.intent)
    plan = compiler.mount_points(work.config, container.bundle, kernel_host.probe(), container.cgroup)
    launch.start(encode(plan), plan.causes)
    if not values["detach"]:
        process.adopt_orphans()  # criu makes the container a child of its own parent
    here = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    namespaces.unshare(namespaces.CLONE_NEWNS)
    spaces = (here, os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC))
    try:
        restored = Restored(work, values["console-socket"], spaces)
        answer = _converse(settings, work, restored, options, holder)
    finally:
        namespaces.enter(here, "mount")
    if not answer.success:
        raise criu.failure(answer, work.place.log_path)
    _finish(work, answer.pid, values["pid-file"])
    return answer.pid, restored.master


def _converse(
    settings: Settings, work: Work, restored: Restored, options: list[tuple[int, wire.Value]], holder: int
) -> Answer:
    """Start criu in the container's cgroups and this mount namespace, and have it restore the container."""
    container = work.container
    options = options + snapshot.directories(work.place)
    opened, options = _joined(work.config, options)
    ours, number = criu.connection()
    try:
        env = tuple(f"{name}={value}" for name, value in os.environ.items())
        plan = compiler.worker(container.rootfs, container.cgroup, (settings.criu, "swrk", str(number)), env)
        pid = launch.start(encode(plan), plan.causes, holder=holder)
        for descriptor in (number, *opened):
            os.close(descriptor)
        answer = criu.converse(ours, criu.RESTORE, [*options, *_cgroups_of(pid)], restored.told)
    finally:
        ours.close()
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # detached: it was our subreaper's
    return answer


def _joined(config: Config, options: list[tuple[int, wire.Value]]) -> tuple[list[int], list[tuple[int, wire.Value]]]:
    """Return the open namespaces that the container comes back to, and the options with them."""
    opened: list[int] = []
    outside = snapshot.external(config)
    for kind, path in outside:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            raise NotFound(f"Requested {kind} namespace {path} does not exist") from None
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - positional only
        opened.append(descriptor)
        options = [*options, (Options.INHERIT_FD, wire.encode([(1, snapshot.key(kind)), (2, descriptor)]))]
    for space in config.linux.namespaces if config.linux else ():
        if space.path and (space.type, space.path) not in outside:
            member = wire.encode([(1, namespaces.FILES[space.type]), (2, space.path)])
            options = [*options, (Options.JOIN_NS, member)]
    return opened, options


def _cgroups_of(pid: int) -> list[tuple[int, wire.Value]]:
    """Return where criu is: in the container's cgroups, below which it puts what it restores."""
    found: list[tuple[int, wire.Value]] = []
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            members = [wire.encode([(1, name), (2, path)]) for name in controllers.split(",")]
            found += [(Options.CG_ROOT, member) for member in members]
    return found


def record(container: Container, pid: int) -> None:
    """Write which process is the container's first one."""
    write_file(container.path("pid"), f"{pid} {process.start_time(pid)}", mode=0o600)


def _finish(work: Work, pid: int, pid_file: str) -> None:
    container, config = work.container, work.config
    record(container, pid)
    if work.criu >= _TIME_SINCE and namespaces.identity(pid, "time") != namespaces.identity("self", "time"):
        # criu keeps its clocks going on by a time namespace: who joins the container has to join that, too.
        linux = config.linux or Linux()
        if linux.namespace("time") is None:
            linux = linux.replace(namespaces=(*linux.namespaces, Namespace(type="time")))
            config = config.replace(linux=linux)
            write_file(container.path("config.json"), fastjson.dumps(config.dump()), mode=0o600)
    if pid_file:
        write_file(pid_file, str(pid), mode=0o644)


def send_terminal(path: str, master: int) -> None:
    """Send the master of the container's terminal to who listens on the console socket."""
    to = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        to.connect(path)
        to.sendmsg([b"/dev/ptmx"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, master.to_bytes(4, "little"))])
    finally:
        to.close()


def _watch(settings: Settings, work: Work, pid: int, master: int) -> None:
    """Become stage1, which is the container's supervisor to its end."""
    container = work.container
    place = PlanPlace(
        id=container.id,
        after_unlink=launching.traces(container.directory),
        after_rmdir=(container.directory,),
        on_failure=launching.program_words(settings, "failed", "run", container.id),
    )
    if master >= 0:
        os.set_inheritable(master, True)  # noqa: FBT003 - positional only
    plan = compiler.adopted(work.config, container.bundle, kernel_host.probe(), container.cgroup, place, pid, master)
    launch.run(encode(plan), plan.causes)
