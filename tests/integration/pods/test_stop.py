"""``stop`` and ``rm``: of several pods, by name, by force; what is said of each, and by which code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.pods import Pyrkt

pytestmark = [pytest.mark.root, pytest.mark.peers]

NAP = ["--", "sleep", "600"]


def test_each_that_can_be_is_stopped_and_the_others_are_counted(stored: Pyrkt, image: str) -> None:
    first, second = (stored.detached(image, "--name=a", *NAP) for _ in range(2))
    prepared = stored.ok("prepare", image, "--name=a", *NAP).strip()
    answer = stored.call("stop", first, prepared, "nosuchpod", second)
    assert answer.out == f'"{first}"\n"{second}"\n'
    assert answer.code == 2, "that of the first that failed"
    assert "is not running but prepared" in answer.err
    assert "no matches found for 'nosuchpod'" in answer.err
    assert "failed to stop 2 pod(s)" in answer.err
    again = stored.call("stop", first, second)
    assert (again.code, again.out, again.err.count("already stopped")) == (0, "", 2)
    answer = stored.call("rm", "nosuchpod", first, second, prepared)
    assert answer.out == f'"{first}"\n"{second}"\n"{prepared}"\n'
    assert (answer.code, "failed to remove 1 pod(s)" in answer.err) == (66, True)


def test_rm_stops_only_by_force(stored: Pyrkt, image: str) -> None:
    uuid = stored.detached("--name=goner", image, "--name=a", *NAP)
    answer = stored.call("rm", "goner")
    assert (answer.code, f"pod {uuid} is running" in answer.err) == (75, True)
    assert stored.pod(uuid)["state"] == "running"
    assert stored.ok("rm", "--force", "goner") == f'"{uuid}"\n'
    assert stored.call("status", uuid).code == 66
    assert stored.leftovers([uuid]) == []


@pytest.mark.parametrize(
    "words", [["--force"], ["--force=true"], ["--grace=0s"], []], ids=["force", "true", "grace", "term"]
)
def test_ways_to_stop(stored: Pyrkt, image: str, tmp_path: Path, words: list[str]) -> None:
    file = tmp_path / "uuid"
    uuid = stored.detached(f"--uuid-file-save={file}", image, "--name=a", *NAP)
    assert stored.ok("stop", *words, f"--uuid-file={file}") == f'"{uuid}"\n'
    assert stored.pod(uuid)["state"] == "exited"
    assert stored.leftovers([uuid]) == []
    stored.ok("rm", f"--uuid-file={file}")


@pytest.mark.parametrize("command", ["stop", "rm"])
def test_nothing_is_named(stored: Pyrkt, command: str) -> None:
    answer = stored.call(command)
    assert (answer.code, "which pod?" in answer.err) == (2, True)
