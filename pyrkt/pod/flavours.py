"""Stage1 flavours: who makes the container of an app.

``native`` is stage1 itself, ``fly`` the same with next to no walls around the app, and the others are OCI runtimes of
the host, which get the same bundle.
"""

from __future__ import annotations

import os
import stat
import subprocess

from pyrkt.base import fastjson, log
from pyrkt.base.errors import InvalidSpec, NoPermission, NotFound, UsageError
from pyrkt.base.reader import Reader
from pyrkt.base.record import Record
from pyrkt.bundle.write import config_text
from pyrkt.kernel import mount
from pyrkt.kernel.process import start_time
from pyrkt.plan import foreign
from pyrkt.pod.flavour import FOREIGN, read_flavour
from pyrkt.spec.runtime import Linux, Mount, Namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Never

    from pyrkt.bundle.assemble import Bundle
    from pyrkt.kernel.host import Host
    from pyrkt.plan.place import Place
    from pyrkt.plan.steps import Plan
    from pyrkt.pod.ask import PodAsk
    from pyrkt.pod.directory import Pod
    from pyrkt.pod.enter import Wish
    from pyrkt.pod.flavour import Flavour
    from pyrkt.spec.layout import OverlayRoot
    from pyrkt.spec.runtime import Config

NATIVE, FLY, CRUN, RUNC, RUNSC = "native", "fly", "crun", "runc", "runsc"
NAMES = (NATIVE, FLY, *FOREIGN)
STATE = "runtime"
"""The directory of a pod in which the runtime keeps what it knows of the apps."""
_HELD = {"user": 100, "pid": 101, "ipc": 102, "uts": 103, "network": 104}
"""The descriptors of the pod's namespaces in an app's supervisor (stage1, POD)."""
_GUESTS_OWN = ("pid", "ipc", "uts")
"""What an app in gVisor has of its own: its kernel cannot share these with another."""
_DELETE_S = 60
_NULL = os.makedev(1, 3)


def find(name: str) -> str:
    """Return the absolute path of the runtime ``name`` on the PATH. Raises: NotFound."""
    for directory in os.environ.get("PATH", os.defpath).split(":"):
        path = f"{directory}/{name}"
        if directory.startswith("/") and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise NotFound(f"--stage1={name}: there is no {name} on the PATH", hint=f"apt-get install {name}")


def check(ask: PodAsk) -> None:
    """Refuse what a flavour cannot do, in one line. Raises: UsageError, NoPermission."""
    flavour = ask.flavour
    if flavour.name == NATIVE:
        return
    if os.geteuid():
        raise NoPermission(f"--stage1={flavour.name} needs root", hint="--stage1=native needs none")
    if ask.private_users:
        raise UsageError(f"--stage1={flavour.name} and --private-users exclude each other", hint="--stage1=native")
    if flavour.name in (FLY, RUNSC) and len(ask.apps) > 1:
        why = "an app in gVisor shares nothing with others" if flavour.name == RUNSC else "as rkt has it"
        raise UsageError(
            f"--stage1={flavour.name} is for a pod of one app: {why}", hint="a pod for each, or --stage1=native"
        )
    if flavour.is_foreign and any("tty" in {app.stdin, app.stdout, app.stderr} for app in ask.apps):
        raise UsageError(f"--stage1={flavour.name} has no terminals to attach to", hint="--stage1=native has")
    if flavour.name == RUNSC and ask.interactive:
        raise UsageError("--stage1=runsc relays no terminal", hint="--stage1=crun or native does")


# --- fly -------------------------------------------------------------------------------------------------------------

_FLY_MOUNTS = (
    Mount(destination="/dev", type="none", source="/dev", options=("rbind",)),
    Mount(destination="/proc", type="none", source="/proc", options=("rbind",)),
    Mount(destination="/sys", type="none", source="/sys", options=("rbind",)),
    Mount(destination="/tmp", type="tmpfs", source="tmpfs", options=("mode=1777",)),
)


