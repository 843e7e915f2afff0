"""``pyrkt-oci``: finds the verb, reads the flags, tells how it ended."""

from __future__ import annotations

import os
from os import strerror

from pyrkt import __version__
from pyrkt.base.errors import CannotCreate, PyrktError, UsageError
from pyrkt.base.record import Record
from pyrkt.runtime import options
from pyrkt.runtime.options import SWITCH, TEXT, HelpWanted, Verb, flag
from pyrkt.runtime.report import LOG_FLAGS, Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

PROGRAM = "pyrkt-oci"
_CALLED = "--called="
"""How the launcher hands on, as the first word, another name that the caller knows it by: "runc" by a link."""

VERBS = (
    ("checkpoint", "checkpoint a running container"),
    ("create", "create a container from a bundle; it waits to be started"),
    ("delete", "remove what a container holds"),
    ("events", "show what a container uses, and when it runs out of memory"),
    ("exec", "run another process in a running container"),
    ("features", "show what this runtime knows, as JSON"),
    ("kill", "send a signal to a container's first process"),
    ("list", "list the containers"),
    ("pause", "stop every process of a container for a while"),
    ("ps", "show the processes of a container"),
    ("restore", "restore a container from a previous checkpoint"),
    ("resume", "let a paused container go on"),
    ("run", "create a container and start it"),
    ("spec", "write a config.json to start from"),
    ("start", "start the process of a created container"),
    ("state", "show the state of a container, as JSON"),
    ("update", "change the limits of a container"),
)
_HIDDEN = ("failed",)
FLAGS = (
    flag("debug", SWITCH, "log each step before it is done"),
    flag("log", TEXT, "append messages to this file, and errors to standard error too"),
    flag("log-format", TEXT, "text or json", "text"),
    flag("root", TEXT, "directory of the containers' states (on a tmpfs; private to the caller)"),
    flag("criu", TEXT, "the program that checkpoints and restores", "criu"),
    flag("systemd-cgroup", SWITCH, "let systemd manage the cgroups"),
    flag("cgroup-manager", TEXT, "who makes the cgroups: cgroupfs, systemd or disabled (as crun has it)"),
    flag("rootless", TEXT, "true, false or auto: do without what only root may do", "auto"),
    flag("version v", SWITCH, "print the version"),
)


class Settings(Record):
    """The global options: ``root`` of the states, ``log``, ``rootless``, ``criu``, ``words`` that give them again.

    ``program``: the name that the caller knows us by; ``given_root``: the caller named the root; ``no_cgroups``: no
    cgroup is to be made or entered; ``systemd_cgroup``: systemd is to make them.
    """

    root: str
    log: Log
    rootless: str
    criu: str = "criu"
    program: str = PROGRAM
    given_root: bool = True
    no_cgroups: bool = False
    words: tuple[str, ...] = ()
    systemd_cgroup: bool = False


def default_root() -> str:
    """Return where states are kept: /run/pyrkt-oci, or for an ordinary user a place of his own.

    Root of a user namespace is who made that, as for runc: its states are where it finds them from outside.
    """
    # conmon passes XDG_RUNTIME_DIR as an empty string; HOME may be missing altogether.
    runtime_dir = os.environ.get("XDG_RUNTIME_DIR") or ""
    uid = os.geteuid()
    if uid == 0:
        outside = _outside()
        if outside is None:
            return "/run/pyrkt-oci"
        as_outside = bool(runtime_dir) and os.environ.get("USER") != "root"
        if not as_outside and os.access("/run/pyrkt-oci" if os.path.exists("/run/pyrkt-oci") else "/run", os.W_OK):
            return "/run/pyrkt-oci"
        uid = outside
    if not runtime_dir and _is_own(f"/run/user/{uid}"):
        runtime_dir = f"/run/user/{uid}"  # so that a caller without the variable finds the same containers
    return f"{runtime_dir}/pyrkt-oci" if runtime_dir else f"/tmp/pyrkt-oci-{uid}"


def _is_own(directory: str) -> bool:
    try:
        return os.stat(directory).st_uid == os.geteuid()
    except OSError:
        return False


