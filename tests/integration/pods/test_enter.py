"""``enter`` and ``exec``: a process that is added to an app has the app's confinement, item by item.

The app's own process and the one that entered are held against each other as the host's kernel shows them. rkt's
``enter`` once gave all capabilities (CVE-2019-10144), no filter (CVE-2019-10145) and no cgroup (CVE-2019-10147).
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import pyrkt
from tests.support import oci
from tests.support.oci import eventually, status_fields
from tests.support.pods import Pyrkt, end, wait_for

pytestmark = [pytest.mark.root, pytest.mark.peers]

NAP = ["--", "sleep", "600"]
KINDS = {
    "plain": [],
    "user": ["--user=1000", "--group=1000"],
    "limits": ["--memory=64Mi", "--pids=40", "--cpu=500m", "--oom-score-adj=42", "--readonly-rootfs"],
    "capabilities": ["--caps-retain=CAP_KILL,CAP_CHOWN"],
    "seccomp": ["--seccomp=mode=remove,errno=EXFULL,mkdir,mkdirat"],
}
BOTH = ("enter", "exec")


@dataclass
class Running:
    """A pod with one app, in the background."""

    tool: Pyrkt
    uuid: str

    @property
    def pid(self) -> int:
        """The app's first process."""
        return int((self.tool.directory(self.uuid) / "apps/a/pid").read_text().split()[0])

    @contextmanager
    def entered(self, verb: str = "enter", *flags: str) -> Iterator[int]:
        """Have a process in the app by ``verb``; its number on the host."""
        process = self.tool.popen(verb, *flags, self.uuid, "sh", "-c", "echo inside; exec sleep 600")
        try:
            wait_for(process, b"inside")
            (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            yield int(child)
        finally:
            process.terminate()
            assert end(process) == 128 + 15


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest, stored: Pyrkt, image: str) -> Iterator[Running]:
    """A pod of each kind."""
    uuid = stored.detached(image, "--name=a", "--environment=CANARY=bird", *KINDS[request.param], *NAP)
    yield Running(stored, uuid)
    stored.ok("stop", "--force", uuid)


@pytest.fixture(scope="module")
def app(stored: Pyrkt, image: str) -> Iterator[Running]:
    """One pod."""
    uuid = stored.detached("--name=one", image, "--name=a", "--environment=CANARY=bird", "--working-dir=/data", *NAP)
    yield Running(stored, uuid)
    stored.ok("stop", "--force", uuid)


def fields(pid: int) -> dict[str, str]:
    return status_fields(Path(f"/proc/{pid}/status").read_text())


