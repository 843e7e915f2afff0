"""kill -9 at any moment of any verb: afterwards ``delete --force`` leaves nothing, and the same id works again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import bundle, oci

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root
ROUNDS = 30


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    found = oci.ours(tmp_path)
    with oci.nothing_left(tmp_path):
        yield found
        found.clean()


@pytest.fixture
def box(tmp_path: Path) -> Bundle:
    marker = f"4{random.SystemRandom().randrange(10**6):06}"  # tells this test's containers from others'
    return bundle.make(tmp_path / "bundle", "sleep", marker)


def killed_after(words: list[str], seconds: float, *, group: bool) -> None:
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    time.sleep(seconds)
    if group:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    process.kill()
    process.wait()


def check_gone(runtime: Runtime, box: Bundle, name: str) -> None:
    answer = runtime.call("delete", "--force", name)
    assert answer.code == 0, answer.err
    assert not (runtime.root / name).exists()
    assert oci.eventually(lambda: not oci.cgroups(name)), oci.cgroups(name)
    marker = "\0".join(box.config["process"]["args"])
    assert oci.eventually(lambda: not oci.processes(marker)), oci.processes(marker)


@pytest.mark.parametrize("group", [False, True], ids=["the-runtime-alone", "all-of-it"])
@pytest.mark.parametrize("verb", ["create", "run"])
def test_making_is_killed(runtime: Runtime, box: Bundle, verb: str, group: bool) -> None:
    generator = random.Random(verb)
    name = runtime.new_id()
    for _ in range(ROUNDS):
        killed_after(runtime.argv(verb, "-b", str(box.path), name), generator.uniform(0.003, 0.040), group=group)
        check_gone(runtime, box, name)
    assert runtime.detached("create", "-b", str(box.path), name).code == 0
    assert runtime.call("delete", "--force", name).code == 0


@pytest.mark.parametrize("words", [["start"], ["kill", "KILL"], ["delete", "--force"], ["pause"], ["exec", "true"]])
def test_other_verbs_are_killed(runtime: Runtime, box: Bundle, words: list[str]) -> None:
    generator = random.Random(words[0])
    verb, *rest = words
    for _ in range(ROUNDS // 3):
        name = runtime.new_id()
        assert runtime.detached("create", "-b", str(box.path), name).code == 0
        if verb != "start":
            assert runtime.call("start", name).code == 0
        flags = [word for word in rest if word.startswith("-")]
        arguments = [word for word in rest if not word.startswith("-")]
        killed_after(runtime.argv(verb, *flags, name, *arguments), generator.uniform(0.003, 0.025), group=False)
        check_gone(runtime, box, name)


def test_the_supervisor_is_killed_while_the_container_runs(runtime: Runtime, box: Bundle) -> None:
    name = runtime.new_id()
    process = subprocess.Popen(runtime.argv("run", "-b", str(box.path), name), stdin=subprocess.DEVNULL)
    assert oci.eventually(lambda: runtime.call("state", name).code == 0 and runtime.state(name)["pid"])
    pid = runtime.state(name)["pid"]
    process.kill()
    process.wait()
    assert oci.ended(pid)  # nobody would collect its exit code
    assert runtime.state(name)["status"] == "stopped"
    check_gone(runtime, box, name)


def test_a_cut_state_is_no_obstacle(runtime: Runtime, box: Bundle) -> None:
    name = runtime.new_id()
    assert runtime.detached("create", "-b", str(box.path), name).code == 0
    state = runtime.root / name / "state.json"
    whole = state.read_bytes()
    state.write_bytes(whole[:-20])
    assert runtime.call("state", name).code == 1
    state.write_bytes(whole)
    check_gone(runtime, box, name)
