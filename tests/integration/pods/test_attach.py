"""``pyrkt attach``: to streams and to terminals, by several at once, from scripts and from terminals."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import tty
from tests.support.oci import eventually
from tests.support.pods import app_supervisor, end, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.pods import Pyrkt

pytestmark = [pytest.mark.root, pytest.mark.peers]

STREAMS = ["--stdin=stream", "--stdout=stream", "--stderr=stream"]
TTY = ["--stdin=tty", "--stdout=tty", "--stderr=tty"]
SECONDS = 20


class Terminal:
    """A terminal in which a command runs."""

    def __init__(self, tool: Pyrkt, *words: str, rows: int = 30, columns: int = 70) -> None:
        self.master, outer = pty.openpty()
        tty.set_size(outer, rows, columns)
        self.before = termios.tcgetattr(outer)
        self.outer = outer
        self.process = subprocess.Popen(
            tool.argv(*words), stdin=outer, stdout=outer, stderr=outer, start_new_session=True
        )

    def until(self, word: bytes) -> bytes:
        seen, deadline = b"", time.monotonic() + SECONDS
        while word not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([self.master], [], [], 0.1)[0]:
                seen += os.read(self.master, 4096)
        return seen

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def end(self) -> int:
        try:
            code = self.process.wait(SECONDS)
            assert termios.tcgetattr(self.outer) == self.before  # as it was
            return code
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self.master)
            os.close(self.outer)


@pytest.fixture
def running(stored: Pyrkt, image: str) -> Iterator[Any]:
    """Starts pods that are gone after the test."""
    uuids = []

    def start(script: str, *flags: str) -> str:
        uuids.append(stored.detached(image, "--name=a", *flags, "--", "sh", "-c", script))
        return uuids[-1]

    yield start
    for uuid in uuids:
        stored.call("rm", "--force", uuid)


THERE = {
    "a": ([], ["stdout", "stderr"]),
    "b": (STREAMS, ["stdin", "stdout", "stderr"]),
    "c": (["--stdout=log"], ["stderr"]),
    "d": (["--stdout=log", "--stderr=null"], []),
    "e": (TTY, ["tty"]),
    "f": (["--stdin=tty", "--stderr=log"], ["tty"]),
    "g": (["--stdin=tty", "--stdout=tty", "--stderr=stream"], ["stderr", "tty"]),
}


@pytest.fixture(scope="module")
def seven(stored: Pyrkt, image: str) -> Iterator[str]:
    """A pod of seven apps, with streams of each kind."""
    words = [
        word
        for name, (flags, _) in THERE.items()
        for word in (image, f"--name={name}", *flags, "--", "sleep", "600", "---")
    ]
    uuid = stored.detached(*words)
    yield uuid
    stored.ok("rm", "--force", uuid)


@pytest.mark.parametrize(("app", "names"), [(app, names) for app, (_, names) in THERE.items()])
def test_what_there_is_is_listed(stored: Pyrkt, seven: str, app: str, names: list[str]) -> None:
    found = json.loads(stored.ok("attach", "--mode=list", f"--app={app}", seven))
    assert found["version"] == 1
    assert [target["name"] for target in found["targets"]] == names
    path = str(stored.directory(seven) / f"apps/{app}/attach")
    assert all((target["domain"], target["address"]) == ("unixpacket", path) for target in found["targets"])


@pytest.mark.parametrize(
    ("app", "mode", "text", "hint"),
    [
        ("a", "stdin", "has no stdin to attach to", "--stdin=stream"),
        ("a", "stdin,stdout", "has no stdin to attach to", "--stdin=stream"),
        ("a", "tty", "has no tty-in, tty-out to attach to", "--stdin=tty"),
        ("b", "tty-out", "has no tty-out to attach to", "--stdout=tty"),
        ("c", "stdout", "has no stdout to attach to", "--stdout=stream"),
        ("a", "stdio", "'stdio' is none of", ""),
        ("a", "stdout,tty", "'stdout,tty' is none of", ""),
        ("", "auto", "several apps: a, b, c", "--app=NAME"),
    ],
)
def test_what_cannot_be(stored: Pyrkt, seven: str, app: str, mode: str, text: str, hint: str) -> None:
    answer = stored.call("attach", f"--mode={mode}", *([f"--app={app}"] if app else []), seven)
    assert answer.code == 2
    assert text in answer.err
    assert hint in answer.err


def test_a_conversation_by_streams(stored: Pyrkt, running: Any) -> None:
    uuid = running('[ -t 0 ] || echo no terminal; while read x; do echo "out $x"; echo "err $x" >&2; done', *STREAMS)
    process = stored.popen("attach", uuid, stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(b"one\n")
    process.stdin.flush()
    assert wait_for(process, b"out one\n").endswith(b"out one\n")
    process.stdin.write(b"two\n")
    process.stdin.close()  # is the end of the app's input
    assert wait_for(process, b"two\n") == b"out two\n"
    assert end_keeping(process) == b"err one\nerr two\n"
    assert stored.ok("logs", "-n3", "--stream=stdout", uuid) == "no terminal\nout one\nout two\n"


def end_keeping(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stderr is not None
    said = process.stderr.read()
    assert end(process) == 0
    return said


def test_several_read_and_one_dies(stored: Pyrkt, running: Any) -> None:
    script = "read x; head -c 20000000 /dev/urandom >/tmp/blob; sha256sum </tmp/blob >&2; cat /tmp/blob"
    uuid = running(script, *STREAMS, "--memory=256Mi")
    files = [stored.base / f"reader{number}" for number in range(2)]
    readers = []
    for file in files:
        with file.open("wb") as out:
            readers.append(stored.popen("attach", "--mode=stdout", uuid, stdout=out))
    dying = stored.popen("attach", "--mode=stdout", uuid)  # its pipe fills, and nobody reads
    writer = stored.popen("attach", "--mode=stdin,stderr", uuid, stdin=subprocess.PIPE)
    assert attached(stored, uuid, 4)
    assert writer.stdin is not None
    writer.stdin.write(b"go\n")
    writer.stdin.flush()
    time.sleep(0.2)
    dying.send_signal(signal.SIGKILL)
    end(dying)
    assert [end(reader, 60) for reader in readers] == [0, 0]
    wanted = end_keeping(writer).split()[0].decode()
    for file in files:
        assert hashlib.sha256(file.read_bytes()).hexdigest() == wanted
        file.unlink()


def attached(stored: Pyrkt, uuid: str, count: int) -> bool:
    """Wait until so many are attached to a pod's app: each is a socket of its supervisor's, beside its own."""
    folder = f"/proc/{app_supervisor(stored, uuid, 'a')}/fd"

    def sockets() -> int:
        found = 0
        for name in os.listdir(folder):
            try:
                found += os.readlink(f"{folder}/{name}").startswith("socket:")
            except FileNotFoundError:
                continue
        return found

    return eventually(lambda: sockets() >= 1 + count, SECONDS)


def test_one_that_does_not_read_is_let_go(stored: Pyrkt, running: Any) -> None:
    uuid = running("read x; head -c 3000000 /dev/zero; echo done >&2; sleep 600", *STREAMS)
    stuck = stored.popen("attach", uuid, stdin=subprocess.PIPE)
    assert stuck.stdin is not None
    stuck.stdin.write(b"go\n")
    stuck.stdin.flush()
    # nobody reads its output; the app goes on all the same
    follower = stored.popen("logs", "-f", "--stream=stderr", uuid, stderr=subprocess.STDOUT)
    wait_for(follower, b"done\n")
    follower.kill()
    end(follower)
    out, err = stuck.communicate(timeout=SECONDS)
    assert stuck.returncode == 1
    assert len(out) < 3_000_000
    assert b"has let us go" in err


def test_one_types_at_a_time(stored: Pyrkt, running: Any) -> None:
    uuid = running("echo ready >&2; while read x; do echo $x; done", *STREAMS)
    first = stored.popen("attach", uuid, stdin=subprocess.PIPE)
    assert first.stdin is not None
    first.stdin.write(b"hello\n")
    first.stdin.flush()
    wait_for(first, b"hello\n")
    answer = stored.call("attach", "--mode=stdin", uuid, input="x\n", stdin=None)
    assert (answer.code, "somebody else types to the app a" in answer.err) == (75, True)
    second = stored.popen("attach", uuid, stdin=subprocess.PIPE)  # auto: takes what there is
    assert second.stderr is not None
    assert b"this only shows what it writes" in second.stderr.readline()
    first.stdin.write(b"again\n")
    first.stdin.flush()
    wait_for(second, b"again\n")
    first.stdin.close()
    assert end(first) == 0
    assert end(second) == 0


def test_input_of_a_service_is_none(stored: Pyrkt, running: Any) -> None:
    uuid = running("while read x; do echo $x; done; echo closed; sleep 600", *STREAMS)
    process = stored.popen("attach", uuid, stdin=subprocess.DEVNULL)
    assert attached(stored, uuid, 1)
    other = stored.popen("attach", "--mode=stdin", uuid, stdin=subprocess.PIPE)  # the first one has not taken it
    assert other.stdin is not None
    other.stdin.write(b"still open\n")
    other.stdin.flush()
    assert wait_for(process, b"still open\n") == b"still open\n"
    other.stdin.close()
    assert wait_for(process, b"closed\n") == b"closed\n"
    stored.ok("stop", "--force", uuid)
    assert end(process) in {0, 1}
    end(other)


def test_a_terminal_that_is_left_and_found_again(stored: Pyrkt, running: Any) -> None:
    script = "trap 'stty size' WINCH; tty; stty size; while :; do read x && echo \"<$x>\"; done"
    uuid = running(script, *TTY)
    first = Terminal(stored, "attach", uuid)
    first.until(b"30 70\r\n")  # the app's window is ours
    first.type(b"hello\r")
    first.until(b"<hello>\r\n")
    tty.set_size(first.outer, 40, 100)
    os.killpg(first.process.pid, signal.SIGWINCH)
    first.until(b"40 100\r\n")
    first.type(b"\x10\x11")  # ctrl-p ctrl-q
    assert first.end() == 0
    assert stored.pod(uuid)["state"] == "running"
    second = Terminal(stored, "attach", "--mode=tty", uuid, rows=11, columns=22)
    second.until(b"11 22\r\n")
    second.type(b"\x10x\r")  # a lone ctrl-p is the app's
    second.until(b"x>\r\n")
    second.type(b"\x03")  # to the app, not to us
    assert second.end() == 0
    assert "app-a=130" in stored.ok("status", "--wait", uuid)
    assert b"/dev/pts/0\r\n" in subprocess.run(stored.argv("logs", uuid), capture_output=True, check=True).stdout


def test_halves_of_a_terminal(stored: Pyrkt, running: Any) -> None:
    uuid = running('stty -echo; echo ready; while read x; do echo "<$x>"; done; echo bye', *TTY)
    reader = stored.popen("attach", "--mode=tty-out", uuid)
    writer = stored.popen("attach", "--mode=tty-in", uuid, stdin=subprocess.PIPE)
    assert writer.stdin is not None
    deadline = time.monotonic() + SECONDS
    while "ready" not in stored.ok("logs", uuid):
        assert time.monotonic() < deadline
    assert reader.stdout is not None
    # What was said before the reader had come is not for it.
    while not select.select([reader.stdout], [], [], 0.3)[0]:
        assert time.monotonic() < deadline
        writer.stdin.write(b"to you\n")
        writer.stdin.flush()
    assert b"<to you>\r\n" in wait_for(reader, b"<to you>\r\n")
    writer.stdin.close()  # as ctrl-d
    wait_for(reader, b"bye\r\n")
    assert (end(reader), end(writer)) == (0, 0)


def test_the_app_ends_and_so_do_we(stored: Pyrkt, running: Any) -> None:
    uuid = running("read x; echo $x; exit 9", *STREAMS)
    process = stored.popen("attach", uuid, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(b"last\n")
    process.stdin.flush()
    assert wait_for(process, b"last\n") == b"last\n"
    assert end(process) == 0
    assert "app-a=9" in stored.ok("status", "--wait", uuid)
    answer = stored.call("attach", uuid)
    assert (answer.code, "the app a does not run" in answer.err) == (66, True)
    assert not (stored.directory(uuid) / "apps/a/attach").exists()


def test_a_restarted_app_is_attached_to_anew(stored: Pyrkt, running: Any) -> None:
    uuid = running("read x; echo life $x; exit 1", *STREAMS, "--restart=on-failure:1", "--restart-delay=10ms")
    for life in (b"one", b"two"):
        deadline = time.monotonic() + SECONDS
        while stored.call("attach", "--mode=list", uuid).code:
            assert time.monotonic() < deadline
        process = stored.popen("attach", uuid, stdin=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(life + b"\n")
        process.stdin.flush()
        assert wait_for(process, b"life " + life + b"\n") == b"life " + life + b"\n"
        assert end(process) == 0
    assert stored.ok("logs", "-f", uuid) == "life one\nlife two\n"


def test_an_app_that_is_stopped_and_started_again(stored: Pyrkt, image: str) -> None:
    uuid = stored.ok("app", "sandbox").strip()
    stored.ok("app", "add", uuid, image, "--name=a", *STREAMS, "--", "sh", "-c", "read x; echo got $x; sleep 600")
    for word in (b"one", b"two"):
        stored.ok("app", "start", uuid, "--app=a")
        process = stored.popen("attach", uuid, stdin=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(word + b"\n")
        process.stdin.flush()
        assert wait_for(process, b"got " + word + b"\n") == b"got " + word + b"\n"
        follower = stored.popen("logs", "-f", "--app=a", uuid)
        wait_for(follower, b"got " + word + b"\n")
        stored.ok("app", "stop", uuid, "--app=a")
        assert (end(process), end(follower)) == (0, 0)
    assert stored.ok("logs", uuid) == "got one\ngot two\n"
    stored.ok("rm", "--force", uuid)


def test_a_prepared_pod_keeps_its_streams(stored: Pyrkt, image: str) -> None:
    uuid = stored.ok("prepare", "--log=none", image, "--name=a", "--stdin=stream", "--", "sh", "-c", "read x").strip()
    saved = stored.base / "run-prepared"
    with saved.open("w") as out:
        subprocess.run(
            stored.argv("run-prepared", "-d", uuid), stdin=subprocess.DEVNULL, stdout=out, check=True, timeout=SECONDS
        )
    found = json.loads(stored.ok("attach", "--mode=list", uuid))
    assert [target["name"] for target in found["targets"]] == ["stdin", "stdout", "stderr"]
    assert list((stored.directory(uuid) / "logs").iterdir()) == []
    assert stored.call("attach", uuid, input="go\n", stdin=None).code == 0
    assert "app-a=0" in stored.ok("status", "--wait", uuid)


def test_several_apps_on_a_terminal_have_their_names(stored: Pyrkt, image: str) -> None:
    words = [word for name in "ab" for word in (image, f"--name={name}", "--", "echo", f"by {name}", "---")]
    master, outer = pty.openpty()
    done = subprocess.run(
        stored.argv("run", *words), stdin=outer, stdout=outer, stderr=outer, timeout=SECONDS, check=False
    )
    os.close(outer)
    seen = os.read(master, 4096).decode().splitlines()
    os.close(master)
    assert done.returncode == 0
    assert sorted(re.sub(r"^\[\d+\.\d{3}\] (\w+)\[\d+\]: ", r"\1 says ", line) for line in seen) == [
        "a says by a",
        "b says by b",
    ]
    assert sorted(stored.ok("run", *words).splitlines()) == ["by a", "by b"]


def test_an_interactive_pod_is_logged_and_can_be_watched(stored: Pyrkt, image: str) -> None:
    here = Terminal(stored, "run", "--interactive", "--name=here", image, "--name=a", "--", "sh")
    here.type(b"stty size; echo ready$((1+1))\r")
    assert b"30 70" in here.until(b"ready2\r\n")
    watching = stored.popen("attach", "--mode=tty-out", "here")
    deadline = time.monotonic() + SECONDS
    seen = b""
    while b"seen7" not in seen:  # it may just be coming
        assert time.monotonic() < deadline
        here.type(b"echo seen$((3+4))\r")
        assert watching.stdout is not None
        if select.select([watching.stdout], [], [], 0.2)[0]:
            seen += os.read(watching.stdout.fileno(), 4096)
    here.type(b"exit 3\r")
    assert here.end() == 3
    assert end(watching) == 0
    assert "ready2" in stored.ok("logs", "here")
    stored.ok("rm", "here")
