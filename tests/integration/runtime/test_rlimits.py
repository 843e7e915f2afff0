"""process.rlimits, as far as a host without CAP_SYS_RESOURCE lets them be set; the rest is for tests/v2."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from tests.support.running import executed, executed_process, started

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root

SHOW = ("sh", "-c", "ulimit -n; ulimit -H -n")


def limited(box: Bundle, soft: int, hard: int) -> Bundle:
    box.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": soft, "hard": hard}]
    return box


@pytest.mark.parametrize("below", [0, 1, 100])
def test_limits_up_to_the_callers(runtime: Runtime, box: Bundle, below: int) -> None:
    hard = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 1 << 16) - below
    answer = runtime.run(limited(box, hard - 5, hard).runs(*SHOW).path)
    assert answer.out.split() == [str(hard - 5), str(hard)], answer.err


def test_exec_has_the_containers_or_its_own(runtime: Runtime, box: Bundle) -> None:
    name = started(runtime, limited(box, 100, 200))
    assert executed(runtime, name, *SHOW).split() == ["100", "200"]
    assert executed_process(runtime, box.path, name, args=SHOW).out.split() == ["100", "200"]
    own = [{"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60}]
    assert executed_process(runtime, box.path, name, args=SHOW, rlimits=own).out.split() == ["50", "60"]


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        pytest.param(
            [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1}] * 2, "rlimits[1].type: RLIMIT_NOFILE is given", id="twice"
        ),
        pytest.param([{"type": "RLIMIT_FLIGHTS", "soft": 1, "hard": 1}], "unknown limit", id="unknown"),
        pytest.param([{"type": "RLIMIT_NOFILE", "soft": 2, "hard": 1}], "above the hard limit", id="soft-above-hard"),
    ],
)
def test_what_is_refused(runtime: Runtime, box: Bundle, limits: list[dict[str, object]], problem: str) -> None:
    box.config["process"]["rlimits"] = limits
    answer = runtime.run(box.save().path)
    assert answer.code == 1
    assert problem in answer.err


def test_more_than_the_caller_may_give_is_said(runtime: Runtime, box: Bundle) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if "CAP_SYS_RESOURCE" in _own_capabilities():
        assert runtime.run(limited(box, hard + 1, hard + 1).runs(*SHOW).path).out.split()[1] == str(hard + 1)
        return
    answer = runtime.run(limited(box, hard + 1, hard + 1).runs("true").path)
    assert answer.code == 1
    assert "setting a resource limit (config.json: /process/rlimits/0): operation not permitted" in answer.err
    assert "CAP_SYS_RESOURCE" in answer.err


def _own_capabilities() -> tuple[str, ...]:
    from pyrkt.kernel.process import capabilities
    from pyrkt.spec.capabilities import names

    return names(capabilities()["effective"])
