"""Exit codes and texts: the same calls to pyrkt-oci and to runc end alike, in the words that engines look for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support import oci

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = [pytest.mark.root, pytest.mark.peers]


@pytest.fixture
def runc(tmp_path: Path) -> Iterator[Runtime]:
    found = oci.peer("runc", tmp_path)
    yield found
    found.clean()


def text(err: str) -> str:
    """Return the message of the last line, in logfmt."""
    line = err.strip().splitlines()[-1]
    assert line.startswith('time="')
    assert " level=error msg=" in line
    found, _ = json.JSONDecoder().raw_decode(line.partition(" msg=")[2])
    assert isinstance(found, str)
    return found.strip()


def words_of(program: str, said: str) -> str:
    return said.replace(f"{program} ", "PROGRAM ").replace(f"{program}:", "PROGRAM:")


def started(runtime: Runtime, box: Bundle) -> str:
    name = runtime.new_id()
    answer = runtime.detached("run", "-d", "-b", str(box.path), name)
    assert answer.code == 0, answer.err
    return name


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nope"], 3, "No help topic for 'nope'"),
        (["help", "nope"], 3, "No help topic for 'nope'"),
        (["--nope", "list"], 1, "flag provided but not defined: -nope"),
        (["-root"], 1, "flag needs an argument: -root"),
        (["run", "--nope", "x"], 1, "flag provided but not defined: -nope"),
        (["run", "--preserve-fds=x", "x"], 1, 'invalid value "x" for flag -preserve-fds: parse error'),
        (["run"], 1, 'PROGRAM: "run" requires exactly 1 argument(s)'),
        (["exec"], 1, 'PROGRAM: "exec" requires a minimum of 1 argument(s)'),
        (["list", "extra"], 1, 'PROGRAM: "list" requires exactly 0 argument(s)'),
        (["list", "-f", "xml"], 1, "invalid format option"),
        (["--log-format", "xml", "list"], 1, "invalid log-format: xml"),
        (["--log", "/nonexistent/log", "list"], 1, "open /nonexistent/log: no such file or directory"),
        (["state", "nope"], 1, "container does not exist"),
        (["state", ""], 1, "container id cannot be empty"),
        (["start", "nope"], 1, "container does not exist"),
        (["kill", "nope"], 1, "container does not exist"),
        (["delete", "nope"], 1, "container does not exist"),
        (["pause", "nope"], 1, "container does not exist"),
        (["resume", "nope"], 1, "container does not exist"),
        (["ps", "nope"], 1, "container does not exist"),
        (["exec", "nope", "true"], 255, "exec failed: container does not exist"),
        (["create", "-b", "/nonexistent", "x"], 1, ""),
        (["run", "-b", "/", "x"], 1, "JSON specification file config.json not found"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_before_there_is_a_container(
    runtime: Runtime, runc: Runtime, words: list[str], code: int, message: str
) -> None:
    for each in (runtime, runc):
        each.root.mkdir(mode=0o700, exist_ok=True)
        answer = each.call(*words)
        assert answer.code == code
        assert message in words_of(each.name, text(answer.err))


def test_delete_by_force_is_content_with_nothing(runtime: Runtime, runc: Runtime) -> None:
    for each in (runtime, runc):
        answer = each.call("delete", "--force", "nope")
        assert (answer.code, answer.out, answer.err) == (0, "", "")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["run", "ID"], 1, "container with given ID already exists"),
        (["create", "ID"], 1, "container with given ID already exists"),
        (["start", "ID"], 1, "cannot start an already running container"),
        (["delete", "ID"], 1, "cannot delete container ID that is not stopped: running"),
        (["resume", "ID"], 1, "container not paused"),
        (["kill", "ID", "FOO"], 1, 'unknown signal "FOO"'),
        (["ps", "-f", "xml", "ID"], 1, "invalid format option"),
        (["exec", "ID"], 255, "exec failed: "),
        (["exec", "ID", "nope"], 255, 'exec: "nope": executable file not found in $PATH'),
        (["exec", "ID", "/nope"], 255, 'exec: "/nope": stat /nope: no such file or directory'),
        (["exec", "ID", "/etc"], 255, "permission denied"),
        (["exec", "-e", "=x", "ID", "true"], 255, "exec failed: "),
        (["exec", "-e", "X", "ID", "true"], 255, "invalid environment variable"),
        (["exec", "-u", "x", "ID", "true"], 255, "exec failed: "),
        (["exec", "-g", "-1", "ID", "true"], 255, "exec failed: "),
        (["exec", "--cwd", "/nope", "ID", "true"], 255, "no such file or directory"),
        (["exec", "--pid-file", "/nonexistent/pid", "ID", "true"], 255, "no such file or directory"),
        (["exec", "-p", "/nonexistent", "ID"], 255, "no such file or directory"),
        (["exec", "-d", "-t", "ID", "true"], 255, "cannot allocate tty if PROGRAM will detach without setting"),
        (["exec", "--console-socket", "/x", "ID", "true"], 255, "cannot use console socket if PROGRAM will not detach"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_with_a_container(
    runtime: Runtime, runc: Runtime, box: Bundle, words: list[str], code: int, message: str
) -> None:
    box.save()
    for each in (runtime, runc):
        name = started(each, box)
        answer = each.call(*(name if word == "ID" else word for word in words), cwd=box.path)
        assert answer.code == code
        said = words_of(each.name, text(answer.err)).replace(name, "ID")
        assert message.casefold() in said.casefold()


def test_with_a_log_it_has_the_error_and_people_the_text(runtime: Runtime, runc: Runtime, tmp_path: Path) -> None:
    for each in (runtime, runc):
        log = tmp_path / f"{each.name}.log"
        answer = each.call("--log", str(log), "--log-format", "json", "state", "nope")
        assert (answer.code, answer.err) == (1, "container does not exist\n")
        (line,) = log.read_text().splitlines()
        entry = json.loads(line)
        assert (entry["level"], entry["msg"]) == ("error", "container does not exist")
        assert entry["time"].count("T") == 1


def test_an_unknown_flag_shows_how_it_is_used(runtime: Runtime) -> None:
    answer = runtime.call("run", "--nope", "x")
    assert answer.out.startswith("Incorrect Usage: flag provided but not defined: -nope\n\nNAME:\n   pyrkt-oci run - ")
    assert "--bundle value, -b value" in answer.out


def test_a_missing_interpreter_is_named_as_such(runtime: Runtime, box: Bundle) -> None:
    (box.rootfs / "script").write_text("#!/nonexistent/interpreter\n")
    (box.rootfs / "script").chmod(0o755)
    answer = runtime.run(box.runs("/script").path)
    assert answer.code == 1
    assert "exec /script: no such file or directory" in answer.err
    assert "the program is there" in answer.err


def test_a_link_that_leads_nowhere_is_passed_over(runtime: Runtime, box: Bundle) -> None:
    (box.rootfs / "usr/bin").mkdir(parents=True)
    (box.rootfs / "usr/bin/id").symlink_to("id")
    box.config["process"]["env"] = ["PATH=/usr/bin:/bin"]
    answer = runtime.run(box.runs("id", "-u").path)
    assert (answer.code, answer.out) == (0, "0\n"), answer.err
