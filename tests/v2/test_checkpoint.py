"""checkpoint and restore by criu, on a kernel that the guest's criu knows."""

from __future__ import annotations

import array
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import oci

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root

# Counts in memory and answers by files: what goes on after a restore goes on from where it was.
COUNTER = "i=0; while true; do i=$((i+1)); echo $i > /data/count.new; mv /data/count.new /data/count; sleep 0.05; done"


@pytest.fixture
def box(box: Bundle, tmp_path: Path) -> Bundle:
    """A bundle whose container counts, in a directory of the host."""
    (tmp_path / "data").mkdir()
    box.config["mounts"].append(
        {"destination": "/data", "type": "bind", "source": str(tmp_path / "data"), "options": ["rbind", "rw"]}
    )
    return box.script(COUNTER)


def count(tmp_path: Path) -> int:
    text = ""

    def there() -> bool:
        nonlocal text
        try:
            text = (tmp_path / "data/count").read_text()
        except OSError:
            return False
        return bool(text.strip())

    assert oci.eventually(there, 20)
    return int(text)


def goes_on(tmp_path: Path, beyond: int) -> bool:
    return oci.eventually(lambda: count(tmp_path) > beyond, 20)


def words(tmp_path: Path) -> tuple[str, ...]:
    return ("--image-path", str(tmp_path / "images"), "--work-path", str(tmp_path / "criu"))


def quiet(runtime: Runtime, *verb: str) -> oci.Answer:
    """Run a verb whose container has nothing of the host open: a file there is nothing that criu could bring back."""
    log = runtime.root.parent / "log"
    log.unlink(missing_ok=True)
    null = subprocess.DEVNULL
    command = [*runtime.command, "--root", str(runtime.root), "--log", str(log), *verb]
    done = subprocess.run(command, stdin=null, stdout=null, stderr=null, timeout=60, check=False)
    return oci.Answer(done.returncode, "", log.read_text())


def started(runtime: Runtime, box: Bundle, tmp_path: Path) -> str:
    name = runtime.new_id()
    answer = quiet(runtime, "run", "-d", "-b", str(box.path), name)
    assert answer.code == 0, answer.err
    assert goes_on(tmp_path, 3)
    return name


def said(tmp_path: Path, which: str, err: str) -> str:
    log = tmp_path / f"criu/{which}.log"
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:]) if log.exists() else "no log"
    return f"{err}\n{tail}"


def checkpoint(runtime: Runtime, tmp_path: Path, name: str, *more: str) -> None:
    answer = runtime.call("checkpoint", *words(tmp_path), *more, name)
    assert answer.code == 0, said(tmp_path, "dump", answer.err)


def restore(runtime: Runtime, box: Bundle, tmp_path: Path, name: str, *more: str) -> None:
    answer = quiet(runtime, "restore", "-d", *words(tmp_path), "-b", str(box.path), *more, name)
    assert answer.code == 0, said(tmp_path, "restore", answer.err)


