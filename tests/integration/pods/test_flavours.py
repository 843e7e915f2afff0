"""Pods whose apps are made by others: crun, runc and gVisor; and by us with next to no walls, fly."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import signal
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mounts import mounted
from tests.support.oci import cgroups, eventually, processes
from tests.support.pods import Pyrkt, end, make_aci, make_layout, wait_for

pytestmark = [pytest.mark.root, pytest.mark.peers]
ALL = ("crun", "runc", "runsc", "fly")
RUNTIMES = ("crun", "runc", "runsc")
SHARING = ("crun", "runc")
LOOP = "while :; do sleep 0.1; done"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pyrkt]:
    """A store with an OCI image and an ACI, and a measurement log of its own; checks at the end that nothing stayed."""
    base = tmp_path_factory.mktemp("flavours")
    tool = Pyrkt(base)
    (base / "etc/measurements.d").mkdir(parents=True)
    value = {"rktKind": "measurements", "rktVersion": "v1", "log": str(base / "measurements.log")}
    (base / "etc/measurements.d/test.json").write_text(json.dumps(value))
    tool.ok("fetch", f"oci:{make_layout(base / 'layout')}:bb")
    handler = {"exec": ["/bin/sh", "-c", "echo {} >>/mark"]}
    events = [
        {"name": name, "exec": [handler["exec"][0], "-c", f"id -u >>/mark; echo {name} >>/mark; cat /mark"]}
        for name in ("pre-start", "post-stop")
    ]
    app = {"exec": ["/bin/sh", "-c", "echo main >>/mark; cat /mark"], "eventHandlers": events}
    tool.ok("fetch", str(make_aci(base / "box.aci", app=app | {"user": "0", "group": "0"})))
    yield tool
    assert tool.clean() == []


@pytest.fixture(scope="module")
def image(stored: Pyrkt) -> str:
    """The id of the OCI image."""
    found = json.loads(stored.ok("image", "list", "--format=json"))
    return str(next(record["id"] for record in found if record["kind"] == "oci"))


@pytest.fixture(scope="module")
def aci(stored: Pyrkt) -> str:
    """The id of the ACI, which has event handlers."""
    found = json.loads(stored.ok("image", "list", "--format=json"))
    return str(next(record["id"] for record in found if record["kind"] == "appc"))


def gone(stored: Pyrkt, uuid: str) -> list[str]:
    """Wait until nothing of a pod is left but its directory; return what is."""
    eventually(lambda: not cgroups(uuid) and not processes(uuid), 10)
    return stored.leftovers([uuid])


@pytest.mark.parametrize("flavour", ALL)
def test_output_and_exit_code_are_the_apps(stored: Pyrkt, image: str, flavour: str) -> None:
    for _ in range(2):  # from its image, and from a record
        answer = stored.call(
            "run", f"--stage1={flavour}", image, "--", "sh", "-c", "cat /data/seed; echo e >&2; exit 7"
        )
        assert (answer.code, answer.out, answer.err) == (7, "from the image\n", "e\n")
    assert stored.call("run", f"--stage1={flavour}", image, "--", "sh", "-c", "kill -9 $$").code == 137
    uuid = stored.pods()[-1]["name"]
    assert stored.pod(uuid)["stage1"] == flavour
    assert f"stage1={flavour}" in stored.ok("status", uuid)
    assert gone(stored, uuid) == []


@pytest.mark.parametrize(
    ("flavour", "number", "code"),
    [*((flavour, signal.SIGTERM, 41) for flavour in ALL), ("crun", signal.SIGINT, 42), ("runsc", signal.SIGINT, 42)],
)
def test_signals_reach_the_app(stored: Pyrkt, image: str, flavour: str, number: int, code: int) -> None:
    script = f"trap 'exit 41' TERM; trap 'exit 42' INT; echo ready; {LOOP}"
    process = stored.popen("run", f"--stage1={flavour}", image, "--", "sh", "-c", script)
    wait_for(process, b"ready")
    process.send_signal(number)
    assert end(process) == code


@pytest.mark.parametrize("flavour", ALL)
def test_a_detached_pod_is_looked_at_entered_and_stopped(stored: Pyrkt, image: str, flavour: str) -> None:
    uuid = stored.detached(f"--stage1={flavour}", image, "--", "sh", "-c", f"trap 'exit 5' TERM; echo hello; {LOOP}")
    logs = stored.directory(uuid) / "logs"
    assert eventually(lambda: any("hello" in file.read_text() for file in logs.iterdir()), 10)
    assert stored.pod(uuid)["state"] == "running"
    assert stored.ok("exec", uuid, "cat", "/data/seed") == "from the image\n"
    answer = stored.call("enter", "--env=A=b", "--cwd=/data", uuid, "sh", "-c", "id -u; pwd; echo $A; exit 9")
    assert (answer.code, answer.out) == (9, "0\n/data\nb\n"), answer.err
    stored.ok("stop", uuid)
    assert stored.pod(uuid)["apps"][0]["exit_code"] == 5
    assert gone(stored, uuid) == []
    stored.ok("rm", uuid)


@pytest.mark.parametrize(
    ("flavour", "flag"),
    [
        ("crun", "--force"),
        ("crun", "--grace=0.5"),
        ("runc", "--grace=0.5"),
        ("runsc", "--grace=0.5"),
        ("fly", "--force"),
    ],
)
def test_who_does_not_end_is_killed(stored: Pyrkt, image: str, flavour: str, flag: str) -> None:
    words = (f"--stage1={flavour}", image, "--", "sh", "-c", f"trap '' TERM; echo up; {LOOP}")
    uuid = stored.detached(*words)
    logs = stored.directory(uuid) / "logs"
    assert eventually(lambda: any("up" in file.read_text() for file in logs.iterdir()), 10)
    stored.ok("stop", flag, uuid)
    assert stored.pod(uuid)["apps"][0]["exit_code"] == 137
    assert gone(stored, uuid) == []


@pytest.mark.parametrize("flavour", ALL)
def test_a_supervisor_that_is_killed_leaves_nothing_after_rm(stored: Pyrkt, image: str, flavour: str) -> None:
    uuid = stored.detached(f"--stage1={flavour}", image, "--", "sh", "-c", f"sleep 1000 & {LOOP}")
    supervisor = int((stored.directory(uuid) / "supervisor").read_text().split()[0])
    os.kill(supervisor, signal.SIGKILL)
    assert eventually(lambda: stored.pod(uuid)["state"] == "exited", 10)
    stored.ok("rm", uuid)
    assert gone(stored, uuid) == []


@pytest.mark.parametrize("flavour", RUNTIMES)
def test_a_runtime_that_is_killed_is_cleared_up_after(stored: Pyrkt, image: str, flavour: str) -> None:
    """Its process is what stage1 has for the app: the app counts as ended, and what is left of it is deleted."""
    uuid = stored.detached(f"--stage1={flavour}", image, "--", "sh", "-c", f"sleep 1000 & {LOOP}")
    os.kill(running(uuid), signal.SIGKILL)
    assert eventually(lambda: stored.pod(uuid)["state"] == "exited", 20)
    assert stored.pod(uuid)["apps"][0]["exit_code"] == 137
    assert gone(stored, uuid) == []


def running(uuid: str) -> int:
    """Return the process of the runtime that runs the app; what it forks bears its command line for a moment, too."""

    def found() -> list[int]:
        pids = processes(f"pyrkt-{uuid}-layout")
        return [pid for pid in pids if b"\0run\0--bundle\0" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    assert eventually(lambda: len(found()) == 1, 10)
    return found()[0]


@pytest.mark.parametrize("flavour", RUNTIMES)
def test_an_app_whose_member_is_killed_runs_again(stored: Pyrkt, image: str, flavour: str) -> None:
    """The runtime still knows the container of before, which is deleted before the next one of its name."""
    script = "echo again >>/data/seed; wc -l </data/seed; sleep 1000"
    words = ("--restart=on-failure", "--restart-delay=10ms", "--", "sh", "-c", script)
    uuid = stored.detached(f"--stage1={flavour}", image, *words)
    logs = stored.directory(uuid) / "logs"
    assert eventually(lambda: any("2" in file.read_text() for file in logs.iterdir()), 20)
    member = int(Path(f"/proc/{running(uuid)}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(member, signal.SIGKILL)
    assert eventually(lambda: any("3" in file.read_text() for file in logs.iterdir()), 20)
    stored.ok("stop", "--force", uuid)
    assert gone(stored, uuid) == []


@pytest.mark.parametrize("flavour", SHARING)
def test_apps_share_what_a_pod_shares(stored: Pyrkt, image: str, flavour: str) -> None:
    look = "{ for n in pid ipc uts net mnt; do readlink /proc/self/ns/$n; done; hostname; }"
    first = [image, "--name=one", "--", "sh", "-c", f"{look} >/v/one; while ! test -e /v/two; do sleep 0.1; done"]
    second = [image, "--name=two", "--", "sh", "-c", f"{look} >/v/two"]
    volume = stored.base / f"shared-{flavour}"
    volume.mkdir()
    flags = [f"--volume=v,kind=host,source={volume}", "--mount=volume=v,target=/v", f"--stage1={flavour}"]
    stored.ok("run", *flags, *first, "---", *second)
    one, two = ((volume / name).read_text().split() for name in ("one", "two"))
    assert one[:4] == two[:4]
    assert one[4] != two[4]
    assert one[5] == two[5]
    assert one[5].startswith("pyrkt-")
    hosts = [os.readlink(f"/proc/self/ns/{name}") for name in ("pid", "ipc", "uts", "net")]
    assert not set(hosts) & set(one)


@pytest.mark.parametrize("flavour", SHARING)
def test_a_failing_app_ends_the_pod(stored: Pyrkt, image: str, flavour: str) -> None:
    words = [image, "--name=one", "--", "sh", "-c", LOOP, "---", image, "--name=two", "--", "sh", "-c", "exit 4"]
    assert stored.call("run", f"--stage1={flavour}", *words).code == 4


@pytest.mark.parametrize("flavour", ALL)
def test_event_handlers_see_the_apps_root(stored: Pyrkt, aci: str, flavour: str) -> None:
    answer = stored.call("run", f"--stage1={flavour}", aci)
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[-5:] == ["0", "pre-start", "main", "0", "post-stop"]


@pytest.mark.parametrize("flavour", ALL)
def test_volumes_users_limits_and_a_copied_root(stored: Pyrkt, image: str, flavour: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("of the host\n")
    flags = [f"--volume=v,kind=host,source={tmp_path}", "--mount=volume=v,target=/v", f"--stage1={flavour}"]
    flags += ["--no-overlay", "--set-env=A=b"]
    script = "cat /v/file; echo out >/v/new; id -u; id -g; echo $A; pwd; test -w /data/seed || echo read-only"
    app = ["--user=1000", "--group=1000", "--working-dir=/data", "--memory=64Mi", "--pids=64", "--readonly-rootfs"]
    os.chmod(tmp_path, 0o777)
    answer = stored.call("run", *flags, image, *app, "--", "sh", "-c", script)
    assert (answer.code, answer.out) == (0, "of the host\n1000\n1000\nb\n/data\nread-only\n"), answer.err
    assert (tmp_path / "new").read_text() == "out\n"


@pytest.mark.parametrize("flavour", SHARING)
def test_the_confinement_is_the_same(stored: Pyrkt, image: str, flavour: str) -> None:
    script = (
        "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; cat /proc/self/oom_score_adj;"
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null;"
        "cat /proc/kcore 2>&1 | head -c1; touch /proc/sys/kernel/x 2>&1; ls /proc/self/fd"
    )
    words = ("--memory=64Mi", "--", "sh", "-c", script)
    native = stored.ok("run", image, *words)
    assert stored.ok("run", f"--stage1={flavour}", image, *words).splitlines() == native.splitlines()


def test_gvisor_has_a_kernel_of_its_own(stored: Pyrkt, image: str) -> None:
    out = stored.ok(
        "run", "--stage1=runsc", image, "--", "sh", "-c", "cat /proc/version; cat /proc/net/dev | wc -l; ls /proc"
    )
    assert os.uname().release not in out
    assert out.startswith("Linux version 4.4.0")


def test_fly_has_next_to_no_walls(stored: Pyrkt, image: str, tmp_path: Path) -> None:
    look = "for n in pid ipc uts net mnt; do readlink /proc/self/ns/$n; done; hostname; cat /proc/self/status; ls /dev"
    with mounted(tmp_path / "v/inner") as inner:
        (inner / "deep").write_text("x")
        flags = [f"--volume=v,kind=host,source={tmp_path}/v", "--mount=volume=v,target=/v", "--stage1=fly"]
        out = stored.ok("run", *flags, image, "--", "sh", "-c", f"{look}; ls /v/inner | wc -l; df /tmp | tail -1")
        whole = stored.ok("run", flags[0] + ",recursive=true", *flags[1:], image, "--", "sh", "-c", "ls /v/inner")
    lines = out.splitlines()
    names = ("pid", "ipc", "uts", "net", "mnt")
    hosts = [os.readlink(f"/proc/self/ns/{name}") for name in names]
    assert lines[:4] == hosts[:4]
    assert lines[4] != hosts[4]
    assert lines[5] == os.uname().nodename
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    own = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    assert (status["CapBnd"], status["NoNewPrivs"], status["Seccomp"]) == (own["CapBnd"], "0", "0")
    assert set(os.listdir("/dev")) - {"shm"} <= set(lines) | {"shm"}
    assert lines[-2] == "0"
    assert lines[-1].split()[0] == "tmpfs"
    assert whole == "deep\n"


def test_what_an_app_of_fly_leaves_running_goes_with_the_pod(stored: Pyrkt, image: str) -> None:
    process = stored.popen("run", "--stage1=fly", image, "--", "sh", "-c", "sleep 4242 & echo $!; exit 0")
    text = wait_for(process, b"\n").decode()
    assert end(process) == 0
    assert eventually(lambda: not Path(f"/proc/{text.strip()}").exists())


@pytest.mark.parametrize("flavour", ["crun", "runc", "fly"])
def test_a_terminal(stored: Pyrkt, image: str, flavour: str) -> None:
    master, slave = pty.openpty()
    words = stored.argv(
        "run", "--interactive", f"--stage1={flavour}", image, "--", "sh", "-c", "tty; read x; echo got $x; exit 6"
    )
    process = subprocess.Popen(
        words,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - there is one thread
    )
    os.close(slave)
    os.write(master, b"hi\n")
    assert process.wait(30) == 6
    out = b""
    try:
        while more := os.read(master, 4096):
            out += more
    except OSError:
        pass
    os.close(master)
    assert b"/dev/" in out
    assert b"got hi" in out


@pytest.mark.parametrize("flavour", ALL)
def test_what_runs_is_measured(stored: Pyrkt, image: str, flavour: str) -> None:
    uuid = stored.ok("prepare", f"--stage1={flavour}", image, "--", "true").strip()
    planned = stored.ok("plan", uuid)
    assert f"## pod, stage1 {flavour}" in planned
    digest = stored.ok("plan", "--hash", uuid).strip()
    assert stored.call("run-prepared", uuid).code == 0
    records = json.loads(stored.ok("measurements", "--format=json", f"--pod={uuid}"))["records"]
    events = [record["content"] for record in records]
    made = [event for event in events if event["eventType"] == "stage1"]
    assert {event["flavour"] for event in made} == {flavour}
    assert digest in [event["digest"] for event in events if event["eventType"] == "plan"]
    if flavour in RUNTIMES:
        program = Path(made[1]["program"])
        assert made[1]["digest"] == f"sha256:{hashlib.sha256(program.read_bytes()).hexdigest()}"
        (config,) = stored.directory(uuid).glob("apps/*/bundles/main/config.json")
        digest = f"sha256:{hashlib.sha256(config.read_bytes()).hexdigest()}"
        assert digest in [event["digest"] for event in events if event["eventType"] == "app-config"]


@pytest.mark.parametrize("flavour", ["crun", "fly"])
def test_a_prepared_pod_keeps_its_flavour(stored: Pyrkt, image: str, flavour: str) -> None:
    uuid = stored.ok("prepare", f"--stage1={flavour}", image, "--", "sh", "-c", "exit 3").strip()
    stored.ok("run-prepared", "--detach", uuid)  # its plan is made anew
    assert eventually(lambda: stored.pod(uuid)["state"] == "exited", 20)
    assert stored.pod(uuid)["apps"][0]["exit_code"] == 3
    assert stored.pod(uuid)["stage1"] == flavour
    assert gone(stored, uuid) == []


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        pytest.param(["--stage1=kata"], 2, "there is no such flavour", id="unknown"),
        pytest.param(["--stage1-name=coreos.com/rkt/stage1-kvm:1.30"], 2, "there is no kvm flavour", id="kvm"),
        pytest.param(["--stage1-hash=sha512-ab"], 2, "stage1 is no image here", id="hash"),
        pytest.param(["--stage1-url=https://example.com/mine.aci"], 2, "stage1 is no image here", id="url"),
        pytest.param(["--stage1=fly", "--stage1-name=x"], 2, "exclude each other", id="both"),
        pytest.param(["--stage1=crun", "--private-users"], 2, "exclude each other", id="users"),
        pytest.param(["--stage1=runsc", "IMAGE", "--name=a", "---"], 2, "is for a pod of one app", id="two-gvisor"),
        pytest.param(["--stage1=fly", "IMAGE", "--name=a", "---"], 2, "is for a pod of one app", id="two-fly"),
    ],
)
def test_what_a_flavour_cannot_is_refused(stored: Pyrkt, image: str, words: list[str], code: int, text: str) -> None:
    before = stored.pods()
    answer = stored.call("run", *(image if word == "IMAGE" else word for word in words), image, "--", "true")
    assert answer.code == code
    assert text in answer.err
    assert answer.err.count("\n") == 2
    assert stored.pods() == before


def test_a_runtime_that_is_not_there(stored: Pyrkt, image: str) -> None:
    answer = stored.call("run", "--stage1=crun", image, "--", "true", env={"PATH": "/nonexistent"})
    assert answer.code == 66
    assert "there is no crun on the PATH" in answer.err


def test_rkts_names_and_the_configurations_default(stored: Pyrkt, image: str) -> None:
    script = ["--", "readlink", "/proc/self/ns/pid"]
    host = os.readlink("/proc/self/ns/pid") + "\n"
    for flag in ("--stage1-name=coreos.com/rkt/stage1-fly:1.30.0", "--stage1-path=/usr/lib/rkt/stage1-fly.aci",
                 "--stage1-from-dir=stage1-fly.aci"):  # fmt: skip
        assert stored.ok("run", flag, image, *script) == host
    for flag in ("--stage1-name=coreos.com/rkt/stage1-coreos", "--stage1-url=https://example.com/stage1-host.aci"):
        assert stored.ok("run", flag, image, *script) != host
    directory = stored.base / "etc/stage1.d"
    directory.mkdir()
    try:
        for name in ("fly", "coreos.com/rkt/stage1-fly"):
            value = {"rktKind": "stage1", "rktVersion": "v1", "name": name}
            (directory / "a.json").write_text(json.dumps(value))
            assert stored.ok("run", image, *script) == host
            assert stored.ok("run", "--stage1=native", image, *script) != host
        (directory / "a.json").write_text(json.dumps({"rktKind": "stage1", "rktVersion": "v1", "name": "what"}))
        assert stored.call("run", image, *script).code == 64
    finally:
        (directory / "a.json").unlink()
        directory.rmdir()


@pytest.mark.parametrize("flavour", ["crun", "runc", "runsc"])
def test_the_hosts_null_device_keeps_its_owner(stored: Pyrkt, image: str, flavour: str) -> None:
    """These give their standard descriptors to the container's user."""

    def code(words: list[str]) -> int:
        null = subprocess.DEVNULL
        return subprocess.run(words, check=False, timeout=60, stdin=null, stdout=null, stderr=null).returncode

    assert code(stored.argv("run", f"--stage1={flavour}", image, "--user=1000", "--stdout=null", "--", "true")) == 0
    uuid = stored.ok("run", "--detach", f"--stage1={flavour}", image, "--", "sleep", "60").strip()
    assert eventually(lambda: code(stored.argv("enter", uuid, "true")) == 0)
    assert stored.call("stop", uuid).code == 0
    assert os.stat("/dev/null").st_uid == 0
