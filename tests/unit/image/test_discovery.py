"""Meta discovery, the pure half: tags out of a page, templates filled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.image.discovery import Meta, fill, parse

BASE = "https://example.com/app?ac-discovery=1"
T = "https://example.com/{name}-{version}.{ext}"
KIND = "ac-discovery"


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        pytest.param(
            f'<meta name="ac-discovery" content="example.com {T}">', [Meta(KIND, "example.com", T)], id="plain"
        ),
        pytest.param(
            f"<META CONTENT='example.com  {T}' NAME=ac-discovery />", [Meta(KIND, "example.com", T)], id="dress"
        ),
        pytest.param(
            '<meta name="ac-discovery-pubkeys" content="example.com https://example.com/k?a=1&amp;b=2">',
            [Meta("ac-discovery-pubkeys", "example.com", "https://example.com/k?a=1&b=2")],
            id="entities",
        ),
        pytest.param(
            '<meta name="ac-discovery-pubkeys" content="example.com /keys.asc">',
            [Meta("ac-discovery-pubkeys", "example.com", "https://example.com/keys.asc")],
            id="relative",
        ),
        pytest.param(f'<!-- <meta name="ac-discovery" content="example.com {T}"> -->', [], id="comment"),
        pytest.param(f'<!-- <meta name="ac-discovery" content="example.com {T}">', [], id="open-comment"),
        pytest.param('<meta name="ac-discovery" content="example.com">', [], id="one-word"),
        pytest.param(f'<meta name="ac-discovery" content="a b {T}">', [], id="three-words"),
        pytest.param(f'<meta name="description" content="example.com {T}">', [], id="other-name"),
        pytest.param('<meta name="ac-discovery" content="example.com', [], id="cut"),
        pytest.param('<meta name="ac-discovery" content="example.com //[::1/x">', [], id="brackets"),
        pytest.param(
            f'<meta name="ac-discovery" content="a.test {T}"><meta name="ac-discovery" content="b.test {T}">',
            [Meta(KIND, "a.test", T), Meta(KIND, "b.test", T)],
            id="several-in-order",
        ),
    ],
)
def test_tags(page: str, expected: list[Meta]) -> None:
    assert parse(f"<!DOCTYPE html><head>{page}</head>", BASE) == expected


VALUES = {"name": "example.com/app", "version": "1.0", "os": "linux", "arch": "amd64", "ext": "aci"}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        pytest.param(T, "https://example.com/example.com/app-1.0.aci", id="plain"),
        pytest.param("https://a.test/{os}/{arch}/{os}.{ext}", "https://a.test/linux/amd64/linux.aci", id="twice"),
        pytest.param("https://a.test/{flavour}.{ext}", "", id="unresolved"),
        pytest.param("https://a.test/x.aci", "https://a.test/x.aci", id="no-variable"),
    ],
)
def test_templates(template: str, expected: str) -> None:
    assert fill(template, VALUES) == expected


def test_values_stay_within_their_part_of_the_url() -> None:
    assert fill("https://a.test/{version}", {"version": "1?x#y z"}) == "https://a.test/1%3Fx%23y%20z"
    assert fill("https://a.test/{version}{ext}", {"version": "{ext}", "ext": "aci"}) == "https://a.test/%7Bext%7Daci"


@given(st.text(max_size=300))
def test_any_page_is_read_somehow(page: str) -> None:
    parse(page, BASE)
    parse(f"<meta {page}>", BASE)


def test_a_hostile_page_takes_no_time() -> None:
    for piece in ("<meta ", "<!--", "<meta name='", "a=", "<meta a=b "):
        parse(piece * (500_000 // len(piece)), BASE)
