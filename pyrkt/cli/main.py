"""The root of the command line: finds the command, and is the one place that turns errors into lines and exit codes.

``--help``, ``--version`` and completion read only the table below: they import no command and touch no file.
"""

from __future__ import annotations

import os
import sys
from errno import EDQUOT, ENOSPC

from pyrkt.base.errors import (
    Busy,
    CannotCreate,
    ImageRefused,
    InvalidSpec,
    NoPermission,
    NotFound,
    NotTrusted,
    PyrktError,
    StartFailed,
    Unavailable,
    UsageError,
)
from pyrkt.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrkt.cli.grammar import Value

_INTERRUPTED, _PIPE_CLOSED = 130, 141
"""128 + SIGINT, 128 + SIGPIPE: what a shell shows for a program that the signal killed."""


_HINTS: tuple[tuple[type[PyrktError], str], ...] = (
    # What to do where the place that knew the culprit knew no better.
    (UsageError, "--help shows how to write it"),
    (InvalidSpec, "mend the document, or tell whoever made it"),
    (ImageRefused, "tell whoever made the image"),
    (NotFound, "pyrkt list and pyrkt image list show what there is"),
    (Unavailable, "check the name and the network, then try again"),
    (NotTrusted, "pyrkt trust adds a key; --insecure-options=image does without the check, this once"),
    (Busy, "try again in a moment"),
    (NoPermission, "run as root"),
    (StartFailed, "pyrkt plan shows every step"),
    (PyrktError, "--debug shows more; pyrkt doctor says what this host cannot do"),
)


class Command(Record):
    """Where a command lives, and its line in the help. ``parses``: "hand" takes its words itself, "click" does not."""

    module: str
    attribute: str
    help: str
    parses: str = "click"
    hidden: bool = False


def _hand(module: str, attribute: str, text: str, *, hidden: bool = False) -> Command:
    return Command(module=f"pyrkt.cli.{module}", attribute=attribute, help=text, parses="hand", hidden=hidden)


def _click(module: str, attribute: str, text: str, *, hidden: bool = False) -> Command:
    return Command(module=module and f"pyrkt.cli.{module}", attribute=attribute, help=text, hidden=hidden)


COMMANDS: dict[str, Command] = {
    "fetch": _hand("fetch", "fetch", "Fetch images: prove, decrypt and store them."),
    "run": _hand("run", "run", "Run images in a pod."),
    "prepare": _hand("run", "prepare", "Make a pod ready to run, and print its UUID."),
    "run-prepared": _hand("start", "run_prepared", "Run a pod that was prepared."),
    "app": _click("", "", "Apps that come and go: sandbox, add, start, stop, rm, list, status, exec."),
    "app sandbox": _hand("apps", "sandbox", "Start a pod without apps, and print its UUID."),
    "app add": _hand("apps", "add", "Add an app to a running sandbox."),
    "app start": _hand("apps", "start", "Start an app."),
    "app stop": _hand("apps", "stop", "Stop an app."),
    "app rm": _hand("apps", "remove", "Remove an app that does not run."),
    "app list": _hand("apps", "list_apps", "List the apps of a pod."),
    "app status": _hand("apps", "status", "Show the state of an app."),
    "app exec": _hand("enter", "run_in", "Run a command in an app, as the app's user; same as exec."),
    "enter": _hand("enter", "enter", "Run a command in an app of a pod, as root there."),
    "exec": _hand("enter", "run_in", "Run a command in an app of a pod, as the app's user."),
    "list": _click("pods", "list_pods", "List the pods."),
    "status": _click("pods", "status", "Show the state of a pod."),
    "logs": _click("logs", "logs", "Print what the apps of a pod have written."),
    "attach": _click("logs", "attach", "Attach to the streams or the terminal of an app."),
    "top": _click("stats", "top", "Watch what pods use: processors, memory, processes, io."),
    "stats": _click("stats", "show_stats", "Print what pods use, for people or machines."),
    "ps": _click("stats", "ps", "Show the processes of a pod."),
    "stop": _click("pods", "stop", "Stop pods."),
    "rm": _click("pods", "remove", "Remove pods that have ended."),
    "gc": _click("pods", "collect", "Remove what pods left behind."),
    "cat-manifest": _click("pods", "cat_manifest", "Print the manifest of a pod."),
    "export": _click("pods", "export", "Write an app of a pod that has ended as an image, or as a bundle."),
    "plan": _hand("plan", "plan", "Show every step of running a bundle, an image or a pod."),
    "measurements": _click("measurements", "measurements", "Show, check and replay what was measured of launches."),
    "image": _click("", "", "Images: list, rm, gc, cat-manifest, render, extract, export, unpack, verify."),
    "image list": _click("images", "list_images", "List the stored images."),
    "image rm": _click("images", "remove", "Remove images from the store."),
    "image gc": _click("images", "collect", "Remove images and trees that nothing uses."),
    "image cat-manifest": _click("images", "cat_manifest", "Print the manifest of an image."),
    "image render": _click("images", "render", "Write an image, with what it depends on, to a directory."),
    "image extract": _click("images", "extract", "Write an image, without what it depends on, to a directory."),
    "image export": _click("images", "export", "Write an image to a file."),
    "image unpack": _click("images", "unpack", "Make a bundle of any image, without the store."),
    "image verify": _click("images", "verify", "Check the stored images against their digests."),
    "image fetch": _hand("fetch", "fetch", "Same as fetch.", hidden=True),
    "bundle": _click("", "", "Bundles on disk: convert."),
    "bundle convert": _click("bundles", "convert", "Rewrite a bundle in the form of 2015, or of today."),
    "net": _click("", "", "Networks: list, status, check, gc."),
    "net list": _click("nets", "list_networks", "List the networks that pods can join."),
    "net status": _click("nets", "status", "Say which networks could take a pod now."),
    "net check": _click("nets", "check", "Ask whether running pods' networks are as they were made."),
    "net gc": _click("nets", "collect", "Have networks drop what belongs to no pod."),
    "trust": _click("trust", "trust", "Trust a key to sign images."),
    "validate": _click("validate", "validate", "Judge manifests, configurations, bundles and policies."),
    "version": _click("host", "version", "Print versions."),
    "config": _click("host", "config", "Print the configuration as it is merged."),
    "doctor": _click("host", "doctor", "Say what this host can and cannot do."),
    "completion": _hand("completion", "completion", "Print the completion script for bash."),
    "help": _hand("main", "show_help", "Show help."),
    "net-up": _hand("netsteps", "net_up", "Give a starting pod its networks; stage1 calls it.", hidden=True),
    "net-down": _hand("netsteps", "net_down", "Take an ended pod off its networks; stage1 calls it.", hidden=True),
    "failed": _hand("failed", "failed", "Say which step of a plan failed; stage1 calls it.", hidden=True),
}


