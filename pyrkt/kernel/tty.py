"""ioctl_tty(2), termios(3): the size and the mode of a terminal, and the other end of a pseudoterminal."""

from __future__ import annotations

import fcntl
import os
import termios

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# include/uapi/asm-generic/ioctls.h; the termios module of Python 3.11 does not know them.
_TIOCSPTLCK, _TIOCGPTPEER = 0x40045431, 0x5441


def size(terminal: int) -> tuple[int, int]:
    """Return rows and columns; (0, 0) if nobody has set them. Raises OSError if it is no terminal."""
    words = fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(8))
    return int.from_bytes(words[:2], "little"), int.from_bytes(words[2:4], "little")


def set_size(terminal: int, rows: int, columns: int) -> None:
    """Set rows and columns; who is in the foreground gets SIGWINCH. Raises OSError."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, rows.to_bytes(2, "little") + columns.to_bytes(2, "little") + bytes(4))


def open_pair(ptmx: str = "/dev/ptmx") -> tuple[int, int]:
    """Return master and terminal of a new pseudoterminal of the devpts instance that ``ptmx`` belongs to.

    The terminal is opened through the master, never by its name, which a mount could have turned aside (R6).
    """
    master = os.open(ptmx, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(master, _TIOCSPTLCK, bytes(4))
        terminal = int(fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except BaseException:
        os.close(master)
        raise
    return master, terminal


def set_raw(terminal: int) -> list[Any]:
    """Hand every key through unchanged, signals included, and return the settings for ``restore``."""
    saved = termios.tcgetattr(terminal)
    mode = termios.tcgetattr(terminal)
    mode[0] &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.ISTRIP
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
    )
    mode[1] &= ~termios.OPOST
    mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    termios.tcsetattr(terminal, termios.TCSANOW, mode)
    return saved


def restore(terminal: int, saved: list[Any]) -> None:
    """Put back what ``set_raw`` returned."""
    termios.tcsetattr(terminal, termios.TCSANOW, saved)
