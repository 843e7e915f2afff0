"""User namespaces of pods: which ids of the host stand behind those of the container."""

from __future__ import annotations

import os
import random
import shutil
import stat
from typing import TYPE_CHECKING

from pyrkt.base.errors import CannotCreate, NoPermission, UsageError
from pyrkt.base.record import Record
from pyrkt.bundle.options import IdRange
from pyrkt.cgroup.host import read_text
from pyrkt.kernel import process
from pyrkt.pod.directory import write_new

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyrkt.pod.directory import Held, Pod, Pods

HELPER_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""Where stage1 looks for newuidmap and newgidmap."""
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


def on_host(ranges: tuple[IdRange, ...], number: int) -> int:
    """Return which id of the host is behind ``number`` of the container. Raises: UsageError if there is none."""
    if not ranges:
        return number
    for span in ranges:
        if span.container <= number < span.container + span.size:
            return span.host + number - span.container
    raise UsageError(f"the user namespace of the pod has no id {number}", hint="map more ids, or take another one")


def mappings(*, private: bool, pods: Pods, pod: Held) -> Mappings:
    """Return the mappings that ``pod`` runs with; none for root unless ``private`` asks for a user namespace."""
    if needs_user_namespace():
        return rootless()
    if not private:
        return Mappings()
    base = _free_base(pods)
    # Written before it is used: the next pod must not choose the same.
    write_new(f"{pod.path}/userns", str(base).encode())
    spans = (IdRange(container=0, host=base, size=RANGE),)
    return Mappings(uids=spans, gids=spans, shift=base)


def recorded(pod: Pod) -> Mappings:
    """Return the mappings that ``pod`` was made with."""
    if needs_user_namespace():
        return rootless()
    text = pod.read("userns").strip()
    if not (text.isascii() and text.isdigit()):
        return Mappings()
    spans = (IdRange(container=0, host=int(text), size=RANGE),)
    return Mappings(uids=spans, gids=spans, shift=int(text))


def rehearsed(*, private: bool) -> Mappings:
    """Return the mappings that a pod would get, with the first range there is for a private one."""
    if needs_user_namespace():
        return rootless()
    spans = (IdRange(container=0, host=_FIRST, size=RANGE),)
    return Mappings(uids=spans, gids=spans, shift=_FIRST) if private else Mappings()


def needs_user_namespace() -> bool:
    """Tell whether this process can make the other namespaces only inside of a user namespace of its own.

    Root of a user namespace with one id could without, but is as little of a root as an ordinary user.
    """
    return os.geteuid() != 0 or not process.holds(process.CAP_SYS_ADMIN) or process.knows_one_id()


def rootless() -> Mappings:
    """Return the mappings of one who is not root of the host, in everything or in name only.

    An ordinary user is root of the container, followed by the subordinate ranges; root without CAP_SYS_ADMIN keeps
    every id that it may map.
    """
    if os.geteuid() == 0 and process.holds(process.CAP_SETUID, process.CAP_SETGID, process.CAP_SETFCAP):
        return Mappings(uids=_same("uid"), gids=_same("gid"))
    alone = Mappings(uids=_own(os.geteuid()), gids=_own(os.getegid()))
    if not all(map(_may_help, ("newuidmap", "newgidmap"))):
        return alone
    uids, gids = _subordinate("uid"), _subordinate("gid")
    if not (uids and gids):  # an image's files have both
        return alone
    return Mappings(uids=_own(os.geteuid(), uids), gids=_own(os.getegid(), gids))


def _same(kind: str) -> tuple[IdRange, ...]:
    return tuple(IdRange(container=first, host=first, size=size) for first, size in process.id_ranges(kind))


def _subordinate(kind: str) -> list[tuple[int, int]]:
    """Return the caller's ranges of ids, "uid" or "gid", that exist where it is: in a container few do."""
    given = subordinate(read_text(f"/etc/sub{kind}"), os.geteuid(), _user_name())
    known = process.id_ranges(kind)
    return [
        (start, size)
        for start, size in given
        if any(first <= start and start + size <= first + count for first, count in known)
    ]


def _own(number: int, more: Iterable[tuple[int, int]] = ()) -> tuple[IdRange, ...]:
    ranges = [IdRange(container=0, host=number, size=1)]
    for start, size in more:
        ranges.append(IdRange(container=ranges[-1].container + ranges[-1].size, host=start, size=size))
    return tuple(ranges)


def _may_help(program: str) -> bool:
    """Tell whether ``program`` is there and gets the privilege that it needs: where nothing may, it cannot."""
    path = shutil.which(program, path=HELPER_PATH)
    if path is None or process.status().get("NoNewPrivs") == "1" or os.statvfs(path).f_flag & os.ST_NOSUID:
        return False
    return bool(os.stat(path).st_mode & stat.S_ISUID) or bool(_capability(path))


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
    if not any(first <= _FIRST and first + count >= _LAST for first, count in process.id_ranges()):
        raise NoPermission(
            "--private-users needs ids of its own, and the user namespace that this runs in has none to give",
            hint="leave it out, or run outside of the container",
        )
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
