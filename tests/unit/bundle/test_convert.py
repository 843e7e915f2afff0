"""A bundle from one form to the other, in place and elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyrkt.base.errors import InvalidSpec, NotFound
from pyrkt.bundle.convert import NEW, OLD, convert, read
from pyrkt.spec import legacy
from pyrkt.spec.example import example_config
from pyrkt.spec.runtime import Config, Mount


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of today that 2015 has words for."""
    directory = tmp_path / "bundle"
    (directory / "rootfs").mkdir(parents=True)
    config = example_config(terminal=False)
    assert config.linux is not None
    kept = tuple(each for each in config.linux.namespaces if each.type != "cgroup")
    mounts = (*config.mounts, Mount(destination="/data", type="bind", source="data", options=("bind",)))
    write(directory, config.replace(mounts=mounts, linux=config.linux.replace(namespaces=kept)))
    return directory


def write(directory: Path, config: Config) -> None:
    (directory / "config.json").write_text(json.dumps(config.dump()))


def test_there_and_back_in_place(bundle: Path) -> None:
    before, form = read(bundle)
    assert form == NEW
    assert convert(bundle, bundle) == ()
    old, form = read(bundle)
    assert form == OLD
    assert json.loads((bundle / "config.json").read_text())["version"] == legacy.LEGACY_VERSION
    assert legacy.meaning(old) == legacy.meaning(before)
    assert convert(bundle, bundle) == ()
    after, form = read(bundle)
    assert (form, after) == (NEW, old)
    assert convert(bundle, bundle, NEW) == ()  # asked for the form that it has
    assert read(bundle) == (after, NEW)


def test_elsewhere_it_names_the_files_by_full_paths(bundle: Path, tmp_path: Path) -> None:
    convert(bundle, tmp_path / "other", OLD)
    config, form = read(tmp_path / "other")
    assert form == OLD
    assert config.root is not None
    assert config.root.path == str(bundle / "rootfs")
    assert config.mounts[-1].source == str(bundle / "data")
    assert config.mounts[0].source == "proc"
    assert read(bundle)[1] == NEW


def test_what_cannot_be_said_is_refused_or_dropped_and_listed(bundle: Path) -> None:
    config, _ = read(bundle)
    write(bundle, config.replace(domainname="d"))
    with pytest.raises(InvalidSpec, match="cannot say domainname"):
        convert(bundle, bundle)
    assert read(bundle)[1] == NEW
    assert convert(bundle, bundle, drop=True) == ("domainname",)
    assert read(bundle)[0].domainname == ""


def test_without_a_process_there_is_no_pair(bundle: Path) -> None:
    config, _ = read(bundle)
    write(bundle, config.replace(process=None))
    with pytest.raises(InvalidSpec, match="cannot say process"):
        convert(bundle, bundle, drop=True)


def test_half_a_pair_is_none(bundle: Path) -> None:
    convert(bundle, bundle, OLD)
    (bundle / "runtime.json").unlink()
    with pytest.raises(NotFound, match=r"runtime\.json"):
        read(bundle)
    with pytest.raises(NotFound, match=r"config\.json"):
        read(bundle / "rootfs")
