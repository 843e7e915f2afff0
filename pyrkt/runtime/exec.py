"""``exec``: run another process in a running container, confined as its first one is."""

from __future__ import annotations

import os

from pyrkt.base import fastjson
from pyrkt.base.errors import Busy, NotFound, StartFailed, UsageError
from pyrkt.base.reader import Reader
from pyrkt.cgroup import host as cgroup_host
from pyrkt.kernel import host
from pyrkt.plan.place import Place
from pyrkt.plan.steps import encode
from pyrkt.runtime import container as containers
from pyrkt.runtime import joining, launching, lifecycle
from pyrkt.runtime.container import CREATED, PAUSED, RUNNING
from pyrkt.runtime.options import NUMBER, SWITCH, TEXT, TEXTS, Verb, flag
from pyrkt.spec.capabilities import NUMBERS
from pyrkt.spec.runtime import Capabilities, Process
from pyrkt.stage1 import launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.kernel.host import Host
    from pyrkt.runtime.container import Container
    from pyrkt.runtime.main import Settings
    from pyrkt.spec.layout import CgroupLayout
    from pyrkt.spec.runtime import Config, User

VERB = Verb(
    name="exec",
    summary="run another process in a running container",
    arguments="<container-id> <command> [command options]  || -p process.json <container-id>",
    least=1,
    most=-1,
    flags=(
        flag("console-socket", TEXT, "path to an AF_UNIX socket which will receive the terminal"),
        flag("pidfd-socket", TEXT, "path to an AF_UNIX socket which will receive a pidfd of the process"),
        flag("cwd", TEXT, "current working directory in the container"),
        flag("env e", TEXTS, "set environment variables"),
        flag("tty t", SWITCH, "allocate a pseudo-TTY"),
        flag("user u", TEXT, "UID (format: <uid>[:<gid>])"),
        flag("additional-gids g", TEXTS, "additional gids"),
        flag("process p", TEXT, "path to the process.json"),
        flag("detach d", SWITCH, "detach from the container's process"),
        flag("pid-file", TEXT, "specify the file to write the process id to"),
        flag("process-label", TEXT, "set the SELinux label of the process"),
        flag("apparmor", TEXT, "set the apparmor profile for the process"),
        flag("no-new-privs", SWITCH, "set the no new privileges value for the process"),
        flag("cap c", TEXTS, "add a capability to the bounding set for the process"),
        flag("preserve-fds", NUMBER, "pass N additional file descriptors to the container"),
        flag("cgroup", TEXTS, "run the process in an (existing) sub-cgroup(s). Format is [<controller>:]<cgroup>."),
        flag("ignore-paused", SWITCH, "allow exec in a paused container"),
    ),
    ordered=True,
)
FAILURE = ("exec failed: ", 255)
_INHERITED = (
    *("capabilities", "apparmor_profile", "selinux_label", "rlimits"),
    *("io_priority", "scheduler", "exec_cpu_affinity"),
)
_MAX_ID = (1 << 32) - 2


def main(settings: Settings, values: dict[str, Any], arguments: list[str]) -> int:
    """Decide, and let stage1 act; in the foreground that never returns."""
    if unknown := [name for name in values["cap"] if name not in NUMBERS]:
        settings.log.warning(f"ignoring unknown or unavailable capabilities: [{' '.join(unknown)}]")
    container = containers.load(settings.root, arguments[0])
    current = containers.status(container)
    if current.name == PAUSED and not values["ignore-paused"]:
        raise Busy("cannot exec in a paused container (use --ignore-paused to override)")
    if current.name not in (CREATED, RUNNING, PAUSED):
        raise NotFound("cannot exec in a stopped container")
    return _launch(settings, values, container, arguments[1:])


