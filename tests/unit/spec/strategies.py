"""What to feed the readers: any JSON, and JSON that a schema allows (the part of JSON Schema that specs/ uses)."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

SCALARS = st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats(allow_nan=False) | st.text(max_size=8)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_PATTERNS = {"^/": r"\A/[a-z/.]{0,8}\Z"}


def from_schema(schema: dict[str, Any], root: dict[str, Any] | None = None) -> st.SearchStrategy[Any]:
    """Return a strategy for values that ``schema`` allows."""
    root = schema if root is None else root
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return st.deferred(lambda: from_schema(root["$defs"][name], root))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "const" in schema:
        return st.just(schema["const"])
    if "anyOf" in schema and "type" not in schema:
        return st.one_of([from_schema(part, root) for part in schema["anyOf"]])
    if isinstance(schema["type"], list):
        return st.one_of([from_schema(schema | {"type": kind}, root) for kind in schema["type"]])
    makers = {
        "null": _null,
        "string": _string,
        "integer": _integer,
        "boolean": _boolean,
        "array": _array,
        "object": _object,
    }
    return makers[schema["type"]](schema, root)


def _null(_schema: dict[str, Any], _root: dict[str, Any]) -> st.SearchStrategy[Any]:
    return st.none()


def _string(schema: dict[str, Any], _root: dict[str, Any]) -> st.SearchStrategy[Any]:
    if pattern := schema.get("pattern"):
        return st.from_regex(_PATTERNS.get(pattern, pattern.replace("$", r"\Z")), fullmatch=False).filter(
            lambda text: "\0" not in text
        )
    text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
    return text.filter(lambda value: len(value) >= schema.get("minLength", 0))


def _integer(schema: dict[str, Any], _root: dict[str, Any]) -> st.SearchStrategy[Any]:
    return st.integers(schema.get("minimum"), schema.get("maximum"))


def _boolean(_schema: dict[str, Any], _root: dict[str, Any]) -> st.SearchStrategy[Any]:
    return st.booleans()


def _array(schema: dict[str, Any], root: dict[str, Any]) -> st.SearchStrategy[Any]:
    most = min(schema.get("maxItems", 2), 2)
    return st.lists(from_schema(schema["items"], root), min_size=schema.get("minItems", 0), max_size=most)


def _object(schema: dict[str, Any], root: dict[str, Any]) -> st.SearchStrategy[Any]:
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        return st.dictionaries(st.text("abcdef", min_size=1, max_size=5), from_schema(extra, root), max_size=2)
    members = {name: from_schema(part, root) for name, part in schema["properties"].items()}
    needed = set(schema.get("required", ()))
    for alternative in schema.get("anyOf", ())[:1]:
        needed |= set(alternative["required"])
    return st.fixed_dictionaries(
        {name: part for name, part in members.items() if name in needed},
        optional={name: part for name, part in members.items() if name not in needed},
    )
