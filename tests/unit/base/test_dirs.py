"""Where pyrkt looks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pyrkt.base.dirs import ConfigDirs, default_data, default_dirs

if TYPE_CHECKING:
    import pytest


def test_a_later_directory_overrides_an_earlier_one() -> None:
    assert ConfigDirs(user="/u").lightest_first() == ("/usr/lib/pyrkt", "/etc/pyrkt", "/u")
    assert ConfigDirs(system="/s", local="").lightest_first() == ("/s",)


def test_root_has_no_directory_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_dirs() == ConfigDirs()
    assert default_data() == "/var/lib/pyrkt"


def test_others_have_one_below_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/u")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert default_dirs().user == "/home/u/.config/pyrkt"
    assert default_data() == "/home/u/.local/share/pyrkt"
    monkeypatch.setenv("XDG_CONFIG_HOME", "/c")
    monkeypatch.setenv("XDG_DATA_HOME", "/d")
    assert default_dirs().user == "/c/pyrkt"
    assert default_data() == "/d/pyrkt"


def test_root_of_a_user_namespace_in_anothers_root_is_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.stat("/")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "stat", lambda _: os.stat_result((*real[:4], 65534, *real[5:])))
    monkeypatch.setenv("XDG_DATA_HOME", "/d")
    assert default_data() == "/d/pyrkt"