def proc(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


# -- the same confinement, one item a test


@pytest.mark.parametrize("verb", BOTH)
def test_capabilities_are_the_apps(kind: Running, verb: str) -> None:
    """CVE-2019-10144: of all five sets. Root of an app that has another user has what that app could get at most."""
    with kind.entered(verb) as pid:
        ours, its = fields(pid), fields(kind.pid)
        for name in ("CapBnd", "CapInh", "CapAmb"):
            assert ours[name] == its[name]
        for name in ("CapPrm", "CapEff"):
            assert ours[name] == (its[name] if ours["Uid"] == its["Uid"] else its["CapBnd"])
        assert int(ours["CapEff"], 16) != int(fields(os.getpid())["CapEff"], 16)


@pytest.mark.parametrize("verb", BOTH)
def test_the_filter_and_no_new_privs_are_the_apps(kind: Running, verb: str) -> None:
    """CVE-2019-10145."""
    with kind.entered(verb) as pid:
        ours, its = fields(pid), fields(kind.pid)
        for name in ("Seccomp", "Seccomp_filters", "NoNewPrivs"):
            assert ours[name] == its[name]
        assert ours["Seccomp"] == "2"


def test_the_filter_is_this_apps(stored: Pyrkt, image: str) -> None:
    uuid = stored.detached(image, "--name=a", *KINDS["seccomp"], *NAP)
    try:
        for verb in BOTH:
            answer = stored.call(verb, uuid, "mkdir", "/tmp/x")
            assert (answer.code, "Exchange full" in answer.err) == (1, True), answer
            assert stored.call(verb, uuid, "touch", "/tmp/x").code == 0
    finally:
        stored.ok("stop", "--force", uuid)


@pytest.mark.parametrize("verb", BOTH)
def test_the_cgroups_are_the_apps(kind: Running, verb: str) -> None:
    """CVE-2019-10147: in every hierarchy."""
    with kind.entered(verb) as pid:
        assert proc(pid, "cgroup") == proc(kind.pid, "cgroup")
        groups = {line.split(":", 2)[2] for line in proc(pid, "cgroup").splitlines()}
        assert all(kind.uuid in path for path in groups), groups


def test_memory_of_who_entered_counts(stored: Pyrkt, image: str) -> None:
    uuid = stored.detached(image, "--name=a", "--memory=32Mi", *NAP)
    try:
        grow = "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done"
        assert stored.call("enter", uuid, "sh", "-c", grow).code == 137
        assert stored.pod(uuid)["state"] == "running"
    finally:
        stored.ok("stop", "--force", uuid)


@pytest.mark.parametrize("verb", BOTH)
def test_the_namespaces_are_the_apps(kind: Running, verb: str) -> None:
    with kind.entered(verb) as pid:
        for name in os.listdir(f"/proc/{pid}/ns"):
            assert os.readlink(f"/proc/{pid}/ns/{name}") == os.readlink(f"/proc/{kind.pid}/ns/{name}"), name
        for name in ("mnt", "pid", "net", "ipc", "uts", "cgroup"):
            assert os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"), name


@pytest.mark.parametrize("verb", BOTH)
def test_the_root_is_the_apps(kind: Running, verb: str) -> None:
    with kind.entered(verb) as pid:
        assert os.path.samestat(os.stat(f"/proc/{pid}/root"), os.stat(f"/proc/{kind.pid}/root"))
        assert proc(pid, "mountinfo") == proc(kind.pid, "mountinfo")
        assert os.readlink(f"/proc/{pid}/cwd") == os.readlink(f"/proc/{kind.pid}/cwd") == "/"


def test_enter_is_root_and_exec_the_apps_user(kind: Running) -> None:
    with kind.entered("exec") as pid:
        for name in ("Uid", "Gid", "Groups"):
            assert fields(pid)[name] == fields(kind.pid)[name]
    with kind.entered("enter") as pid:
        assert [fields(pid)[name].split() for name in ("Uid", "Gid", "Groups")] == [["0"] * 4, ["0"] * 4, []]


@pytest.mark.parametrize("verb", BOTH)
def test_limits_and_scores_are_the_apps(kind: Running, verb: str) -> None:
    with kind.entered(verb) as pid:
        for name in ("limits", "oom_score_adj", "loginuid", "timerslack_ns"):
            assert proc(pid, name) == proc(kind.pid, name), name
        for name in ("Umask", "Cpus_allowed", "THP_enabled", "CoreDumping"):
            assert fields(pid)[name] == fields(kind.pid)[name], name
        assert os.sched_getaffinity(pid) == os.sched_getaffinity(kind.pid)


@pytest.mark.parametrize("verb", BOTH)
def test_the_environment_is_the_apps_and_a_terminals_name(kind: Running, verb: str) -> None:
    with kind.entered(verb, "--env=MORE=x") as pid:
        its = set(filter(None, proc(kind.pid, "environ").split("\0")))
        ours = set(filter(None, proc(pid, "environ").split("\0")))
        own = {f"TERM={os.environ['TERM']}"} if os.environ.get("TERM") else set()
        assert ours - its - own == {"MORE=x"} | ({"PWD=/", "SHLVL=1"} & ours)
        assert {line for line in its if not line.startswith("TERM=")} <= ours
        assert "CANARY=bird" in ours


@pytest.mark.parametrize("verb", BOTH)
def test_no_descriptor_of_the_host_comes_along(app: Running, verb: str, tmp_path: Path) -> None:
    """CVE-2024-21626 and its kind: neither ours nor what the caller has left open."""
    script = f'exec 7</etc 8</ 9<{tmp_path}; exec "$@"'
    look = 'for d in /proc/self/fd/*; do [ "${d##*/}" -gt 2 ] && readlink $d; done; pwd; echo end'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *app.tool.argv(verb, app.uuid, "sh", "-c", look)],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False,
    )  # fmt: skip
    inside = [line for line in done.stdout.splitlines() if not line.startswith("/proc/")]
    assert inside == ["/data", "end"], done


