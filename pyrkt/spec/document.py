"""What the records of config.json share: members under the specification's names, and the checks on their text."""

from __future__ import annotations

from pyrkt.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.base.reader import Reader

MAX_INT64, MAX_UINT64, MAX_UINT32 = (1 << 63) - 1, (1 << 64) - 1, (1 << 32) - 1
MAX_ID = MAX_UINT32 - 1  # (uid_t)-1 means "leave it" to chown(2) and setresuid(2)

_CAPITALS = ("id", "io", "iops", "tcp", "oom", "cpu")
_camel: dict[str, str] = {}


def member_name(field: str) -> str:
    """Return how the specification spells ``field``: "block_io" is "blockIO", "uid_mappings" is "uidMappings"."""
    known = _camel.get(field)
    if known is None:
        first, *rest = field.split("_")
        known = first + "".join(word.upper() if word in _CAPITALS else word.capitalize() for word in rest)
        _camel[field] = known
    return known


class Document(Record):
    """A record that is an object of the document; its fields are the members, in snake_case."""

    def dump(self) -> dict[str, Any]:
        """Return the JSON object; members with their default value are left out, required ones never."""
        members: dict[str, Any] = {}
        for field in self._fields:
            value = getattr(self, field)
            if field in self._defaults and value == self._defaults[field]:
                continue
            members[member_name(field)] = _plain(value)
        return members


def _plain(value: Any) -> Any:
    if isinstance(value, Document):
        return value.dump()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value


def texts(r: Reader) -> tuple[str, ...]:
    """Return this array of strings; one pass where nothing is wrong (a seccomp profile has 400 of them)."""
    value = r.value
    if isinstance(value, list):
        for item in value:
            if not isinstance(item, str) or "\0" in item:
                break
        else:
            return tuple(value)
    return r.texts()


def choices(r: Reader, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """Return this array of strings, each one of ``allowed``."""
    return tuple(item.choice(allowed) for item in r.items())


def filled(r: Reader) -> str:
    """Return this string, which must be there and not empty."""
    value = r.text()
    if not value:
        raise r.fail("must not be empty")
    return value


def absolute(r: Reader) -> str:
    """Return this path, which must be there and absolute."""
    value = filled(r)
    if value[0] != "/":
        raise r.fail(f"{value!r} is not an absolute path", hint="begin it with '/'")
    return value


def absolutes(r: Reader) -> tuple[str, ...]:
    """Return this array of absolute paths."""
    value = texts(r)
    if all(path.startswith("/") for path in value):
        return value
    return tuple(absolute(item) for item in r.items())


def flag(r: Reader) -> bool:
    """Return this boolean, False if absent."""
    return r.boolean(default=False)


def opt_int(r: Reader, low: int, high: int) -> int | None:
    """Return this integer, None if absent: for limits, 0 and "not set" differ."""
    return r.integer(low, high) if r.present else None


def int64(r: Reader) -> int | None:
    """Return this signed 64-bit integer, None if absent."""
    return r.integer(-MAX_INT64 - 1, MAX_INT64) if r.present else None


def uint64(r: Reader) -> int | None:
    """Return this unsigned 64-bit integer, None if absent."""
    return r.integer(0, MAX_UINT64) if r.present else None


def uint32(r: Reader) -> int | None:
    """Return this unsigned 32-bit integer, None if absent."""
    return r.integer(0, MAX_UINT32) if r.present else None


def uint16(r: Reader) -> int | None:
    """Return this unsigned 16-bit integer, None if absent."""
    return r.integer(0, 65535) if r.present else None
