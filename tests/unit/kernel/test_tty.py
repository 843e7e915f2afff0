"""tty: sizes, raw mode and back, and the terminal behind a master."""

from __future__ import annotations

import os
import termios
from collections.abc import Iterator

import pytest

from pyrkt.kernel import tty


@pytest.fixture
def pair() -> Iterator[tuple[int, int]]:
    master, terminal = tty.open_pair()
    yield master, terminal
    os.close(master)
    os.close(terminal)


def test_size_is_shared_by_both_ends(pair: tuple[int, int]) -> None:
    master, terminal = pair
    assert tty.size(terminal) == (0, 0)
    tty.set_size(master, 24, 300)
    assert tty.size(terminal) == (24, 300)


def test_raw_mode_hands_every_byte_through_and_ends(pair: tuple[int, int]) -> None:
    master, terminal = pair
    before = termios.tcgetattr(terminal)
    saved = tty.set_raw(terminal)
    os.write(master, b"\x03\r\x1a")
    assert os.read(terminal, 9) == b"\x03\r\x1a"
    tty.restore(terminal, saved)
    assert termios.tcgetattr(terminal) == before


def test_what_is_no_terminal_is_refused() -> None:
    null = os.open("/dev/null", os.O_RDWR)
    with pytest.raises(OSError, match="ioctl"):
        tty.size(null)
    os.close(null)
