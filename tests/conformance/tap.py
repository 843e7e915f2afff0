"""What a validation program said: TAP with a JSON block a point."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_POINT = re.compile(r"(not )?ok\b[ 0-9]*(?:- )?(.*)")
_PLAN = re.compile(r"1\.\.(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """``why`` is empty where the program passes, else one line: the first thing that was wrong."""

    points: int = 0
    failed: int = 0
    why: str = ""


def judge(stdout: str, stderr: str, code: int) -> Outcome:
    """Return what one run came to.

    A program passes if it ends with 0, every point is "ok", and it reports no error outside of a point: some of them
    have no points at all, and say only what is wrong. Some write nothing; for those the exit code counts alone.
    """
    points, failed, complaints, plans = 0, 0, list[str](), list[int]()
    after_point = False
    lines = iter(stdout.splitlines())
    for line in lines:
        if match := _POINT.match(line):
            points, after_point = points + 1, True
            if match[1] and "# TODO" not in line:
                failed += 1
                complaints.append(match[2])
        elif match := _PLAN.match(line):
            plans.append(int(match[1]))
        elif line.strip() == "---":
            error = _error_in(lines)
            if error and not after_point:
                complaints.append(error)
            after_point = False
    if not complaints and code:
        complaints.append(last_error(stderr) or f"ended with {code}")
    if not complaints and plans and sum(plans) != points:
        complaints.append(f"{points} points of {sum(plans)}")
    return Outcome(points=points, failed=failed, why=one_line(complaints[0]) if complaints else "")


def _error_in(lines: Iterator[str]) -> str:
    """Read a block to its end; the words of its member "error"."""
    block = []
    for line in lines:
        if line.strip() == "...":
            break
        block.append(line)
    try:
        value = json.loads("\n".join(block))
    except ValueError:
        return ""
    return str(value.get("error", "")) if isinstance(value, dict) else ""


def last_error(stderr: str) -> str:
    """Return the line that says most: the runtime's own error, or else the last one."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    own = [match[1] for line in lines if (match := re.search(r'msg="((?:[^"\\]|\\.)*)"', line))]
    plain = [line for line in lines if not re.match(r"exit status|failed to |Refer to:", line)]
    return (own or plain or lines or [""])[-1]


def one_line(text: str, width: int = 150) -> str:
    """Return the first line, cut."""
    line = text.replace('\\"', '"').strip().partition("\n")[0]
    return line if len(line) <= width else line[: width - 3] + "..."