def _outside() -> int | None:
    """Return who root of this user namespace is in the one above; None for root of the host."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as lines:
            maps = [tuple(map(int, line.split())) for line in lines]
    except OSError:
        return None
    if maps == [(0, 0, 4294967295)]:
        return None
    return next((outer for inner, outer, _ in maps if inner == 0), 65534)


def version(program: str = PROGRAM) -> str:
    """Return what ``--version`` prints: dockerd reads its lines."""
    from pyrkt.spec.runtime import SPEC_VERSION  # noqa: PLC0415 - the records of config.json, for this one constant

    return f"{program} version {__version__}\ncommit: {__version__}\nspec: {SPEC_VERSION}"


def _log(values: dict[str, Any]) -> Log:
    log = Log(path=os.path.abspath(values["log"]) if values["log"] else "", form=values["log-format"] or "text")
    if log.form not in {"text", "json"}:
        raise UsageError(f"invalid log-format: {log.form}")
    if log.path:
        try:
            os.close(os.open(log.path, LOG_FLAGS, 0o644))
        except OSError as error:
            raise CannotCreate(f"open {log.path}: {_reason(error.errno or 0)}") from None
    return log.replace(debug=values["debug"])


def _settings(values: dict[str, Any], log: Log, program: str) -> Settings:
    rootless = values["rootless"].lower() or "auto"
    if rootless != "auto":
        meant = options.one_of(values["rootless"])
        if meant is None:
            raise UsageError(f'invalid value "{values["rootless"]}" for flag -rootless', hint="true, false or auto")
        rootless = "true" if meant else "false"
    if values["cgroup-manager"] not in {"", "cgroupfs", "systemd", "disabled"}:
        raise UsageError(
            f'invalid value "{values["cgroup-manager"]}" for flag -cgroup-manager', hint="cgroupfs, systemd or disabled"
        )
    root = os.path.abspath(values["root"] or default_root())
    if root == "/":
        raise UsageError("Option --root argument should not be set to /", hint="states are kept below /run by default")
    words = [] if program == PROGRAM else [_CALLED + program]
    words += ["--root", root, "--log-format", log.form, "--rootless", rootless]
    if log.path:
        words += ["--log", log.path]
    if log.debug:
        words.append("--debug")
    return Settings(
        root=root,
        log=log,
        rootless=rootless,
        program=program,
        criu=values["criu"],
        given_root=bool(values["root"]),
        no_cgroups=values["cgroup-manager"] == "disabled",
        words=tuple(words),
        systemd_cgroup=values["systemd-cgroup"] or values["cgroup-manager"] == "systemd",
    )


def main(words: Sequence[str]) -> int:
    """Run one command line (without the program's name); return the exit code."""
    try:
        return _command(words)
    except OSError as error:  # what was asked for cannot be said: the device is full
        Log().error(_as_ours(error))
        return 1


def _command(words: Sequence[str]) -> int:
    log, program = Log(), PROGRAM
    if words and words[0].startswith(_CALLED):
        program, words = words[0].removeprefix(_CALLED), words[1:]
    try:
        values, rest = options.parse(FLAGS, words, ordered=True)
        if values["version"]:
            options.say(version(program) + "\n")
            return 0
        log = _log(values)
        settings = _settings(values, log, program)
    except HelpWanted:
        return _help(program)
    except PyrktError as error:
        if error.message.startswith("flag "):
            options.say(f"Incorrect Usage. {error.message}\n\n")
            _help(program)
        log.error(error)
        return 1
    if rest in ([], ["help"], ["h"]):
        return _help(program)
    name, *arguments = rest
    if name in {"help", "h"}:
        name, arguments = arguments[0], ["--help"]
    if name not in _HIDDEN and not any(name == known for known, _ in VERBS):
        settings.log.error(UsageError(f"No help topic for '{name}'"))
        return 3
    return _run(name, arguments, settings)


def _help(program: str) -> int:
    options.say(options.help_of_all(VERBS, FLAGS, program, version(program).replace("\n", "\n   ")))
    return 0


def _run(name: str, words: Sequence[str], settings: Settings) -> int:
    # The builtin, since importlib's front costs more than some verbs.
    module = __import__(f"pyrkt.runtime.{name}", fromlist=["VERB", "main"])
    verb: Verb = module.VERB
    act: Callable[[Settings, dict[str, Any], list[str]], int] = module.main
    try:
        values, arguments = options.parse(verb.flags, words, ordered=verb.ordered)
        options.check_count(verb, arguments, settings.program)
    except HelpWanted:
        options.say(options.help_of(verb, settings.program))
        return 0
    except UsageError as error:
        colon = ": " + error.message if error.message.startswith(("flag ", "invalid ")) else "."
        options.say(f"Incorrect Usage{colon}\n\n{options.help_of(verb, settings.program)}")
        settings.log.error(error)
        return 1
    prefix, failure = getattr(module, "FAILURE", ("", 1))
    prefix = prefix.format(settings.program)
    try:
        return act(settings, values, arguments)
    except PyrktError as error:
        settings.log.error(error, prefix)
    except OSError as error:
        settings.log.error(_as_ours(error), prefix)
    except MemoryError:
        settings.log.error(PyrktError("out of memory"), prefix)
    except Exception as error:  # a defect of ours; engines know nothing of tracebacks
        if settings.log.debug:
            raise
        defect = PyrktError(f"{type(error).__name__}: {error}", hint="a defect of pyrkt; --debug shows where")
        settings.log.error(defect, prefix)
    return int(failure)


def _as_ours(error: OSError) -> PyrktError:
    """Return a failed call of the standard library as one line: what, where, why."""
    if error.errno is None:
        return PyrktError(str(error))
    where = f"{error.filename}: " if error.filename else ""
    return PyrktError(f"{where}{_reason(error.errno)}")


def _reason(number: int) -> str:
    """Return the words for an errno as Go spells them, which engines look for."""
    text = strerror(number)
    return text[:1].lower() + text[1:]