def test_a_session_of_its_own_with_the_pods_keyring(stored: Pyrkt, image: str) -> None:
    loose = Pyrkt(stored.base, insecure="image,seccomp,paths")
    uuid = loose.detached(image, "--name=a", *NAP)
    try:
        out = loose.ok("enter", uuid, "sh", "-c", "cat /proc/keys; cat /proc/self/stat")
        assert f"_ses.{uuid}" in out
        words = out.splitlines()[-1].rpartition(") ")[2].split()
        assert words[4] == "0", "no controlling terminal"
    finally:
        loose.ok("stop", "--force", uuid)


@pytest.mark.parametrize("verb", BOTH)
@pytest.mark.parametrize(
    "attempt",
    [
        "mount -t tmpfs none /tmp",
        "echo 1 > /proc/sysrq-trigger",
        "head -c1 /proc/kcore",
        "mknod /tmp/disk b 254 0 && head -c1 /tmp/disk",
        "hostname other",
        "mkdir /sys/fs/cgroup/x",
    ],
)
def test_what_the_app_may_not_who_enters_may_not(app: Running, verb: str, attempt: str) -> None:
    answer = app.tool.call(verb, app.uuid, "sh", "-c", f"{attempt} && echo done")
    assert answer.code != 0
    assert "done" not in answer.out


# -- attacks


def test_a_link_to_the_hosts_root_leads_nowhere(app: Running) -> None:
    """rkt's open issue with /proc/1/root/HELPER as an image's program: who enters runs nothing of the host's."""
    host = sys.executable
    for path in (f"/proc/1/root{host}", "/proc/1/root/bin/true", "/proc/1/cwd/bin/true"):
        app.tool.ok("enter", app.uuid, "sh", "-c", f"rm -f /tmp/x; ln -s {path} /tmp/x")
        for command in (path, "/tmp/x"):
            answer = app.tool.call("enter", app.uuid, command)
            assert answer.code in {126, 127}, (command, answer)
    answer = app.tool.call("enter", app.uuid, "ls", "/proc/1/root/", "/proc/1/fd", "/proc/1/cwd/")
    assert (answer.code, answer.out.replace("/proc/1/fd:", "").strip()) != (0, ""), answer
    assert "etc" not in answer.out


def test_a_program_that_is_its_own_runtime_gets_a_sealed_copy(stored: Pyrkt, image: str) -> None:
    """CVE-2019-5736: an app that overwrites whatever enters it overwrites a copy of ours that is sealed."""
    files = [Path(pyrkt.__file__).parent / "stage1/stage1", Path(sys.executable), Path(sys.prefix, "bin/pyrkt")]
    before = [path.read_bytes() for path in files]
    script = "while :; do for p in /proc/[0-9]*; do [ $p = /proc/$$ ] || echo x 2>/dev/null >$p/exe; done; done"
    uuid = stored.detached(image, "--name=a", "--", "sh", "-c", script)
    try:
        stored.ok("enter", uuid, "sh", "-c", "printf '#!/proc/self/exe\\n' >/tmp/again; chmod 755 /tmp/again")
        for command in ("/proc/self/exe", "/tmp/again", "/proc/1/exe"):
            for verb in BOTH:
                assert stored.call(verb, uuid, command, "true").code in {64, 126, 127}, command
        assert stored.call("enter", uuid, "true").code == 0
    finally:
        stored.ok("stop", "--force", uuid)
    assert [path.read_bytes() for path in files] == before


def test_whatever_is_in_the_app_is_no_program_of_the_hosts(app: Running) -> None:
    names, stop = set[str](), threading.Event()
    space = os.readlink(f"/proc/{app.pid}/ns/pid")

    def look() -> None:
        while not stop.is_set():
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    if os.readlink(f"/proc/{pid}/ns/pid") == space:
                        names.add(os.path.basename(os.readlink(f"/proc/{pid}/exe")))
                except OSError:
                    continue

    watcher = threading.Thread(target=look)
    watcher.start()
    for _ in range(10):
        app.tool.ok("enter", app.uuid, "true")
    stop.set()
    watcher.join()
    assert names <= {"busybox", "memfd:pyrkt-stage1 (deleted)"}, names