def composed(flavour: Flavour, bundle: Bundle) -> Bundle:
    """Return ``bundle`` as its flavour has it: for fly a root directory of its own, and hardly more."""
    if flavour.name != FLY:
        return bundle
    from dataclasses import replace  # noqa: PLC0415 - Bundle is one; nobody else here needs them

    config = bundle.config
    linux = config.linux or Linux()
    kept = tuple(each for each in linux.namespaces if each.type in ("mount", "network"))
    system = {"/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup"}
    own = tuple(each for each in config.mounts if each.type == "bind" or each.destination not in system)
    covered = {each.destination for each in own}
    resources = linux.resources.replace(devices=()) if linux.resources else None
    # The host's /dev has every node already.
    linux = linux.replace(namespaces=kept, resources=resources, sysctl={}, devices=())
    mounts = (*(each for each in _FLY_MOUNTS if each.destination not in covered), *own)
    process = config.process.replace(no_new_privileges=False) if config.process else None
    return replace(bundle, config=config.replace(linux=linux, mounts=mounts, hostname="", process=process))


# --- OCI runtimes ----------------------------------------------------------------------------------------------------


def container_id(uuid: str, app: str, part: str) -> str:
    """Return the name of a container in the runtime; ``part`` is "plan" for the app, else the handler's plan."""
    return f"pyrkt-{uuid}-{app}{'' if part == 'plan' else '-' + part.removesuffix('.plan')}"


def bundle_of(home: str, part: str) -> str:
    """Return the directory of the bundle that the runtime is given, below an app's directory ``home``."""
    return f"{home}/bundles/{'main' if part == 'plan' else part.removesuffix('.plan')}"


def words(flavour: Flavour, state: str) -> tuple[str, ...]:
    """Return the beginning of every command line of the runtime, whose state is in the directory ``state``."""
    return (flavour.program, "--root", state)


def _network(flavour: Flavour, config: Config) -> tuple[str, ...]:
    """Return the flag that gVisor needs: it has a network stack of its own, or the host's, or none but a loopback."""
    if flavour.name != RUNSC:
        return ()
    given = config.linux.namespace("network") if config.linux else None
    return (f"--network={'host' if given is None else 'sandbox' if given.path else 'none'}",)


def handed(flavour: Flavour, config: Config, home: str) -> Config:
    """Return ``config`` as the runtime gets it: with the pod's namespaces by path, and no path that is relative."""
    linux = config.linux or Linux()
    spaces = tuple(_namespace(flavour, each, home) for each in linux.namespaces if each.type != "user")
    mounts = tuple(
        each.replace(source=f"{home}/{each.source}")
        if {"bind", "rbind"} & {each.type, *each.options} and not each.source.startswith("/")
        else each
        for each in config.mounts
    )
    root = config.root.replace(path=f"{home}/rootfs") if config.root else None
    if flavour.name != RUNSC:  # the pod's own have these already
        config = config.replace(hostname="", domainname="")
        linux = linux.replace(sysctl={})
    return config.replace(linux=linux.replace(namespaces=spaces), mounts=mounts, root=root, hooks=None)


def _namespace(flavour: Flavour, given: Namespace, home: str) -> Namespace:
    own = given.type not in _HELD
    if flavour.name == RUNSC:
        own = own or given.type in _GUESTS_OWN or not given.path
    return given.replace(path="" if own else f"{home}/ns/{given.type}")


def held(config: Config) -> tuple[tuple[int, str], ...]:
    """Return the descriptors of the pod's namespaces that ``config`` names, each with the path that it has there."""
    found = config.linux.namespaces if config.linux else ()
    return tuple((_HELD[each.type], each.path) for each in found if each.path)


class Whose(Record):
    """Which container a plan is of: the app's directory ``home``, and ``part``, "plan" or the plan of a handler."""

    home: str
    part: str


def plan(flavour: Flavour, config: Config, whose: Whose, root: OverlayRoot | None, place: Place, host: Host) -> Plan:
    """Return the plan by which the runtime runs a container."""
    home, part = whose.home, whose.part
    path, _, app = home.rpartition("/apps/")
    given = handed(flavour, config, home)
    if given.process is None:
        raise InvalidSpec("has no process", document=f"{home}/config.json", where="process")
    begin = words(flavour, f"{path}/{STATE}")
    name = container_id(os.path.basename(path), app, part)
    return foreign.app(
        foreign.Commands(
            run=(*begin, *_network(flavour, config), "run", "--bundle", bundle_of(home, part), name),
            delete=(*begin, "delete", "--force", name),
            # Without a terminal it keeps signals to itself.
            tell=(*begin, "kill", name, "{signal}") if flavour.name == RUNSC else (),
        ),
        (f"{home}/rootfs", root),
        held(given),
        given.process,
        place,
        hidden=_hidden(flavour, host),
    )


