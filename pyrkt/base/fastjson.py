"""JSON, strict in and canonical out, without the 6 ms that importing ``json`` costs.

The C scanner and encoder behind ``json`` are driven directly. Strict means what hostile documents are refused for:
duplicate keys (``json`` keeps the last, Go the last by *case-insensitive* match, so two readers may disagree about
one signed document), NaN and Infinity, nesting beyond 100 levels, integers of more than 20 characters (2**64 has 20
digits), bytes that are not UTF-8, half a surrogate pair, and text after the value.
Source: RFC 8259; RFC 7493 (I-JSON) section 2.
"""

from __future__ import annotations

from sys import builtin_module_names

from pyrkt.base.errors import InvalidSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Never

MAX_DEPTH = 100
_OPENING = b"[{"
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[{]}")
MAX_SIZE = 16 << 20
"""Bytes; the largest document anybody sends is a manifest, which registries cap at 4 MiB."""
_WHITESPACE = " \t\n\r"


class _Refused(Exception):
    """Raised inside the scanner; the text is the problem."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = sorted(key for key, _ in pairs)
        twice = next(key for key, other in zip(keys, keys[1:], strict=False) if key == other)  # noqa: RUF007 - import
        raise _Refused(f"duplicate key {twice[:80]!r}")
    return value


def _integer(digits: str) -> int:
    if len(digits) > 20:
        raise _Refused(f"number of {len(digits)} digits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise _Refused("number out of range")
    return value


def _constant(name: str) -> Never:
    raise _Refused(f"{name} is not JSON")


class _Context:
    """What ``_json.make_scanner`` reads its settings from."""

    strict = True
    object_hook = None
    object_pairs_hook = staticmethod(_object)
    parse_float = staticmethod(_float)
    parse_int = staticmethod(_integer)
    parse_constant = staticmethod(_constant)
    memo: dict[str, str] = {}  # noqa: RUF012 - the scanner's own cache of keys, cleared by it


class _Functions:
    """The C functions, made at first use: the library's _json is a shared object, which no image can hold."""

    scan: Callable[[str, int], tuple[Any, int]]
    quote: Callable[[str], str]
    plain: Callable[[Any, int], tuple[str, ...]]
    sorted: Callable[[Any, int], tuple[str, ...]]

    def __getattr__(self, name: str) -> Any:
        """Make all of them; they are attributes from then on."""
        import _json  # noqa: PLC0415 - see above

        # typeshed knows only json.JSONDecoder here; the scanner reads the seven attributes above, whoever has them.
        self.scan = _json.make_scanner(_Context())  # type: ignore[arg-type]
        self.quote = _json.encode_basestring
        # The C function takes no keywords; the last two are skipkeys and allow_nan.
        skip_keys = allow_nan = False
        given = (None, _unknown, self.quote, None, ":", ",")
        self.plain, self.sorted = (_json.make_encoder(*given, sort, skip_keys, allow_nan) for sort in (False, True))
        return self.__dict__[name]


_c = _Functions()


def load() -> None:
    """Open the shared object of the C functions now: for a process that will see another root at first use."""
    _ = _c.scan


def _none(_value: object) -> None:
    """Leave all to the C functions of the library."""


_plain_scan: Callable[[bytes | str], tuple[Any] | None] = _none
_plain_dump: Callable[[object], str | None] = _none
if "_pyrkt_json" in builtin_module_names:
    # pyrkt's own interpreter; of what it does not take, an error above all, the library's functions are the judge
    _pyrkt_json: Any = __import__("_pyrkt_json")
    _plain_scan, _plain_dump = _pyrkt_json.scan, _pyrkt_json.dump


def loads(data: bytes | str, document: str = "JSON") -> Any:
    """Return the one JSON value in ``data``.

    Raises: InvalidSpec naming ``document`` and the line of the problem.
    """
    if len(data) > MAX_SIZE:
        raise InvalidSpec(f"larger than {MAX_SIZE >> 20} MiB", document=document)
    plain = _plain_scan(data)
    return _judged(data, document) if plain is None else plain[0]