def main(argv: list[str]) -> int:
    """Run one command line; return its exit code. Prints every error as one line and a hint."""
    _open_standard_descriptors()
    try:
        code = _dispatch(argv)
        sys.stdout.flush()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except BrokenPipeError:
        code = _PIPE_CLOSED
    except Exception as error:  # noqa: BLE001 - the one place that shows errors; nothing may reach a user as a traceback
        code = report(error)
    _silence()
    return code


def report(error: Exception) -> int:
    """Print ``error`` as one line and a hint; return its exit code."""
    from pyrkt.base import log

    known = explain(error)
    log.fail(known)
    if log.debugging() and known is not error:
        import traceback

        traceback.print_exception(error)
    return known.exit_code


def explain(error: Exception) -> PyrktError:
    """Return ``error`` as one of our own: what the kernel and the interpreter raise gets its sentence here."""
    if isinstance(error, PyrktError):
        error.hint = error.hint or next((hint for kind, hint in _HINTS if isinstance(error, kind)), "")
        return error
    if isinstance(error, MemoryError):
        return PyrktError("out of memory", hint="free some memory, or raise the limit of this process")
    if isinstance(error, RecursionError):
        return PyrktError("a document is nested too deep", hint="--debug shows where")
    if isinstance(error, OSError):
        return _explain_os(error)
    return PyrktError(
        f"internal error: {type(error).__name__}: {error}", hint="run it again with --debug, and report what it prints"
    )


def _explain_os(error: OSError) -> PyrktError:
    name = error.filename.decode(errors="replace") if isinstance(error.filename, bytes) else error.filename
    text = f"{name}: {error.strerror}" if name else str(error.strerror or error)
    if error.errno in (ENOSPC, EDQUOT):
        return CannotCreate(text, hint="make room: pyrkt gc, pyrkt image gc")
    if isinstance(error, PermissionError):
        return NoPermission(text, hint="run as root, or with --dir naming a directory of yours")
    if isinstance(error, FileNotFoundError):
        return NotFound(text, hint="check the name")
    if isinstance(error, FileExistsError):
        return CannotCreate(text, hint="remove it, or choose another name")
    return PyrktError(text, hint="--debug shows where")


