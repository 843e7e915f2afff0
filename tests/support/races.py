"""Somebody who exchanges two names in a file system, over and over, while a runtime walks through them."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROUNDS = int(os.environ.get("PYRKT_RACE_ROUNDS", "25"))
"""Containers a race. More: ``PYRKT_RACE_ROUNDS=2000 scripts/test tests/integration/runtime/test_safety_races.py``."""
_RACER = """
import ctypes, sys
rename = ctypes.CDLL(None, use_errno=True).renameat2
one, other = (name.encode() for name in sys.argv[1:3])
done = 0
while sys.stdin is not None:
    for _ in range(64):
        done += rename(-100, one, -100, other, 2) == 0
    if done and done < 65:
        print("exchanging", flush=True)
"""


@contextmanager
def racer(one: Path, other: Path) -> Iterator[None]:
    """Let another process exchange ``one`` and ``other`` for as long as the block takes."""
    words = [sys.executable, "-I", "-S", "-c", _RACER, str(one), str(other)]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"exchanging\n"
            yield
        finally:
            process.kill()
