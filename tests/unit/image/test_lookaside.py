"""registries.d: the YAML that people write there, and the store that it gives an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyrkt.base.dirs import ConfigDirs
from pyrkt.base.errors import InvalidSpec, Unavailable
from pyrkt.image import lookaside
from pyrkt.image.http import Client
from pyrkt.image.lookaside import Stores, parse, store_for
from pyrkt.spec.digest import Digest
from pyrkt.trust.identity import DockerImage

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = DockerImage("registry.test:5000", "team/app", "v1")
DIGEST = Digest("sha256:" + "ab" * 32)
USUAL = """\
# The usual file, mostly comments
#
default-docker:
#  lookaside: https://lookaside.test/
  lookaside-staging: file:///var/lib/containers/sigstore

docker:
  registry.test:5000:
    lookaside: https://a.test/sigs   # ours
  "registry.test:5000/team":
    sigstore: 'file:///srv/sigs'
    use-sigstore-attachments: true
"""


def test_the_usual_file() -> None:
    assert parse(USUAL, "x.yaml") == Stores(
        {"registry.test:5000": "https://a.test/sigs", "registry.test:5000/team": "file:///srv/sigs"}, ""
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("docker: {a: {lookaside: x}}", "more YAML", id="flow"),
        pytest.param("docker:\n  - a", "more YAML", id="list"),
        pytest.param("docker:\n  a:\n    lookaside: |\n", "more YAML", id="block"),
        pytest.param("docker:\n  a:\n    look-aside: x\n", "unknown setting", id="unknown"),
        pytest.param("podman:\n  a:\n    lookaside: x\n", "unknown setting", id="transport"),
        pytest.param("  lookaside: x\n", "indented", id="indent"),
        pytest.param("docker:\n  a:\n    lookaside: x\n    sigstore: y\n", "two stores", id="two-stores"),
    ],
)
def test_what_is_not_understood_is_refused_and_not_overlooked(text: str, problem: str) -> None:
    with pytest.raises(InvalidSpec, match=problem) as caught:
        parse(text, "x.yaml")
    assert "x.yaml: line" in caught.value.message


@pytest.mark.parametrize(
    ("scopes", "default", "expected"),
    [
        pytest.param({"registry.test:5000": "file:///host", "registry.test:5000/team": "file:///team"}, "", "file:///team",
                     id="most-exact"),
        pytest.param({"registry.test:5000": "file:///host"}, "file:///d", "file:///host", id="host"),
        pytest.param({"*.test": "file:///wild"}, "file:///d", "file:///wild", id="wildcard"),
        pytest.param({"registry.test": "file:///other"}, "file:///d", "file:///d", id="other-port"),
    ],
)  # fmt: skip
def test_the_store_of_an_image(scopes: dict[str, str], default: str, expected: str) -> None:
    assert store_for(IMAGE, Stores(scopes, default)) == expected


def test_the_built_in_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert store_for(IMAGE, Stores({}, "")) == "file:///var/lib/containers/sigstore"
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/home/u/data")
    assert store_for(IMAGE, Stores({}, "")) == "file:///home/u/data/containers/sigstore"


def config(tmp_path: Path, **files: str) -> ConfigDirs:
    folder = tmp_path / "config/registries.d"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return ConfigDirs(system="/nonexistent", local=str(tmp_path / "config"))


def test_signatures_in_files(tmp_path: Path) -> None:
    dirs = config(tmp_path, a=f"docker:\n  registry.test:5000:\n    lookaside: file://{tmp_path}/sigs/\n")
    folder = tmp_path / f"sigs/team/app@sha256={'ab' * 32}"
    with Client() as client:
        assert lookaside.signatures(client, IMAGE, DIGEST, dirs) == []
        folder.mkdir(parents=True)
        for number in (1, 2, 4):
            (folder / f"signature-{number}").write_bytes(b"%d" % number)
        found = lookaside.signatures(client, IMAGE, DIGEST, dirs)
        assert [(each.format, each.blob) for each in found] == [("simple", b"1"), ("simple", b"2")]
        assert found[0].source == f"file://{folder}/signature-1"
        (folder / "signature-3").mkdir()
        with pytest.raises(Unavailable, match="signature-3"):
            lookaside.signatures(client, IMAGE, DIGEST, dirs)


def test_two_files_must_not_contradict(tmp_path: Path) -> None:
    text = "docker:\n  a.test:\n    lookaside: file:///x\n"
    with pytest.raises(InvalidSpec, match="in another file too"):
        lookaside.load(config(tmp_path, a=text, b=text))


def test_a_store_of_another_kind_is_refused(tmp_path: Path) -> None:
    dirs = config(tmp_path, a="default-docker:\n  lookaside: ftp://x.test/\n")
    with Client() as client, pytest.raises(InvalidSpec, match="not a file, http or https"):
        lookaside.signatures(client, IMAGE, DIGEST, dirs)
