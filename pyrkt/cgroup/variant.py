"""Values as annotations write them for systemd: GVariant's text, read into a D-Bus type and a value.

    'inactive-or-failed'      a string            uint64 30000000     a number of a named type
    true                      a boolean           ['a.service']       an array
    -5                        an int32            @at [1, 2]          an array of a given type

Source: GLib's documentation, "GVariant Text Format"; what runc takes in org.systemd.property.NAME.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Node = tuple[str, Any]

_NAMES = {
    "boolean": "b",
    "byte": "y",
    "int16": "n",
    "uint16": "q",
    "int32": "i",
    "uint32": "u",
    "int64": "x",
    "uint64": "t",
    "double": "d",
    "string": "s",
    "objectpath": "o",
    "signature": "g",
}
_RANGES = {
    "y": (0, 0xFF),
    "n": (-(1 << 15), (1 << 15) - 1),
    "q": (0, (1 << 16) - 1),
    "i": (-(1 << 31), (1 << 31) - 1),
    "u": (0, (1 << 32) - 1),
    "x": (-(1 << 63), (1 << 63) - 1),
    "t": (0, (1 << 64) - 1),
}
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\n": ""}
_BRACKETS = {"[": ("array", "]"), "(": ("tuple", ")"), "<": ("variant", ">")}
_DIGITS = {"x": 2, "u": 4, "U": 8}
_PLAIN = "+-.0123456789abcdefABCDEFxXinfo"
_DEPTH = 16


def parse(text: str) -> tuple[str, Any]:
    """Return (type, value); a variant within the value is such a pair again. Raises: ValueError with what is wrong."""
    reader = _Reader(text)
    node = reader.node(0)
    reader.blanks()
    if reader.at != len(text):
        raise ValueError(f"{text[reader.at :]!r} comes after the value")
    return _typed(node, "")


class _Reader:
    """Reads nodes: (kind, content), kind one of number, string, boolean, array, tuple, variant, typed."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def blanks(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def peek(self) -> str:
        self.blanks()
        return self.text[self.at : self.at + 1]

    def word(self, letters: str = "") -> str:
        start = self.at
        while self.at < len(self.text):
            letter = self.text[self.at]
            if not (letter in letters if letters else letter.isascii() and letter.isalnum()):
                break
            self.at += 1
        return self.text[start : self.at]

    def node(self, depth: int) -> Node:
        first = self.peek()
        if depth > _DEPTH:
            raise ValueError("too deep")
        if first in ("'", '"'):
            return "string", self._quoted(first)
        if first in _BRACKETS:
            kind, closing = _BRACKETS[first]
            items = self._items(closing, depth)
            return kind, items[0] if kind == "variant" else items
        if first == "@":
            self.at += 1
            kind = self.word("abdginoqstuvxy(){}")
            return "typed", (_checked(kind), self.node(depth + 1))
        if first.isalpha() and first.isascii():
            return self._named(depth)
        return "number", self._number()

    def _named(self, depth: int) -> Node:
        start = self.at
        name = self.word()
        if name in ("true", "false"):
            return "boolean", name == "true"
        if name in _NAMES:
            return "typed", (_NAMES[name], self.node(depth + 1))
        if name in ("inf", "nan"):
            return "number", name
        raise ValueError(f"{self.text[start:]!r} is no value; a text is written in quotes")

    def _number(self) -> str:
        word = self.word(_PLAIN)
        if not word:
            raise ValueError(f"{self.text[self.at :]!r} is no value" if self.peek() else "a value is missing")
        return word

    def _items(self, closing: str, depth: int) -> list[Node]:
        self.at += 1
        found: list[Node] = []
        while self.peek() != closing:
            if found and not self._comma(closing):
                break
            found.append(self.node(depth + 1))
        self.at += 1
        if closing == ">" and len(found) != 1:
            raise ValueError("a variant holds one value")
        return found

    def _comma(self, closing: str) -> bool:
        """Pass a comma; False if it was the last thing before ``closing``, as in a tuple of one."""
        if self.peek() != ",":
            raise ValueError(f"{closing!r} is missing")
        self.at += 1
        return self.peek() != closing

    def _quoted(self, quote: str) -> str:
        self.at += 1
        found = []
        while (letter := self.text[self.at : self.at + 1]) != quote:
            self.at += 1
            if not letter:
                raise ValueError(f"the closing {quote} is missing")
            found.append(self._escaped() if letter == "\\" else letter)
        self.at += 1
        return "".join(found)

    def _escaped(self) -> str:
        letter = self.text[self.at : self.at + 1]
        self.at += 1
        if letter in _DIGITS:
            digits = self.text[self.at : self.at + _DIGITS[letter]]
            self.at += _DIGITS[letter]
            try:
                found = chr(int(digits, 16))
            except (ValueError, OverflowError):
                found = "\0"
            if found == "\0" or "\ud800" <= found <= "\udfff":
                raise ValueError(f"\\{letter}{digits} is no character")
            return found
        return _ESCAPES.get(letter, letter)


