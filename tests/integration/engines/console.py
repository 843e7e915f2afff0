"""A person at a terminal: a program with a pty of its own as its controlling terminal."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Sequence

from tests.support.tty import set_size

SECONDS = 20.0


class Console:
    """Runs ``words`` on a terminal of ``rows`` x ``columns``; ``seen`` is all that they wrote."""

    def __init__(self, words: Sequence[str], env: dict[str, str], rows: int = 33, columns: int = 77) -> None:
        self.terminal, slave = os.openpty()
        set_size(self.terminal, rows, columns)
        self.seen = ""
        # --ctty rather than code between fork and exec: other threads run.
        self.process = subprocess.Popen(["setsid", "--ctty", *words], stdin=slave, stdout=slave, stderr=slave, env=env)
        os.close(slave)

    def until(self, text: str) -> str:
        """Read until ``text`` has been written; return all that came before it, and keep what comes after."""
        deadline = time.monotonic() + SECONDS
        while text not in self.seen:
            left = deadline - time.monotonic()
            if left <= 0 or not self._more(left):
                self._leave()
                raise AssertionError(f"no {text!r} in {self.seen!r}")
        before, _, self.seen = self.seen.partition(text)
        return before

    def _more(self, seconds: float) -> bool:
        if not select.select([self.terminal], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.terminal, 4096)
        except OSError:  # EIO: the last process with the terminal has gone
            return False
        self.seen += data.decode("utf-8", "replace")
        return bool(data)

    def _leave(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.terminal)

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self.terminal, line.encode() + b"\n")

    def resize(self, rows: int, columns: int) -> None:
        """Drag the corner of the window."""
        set_size(self.terminal, rows, columns)

    def end(self) -> int:
        """Read to the end; return the program's exit code."""
        while self._more(SECONDS):
            pass
        os.close(self.terminal)
        return self.process.wait(SECONDS)
