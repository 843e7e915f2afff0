"""Digests: two algorithms, one spelling."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.base.errors import InvalidSpec
from pyrkt.spec import digest
from pyrkt.spec.digest import parse_digest

SHA256, SHA512 = f"sha256:{'a' * 64}", f"sha512:{'0' * 128}"


@pytest.mark.parametrize("text", [SHA256, SHA512], ids=["sha256", "sha512"])
def test_reads(text: str) -> None:
    parsed = parse_digest(text)
    assert parsed == text
    assert f"{digest.algorithm(parsed)}:{digest.hexpart(parsed)}" == text
    assert digest.hasher(parsed).name == text[:6]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("", "is not a digest", id="empty"),
        pytest.param("a" * 64, "is not a digest", id="no-algorithm"),
        pytest.param("sha256:", "has 0 digits instead of 64", id="no-hex"),
        pytest.param("sha256:" + "a" * 63, "has 63 digits", id="short"),
        pytest.param("sha256:" + "a" * 65, "has 65 digits", id="long"),
        pytest.param("sha512:" + "a" * 64, "has 64 digits instead of 128", id="sha512-short"),
        pytest.param("sha256:" + "A" * 64, "is not lower-case", id="upper-case"),
        pytest.param("sha256:" + "g" * 64, "is not lower-case hex", id="not-hex"),
        pytest.param("SHA256:" + "a" * 64, "'SHA256' is not a digest algorithm", id="algorithm-upper-case"),
        pytest.param("md5:" + "a" * 32, "'md5' is not a digest algorithm", id="md5"),
        pytest.param("sha1:" + "a" * 40, "'sha1' is not a digest algorithm", id="sha1"),
        pytest.param("sha384:" + "a" * 96, "'sha384' is not a digest algorithm", id="sha384"),
        pytest.param(SHA256 + "\n", "has 65 digits", id="trailing-line-break"),
        pytest.param(" " + SHA256, "is not a digest algorithm", id="leading-blank"),
        pytest.param("sha256:../../etc/passwd", "digits instead of", id="path"),
        pytest.param("sha256:/" + "a" * 63, "is not lower-case", id="absolute-path"),
        pytest.param("sha256:" + "\u0661" * 64, "is not lower-case hex", id="arabic-digits"),
        pytest.param("sha256+b64:" + "a" * 64, "is not a digest algorithm", id="compound"),
        pytest.param("sha256:" + "a" * 64 + ":x", "digits instead of", id="two-colons"),
        pytest.param("../x:" + "a" * 64, "'../x' is not a digest algorithm", id="algorithm-path"),
        pytest.param("x" * 100_000, "is not a digest", id="endless"),
        pytest.param("\x1b[2J:aa", "\\x1b[2J", id="escape-sequence"),
    ],
)
def test_refuses_and_says_why(text: str, problem: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse_digest(text, "layers[0]")
    assert problem in caught.value.message
    assert len(caught.value.message) < 300
    assert caught.value.document == "layers[0]"
    assert digest.problem_of(text)


def test_content_by_its_hash() -> None:
    assert digest.of_bytes(b"x") == f"sha256:{hashlib.sha256(b'x').hexdigest()}"
    assert digest.of_bytes(b"x", "sha512") == f"sha512:{hashlib.sha512(b'x').hexdigest()}"
    hashed = digest.hasher(parse_digest(SHA512))
    hashed.update(b"x")
    assert digest.of_hasher(hashed) == digest.of_bytes(b"x", "sha512")
    assert digest.problem_of(digest.of_hasher(hashed)) == ""


@given(st.text(max_size=150) | st.from_regex(r"(sha256|sha512):[0-9a-fA-F]{60,130}"))
def test_any_text_is_a_digest_or_refused(text: str) -> None:
    try:
        parsed = parse_digest(text)
    except InvalidSpec:
        return
    assert len(bytes.fromhex(digest.hexpart(parsed))) == hashlib.new(digest.algorithm(parsed)).digest_size
