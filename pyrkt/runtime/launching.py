"""What ``create`` and ``run`` have in common: from a bundle on disk to a plan that stage1 can carry out.

Everything is decided, and refused, before the first thing is made; then the container's state is written; then stage1
acts. What it makes is named in the state, so that ``delete --force`` finds it after a kill at any moment.
"""

from __future__ import annotations

import os
import sys

from pyrkt.base import fastjson
from pyrkt.base.errors import InvalidSpec, NotFound, PyrktError, UsageError
from pyrkt.base.record import Record
from pyrkt.kernel import host as kernel_host
from pyrkt.plan import compile as compiler
from pyrkt.plan.place import Place
from pyrkt.plan.steps import Plan, encode
from pyrkt.runtime import container as containers
from pyrkt.runtime import placing
from pyrkt.runtime.container import Container
from pyrkt.runtime.options import NUMBER, SWITCH, TEXT, flag
from pyrkt.spec import steps
from pyrkt.spec.layout import CgroupLayout, ResctrlLayout
from pyrkt.spec.runtime import Config, parse_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.runtime.main import Settings
    from pyrkt.runtime.scope import Scope

MAX_CONFIG = 16 << 20
FLAGS = (
    flag("bundle b", TEXT, "path to the root of the bundle directory, defaults to the current directory"),
    flag(
        "console-socket",
        TEXT,
        "path to an AF_UNIX socket which will receive a file descriptor referencing the master end of the console's "
        "pseudoterminal",
    ),
    flag("pidfd-socket", TEXT, "path to an AF_UNIX socket which will receive a pidfd of the container's first process"),
    flag("pid-file", TEXT, "specify the file to write the process id to"),
    flag("config f", TEXT, "the name of the configuration in the bundle (as crun has it)", "config.json"),
    flag("no-pivot", SWITCH, "do not use pivot root, for a root file system on a ramdisk"),
    flag("no-new-keyring", SWITCH, "keep the calling processes' session keyring"),
    flag("preserve-fds", NUMBER, "pass N additional file descriptors to the container"),
)


class Intent(Record):
    """What is about to be done: the container to remember, the bytes of its configuration, the plan.

    ``fifo`` tells whether the container waits to be started; ``scope`` is the unit to ask systemd for.
    """

    container: Container
    config: bytes
    plan: Plan
    fifo: bool
    preserve_fds: int
    scope: Scope | None = None


def program_words(settings: Settings, *words: str) -> tuple[str, ...]:
    """Return the command line that runs a verb of this very program."""
    entry = os.path.join(os.path.dirname(__file__), "entry.py")
    return (sys.executable, "-I", "-S", entry, *settings.words, *words)


def read_config(bundle: str, name: str) -> tuple[bytes, Config, str]:
    """Return the file ``name`` of the bundle, as it lies there and as it reads, and the path of its root."""
    try:
        data = containers.read_file(os.path.join(bundle, name), MAX_CONFIG)
    except FileNotFoundError:
        raise NotFound(
            f"JSON specification file {name} not found", hint=f"is {bundle} a bundle? give it with --bundle"
        ) from None
    try:
        config = parse_config(data)
    except InvalidSpec as error:
        if error.where != "ociVersion":
            raise
        data, config = _of_2015(bundle, data, error)
    if config.root is None:
        raise InvalidSpec("is required", document="config.json", where="root")
    path = os.path.normpath(os.path.join(bundle, config.root.path))
    if os.path.realpath(path) == "/":  # the compiler knows no links; with them every container would be the host
        raise InvalidSpec("the host's root cannot be the container's", document="config.json", where="root.path")
    return data, config, path


def _of_2015(bundle: str, data: bytes, error: InvalidSpec) -> tuple[bytes, Config]:
    """Return what a bundle with a runtime.json beside its config.json says, as of today; ``error`` if it is none."""
    from pyrkt.spec import pair  # noqa: PLC0415 - nobody pays for ten years ago but who is from there

    if not pair.is_old(fastjson.loads(data, pair.CONFIG)):
        raise error
    try:
        runtime = containers.read_file(os.path.join(bundle, pair.RUNTIME), MAX_CONFIG)
    except FileNotFoundError:
        raise NotFound(
            f"JSON specification file {pair.RUNTIME} not found", hint=f"{pair.CONFIG} of OCI 0.x is half of a pair"
        ) from None
    config = pair.parse_pair(data, runtime)
    return fastjson.dumps(config.dump()).encode(), config


