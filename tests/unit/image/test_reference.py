"""References: every form is read, printed in one normal form, or refused in one line."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.base.errors import InvalidSpec
from pyrkt.image.reference import (
    HUB,
    MAX_LENGTH,
    AppcRef,
    DockerRef,
    FileRef,
    IdRef,
    LayoutRef,
    Reference,
    UrlRef,
    parse,
)
from pyrkt.spec.digest import Digest

if TYPE_CHECKING:
    from pathlib import Path

HEX = "0123456789abcdef" * 4
SHA = Digest(f"sha256:{HEX}")


@pytest.mark.parametrize(
    ("text", "expected", "normal"),
    [
        pytest.param(
            "docker://registry.test:5000/team/app:1.0",
            DockerRef(host="registry.test:5000", repository="team/app", tag="1.0"),
            "docker://registry.test:5000/team/app:1.0",
            id="docker-host-port",
        ),
        pytest.param(
            "docker://busybox",
            DockerRef(host=HUB, repository="library/busybox", tag="latest"),
            f"docker://{HUB}/library/busybox:latest",
            id="docker-short",
        ),
        pytest.param(
            "docker:team/app",
            DockerRef(host=HUB, repository="team/app", tag="latest"),
            f"docker://{HUB}/team/app:latest",
            id="docker-no-slashes",
        ),
        pytest.param(
            f"docker://index.{HUB}/busybox",
            DockerRef(host=HUB, repository="library/busybox", tag="latest"),
            f"docker://{HUB}/library/busybox:latest",
            id="docker-alias",
        ),
        pytest.param(
            f"docker://localhost/a@{SHA}",
            DockerRef(host="localhost", repository="a", digest=SHA),
            f"docker://localhost/a@{SHA}",
            id="docker-digest",
        ),
        pytest.param(
            f"docker://[::1]:5000/a:t@{SHA}",
            DockerRef(host="[::1]:5000", repository="a", tag="t", digest=SHA),
            f"docker://[::1]:5000/a:t@{SHA}",
            id="docker-ipv6-tag-and-digest",
        ),
        pytest.param(
            "docker://Registry.TEST/a__b.c-d",
            DockerRef(host="registry.test", repository="a__b.c-d", tag="latest"),
            "docker://registry.test/a__b.c-d:latest",
            id="docker-host-case",
        ),
        pytest.param(
            "docker://registry.test",  # one word is a repository, dots or not, as docker has it
            DockerRef(host=HUB, repository="library/registry.test", tag="latest"),
            f"docker://{HUB}/library/registry.test:latest",
            id="docker-one-word",
        ),
        pytest.param("oci:/l", LayoutRef(path="/l"), "oci:/l", id="layout"),
        pytest.param("oci:l:v1", LayoutRef(path="/cwd/l", tag="v1"), "oci:/cwd/l:v1", id="layout-relative"),
        pytest.param(
            "oci:/l:registry.test/a:1", LayoutRef(path="/l", tag="registry.test/a:1"), "oci:/l:registry.test/a:1",
            id="layout-long-tag",
        ),
        pytest.param("example.com/app", AppcRef(name="example.com/app"), "example.com/app", id="appc"),
        pytest.param(
            "example.com/app:1.0,os=linux,arch=amd64",
            AppcRef(name="example.com/app", version="1.0", labels=(("arch", "amd64"), ("os", "linux"))),
            "example.com/app:1.0,arch=amd64,os=linux",
            id="appc-labels-sorted",
        ),
        pytest.param(
            "example.com/app,version=2",
            AppcRef(name="example.com/app", version="2"),
            "example.com/app:2",
            id="appc-version-as-label",
        ),
        pytest.param(
            "example.com/app:1%3A2,x=a%2Cb",
            AppcRef(name="example.com/app", version="1:2", labels=(("x", "a,b"),)),
            "example.com/app:1%3A2,x=a%2Cb",
            id="appc-encoded",
        ),
        pytest.param("https://Example.COM/a.aci", UrlRef(url="https://example.com/a.aci"), "https://example.com/a.aci",
                     id="url"),
        pytest.param("http://[::1]:80", UrlRef(url="http://[::1]:80/"), "http://[::1]:80/", id="url-ipv6"),
        pytest.param("https://example.com/a?b=c#d", UrlRef(url="https://example.com/a?b=c"),
                     "https://example.com/a?b=c", id="url-query"),
        pytest.param("./a.aci", FileRef(path="/cwd/./a.aci"), "/cwd/./a.aci", id="file-relative"),
        pytest.param("../a.aci", FileRef(path="/cwd/../a.aci"), "/cwd/../a.aci", id="file-parent"),
        pytest.param("/a b.aci", FileRef(path="/a b.aci"), "/a b.aci", id="file-absolute"),
        pytest.param("file:///a%20b.aci", FileRef(path="/a b.aci"), "/a b.aci", id="file-url"),
        pytest.param("file://localhost/a", FileRef(path="/a"), "/a", id="file-url-host"),
        pytest.param("file:a", FileRef(path="/cwd/a"), "/cwd/a", id="file-url-relative"),
        pytest.param("file:///a%0A", FileRef(path="/a\n"), "file:///a%0A", id="file-newline"),
        pytest.param("/a\udcff", FileRef(path="/a\udcff"), "/a\udcff", id="file-not-utf8"),
        pytest.param("sha512-ab", IdRef(id="sha512-ab"), "sha512-ab", id="id-short"),
        pytest.param(f"sha256:{HEX}", IdRef(id=f"sha256-{HEX}"), f"sha256-{HEX}", id="id-colon"),
        pytest.param("sha512-ab,x=y", AppcRef(name="sha512-ab", labels=(("x", "y"),)), "sha512-ab,x=y", id="not-an-id"),
    ],
)  # fmt: skip
def test_reads_each_form_and_prints_it_in_one_way(text: str, expected: Reference, normal: str) -> None:
    assert parse(text, "/cwd") == expected
    assert str(parse(text, "/cwd")) == normal
    assert parse(normal, "/elsewhere") == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param(" example.com/app", "spaces around", id="space"),
        pytest.param("example.com/\x1b[2J", "control characters", id="escape"),
        pytest.param("a" * (MAX_LENGTH + 1), "longer than", id="long"),
        pytest.param("/" + "a" * 5000, "a path of more than", id="long-path"),
        pytest.param("/a\ud800", "is not text", id="surrogate"),
        pytest.param("docker://", "repository name ''", id="docker-empty"),
        pytest.param("docker://registry.test/", "repository name ''", id="docker-no-name"),
        pytest.param("docker://registry.test/App", "repository name 'App'", id="docker-case"),
        pytest.param("docker://a/../b", "repository name", id="docker-dots"),
        pytest.param("docker://registry.test:99999/a", "the host", id="docker-port"),
        pytest.param("docker://registry.test:0/a", "the host", id="docker-port-zero"),
        pytest.param("docker://user@registry.test/a", "", id="docker-user"),
        pytest.param("docker://registry.test/a:", "the tag ''", id="docker-empty-tag"),
        pytest.param("docker://registry.test/a:" + "t" * 129, "the tag", id="docker-long-tag"),
        pytest.param("docker://registry.test/a:../x", "repository name", id="docker-tag-path"),
        pytest.param("docker://registry.test/a@sha256:abc", "", id="docker-short-digest"),
        pytest.param(f"docker://registry.test/a@md5:{HEX}", "", id="docker-md5"),
        pytest.param(f"docker://registry.test/a@sha256:{HEX}\n", "control", id="docker-newline"),
        pytest.param("docker://registry.test/" + "a/" * 130 + "a", "more than 255", id="docker-long-name"),
        pytest.param("docker://-a.test/a", "the host", id="docker-host-dash"),
        pytest.param("oci:", "names no directory", id="layout-empty"),
        pytest.param("oci:/l:", "the tag ''", id="layout-empty-tag"),
        pytest.param("oci:/l:../x", "the tag", id="layout-tag-dots"),
        pytest.param("file:", "names no file", id="file-empty"),
        pytest.param("file:///a%00b", "names no file", id="file-nul"),
        pytest.param("file://other.test/a", "on the host", id="file-host"),
        pytest.param("https:///a.aci", "without a host", id="url-no-host"),
        pytest.param("https://user:secret@example.com/a", "carries a password", id="url-password"),
        pytest.param("https://example.com/a b", "percent-encode", id="url-space"),
        pytest.param("https://example.com:99999/a", "is not a URL", id="url-port"),
        pytest.param("https://[::1/a", "is not a URL", id="url-bracket"),
        pytest.param("https://exa_mple.com/a", "without a host", id="url-host"),
        pytest.param("sha512-a", "id of 1 digits", id="id-short"),
        pytest.param("sha256-" + "a" * 65, "id of 65 digits", id="id-long"),
        pytest.param("Example.com/App", "is no image name", id="appc-case"),
        pytest.param("example.com/app:1:2", "has a colon", id="appc-colons"),
        pytest.param("example.com//app", "is no image name", id="appc-slashes"),
        pytest.param("example.com/app,os", "has the label 'os'", id="appc-label-without-value"),
        pytest.param("example.com/app,name=x", "has the label 'name=x'", id="appc-label-name"),
        pytest.param("example.com/app,os=a,os=b", "the label 'os' twice", id="appc-label-twice"),
        pytest.param("example.com/app:1,version=2", "the label 'version' twice", id="appc-version-twice"),
        pytest.param("example.com/app:", "no printable value", id="appc-empty-version"),
        pytest.param("example.com/app:%ff", "no printable value", id="appc-not-utf8"),
        pytest.param("example.com/app:%0a", "no printable value", id="appc-control"),
        pytest.param("docker,version=1", "is no image name", id="appc-scheme"),
    ],
)
def test_refuses_in_one_printable_line(text: str, problem: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse(text, "/cwd")
    assert problem in caught.value.message
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 20_000


def test_an_existing_file_wins_over_discovery(tmp_path: Path) -> None:
    (tmp_path / "app.aci").write_bytes(b"")
    assert parse("app.aci", str(tmp_path)) == FileRef(path=f"{tmp_path}/app.aci")
    assert parse("other.aci", str(tmp_path)) == AppcRef(name="other.aci")


def test_relative_paths_start_at_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse("./a") == FileRef(path=f"{tmp_path}/./a")


def test_a_removed_current_directory_stops_only_what_is_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert parse("example.com/app") == AppcRef(name="example.com/app")
    assert parse("/a") == FileRef(path="/a")
    with pytest.raises(InvalidSpec, match="was removed"):
        parse("./a")


def test_a_layout_below_a_directory_with_a_colon_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="a colon there"):
        parse("oci:l", "/c:d")


def test_what_callers_ask_of_references() -> None:
    docker = parse(f"docker://registry.test/a:t@{SHA}")
    assert isinstance(docker, DockerRef)
    assert (docker.name, docker.pointer) == ("registry.test/a", SHA)
    assert DockerRef(host="registry.test", repository="a", tag="t").pointer == "t"
    appc = parse("example.com/app:1,os=linux")
    assert isinstance(appc, AppcRef)
    assert appc.wanted() == {"version": "1", "os": "linux"}
    assert AppcRef(name="a").wanted() == {}


_PIECES = st.sampled_from(
    ["docker:", "docker://", "oci:", "https://", "file://", "sha512-", "sha256:", "example.com", "/", ":", ",", "=",
     "@", ".", "..", "a", "B", "0", "%", "%2C", "[::1]", "version", "os", " ", SHA, "-", "_", "\n", "?", "#", "+"]
)  # fmt: skip


@given(st.one_of(st.text(max_size=60), st.lists(_PIECES, max_size=9).map("".join)))
def test_any_text_is_read_in_a_stable_form_or_refused(text: str) -> None:
    first: Reference | None
    problem = ""
    try:
        first = parse(text, "/cwd")
    except InvalidSpec as refused:
        first, problem = None, refused.message
    if first is None:
        assert problem.isprintable()
        return
    assert parse(str(first), "/elsewhere") == first
    assert str(parse(str(first), "/elsewhere")) == str(first)


@given(st.binary(min_size=1, max_size=40).filter(lambda raw: b"\0" not in raw))
def test_any_file_name_can_be_named(raw: bytes) -> None:
    path = "/" + os.fsdecode(raw)
    reference = FileRef(path=path)
    assert parse(str(reference)) == reference
