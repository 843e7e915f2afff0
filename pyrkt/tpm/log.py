"""The measurement log: one file a boot, to which every launch of the host appends, one launch at a time.

An append is made under the file's exclusive flock(2), by one write(2), and is followed by an fsync(2). Before it the
file's sticky bit is set, after it the bit is cleared, as systemd does with its log: whoever finds the bit set knows
that another died in between, and says so by a record of its own. What that other one had begun to write stays there;
each record begins with a byte that no JSON has, so the next cannot be taken for its end.
"""

from __future__ import annotations

import os
import stat
import time
from errno import EEXIST, ENOSPC

from pyrkt import __version__
from pyrkt.base.errors import CannotCreate, InvalidSpec
from pyrkt.base.record import Record
from pyrkt.kernel import lock
from pyrkt.tpm import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

MARK = stat.S_ISVTX
"""The bit of the file's mode that is set while a writer is at work."""
_MODE = 0o600  # whoever may open the file may lock it, and hold up every launch
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY | os.O_NONBLOCK
_WINDOW = 8192
_NUMBER, _BOOT = b'\x1e{"recnum":', b'"bootId":"'


class _Tail(Record):
    """How a log ends: the ``number`` that comes next, the ``boot`` of the last record, bytes of a ``torn`` record."""

    number: int = 0
    boot: str = ""
    torn: int = 0


def append(path: str, contents: Sequence[dict[str, Any]]) -> None:
    """Append a record for each of ``contents``, all or none of them, behind one another.

    Each gets members that say when: ``bootId`` and ``timestamp`` (microseconds of CLOCK_BOOTTIME).
    Raises: CannotCreate if something else is in the log's place; InvalidSpec if the log is damaged; OSError.
    """
    boot = boot_id()
    descriptor, tail = _open(path, boot)
    try:
        before = os.fstat(descriptor)
        now = {"bootId": boot, "timestamp": time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000}
        said = [*_preface(tail, marked=bool(before.st_mode & MARK)), *contents]
        data = b"".join([record.line(tail.number + index, content | now) for index, content in enumerate(said)])
        os.fchmod(descriptor, _MODE | MARK)
        _write(descriptor, before.st_size, data)
        os.fchmod(descriptor, _MODE)
    finally:
        os.close(descriptor)


def _preface(tail: _Tail, *, marked: bool) -> list[dict[str, Any]]:
    """Return what has to be said before the records of now: that a log begins, that a writer has died."""
    said: list[dict[str, Any]] = []
    if not tail.number:
        said.append({"eventType": record.BEGIN, "format": record.FORMAT, "version": __version__})
    if marked or tail.torn:
        said.append({"eventType": record.INTERRUPTED, "torn": tail.torn})
    return said


def _write(descriptor: int, size: int, data: bytes) -> None:
    try:
        written = os.write(descriptor, data)
        if written < len(data):
            raise OSError(ENOSPC, os.strerror(ENOSPC))
        os.fsync(descriptor)
    except BaseException:
        # Nobody but us has seen it, and nothing was started: an append that fails leaves the log as it was.
        os.ftruncate(descriptor, size)
        os.fchmod(descriptor, _MODE)
        raise


def _open(path: str, boot: str) -> tuple[int, _Tail]:
    """Return the log, locked, and how it ends; one that is not of this boot is put aside under its own boot's id."""
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    while True:
        descriptor = os.open(path, _FLAGS, _MODE)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise CannotCreate(f"{path}: the measurement log must be a regular file", hint="remove what is there")
            lock.take(descriptor, exclusive=True)
            if _is_at(path, descriptor):
                tail = _tail(descriptor, path)
                if tail.boot in ("", boot):
                    return descriptor, tail
                _put_aside(path, tail.boot)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_at(path: str, descriptor: int) -> bool:
    """Tell whether the log has not been put aside while we waited for its lock."""
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(descriptor))


def _put_aside(path: str, boot: str) -> None:
    target = f"{path}.{boot}"
    if os.path.lexists(target):
        raise OSError(EEXIST, os.strerror(EEXIST), target)
    os.rename(path, target)


def _tail(descriptor: int, path: str) -> _Tail:
    size = os.fstat(descriptor).st_size
    window = _WINDOW
    while True:
        start = max(size - window, 0)
        data = os.pread(descriptor, size - start, start)
        end = data.rfind(record.END)
        begin = data.rfind(record.SEPARATOR, 0, max(end, 0))
        if begin >= 0 or start == 0:
            break
        window *= 4  # records have no greatest length
    if end < 0:
        return _Tail(torn=size)
    number = data[begin + len(_NUMBER) : data.find(b",", begin)] if data.startswith(_NUMBER, max(begin, 0)) else b""
    at = data.find(_BOOT, begin)
    if not number.isdigit() or at < 0:
        raise InvalidSpec(
            "does not end in a record of a measurement log", document=path, hint=f"keep it, elsewhere: mv {path} DIR"
        )
    boot = data[at + len(_BOOT) : at + len(_BOOT) + 32].decode("ascii", "replace")
    return _Tail(number=int(number) + 1, boot=boot, torn=len(data) - end - 1)


def boot_id() -> str:
    """Return the id of this boot as systemd writes it: 32 hex digits."""
    with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
        return file.read().decode().strip().replace("-", "")
