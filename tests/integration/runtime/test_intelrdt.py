"""linux.intelRdt on a host without resctrl: refused before anything is made. The rest is in the unit tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root

MOUNTED = " - resctrl " in Path("/proc/self/mountinfo").read_text()


@pytest.mark.skipif(MOUNTED, reason="resctrl is mounted here")
def test_without_resctrl_it_is_refused(runtime: Runtime, box: Bundle) -> None:
    box.config["linux"]["intelRdt"] = {"closID": "gold", "l3CacheSchema": "L3:0=f"}
    answer = runtime.run(box.save().path)
    assert answer.code == 1
    assert "linux.intelRdt: intelRdt is specified in config, but Intel RDT is not enabled" in answer.err
    assert not runtime.root.exists() or not list(runtime.root.glob("pyrkt-test*"))


@pytest.mark.parametrize(
    ("rdt", "problem"),
    [
        ({"closID": "../x"}, "linux.intelRdt.closID: "),
        ({"memBwSchema": "L3:0=f"}, "must start with MB:"),
        ({"schemata": ["L3:0=f\nMB:0=1"]}, "line break"),
    ],
)
def test_what_no_host_could_do(runtime: Runtime, box: Bundle, rdt: dict[str, object], problem: str) -> None:
    box.config["linux"]["intelRdt"] = rdt
    answer = runtime.run(box.save().path)
    assert answer.code == 1
    assert problem in answer.err
