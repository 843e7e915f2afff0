"""process.user.umask: of the program, and of what is executed beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.running import executed, executed_process, started

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


def test_umask_of_the_program_and_of_exec(runtime: Runtime, box: Bundle) -> None:
    box.config["process"]["user"]["umask"] = 0o077
    name = started(runtime, box)
    for process in ("1", "self"):
        assert executed(runtime, name, "grep", "^Umask:", f"/proc/{process}/status") == "Umask:\t0077\n"
    answer = executed_process(
        runtime, box.path, name, args=["grep", "^Umask:", "/proc/self/status"], user={"umask": 0o027}
    )
    assert answer.out == "Umask:\t0027\n"


def test_without_one_it_is_022_whatever_the_caller_has(runtime: Runtime, box: Bundle) -> None:
    box.script("grep ^Umask: /proc/self/status")
    assert runtime.run(box.path, umask=0o007).out == "Umask:\t0022\n"
