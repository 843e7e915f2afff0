"""process.env as the program gets it: of a name given twice the last one, and a HOME in any case."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.running import executed, executed_process, started

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(["HOME=/override"], {"HOME=/override"}, id="home"),
        pytest.param(["HOME="], {"HOME=/root"}, id="empty-home"),
        pytest.param(["HOME=/override", "HOME="], {"HOME=/root"}, id="emptied-home"),
        pytest.param([], {"HOME=/root"}, id="no-home"),
        pytest.param(["ONE=two", "ONE="], {"ONE=", "HOME=/root"}, id="emptied"),
        pytest.param(["ONE=two", "TWO=2", "ONE=three"], {"TWO=2", "ONE=three", "HOME=/root"}, id="twice"),
        pytest.param(["A=b=c"], {"A=b=c", "HOME=/root"}, id="equals-in-the-value"),
    ],
)
def test_what_the_program_gets(runtime: Runtime, box: Bundle, given: list[str], expected: set[str]) -> None:
    box.config["process"]["env"] = [*given, "PATH=/bin"]
    answer = runtime.run(box.runs("/bin/env").path)
    assert set(answer.out.splitlines()) == expected | {"PATH=/bin"}, answer.err
    assert len(answer.out.splitlines()) == len(expected) + 1


def test_a_line_break_is_a_character(runtime: Runtime, box: Bundle) -> None:
    box.config["process"]["env"] = ["NEW_LINE=\n", "PATH=/bin"]
    assert "NEW_LINE=\n\n" in runtime.run(box.runs("/bin/env").path).out


@pytest.mark.parametrize(("variable", "problem"), [("NAME", "missing '='"), ("=value", "name cannot be empty")])
def test_what_is_no_variable_is_refused(runtime: Runtime, box: Bundle, variable: str, problem: str) -> None:
    box.config["process"]["env"] = [variable]
    answer = runtime.run(box.save().path)
    assert answer.code == 1
    assert f"invalid environment variable: {problem}" in answer.err


def test_exec_has_the_containers_variables_and_its_own(runtime: Runtime, box: Bundle) -> None:
    box.config["process"]["env"] = ["A=1", "B=2", "PATH=/bin"]
    name = started(runtime, box)
    found = runtime.call("exec", "--env", "B=3", name, "/bin/env").out.splitlines()
    assert set(found) == {"A=1", "B=3", "PATH=/bin", "HOME=/root"}


def test_a_process_file_has_its_own_variables_only(runtime: Runtime, box: Bundle) -> None:
    name = started(runtime, box)
    answer = executed_process(runtime, box.path, name, args=["/bin/env"], env=["FOO=bar"])
    assert set(answer.out.splitlines()) == {"FOO=bar", "HOME=/root"}
    answer = executed_process(runtime, box.path, name, args=["/bin/env"], env=None)
    assert answer.out == "HOME=/root\n"


def test_home_is_that_of_the_user(runtime: Runtime, box: Bundle) -> None:
    (box.rootfs / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
    name = started(runtime, box)
    assert runtime.call("exec", "--user", "1000", name, "sh", "-c", "echo $HOME").out == "/home/user\n"
    assert executed(runtime, name, "sh", "-c", "echo $HOME") == "/root\n"