def _hidden(flavour: Flavour, host: Host) -> tuple[str, ...]:
    """Return the host's directories that the runtime must not see: crun goes on strike over a hybrid's version 2."""
    unified = tuple(point for point, options, _ in host.cgroup_mounts if not options)
    return unified if flavour.name == CRUN and len(host.cgroup_mounts) > len(unified) else ()


def text(flavour: Flavour, config: Config, home: str) -> str:
    """Return the config.json that the runtime is given."""
    return config_text(handed(flavour, config, home))


def forget(pod: Pod) -> None:
    """Let the runtime of a pod that has ended take away what is left of its apps; what fails is warned of."""
    try:
        flavour = read_flavour(pod.path)
    except InvalidSpec as error:
        log.warn(error.message)
        return
    if not flavour.is_foreign or not os.path.isdir(f"{pod.path}/{STATE}") or not os.listdir(f"{pod.path}/{STATE}"):
        return
    for name in sorted(os.listdir(f"{pod.path}/apps")):
        for part in ("plan", "pre-start.plan", "post-stop.plan"):
            if os.path.isdir(bundle_of(f"{pod.path}/apps/{name}", part)):
                _delete(flavour, f"{pod.path}/{STATE}", container_id(pod.uuid, name, part))


def _delete(flavour: Flavour, state: str, name: str) -> None:
    command = [*words(flavour, state), "delete", "--force", name]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_DELETE_S, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warn(f"{flavour.name} could not delete {name}: {error}")
        return
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        log.warn(f"{flavour.name} could not delete {name}: {said}")


def first_process(flavour: Flavour, pod: Pod, app: str) -> tuple[int, int]:
    """Return (pid, start time) of the app's first process on the host, as the runtime has it; (0, 0) before that."""
    command = [*words(flavour, f"{pod.path}/{STATE}"), "state", container_id(pod.uuid, app, "plan")]
    done = subprocess.run(command, capture_output=True, timeout=_DELETE_S, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        return 0, 0
    pid = Reader(fastjson.loads(done.stdout, f"{flavour.name} state"), f"{flavour.name} state")["pid"].integer(
        0, 1 << 22, 0
    )
    started = start_time(pid) if pid else 0
    return (pid, started) if started else (0, 0)


def enter_guest(pod: Pod, app: str, wish: Wish) -> Never:
    """Become the runtime that runs what ``wish`` says in an app that has a kernel of its own.

    Raises: UsageError for what gVisor cannot; NotFound if the app is not running.
    """
    flavour = read_flavour(pod.path)
    if not first_process(flavour, pod, app)[0]:
        raise NotFound(f"app {app!r} of pod {pod.uuid} is not running", hint=f"pyrkt status {pod.uuid[:8]}")
    user = "0" if wish.user == "root" else wish.user
    if user and not all(part.isdecimal() for part in user.split(":")):
        raise UsageError(f"--user={wish.user}: gVisor knows users by number only", hint="--user=UID:GID")
    flags = [f"--env={pair}" for pair in wish.env] + ([f"--user={user}"] if user else [])
    flags += [f"--cwd={wish.cwd}"] if wish.cwd else []
    flags += ["--detach"] if wish.detach else []
    begin = words(flavour, f"{pod.path}/{STATE}")
    command = wish.command or ("/bin/sh",)
    argv = [*begin, "exec", *flags, container_id(pod.uuid, app, "plan"), *command]
    _keep_null()
    os.execv(flavour.program, argv)  # noqa: S606 - to become it is the point


def _keep_null() -> None:
    """Put a null device of its own in the place of the host's: gVisor gives what it gets to the container's user."""
    found = [number for number in range(3) if _is_null(number)]
    if not found:
        return
    directory = mount.new_filesystem("tmpfs", (("size", "4k"),))
    os.mknod("null", 0o600 | stat.S_IFCHR, _NULL, dir_fd=directory)
    own = os.open("null", os.O_RDWR | os.O_CLOEXEC, dir_fd=directory)
    for number in found:
        os.dup2(own, number)
    os.close(own)
    os.close(directory)


def _is_null(number: int) -> bool:
    try:
        status = os.fstat(number)
    except OSError:
        return False
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == _NULL