def test_names_of_users_are_not_read_through_the_apps_links(app: Running) -> None:
    script = "cp /etc/passwd /tmp/saved; rm /etc/passwd; {}"
    try:
        for trick in ("ln -s /proc/1/root/etc/passwd /etc/passwd", "mkfifo /etc/passwd", "mkdir /etc/passwd"):
            app.tool.ok("enter", app.uuid, "sh", "-c", script.format(trick))
            answer = app.tool.call("exec", "--user=daemon", app.uuid, "id")
            assert (answer.code, "does not exist" in answer.err) == (64, True)
            app.tool.ok("enter", app.uuid, "sh", "-c", "rm -rf /etc/passwd; mv /tmp/saved /etc/passwd")
    finally:
        app.tool.call("enter", app.uuid, "sh", "-c", "test -e /tmp/saved && mv /tmp/saved /etc/passwd")


def test_another_process_of_that_number_is_not_entered(app: Running) -> None:
    """The number of an app that has ended may be a process of the host's by now."""
    record = app.tool.directory(app.uuid) / "apps/a/pid"
    before = record.read_text()
    try:
        record.write_text(f"{os.getpid()} 12345\n")
        answer = app.tool.call("enter", app.uuid, "true")
        assert (answer.code, "is not running" in answer.err) == (66, True)
    finally:
        record.write_text(before)
    app.tool.ok("enter", app.uuid, "true")


# -- what it is told


