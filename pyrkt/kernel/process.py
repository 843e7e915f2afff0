"""capabilities(7), user_namespaces(7), proc(5): what this process may do, and which process a number means."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_SET_CHILD_SUBREAPER = 36  # include/uapi/linux/prctl.h
# include/uapi/linux/capability.h
CAP_CHOWN, CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN, CAP_SETFCAP = 0, 6, 7, 21, 31


def status(pid: int | str = "self") -> Mapping[str, str]:
    """Return /proc/PID/status as name -> text. Raises FileNotFoundError if there is no such process."""
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="surrogateescape") as lines:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def capabilities(pid: int | str = "self") -> Mapping[str, int]:
    """Return the capability sets of a process as masks: inheritable, permitted, effective, bounding, ambient."""
    words = status(pid)
    names = {"inheritable": "Inh", "permitted": "Prm", "effective": "Eff", "bounding": "Bnd", "ambient": "Amb"}
    return {name: int(words["Cap" + short], 16) for name, short in names.items()}


def holds(*numbers: int) -> bool:
    """Tell whether all of these capabilities are effective in this process."""
    effective = capabilities()["effective"]
    return all(effective >> number & 1 for number in numbers)


def id_ranges(kind: str = "uid") -> tuple[tuple[int, int], ...]:
    """Return (first id, count) of each range of ids, "uid" or "gid", that this process' user namespace knows."""
    with open(f"/proc/self/{kind}_map", encoding="ascii") as lines:
        return tuple((int(first), int(count)) for first, _, count in map(str.split, lines))


def knows_one_id() -> bool:
    """Tell whether the user namespace of this process has no other user than the caller."""
    return sum(count for _, count in id_ranges()) == 1


def gives_files_away() -> bool:
    """Tell whether this process may give files to other users: root may, unless it is the only one in its world."""
    return os.geteuid() == 0 and holds(CAP_CHOWN) and not knows_one_id()


def last_cap() -> int:
    """Return the number of the highest capability the kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
        return int(file.read())


def start_time(pid: int) -> int:
    """Return when process ``pid`` started, in clock ticks since boot; 0 if there is no such process or it is a zombie.

    With the number it names a process for good: numbers are used again, the pair is not. Source: proc(5), stat, (22).
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name, in parentheses, may hold blanks and parentheses itself.
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in {b"Z", b"X"} else int(fields[19])


def adopt_orphans() -> None:
    """Become the parent of what our children leave behind, prctl(2) PR_SET_CHILD_SUBREAPER. Raises KernelError."""
    from pyrkt.kernel.libc import call  # noqa: PLC0415 - the rest of this costs no ctypes

    call("prctl", _SET_CHILD_SUBREAPER, 1, 0, 0, 0, about="PR_SET_CHILD_SUBREAPER")
