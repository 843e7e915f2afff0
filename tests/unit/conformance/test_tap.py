"""What a validation program said, and what it means."""

from __future__ import annotations

import pytest

from tests.conformance.tap import judge, last_error

ERROR_BLOCK = '  ---\n  {\n    "error": "hooks MUST run\\nsee there"\n  }\n  ...\n'


@pytest.mark.parametrize(
    ("stdout", "code", "points", "failed"),
    [
        pytest.param("TAP version 13\nok 1 - a\nok 2 # SKIP b\n1..2\n", 0, 2, 0, id="points"),
        pytest.param("", 0, 0, 0, id="silence"),
        pytest.param("TAP version 13\n1..0\n", 0, 0, 0, id="no-points"),
        pytest.param("ok 1 - a\n" + ERROR_BLOCK + "1..1\n", 0, 1, 0, id="expected-error-of-a-point"),
        pytest.param("not ok 1 # TODO later\n1..1\n", 0, 1, 0, id="todo"),
        pytest.param("ok 1 - a\n1..1\nTAP version 13\n1..0\n", 0, 1, 0, id="two-documents"),
    ],
)
def test_passes(stdout: str, code: int, points: int, failed: int) -> None:
    outcome = judge(stdout, "", code)
    assert (outcome.points, outcome.failed, outcome.why) == (points, failed, "")


@pytest.mark.parametrize(
    ("stdout", "stderr", "code", "why"),
    [
        pytest.param("ok 1 - a\nnot ok 2 - b is b\n1..2\n", "", 0, "b is b", id="point"),
        pytest.param(ERROR_BLOCK + "1..0\n", "", 0, "hooks MUST run", id="error-without-a-point"),
        pytest.param("ok 1 - a\n1..2\n", "", 0, "1 points of 2", id="plan-not-kept"),
        pytest.param("ok 1 - a\n", 'time="x" level=error msg="no \\"x\\""\nexit status 1\n', 1, 'no "x"', id="code"),
        pytest.param("", "", 2, "ended with 2", id="code-in-silence"),
    ],
)
def test_fails_and_says_why(stdout: str, stderr: str, code: int, why: str) -> None:
    assert judge(stdout, stderr, code).why == why


def test_the_runtimes_own_words_say_most() -> None:
    assert (
        last_error("opening x: no such file\nfailed to create the container\nexit status 1\n")
        == "opening x: no such file"
    )
    assert last_error("exit status 1\n") == "exit status 1"
