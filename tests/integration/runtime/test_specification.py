"""Lines of the runtime specification that no other test of the real kernel asks about."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import bundle

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


@pytest.fixture
def box(tmp_path: Path) -> Bundle:
    made = bundle.make(tmp_path / "bundle", "true")
    made.config["root"]["readonly"] = False
    return made


def device(path: str, kind: str = "c", major: int = 1, minor: int = 3) -> list[dict[str, object]]:
    return [{"path": path, "type": kind, "major": major, "minor": minor, "fileMode": 0o640, "uid": 7, "gid": 8}]


def test_an_id_can_be_used_again(runtime: Runtime, box: Bundle) -> None:
    name = runtime.new_id()
    for _ in range(2):
        assert runtime.detached("create", "-b", str(box.save().path), name).code == 0
        assert runtime.call("delete", name).code == 0


@pytest.mark.parametrize("word", ["state", "start", "kill", "delete", "create"])
def test_an_operation_needs_an_id(runtime: Runtime, box: Bundle, word: str) -> None:
    answer = runtime.call(word, cwd=box.save().path)
    assert answer.code == 1
    assert answer.err
    assert not runtime.root.exists() or not list(runtime.root.iterdir())


def test_without_a_process_it_is_created_but_not_started(runtime: Runtime, box: Bundle) -> None:
    del box.config["process"]
    name = runtime.new_id()
    assert runtime.detached("create", "-b", str(box.save().path), name).code == 0
    answer = runtime.call("start", name)
    assert answer.code == 1
    assert answer.err
    assert runtime.state(name)["status"] == "created"
    assert runtime.call("delete", name).code == 0


def test_a_bundle_has_its_config_and_its_root(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    assert "config.json" in runtime.run(tmp_path).err
    box.config["root"]["path"] = "nowhere"
    answer = runtime.run(box.save().path)
    assert answer.code == 1
    assert "nowhere" in answer.err


def test_the_size_of_a_console_counts_with_a_terminal_only(runtime: Runtime, box: Bundle) -> None:
    box.config["process"]["consoleSize"] = {"height": 20, "width": 70}
    assert runtime.run(box.runs("true").path).code == 0


def test_a_device_is_made_as_described(runtime: Runtime, box: Bundle) -> None:
    box.config["linux"]["devices"] = device("/dev/own") + device("/dev/pipe", "p", 0, 0)
    answer = runtime.run(box.runs("stat", "-c", "%n %F %t:%T %a %u %g", "/dev/own", "/dev/pipe").path)
    assert answer.out.splitlines() == [
        "/dev/own character special file 1:3 640 7 8",
        "/dev/pipe fifo 0:0 640 7 8",
    ]


@pytest.mark.parametrize("what", ["file", "other-device"])
def test_what_stands_in_the_place_of_a_device_and_is_another_is_an_error(
    runtime: Runtime, box: Bundle, what: str
) -> None:
    place = box.rootfs / "var/node"
    if what == "file":
        place.write_text("mine")
    else:
        os.mknod(place, 0o020600, os.makedev(1, 5))
    box.config["linux"]["devices"] = device("/var/node")
    answer = runtime.run(box.save().path)
    assert answer.code == 1
    assert "/var/node" in answer.err
    assert what != "file" or place.read_text() == "mine"


@pytest.mark.parametrize("score", [None, 321])
def test_the_score_for_lack_of_memory(runtime: Runtime, box: Bundle, score: int | None) -> None:
    if score is not None:
        box.config["process"]["oomScoreAdj"] = score
    answer = runtime.run(box.runs("cat", "/proc/self/oom_score_adj").path)
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert int(answer.out) == (own if score is None else score)


def test_limits_are_what_getrlimit_returns(runtime: Runtime, box: Bundle) -> None:
    wanted = {"RLIMIT_NOFILE": (300, 400), "RLIMIT_CORE": (0, 4096), "RLIMIT_CPU": (600, 1200)}
    box.config["process"]["rlimits"] = [
        {"type": name, "soft": soft, "hard": hard} for name, (soft, hard) in wanted.items()
    ]
    text = runtime.run(box.runs("cat", "/proc/self/limits").path).out
    names = {"RLIMIT_NOFILE": "Max open files", "RLIMIT_CORE": "Max core file size", "RLIMIT_CPU": "Max cpu time"}
    for name, (soft, hard) in wanted.items():
        (line,) = [line for line in text.splitlines() if line.startswith(names[name])]
        assert line.removeprefix(names[name]).split()[:2] == [str(soft), str(hard)]


def test_mounts_lie_in_the_listed_order(runtime: Runtime, box: Bundle) -> None:
    listed = [("/mnt/a", []), ("/mnt/a/b", ["shared"]), ("/mnt/c", ["rslave"]), ("/mnt/a/b", ["private"])]
    box.config["mounts"] += [
        {"destination": path, "type": "tmpfs", "source": f"number-{number}", "options": words}
        for number, (path, words) in enumerate(listed)
    ]
    lines = runtime.run(box.runs("cat", "/proc/self/mountinfo").path).out.splitlines()
    assert [line.split()[4] for line in lines if " tmpfs number-" in line] == [path for path, _ in listed]


def test_a_relative_destination_counts_from_the_root(runtime: Runtime, box: Bundle) -> None:
    box.config["mounts"].append({"destination": "mnt/x", "type": "tmpfs", "source": "here"})
    answer = runtime.run(box.runs("grep", "here", "/proc/self/mountinfo").path)
    assert answer.out.split()[4] == "/mnt/x"
    assert "level=warning" in answer.err