def check_terminal(settings: Settings, config: Config, console_socket: str, *, detached: bool) -> None:
    """Refuse a terminal that nobody could reach, and a console socket that nobody needs, in runc's words."""
    terminal = config.process is not None and config.process.terminal
    if detached and terminal and not console_socket:
        raise UsageError(
            f"cannot allocate tty if {settings.program} will detach without setting console socket",
            hint="give --console-socket",
        )
    if console_socket and not (detached and terminal):
        raise UsageError(f"cannot use console socket if {settings.program} will not detach or allocate tty")


def _passed_sockets() -> int:
    """Return how many sockets systemd passes to us, sd_listen_fds(3); the container gets them as its own."""
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not (count.isascii() and count.isdigit()):
        return 0
    return int(count)


def preserved(count: int, sockets: int = 0) -> int:
    """Return how many descriptors from 3 on the container gets: ``sockets`` and then ``count`` more.

    Raises: UsageError if the caller has not handed one of them to us. What we opened ourselves closes at exec, what
    was inherited does not; without the difference a wrong number would hand the host's files to the container.
    """
    for number in range(3, 3 + sockets + count):
        try:
            reason = "" if os.get_inheritable(number) else "bad file descriptor"
        except OSError:
            reason = "bad file descriptor"
        if reason:
            raise UsageError(
                f"unable to stat preserved-fd {number - 3 - sockets} (of {count}): {reason}",
                hint=f"descriptor {number} was promised by --preserve-fds or LISTEN_FDS, and is not open",
            )
    return max(0, sockets + count)


def _with_sockets(config: Config, sockets: int) -> Config:
    if not sockets or config.process is None:
        return config
    env = (*config.process.env, f"LISTEN_FDS={sockets}", "LISTEN_PID=1")
    return config.replace(process=config.process.replace(env=env))


def decide(settings: Settings, values: dict[str, Any], name: str, *, verb: str, detached: bool) -> Intent:
    """Return what to do to create the container ``name`` (and, for "run", to start it). Changes nothing.

    Raises: InvalidSpec, NoPermission and the like, before anything has been made.
    """
    containers.check_id(name)
    bundle = os.path.abspath(values["bundle"] or ".")
    data, config, rootfs = read_config(bundle, values["config"])
    if config.process is None and verb == "run":
        raise InvalidSpec("process property must not be empty", document="config.json", where="process")
    check_terminal(settings, config, values["console-socket"], detached=detached)
    sockets = _passed_sockets()
    preserve_fds = preserved(values["preserve-fds"], sockets)
    config = _with_sockets(config, sockets)
    host = kernel_host.probe()
    rootless = settings.rootless == "true" or (settings.rootless == "auto" and not host.privileged)
    layout, scope = CgroupLayout(), None
    if not settings.no_cgroups:
        layout, scope = placing.layout_of(config, name, host, rootless=rootless, systemd=settings.systemd_cgroup)
    directory = f"{settings.root}/{name}"
    if not os.path.lexists(f"{directory}/state.json"):  # else the id is taken, which is the error
        layout = placing.ready(layout)
    fifo, keep = verb == "create", values.get("keep", False)
    place = Place(
        id=name,
        pid_file=os.path.abspath(values["pid-file"]) if values["pid-file"] else "",
        pidfd_socket=os.path.abspath(values["pidfd-socket"]) if values["pidfd-socket"] else "",
        record_file=f"{directory}/pid",
        exec_fifo=f"{directory}/exec.fifo" if fifo else "",
        console_socket=os.path.abspath(values["console-socket"]) if values["console-socket"] else "",
        foreground=not detached,
        after_unlink=() if detached else traces(directory),
        after_rmdir=() if detached else (directory,),
        keep=keep,
        preserve_fds=preserve_fds,
        on_failure=() if detached else program_words(settings, "failed", "run", name),
        no_pivot=values["no-pivot"],
        host_network=_joins(config) and _checked_network(config),
        resctrl=_resctrl(config, name),
        keyring="" if values["no-new-keyring"] else f"_ses.{name}",
    )
    plan = compiler.container(config, bundle, host, layout, place, seccomp=compiled_filter(config, settings))
    return Intent(
        container=Container(
            directory=directory,
            id=name,
            bundle=bundle,
            rootfs=rootfs,
            mounts_before=_mounts_before(config, rootfs),
            oci_version=config.oci_version,
            created=containers.now(),
            annotations=config.annotations,
            cgroup=layout,
            own_pids=config.linux is not None and any(n.type == "pid" and not n.path for n in config.linux.namespaces),
            hooks=_hooks_left(config, detached=detached, keep=keep),
            startable=config.process is not None,
            resctrl=place.resctrl,
        ),
        config=data,
        plan=plan,
        fifo=fifo,
        preserve_fds=preserve_fds,
        scope=scope,
    )