def _launch(settings: Settings, values: dict[str, Any], container: Container, command: list[str]) -> int:
    first = containers.recorded_pid(container.directory)
    config = lifecycle.config_of(container)
    config = config.replace(process=wanted_process(config, values, command))
    launching.check_terminal(settings, config, values["console-socket"], detached=values["detach"])
    preserve_fds = launching.preserved(values["preserve-fds"])
    place = Place(
        id=container.id,
        pid_file=os.path.abspath(values["pid-file"]) if values["pid-file"] else "",
        pidfd_socket=os.path.abspath(values["pidfd-socket"]) if values["pidfd-socket"] else "",
        console_socket=os.path.abspath(values["console-socket"]) if values["console-socket"] else "",
        foreground=not values["detach"],
        preserve_fds=preserve_fds,
        on_failure=() if values["detach"] else launching.program_words(settings, "failed", "exec", container.id),
        keyring=f"_ses.{container.id}",
        first_pid=first[0],
        resctrl=container.resctrl,
    )
    facts = host.probe()
    plan = joining.plan_of(
        joining.joined(config, first[0]),
        container.bundle,
        facts,
        cgroups(container.cgroup, values["cgroup"], first[0], facts),
        place,
        launching.compiled_filter(config, settings),
        first,
    )
    launching.show(settings, plan, "setns_init: about to exec")
    if container.cgroup.bus:
        from pyrkt.runtime import scope  # noqa: PLC0415 - only for what systemd made

        scope.enter(container.cgroup)
    if not values["detach"]:
        launch.run(encode(plan), plan.causes)
    try:
        launch.start(encode(plan), plan.causes, preserve_fds=preserve_fds)
    except StartFailed as error:
        from pyrkt.runtime import failed  # noqa: PLC0415 - only failures pay

        raise failed.in_runcs_words(error, plan) from None
    return 0


def cgroups(layout: CgroupLayout, asked: list[str], pid: int, facts: Host) -> CgroupLayout:
    """Return the cgroups that the process enters: the container's, unless --cgroup or the kernel wants others."""
    if asked:
        from pyrkt.runtime import subcgroups  # noqa: PLC0415 - people ask for it, engines do not

        return subcgroups.asked_for(layout, asked)
    if layout.clone_into and cgroup_host.hands_down(layout.clone_into):
        from pyrkt.runtime import subcgroups  # noqa: PLC0415 - few containers manage cgroups of their own

        return subcgroups.with_room(layout, pid, facts)
    return layout


def wanted_process(config: Config, values: dict[str, Any], command: list[str]) -> Process:
    """Return the process that the flags describe, or the file of --process; the rest is the first process'.

    Raises: UsageError, InvalidSpec.
    """
    if values["process"]:
        path = values["process"]
        data = containers.read_given(path, fastjson.MAX_SIZE)
        return completed(Process.parse(Reader(fastjson.loads(data, path), path)), config.process)
    if not command:
        raise UsageError("process args cannot be empty")
    if config.process is None:
        raise UsageError("the container's config.json has no process to take after", hint="give one with --process")
    given = config.process
    changes: dict[str, Any] = {
        "args": tuple(command),
        "terminal": values["tty"],
        "env": (*given.env, *map(_variable, values["env"])),
        "user": _user(given.user, values["user"], values["additional-gids"]),
    }
    for name, field in (("cwd", "cwd"), ("process-label", "selinux_label"), ("apparmor", "apparmor_profile")):
        if values[name]:
            changes[field] = values[name]
    if values["no-new-privs"]:
        changes["no_new_privileges"] = True
    if values["cap"]:
        changes["capabilities"] = _with_capabilities(given.capabilities, values["cap"])
    return given.replace(**changes)


def completed(wanted: Process, first: Process | None) -> Process:
    """Return ``wanted`` with what it says nothing about taken from the container's ``first`` process, as runc does."""
    if first is None:
        return wanted
    return wanted.replace(**{name: getattr(first, name) for name in _INHERITED if not getattr(wanted, name)})


def _variable(text: str) -> str:
    name, equals, _ = text.partition("=")
    if not equals:
        raise UsageError(f"invalid environment variable: {text!r}: missing '='", hint="write it as NAME=VALUE")
    if not name:
        raise UsageError(f"invalid environment variable: {text!r}: name cannot be empty", hint="write it as NAME=VALUE")
    return text


def _id(text: str, flag_name: str) -> int:
    # Digits alone: int() takes blanks, underscores and the digits of other scripts.
    if not (text.isascii() and text.isdigit() and int(text) <= _MAX_ID):
        raise UsageError(f"{flag_name}: bad id {text!r}", hint="an id is a decimal number below 4294967295")
    return int(text)


def _user(given: User, text: str, gids: list[str]) -> User:
    changes: dict[str, Any] = {}
    if text:
        uid, colon, gid = text.partition(":")
        changes["uid"] = _id(uid, "--user")
        if colon:
            changes["gid"] = _id(gid, "--user")
    if gids:
        changes["additional_gids"] = (*given.additional_gids, *(_id(gid, "--additional-gids") for gid in gids))
    return given.replace(**changes)


def _with_capabilities(given: Capabilities | None, names: list[str]) -> Capabilities:
    sets = given or Capabilities()
    # As runc: without an inheritable one no ambient capability can be had.
    kinds = ("bounding", "effective", "permitted", *(("ambient",) if sets.inheritable else ()))
    return sets.replace(**{kind: (*getattr(sets, kind), *names) for kind in kinds})
