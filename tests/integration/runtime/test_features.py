"""features: what runtime-spec 1.3 asks for, and what runc says of itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import oci

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.oci import Runtime


def features(runtime: Runtime) -> dict[str, Any]:
    answer = runtime.call("features")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert isinstance(found, dict)
    return found


def test_what_the_specification_requires(runtime: Runtime) -> None:
    found = features(runtime)
    assert (found["ociVersionMin"], found["ociVersionMax"]) == ("1.0.0", "1.3.0")
    assert len(found["hooks"]) == 6
    linux = found["linux"]
    assert len(linux["namespaces"]) == 8
    assert linux["cgroup"]["v1"] is linux["cgroup"]["v2"] is True
    assert linux["seccomp"]["enabled"] is True
    assert linux["mountExtensions"]["idmap"]["enabled"] is True
    assert found["annotations"]["org.opencontainers.runc.checkpoint.enabled"] == "true"
    assert "org.criu.config" in found["potentiallyUnsafeConfigAnnotations"]


@pytest.mark.peers
def test_nothing_that_runc_knows_is_missing(runtime: Runtime, tmp_path: Path) -> None:
    ours, theirs = features(runtime), features(oci.peer("runc", tmp_path))
    assert not set(theirs["hooks"]) - set(ours["hooks"])
    # acl and noacl do nothing on any kernel; runc 1.2 forgot them, too.
    assert not set(theirs["mountOptions"]) - {"acl", "noacl"} - set(ours["mountOptions"])
    for member in ("namespaces", "capabilities"):
        assert not set(theirs["linux"][member]) - set(ours["linux"][member])
    for member in ("actions", "operators", "archs"):
        assert not set(theirs["linux"]["seccomp"][member]) - set(ours["linux"]["seccomp"][member])
