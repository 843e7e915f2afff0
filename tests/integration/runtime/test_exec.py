"""exec: each flag, the process file, and that it takes no more rights than the container has."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import oci

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


@pytest.fixture
def name(runtime: Runtime, box: Bundle) -> str:
    """The id of a container that sleeps."""
    (box.rootfs / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\ntemp:x:2000:2000::/home/temp:/bin/sh\n")
    found = runtime.new_id()
    answer = runtime.detached("run", "-d", "-b", str(box.save().path), found)
    assert answer.code == 0, answer.err
    return found


@pytest.mark.parametrize(
    ("words", "command", "out"),
    [
        ([], ["echo", "Hello", "from", "exec"], "Hello from exec\n"),
        (["--cwd", "/bin"], ["readlink", "/proc/self/cwd"], "/bin\n"),
        (["-e", "A=1", "--env", "B=2=3"], ["sh", "-c", "echo $A $B $TERM"], "1 2=3 xterm\n"),
        (["--user", "1000:1001"], ["id", "-u"], "1000\n"),
        (["--user", "1000:1001"], ["id", "-g"], "1001\n"),
        (["-u", "1000"], ["sh", "-uc", "echo $HOME"], "/\n"),
        (["-u", "2000"], ["sh", "-uc", "echo $HOME"], "/home/temp\n"),
        (["-u", "1000:1000", "-g", "100", "--additional-gids=65534"], ["id", "-G"], "1000 100 65534\n"),
        (["--no-new-privs=false"], ["grep", "NoNewPrivs", "/proc/self/status"], "NoNewPrivs:\t1\n"),
        (["--cap", "CAP_NET_RAW"], ["grep", "CapEff", "/proc/self/status"], "CapEff:\t0000000020002420\n"),
        (["--cap", "CAP_NET_RAW"], ["grep", "CapAmb", "/proc/self/status"], "CapAmb:\t0000000000000000\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_flags(runtime: Runtime, name: str, words: list[str], command: list[str], out: str) -> None:
    answer = runtime.call("exec", *words, name, *command)
    assert (answer.code, answer.out, answer.err) == (0, out, "")


@pytest.mark.parametrize(("script", "code"), [("true", 0), ("exit 42", 42), ("kill -9 $$", 137)])
def test_the_exit_code_is_the_programs(runtime: Runtime, name: str, script: str, code: int) -> None:
    assert runtime.call("exec", name, "sh", "-c", script).code == code


def test_an_unknown_capability_is_warned_about(runtime: Runtime, name: str) -> None:
    answer = runtime.call("exec", "--cap", "CAP_NONE", name, "true")
    assert answer.code == 0
    assert 'level=warning msg="ignoring unknown or unavailable capabilities: [CAP_NONE]"' in answer.err


def process(tmp_path: Path, **members: Any) -> Path:
    path = tmp_path / "process.json"
    path.write_text(json.dumps({"args": ["id", "-u"], "cwd": "/", "env": ["PATH=/bin"]} | members))
    return path


def test_a_file_describes_it_as_a_whole(runtime: Runtime, name: str, tmp_path: Path) -> None:
    answer = runtime.call("exec", "-p", str(process(tmp_path, user={"uid": 5})), name)
    assert (answer.code, answer.out) == (0, "5\n"), answer.err
    # It may come through a pipe of the caller's shell.
    command = runtime.argv("exec", "-p", "/dev/fd/0", name)
    done = subprocess.run(
        command, input=process(tmp_path, user={"uid": 6}).read_bytes(), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"6\n"), done.stderr


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"cwd": ""}, "cwd"),
        ({"cwd": "here"}, "not an absolute path"),
        ({"args": []}, "args"),
        ({"env": ["=x"]}, "env[0]"),
    ],
    ids=["no-cwd", "relative-cwd", "no-args", "env"],
)
def test_a_file_that_is_wrong(
    runtime: Runtime, name: str, tmp_path: Path, members: dict[str, Any], message: str
) -> None:
    answer = runtime.call("exec", "-p", str(process(tmp_path, **members)), name)
    assert (answer.code, answer.err.count("\n")) == (255, 1)
    assert message in answer.err


def test_detached(runtime: Runtime, name: str, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    answer = runtime.detached("exec", "-d", "--pid-file", "pid", name, "sleep", "300", cwd=tmp_path / "here")
    assert answer.code == 0, answer.err
    pid = int((tmp_path / "here/pid").read_text())
    assert pid != runtime.state(name)["pid"]
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x00300\x00"
    status = oci.status_fields(Path(f"/proc/{pid}/status").read_text())
    first = oci.status_fields(Path(f"/proc/{runtime.state(name)['pid']}/status").read_text())
    same = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Uid", "Gid", "Groups")
    assert [status[field] for field in same] == [first[field] for field in same]
    assert Path(f"/proc/{pid}/cgroup").read_text() == Path(f"/proc/{runtime.state(name)['pid']}/cgroup").read_text()
    for space in ("pid", "net", "ipc", "uts", "mnt", "cgroup", "user"):
        assert os.stat(f"/proc/{pid}/ns/{space}") == os.stat(f"/proc/{runtime.state(name)['pid']}/ns/{space}")


def test_descriptors_that_are_passed_on(runtime: Runtime, name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    words = " ".join(runtime.argv("exec", "--preserve-fds=2", name, "cat", "/proc/self/fd/4"))
    script = f"exec 3</dev/null 4<{tmp_path}/file; exec {words}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, "hello"), done.stderr


def test_in_a_paused_container(runtime: Runtime, name: str) -> None:
    assert runtime.call("pause", name).code == 0
    answer = runtime.call("exec", name, "true")
    assert (answer.code, "cannot exec in a paused container (use --ignore-paused to override)" in answer.err) == (
        255,
        True,
    )
    with subprocess.Popen(runtime.argv("exec", "--ignore-paused", name, "true"), stdin=subprocess.DEVNULL) as waiting:
        assert runtime.call("resume", name).code == 0
        assert waiting.wait(20) == 0


def test_in_one_that_has_ended(runtime: Runtime, name: str) -> None:
    runtime.call("kill", name, "KILL")
    assert oci.eventually(lambda: runtime.state(name)["status"] == "stopped")
    answer = runtime.call("exec", name, "true")
    assert (answer.code, "cannot exec in a stopped container" in answer.err) == (255, True)


def test_the_hosts_null_device_keeps_its_owner(runtime: Runtime, name: str) -> None:
    null = subprocess.DEVNULL
    command = runtime.argv("exec", "-d", "--user", "1000:1000", name, "id")
    subprocess.run(command, stdin=null, stdout=null, stderr=null, timeout=30, check=True)
    found = os.stat("/dev/null")
    assert (found.st_uid, found.st_gid) == (0, 0)