def _resctrl(config: Config, name: str) -> ResctrlLayout:
    if config.linux is None or config.linux.intel_rdt is None:
        return ResctrlLayout()
    from pyrkt.cgroup import resctrl  # noqa: PLC0415 - few hosts have it

    return resctrl.layout(config.linux.intel_rdt, name, resctrl.probe())


def _joins(config: Config) -> bool:
    """Tell whether the config asks for what depends on a namespace that it joins by path."""
    linux = config.linux
    if linux is None or not (linux.sysctl or linux.uid_mappings):
        return False
    return any(space.path for space in linux.namespaces)


def _checked_network(config: Config) -> bool:
    from pyrkt.runtime import joined  # noqa: PLC0415 - few containers do

    assert config.linux is not None  # noqa: S101 - _joins() has looked
    joined.check_maps(config.linux)
    return joined.host_network(config.linux)


def _mounts_before(config: Config, rootfs: str) -> int:
    if config.linux and any(namespace.type == "mount" for namespace in config.linux.namespaces):
        return -1
    return kernel_host.mounts_on(os.path.realpath(rootfs))


def compiled_filter(config: Config, settings: Settings) -> bytes:
    """Return linux.seccomp as BPF instructions; nothing without one."""
    if config.linux is None or config.linux.seccomp is None:
        return b""
    from pyrkt.runtime import filters  # noqa: PLC0415 - not every container has one

    return filters.compiled(config, settings.root)


def traces(directory: str) -> tuple[str, ...]:
    """Return the files of a container, in the order in which they go."""
    # state.json last: a kill in between must not forget what is left
    return tuple(f"{directory}/{name}" for name in ("pid", "config.json", "quick", "state.json"))


def _hooks_left(config: Config, *, detached: bool, keep: bool) -> tuple[str, ...]:
    """Return the kinds of hooks that stage1 will not run: it leaves, or ends before the container is deleted."""
    if config.hooks is None:
        return ()
    kinds = (
        ("poststart", detached and config.hooks.poststart),
        ("poststop", (detached or keep) and config.hooks.poststop),
    )
    return tuple(kind for kind, hooks in kinds if hooks)


def remember(intent: Intent) -> int:
    """Make the container's directory and write its state; return the descriptor that locks it."""
    container = intent.container
    root = os.path.dirname(container.directory)
    descriptor = containers.claim(root, container.id)
    try:
        containers.save(container, intent.config)
        if any(step.code == steps.HOOK for step in intent.plan.steps):
            os.chdir(container.bundle)  # where runc's hooks are run, too
        if intent.fifo:
            os.mkfifo(container.path("exec.fifo"), 0o600)
            # The container, then another user perhaps, opens it for writing, by a descriptor; nobody else comes here.
            os.chmod(container.path("exec.fifo"), 0o622)  # noqa: S103 - its directory is 0700
    except BaseException:
        containers.forget(container.directory)
        os.close(descriptor)
        raise
    return descriptor


def hold(intent: Intent) -> int:
    """Start the container's unit, if systemd makes its cgroups; return the pidfd of who holds it, -1 for nobody."""
    if intent.scope is None:
        return -1
    from pyrkt.runtime import scope  # noqa: PLC0415 - as above

    return scope.start(intent.scope, intent.container.id)


def plan_bytes(intent: Intent) -> bytes:
    """Return the plan as stage1 reads it."""
    return encode(intent.plan)


def warn(settings: Settings, plan: Plan) -> None:
    """Log what the container will not get, and with --debug every step."""
    for line in plan.warnings:
        settings.log.warning(line)
    show(settings, plan, "init: closing the pipe to signal completion")


def show(settings: Settings, plan: Plan, last: str) -> None:
    """Log every step if --debug asks for it; ``last`` is what runc logs at the end."""
    if not settings.log.debug:
        return
    from pyrkt.plan import explain  # noqa: PLC0415 - for people who look

    # The words of runc's own log at these moments: scripts look for them.
    settings.log.step("nsexec container setup")
    for line in explain.filters(plan):
        settings.log.step(line)
    for line in explain.lines(plan):
        if line == explain.IN_THE_CONTAINER:
            settings.log.step("child process in init()")
        if line:
            settings.log.step(line)
    settings.log.step(last)


def give_up(settings: Settings, container: Container) -> None:
    """Take away a container that could not be set up. What cannot be removed is a warning: the error comes first."""
    from pyrkt.runtime import lifecycle  # noqa: PLC0415 - only failures pay

    try:
        lifecycle.take_away(container, settings.log)
    except PyrktError as error:
        settings.log.warning(f"{error.message}; delete --force {container.id} tries again")
    except OSError as error:
        settings.log.warning(f"{error}; delete --force {container.id} tries again")
