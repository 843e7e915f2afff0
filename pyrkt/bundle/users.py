"""Users and groups of an image: names, numbers and paths resolved by the image's own files.

Never by the host's name service (it would answer for the wrong machine, or load the image's libraries), and strictly:
Docker and Podman have read overlong numbers as root (CVE-2024-40635) and garbage in passwd as somebody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pyrkt.base.errors import ImageRefused, InvalidSpec, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_ID = (1 << 32) - 2
"""2**32 - 1 is "no change" to setresuid(2)."""
_FILE_MAX, _LINE_MAX = 1 << 20, 64 << 10
_NUMBER = re.compile(rb"[0-9]{1,10}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a process is: ids, supplementary groups, and what passwd says of the user (empty if it says nothing)."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    name: str = ""
    home: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One line of passwd."""

    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One line of group."""

    name: str
    gid: int
    members: tuple[str, ...]


class Files(Protocol):
    """What of a root file system is asked, be it trees of the store or a running container."""

    def read(self, path: str, limit: int = ...) -> bytes | None:
        """Return the content of a regular file, at most ``limit`` bytes; None if there is none."""

    def owner(self, path: str) -> tuple[int, int] | None:
        """Return (uid, gid) of what ``path`` leads to; None if it leads to nothing."""


class Accounts:
    """The passwd and group files of one image; a name or number found twice means the first, as getpwnam(3) has it."""

    def __init__(self, rootfs: Files) -> None:
        """Read both files below ``rootfs``. Raises: ImageRefused if one is larger than 1 MiB or has an endless line."""
        self._rootfs = rootfs
        self.users = tuple(_users(_lines(rootfs, "/etc/passwd")))
        self.groups = tuple(_groups(_lines(rootfs, "/etc/group")))

    def user(self, name: str) -> User | None:
        """Return the user called ``name``."""
        return next((user for user in self.users if user.name == name), None)

    def user_of(self, uid: int) -> User | None:
        """Return the user with the number ``uid``."""
        return next((user for user in self.users if user.uid == uid), None)

    def group(self, name: str) -> Group | None:
        """Return the group called ``name``."""
        return next((group for group in self.groups if group.name == name), None)

    def groups_of(self, name: str, gid: int) -> tuple[int, ...]:
        """Return the supplementary groups of the user ``name`` whose own group is ``gid``, in the file's order."""
        found = (group.gid for group in self.groups if name in group.members)
        return tuple(number for number in dict.fromkeys(found) if number != gid)

    def oci(self, text: str) -> Identity:
        """Return who ``text`` is: "", USER or USER:GROUP of an image configuration.

        Numbers are taken as they are; names must exist. Supplementary groups come with a name that is alone.
        Source: image-spec 1.1, conversion.md, "config.User"; config.md, "User".
        Raises: InvalidSpec for a name the image does not have.
        """
        who, _, group = (text or "0").partition(":")
        uid, user = self._oci_user(who)
        gid = self._group_id(group) if group else (user.gid if user else 0)
        groups = self.groups_of(user.name, gid) if user and not group and not _is_number(who) else ()
        return Identity(uid=uid, gid=gid, groups=groups, name=user.name if user else "", home=user.home if user else "")

    def _oci_user(self, who: str) -> tuple[int, User | None]:
        if _is_number(who):
            uid = number(who, "user")
            return uid, self.user_of(uid)
        user = self.user(who)
        if user is None:
            raise unknown("user", who, [known.name for known in self.users])
        return user.uid, user

    def _group_id(self, text: str) -> int:
        if _is_number(text):
            return number(text, "group")
        group = self.group(text)
        if group is None:
            raise unknown("group", text, [known.name for known in self.groups])
        return group.gid

    def appc(self, user: str, group: str, groups: tuple[int, ...]) -> Identity:
        """Return who ``user`` and ``group`` of an appc app are: a name, else a number, else a path's owner.

        Source: appc 0.8, image manifest, "user", "group", "supplementaryGIDs". (rkt tried numbers first.)
        Raises: InvalidSpec for a name or path the image does not have.
        """
        found = self.user(user)
        uid = found.uid if found else self._appc_number("user", user, [known.name for known in self.users])
        named = self.group(group)
        gid = named.gid if named else self._appc_number("group", group, [known.name for known in self.groups])
        found = found or self.user_of(uid)
        return Identity(
            uid=uid, gid=gid, groups=groups, name=found.name if found else "", home=found.home if found else ""
        )

    def _appc_number(self, kind: str, text: str, names: list[str]) -> int:
        if text == "root":
            return 0  # the kernel's own, whether or not the image has a file that says so
        if text.startswith("/"):
            owner = self._rootfs.owner(text)
            if owner is None:
                raise InvalidSpec(
                    printable(f"{kind} {text!r}: the image has no such file or directory"), document="image"
                )
            return owner[0 if kind == "user" else 1]
        if _is_number(text):
            return number(text, kind)
        raise unknown(kind, text, names)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def number(text: str, kind: str) -> int:
    """Return the id that the digits ``text`` mean. Raises: InvalidSpec beyond 2**32 - 2."""
    if len(text) > 10 or int(text) > MAX_ID:
        raise InvalidSpec(f"{kind} id {text[:40]} is more than {MAX_ID}", document="image")
    return int(text)


def unknown(kind: str, name: str, names: list[str]) -> InvalidSpec:
    """Return the complaint that the image has no user or group ``name``, with those it has."""
    there = ", ".join(dict.fromkeys(names[:20])) or "none at all"
    return InvalidSpec(
        printable(f"{kind} {name!r} does not exist in the image"),
        document="image",
        hint=printable(f"it has {there}; a number works without an entry"),
    )


def _lines(rootfs: Files, path: str) -> list[list[bytes]]:
    data = rootfs.read(path, _FILE_MAX) or b""
    lines = data.split(b"\n")
    if any(len(line) > _LINE_MAX for line in lines):
        raise ImageRefused(f"{path} of the image has a line of more than {_LINE_MAX >> 10} KiB")
    return [line.split(b":") for line in lines]


# A line that is not as passwd(5) and group(5) want it names nobody: it is left out, not guessed at.


def _users(lines: list[list[bytes]]) -> Iterator[User]:
    for fields in lines:
        if len(fields) == 7 and fields[0] and (ids := _ids(fields[2], fields[3])):
            yield User(name=_text(fields[0]), uid=ids[0], gid=ids[1], home=_text(fields[5]))


def _groups(lines: list[list[bytes]]) -> Iterator[Group]:
    for fields in lines:
        if len(fields) == 4 and fields[0] and (ids := _ids(fields[2])):
            members = tuple(_text(member) for member in fields[3].split(b",") if member)
            yield Group(name=_text(fields[0]), gid=ids[0], members=members)


def _ids(*fields: bytes) -> tuple[int, ...]:
    """Return the ids in ``fields``; nothing if one of them is none."""
    numbers = tuple(int(field) for field in fields if _NUMBER.fullmatch(field))
    return numbers if len(numbers) == len(fields) and max(numbers) <= MAX_ID else ()


def _text(field: bytes) -> str:
    return field.decode("utf-8", "backslashreplace")
