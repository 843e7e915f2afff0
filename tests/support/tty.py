"""A terminal to start things in."""

from __future__ import annotations

import fcntl
import struct
import termios


def set_size(terminal: int, rows: int, columns: int) -> None:
    """Set rows and columns; who is in the foreground gets SIGWINCH."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
