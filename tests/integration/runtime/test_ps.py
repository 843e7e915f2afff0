"""ps: the processes of a container as ps(1) shows them, with its options, or as numbers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.limits import detached, stops

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


def test_table_and_numbers(runtime: Runtime, box: Bundle) -> None:
    name = detached(runtime, box)
    pid = runtime.state(name)["pid"]
    heading, row = runtime.call("ps", name).out.splitlines()
    assert heading.split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert row.split()[1] == str(pid)
    assert row.endswith("sleep 300")
    assert runtime.call("ps", "--format", "json", name).out == f"[{pid}]\n"
    assert runtime.detached("exec", "-d", name, "sleep", "300").code == 0
    assert len(json.loads(runtime.call("ps", "-f", "json", name).out)) == 2


def test_options_of_ps(runtime: Runtime, box: Bundle) -> None:
    name = detached(runtime, box)
    pid = runtime.state(name)["pid"]
    heading, row = runtime.call("ps", name, "-e", "-x").out.splitlines()
    assert heading.split() == ["PID", "TTY", "STAT", "TIME", "COMMAND"]
    assert row.split()[0] == str(pid)
    assert runtime.call("ps", name, "-o", "pid,args", "-A").out.splitlines()[1].split() == [str(pid), "sleep", "300"]


def test_what_ps_refuses(runtime: Runtime, box: Bundle) -> None:
    name = detached(runtime, box)
    answer = runtime.call("ps", name, "--nonsense")
    assert answer.code == 1
    assert "exit status 1: error: unknown gnu long option" in answer.err
    assert "PID" in runtime.call("ps", name, "-o", "args").err
    answer = runtime.call("ps", "-f", "xml", name)
    assert (answer.code, "invalid format option" in answer.err) == (1, True)
    assert "container does not exist" in runtime.call("ps", "none").err


def test_of_one_that_has_stopped(runtime: Runtime, box: Bundle) -> None:
    name = detached(runtime, box)
    assert runtime.call("kill", name, "KILL").code == 0
    assert stops(runtime, name)
    answer = runtime.call("ps", name)
    assert (answer.code, len(answer.out.splitlines())) == (0, 1)
    assert runtime.call("ps", "-f", "json", name).out == "null\n"
