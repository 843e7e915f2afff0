"""events: the numbers of a container, once and as a stream, beside runc's; a lack of memory; the end."""

from __future__ import annotations

import json
import signal
import subprocess
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import pytest

from tests.support import oci
from tests.support.limits import detached

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root

MB = 1 << 20


@contextmanager
def stream(runtime: Runtime, *words: str) -> Iterator[IO[str]]:
    """Yield what ``events`` prints; it must end by itself, and well, once the block is over."""
    with subprocess.Popen(
        runtime.argv("events", *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout
            process.stdout.read()
            assert process.wait(20) == 0
            assert process.stderr is not None
            assert process.stderr.read() == ""
        finally:
            process.kill()


def shape(value: Any) -> Any:
    """Return the names of ``value`` and the kinds of what they stand for."""
    if isinstance(value, dict):
        return {name: shape(member) for name, member in value.items() if name != "psi"}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def test_numbers(runtime: Runtime, box: Bundle) -> None:
    box.config["linux"]["resources"] |= {
        "memory": {"limit": 32 * MB},
        "pids": {"limit": 9},
        "cpu": {"quota": 50_000, "cpus": "0"},
    }
    name = detached(runtime, box)
    answer = runtime.call("events", "--stats", name)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith('{"type":"stats","id":"' + name + '","data":{"cpu":{"usage":{"total":')
    assert answer.out.endswith("\n")
    data = json.loads(answer.out)["data"]
    assert data["memory"]["usage"]["limit"] == 32 * MB
    assert 0 < data["memory"]["usage"]["usage"] <= data["memory"]["usage"]["max"]
    assert data["pids"] == {"current": 1, "limit": 9}
    assert data["cpuset"]["cpus"] == [0]
    assert data["cpu"]["usage"]["total"] > 0
    assert {"avg10", "avg60", "avg300", "total"} == set(data["cpu"]["psi"]["some"])
    assert data["intel_rdt"] == {}
    assert data["network_interfaces"] is None


def test_as_runc_says_it(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    """The same members of the same kinds; runc of Debian 12 knows no psi."""
    runc = oci.peer("runc", tmp_path)
    box.config["linux"]["resources"] |= {"memory": {"limit": 32 * MB}, "pids": {"limit": 9}, "cpu": {"quota": 50_000}}
    found = []
    for program in (runtime, runc):
        box.config["linux"].pop("cgroupsPath", None)
        name = detached(program, box)
        try:
            data = json.loads(program.call("events", "--stats", name).out)["data"]
        finally:
            program.clean()
        data["hugetlb"] = {}  # of the hierarchy that runc 1.1 does not read on a hybrid host
        for member in ("throttling", "usage"):  # members that are 0 are left out, and these two may be
            data["cpu"][member].pop("periods", None)
        for entry in ("cache", "raw"):
            data["memory"].pop(entry, None)
        found.append(shape(data))
    assert found[0] == found[1]


def test_a_stream_ends_with_the_container(runtime: Runtime, box: Bundle) -> None:
    name = detached(runtime, box)
    with stream(runtime, "--interval", "50ms", name) as lines:
        for _ in range(3):
            assert json.loads(lines.readline())["type"] == "stats"
        assert runtime.call("delete", "--force", name).code == 0


def test_a_lack_of_memory_is_told(runtime: Runtime, box: Bundle) -> None:
    box.config["linux"]["resources"]["memory"] = {"limit": 16 * MB, "swap": 16 * MB}
    name = detached(runtime, box)
    with stream(runtime, "--interval", "100ms", name) as lines:
        assert json.loads(lines.readline())["type"] == "stats"  # now it watches
        assert runtime.call("exec", name, "dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M").code == 128 + signal.SIGKILL
        found = (json.loads(line) for line in lines)
        assert next(event for event in found if event["type"] != "stats") == {"type": "oom", "id": name}
        assert runtime.state(name)["status"] == "running"
        assert runtime.call("kill", name, "KILL").code == 0


@pytest.mark.parametrize("interval", ["0", "-5s", "0s"])
def test_an_interval_is_more_than_nothing(runtime: Runtime, box: Bundle, interval: str) -> None:
    name = detached(runtime, box)
    answer = runtime.call("events", "--interval", interval, name)
    assert answer.code == 1
    assert "duration interval must be greater than 0" in answer.err


def test_who_is_not_there_has_no_events(runtime: Runtime, box: Bundle) -> None:
    answer = runtime.call("events", "none")
    assert (answer.code, "container does not exist" in answer.err) == (1, True)
    box.runs("true")
    name = detached(runtime, box)
    assert oci.eventually(lambda: runtime.state(name)["status"] == "stopped")
    answer = runtime.call("events", "--stats", name)
    assert answer.code == 1
    assert f"container with id {name} is not running" in answer.err
