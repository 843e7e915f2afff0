"""User namespaces of pods: which ids of the host stand behind those of the container."""

from __future__ import annotations

import os
import random
import shutil
from typing import TYPE_CHECKING

from pyrkt.base.errors import CannotCreate
from pyrkt.base.record import Record
from pyrkt.bundle.options import IdRange
from pyrkt.cgroup.host import read_text
from pyrkt.pod.directory import write_new

if TYPE_CHECKING:
    from pyrkt.pod.directory import Held, Pods

RANGE = 65536
"""Ids of one pod, as rkt and nspawn have it: enough for every id that images use."""
_FIRST, _LAST = 1 << 19, 1 << 31
"""Between what people, services and subuid ranges use and where ids turn negative for old programs."""


class Mappings(Record):
    """The id mappings of a pod; ``shift`` is what the owner of every file of a copied root is raised by."""

    uids: tuple[IdRange, ...] = ()
    gids: tuple[IdRange, ...] = ()
    shift: int = 0

    @property
    def shifted(self) -> bool:
        """Whether the root has to be a copy with owners of its own."""
        return self.shift > 0


def mappings(*, private: bool, pods: Pods, pod: Held) -> Mappings:
    """Return the mappings that ``pod`` runs with; none for root unless ``private`` asks for a user namespace."""
    if os.geteuid() != 0:
        return rootless()
    if not private:
        return Mappings()
    base = _free_base(pods)
    # Written before it is used: the next pod must not choose the same.
    write_new(f"{pod.path}/userns", str(base).encode())
    spans = (IdRange(container=0, host=base, size=RANGE),)
    return Mappings(uids=spans, gids=spans, shift=base)


def rehearsed(*, private: bool) -> Mappings:
    """Return the mappings that a pod would get, with the first range there is for a private one."""
    if os.geteuid() != 0:
        return rootless()
    spans = (IdRange(container=0, host=_FIRST, size=RANGE),)
    return Mappings(uids=spans, gids=spans, shift=_FIRST) if private else Mappings()


def rootless() -> Mappings:
    """Return an ordinary user's mappings: root of the container is the user; the rest is the subordinate range."""
    return Mappings(
        uids=_own(os.geteuid(), "/etc/subuid", "newuidmap"), gids=_own(os.getegid(), "/etc/subgid", "newgidmap")
    )


def _own(number: int, file: str, helper: str) -> tuple[IdRange, ...]:
    ranges = [IdRange(container=0, host=number, size=1)]
    if shutil.which(helper):
        container = 1
        for start, size in subordinate(read_text(file), os.geteuid(), _user_name()):
            ranges.append(IdRange(container=container, host=start, size=size))
            container += size
    return tuple(ranges)


def subordinate(text: str, uid: int, name: str) -> list[tuple[int, int]]:
    """Return (first id, count) of each range that ``text``, of /etc/subuid, gives to a user. Source: subuid(5)."""
    found = []
    for line in text.splitlines():
        words = line.split(":")
        numbers = all(word.isascii() and word.isdigit() for word in words[1:])
        if len(words) == 3 and words[0] in (name, str(uid)) and numbers and int(words[2]) > 0:
            found.append((int(words[1]), int(words[2])))
    return found


def _user_name() -> str:
    import pwd  # noqa: PLC0415 - loads the name service; only an ordinary user with newuidmap needs it

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""


def _free_base(pods: Pods) -> int:
    taken = {other.read("userns").strip() for other in pods.each()}
    for _ in range(1000):
        base = random.SystemRandom().randrange(_FIRST, _LAST, RANGE)
        if str(base) not in taken:
            return base
    raise CannotCreate("no free range of user ids for the pod", hint="pyrkt gc")


def shift(root: str, offset: int) -> None:
    """Raise owner and group of everything below ``root``, a tree nobody else can reach, by ``offset``.

    An id beyond the range has no place in the user namespace; such a file becomes root's.
    """
    _shift_one(root, offset)
    for path, directories, files in os.walk(root):
        for name in (*directories, *files):
            _shift_one(f"{path}/{name}", offset)


def _shift_one(path: str, offset: int) -> None:
    status = os.lstat(path)
    if status.st_nlink > 1 and status.st_uid >= offset:
        return  # a hard link that was met before
    uid, gid = (number if number < RANGE else 0 for number in (status.st_uid, status.st_gid))
    capability = _capability(path)
    os.lchown(path, uid + offset, gid + offset)
    if not os.path.islink(path):
        os.chmod(path, status.st_mode & 0o7777)  # chown(2) took setuid and setgid away, and file capabilities
    if capability:
        os.setxattr(path, "security.capability", capability, follow_symlinks=False)


def _capability(path: str) -> bytes:
    try:
        return os.getxattr(path, "security.capability", follow_symlinks=False)
    except OSError:
        return b""
