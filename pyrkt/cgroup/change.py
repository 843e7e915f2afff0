"""Changing the limits of cgroups that are in use: all of what is asked for, or nothing of it.

Some limits hold each other in place: the kernel takes no memory limit above that of memory+swap, no quota that its
period makes more than the parent's. So what it calls invalid is tried once more after the rest has been written.
"""

from __future__ import annotations

import os
from errno import EBUSY, EINVAL

from pyrkt.base.errors import PyrktError
from pyrkt.cgroup.host import Hierarchy, Mounts, read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyrkt.spec.layout import CgroupLayout
    from pyrkt.spec.runtime_resources import Memory

    Write = tuple[str, str, str]

_NOTHING = {
    "io.max": "rbps=max wbps=max riops=max wiops=max",
    "io.weight": "default",
    "io.bfq.weight": "default",
    "blkio.bfq.weight_device": "default",
    "blkio.throttle.read_bps_device": "0",
    "blkio.throttle.write_bps_device": "0",
    "blkio.throttle.read_iops_device": "0",
    "blkio.throttle.write_iops_device": "0",
    "rdma.max": "hca_handle=max hca_object=max",
    "misc.max": "max",
    "net_prio.ifpriomap": "0",
}
"""What files with a line a device say, in their own words, about a device that they do not name."""


def places(layout: CgroupLayout) -> Mounts:
    """Return the container's own cgroups as hierarchies, so that ``plan.limits`` with the path "" is about them."""
    unified = layout.path("")
    blkio, memory = layout.path("blkio"), layout.path("memory")
    if memory:
        counts_swap = os.path.exists(f"{memory}/memory.memsw.limit_in_bytes")
    else:
        counts_swap = os.path.exists(f"{unified}/memory.swap.max")
    return Mounts(
        v1=tuple(Hierarchy(names=(name,), mount=directory) for name, directory in layout.paths if name),
        unified=Hierarchy(names=(), mount=unified) if unified else None,
        controllers=tuple(read_text(f"{unified}/cgroup.controllers").split()) if unified else (),
        bfq=os.path.exists(f"{blkio}/blkio.bfq.weight" if blkio else f"{unified}/io.bfq.weight"),
        swap=counts_swap,
    )


def check_usage(memory: Memory | None, layout: CgroupLayout) -> None:
    """Refuse a limit below what is in use now, if ``checkBeforeUpdate`` asks for that: it would kill the container.

    Raises: PyrktError in runc's words.
    """
    if memory is None or not memory.check_before_update:
        return
    directory = layout.path("memory")
    file = f"{directory}/memory.usage_in_bytes" if directory else f"{layout.path('')}/memory.current"
    usage = read_text(file)
    if not usage:
        return
    for value, name in ((memory.swap or 0, "memory+swap"), (memory.limit or 0, "memory")):
        if 0 < value <= int(usage):
            raise PyrktError(
                f"rejecting {name} limit {value} <= usage {usage}", hint="ask for more, or stop what uses the memory"
            )


def previous(file: str, value: str) -> str:
    """Return what to write to ``file`` to take ``value`` back; "" if nobody can tell."""
    text = read_text(file)
    name, key = file.rpartition("/")[2], value.partition(" ")[0]
    if name == "memory.oom_control":
        return text.split()[1]
    if ":" in key or name in {"rdma.max", "misc.max", "net_prio.ifpriomap"}:
        lines = [line for line in text.splitlines() if line.partition(" ")[0] == key]
        return lines[0] if lines else f"{key} {_NOTHING[name]}" if name in _NOTHING else ""
    for line in text.splitlines():
        if line.startswith("default "):
            return line
    return text or "\n"


def _write(file: str, value: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode() or b"\n")
    finally:
        os.close(descriptor)


def carry_out(writes: Sequence[Write]) -> None:
    """Write every (file, value, place in config.json), or put back what was there before.

    Raises: PyrktError, naming the file, the value, the place, and what could not be put back.
    """
    undo: list[tuple[str, str]] = []
    failed = _attempt(writes, undo, again=True)
    if failed:
        write, error = failed
        left = _taken_back(undo)
        raise _refused(write, error, left)


def _attempt(writes: Iterable[Write], undo: list[tuple[str, str]], *, again: bool) -> tuple[Write, OSError] | None:
    later: list[Write] = []
    for write in writes:
        file, value, _ = write
        before = previous(file, value)
        try:
            _write(file, value)
        except OSError as error:
            if error.errno != EINVAL or not again:
                return write, error
            later.append(write)
        else:
            undo.append((file, before))
    return _attempt(later, undo, again=False) if later else None


def _taken_back(undo: list[tuple[str, str]]) -> list[str]:
    """Put the old values back, the last first; return the files that keep the new ones."""
    left = list(reversed(undo))
    for _ in range(2):
        todo, left = left, []
        for file, before in todo:
            try:
                if before:
                    _write(file, before)
                    continue
            except OSError:
                pass
            left.append((file, before))
    return [file for file, _ in left]


def _refused(write: Write, error: OSError, left: list[str]) -> PyrktError:
    file, value, where = write
    reason = (error.strerror or str(error)).lower()
    text = f'failed to write "{value}": write {file}: {reason}'
    if error.errno == EBUSY and file.endswith("/memory.limit_in_bytes"):
        usage, peak = (read_text(file.replace("limit", kind)) for kind in ("usage", "max_usage"))
        text = f"unable to set memory limit to {value} (current usage: {usage}, peak usage: {peak})"
    kept = f"; these keep their new values: {' '.join(left)}" if left else "; nothing was changed"
    return PyrktError(
        f"{text} ({where}){kept}", hint="the kernel refuses it: a parent may allow less, or a child use more"
    )
