"""Time namespaces: new ones with offsets, and joined ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.running import executed, started

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root

OFFSETS = {"monotonic": {"secs": 7881, "nanosecs": 2718281}, "boottime": {"secs": 1337, "nanosecs": 3141519}}
SHOW = ("cat", "/proc/self/timens_offsets")


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def own_time(box: Bundle, offsets: dict[str, Any] | None) -> Bundle:
    box.config["linux"]["namespaces"].append({"type": "time"})
    box.config["linux"]["timeOffsets"] = offsets
    return box


@pytest.mark.parametrize(
    ("offsets", "expected"),
    [
        (None, [["monotonic", "0", "0"], ["boottime", "0", "0"]]),
        (OFFSETS, [["monotonic", "7881", "2718281"], ["boottime", "1337", "3141519"]]),
        ({"boottime": {"secs": -5}}, [["monotonic", "0", "0"], ["boottime", "-5", "0"]]),
    ],
)
def test_offsets(runtime: Runtime, box: Bundle, offsets: dict[str, Any] | None, expected: list[list[str]]) -> None:
    answer = runtime.run(own_time(box, offsets).runs(*SHOW).path)
    assert words(answer.out) == expected, answer.err


def test_exec_is_in_it(runtime: Runtime, box: Bundle) -> None:
    name = started(runtime, own_time(box, OFFSETS))
    assert words(executed(runtime, name, *SHOW))[0] == ["monotonic", "7881", "2718281"]


def test_within_a_user_namespace(runtime: Runtime, box: Bundle) -> None:
    own_time(box, OFFSETS)
    box.config["linux"]["namespaces"].append({"type": "user"})
    for kind in ("uidMappings", "gidMappings"):
        box.config["linux"][kind] = [{"containerID": 0, "hostID": 0, "size": 65536}]
    answer = runtime.run(box.runs(*SHOW).path)
    assert words(answer.out)[1] == ["boottime", "1337", "3141519"], answer.err


def test_one_that_is_joined(runtime: Runtime, box: Bundle) -> None:
    first = started(runtime, own_time(box, OFFSETS))
    box.config["linux"]["namespaces"][-1]["path"] = f"/proc/{runtime.state(first)['pid']}/ns/time"
    refused = runtime.run(box.runs(*SHOW).path)
    assert refused.code == 1
    assert "linux.timeOffsets: the time namespace that is joined has its own" in refused.err
    box.config["linux"]["timeOffsets"] = None
    assert words(runtime.run(box.save().path).out)[0] == ["monotonic", "7881", "2718281"]


def test_offsets_without_one_are_refused(runtime: Runtime, box: Bundle) -> None:
    box.config["linux"]["timeOffsets"] = OFFSETS
    answer = runtime.run(box.save().path)
    assert answer.code == 1
    assert "linux.timeOffsets: needs a time namespace" in answer.err
