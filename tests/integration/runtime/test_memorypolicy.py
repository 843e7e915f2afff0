"""linux.memoryPolicy, set_mempolicy(2): as /proc/PID/numa_maps shows it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.running import executed, started

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

NUMA = Path("/proc/self/numa_maps").exists()
pytestmark = [pytest.mark.root, pytest.mark.skipif(not NUMA, reason="this kernel is built without NUMA")]

SHOW = "head -n 1 /proc/self/numa_maps"


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"mode": "MPOL_DEFAULT"}, "default"),
        ({"mode": "MPOL_LOCAL"}, "local"),
        ({"mode": "MPOL_INTERLEAVE", "nodes": "0"}, "interleave:0"),
        ({"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0"}, "weighted interleave:0"),
        ({"mode": "MPOL_PREFERRED", "nodes": "0"}, "prefer:0"),
        ({"mode": "MPOL_PREFERRED_MANY", "nodes": "0"}, "prefer (many):0"),
        ({"mode": "MPOL_BIND", "nodes": "0"}, "bind:0"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}, "bind=static:0"),
        ({"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]}, "prefer=relative:0"),
    ],
)
def test_mode_flags_and_nodes(runtime: Runtime, box: Bundle, policy: dict[str, Any], expected: str) -> None:
    box.config["linux"]["memoryPolicy"] = policy
    answer = runtime.run(box.script(SHOW).path)
    if answer.code and policy["mode"] == "MPOL_WEIGHTED_INTERLEAVE":  # Linux 6.9
        assert "setting the memory policy (config.json: /linux/memoryPolicy): invalid argument" in answer.err
        return
    assert expected in answer.out, answer.err


def test_exec_has_it_too(runtime: Runtime, box: Bundle) -> None:
    box.config["linux"]["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0"}
    assert "bind:0" in executed(runtime, started(runtime, box), "sh", "-c", SHOW)


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        ({}, "invalid memory policy"),
        ({"mode": "INTERLEAVE", "nodes": "0"}, "invalid memory policy"),
        ({"nodes": "0-7"}, "invalid memory policy mode"),
        ({"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["badflag"]}, "invalid memory policy flag"),
        ({"mode": "MPOL_DEFAULT", "nodes": "0-7"}, "mode requires 0 nodes but got 8"),
        ({"mode": "MPOL_BIND", "nodes": "0-9876543210"}, "invalid memory policy node"),
        ({"mode": "MPOL_BIND", "nodes": "900"}, "setting the memory policy (config.json: /linux/memoryPolicy)"),
    ],
)
def test_what_is_refused(runtime: Runtime, box: Bundle, policy: dict[str, Any], problem: str) -> None:
    box.config["linux"]["memoryPolicy"] = policy
    answer = runtime.run(box.save().path)
    assert answer.code == 1
    assert problem in answer.err
