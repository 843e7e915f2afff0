"""--debug: what is about to be done, in the log or on standard error, with the words of runc's log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root
OF_A_START = ("nsexec container setup", "child process in init()", "init: closing the pipe to signal completion")


def test_on_standard_error(runtime: Runtime, box: Bundle) -> None:
    answer = runtime.call("--debug", "run", "-b", str(box.runs("echo", "Hello").path), runtime.new_id())
    assert (answer.code, answer.out) == (0, "Hello\n")
    assert all(" level=debug " in line for line in answer.err.splitlines())
    for words in (*OF_A_START, "pivot_root", "exec echo Hello"):
        assert words in answer.err


@pytest.mark.parametrize("form", ["", "text", "json"])
def test_in_the_log(runtime: Runtime, box: Bundle, tmp_path: Path, form: str) -> None:
    log = tmp_path / "log"
    words = ["--log", str(log), "--debug", *(["--log-format", form] if form else [])]
    answer = runtime.call(*words, "run", "-b", str(box.runs("echo", "Hello").path), runtime.new_id())
    assert (answer.code, answer.out, answer.err) == (0, "Hello\n", "")
    text = log.read_text()
    if form == "json":
        entries = [json.loads(line) for line in text.splitlines()]
        assert {entry["level"] for entry in entries} == {"debug"}
        text = "\n".join(entry["msg"] for entry in entries)
    for part in OF_A_START:
        assert part in text


def test_exec(runtime: Runtime, box: Bundle) -> None:
    box.save()
    name = runtime.new_id()
    assert runtime.detached("run", "-d", "-b", str(box.path), name).code == 0
    answer = runtime.call("--debug", "exec", name, "echo", "Hello")
    assert (answer.code, answer.out) == (0, "Hello\n")
    for words in ("nsexec container setup", "child process in init()", "setns_init: about to exec", "exec echo Hello"):
        assert words in answer.err
