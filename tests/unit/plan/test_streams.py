"""What an app writes and reads, as steps."""

from __future__ import annotations

from typing import Any

import pytest

from pyrkt.plan import explain
from pyrkt.plan.place import Place, Streams
from pyrkt.plan.steps import BEFORE, CHILD, Plan
from tests.unit.plan.hosts import changed, compiled, named, place_of

LOGGED, PASSED, SERVED, TTY = 1, 2, 4, 8
FILE = {"log": "/pod/logs/app.log"}
SOCKET = {"attach": "/pod/apps/app/attach"}


def planned(streams: Streams | None) -> Plan:
    terminal = bool(streams and streams.terminal())
    return compiled(changed(process={"terminal": terminal}), place=Place(streams=streams))


def test_without_streams_there_is_no_step_of_them() -> None:
    assert not named(planned(None), "STREAMS", "STREAM_ENDS")


@pytest.mark.parametrize(
    ("wanted", "modes"),
    [
        pytest.param({}, (0, 0, 0, 0), id="nothing-to-do-with-it"),
        pytest.param(FILE, (0, 0, LOGGED, LOGGED), id="log"),
        pytest.param({**FILE, **SOCKET}, (0, 0, LOGGED | SERVED, LOGGED | SERVED), id="log-and-attach"),
        pytest.param({**FILE, **SOCKET, "stdout": "log"}, (0, 0, LOGGED, LOGGED | SERVED), id="not-for-others"),
        pytest.param({**FILE, "pass_on": True}, (0, 0, LOGGED | PASSED, LOGGED | PASSED), id="foreground"),
        pytest.param({"pass_on": True}, (0, 0, PASSED, PASSED), id="no-log"),
        pytest.param({"journal": (("A", "b"),)}, (0, 0, LOGGED, LOGGED), id="journal-alone"),
        pytest.param({**FILE, "stdin": "null", "stdout": "null"}, (1, 0, 0, LOGGED), id="null"),
        pytest.param({**FILE, **SOCKET, "stdin": "stream"}, (2, 0, 5, 5), id="stdin"),
        pytest.param(
            {**FILE, **SOCKET, "stdin": "tty", "stdout": "tty", "stderr": "tty"}, (3, 5, TTY, TTY), id="terminal"
        ),
        pytest.param({**FILE, **SOCKET, "stdin": "tty", "stdout": "tty"}, (3, 5, TTY, 5), id="stderr-beside-terminal"),
        pytest.param({**FILE, "stdin": "tty"}, (3, 0, LOGGED, LOGGED), id="terminal-for-input"),
        pytest.param(
            {**FILE, "stdin": "own", "stdout": "tty", "stderr": "tty", "pass_on": True}, (4, 3, TTY, TTY), id="own"
        ),
    ],
)
def test_modes(wanted: dict[str, Any], modes: tuple[int, int, int, int]) -> None:
    (step,) = named(planned(Streams(**wanted)), "STREAMS")
    mode = step.args[3]
    assert isinstance(mode, int)
    assert (mode & 15, mode >> 4 & 15, mode >> 8 & 15, mode >> 12) == modes
    assert step.phase == BEFORE


def test_all_that_is_said_of_them_is_in_the_step() -> None:
    streams = Streams(log="/l", most=7, files=2, attach="/a", name="app", journal=(("A", "b"), ("C", "d")))
    (step,) = named(planned(streams), "STREAMS")
    assert step.args == ("/l", 7, 2, (LOGGED | SERVED) << 8 | (LOGGED | SERVED) << 12, "/a", "app", b"A=b\nC=d\n")
    lines = "\n".join(explain.lines(planned(streams)))
    assert "pipe stdout>log+attached stderr>log+attached --attach=/a    # log: /l, 2 x 7 bytes" in lines


@pytest.mark.parametrize("stdin", ["inherit", "tty"])
def test_the_programs_ends_come_after_the_root_and_the_terminal(stdin: str) -> None:
    plan = planned(Streams(stdin=stdin))
    (ends,) = named(plan, "STREAM_ENDS")
    assert ends.phase == CHILD
    assert place_of(plan, "STREAMS") < place_of(plan, "CLONE") < place_of(plan, "PIVOT")
    assert place_of(plan, "STREAM_ENDS") < place_of(plan, "OWN_NULL") < place_of(plan, "CLOSE_FDS")
    if stdin == "tty":
        assert place_of(plan, "TERMINAL") < place_of(plan, "STREAM_ENDS")


def test_a_terminal_that_the_configuration_does_not_have_is_a_mistake_of_ours() -> None:
    with pytest.raises(TypeError):
        compiled(changed(), place=Place(streams=Streams(stdin="tty")))