def _checked(kind: str) -> str:
    from pyrkt.cgroup.dbus import split  # noqa: PLC0415 - few annotations name their type so

    if len(split(kind)) != 1:
        raise ValueError(f"{kind!r} is no type")
    return kind


def _typed(node: Node, wanted: str) -> tuple[str, Any]:
    """Return the node's (type, value), of the type ``wanted``; "" leaves the choice to the value."""
    kind, content = node
    if kind == "typed":
        named, inner = content
        if wanted not in ("", named):
            raise ValueError(f"a value of type {named} where {wanted} is wanted")
        return _typed(inner, named)
    if wanted == "v" and kind != "variant":
        raise ValueError("a variant is written as <value>")
    if kind == "variant":
        if wanted not in ("", "v"):
            raise ValueError(f"a variant where {wanted} is wanted")
        return "v", _typed(content, "")
    made: tuple[str, Any] = _MAKERS[kind](content, wanted)
    return made


def _string(text: str, wanted: str) -> tuple[str, Any]:
    if wanted not in ("", "s", "o", "g"):
        raise ValueError(f"a text where {wanted} is wanted")
    return wanted or "s", text


def _boolean(value: bool, wanted: str) -> tuple[str, Any]:  # noqa: FBT001 - it is the value
    if wanted not in ("", "b"):
        raise ValueError(f"true or false where {wanted} is wanted")
    return "b", value


def _number(word: str, wanted: str) -> tuple[str, Any]:
    kind = wanted
    if not kind:
        lower = word.lower()
        fraction = "." in word or (not lower.lstrip("+-").startswith("0x") and ("e" in lower or "inf" in lower))
        kind = "d" if fraction or lower == "nan" else "i"
    try:
        if kind == "d":
            return kind, float(word)
        value = int(word, 0) if word.lstrip("+-").lower().startswith("0x") else int(word, 10)
    except ValueError:
        raise ValueError(f"{word!r} is no number") from None
    low, high = _RANGES.get(kind, (1, 0))
    if low > high:
        raise ValueError(f"a number where {kind} is wanted")
    if not low <= value <= high:
        raise ValueError(f"{word} does not fit in the type {kind}")
    return kind, value


def _array(items: list[Node], wanted: str) -> tuple[str, Any]:
    if wanted and wanted[0] != "a":
        raise ValueError(f"an array where {wanted} is wanted")
    inner = wanted[1:]
    if not inner and items:
        # one that names its type decides for all
        inner = next((content[0] for kind, content in items if kind == "typed"), "") or _typed(items[0], "")[0]
    if not inner:
        raise ValueError("an empty array needs its type: @as []")
    return "a" + inner, [_typed(item, inner)[1] for item in items]


def _tuple(items: list[Node], wanted: str) -> tuple[str, Any]:
    kinds = [""] * len(items)
    if wanted:
        from pyrkt.cgroup.dbus import split  # noqa: PLC0415 - few annotations hold tuples

        kinds = split(wanted[1:-1]) if wanted[0] == "(" else []
    if len(kinds) != len(items) or not items:
        raise ValueError(f"a tuple of {len(items)} where {wanted or 'something'} is wanted")
    typed = [_typed(item, kind) for item, kind in zip(items, kinds, strict=True)]
    return f"({''.join(kind for kind, _ in typed)})", tuple(value for _, value in typed)


_MAKERS: dict[str, Any] = {
    "string": _string,
    "boolean": _boolean,
    "number": _number,
    "array": _array,
    "tuple": _tuple,
}