def test_it_goes_on_where_it_was(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    name = started(runtime, box, tmp_path)
    for _ in range(2):
        checkpoint(runtime, tmp_path, name)
        gone = runtime.call("state", name)
        assert (gone.code, "does not exist" in gone.err) == (1, True)
        assert not oci.cgroups(name)
        before = count(tmp_path)
        pid_file = tmp_path / "pid"
        restore(runtime, box, tmp_path, name, "--pid-file", str(pid_file))
        state = runtime.state(name)
        assert state["status"] == "running"
        assert pid_file.read_text() == str(state["pid"])
        assert goes_on(tmp_path, before + 1)
        assert count(tmp_path) < before + 1000
    assert name in Path(f"/proc/{state['pid']}/cgroup").read_text()
    inside = runtime.call("exec", name, "sh", "-c", "hostname; cat /proc/1/cgroup; ls -l /dev/null; test -w /data")
    assert (inside.code, inside.out.splitlines()[0]) == (0, "box"), inside.err
    assert runtime.call("pause", name).code == 0
    assert runtime.state(name)["status"] == "paused"
    assert runtime.call("resume", name).code == 0
    assert runtime.call("kill", name, "KILL").code == 0
    assert oci.eventually(lambda: runtime.state(name)["status"] == "stopped")


def test_the_loopback_interface_is_up_again(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    name = started(runtime, box, tmp_path)
    checkpoint(runtime, tmp_path, name)
    restore(runtime, box, tmp_path, name)
    assert runtime.call("exec", name, "cat", "/sys/class/net/lo/flags").out == "0x9\n"


def test_left_running_it_runs_on(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    name = started(runtime, box, tmp_path)
    pid = runtime.state(name)["pid"]
    before = count(tmp_path)
    checkpoint(runtime, tmp_path, name, "--leave-running")
    assert runtime.state(name) | {"pid": pid, "status": "running"} == runtime.state(name)
    assert goes_on(tmp_path, before)
    assert (tmp_path / "images/inventory.img").exists()


def test_memory_first_and_the_rest_later(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    name = started(runtime, box, tmp_path)
    first = runtime.call("checkpoint", "--image-path", str(tmp_path / "first"), "--pre-dump", name)
    assert first.code == 0, first.err
    assert runtime.state(name)["status"] == "running"
    checkpoint(runtime, tmp_path, name, "--parent-path", "../first")
    assert (tmp_path / "images/parent").exists()
    before = count(tmp_path)
    restore(runtime, box, tmp_path, name)
    assert goes_on(tmp_path, before + 1)


def test_a_paused_one_as_containerd_does_it(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    name = started(runtime, box, tmp_path)
    assert runtime.call("pause", name).code == 0
    checkpoint(runtime, tmp_path, name, "--leave-running")
    assert runtime.state(name)["status"] == "paused"
    before = count(tmp_path)
    assert runtime.call("resume", name).code == 0
    assert goes_on(tmp_path, before)


class Console:
    """What conmon does: a socket that takes the master of the container's terminal."""

    def __init__(self) -> None:
        self.path = Path(f"/tmp/pyrkt-test-{os.getpid()}.sock")
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(self.path))
        self.server.listen(1)
        self.server.settimeout(20)

    def master(self) -> int:
        connection, _ = self.server.accept()
        with connection:
            _, control, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(struct.calcsize("i")))
        descriptors = array.array("i")
        descriptors.frombytes(control[0][2][: descriptors.itemsize])
        return descriptors[0]


@pytest.fixture
def console() -> Iterator[Console]:
    found = Console()
    yield found
    found.server.close()
    found.path.unlink()


def read_until(descriptor: int, word: bytes) -> bytes:
    os.set_blocking(descriptor, False)
    data = b""

    def there() -> bool:
        nonlocal data
        try:
            data += os.read(descriptor, 4096)
        except OSError:
            pass
        return word in data

    oci.eventually(there, 20)
    return data


def test_a_terminal_comes_back_as_another(runtime: Runtime, box: Bundle, tmp_path: Path, console: Console) -> None:
    box.config["process"]["terminal"] = True
    box.script("echo ready; while read x; do echo got $x; done")
    name = runtime.new_id()
    socket_words = ("--console-socket", str(console.path))
    answer = quiet(runtime, "run", "-d", *socket_words, "-b", str(box.path), name)
    assert answer.code == 0, answer.err
    master = console.master()
    assert b"ready" in read_until(master, b"ready")
    checkpoint(runtime, tmp_path, name)
    os.close(master)
    restore(runtime, box, tmp_path, name, *socket_words)
    master = console.master()
    os.write(master, b"you\n")
    assert b"got you" in read_until(master, b"got you")
    os.close(master)


def test_pipes_are_the_callers_of_restore(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    box.script("while read x; do echo got $x; done")
    name = runtime.new_id()

    def piped(*verb: str) -> tuple[int, int]:
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        done = subprocess.run(
            [*runtime.command, "--root", str(runtime.root), "--log", str(tmp_path / "log"), *verb],
            stdin=theirs_in,
            stdout=theirs_out,
            stderr=theirs_out,
            timeout=60,
            check=False,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        assert done.returncode == 0, (tmp_path / "log").read_text()
        return ours_out, ours_in

    to, back = piped("run", "-d", "-b", str(box.path), name)
    os.write(to, b"one\n")
    assert b"got one" in read_until(back, b"got one")
    checkpoint(runtime, tmp_path, name)
    os.close(to)
    os.close(back)
    to, back = piped("restore", "-d", *words(tmp_path), "-b", str(box.path), name)
    os.write(to, b"two\n")
    assert b"got two" in read_until(back, b"got two")
    os.close(to)
    os.close(back)
    assert oci.eventually(lambda: runtime.state(name)["status"] == "stopped", 20)


def test_in_the_foreground_it_is_watched_to_its_end(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    box.script("trap 'exit 7' TERM; " + COUNTER)
    seen = tmp_path / "seen"
    box.config["hooks"] = {
        kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"cat >> {seen}; echo {kind} >> {seen}"]}]
        for kind in ("prestart", "createRuntime", "poststop")
    }
    box.save()
    name = started(runtime, box, tmp_path)
    checkpoint(runtime, tmp_path, name)
    assert seen.read_text().count("poststop") == 1
    seen.unlink()
    before = count(tmp_path)
    null = subprocess.DEVNULL
    command = runtime.argv("restore", *words(tmp_path), "-b", str(box.path), name)
    with subprocess.Popen(command, stdin=null, stdout=null, stderr=null) as process:
        assert goes_on(tmp_path, before + 1)
        assert runtime.state(name)["status"] == "running"
        text = seen.read_text()
        assert json.loads(text.partition("prestart")[0])["pid"] == runtime.state(name)["pid"]
        assert "createRuntime" in text
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 7
    assert seen.read_text().endswith("poststop\n")
    assert runtime.call("state", name).code == 1
    assert not oci.cgroups(name)


def test_a_network_namespace_of_the_engine_stays(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    with subprocess.Popen(["unshare", "--net", "sleep", "600"]) as holder:
        try:
            space = f"/proc/{holder.pid}/ns/net"
            own = os.stat("/proc/self/ns/net").st_ino
            assert oci.eventually(lambda: os.stat(space).st_ino != own)
            for each in box.config["linux"]["namespaces"]:
                if each["type"] == "network":
                    each["path"] = space
            box.save()
            name = started(runtime, box, tmp_path)
            checkpoint(runtime, tmp_path, name)
            before = count(tmp_path)
            restore(runtime, box, tmp_path, name)
            assert goes_on(tmp_path, before + 1)
            assert os.stat(f"/proc/{runtime.state(name)['pid']}/ns/net").st_ino == os.stat(space).st_ino
        finally:
            runtime.clean()
            holder.kill()


def test_binds_behind_links_and_within_binds(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    """And their mount points are made again, as in a root file system that is a new one."""
    for kind in ("outer", "inner", "linked"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / kind).write_text(kind)
    (box.rootfs / "real/conf").mkdir(parents=True)
    (box.rootfs / "conf").symlink_to("/real/conf")
    for kind, where in (("outer", "/binds/outer"), ("inner", "/binds/outer/in"), ("linked", "/conf")):
        mount = {"destination": where, "source": str(tmp_path / kind), "options": ["bind"]}
        box.config["mounts"].append(mount)
    box.config["root"]["readonly"] = False
    box.save()
    name = started(runtime, box, tmp_path)
    checkpoint(runtime, tmp_path, name)
    (tmp_path / "outer/in").rmdir()
    (box.rootfs / "binds/outer").rmdir()
    (box.rootfs / "binds").rmdir()
    restore(runtime, box, tmp_path, name)
    shown = runtime.call("exec", name, "cat", "/binds/outer/outer", "/binds/outer/in/inner", "/real/conf/linked")
    assert shown.out == "outerinnerlinked", shown.err


def test_in_a_scope_of_systemd(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    runtime.command = (*runtime.command, "--systemd-cgroup")
    scope = f"pyrkt-test-{os.getpid()}"
    box.config["linux"]["cgroupsPath"] = f"system.slice:pyrkt:{scope}"
    box.save()
    name = started(runtime, box, tmp_path)
    checkpoint(runtime, tmp_path, name)
    before = count(tmp_path)
    restore(runtime, box, tmp_path, name)
    assert goes_on(tmp_path, before + 1)
    assert f"pyrkt-{scope}.scope" in Path(f"/proc/{runtime.state(name)['pid']}/cgroup").read_text()
    runtime.clean()


def test_what_is_open_on_the_host_is_said(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    name = runtime.new_id()
    assert runtime.detached("run", "-d", "-b", str(box.path), name).code == 0  # its output is a file of the host
    answer = runtime.call("checkpoint", *words(tmp_path), name)
    assert answer.code == 1
    assert "criu failed: type DUMP" in answer.err
    assert "Can't lookup mount" in answer.err
    assert "its output for one" in answer.err
    assert runtime.state(name)["status"] == "running"


def test_a_restore_that_fails_leaves_nothing(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    name = started(runtime, box, tmp_path)
    checkpoint(runtime, tmp_path, name)
    (tmp_path / "images/core-1.img").unlink()
    answer = quiet(runtime, "restore", "-d", *words(tmp_path), "-b", str(box.path), name)
    assert answer.code == 1
    assert "criu failed: type RESTORE" in answer.err
    assert runtime.call("state", name).code == 1
    assert not oci.cgroups(name)
    (tmp_path / "images/descriptors.json").unlink()
    answer = quiet(runtime, "restore", "-d", *words(tmp_path), "-b", str(box.path), name)
    assert "descriptors.json: no such file or directory" in answer.err


def test_runc_restores_what_we_wrote(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    name = started(runtime, box, tmp_path)
    checkpoint(runtime, tmp_path, name)
    before = count(tmp_path)
    runc = oci.peer("runc", tmp_path)
    null = subprocess.DEVNULL
    command = runc.argv("--log", str(tmp_path / "log"), "restore", "-d", *words(tmp_path), "-b", str(box.path), name)
    done = subprocess.run(command, stdin=null, stdout=null, stderr=null, timeout=60, check=False)
    try:
        assert done.returncode == 0, said(tmp_path, "restore", (tmp_path / "log").read_text())
        assert goes_on(tmp_path, before + 1)
    finally:
        runc.call("delete", "--force", name)


def test_we_restore_what_runc_wrote(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    name = runtime.new_id()
    runc = oci.peer("runc", tmp_path)
    null = subprocess.DEVNULL
    command = runc.argv("--log", str(tmp_path / "log"), "run", "-d", "-b", str(box.path), name)
    subprocess.run(command, stdin=null, stdout=null, stderr=null, timeout=60, check=True)
    try:
        assert goes_on(tmp_path, 3)
        answer = runc.call("checkpoint", *words(tmp_path), name)
        assert answer.code == 0, answer.err
    finally:
        runc.call("delete", "--force", name)
    before = count(tmp_path)
    restore(runtime, box, tmp_path, name)
    assert goes_on(tmp_path, before + 1)


def test_memory_that_comes_when_it_is_asked_for(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    """Migration by criu's page server: the first half waits, told of by a byte, until the second has all pages."""
    name = started(runtime, box, tmp_path)
    ready, told = os.pipe()
    words_of = ("--lazy-pages", "--page-server", "127.0.0.1:27277", "--status-fd", str(told))
    mode = "--manage-cgroups-mode=ignore"
    command = runtime.argv("checkpoint", *words(tmp_path), *words_of, mode, name)
    null = subprocess.DEVNULL
    log = tmp_path / "lazy.log"
    with (
        log.open("w") as output,
        subprocess.Popen(command, stdin=null, stdout=output, stderr=output, pass_fds=(told,)) as half,
    ):
        os.close(told)
        byte = os.read(ready, 1)
        assert byte == b"\0", said(tmp_path, "dump", log.read_text())
        os.close(ready)
        before = count(tmp_path)
        images = str(tmp_path / "images")
        pages = ["criu", "lazy-pages", "--page-server", "--address", "127.0.0.1", "--port", "27277", "-D", images]
        with subprocess.Popen([*pages, "-W", images], stdin=null, stdout=null, stderr=null) as daemon:
            # The first half still has the container: this is another.
            other = runtime.new_id()
            more = ("--lazy-pages", mode)
            done = quiet(
                runtime,
                "restore",
                "-d",
                "--image-path",
                images,
                "--work-path",
                images,
                "-b",
                str(box.path),
                *more,
                other,
            )
            assert done.code == 0, done.err
            assert half.wait(60) == 0
            assert daemon.wait(60) == 0
    assert goes_on(tmp_path, before + 1)
    assert runtime.state(other)["status"] == "running"
    assert runtime.call("state", name).code == 1


def test_podman_takes_a_container_elsewhere(box: Bundle, tmp_path: Path) -> None:
    """Checkpoint and restore in place; then by an archive, as another container on another root file system."""
    run = Path(tempfile.mkdtemp(prefix="pyrkt-test-"))  # podman's takes 50 characters
    places = ["--root", str(tmp_path / "root"), "--runroot", str(run), "--tmpdir", str(run / "tmp")]
    kinds = ["--storage-driver", "vfs", "--events-backend", "file", "--cgroup-manager", "cgroupfs"]

    def podman(*verb: str) -> str:
        command = ["podman", *places, *kinds, "--runtime", oci.LAUNCHER[0], *verb]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def counted(name: str, beyond: int) -> int:
        found = 0

        def more() -> bool:
            nonlocal found
            found = int(podman("exec", name, "cat", "/tmp/count").strip() or 0)
            return found > beyond

        assert oci.eventually(more, 30)
        return found

    archive, first, second = str(tmp_path / "box.tar"), "pyrkt-test-first", "pyrkt-test-second"
    subprocess.run(["tar", "-C", str(box.rootfs), "-cf", archive, "."], check=True)
    podman("import", archive, "box")
    script = "i=0; while true; do i=$((i+1)); echo $i > /tmp/count.new; mv /tmp/count.new /tmp/count; sleep 0.1; done"
    podman("run", "-d", "--name", first, "--network", "none", "box", "sh", "-c", script)
    try:
        seen = counted(first, 3)
        podman("container", "checkpoint", first)
        podman("container", "restore", first)
        seen = counted(first, seen)
        podman("container", "checkpoint", "--export", str(tmp_path / "export.tar.gz"), first)
        podman("rm", "--force", first)
        podman("container", "restore", "--import", str(tmp_path / "export.tar.gz"), "--name", second)
        counted(second, seen)
    finally:
        podman("rm", "--force", "--all", "--time", "0")
        shutil.rmtree(run, ignore_errors=True)
