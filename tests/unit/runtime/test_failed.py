"""Failures in the words by which engines choose their exit codes."""

from __future__ import annotations

import pytest

from pyrkt.base.errors import NotExecutable, ProgramMissing, PyrktError, StartFailed
from pyrkt.plan.steps import CHILD, Plan, Step
from pyrkt.runtime.failed import in_runcs_words
from pyrkt.spec import steps

NOT_STARTED = "unable to start container process: "


def plan_of(program: str) -> Plan:
    chdir = Step(code=steps.CHDIR, phase=CHILD, args=("/nowhere",), cause="/process/cwd")
    return Plan(steps=(chdir, Step(code=steps.EXEC, phase=CHILD, args=(program, (program,), ()), cause="default")))


@pytest.mark.parametrize(
    ("error", "program", "expected"),
    [
        pytest.param(
            ProgramMissing("executing x: No such file or directory"),
            "x",
            NOT_STARTED + 'exec: "x": executable file not found in $PATH',
            id="missing",
        ),
        pytest.param(
            ProgramMissing("executing /x: No such file or directory"),
            "/x",
            NOT_STARTED + 'exec: "/x": stat /x: no such file or directory',
            id="missing-path",
        ),
        pytest.param(
            NotExecutable("executing /x: Permission denied"),
            "/x",
            NOT_STARTED + 'exec: "/x": permission denied',
            id="not-executable",
        ),
        pytest.param(
            StartFailed(
                "going to the working directory /nowhere (config.json: /process/cwd): No such file or directory"
            ),
            "x",
            NOT_STARTED + 'chdir to cwd ("/nowhere") set in config.json failed: no such file or directory',
            id="working-directory",
        ),
        pytest.param(
            StartFailed("mounting proc on /proc: Operation not permitted"),
            "x",
            "mounting proc on /proc: operation not permitted",
            id="any-step",
        ),
        pytest.param(StartFailed("Something else"), "x", "something else", id="no-reason"),
        pytest.param(PyrktError("Not ours: Never mind"), "x", "Not ours: Never mind", id="no-step"),
    ],
)
def test_words(error: PyrktError, program: str, expected: str) -> None:
    error.hint = "do this"
    found = in_runcs_words(error, plan_of(program))
    assert (found.message, found.hint) == (expected, "do this")
