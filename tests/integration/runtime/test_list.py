"""list: for people, for programs, and where there is nothing to list."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support import oci

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


def test_every_form(runtime: Runtime, box: Bundle) -> None:
    box.save()
    names = sorted(runtime.new_id() for _ in range(3))
    for name in names:
        assert runtime.detached("run", "-d", "-b", str(box.path), name).code == 0
    for words in ([], ["-f", "table"], ["--format", "table"]):
        heading, *rows = runtime.call("list", *words).out.splitlines()
        assert heading.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
        assert [row.split()[0] for row in rows] == names
        assert all(row.split()[2:4] == ["running", str(box.path)] for row in rows)
    assert runtime.call("list", "-q").out.split() == names
    assert runtime.call("list", "--quiet").out.split() == names
    found = json.loads(runtime.call("list", "--format=json").out)
    assert found == [runtime.state(name) for name in names]


def test_a_root_that_is_not_there(runtime: Runtime, tmp_path: Path) -> None:
    answer = runtime.call("list")
    assert (answer.code, answer.out) == (1, "")
    assert f"open {runtime.root}: no such file or directory" in answer.err
    runtime.root.mkdir(mode=0o700)
    assert runtime.call("list", "-f", "json").out == "null\n"


@pytest.mark.peers
def test_the_table_is_runcs(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    box.save()
    tables = []
    runc = oci.peer("runc", tmp_path)
    for each in (runtime, runc):
        name = each.new_id()
        assert each.detached("create", "-b", str(box.path), name).code == 0
        state = each.state(name)
        tables.append(each.call("list").out.replace(name, "NAME").replace(str(state["pid"]), "PID"))
        tables[-1] = tables[-1].replace(state["created"], "TIME")
    runc.clean()
    assert [line.split() for line in tables[0].splitlines()] == [line.split() for line in tables[1].splitlines()]
