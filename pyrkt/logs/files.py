"""The log files of one app, ``NAME.log`` and the older ``NAME.log.1``, ``.2`` ..., read as one as they are written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pyrkt.logs.line import Line, parse, stamp_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BLOCK = 1 << 17
_SAFE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY | os.O_NONBLOCK
_ROUNDS = 8
_TICK_NS = 10**9
"""A file's time may lie behind that of its last line by a tick of the kernel's clock, at most 10 ms."""


class Log:
    """The log of the app ``app`` in the open directory ``directory``, read from its beginning on.

    ``gap`` is set when files were removed before they had been read.
    """

    def __init__(self, directory: int, app: str) -> None:
        """Open nothing yet."""
        self.directory, self.app, self.gap = directory, app, False
        self._file, self._inode, self._rest, self._stamp = -1, 0, b"", b""

    def close(self) -> None:
        """Close the file that is being read."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def read(self) -> Iterator[Line]:
        """Yield every line that is there and has not been yielded before."""
        while True:
            if self._file >= 0:
                yield from self._read_on()
            following = self._following()
            if following is None:
                if not self._cut():
                    return
                continue
            if self._file >= 0:
                yield from self._read_on()  # what came before it was put aside
                yield from self._torn()
            self._open(following)

    def skip(self, since: bytes) -> None:
        """Pass over the files that were last written to before the time ``since``."""
        for inode, name in self._files()[::-1]:
            try:
                written = os.stat(name, dir_fd=self.directory, follow_symlinks=False).st_mtime_ns + _TICK_NS
            except FileNotFoundError:
                return
            if stamp_of(written) >= since:
                self._open((inode, name))
                return

    def tail(self, count: int, wanted: Callable[[Line], bool]) -> list[Line]:
        """Return the last ``count`` lines that are ``wanted``, with all their parts; ``read`` goes on after them."""
        lines: list[Line] = []
        ends, newest = 0, True
        for inode, name in self._files():
            file = self._opened(name, inode)
            if file < 0:
                continue
            try:
                size = _whole(file)
                if newest:
                    self.close()
                    self._file, self._inode = os.dup(file), inode
                    os.lseek(self._file, size, os.SEEK_SET)
                    newest = False
                for raw in _backwards(file, size):
                    line = parse(raw)
                    if not wanted(line):
                        continue
                    if line.whole or not lines:
                        ends += 1
                    if ends > count:
                        return lines[::-1]
                    lines.append(line)
            finally:
                os.close(file)
        return lines[::-1]

    def _read_on(self) -> Iterator[Line]:
        while data := os.read(self._file, _BLOCK):
            *lines, self._rest = (self._rest + data).split(b"\n")
            for raw in lines:
                line = parse(raw, self._stamp)
                self._stamp = line.stamp
                yield line

    def _cut(self) -> bool:
        """Tell whether somebody has emptied the file that is being read, and begin it anew."""
        if self._file < 0 or os.fstat(self._file).st_size >= os.lseek(self._file, 0, os.SEEK_CUR):
            return False
        os.lseek(self._file, 0, os.SEEK_SET)
        self._rest = b""
        return True

    def _torn(self) -> Iterator[Line]:
        """Yield what nobody will end any more: its writer was killed."""
        if self._rest:
            yield parse(self._rest, self._stamp)
        self._rest = b""

    def _files(self) -> list[tuple[int, str]]:
        """Return inode and name of each file, the newest first.

        They are put aside from the oldest on, so one that is looked at after the newer ones may be seen twice, never
        be passed over; but a listing may miss what is renamed meanwhile, and is then done again.
        """
        found: list[tuple[int, str]] = []
        for _ in range(_ROUNDS):
            before = self._inode_of(f"{self.app}.log")
            found = []
            for name in self._names():
                inode = self._inode_of(name)
                if inode and inode not in [known for known, _ in found]:
                    found.append((inode, name))
            if before and before == self._inode_of(f"{self.app}.log"):
                break
        return found

    def _names(self) -> list[str]:
        current = f"{self.app}.log"
        older = [name for name in os.listdir(self.directory) if name.startswith(f"{current}.")]
        numbered = [name for name in older if name[len(current) + 1 :].isdecimal()]
        return [current, *sorted(numbered, key=lambda name: int(name[len(current) + 1 :]))]

    def _inode_of(self, name: str) -> int:
        try:
            return os.stat(name, dir_fd=self.directory, follow_symlinks=False).st_ino
        except FileNotFoundError:
            return 0

    def _following(self) -> tuple[int, str] | None:
        """Return the file after the one that is being read; the oldest if there is none or it has been removed."""
        if self._file >= 0 and self._inode_of(f"{self.app}.log") == self._inode:
            return None
        files = self._files()
        inodes = [inode for inode, _ in files]
        if self._file >= 0 and self._inode in inodes:
            at = inodes.index(self._inode)
            return files[at - 1] if at else None
        self.gap |= self._file >= 0 and len(files) > 1
        return files[-1] if files else None

    def _open(self, found: tuple[int, str]) -> None:
        inode, name = found
        file = self._opened(name, inode)
        if file >= 0:
            self.close()
            self._file, self._inode = file, inode

    def _opened(self, name: str, inode: int) -> int:
        """Open the file ``name`` if it is still the one that was found, else where that is now; -1 if it is gone."""
        for _ in range(_ROUNDS):
            try:
                file = os.open(name, _SAFE, dir_fd=self.directory)
            except FileNotFoundError:
                file = -1
            if file >= 0 and os.fstat(file).st_ino == inode:
                return file
            if file >= 0:
                os.close(file)
            named = dict(self._files())
            if inode not in named:
                return -1
            name = named[inode]
        return -1


def _whole(file: int) -> int:
    """Return the file's size up to its last line break."""
    size = os.fstat(file).st_size
    at = size
    while at > 0:
        start = max(0, at - _BLOCK)
        found = os.pread(file, at - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        at = start
    return 0


def _backwards(file: int, size: int) -> Iterator[bytes]:
    """Yield the lines of the first ``size`` bytes, which end in a line break, the last one first."""
    rest, at = b"", size
    while at > 0:
        start = max(0, at - _BLOCK)
        first, *lines = (os.pread(file, at - start, start) + rest).split(b"\n")
        if at == size:
            lines.pop()
        yield from reversed(lines)
        rest, at = first, start
    if size:
        yield rest
