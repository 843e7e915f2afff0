"""What the verbs print and log, in the forms that engines parse."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from pyrkt.base.errors import PyrktError, UsageError
from pyrkt.runtime import kill, main, ps
from pyrkt.runtime import list as listing
from pyrkt.runtime.report import Log
from pyrkt.spec.runtime import parse_config


def run(*words: str) -> int:
    return main.main(words)


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "state")


@pytest.mark.parametrize(
    ("text", "number"),
    [("15", 15), ("9", 9), ("TERM", 15), ("SIGTERM", 15), ("sigkill", 9), ("hup", 1), ("WINCH", 28), ("RTMIN+2", 36)],
)
def test_signals(text: str, number: int) -> None:
    if text == "RTMIN+2":
        number = signal.SIGRTMIN + 2
    assert kill.signal_number(text) == number


@pytest.mark.parametrize("text", ["FOO", "", "-1", "1.5", "SIG", "TERM+1", "_DFL", "RTMIN+x", "1234", "٣"])
def test_unknown_signals(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        kill.signal_number(text)
    assert caught.value.message == f'unknown signal "{text}"'


def test_the_table_is_as_wide_as_runcs() -> None:
    text = listing.table([("ID", "PID", "STATUS"), ("a-very-long-name", "1", "running")])
    assert text == "ID                 PID         STATUS\na-very-long-name   1           running\n"


def test_list_of_nothing(root: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path(root).mkdir(mode=0o700)
    assert run("--root", root, "list") == 0
    assert capfd.readouterr().out == "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
    assert run("--root", root, "list", "-f", "json") == 0
    assert capfd.readouterr().out == "null\n"
    assert run("--root", root, "list", "-q") == 0
    assert capfd.readouterr().out == ""


def test_one_broken_container_does_not_hide_the_others(root: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path(root, "broken").mkdir(parents=True)
    Path(root, "broken", "state.json").write_text("{")
    assert run("--root", root, "list", "-q") == 0
    assert capfd.readouterr() == ("", "")
    assert run("--root", root, "delete", "broken") == 1
    assert run("--root", root, "delete", "--force", "broken") == 0
    assert not Path(root, "broken").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nope"], 3, "No help topic for 'nope'"),
        (["--nope", "list"], 1, "flag provided but not defined: -nope"),
        (["--log-format", "xml", "list"], 1, "invalid log-format: xml"),
        (["state"], 1, 'pyrkt-oci: "state" requires exactly 1 argument(s)'),
        (["state", "nope"], 1, "container does not exist"),
        (["start", "nope"], 1, "container does not exist"),
        (["kill", "nope"], 1, "container does not exist"),
        (["pause", "nope"], 1, "container does not exist"),
        (["resume", "nope"], 1, "container does not exist"),
        (["ps", "nope"], 1, "container does not exist"),
        (["delete", "nope"], 1, "container does not exist"),
        (["state", ""], 1, "container id cannot be empty"),
        (["help", "nope"], 3, "No help topic for 'nope'"),
        (["--rootless", "perhaps", "list"], 1, 'invalid value "perhaps" for flag -rootless'),
        (["--cgroup-manager", "mine", "list"], 1, 'invalid value "mine" for flag -cgroup-manager'),
        (["--log", "/nonexistent/log", "list"], 1, "open /nonexistent/log: no such file or directory"),
        (["--root", "/", "list"], 1, "Option --root argument should not be set to /"),
        (["--root", "/nonexistent", "list"], 1, "open /nonexistent: no such file or directory"),
        (["delete", "a/b"], 1, "invalid container ID format"),
        (["list", "-f", "xml"], 1, "invalid format option"),
    ],
)
def test_refusals(root: str, capfd: pytest.CaptureFixture[str], words: list[str], code: int, message: str) -> None:
    assert run("--root", root, *words) == code
    line = capfd.readouterr().err
    assert f"level=error msg={json.dumps(message)}" in line
    assert line.count("\n") == 1


def test_deleting_the_unknown_by_force_is_silent(root: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("--root", root, "delete", "--force", "nope") == 0
    assert capfd.readouterr() == ("", "")


def test_the_log_is_json_and_standard_error_is_for_people(
    root: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.json"
    assert run("--root", root, "--log", str(log), "--log-format", "json", "state", "nope") == 1
    entry = json.loads(log.read_text())
    assert entry["level"] == "error"
    assert entry["msg"] == "container does not exist"
    assert entry["time"].endswith("Z")
    assert capfd.readouterr().err == "container does not exist\n"


def test_control_characters_never_reach_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for form in ("json", "text"):
        Log(path=str(log), form=form).error(PyrktError("a\x1b[31m\nb", hint="c\r"))
    lines = log.read_text().splitlines()
    assert len(lines) == 2
    assert "\x1b" not in log.read_text()


def test_an_unwritable_log_does_not_hide_the_error(capfd: pytest.CaptureFixture[str]) -> None:
    Log(path="/nonexistent/log").error(PyrktError("why"))
    assert 'msg="why"' in capfd.readouterr().err


def test_spec_writes_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("spec", "--bundle", str(tmp_path)) == 0
    config = parse_config((tmp_path / "config.json").read_bytes())
    assert config.process is not None
    assert config.process.args == ("sh",)
    assert run("spec", "--bundle", str(tmp_path)) == 1
    assert "exists. Remove it first" in capfd.readouterr().err


def test_spec_for_ordinary_users(tmp_path: Path) -> None:
    assert run("spec", "--rootless", "-b", str(tmp_path)) == 0
    config = parse_config((tmp_path / "config.json").read_bytes())
    assert config.linux is not None
    assert [m.host_id for m in config.linux.uid_mappings] == [os.geteuid()]


def test_ps_filters_by_the_pid_column() -> None:
    text = "UID   PID  CMD\nroot    1  init 22\nroot   22  app\n"
    assert ps.lines_of(text, [22]) == "UID   PID  CMD\nroot   22  app\n"
    with pytest.raises(PyrktError, match="no column PID"):
        ps.lines_of("CMD\nx\n", [1])


def test_version_is_as_dockerd_reads_it(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("pyrkt-oci version ")
    assert lines[1].startswith("commit: ")
    assert lines[2].startswith("spec: 1.")


@pytest.mark.parametrize("verb", [name for name, _ in main.VERBS])
def test_every_verb_has_help(verb: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(verb, "--help") == 0
    assert capfd.readouterr().out.startswith(f"NAME:\n   pyrkt-oci {verb} - ")


@pytest.mark.parametrize("value", ["", "/run/user/1000"])
def test_the_state_root_needs_neither_home_nor_xdg(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", value)
    monkeypatch.setattr(os, "geteuid", lambda: 54322)
    assert main.default_root() == (f"{value}/pyrkt-oci" if value else "/tmp/pyrkt-oci-54322")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(main, "_outside", lambda: None)
    assert main.default_root() == "/run/pyrkt-oci"


@pytest.mark.parametrize(
    ("runtime_dir", "user", "writable", "root"),
    [
        pytest.param("/x", "web", True, "/x/pyrkt-oci", id="as-outside"),
        pytest.param("/x", None, True, "/x/pyrkt-oci", id="nobody-says-who"),
        pytest.param("/x", "root", True, "/run/pyrkt-oci", id="a-root-with-a-run-of-his-own"),
        pytest.param("/x", "root", False, "/x/pyrkt-oci", id="no-run-of-his-own"),
        pytest.param("", "web", True, "/run/pyrkt-oci", id="a-run-of-his-own"),
        pytest.param("", "web", False, "/tmp/pyrkt-oci-54322", id="nothing-of-his-own"),
    ],
)
def test_the_state_root_of_root_of_a_user_namespace(
    monkeypatch: pytest.MonkeyPatch, runtime_dir: str, user: str | None, writable: bool, root: str
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime_dir)
    monkeypatch.delenv("USER", raising=False)
    if user is not None:
        monkeypatch.setenv("USER", user)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "access", lambda *_: writable)
    monkeypatch.setattr(main, "_outside", lambda: 54322)
    assert main.default_root() == root


def test_features_are_what_features_md_asks_for(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("features") == 0
    found = json.loads(capfd.readouterr().out)
    assert found["ociVersionMin"] == "1.0.0"
    assert {"bind", "rbind", "ro", "rro", "rprivate", "idmap", "tmpcopyup"} <= set(found["mountOptions"])
    assert found["linux"]["namespaces"] == sorted(found["linux"]["namespaces"])
    assert found["linux"]["cgroup"] == {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True}
    assert "SCMP_ACT_NOTIFY" in found["linux"]["seccomp"]["actions"]
