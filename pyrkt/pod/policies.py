"""When an app is started again, and when a pod ends: the words of flags and of annotations, read to values.

    no | on-failure[:N] | always                              of an app: --restart, annotation pyrkt/restart-policy
    500ms | 2s | 1m                                           of an app: --restart-delay, annotation pyrkt/restart-delay
    true | false                                              of an app: --fatal, annotation pyrkt/fatal
    until-any-fails | until-all-exit | until-any-exits        of a pod: --exit-policy, annotation pyrkt/exit-policy

The specification leaves both to the executor (and asks for them in its issues 500 and 547).
"""

from __future__ import annotations

from pyrkt.base.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

RESTART, DELAY, EXIT = "pyrkt/restart-policy", "pyrkt/restart-delay", "pyrkt/exit-policy"
FATAL = "pyrkt/fatal"
"""The names of the annotations. appc takes what has no dot before the slash for nobody's domain."""

DEFAULT_EXIT = "any-failure"
_EXIT = {"until-any-fails": "any-failure", "until-all-exit": "all", "until-any-exits": "any"}
_UNITS = {"ms": 1, "s": 1000, "m": 60_000}
_MOST_RESTARTS, _LONGEST_MS = 1_000_000, 3_600_000


def restart(text: str, where: str) -> tuple[str, int]:
    """Return (policy, most restarts, 0 for any number) of ``text``; ``where`` names it to the user.

    Raises: UsageError.
    """
    policy, colon, count = text.partition(":")
    if policy not in ("no", "on-failure", "always") or (colon and policy != "on-failure"):
        raise UsageError(f"{where} {text!r} is no restart policy", hint="no, on-failure, on-failure:N or always")
    if not colon:
        return policy, 0
    if not (count.isascii() and count.isdigit()) or len(count) > 7 or not 0 < int(count) <= _MOST_RESTARTS:
        raise UsageError(f"{where} {text!r}: {count!r} is no number of restarts", hint="on-failure:5, say")
    return policy, int(count)


def delay(text: str, where: str) -> int:
    """Return the milliseconds that ``text`` means. Raises: UsageError."""
    number = text.rstrip("ms")
    unit = _UNITS.get(text[len(number) :])
    if unit is None or not (number.isascii() and number.isdigit()) or len(number) > 7:
        raise UsageError(f"{where} {text!r} is no duration", hint="500ms, 2s or 1m")
    if int(number) * unit > _LONGEST_MS:
        raise UsageError(f"{where} {text!r} is more than an hour", hint="500ms, 2s or 1m")
    return int(number) * unit


def exit_policy(text: str, where: str) -> str:
    """Return "any-failure", "all" or "any". Raises: UsageError."""
    if text not in _EXIT:
        raise UsageError(f"{where} {text!r} is none of {', '.join(_EXIT)}", hint="the default is until-any-fails")
    return _EXIT[text]


def switch(annotations: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """Return what the annotation ``name`` says, "true" or "false". Raises: UsageError."""
    text = annotations.get(name)
    if text is None:
        return default
    if text not in ("true", "false"):
        raise UsageError(f"annotation {name}={text!r} is neither true nor false", hint=f"{name}=true")
    return text == "true"
