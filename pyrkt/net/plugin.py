"""One call of one plugin: a program with its orders in the environment, its configuration on stdin, a deadline.

Source: CNI specification 1.1.0, section 2.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C half of signal; its enums cost 3 ms
import os
import select
import time

from pyrkt.base import fastjson, log
from pyrkt.base.errors import InvalidSpec, NotFound, StartFailed, brief
from pyrkt.base.reader import Reader
from pyrkt.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PLACES = ("/usr/lib/rkt/plugins/net", "/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni")
"""Where plugins are looked for, after the directories of the configuration: rkt's place, Debian's, the projects' own,
Fedora's."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOST_SAID = 1 << 20  # bytes of stdout: a result is some hundred
_MOST_LOG = 1 << 16  # bytes of stderr that are kept: its end
_TRY_AGAIN = 11  # "Well-known Error Codes"
_CHUNK = 1 << 16


class PluginFailed(StartFailed):
    """A plugin said no, said nothing that can be understood, or did not come to an end.

    ``code`` is the plugin's own error code; 0 where there is none.
    """

    def __init__(self, message: str, *, hint: str = "", code: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class PluginMissing(PluginFailed, NotFound):
    """No directory of plugins has a program of that name."""

    exit_code = StartFailed.exit_code


class Call(Record):
    """What a plugin is told about the attachment: all of it may be empty for VERSION, GC and STATUS.

    ``places`` are the directories of plugins, ``seconds`` the time that it has, ``started`` is told its pid before it
    gets its configuration: until then it can do nothing.
    """

    places: tuple[str, ...]
    container: str = ""
    netns: str = ""
    interface: str = ""
    args: str = ""
    seconds: float = 60.0
    started: Callable[[int], None] | None = None

    def environment(self, command: str) -> dict[str, str]:
        """Return the environment of the plugin: nothing of ours comes along."""
        given = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self.container,
            "CNI_NETNS": self.netns,
            "CNI_IFNAME": self.interface,
            "CNI_ARGS": self.args,
            "CNI_PATH": ":".join(self.places),
        }
        return {"PATH": _PATH, **{name: value for name, value in given.items() if value}}


def find(kind: str, places: tuple[str, ...]) -> str:
    """Return the path of the program of plugin ``kind``. Raises: PluginMissing."""
    for place in places:
        path = f"{place}/{kind}"
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    raise PluginMissing(
        f"the network plugin {kind!r} is in none of {', '.join(places)}",
        hint="apt-get install containernetworking-plugins, or put it into /opt/cni/bin",
    )


def call(command: str, config: dict[str, Any], about: Call) -> Any:
    """Run the plugin of ``config`` for ``command``; return its answer, a JSON value: None for nothing.

    Raises: PluginMissing, PluginFailed. Whatever is raised, no process of the plugin's group is left.
    """
    kind = str(config["type"])
    path = find(kind, about.places)
    log.debug(f"network: {command} {about.interface} {kind} ({path})")
    said = _Run(path, command, about).end(fastjson.dumps(config).encode())
    for line in said.log.decode("utf-8", "replace").splitlines()[-20:]:
        log.debug(f"network: {kind}: {line}")
    if said.problem:
        raise PluginFailed(f"{kind}: {said.problem}", hint=f"{path} did not do {command} as CNI asks for")
    if said.code:
        raise _failure(kind, command, said)
    if command not in ("ADD", "VERSION") or not said.out.strip():
        return None
    try:
        return fastjson.loads(said.out, f"what the plugin {kind} answers")
    except InvalidSpec as error:
        raise PluginFailed(f"{kind}: {error.message}", hint="the plugin is broken: its answer must be JSON") from None


def _failure(kind: str, command: str, said: _Said) -> PluginFailed:
    """Return the plugin's error object as one line."""
    code = 0
    ended = f"ended with {said.code}" if said.code > 0 else f"was killed by signal {-said.code}"
    problem = said.log.decode("utf-8", "replace").strip().rpartition("\n")[2] or ended
    try:
        answer = Reader(fastjson.loads(said.out, kind), kind)
        code = answer["code"].integer(0, 1 << 32, 0)
        problem = answer["msg"].text("") or problem
        details = answer["details"].text("")
        problem += f": {details}" if details and details != problem else ""
    except InvalidSpec:
        pass  # it has failed otherwise, and what it left on stderr is all there is
    hint = "try again in a moment" if code == _TRY_AGAIN else f"{command} by the plugin {kind} failed"
    if "iptables" in problem and "not found" in problem:
        hint = "apt-get install iptables"
    return PluginFailed(brief(f"{kind}: {problem}{f' (code {code})' if code else ''}"), hint=hint, code=code)