@pytest.mark.parametrize(
    ("words", "command", "out"),
    [
        (["--user=1000"], ["id"], "uid=1000(user) gid=1000(user)"),
        (["-u", "user"], ["id", "-u"], "1000"),
        (["-u", "1000:7"], ["id", "-G"], "7"),
        (["-u", "user:root"], ["id", "-G"], "0"),
        (["-u", "4242"], ["id"], "uid=4242 gid=0(root)"),
        (["--cwd=/bin"], ["readlink", "/proc/self/cwd"], "/bin"),
        (["-w", "/tmp"], ["sh", "-c", "pwd"], "/tmp"),
        ([], ["sh", "-c", "pwd"], "/data"),
        (["-e", "A=1", "--env=B=2=3"], ["sh", "-c", "echo $A $B $CANARY"], "1 2=3 bird"),
        (["--app=a", "-i"], ["echo", "--app", "-u"], "--app -u"),
        (["--tty=false"], ["--", "echo", "x"], "x"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_flags(app: Running, words: list[str], command: list[str], out: str) -> None:
    assert app.tool.ok("exec", *words, "one", *command).strip().startswith(out)


@pytest.mark.parametrize(("script", "code"), [("true", 0), ("exit 42", 42), ("kill -9 $$", 137)])
def test_the_code_is_the_programs(app: Running, script: str, code: int) -> None:
    for verb in BOTH:
        assert app.tool.call(verb, app.uuid[:8], "sh", "-c", script).code == code


@pytest.mark.parametrize(
    ("command", "code"), [("/no/such", 127), ("nothing", 127), ("/etc/plain", 126), ("/data", 126)]
)
def test_a_program_that_cannot_be_run_is_named(app: Running, command: str, code: int) -> None:
    answer = app.tool.call("enter", app.uuid, command)
    assert (answer.code, command in answer.err, answer.err.count("\n")) == (code, True, 2)


def test_without_a_command_a_shell_is_run(app: Running) -> None:
    assert app.tool.ok("enter", app.uuid, input="echo $0; exit\n", stdin=None).strip() == "/bin/sh"
    app.tool.ok("enter", app.uuid, "sh", "-c", "printf '#!/bin/sh\\necho bash\\n' >/bin/bash; chmod 755 /bin/bash")
    assert app.tool.ok("enter", app.uuid).strip() == "bash"
    app.tool.ok("enter", app.uuid, "rm", "/bin/bash")


def test_input_and_output_pass_through(app: Running) -> None:
    out = app.tool.ok("exec", app.uuid, "sh", "-c", "cat; echo told >&2", input="typed\n", stdin=None)
    assert out == "typed\n"
    assert app.tool.call("exec", app.uuid, "sh", "-c", "echo told >&2").err == "told\n"


def test_a_terminal_is_relayed(app: Running) -> None:
    master, slave = pty.openpty()
    try:
        process = app.tool.popen("enter", app.uuid, stdin=slave, stdout=slave, stderr=slave, env={"TERM": "vt52"})
        os.write(master, b"tty; echo term-$TERM; stty size; exit 5\n")
        seen, deadline = b"", time.monotonic() + 20
        while b"term-vt52" not in seen or b"/dev/pts/" not in seen:
            assert time.monotonic() < deadline, seen
            seen += os.read(master, 4096)
        assert end(process) == 5
    finally:
        os.close(slave)
        os.close(master)


def test_detached(app: Running) -> None:
    answer = app.tool.call("exec", "-d", app.uuid, "sh", "-c", "echo lost; echo done >/data/done; exec sleep 4321")
    assert (answer.code, answer.out) == (0, "")
    assert eventually(lambda: app.tool.call("exec", app.uuid, "cat", "/data/done").out == "done\n")
    (pid,) = oci.processes("sleep\0004321")
    assert proc(pid, "cgroup") == proc(app.pid, "cgroup")
    assert app.tool.call("exec", "-d", app.uuid, "/no/such").code == 127
    assert app.tool.call("exec", "-d", app.uuid).code == 2
    assert app.tool.call("exec", "-dt", app.uuid, "true").code == 2


def test_of_several_apps_one_is_named(stored: Pyrkt, image: str) -> None:
    uuid = stored.detached(image, "--name=a", *NAP, "---", image, "--name=b", "--user=1000", "--group=1000", *NAP)
    try:
        answer = stored.call("enter", uuid, "true")
        assert (answer.code, "several apps: a, b" in answer.err) == (2, True)
        assert stored.ok("exec", "--app=b", uuid, "id", "-u") == "1000\n"
        answer = stored.call("enter", "--app=c", uuid, "true")
        assert (answer.code, "its apps are: a, b" in answer.err) == (66, True)
    finally:
        stored.ok("stop", "--force", uuid)


def test_what_does_not_run_cannot_be_entered(stored: Pyrkt, image: str) -> None:
    uuid = stored.ok("prepare", image, "--name=a", "--", "true").strip()
    answer = stored.call("enter", uuid, "true")
    assert (answer.code, "is not running but prepared" in answer.err) == (66, True)
    stored.ok("run-prepared", uuid)
    answer = stored.call("enter", uuid, "true")
    assert (answer.code, "is not running but exited" in answer.err) == (66, True)
    stored.ok("rm", uuid)
    assert stored.call("enter", uuid).code == 66


def test_an_app_that_has_ended_in_a_pod_that_runs(stored: Pyrkt, image: str) -> None:
    uuid = stored.detached(image, "--name=a", "--", "true", "---", image, "--name=b", *NAP)
    try:
        assert eventually(lambda: stored.pod(uuid)["apps"][0]["state"] == "exited")
        answer = stored.call("enter", "--app=a", uuid, "true")
        assert (answer.code, "app 'a'" in answer.err) == (66, True)
        stored.ok("enter", "--app=b", uuid, "true")
    finally:
        stored.ok("stop", "--force", uuid)


def test_with_a_user_namespace(stored: Pyrkt, image: str) -> None:
    uuid = stored.detached("--private-users", image, "--name=a", *NAP)
    try:
        running = Running(stored, uuid)
        with running.entered() as pid:
            assert os.readlink(f"/proc/{pid}/ns/user") == os.readlink(f"/proc/{running.pid}/ns/user")
            assert fields(pid)["Uid"] == fields(running.pid)["Uid"]
            assert int(fields(pid)["Uid"].split()[0]) >= 1 << 19
            assert fields(pid)["CapBnd"] == fields(running.pid)["CapBnd"]
            assert proc(pid, "cgroup") == proc(running.pid, "cgroup")
    finally:
        stored.ok("stop", "--force", uuid)


def test_ordinary_users_enter_nothing_of_roots(app: Running) -> None:
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *app.tool.argv("enter", app.uuid, "true")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (77, 2), done.stderr
