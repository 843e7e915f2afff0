"""appc's isolators: limits and privileges by name, and what the value of each must look like."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pyrkt.base.errors import InvalidSpec
from pyrkt.base.units import quantity, quantity_milli
from pyrkt.spec import appc_types as ac

if TYPE_CHECKING:
    from pyrkt.base.reader import Reader

_SIZE_MAX = (1 << 63) - 1
_CAPABILITY = re.compile(r"CAP_[A-Z][A-Z0-9_]{1,31}", re.ASCII)
_SYSCALL = re.compile(r"[a-z0-9_]{1,64}|@[a-z0-9.-]+/[a-z0-9-]+", re.ASCII)
_ERRNO = re.compile(r"E[A-Z0-9]{1,20}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolator:
    """One limit or privilege: ``name``, and a ``value`` of whatever JSON type that name has.

    The value of a name in ``ISOLATORS`` has been checked; that of another is as it was written.
    """

    name: str
    value: Any

    @classmethod
    def parse(cls, r: Reader) -> Self:
        """Read one isolator."""
        name = ac.identifier(r["name"])
        value = r["value"]
        if check := ISOLATORS.get(name):
            check(value)
        elif not value.present:
            raise value.fail("is required")
        return cls(name=name, value=value.value)

    def dump(self) -> dict[str, Any]:
        """Return the JSON object that parses to this."""
        return {"name": self.name, "value": self.value}


def _memory(r: Reader) -> None:
    _limit_and_request(r, quantity)


def _cpu(r: Reader) -> None:
    _limit_and_request(r, quantity_milli)


def _limit_and_request(r: Reader, read: Callable[[str, str], int]) -> None:
    if not r["limit"].present and not r["request"].present:
        raise r.fail("needs a limit or a request")
    amounts = {name: _amount(r[name], read) for name in ("limit", "request") if r[name].present}
    if amounts.get("limit") == 0:
        raise r["limit"].fail("must be more than nothing")
    if amounts.get("request", 0) > amounts.get("limit", amounts.get("request", 0)):
        raise r["request"].fail("is more than the limit")


def _amount(r: Reader, read: Callable[[str, str], int]) -> int:
    text = str(r.integer(0, _SIZE_MAX)) if isinstance(r.value, int) else r.text()
    try:
        return read(text, r.where)
    except InvalidSpec as error:
        raise r.fail(error.problem, hint=error.hint) from None


def _bandwidth(r: Reader) -> None:
    if r["default"].value is not True:
        raise r["default"].fail("must be true: limits of one device or network are not specified")
    if r["request"].present:
        raise r["request"].fail("must not be set")
    _amount(r["limit"], quantity)


def _capabilities(r: Reader) -> None:
    for item in ac.required_items(r["set"]):
        if not _CAPABILITY.fullmatch(item.text()):
            raise item.fail(f"{item.value!r} is not a capability such as CAP_NET_ADMIN")


def _seccomp(r: Reader) -> None:
    items = ac.required_items(r["set"])
    if not items:
        raise r["set"].fail("must not be empty", hint="@appc.io/all and @appc.io/empty name all calls and none")
    for item in items:
        if not _SYSCALL.fullmatch(item.text()):
            raise item.fail(f"{item.value!r} is not a system call or a set of them")
    errno = r["errno"].text("")
    if errno and not _ERRNO.fullmatch(errno):
        raise r["errno"].fail(f"{errno!r} is not an errno name such as EPERM")


def _selinux(r: Reader) -> None:
    for name in ("user", "role", "type", "level"):
        ac.filled(r[name])


def _apparmor(r: Reader) -> None:
    ac.filled(r["profile"])


def _no_new_privileges(r: Reader) -> None:
    r.boolean()


def _sysctl(r: Reader) -> None:
    if not r.present:
        raise r.fail("is required (an object)")
    r.text_map()


def _cpu_shares(r: Reader) -> None:
    r.integer(0, _SIZE_MAX)


def _oom_score(r: Reader) -> None:
    r.integer(-1000, 1000)


ISOLATORS: Mapping[str, Callable[[Reader], None]] = {
    "resource/memory": _memory,
    "resource/cpu": _cpu,
    "resource/block-bandwidth": _bandwidth,
    "resource/block-iops": _bandwidth,
    "resource/network-bandwidth": _bandwidth,
    "os/linux/capabilities-retain-set": _capabilities,
    "os/linux/capabilities-remove-set": _capabilities,
    "os/linux/seccomp-retain-set": _seccomp,
    "os/linux/seccomp-remove-set": _seccomp,
    "os/linux/selinux-context": _selinux,
    "os/linux/apparmor-profile": _apparmor,
    "os/linux/no-new-privileges": _no_new_privileges,
    "os/linux/cpu-shares": _cpu_shares,
    "os/linux/oom-score-adj": _oom_score,
    "os/unix/sysctl": _sysctl,
}
"""The isolators that are specified or in the schema, each with the check of its value."""

# Of each pair one, and that once: a container has one bounding set and one filter.
_EXCLUSIVE = (
    ("os/linux/capabilities-retain-set", "os/linux/capabilities-remove-set"),
    ("os/linux/seccomp-retain-set", "os/linux/seccomp-remove-set"),
)


def read_isolators(r: Reader) -> tuple[Isolator, ...]:
    """Read an array of isolators; one set of capabilities and one of system calls at most."""
    read = [(item, Isolator.parse(item)) for item in r.items()]
    for pair in _EXCLUSIVE:
        first = ""
        for item, isolator in read:
            if isolator.name not in pair:
                continue
            if first:
                same = "is given twice" if first == isolator.name else f"cannot stand beside {first}"
                raise item["name"].fail(f"{isolator.name} {same}")
            first = isolator.name
    return tuple(isolator for _, isolator in read)


def known_only(r: Reader) -> None:
    """Refuse an isolator that is not in ``ISOLATORS``."""
    for item in r.items():
        if item["name"].text() not in ISOLATORS:
            raise item["name"].fail(f"{item['name'].value!r} is not an isolator we know")
