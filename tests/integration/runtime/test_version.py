"""--version: the lines that dockerd reads."""

from __future__ import annotations

import re
import subprocess

import pytest

from pyrkt import __version__
from pyrkt.spec.runtime import SPEC_VERSION
from tests.support import oci


@pytest.mark.parametrize("words", [["-v"], ["--version"], ["--version", "extra"]], ids=" ".join)
def test_version(words: list[str]) -> None:
    done = subprocess.run([*oci.LAUNCHER, *words], capture_output=True, text=True, check=True, timeout=60)
    first, second, third = done.stdout.splitlines()
    assert first == f"pyrkt-oci version {__version__}"
    assert re.fullmatch(r"commit: \S+", second)
    assert third == f"spec: {SPEC_VERSION}"
