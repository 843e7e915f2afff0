"""Where the log is: the configuration, root's own place, and a user's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyrkt.base.dirs import ConfigDirs
from pyrkt.base.errors import InvalidSpec
from pyrkt.tpm import where


def configured(directory: Path, **settings: object) -> str:
    (directory / "measurements.d").mkdir(parents=True)
    value = {"rktKind": "measurements", "rktVersion": "v1", **settings}
    (directory / "measurements.d/a.json").write_text(json.dumps(value))
    return str(directory)


def test_each_member_is_overridden_on_its_own(tmp_path: Path) -> None:
    system = configured(tmp_path / "system", log="/a", required=False)
    local = configured(tmp_path / "local", log="/b")
    assert where.find(ConfigDirs(system=system, local="/nonexistent")) == where.Log(path="/a", required=False)
    assert where.find(ConfigDirs(system=system, local=local)) == where.Log(path="/b", required=False)
    user = configured(tmp_path / "user", required=True)
    assert where.find(ConfigDirs(system=system, local=local, user=user)) == where.Log(path="/b")


@pytest.mark.parametrize(
    "settings",
    [{"log": "relative"}, {"log": 7}, {"required": "no"}, {"rktKind": "paths"}, {"rktVersion": "v2"}],
    ids=str,
)
def test_a_wrong_file_is_refused(tmp_path: Path, settings: dict[str, object]) -> None:
    local = configured(tmp_path / "local", **settings)
    with pytest.raises(InvalidSpec):
        where.find(ConfigDirs(system="/nonexistent", local=local))


def test_roots_is_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(where, "is_root", lambda: True)
    nowhere = ConfigDirs(system="/nonexistent", local="/nonexistent")
    assert where.find(nowhere) == where.Log(path="/run/log/pyrkt/measurements.log")


def test_a_users_is_in_the_runtime_directory_that_is_his(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(where, "is_root", lambda: False)
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert where.default() == f"{tmp_path}/pyrkt/measurements.log"
    for other in ("relative", "/nonexistent"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", other)
        assert where.default() == "/state/pyrkt/measurements.log"
