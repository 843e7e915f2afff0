"""What counts as a passed run of the validator's pod, and what does not."""

from __future__ import annotations

import pytest

from tests.acceptance import pod
from tests.support.oci import Answer

UUID = "db455a3a-fdef-44d3-9a11-3458f6883bee"
TOKEN = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
URL = f"http://127.0.0.1:18112/{TOKEN}"
GOOD = "prestart OK\nsidekick OK\nmain OK\npoststop OK\n"
SEEN = {
    "url": URL,
    "container": "pyrkt",
    "uuid": UUID,
    "good": "200",
    "no-token": "401",
    "other-token": "401",
    "no-app": "404",
    "signed": "200",
    "other-content": "403",
    "other-pod": "403",
    "other-signature": "403",
}


def test_four_lines_and_zero_pass() -> None:
    assert pod.judge(Answer(0, GOOD, "")) == []


@pytest.mark.parametrize(
    ("code", "out", "problem"),
    [
        pytest.param(0, GOOD.replace("main OK\n", ""), "stdout lacks 'main OK'", id="line-missing"),
        pytest.param(0, GOOD + "main OK\n", "stdout lacks 'main OK'", id="line-twice"),
        pytest.param(0, GOOD.replace("main OK", "main FAIL"), "stdout: main FAIL", id="failed"),
        pytest.param(1, GOOD, "exit 1", id="exit-code"),
        pytest.param(0, "", "stdout lacks 'prestart OK'", id="silence"),
    ],
)
def test_anything_else_fails(code: int, out: str, problem: str) -> None:
    assert problem in pod.judge(Answer(code, out, "==> why"))


def test_the_reasons_are_shown() -> None:
    assert "stderr: ==> why" in pod.judge(Answer(1, "main FAIL\n", "==> why\n"))


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        pytest.param("", "AC_METADATA_URL is ''", id="unset"),
        pytest.param("http://127.0.0.1:18112/", "AC_METADATA_URL is", id="no-token"),
        pytest.param(URL[:-8], "less than 128 bits", id="short"),
        pytest.param(f"http://127.0.0.1:18112/{UUID}", "is the pod's UUID", id="uuid"),
        pytest.param(f"http://127.0.0.1:18112/{UUID.replace('-', '')}", "is the pod's UUID", id="uuid-bare"),
    ],
)
def test_a_poor_token_is_found(url: str, problem: str) -> None:
    assert any(problem in found for found in pod.judge_token(url, UUID))


def test_a_good_token() -> None:
    assert pod.judge_token(URL, UUID) == []


def test_what_our_app_saw() -> None:
    said = GOOD + "".join(f"probe {name} {value}\n" for name, value in SEEN.items())
    assert pod.judge_probe(said, URL, UUID) == []
    for name, value in SEEN.items():
        worse = said.replace(f"probe {name} {value}\n", f"probe {name} \n")
        assert [found.partition(":")[0] for found in pod.judge_probe(worse, URL, UUID)] == [name]
