"""The processes in a container's cgroups, and in the cgroups that it made below them."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def tree(directory: str) -> Iterator[str]:
    """Yield ``directory`` and every cgroup below it, deepest first. What is missing yields nothing."""
    try:
        with os.scandir(directory) as entries:
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return
    for path in below:
        yield from tree(path)
    yield directory


def pids(directories: Iterable[str]) -> list[int]:
    """Return the processes in the cgroups below ``directories``, sorted, as this pid namespace numbers them."""
    found: set[int] = set()
    for directory in directories:
        for cgroup in tree(directory):
            try:
                with open(f"{cgroup}/cgroup.procs", "rb") as lines:
                    found.update(int(line) for line in lines)
            except OSError:  # removed meanwhile, or (EOPNOTSUPP) a threaded cgroup: its processes are listed above it
                continue
    found.discard(0)  # a process of another pid namespace
    return sorted(found)
