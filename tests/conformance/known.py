"""The list of known failures: which programs fail, for whom and why, and what a program needs of its host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.conformance.tap import Outcome

LIST = Path(__file__).with_name("known-failures.txt")
OURS = "pyrkt-oci"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line: ``program`` fails for ``runtimes``, or, where the host lacks one of ``needs``, is left out."""

    program: str
    runtimes: tuple[str, ...]
    needs: tuple[str, ...]
    reason: str


def read(text: str) -> tuple[Entry, ...]:
    """Read ``PROGRAM | RUNTIME... | REASON`` and ``PROGRAM | needs THING... | REASON``.

    Raises: ValueError for anything else; a failure without a reason is none.
    """
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = [field.strip() for field in line.split("|")]
        if len(fields) != 3 or not all(fields):
            raise ValueError(f"line {number}: expected PROGRAM | RUNTIME... | REASON")
        who = tuple(fields[1].split())
        needs, runtimes = (who[1:], ()) if who[0] == "needs" else ((), who)
        entries.append(Entry(program=fields[0], runtimes=runtimes, needs=needs, reason=fields[2]))
    return tuple(entries)


def missing(needs: Iterable[str], proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> str:
    """Return the first of ``needs`` that this host does not have, or nothing.

    ``v1:NAME`` is a cgroup v1 controller that is mounted, ``file:PATH`` a file below /sys, ``capabilities:all`` a
    bounding set that lacks none, ``lsm:NAME`` a security module that runs, ``apparmor:NAME`` a profile that is loaded.
    """
    for need in needs:
        kind, _, name = need.partition(":")
        if not _HAS[kind](name, proc, sys):
            return need
    return ""


def _mounted(name: str, proc: Path, _sys: Path) -> bool:
    mounts = [line.partition(" - ")[2].split() for line in (proc / "self/mountinfo").read_text().splitlines()]
    return any(mount[0] == "cgroup" and name in mount[2].split(",") for mount in mounts)


def _file(name: str, _proc: Path, sys: Path) -> bool:
    return (sys / name.removeprefix("/sys/")).exists()


def _capabilities(_all: str, proc: Path, _sys: Path) -> bool:
    lines = (proc / "self/status").read_text().splitlines()
    bounding = next(line.split()[1] for line in lines if line.startswith("CapBnd:"))
    return int(bounding, 16) == (2 << int((proc / "sys/kernel/cap_last_cap").read_text())) - 1


def _module(name: str, _proc: Path, sys: Path) -> bool:
    path = sys / "kernel/security/lsm"
    return path.exists() and name in path.read_text().strip().split(",")


def _profile(name: str, _proc: Path, sys: Path) -> bool:
    path = sys / "kernel/security/apparmor/profiles"
    return path.exists() and any(line.startswith(f"{name} (") for line in path.read_text().splitlines())


_HAS = {"v1": _mounted, "file": _file, "capabilities": _capabilities, "lsm": _module, "apparmor": _profile}


def verdict(entries: Iterable[Entry], results: Mapping[str, Mapping[str, Outcome]]) -> tuple[list[str], list[str]]:
    """Compare what happened (program, runtime, outcome) with the list: what fails the run, and what is only said.

    A peer's line that is no longer true is said only: peers change with the distribution, not with this tree.
    """
    problems, notes = list[str](), list[str]()
    listed = {(entry.program, runtime) for entry in entries for runtime in entry.runtimes}
    for program, outcomes in results.items():
        for runtime, outcome in outcomes.items():
            told = problems if runtime == OURS else notes
            if not outcome.why and (program, runtime) in listed:
                told.append(f"{program}: {runtime} passes it: take it off the list")
            if outcome.why and (program, runtime) not in listed:
                told.append(f"{program}: {runtime} fails it, and the list does not say so: {outcome.why}")
        better = [runtime for runtime, outcome in outcomes.items() if not outcome.why]
        if better and OURS in outcomes and OURS not in better:
            problems.append(f"{program}: {' and '.join(sorted(better))} passes it, {OURS} does not")
    return problems, notes


def strangers(entries: Iterable[Entry], programs: Iterable[str]) -> list[str]:
    """Return a problem for each listed program that the suite does not have."""
    return [
        f"{name}: is listed, but no program of the suite"
        for name in sorted({e.program for e in entries} - set(programs))
    ]
