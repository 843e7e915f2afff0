"""How ``pyrkt-oci`` says what went wrong: to the log file as engines parse it, and to standard error.

containerd reads the log as one JSON object a line and takes the last with level "error"; any line that is not JSON
spoils its answer, so that nothing else may go there. conmon takes standard error.
"""

from __future__ import annotations

import os
import time

from pyrkt.base import fastjson
from pyrkt.base.errors import PyrktError, brief
from pyrkt.base.record import Record

TYPE_CHECKING = False

LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY


class Log(Record):
    """Where messages go: ``path`` of the log file ("" none), ``form`` "text" or "json", ``debug`` with the steps."""

    path: str = ""
    form: str = "text"
    debug: bool = False

    def error(self, error: PyrktError, prefix: str = "") -> None:
        """Log why the command failed; with a log file, tell people too."""
        message = prefix + error.message
        self._write("error", message, error.hint)
        if self.path:
            _to(2, brief(message) + "\n")

    def warning(self, message: str) -> None:
        """Log what the caller should know although the work goes on."""
        self._write("warning", message)

    def step(self, message: str) -> None:
        """Log what is about to be done, if --debug asks for it."""
        if self.debug:
            self._write("debug", message)

    def _write(self, level: str, message: str, hint: str = "") -> None:
        line = _line(self.form, level, brief(message), brief(hint))
        if not self.path:
            _to(2, line)
            return
        try:
            descriptor = os.open(self.path, LOG_FLAGS, 0o644)
        except OSError as failed:
            _to(2, line + _line(self.form, "warning", f"{self.path}: {failed.strerror}", ""))
            return
        _to(descriptor, line)
        os.close(descriptor)


def _to(descriptor: int, text: str) -> None:
    try:
        os.write(descriptor, text.encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # nobody listens; the exit code still says it


def _line(form: str, level: str, message: str, hint: str) -> str:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if form == "json":
        entry = {"level": level, "msg": message, "time": now}
        return fastjson.dumps(entry | {"hint": hint} if hint else entry) + "\n"
    tail = f" hint={fastjson.dumps(hint)}" if hint else ""
    return f'time="{now}" level={level} msg={fastjson.dumps(message)}{tail}\n'
