"""create, start, state, kill, delete and the rest: the life of a container as engines drive it."""

from __future__ import annotations

import json
import os
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
    from tests.support.oci import Answer, Runtime

pytestmark = pytest.mark.root


@pytest.fixture(params=[oci.LAUNCHER, oci.INTERPRETED], ids=["launcher", "interpreted"])
def runtime(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Runtime]:
    found = oci.ours(tmp_path, request.param)
    with oci.nothing_left(tmp_path):
        yield found
        found.clean()
    assert not list(found.root.glob("pyrkt-test*"))


@pytest.fixture
def box(tmp_path: Path) -> Bundle:
    return bundle.make(tmp_path / "bundle", "sleep", "60")


def create(runtime: Runtime, box: Bundle, *words: str) -> str:
    name = runtime.new_id()
    answer = runtime.detached("create", *words, "--bundle", str(box.path), name)
    assert answer.code == 0, answer.err
    return name


def started(runtime: Runtime, box: Bundle, *words: str) -> str:
    name = create(runtime, box, *words)
    answer = runtime.call("start", name)
    assert answer.code == 0, answer.err
    return name


def says(answer: Answer, message: str) -> bool:
    return answer.code == 1 and message in answer.err


def test_created_started_killed_deleted(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    (box.rootfs / "tmp/before").touch()
    box.config["annotations"] = {"org.example": "1"}
    box.config["root"]["readonly"] = False
    box.script("touch /tmp/running; sleep 60")
    name = create(runtime, box, "--pid-file", str(tmp_path / "pid"))
    state = runtime.state(name)
    assert state["status"] == "created"
    assert state["id"] == name
    assert state["ociVersion"] == "1.0.2"
    assert state["bundle"] == str(box.path)
    assert state["rootfs"] == str(box.rootfs)
    assert state["annotations"] == {"org.example": "1"}
    assert state["owner"] == "root"
    assert (tmp_path / "pid").read_text() == str(state["pid"])  # decimal, no newline
    assert not (box.rootfs / "tmp/running").exists()
    assert runtime.call("start", name).code == 0
    assert oci.eventually((box.rootfs / "tmp/running").exists)
    assert runtime.state(name)["status"] == "running"
    assert runtime.state(name)["pid"] == state["pid"]
    assert says(runtime.call("start", name), "cannot start an already running container")
    assert says(runtime.call("delete", name), f"cannot delete container {name} that is not stopped: running")
    assert runtime.call("kill", name, "KILL").code == 0
    assert oci.eventually(lambda: runtime.state(name)["status"] == "stopped")
    assert runtime.state(name)["pid"] == 0
    assert says(runtime.call("kill", name, "TERM"), "container not running")
    assert says(runtime.call("start", name), "cannot start a container that has stopped")
    assert runtime.call("delete", name).code == 0
    assert says(runtime.call("state", name), "container does not exist")
    assert says(runtime.call("delete", name), "container does not exist")
    assert runtime.call("delete", "--force", name) == oci.Answer(0, "", "")


def test_an_id_is_taken_once(runtime: Runtime, box: Bundle) -> None:
    name = create(runtime, box)
    assert says(runtime.call("create", "-b", str(box.path), name), "container with given ID already exists")
    assert says(runtime.call("run", "-b", str(box.path), name), "container with given ID already exists")
    assert runtime.state(name)["status"] == "created"  # the failures have not touched it


def test_of_many_who_create_one_id_one_gets_it(runtime: Runtime, box: Bundle) -> None:
    name = runtime.new_id()
    words = runtime.argv("create", "-b", str(box.path), name)
    running = [subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(8)]
    assert sorted(process.wait(30) for process in running) == [0] + [1] * 7
    assert runtime.state(name)["status"] == "created"


def test_a_created_container_can_be_deleted(runtime: Runtime, box: Bundle) -> None:
    name = create(runtime, box)
    pid = runtime.state(name)["pid"]
    assert runtime.call("delete", name).code == 0
    assert oci.ended(pid)


def test_a_running_one_only_by_force(runtime: Runtime, box: Bundle) -> None:
    name = started(runtime, box)
    pid = runtime.state(name)["pid"]
    assert runtime.call("delete", "--force", name).code == 0
    assert oci.ended(pid)


@pytest.mark.parametrize("words", [["kill"], ["delete", "--force"], ["state"], ["exec", "id"], ["list"]])
def test_a_state_that_others_could_have_written_is_not_believed(
    runtime: Runtime, box: Bundle, words: list[str]
) -> None:
    name = started(runtime, box)
    pid = runtime.state(name)["pid"]
    runtime.root.chmod(0o777)
    verb, *rest = words
    flags, program = [word for word in rest if word[0] == "-"], [word for word in rest if word[0] != "-"]
    answer = runtime.call(verb, *flags, *([] if verb == "list" else [name]), *program)
    runtime.root.chmod(0o700)
    assert answer.code != 0
    assert "others may write there" in answer.err
    assert not oci.ended(pid, 0.1)


def test_the_caller_is_the_parent_and_nothing_of_ours_stays(runtime: Runtime, box: Bundle) -> None:
    name = create(runtime, box)
    pid = runtime.state(name)["pid"]
    parent = int(oci.status_fields(Path(f"/proc/{pid}/status").read_text())["PPid"])
    assert b"pyrkt" not in Path(f"/proc/{parent}/cmdline").read_bytes()
    assert [other for other in oci.processes(name) if other != os.getpid()] == []
    assert runtime.call("start", name).code == 0
    # start returns when the container goes on, a moment before it has become the program
    assert oci.eventually(lambda: Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x0060\x00")


def test_run_detached(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    name = runtime.new_id()
    words = ("run", "--detach", "--pid-file", str(tmp_path / "pid"), "-b", str(box.path), name)
    assert runtime.detached(*words).code == 0
    state = runtime.state(name)
    assert state["status"] == "running"
    assert (tmp_path / "pid").read_text() == str(state["pid"])
    assert runtime.call("kill", name, "9").code == 0
    assert oci.ended(state["pid"])
    assert runtime.call("delete", name).code == 0


def test_run_keep(runtime: Runtime, box: Bundle) -> None:
    name = runtime.new_id()
    assert runtime.call("run", "--keep", "-b", str(box.runs("true").path), name).code == 0
    assert runtime.state(name)["status"] == "stopped"
    assert runtime.call("delete", name).code == 0


@pytest.mark.parametrize("word", ["15", "TERM", "SIGTERM", "sigterm", ""])
def test_kill_by_name_and_number(runtime: Runtime, box: Bundle, word: str) -> None:
    box.config["root"]["readonly"] = False
    box.script("trap 'echo $? > /tmp/got; exit' TERM; touch /tmp/ready; while :; do sleep 0.02; done")
    name = started(runtime, box)
    assert oci.eventually((box.rootfs / "tmp/ready").exists)
    assert runtime.call("kill", name, *([word] if word else [])).code == 0
    assert oci.eventually(lambda: runtime.state(name)["status"] == "stopped")
    assert (box.rootfs / "tmp/got").exists()
    assert says(runtime.call("kill", name, "FOO"), 'unknown signal \\"FOO\\"')


def test_kill_all_reaches_a_container_without_pids_of_its_own(runtime: Runtime, box: Bundle) -> None:
    spaces = box.config["linux"]["namespaces"]
    box.config["linux"]["namespaces"] = [space for space in spaces if space["type"] != "pid"]
    box.script("sleep 61 & sleep 62 & sleep 63")
    name = started(runtime, box)
    assert oci.eventually(lambda: len(json.loads(runtime.call("ps", "-f", "json", name).out)) >= 3)
    pids = json.loads(runtime.call("ps", "-f", "json", name).out)
    assert runtime.call("kill", "--all", name, "9").code == 0
    assert all(oci.ended(pid) for pid in pids)


def test_deleting_takes_processes_left_behind(runtime: Runtime, box: Bundle) -> None:
    spaces = box.config["linux"]["namespaces"]
    box.config["linux"]["namespaces"] = [space for space in spaces if space["type"] != "pid"]
    box.script("sleep 71 & exit 0")
    name = started(runtime, box)
    assert oci.eventually(lambda: runtime.state(name)["status"] == "stopped")
    assert runtime.call("delete", name).code == 0
    assert not oci.processes("sleep\x0071")


def test_pause_and_resume(runtime: Runtime, box: Bundle) -> None:
    name = started(runtime, box)
    assert says(runtime.call("resume", name), "container not paused")
    assert runtime.call("pause", name).code == 0
    assert runtime.state(name)["status"] == "paused"
    answer = runtime.call("exec", name, "true")
    assert answer.code == 255
    assert "cannot exec in a paused container" in answer.err
    assert says(runtime.call("delete", name), "not stopped: paused")
    assert runtime.call("resume", name).code == 0
    assert runtime.state(name)["status"] == "running"
    assert runtime.call("pause", name).code == 0
    assert runtime.call("kill", name, "KILL").code == 0  # which a frozen process would not hear
    assert oci.eventually(lambda: runtime.state(name)["status"] == "stopped")


def test_ps_and_list(runtime: Runtime, box: Bundle) -> None:
    name = started(runtime, box)
    pid = runtime.state(name)["pid"]
    assert json.loads(runtime.call("ps", "--format", "json", name).out) == [pid]
    table = runtime.call("ps", name).out.splitlines()
    assert "PID" in table[0]
    assert len(table) == 2
    assert "sleep 60" in table[1]
    assert runtime.call("list", "-q").out == f"{name}\n"
    (row,) = json.loads(runtime.call("list", "--format", "json").out)
    assert (row["id"], row["pid"], row["status"], row["bundle"]) == (name, pid, "running", str(box.path))
    lines = runtime.call("list").out.splitlines()
    assert lines[0].split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert lines[1].split()[:4] == [name, str(pid), "running", str(box.path)]


def test_config_is_what_it_was_at_create(runtime: Runtime, box: Bundle) -> None:
    box.config["hooks"] = {"poststop": [{"path": "/bin/sh", "args": ["sh", "-c", f"cat > {box.path}/poststop"]}]}
    name = create(runtime, box.save())
    (box.path / "config.json").write_text("{}")
    assert runtime.call("start", name).code == 0
    assert runtime.call("delete", "--force", name).code == 0
    assert json.loads((box.path / "poststop").read_text())["status"] == "stopped"


def test_hooks_of_the_runtime_see_the_state(runtime: Runtime, box: Bundle) -> None:
    def hook(name: str) -> list[dict[str, object]]:
        return [
            {
                "path": "/bin/sh",
                "args": ["sh", "-c", f"cat > {box.path}/{name}; echo $X >> {box.path}/order"],
                "env": [f"X={name}"],
            }
        ]

    kinds = ("prestart", "createRuntime", "poststart", "poststop")
    box.config["hooks"] = {kind: hook(kind) for kind in kinds}
    name = create(runtime, box.save())
    pid = runtime.state(name)["pid"]
    assert (box.path / "order").read_text().split() == ["prestart", "createRuntime"]
    assert json.loads((box.path / "prestart").read_text())["pid"] == pid
    assert runtime.call("start", name).code == 0
    found = json.loads((box.path / "poststart").read_text())
    assert (found["status"], found["pid"], found["id"], found["bundle"]) == ("running", pid, name, str(box.path))
    assert runtime.call("delete", "--force", name).code == 0
    assert (box.path / "order").read_text().split() == list(kinds)


def test_a_failing_hook_fails_create_and_leaves_nothing(runtime: Runtime, box: Bundle) -> None:
    box.config["hooks"] = {"createRuntime": [{"path": "/bin/false"}]}
    answer = runtime.call("create", "-b", str(box.save().path), runtime.new_id())
    assert answer.code == 1
    assert "hook" in answer.err
    assert "/bin/false" in answer.err
    assert runtime.call("list", "-q").out == ""


def test_a_failing_poststop_hook_is_only_a_warning(runtime: Runtime, box: Bundle) -> None:
    box.config["hooks"] = {"poststop": [{"path": "/bin/false"}, {"path": "/bin/true"}]}
    name = create(runtime, box.save())
    answer = runtime.call("delete", name)
    assert answer.code == 0
    assert "level=warning" in answer.err


def test_a_hook_that_takes_too_long_is_ended(runtime: Runtime, box: Bundle) -> None:
    box.config["hooks"] = {"poststop": [{"path": "/bin/sh", "args": ["sh", "-c", "sleep 77 & sleep 77"], "timeout": 1}]}
    name = create(runtime, box.save())
    before = time.monotonic()
    answer = runtime.call("delete", name)
    assert time.monotonic() - before < 10
    assert "hook ran past specified timeout of 1.0s" in answer.err
    assert not oci.processes("sleep\x0077")


def test_a_number_used_again_is_not_killed(runtime: Runtime, box: Bundle) -> None:
    name = started(runtime, box)
    pid = runtime.state(name)["pid"]
    with subprocess.Popen(["sleep", "60"]) as stranger:
        record = runtime.root / name / "pid"
        words = record.read_text().split()
        record.write_text(f"{stranger.pid} {words[1]}")  # as if the kernel had come round to the number again
        assert runtime.state(name)["status"] == "stopped"
        assert says(runtime.call("kill", name, "9"), "container not running")
        assert runtime.call("exec", name, "true").code == 255
        assert runtime.call("delete", name).code == 0
        assert stranger.poll() is None
        stranger.kill()
    assert oci.ended(pid)  # its cgroup named it all the same


def test_start_never_hangs_on_a_dead_container(runtime: Runtime, box: Bundle) -> None:
    name = create(runtime, box)
    pid = runtime.state(name)["pid"]
    os.kill(pid, signal.SIGKILL)
    assert oci.ended(pid)
    before = time.monotonic()
    assert says(runtime.call("start", name), "cannot start a container that has stopped")
    assert time.monotonic() - before < 2


def test_a_frozen_container_is_started_when_it_thaws_or_not_at_all(runtime: Runtime, box: Bundle) -> None:
    name = create(runtime, box)
    assert runtime.call("pause", name).code == 0
    assert runtime.call("delete", "--force", name).code == 0


@pytest.mark.parametrize("below", ["", "/below"])
@pytest.mark.parametrize("verb", ["run", "create"])
def test_processes_of_others_are_not_taken_into_a_container(
    runtime: Runtime, box: Bundle, verb: str, below: str
) -> None:
    name = runtime.new_id()
    box.config["linux"]["cgroupsPath"] = f"/{name}"
    cgroup = next(path for path in map(Path, ("/sys/fs/cgroup/memory", "/sys/fs/cgroup")) if path.is_dir()) / name
    (cgroup / below.strip("/")).mkdir(parents=True)
    other = subprocess.Popen(["sleep", "60"])
    try:
        Path(f"{cgroup}{below}/cgroup.procs").write_text(str(other.pid))
        answer = runtime.call(verb, "-b", str(box.save().path), name)
        assert answer.code == 1
        assert "container's cgroup is not empty: 1 process(es) found" in answer.err
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
        assert oci.eventually(lambda: not Path(f"{cgroup}{below}/cgroup.procs").read_text())
        for path in (cgroup / below.strip("/"), cgroup):
            if path.exists():
                path.rmdir()
    assert runtime.call("run", "-b", str(box.runs("true").path), name).code == 0


def test_exec(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    name = started(runtime, box)
    assert runtime.call("exec", name, "sh", "-c", "echo out; echo err >&2; exit 5") == oci.Answer(5, "out\n", "err\n")
    assert runtime.call("exec", name, "sh", "-c", "kill -9 $$").code == 137
    answer = runtime.call(
        "exec", "--cwd", "/tmp", "--env", "A=b", "-u", "1000:1000", "-g", "7", name, "sh", "-c", "pwd; echo $A; id"
    )
    assert answer.out.splitlines()[:2] == ["/tmp", "b"]
    assert "uid=1000(user) gid=1000 groups=7" in answer.out
    missing = runtime.call("exec", name, "/nonexist")
    assert missing.code == 255
    assert "stat /nonexist: no such file or directory" in missing.err
    process = tmp_path / "process.json"
    process.write_text(json.dumps({"args": ["echo", "from a file"], "cwd": "/", "env": ["PATH=/bin"]}))
    assert runtime.call("exec", "-p", str(process), name).out == "from a file\n"
    pid_file = tmp_path / "exec.pid"
    assert runtime.detached("exec", "-d", "--pid-file", str(pid_file), name, "sleep", "55").code == 0
    assert Path(f"/proc/{pid_file.read_text()}/cmdline").read_bytes() == b"sleep\x0055\x00"
    assert len(json.loads(runtime.call("ps", "-f", "json", name).out)) == 2
    assert runtime.call("exec", name).code == 255


@pytest.mark.parametrize("user", ["0:0:0", " 0", "-1", "4294967296", "root", "1_0", "٣"])
def test_exec_refuses_ids_that_are_no_numbers(runtime: Runtime, box: Bundle, user: str) -> None:
    name = started(runtime, box)
    assert runtime.call("exec", f"--user={user}", name, "id").code == 255


def test_exec_is_confined_as_the_first_process_is(runtime: Runtime, box: Bundle) -> None:
    box.config["process"]["oomScoreAdj"] = 77
    box.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdirat", "mkdir"], "action": "SCMP_ACT_ERRNO"}],
    }
    name = started(runtime, box.save())
    pid = runtime.state(name)["pid"]
    script = (
        "cat /proc/self/status; for n in pid net ipc uts mnt cgroup user; do readlink /proc/self/ns/$n; done;"
        "cat /proc/self/cgroup /proc/self/limits /proc/self/oom_score_adj"
    )
    answer = runtime.call("exec", name, "sh", "-c", script)
    assert answer.code == 0, answer.err
    inside, outside = oci.status_fields(answer.out), oci.status_fields(Path(f"/proc/{pid}/status").read_text())
    for member in (
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "Groups",
        "Uid",
        "Gid",
        "Umask",
    ):
        assert inside[member] == outside[member], member
    for space in ("pid", "net", "ipc", "uts", "mnt", "cgroup", "user"):
        assert os.readlink(f"/proc/{pid}/ns/{space}") in answer.out
    assert ":memory:/\n" in answer.out or "0::/\n" in answer.out
    assert Path(f"/proc/{pid}/limits").read_text() in answer.out
    assert answer.out.rstrip().endswith("77")


def test_exec_leaks_no_descriptor(runtime: Runtime, box: Bundle) -> None:
    name = started(runtime, box)
    opened = [os.open("/etc", os.O_RDONLY) for _ in range(14)]
    try:
        for descriptor in opened:
            os.set_inheritable(descriptor, True)
        answer = runtime.call("exec", name, "sh", "-c", "ls /proc/self/fd | wc -l", close_fds=False)
        cwd = runtime.call("exec", "--cwd", f"/proc/self/fd/{opened[3]}", name, "ls", close_fds=False)
    finally:
        for descriptor in opened:
            os.close(descriptor)
    assert answer.out == "4\n"
    assert cwd.code == 255
    assert cwd.out == ""
