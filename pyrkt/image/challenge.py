"""WWW-Authenticate: what a server wants to hear, out of what may be several challenges in several headers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# RFC 9110, 11.6.1 and 5.6: a token; a token followed by "=" is a parameter of the scheme before it.
_PART = re.compile(r"""[\s,]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:\s*=\s*("(?:[^"\\]|\\.)*"|[^\s,"]*))?""")
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One of them: ``scheme`` and the names of ``parameters`` in lower case. The first of equal names counts."""

    scheme: str
    parameters: Mapping[str, str]


def parse(headers: Iterable[str]) -> list[Challenge]:
    """Return the challenges in ``headers``, in order. What follows something unreadable is left out."""
    found: list[Challenge] = []
    for header in headers:
        parameters: dict[str, str] = {}
        scheme = ""
        at = 0
        while match := _PART.match(header, at):
            at = match.end()
            name, value = match[1].lower(), match[2]
            if value is None:
                scheme, parameters = name, {}
                found.append(Challenge(scheme, parameters))
            elif scheme:
                parameters.setdefault(name, _unquoted(value))
    return found


def _unquoted(value: str) -> str:
    return _ESCAPE.sub(r"\1", value[1:-1]) if value.startswith('"') else value


def choose(challenges: list[Challenge], *schemes: str) -> Challenge | None:
    """Return the first challenge of the first of ``schemes`` that there is one of."""
    for scheme in schemes:
        for challenge in challenges:
            if challenge.scheme == scheme:
                return challenge
    return None