class _Said(Record):
    """The end of a plugin: its exit code (negative: a signal), what it wrote, and what was wrong with its behaviour."""

    code: int
    out: bytes
    log: bytes
    problem: str = ""


class _Run:
    """A plugin that runs: in a session of its own, so that a terminal's Ctrl-C reaches us and not it."""

    def __init__(self, path: str, command: str, about: Call) -> None:
        inward, self.config = os.pipe()
        self.out, outward = os.pipe()
        self.errors, errors = os.pipe()
        self.about = about
        self.deadline = time.monotonic() + about.seconds
        try:
            self.pid = os.posix_spawn(
                path,
                [path],
                about.environment(command),
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, inward, 0),
                    (os.POSIX_SPAWN_DUP2, outward, 1),
                    (os.POSIX_SPAWN_DUP2, errors, 2),
                ],
                setsid=True,
                setsigmask=[],
                setsigdef=[_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGPIPE],
            )
        except OSError as error:
            for descriptor in (self.config, self.out, self.errors):
                os.close(descriptor)
            raise PluginFailed(f"{path}: {error.strerror}", hint="it must be a program for this machine") from None
        finally:
            for descriptor in (inward, outward, errors):
                os.close(descriptor)

    def end(self, config: bytes) -> _Said:
        """Give it its configuration, wait for its end, return what it said."""
        ended = False
        try:
            if self.about.started:
                self.about.started(self.pid)
            said = self._exchange(config)
            ended = not said.problem
            return said
        finally:
            if not ended:
                self._kill()
            for descriptor in (self.config, self.out, self.errors):
                if descriptor >= 0:
                    os.close(descriptor)

    def _exchange(self, config: bytes) -> _Said:
        process = os.pidfd_open(self.pid)
        poll = select.poll()
        poll.register(self.config, select.POLLOUT)
        for descriptor in (self.out, self.errors, process):
            poll.register(descriptor, select.POLLIN)
        for descriptor in (self.config, self.out, self.errors):
            os.set_blocking(descriptor, False)
        try:
            return self._converse(config, poll, process)
        finally:
            os.close(process)

    def _converse(self, config: bytes, poll: select.poll, process: int) -> _Said:
        texts = {self.out: b"", self.errors: b""}
        while True:
            left = self.deadline - time.monotonic()
            ready = dict(poll.poll(max(left, 0) * 1000))
            if not ready:
                return _Said(code=0, out=b"", log=b"", problem=f"did not end within {self.about.seconds:g} s")
            if self.config in ready:
                config = self._feed(config, poll)
            for descriptor in texts.keys() & ready.keys():
                self._take(descriptor, texts, poll)
            if len(texts[self.out]) > _MOST_SAID:
                return _Said(code=0, out=b"", log=b"", problem=f"answers more than {_MOST_SAID >> 20} MiB")
            if process in ready:
                # Not until the pipes end: something that it left in the background may keep them open.
                for descriptor in texts:
                    self._take(descriptor, texts, None)
                return _Said(code=self._reap(), out=texts[self.out], log=texts[self.errors])

    def _feed(self, config: bytes, poll: select.poll) -> bytes:
        try:
            config = config[os.write(self.config, config) :]
        except BrokenPipeError:
            config = b""  # it does not want to know
        if not config:
            poll.unregister(self.config)
            os.close(self.config)
            self.config = -1
        return config

    @staticmethod
    def _take(descriptor: int, texts: dict[int, bytes], poll: select.poll | None) -> None:
        while True:
            try:
                more = os.read(descriptor, _CHUNK)
            except BlockingIOError:
                return
            if not more:
                if poll:
                    poll.unregister(descriptor)
                return
            texts[descriptor] = (texts[descriptor] + more)[-(_MOST_SAID + _MOST_LOG) :]
            if poll:
                return

    def _reap(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)

    def _kill(self) -> None:
        """End the plugin and what it has started in its group."""
        end_group(self.pid)
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass


def end_group(pid: int) -> None:
    """Kill the process group that a plugin leads; nobody there is fine."""
    try:
        os.killpg(pid, _signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
