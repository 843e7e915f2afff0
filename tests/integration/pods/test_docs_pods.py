"""docs/pods.md: its examples, run as they stand there."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pods import Pyrkt, make_aci, make_layout

pytestmark = [pytest.mark.root, pytest.mark.peers]
GUIDE = Path(__file__).parents[3] / "docs/pods.md"
INDENT = "    "


def examples() -> list[list[tuple[str, str]]]:
    """Return the commands of each block, and what they print."""
    blocks: list[list[tuple[str, str]]] = []
    inside = False
    for line in GUIDE.read_text().splitlines():
        if line.startswith(f"{INDENT}$ "):
            blocks += [] if inside else [[]]
            blocks[-1].append((line.removeprefix(f"{INDENT}$ "), ""))
            inside = True
        elif inside and line.startswith(INDENT):
            command, text = blocks[-1][-1]
            blocks[-1][-1] = command, f"{text}{line.removeprefix(INDENT)}\n"
        else:
            inside = False
    return blocks


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with the images that the guide has, and ``pyrkt`` with a store of its own on the PATH."""
    tool = Pyrkt(tmp_path_factory.mktemp("guide"))
    make_layout(tool.base / "box")
    handlers = [{"name": name, "exec": ["/bin/echo", name]} for name in ("pre-start", "post-stop")]
    make_aci(tool.base / "hello.aci", app={"exec": ["/bin/echo", "hello"], "eventHandlers": handlers})
    (tool.base / "bin").mkdir()
    (tool.base / "bin/pyrkt").write_text(f'#!/bin/sh\nexec {shlex.join(tool.argv())} "$@"\n')
    (tool.base / "bin/pyrkt").chmod(0o755)
    yield tool.base
    assert tool.clean() == []


def test_there_are_examples() -> None:
    assert len(examples()) >= 6


@pytest.mark.parametrize("block", examples(), ids=lambda block: block[0][0][:40])
def test_example(place: Path, block: list[tuple[str, str]]) -> None:
    path = f"{place}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    for command, text in block:
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=place, env={"PATH": path, "HOME": str(place)}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        pattern = re.escape(text).replace(re.escape("...\n"), r"[^\n]*\n(?:.*\n)*?").replace(re.escape("..."), ".*")
        assert re.fullmatch(pattern, done.stdout), f"{command}\n{done.stdout}"
