"""The JSON of pyrkt's own interpreter (stage1/interpreter/json.c): what it takes it reads as the library does."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pyrkt.base import fastjson
from pyrkt.base.errors import InvalidSpec
from tests.unit.base.test_fastjson import JSON

SOURCE = Path(__file__).resolve().parents[3] / "pyrkt/stage1/interpreter/json.c"
HEADERS = Path(sysconfig.get_path("include"))

pytestmark = pytest.mark.skipif(not (HEADERS / "Python.h").exists(), reason="no headers of Python (python3-dev)")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the module, as a shared object of this Python."""
    made = tmp_path_factory.mktemp("json") / "_pyrkt_json.so"
    flags = ("-shared", "-fPIC", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fsanitize=undefined")
    undefined = ("-fno-sanitize-recover=all", "-D_GNU_SOURCE", "-isystem", HEADERS)
    subprocess.run(["gcc", *flags, *undefined, SOURCE, "-o", made], check=True, timeout=120)
    spec = importlib.util.spec_from_file_location("_pyrkt_json", made)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def same(left: Any, right: Any) -> bool:
    """Compare with types: 1, 1.0 and True are three things."""
    return repr(left) == repr(right)


def judged(data: bytes) -> Any:
    return fastjson._judged(data, "JSON")


quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(JSON)
def test_documents(plain: Any, value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False), json.dumps(value, indent=1)):
        taken = plain.scan(text.encode())
        assert taken is None or same(taken[0], judged(text.encode()))


@quick
@given(JSON)
def test_values(plain: Any, value: Any) -> None:
    text = plain.dump(value)
    assert text is None or text == json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@quick
@given(
    st.lists(st.sampled_from([*'[]{}",:\\0 19eE+-.tfnu"a\n\t\x1fü\ud83d', "true", '"a":', "null", "\\u00e", "\\ud8"]))
)
@example(list('"\\u0000"'))
@example(list('{"a":1,"a":1}'))
@example(list('"\\'))
@example(list('"\\u12'))
@example(list("-"))
def test_what_is_no_json_is_not_taken(plain: Any, parts: list[str]) -> None:
    data = "".join(parts).encode("utf-8", "surrogatepass")
    taken = plain.scan(data)
    if taken is not None:
        assert same(taken[0], judged(data))


@quick
@given(st.binary(max_size=60))
def test_any_bytes(plain: Any, data: bytes) -> None:
    for text in (data, b'"' + data + b'"', b"[" + data + b"]"):
        taken = plain.scan(text)
        if taken is not None:
            assert same(taken[0], judged(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None),
        (' {"a" : [ ] , "b":{ } }\n', {"a": [], "b": {}}),
        ("-999999999999999999", -999999999999999999),
        ("-0", 0),
        ('["\\u003cü\\u00fc\\u20ac\\n\\"\\/", true, false]', ['<üü€\n"/', True, False]),
        ("[" * 100 + "]" * 100, eval("[" * 100 + "]" * 100)),
    ],
    ids=["null", "blanks", "integer", "minus", "escapes", "deep"],
)
def test_the_plain_case_is_taken(plain: Any, text: str, value: object) -> None:
    assert plain.scan(text.encode()) == (value,)


@pytest.mark.parametrize(
    "data",
    [b"", b"1.5", b"1e3", b"9999999999999999999", b"01", b"[1,]", b'{"a":1,}', b'{"a":1,"a":2}',
     b"[" * 101 + b"]" * 101,      b"1 2", b'"\xff"', b'"\\ud83d\\ude00"', b'"\\ud83d"', b'"\x1f"', b'"\\x"', b"NaN",
     b"tru", b"nulll", b'"', b"{", b"{1:2}"],
)  # fmt: skip
def test_all_else_is_left_to_the_judge(plain: Any, data: bytes) -> None:
    assert plain.scan(data) is None


@pytest.mark.parametrize("value", [1.5, {1: 2}, "\ud83d", 1 << 70, {"a": {1}}, type("Text", (str,), {})("a")])
def test_values_that_are_left_to_the_judge(plain: Any, value: object) -> None:
    assert plain.dump(value) is None


def test_text_is_not_taken_and_a_ring_ends(plain: Any) -> None:
    ring: list[object] = []
    ring.append(ring)
    assert plain.scan("1") is None
    assert plain.dump(ring) is None


def test_the_errors_are_those_of_the_judge() -> None:
    with pytest.raises(InvalidSpec, match="duplicate key 'a'"):
        judged(b'{"a":1,"a":1}')