def _judged(data: bytes | str, document: str) -> Any:
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidSpec(f"not UTF-8 at byte {error.start}", document=document) from None
    if _deeper_than(text, MAX_DEPTH):
        raise InvalidSpec(f"nested more than {MAX_DEPTH} levels deep", document=document)
    start = len(text) - len(text.lstrip(_WHITESPACE))
    try:
        value, end = _scanned(text, start)
    except StopIteration as stop:
        raise InvalidSpec(f"not JSON: {_place(text, stop.value)}", document=document) from None
    except _Refused as refused:
        raise InvalidSpec(str(refused), document=document) from None
    except RecursionError:
        raise InvalidSpec("nested too deep", document=document) from None
    except ValueError as error:  # json.JSONDecodeError: the C scanner imports json only to raise it
        where = getattr(error, "pos", 0)
        raise InvalidSpec(
            f"not JSON: {getattr(error, 'msg', error)}: {_place(text, where)}", document=document
        ) from None
    if text[end:].strip(_WHITESPACE):
        raise InvalidSpec(f"text after the value: {_place(text, end)}", document=document)
    if "\\u" in text and not _is_text(value):
        raise InvalidSpec("half a surrogate pair is no character", document=document, rule="RFC 7493, 2.1")
    return value


def _is_text(value: Any) -> bool:
    """Tell whether all strings in ``value`` can be written as UTF-8; an escape can smuggle in what cannot."""
    try:
        dumps(value).encode()
    except UnicodeEncodeError:
        return False
    return True


def _scanned(text: str, start: int) -> tuple[Any, int]:
    try:
        return _c.scan(text, start)
    except SystemError:
        # Before Python 3.12 the C scanner finds its own exception only where json is loaded; now it is needed.
        __import__("json.decoder")
        return _c.scan(text, start)


def _place(text: str, offset: int) -> str:
    line = text.count("\n", 0, offset) + 1
    return f"line {line} column {offset - text.rfind(chr(10), 0, offset)}"


def _deeper_than(text: str, limit: int) -> bool:
    """Tell whether brackets nest deeper than ``limit``; only exact, and only walked, where they might.

    The strings are cut out first, whole: walking through 40 kB character by character took 1.4 ms.
    """
    if text.count("[") + text.count("{") <= limit:
        return False
    # A backslash outside a string is no JSON: the scanner stops there, whatever follows.
    outside = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])
    depth = 0
    for bracket in outside.encode("utf-8", "surrogatepass").translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in _OPENING else -1
        if depth > limit:
            return True
    return False


def _unknown(value: object) -> Never:
    raise TypeError(f"{type(value).__name__} is not a JSON type")


def dumps(value: Any, *, sort: bool = False) -> str:
    """Return ``value`` as compact JSON, keys in their own order or, with ``sort``, in code point order."""
    if isinstance(value, str):
        return str(_c.quote(value))
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value)
    if not sort and (plain := _plain_dump(value)) is not None:
        return plain
    return "".join((_c.sorted if sort else _c.plain)(value, 0))


def pretty(value: Any, indent: str = "  ") -> str:
    """Return ``value`` as indented JSON for people, with a newline at the end."""
    return _pretty(value, "\n", indent) + "\n"


def _pretty(value: Any, newline: str, indent: str) -> str:
    inner = newline + indent
    if isinstance(value, dict) and value:
        rows = [f"{_c.quote(str(k))}: {_pretty(v, inner, indent)}" for k, v in value.items()]
        return "{" + inner + ("," + inner).join(rows) + newline + "}"
    if isinstance(value, list | tuple) and value:
        return "[" + inner + ("," + inner).join(_pretty(v, inner, indent) for v in value) + newline + "]"
    return dumps(value)
