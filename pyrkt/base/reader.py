"""Reader: a JSON value together with its place in a document, so that every complaint names the culprit."""

from __future__ import annotations

from pyrkt.base.errors import InvalidSpec, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_KINDS = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
}


def kind_of(value: object) -> str:
    """Return how JSON calls the type of ``value``: "an object", "null"."""
    return "null" if value is None else _KINDS.get(type(value), "a value")


class _Missing:
    """The value of a member that is not there."""


_MISSING = _Missing()


class Reader:
    """One value of a document, and where it stands: ``Reader(value, "config.json")["process"]["cwd"].text()``.

    A member that is absent, or null, is a Reader too (``present`` is False): asking it for a value fails, asking
    with a default gives the default. So optional and required members read the same way.
    """

    __slots__ = ("document", "rule", "value", "where")

    def __init__(self, value: Any, document: str, where: str = "", rule: str = "") -> None:
        self.value, self.document, self.where, self.rule = value, document, where, rule

    def fail(self, problem: str, *, hint: str = "") -> InvalidSpec:
        """Return (for the caller to raise) the complaint ``problem`` about this value."""
        return InvalidSpec(
            printable(problem), document=self.document, where=printable(self.where), rule=self.rule, hint=hint
        )

    @property
    def present(self) -> bool:
        """Whether the document has this value, other than as null."""
        return self.value is not _MISSING and self.value is not None

    def _expected(self, what: str) -> InvalidSpec:
        if self.value is _MISSING:
            return self.fail(f"is required ({what})")
        return self.fail(f"expected {what}, got {kind_of(self.value)}")

    def _at(self, where: str, value: Any) -> Reader:
        return Reader(value, self.document, where, self.rule)

    def __getitem__(self, name: str) -> Reader:
        """Return the member ``name`` of this object; of an absent object, an absent member."""
        where = f"{self.where}.{name}" if self.where else name
        if not self.present:
            return self._at(where, _MISSING)
        if not isinstance(self.value, dict):
            raise self._expected("an object")
        return self._at(where, self.value.get(name, _MISSING))

    def citing(self, rule: str) -> Reader:
        """Return the same value, whose complaints cite ``rule`` ("runtime-spec 1.3, POSIX process")."""
        return Reader(self.value, self.document, self.where, rule)

    def members(self) -> list[tuple[str, Reader]]:
        """Return (name, value) of each member of this object; nothing if absent."""
        if not self.present:
            return []
        if not isinstance(self.value, dict):
            raise self._expected("an object")
        prefix = f"{self.where}." if self.where else ""
        return [(name, self._at(prefix + name, value)) for name, value in self.value.items()]

    def items(self) -> list[Reader]:
        """Return the elements of this array; nothing if absent."""
        if not self.present:
            return []
        if not isinstance(self.value, list):
            raise self._expected("an array")
        return [self._at(f"{self.where}[{index}]", value) for index, value in enumerate(self.value)]

    def text(self, default: str | None = None) -> str:
        """Return this string; ``default`` if absent. A NUL in it is refused: the kernel would cut it there."""
        if not self.present and default is not None:
            return default
        if not isinstance(self.value, str):
            raise self._expected("a string")
        if "\0" in self.value:
            raise self.fail("contains a NUL character")
        return self.value

    def choice(self, allowed: tuple[str, ...], default: str | None = None) -> str:
        """Return this string, one of ``allowed``."""
        value = self.text(default)
        if value not in allowed:
            raise self.fail(f"{value!r} is none of {', '.join(allowed)}")
        return value

    def integer(self, low: int, high: int, default: int | None = None) -> int:
        """Return this integer, low..high inclusive; ``default`` if absent."""
        if not self.present and default is not None:
            return default
        value = self.value
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # 1e3 and 1.0 are integers to JSON Schema and to Go
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._expected("an integer")
        if not low <= value <= high:
            raise self.fail(f"must be between {low} and {high}, got {value}")
        return value

    def number(self, low: float, high: float, default: float | None = None) -> float:
        """Return this number, low..high inclusive; ``default`` if absent."""
        if not self.present and default is not None:
            return default
        if not isinstance(self.value, int | float) or isinstance(self.value, bool):
            raise self._expected("a number")
        if not low <= self.value <= high:
            raise self.fail(f"must be between {low} and {high}, got {self.value}")
        return self.value

    def boolean(self, default: bool | None = None) -> bool:  # noqa: FBT001 - the value is the argument
        """Return this boolean; ``default`` if absent."""
        if not self.present and default is not None:
            return default
        if not isinstance(self.value, bool):
            raise self._expected("a boolean")
        return self.value

    def texts(self) -> tuple[str, ...]:
        """Return this array of strings; empty if absent."""
        return tuple(item.text() for item in self.items())

    def text_map(self) -> dict[str, str]:
        """Return this object whose values are all strings; empty if absent."""
        for name, value in self.members():
            if "\0" in name:
                raise value.fail("has a NUL character in its name")
        return {name: value.text() for name, value in self.members()}
