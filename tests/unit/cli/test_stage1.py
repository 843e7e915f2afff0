"""Which flavour a command line, or the configuration, means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyrkt.base.dirs import ConfigDirs
from pyrkt.base.errors import InvalidSpec, NotFound, UsageError
from pyrkt.cli import flags
from pyrkt.cli.grammar import parse
from pyrkt.cli.stage1 import flavour

NOWHERE = ConfigDirs(system="/nonexistent", local="/nonexistent")


def chosen(*words: str, dirs: ConfigDirs = NOWHERE) -> str:
    return flavour(parse([*words, "image"], (*flags.RUN, *flags.GLOBAL)), dirs).name


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ([], "native"),
        (["--stage1=native"], "native"),
        (["--stage1=fly"], "fly"),
        (["--stage1-name=coreos.com/rkt/stage1-coreos:1.30.0"], "native"),
        (["--stage1-name=coreos.com/rkt/stage1-fly:1.30.0"], "fly"),
        (["--stage1-path=/usr/lib/rkt/stage1-images/stage1-src.aci"], "native"),
        (["--stage1-url=https://example.com/stage1-host.aci"], "native"),
        (["--stage1-from-dir=stage1-fly.aci"], "fly"),
    ],
)
def test_flags(words: list[str], name: str) -> None:
    assert chosen(*words) == name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--stage1=kvm"], "no such flavour"),
        (["--stage1-name=coreos.com/rkt/stage1-kvm"], "no kvm flavour"),
        (["--stage1-path=/tmp/mine.aci"], "is no image here"),
        (["--stage1-hash=sha512-0123"], "is no image here"),
        (["--stage1=fly", "--stage1-path=stage1-fly.aci"], "exclude each other"),
    ],
)
def test_refusals(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        chosen(*words)
    assert "--stage1=" in caught.value.hint


def test_the_configuration_is_the_default(tmp_path: Path) -> None:
    system, local = tmp_path / "system", tmp_path / "local"
    for directory, name in ((system, "fly"), (local, "coreos.com/rkt/stage1-coreos")):
        (directory / "stage1.d").mkdir(parents=True)
        value = {"rktKind": "stage1", "rktVersion": "v1", "name": name}
        (directory / "stage1.d/a.json").write_text(json.dumps(value))
    assert chosen(dirs=ConfigDirs(system=str(system), local="/nonexistent")) == "fly"
    assert chosen(dirs=ConfigDirs(system=str(system), local=str(local))) == "native"
    assert chosen("--stage1=fly", dirs=ConfigDirs(system=str(system), local=str(local))) == "fly"


@pytest.mark.parametrize(
    "value",
    [
        {"rktKind": "stage1", "rktVersion": "v1", "name": "kata"},
        {"rktKind": "paths", "rktVersion": "v1"},
        {"rktKind": "stage1", "rktVersion": "v2", "name": "fly"},
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, value: dict[str, str]) -> None:
    (tmp_path / "stage1.d").mkdir()
    (tmp_path / "stage1.d/a.json").write_text(json.dumps(value))
    with pytest.raises(InvalidSpec):
        chosen(dirs=ConfigDirs(system="/nonexistent", local=str(tmp_path)))


def test_a_runtime_is_looked_for_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"relative:{tmp_path}")
    with pytest.raises(NotFound, match="no runsc on the PATH"):
        chosen("--stage1=runsc")
    (tmp_path / "runsc").write_text("")
    with pytest.raises(NotFound, match="no runsc on the PATH"):  # not executable
        chosen("--stage1=runsc")
    (tmp_path / "runsc").chmod(0o755)
    found = flavour(parse(["--stage1=runsc", "image"], (*flags.RUN, *flags.GLOBAL)), NOWHERE)
    assert found.program == f"{tmp_path}/runsc"
