"""Where an app's input comes from and its output goes: from what is asked to what its supervisor is told. Pure."""

from __future__ import annotations

from pyrkt.base.record import Record
from pyrkt.plan.place import Streams
from pyrkt.pod.ask import MAX_LOG_FILES, MAX_LOG_SIZE, MIN_LOG_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.base.reader import Reader
    from pyrkt.pod.ask import App, PodAsk


class Wish(Record):
    """What is asked of an app's streams, "" for the default; and of its log."""

    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    log: str = "file"
    size: int = 10 << 20
    files: int = 5

    @classmethod
    def read(cls, r: Reader) -> Wish:
        """Read what ``as_json`` has written. Raises: InvalidSpec."""
        return cls(
            stdin=r["stdin"].text(""),
            stdout=r["stdout"].text(""),
            stderr=r["stderr"].text(""),
            log=r["log"].text("file"),
            size=r["size"].integer(MIN_LOG_SIZE, MAX_LOG_SIZE),
            files=r["files"].integer(1, MAX_LOG_FILES),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the fields."""
        return {field: getattr(self, field) for field in self._fields}


def wish(ask: PodAsk, app: App) -> Wish:
    """Return what is asked of the streams of ``app``."""
    return Wish(
        stdin=app.stdin, stdout=app.stdout, stderr=app.stderr, log=ask.log, size=ask.log_size, files=ask.log_files
    )


def wants_terminal(app: App) -> bool:
    """Tell whether one of the streams of ``app`` is to be a terminal."""
    return "tty" in {app.stdin, app.stdout, app.stderr}


class Where(Record):
    """The pod that the streams belong to: directory, UUID, number of apps; ``detach``: nobody sees what they write."""

    path: str
    uuid: str
    apps: int = 1
    detach: bool = False


def main(wanted: Wish, name: str, where: Where, *, terminal: bool) -> Streams:
    """Return what becomes of the streams of the app ``name``, whose process has a ``terminal`` or not."""
    own = terminal and "tty" not in {wanted.stdin, wanted.stdout, wanted.stderr}  # --interactive: the caller's own
    default = "tty" if terminal else "stream"
    if own:
        stdin = "own"
    elif terminal:
        stdin = wanted.stdin or "tty"
    else:
        # Several that read the same input would each get what the others do not.
        stdin = wanted.stdin or ("null" if where.detach or where.apps > 1 else "inherit")
    journal: tuple[tuple[str, str], ...] = ()
    if wanted.log == "journald":
        journal = (("SYSLOG_IDENTIFIER", name), ("PYRKT_POD", where.uuid), ("PYRKT_APP", name))
    return Streams(
        log=f"{where.path}/logs/{name}.log" if wanted.log != "none" else "",
        most=wanted.size,
        files=wanted.files,
        stdin=stdin,
        stdout=wanted.stdout or default,
        stderr=wanted.stderr or default,
        pass_on=not where.detach,
        attach=f"{where.path}/apps/{name}/attach",
        name=name if where.apps > 1 and not where.detach else "",
        journal=journal,
    )


def beside(main: Streams) -> Streams:
    """Return the streams of an app's event handler: it reads nothing, and what it writes goes where the app's does."""
    return main.replace(stdin="null", stdout="log", stderr="log", attach="")