def _open_standard_descriptors() -> None:
    # A closed 0, 1 or 2 would be given to the next file opened, and then written to as if it were the terminal.
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open("/dev/null", os.O_RDWR)
    if getattr(sys, "stdout", None) is None:  # what Python makes of a closed one
        sys.stdout = open(1, "w", encoding="utf-8")  # noqa: SIM115 - for the life of the process
    if getattr(sys, "stderr", None) is None:
        sys.stderr = open(2, "w", encoding="utf-8")  # noqa: SIM115 - for the life of the process


def _silence() -> None:
    # Python flushes once more at its end, and would print a traceback for a reader that has gone or a full disk.
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC), 1)


def _dispatch(argv: list[str]) -> int:
    from pyrkt.cli.flags import GLOBAL
    from pyrkt.cli.grammar import leading

    flags, words = leading(argv, GLOBAL)
    if not words:
        if flags.get("version") is True:
            return show_version()
        if flags.get("help") is True:
            return show_help([])
        sys.stderr.write(overview())
        raise UsageError("missing command", hint="pyrkt run --help shows how to start an image")
    name, rest = find(words)
    if flags.get("help") is True:
        rest = ["--help"]
    return call(name, rest, flags)


def find(words: list[str]) -> tuple[str, list[str]]:
    """Return the command that ``words`` begin with, an unambiguous beginning of a name sufficing, and the rest."""
    name = _match(words[0], [name for name in COMMANDS if " " not in name], words[0])
    if not any(other.startswith(f"{name} ") for other in COMMANDS):
        return name, words[1:]
    if len(words) == 1 or words[1] in ("-h", "--help"):
        return name, ["--help"]
    below = [other.partition(" ")[2] for other in COMMANDS if other.startswith(f"{name} ")]
    return f"{name} {_match(words[1], below, ' '.join(words[:2]))}", words[2:]


_RKTS = frozenset(
    (
        *("cat-manifest", "completion", "config", "enter", "export", "fetch", "gc", "help", "image", "list", "prepare"),
        *("rm", "run", "run-prepared", "status", "stop", "trust", "version"),
    )
)
"""What rkt's users abbreviate: "stat" and "ex" go on to mean status and export, whatever we have beside them."""


def _match(word: str, names: list[str], whole: str) -> str:
    if word in names:
        return word
    found = [
        name for name in names if word and name.startswith(word) and not COMMANDS.get(name, COMMANDS["run"]).hidden
    ]
    if len(found) > 1 and word == whole:
        known = [name for name in found if name in _RKTS]
        found = known if len(known) == 1 else found
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"command {whole!r} is ambiguous: {', '.join(found)}", hint="write more of it")
    raise UsageError(f"unknown command {whole!r}", hint="pyrkt --help lists the commands")


def call(name: str, words: list[str], flags: Mapping[str, Value]) -> int:
    """Import the command ``name`` and run it with ``words``; ``flags`` are the global ones before it."""
    command = COMMANDS[name]
    if not command.module:
        return show_help([name])
    __import__(command.module)
    function = getattr(sys.modules[command.module], command.attribute)
    if command.parses == "hand":
        return int(function(words, flags))
    from pyrkt.cli.clicks import invoke

    return invoke(function, f"pyrkt {name}", words, flags)


def show_version() -> int:
    """Print the version alone."""
    from pyrkt import __version__

    sys.stdout.write(f"pyrkt {__version__}\n")
    return 0


def show_help(words: list[str], flags: Mapping[str, Value] | None = None) -> int:
    """Print the help of the command that ``words`` name; the overview without words."""
    if words and words[0] not in ("-h", "--help"):
        name, _ = find(words)
        if COMMANDS[name].module:
            return call(name, ["--help"], flags or {})
        sys.stdout.write(_group(name))
    else:
        sys.stdout.write(overview())
    return 0


def overview() -> str:
    """Return the help of the root."""
    from pyrkt.cli.flags import GLOBAL, rows

    shown = {name: command for name, command in COMMANDS.items() if not command.hidden and " " not in name}
    width = max(map(len, shown)) + 2
    lines = [
        "usage: pyrkt [global flags] COMMAND ...",
        "",
        "Takes an image by name, proves where it came from, and runs it.",
        "",
        "Commands:",
    ]
    lines += [f"  {name:<{width}}{command.help}" for name, command in shown.items()]
    return "\n".join([*lines, "", "Global flags, before or after the command:", *rows(GLOBAL), ""])


def _group(name: str) -> str:
    below = {
        other: command for other, command in COMMANDS.items() if other.startswith(f"{name} ") and not command.hidden
    }
    lines = [f"usage: pyrkt {name} COMMAND ...", "", "Commands:"]
    return "\n".join(
        [*lines, *(f"  {other.partition(' ')[2]:<14}{command.help}" for other, command in below.items()), ""]
    )
