"""Mounts of a test's own on the host, and the mounts that a container sees."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support import bundle

if TYPE_CHECKING:
    from tests.support.bundle import Bundle

SHIFT = 100_000


@dataclass(frozen=True)
class Seen:
    """One line of mountinfo(5)."""

    point: str
    options: frozenset[str]
    fields: frozenset[str]
    kind: str
    source: str
    superoptions: frozenset[str]


def seen(text: str) -> dict[str, Seen]:
    """Return the mounts in ``text`` by mount point; of several on one the last, which covers the others."""
    found = {}
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        words = left.split(" ")
        if not separator or len(words) < 6:
            continue
        kind, source, *rest = right.split(" ")
        options = frozenset(words[5].split(","))
        found[words[4]] = Seen(
            words[4], options, frozenset(words[6:]), kind, source, frozenset("".join(rest[-1:]).split(","))
        )
    return found


@contextmanager
def mounted(path: Path, *words: str) -> Iterator[Path]:
    """Mount a tmpfs (or what the words of mount(8) say) on ``path``; take it and all below it away afterwards."""
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *(words or ("-t", "tmpfs", "pyrkt-test")), str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-R", "-l", str(path)], check=True)


@contextmanager
def open_bundle() -> Iterator[Bundle]:
    """Make a bundle in a directory that the users of a user namespace can reach; pytest's own are 0700."""
    path = Path(tempfile.mkdtemp(prefix="pyrkt-test-"))
    path.chmod(0o755)
    try:
        yield bundle.make(path / "bundle")
    finally:
        shutil.rmtree(path)


def map_users(box: Bundle) -> None:
    """Give the container a user namespace of 65536 ids, whose root owns its root file system."""
    linux = box.config["linux"]
    linux["namespaces"].append({"type": "user"})
    linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": SHIFT, "size": 65536}]
    for directory, names, files in os.walk(box.rootfs):
        for name in (".", *names, *files):
            os.lchown(os.path.join(directory, name), SHIFT, SHIFT)


def add(box: Bundle, destination: str, source: str | Path, *options: str, **members: Any) -> None:
    """Add a bind mount."""
    mount = {"destination": destination, "source": str(source), "type": "bind", "options": list(options)}
    box.config["mounts"].append(mount | members)


def add_tmpfs(box: Bundle, destination: str, *options: str) -> None:
    """Add a tmpfs."""
    box.config["mounts"].append(
        {"destination": destination, "source": "tmpfs", "type": "tmpfs", "options": list(options)}
    )
