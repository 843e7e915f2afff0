"""create and start: a container that waits, its pid file, and what does not reach it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import oci

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


def created(runtime: Runtime, box: Bundle, *words: str, **options: object) -> str:
    name = runtime.new_id()
    answer = runtime.detached("create", "-b", str(box.save().path), *words, name, **options)
    assert answer.code == 0, answer.err
    assert runtime.state(name)["status"] == "created"
    return name


def test_the_pid_file_is_the_callers(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    """A relative one counts from the caller's directory, not from the bundle."""
    (tmp_path / "here").mkdir()
    name = created(runtime, box, "--pid-file", "pid.txt", cwd=tmp_path / "here")
    assert (tmp_path / "here/pid.txt").read_text() == str(runtime.state(name)["pid"])
    assert runtime.call("start", name).code == 0
    assert runtime.state(name)["status"] == "running"
    assert runtime.call("start", name).code == 1


def test_exec_in_one_that_waits(runtime: Runtime, box: Bundle) -> None:
    name = created(runtime, box)
    assert runtime.call("exec", name, "true").code == 0
    assert runtime.state(name)["status"] == "created"
    assert runtime.call("start", name).code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_a_signal_ends_one_that_waits(runtime: Runtime, box: Bundle, number: signal.Signals) -> None:
    """As PID 1 the kernel would let it ignore what its program would end by."""
    name = created(runtime, box)
    assert runtime.call("kill", name, number.name).code == 0
    assert oci.eventually(lambda: runtime.state(name)["status"] == "stopped")
    answer = runtime.call("start", name)
    assert (answer.code, "cannot start a container that has stopped" in answer.err) == (1, True)


def test_a_signal_that_ends_nobody_does_not(runtime: Runtime, box: Bundle) -> None:
    name = created(runtime, box)
    for word in ("WINCH", "CHLD", "URG"):
        assert runtime.call("kill", name, word).code == 0
    assert runtime.state(name)["status"] == "created"
    assert runtime.call("start", name).code == 0


def test_signals_are_the_programs_own_again(runtime: Runtime, box: Bundle) -> None:
    box.script("grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status > /tmp/out; cat /tmp/out; sleep 300")
    box.config["root"]["readonly"] = False
    name = created(runtime, box)
    assert runtime.call("start", name).code == 0
    out = box.rootfs / "tmp/out"
    assert oci.eventually(lambda: out.exists() and out.read_text().count("\n") == 3)
    assert {line.split()[1] for line in out.read_text().splitlines()} == {"0" * 16}


def test_one_that_waits_holds_nothing_of_the_hosts(runtime: Runtime, box: Bundle) -> None:
    with open("/etc/passwd", "rb") as file:  # what a careless caller leaves open
        os.set_inheritable(file.fileno(), True)
        name = created(runtime, box, pass_fds=(file.fileno(),))
    pid = runtime.state(name)["pid"]
    held = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
    allowed = ("/dev/null", "/proc", "/", "pipe:", "socket:", "anon_inode:", "exec.fifo", str(runtime.root.parent))
    assert not [
        target for target in held if not any(word in target for word in allowed[4:]) and target not in allowed[:3]
    ]
    assert "/etc/passwd" not in held


@pytest.mark.parametrize(("opened", "given"), [("", 0), ("exec 3</dev/null; ", 1)], ids=["none", "one"])
def test_a_descriptor_that_was_promised_has_to_be_there(runtime: Runtime, box: Bundle, opened: str, given: int) -> None:
    """Else one of ours would have that number, and be handed to the container."""
    command = runtime.argv("create", "-b", str(box.save().path), "--preserve-fds", str(given + 1), runtime.new_id())
    words = ["sh", "-c", f'{opened}exec "$@"', "sh", *command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert f"unable to stat preserved-fd {given} (of {given + 1}): bad file descriptor" in done.stderr


def test_a_configuration_of_another_name(runtime: Runtime, box: Bundle) -> None:
    """As crun has it."""
    box.save()
    (box.path / "config.json").rename(box.path / "other.json")
    name = runtime.new_id()
    answer = runtime.call("create", "-b", str(box.path), name)
    assert (answer.code, "config.json not found" in answer.err) == (1, True)
    answer = runtime.detached("create", "-b", str(box.path), "--config", "other.json", name)
    assert answer.code == 0, answer.err


def test_without_cgroups(runtime: Runtime, box: Bundle) -> None:
    """As crun has it: what the engine has put us in is what the container is in."""
    runtime.command = (*runtime.command, "--cgroup-manager=disabled")
    name = created(runtime, box)
    assert not oci.cgroups(name)
    pid = runtime.state(name)["pid"]
    assert Path(f"/proc/{pid}/cgroup").read_text() == Path("/proc/self/cgroup").read_text()
    assert runtime.call("start", name).code == 0
    assert runtime.call("exec", name, "true").code == 0
    assert runtime.call("delete", "--force", name).code == 0
