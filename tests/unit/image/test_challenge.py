"""WWW-Authenticate, in every dress it is seen in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.image.challenge import Challenge, choose, parse


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param([], [], id="none"),
        pytest.param(["Basic"], [Challenge("basic", {})], id="bare"),
        pytest.param(
            ['BEARER realm="https://a/t",service="x y",scope="repository:a:pull,push"'],
            [Challenge("bearer", {"realm": "https://a/t", "service": "x y", "scope": "repository:a:pull,push"})],
            id="comma-in-quotes",
        ),
        pytest.param(
            ['Negotiate, Bearer realm="r" , service=s, Basic realm="b"'],
            [
                Challenge("negotiate", {}),
                Challenge("bearer", {"realm": "r", "service": "s"}),
                Challenge("basic", {"realm": "b"}),
            ],
            id="several-in-one",
        ),
        pytest.param(
            ["Basic realm=a", "Bearer realm=b"],
            [Challenge("basic", {"realm": "a"}), Challenge("bearer", {"realm": "b"})],
            id="several-headers",
        ),
        pytest.param([r'Bearer realm="a\"b\\c"'], [Challenge("bearer", {"realm": 'a"b\\c'})], id="escapes"),
        pytest.param(['Bearer Realm="a",realm="b"'], [Challenge("bearer", {"realm": "a"})], id="first-counts"),
        pytest.param(['realm="x"'], [], id="no-scheme"),
        pytest.param(['Bearer realm="open'], [Challenge("bearer", {"realm": ""})], id="unclosed"),
    ],
)
def test_reads(headers: list[str], expected: list[Challenge]) -> None:
    assert parse(headers) == expected


def test_the_scheme_asked_for_first_is_chosen() -> None:
    found = parse(["Basic realm=a, Bearer realm=b"])
    assert choose(found, "bearer", "basic") == Challenge("bearer", {"realm": "b"})
    assert choose(found, "digest") is None


@given(st.lists(st.text(max_size=200), max_size=3))
def test_any_header_is_read_somehow(headers: list[str]) -> None:
    parse(headers)


def test_a_long_hostile_header_takes_no_time() -> None:
    parse(['Bearer realm="' + "\\" * 60_000, "a=" * 30_000, "," * 60_000])
