"""STREAMS: what a program writes goes to the log, to our own stdout and to those who attach, byte for byte."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from pyrkt.spec import steps as s
from tests.support import handmade as hand
from tests.support.handmade import B, C, Step
from tests.support.oci import eventually
from tests.support.stage1 import SECONDS, failure_of, run, said, started

pytestmark = pytest.mark.root

STDIN_NULL, STDIN_PIPE, STDIN_TTY = 1, 2, 3
LOGGED, PASSED, SERVED, TTY = 1, 2, 4, 8
STDIN, STDOUT, STDERR, TTY_IN, TTY_OUT = 1, 2, 4, 8, 16
LINE = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (stdout|stderr) ([FP])((?::lost)?) (.*)", re.DOTALL)


def modes(stdin: int = 0, out: int = LOGGED | PASSED, err: int = LOGGED | PASSED, terminal: int = 0) -> int:
    return stdin | terminal << 4 | out << 8 | err << 12


def streams(
    log: object, mode: int, attach: object = "", *, most: int = 1 << 20, files: int = 3, name: str = ""
) -> tuple[Step, Step]:
    return (s.STREAMS, B, log, most, files, mode, attach, name, b""), (s.STREAM_ENDS, C)


def plan(
    rootfs: Path, script: str, made: tuple[Step, Step], *, terminal: bool = False, inside: tuple[Step, ...] = ()
) -> list[Step]:
    screen: tuple[Step, ...] = ((s.TERMINAL, C, 0, 0, "", 0),) if terminal else ()
    first, last = made
    return hand.container(rootfs, "/bin/sh", "-c", script, before=(first,), inside=(*inside, *screen, last))


def lines(*files: Path) -> list[tuple[str, str, bytes]]:
    found = []
    for file in files:
        data = file.read_bytes()
        assert data.endswith(b"\n") or not data
        for line in data.split(b"\n")[:-1]:
            match = LINE.fullmatch(line)
            assert match, line
            found.append((match[2].decode(), (match[3] + match[4]).decode(), match[5]))
    return found


def text(*files: Path, stream: str = "stdout") -> bytes:
    return b"".join(data + b"\n" * (tag == "F") for name, tag, data in lines(*files) if name == stream)


def logged(log: Path, word: bytes = b"\n") -> bool:
    return eventually(lambda: log.exists() and word in log.read_bytes(), SECONDS)


class Reader:
    """One who attaches."""

    def __init__(self, path: Path, wanted: int) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(SECONDS)
        directory = os.open(path.parent, os.O_PATH)
        # it has its name a moment before it listens
        assert eventually(lambda: self.socket.connect_ex(f"/proc/self/fd/{directory}/{path.name}") == 0)
        os.close(directory)
        self.socket.send(b"a" + bytes([wanted]))
        answer = self.socket.recv(65536)
        assert answer[:1] == b"a"
        self.there, self.given = answer[1], answer[2]

    def until(self, word: bytes) -> bytes:
        seen = b""
        while word not in seen:
            message = self.socket.recv(65536)
            assert message, seen
            seen += message[1:]
        return seen

    def rest(self) -> dict[str, bytes]:
        """Return what comes up to the end, by kind."""
        found: dict[str, bytes] = {}
        while message := self.socket.recv(65536):
            kind = chr(message[0])
            found[kind] = found.get(kind, b"") + message[1:]
        self.socket.close()
        return found


def test_output_is_passed_on_and_logged(rootfs: Path, tmp_path: Path) -> None:
    made = streams(tmp_path / "log", modes())
    done = run(plan(rootfs, "echo one; echo two >&2; printf three; exit 7", made))
    assert (done.returncode, done.stdout, done.stderr) == (7, "one\nthree", "two\n")
    found = lines(tmp_path / "log")
    assert sorted(found) == [("stderr", "F", b"two"), ("stdout", "F", b"one"), ("stdout", "P", b"three")]
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_times_are_of_now_and_grow(rootfs: Path, tmp_path: Path) -> None:
    before = time.time()
    run(plan(rootfs, "for i in 1 2 3; do echo $i; sleep 0.01; done", streams(tmp_path / "log", modes())))
    stamps = [line.split()[0].decode() for line in (tmp_path / "log").read_bytes().splitlines()]
    assert stamps == sorted(stamps)
    assert len(stamps) == 3
    assert time.strftime("%Y-%m-%dT%H:%M", time.gmtime(before)) <= stamps[0][:16]
    assert stamps[-1][:19] <= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time()))


@pytest.mark.parametrize("size", [16383, 16384, 16385, 40000])
def test_long_lines_are_cut(rootfs: Path, tmp_path: Path, size: int) -> None:
    made = streams(tmp_path / "log", modes())
    done = run(plan(rootfs, f"head -c {size} /dev/zero; echo; echo next", made))
    assert done.stdout == "\0" * size + "\nnext\n"
    assert text(tmp_path / "log") == b"\0" * size + b"\nnext\n"
    assert all(len(data) <= 16384 for _, _, data in lines(tmp_path / "log"))
    assert [tag for _, tag, _ in lines(tmp_path / "log")] == ["P"] * (size // 16384) + ["F", "F"]


def test_binary_data_survives(rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    blob = os.urandom(3_000_000)
    (tmp_path / "data/blob").write_bytes(blob)
    inside = ((s.BIND, C, tmp_path / "data", "/srv", 0, 0, 0, 1),)
    made = streams(tmp_path / "log", modes(), most=64 << 20)
    with started(plan(rootfs, "cat /srv/blob", made, inside=inside)) as child:
        out, _ = child.communicate(timeout=SECONDS)
    assert hashlib.sha256(out).digest() == hashlib.sha256(blob).digest()
    assert text(tmp_path / "log") == blob


def test_files_are_rotated_and_bounded(rootfs: Path, tmp_path: Path) -> None:
    script = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line number $i; done"
    done = run(plan(rootfs, script, streams(tmp_path / "log", modes(), most=20_000, files=3)))
    whole = done.stdout.splitlines()
    assert len(whole) == 3000
    names = sorted(path.name for path in tmp_path.glob("log*"))
    assert names == ["log", "log.1", "log.2"]
    files = [tmp_path / name for name in ("log.2", "log.1", "log")]
    assert all(file.stat().st_size <= 20_000 for file in files)
    assert all(file.stat().st_size > 19_000 for file in files[:2])
    kept = text(*files).decode().splitlines()
    assert kept == whole[-len(kept) :]
    assert len(kept) > 600


def test_one_file_alone_is_begun_anew(rootfs: Path, tmp_path: Path) -> None:
    script = "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo line number $i; done"
    run(plan(rootfs, script, streams(tmp_path / "log", modes(), most=8192, files=1)))
    assert [path.name for path in tmp_path.glob("log*")] == ["log"]
    assert (tmp_path / "log").stat().st_size <= 8192
    assert text(tmp_path / "log").endswith(b"line number 1000\n")


def test_a_log_that_somebody_could_not_end_is_gone_on_with(rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"2026-01-02T03:04:05.123456789Z stdout F torn")
    run(plan(rootfs, "echo new", streams(tmp_path / "log", modes())))
    assert [data for _, _, data in lines(tmp_path / "log")] == [b"torn", b"new"]


def test_modes_of_nothing(rootfs: Path, tmp_path: Path) -> None:
    script = "cat; echo $(ls -l /proc/1/fd/1) >&2; echo gone"
    done = run(plan(rootfs, script, streams(tmp_path / "log", modes(STDIN_NULL, out=0))))
    assert done.stdout == ""
    assert done.stderr.endswith("/dev/null\n")
    assert [stream for stream, _, _ in lines(tmp_path / "log")] == ["stderr"]


def test_no_log_at_all(rootfs: Path) -> None:
    done = run(plan(rootfs, "echo out; echo err >&2", streams("", modes(out=PASSED, err=PASSED))))
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_a_log_that_cannot_be_made_is_said(rootfs: Path, tmp_path: Path) -> None:
    made = streams(tmp_path / "none/log", modes())
    assert "No such file" in said(failure_of(plan(rootfs, "true", made)))


def test_a_slow_reader_loses_nothing(rootfs: Path, tmp_path: Path) -> None:
    script = "head -c 1000000 /dev/zero; echo end >&2"
    with started(plan(rootfs, script, streams(tmp_path / "log", modes()))) as child:
        assert child.stdout is not None
        first = child.stdout.read(10)
        time.sleep(0.2)
        # it is blocked as by a pipe: what has come through is what fits into pipes and buffers
        assert (tmp_path / "log").stat().st_size < 400_000
        rest = child.stdout.read()
        assert len(first + rest) == 1_000_000
        assert child.wait(SECONDS) == 0
    assert len(text(tmp_path / "log")) == 1_000_000


def test_a_reader_that_is_gone_ends_the_program_as_a_pipe_would(rootfs: Path, tmp_path: Path) -> None:
    script = "while :; do echo y; done"
    flags = hand.SIX & ~hand.NEWPID  # the first process of a pid namespace ends by no signal of its own
    made = streams(tmp_path / "log", modes())
    words = [(s.CLONE, B, flags, -1) if step[0] == s.CLONE else step for step in plan(rootfs, script, made)]
    with started(words) as child:
        assert child.stdout is not None
        assert child.stdout.read(2) == b"y\n"
        child.stdout.close()
        assert child.wait(SECONDS) == 128 + signal.SIGPIPE


def test_a_reader_that_never_comes_does_not_keep_us_from_being_ended(rootfs: Path, tmp_path: Path) -> None:
    with started(plan(rootfs, "head -c 130000 /dev/zero", streams(tmp_path / "log", modes()))) as child:
        log = tmp_path / "log"
        assert eventually(lambda: log.exists() and log.stat().st_size > 60_000 and _childless(child.pid), SECONDS)
        child.send_signal(signal.SIGTERM)
        assert child.wait(SECONDS) == 0
    assert len(text(tmp_path / "log")) == 130000


def test_who_was_asked_to_end_does_not_wait_long_for_a_reader(rootfs: Path, tmp_path: Path) -> None:
    script = "trap 'head -c 60000 /dev/zero; exit 7' TERM; head -c 40000 /dev/zero; echo ready >&2; while :; do :; done"
    made = streams(tmp_path / "log", modes(err=LOGGED))
    with started(plan(rootfs, script, made)) as child:
        assert logged(tmp_path / "log", b"ready")
        child.send_signal(signal.SIGTERM)
        assert child.wait(SECONDS) == 7
    assert len(text(tmp_path / "log")) == 100000


def _childless(pid: int) -> bool:
    return not Path(f"/proc/{pid}/task/{pid}/children").read_text().strip()


def test_stdout_as_file_and_as_socket(rootfs: Path, tmp_path: Path) -> None:
    made = streams(tmp_path / "log", modes())
    with (tmp_path / "out").open("wb") as out:
        with started(plan(rootfs, "head -c 300000 /dev/zero; echo e >&2", made), stdout=out) as child:
            assert child.wait(SECONDS) == 0
        assert out.tell() == 300000  # the position is shared, as it is with a program's own
    ours, theirs = socket.socketpair()
    with started(plan(rootfs, "head -c 300000 /dev/zero", made), stdout=theirs) as child:
        theirs.close()
        got = 0
        while data := ours.recv(65536):
            got += len(data)
        assert child.wait(SECONDS) == 0
    ours.close()
    assert got == 300000


def test_a_descriptor_of_others_stays_blocking(rootfs: Path, tmp_path: Path) -> None:
    read, write = os.pipe()
    with started(plan(rootfs, "echo x", streams(tmp_path / "log", modes())), stdout=write) as child:
        assert child.wait(SECONDS) == 0
        assert os.get_blocking(write)
    os.close(write)
    assert os.read(read, 10) == b"x\n"
    os.close(read)


def test_what_a_grandchild_holds_open_does_not_keep_us(rootfs: Path, tmp_path: Path) -> None:
    script = "sleep 30 & echo $!"
    flags = hand.SIX & ~hand.NEWPID
    made = streams(tmp_path / "log", modes())
    words = [(s.CLONE, B, flags, -1) if step[0] == s.CLONE else step for step in plan(rootfs, script, made)]
    with started(words) as child:
        assert child.stdout is not None
        assert child.wait(SECONDS) == 0
        said = child.stdout.read()
    os.kill(int(said), signal.SIGKILL)
    assert text(tmp_path / "log") == said


def test_a_full_disk_costs_lines_and_says_so(rootfs: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", small], check=True)
    try:
        script = (
            "i=0; while [ $i -lt 6000 ]; do i=$((i+1)); echo line number $i of this; done;"
            "echo full >&2; read x; echo after; exit 3"
        )
        made = streams(small / "log", modes(out=LOGGED, err=PASSED), most=1 << 20, files=2)
        with started(plan(rootfs, script, made), stdin=subprocess.PIPE) as child:
            assert child.stderr is not None
            assert child.stdin is not None
            assert child.stderr.read(5) == b"full\n"
            assert eventually(lambda: len(data := (small / "log").read_bytes()) > 60_000 and data.endswith(b"\n"))
            os.truncate(small / "log", 0)
            child.stdin.write(b"\n")
            child.stdin.flush()
            assert child.wait(SECONDS) == 3
    finally:
        data = (small / "log").read_bytes()
        subprocess.run(["umount", small], check=True)
    found = [match for line in data.split(b"\n")[:-1] if (match := LINE.fullmatch(line))]
    lost = [match for match in found if match[4]]
    assert {(match[2], match[3] + match[4]) for match in lost} == {(b"stderr", b"F:lost")}
    assert {match[5].split()[1] for match in lost} == {b"28"}
    assert sum(int(match[5].split()[0]) for match in lost) > 1000
    assert found[-1][2] == b"stdout"
    assert found[-1][5] == b"after"


# --- the journal ---

AS_JOURNAL = (
    "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && ln -s {0} /run/systemd/journal/socket && exec"
)
FIELDS = b"SYSLOG_IDENTIFIER=app\nPYRKT_POD=x\n"


def with_journal(path: Path) -> tuple[str, ...]:
    """Return what runs a command where systemd's socket is the one at ``path``."""
    return ("unshare", "-m", "sh", "-c", AS_JOURNAL.format(path) + ' "$@"', "sh")


def entry(datagram: bytes) -> tuple[list[bytes], bytes]:
    """Return the fields of an entry, and its message."""
    head, _, rest = datagram.partition(b"\nMESSAGE\n")
    assert rest.endswith(b"\n")
    assert int.from_bytes(rest[:8], "little") == len(rest) - 9
    return head.split(b"\n"), rest[8:-1]


def test_the_journal_gets_the_same_lines(rootfs: Path, tmp_path: Path) -> None:
    first, last = streams(tmp_path / "log", modes(out=LOGGED, err=LOGGED))
    journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    journal.bind(str(tmp_path / "j"))
    words = plan(rootfs, r"echo one; printf '\377\n' >&2; printf rest", ((*first[:-1], FIELDS), last))
    done = run(words, wrapper=with_journal(tmp_path / "j"))
    assert done.returncode == 0
    found = sorted(entry(journal.recv(65536)) for _ in range(3))
    journal.close()
    common = [b"SYSLOG_IDENTIFIER=app", b"PYRKT_POD=x"]
    assert found == [
        ([*common, b"PRIORITY=3", b"PYRKT_STREAM=stderr"], b"\xff"),
        ([*common, b"PRIORITY=6", b"PYRKT_PARTIAL=1", b"PYRKT_STREAM=stdout"], b"rest"),
        ([*common, b"PRIORITY=6", b"PYRKT_STREAM=stdout"], b"one"),
    ]
    assert len(lines(tmp_path / "log")) == 3


def test_a_journal_that_stands_still_or_is_not_there_holds_nobody_up(rootfs: Path, tmp_path: Path) -> None:
    first, last = streams(tmp_path / "log", modes())
    words = plan(rootfs, "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; done", ((*first[:-1], FIELDS), last))
    journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    journal.bind(str(tmp_path / "j"))
    assert run(words, wrapper=with_journal(tmp_path / "j")).returncode == 0
    assert run(words, wrapper=with_journal(tmp_path / "none")).returncode == 0
    journal.close()
    assert len(lines(tmp_path / "log")) == 6000


# --- those who attach ---


def test_what_there_is_to_attach_to(rootfs: Path, tmp_path: Path) -> None:
    made = streams(tmp_path / "log", modes(STDIN_PIPE, LOGGED | SERVED, LOGGED), tmp_path / "attach")
    with started(plan(rootfs, "read x", made)) as child:
        assert eventually((tmp_path / "attach").exists)
        assert (tmp_path / "attach").stat().st_mode & 0o777 == 0o600
        first = Reader(tmp_path / "attach", 0)
        assert first.there == STDIN | STDOUT
        reader = Reader(tmp_path / "attach", STDIN | STDOUT | STDERR)
        assert reader.given == STDIN | STDOUT
        second = Reader(tmp_path / "attach", STDIN | STDOUT)
        assert second.given == STDOUT  # one types at a time
        reader.socket.send(b"ihello\n")
        assert child.wait(SECONDS) == 0
        assert reader.rest() == second.rest() == {"x": b""}
        first.socket.close()
    assert not (tmp_path / "attach").exists()


def test_several_readers_get_all_from_now_on(rootfs: Path, tmp_path: Path) -> None:
    script = "echo before; read x; head -c 2000000 /dev/zero; echo err >&2"
    made = streams(tmp_path / "log", modes(STDIN_PIPE, LOGGED | SERVED, SERVED), tmp_path / "attach", most=4 << 20)
    with started(plan(rootfs, script, made)) as child:
        assert logged(tmp_path / "log")
        one, two = Reader(tmp_path / "attach", STDOUT | STDERR), Reader(tmp_path / "attach", STDIN | STDOUT)
        dying = Reader(tmp_path / "attach", STDOUT)
        stuck = Reader(tmp_path / "attach", STDOUT)
        dying.socket.close()
        two.socket.send(b"i\n")
        # they read in turn, as two programs would: one that waits is waited for
        found = {one: b"", two: b""}
        while any(len(data) < 2_000_000 for data in found.values()):
            for reader, so_far in list(found.items()):
                if len(so_far) < 2_000_000:
                    message = reader.socket.recv(65536)
                    if message[:1] == b"o":
                        found[reader] += message[1:]
                    else:
                        assert (reader, message) == (one, b"eerr\n")
        assert child.wait(SECONDS) == 0
        assert "x" in one.rest()
        assert two.rest() == {"x": b""}
        assert "x" not in stuck.rest()  # dropped
        assert found[one] == found[two] == b"\0" * 2_000_000


def test_input_comes_through_and_ends(rootfs: Path, tmp_path: Path) -> None:
    made = streams(tmp_path / "log", modes(STDIN_PIPE, LOGGED, LOGGED), tmp_path / "attach", most=16 << 20)
    data = os.urandom(500_000)
    with started(plan(rootfs, "cat; echo end", made)) as child:
        assert eventually((tmp_path / "attach").exists)
        writer = Reader(tmp_path / "attach", STDIN)
        for at in range(0, 300_000, 4096):
            writer.socket.send(b"i" + data[at : min(at + 4096, 300_000)])
        writer.socket.close()  # that it is gone does not end the input: another may go on
        writer = Reader(tmp_path / "attach", STDIN)
        while not writer.given:
            writer.socket.close()
            writer = Reader(tmp_path / "attach", STDIN)
        for at in range(300_000, len(data), 4000):
            writer.socket.send(b"i" + data[at : at + 4000])
        writer.socket.send(b"c")
        assert child.wait(SECONDS) == 0
        writer.socket.close()
    assert text(tmp_path / "log") == data + b"end\n"


def test_a_terminal_to_attach_to(rootfs: Path, tmp_path: Path) -> None:
    script = "tty; trap 'stty size' WINCH; echo ready; while ! read a; do :; done; echo \"<$a>\""
    made = streams(tmp_path / "log", modes(STDIN_TTY, TTY, TTY, LOGGED | SERVED), tmp_path / "attach")
    with started(plan(rootfs, script, made, terminal=True)) as child:
        assert logged(tmp_path / "log", b"ready")
        one, two = Reader(tmp_path / "attach", TTY_IN | TTY_OUT), Reader(tmp_path / "attach", TTY_OUT)
        assert (one.there, one.given) == (TTY_IN | TTY_OUT, TTY_IN | TTY_OUT)
        one.socket.send(b"w" + (33).to_bytes(2, "little") + (77).to_bytes(2, "little"))
        one.until(b"33 77")
        two.until(b"33 77")
        one.socket.send(b"ihello\r")
        assert b"<hello>\r\n" in one.rest()["t"]
        assert b"<hello>\r\n" in two.rest()["t"]
        assert child.wait(SECONDS) == 0
    assert b"/dev/pts/0\r\n" in text(tmp_path / "log")


def test_a_terminals_flood_arrives_whole(rootfs: Path, tmp_path: Path) -> None:
    mode = modes(STDIN_TTY, TTY, TTY, LOGGED | PASSED)
    done = run(plan(rootfs, "head -c 300000 /dev/zero; echo end", streams(tmp_path / "log", mode), terminal=True))
    assert done.stdout == "\0" * 300000 + "end\n"  # read as text
    assert text(tmp_path / "log") == b"\0" * 300000 + b"end\r\n"


def test_stderr_beside_a_terminal(rootfs: Path, tmp_path: Path) -> None:
    mode = modes(STDIN_TTY, TTY, LOGGED | PASSED, LOGGED)
    done = run(plan(rootfs, "tty; tty >&2; echo err >&2", streams(tmp_path / "log", mode), terminal=True))
    assert done.stderr == "/dev/pts/0\nerr\n"


@pytest.mark.parametrize(
    "message", [b"", b"i\n", b"w\1\0\1\0", b"a", b"zzz", b"c", b"i" + b"x" * 5000], ids=lambda value: repr(value[:3])
)
def test_who_talks_nonsense_is_dropped(rootfs: Path, tmp_path: Path, message: bytes) -> None:
    made = streams(tmp_path / "log", modes(STDIN_PIPE, LOGGED | SERVED, LOGGED), tmp_path / "attach")
    with started(plan(rootfs, "read x; echo $x", made)) as child:
        assert eventually((tmp_path / "attach").exists)
        good = Reader(tmp_path / "attach", STDIN)
        bad = Reader(tmp_path / "attach", 0)
        bad.socket.send(message)
        with pytest.raises((ConnectionResetError, AssertionError)):
            bad.until(b"never")
        bad.socket.close()
        good.socket.send(b"istill\n")
        assert child.wait(SECONDS) == 0
        good.socket.close()
    assert text(tmp_path / "log") == b"still\n"


def test_more_than_there_is_room_for_wait(rootfs: Path, tmp_path: Path) -> None:
    made = streams(tmp_path / "log", modes(STDIN_PIPE, LOGGED | SERVED, LOGGED), tmp_path / "attach")
    with started(plan(rootfs, "read x; echo bye", made)) as child:
        assert eventually((tmp_path / "attach").exists)
        readers = [Reader(tmp_path / "attach", STDOUT) for _ in range(16)]
        readers.pop().socket.close()
        readers.append(Reader(tmp_path / "attach", STDIN | STDOUT))
        readers[-1].socket.send(b"i\n")
        assert child.wait(SECONDS) == 0
        assert [reader.rest() for reader in readers] == [{"o": b"bye\n", "x": b""}] * 16


def test_lines_on_a_terminal_bear_the_name(rootfs: Path, tmp_path: Path) -> None:
    master, outer = os.openpty()
    script = "echo one; printf 'two\\nthr'; sleep 0.05; printf ee"
    made = streams(tmp_path / "log", modes(), name="app")
    with started(plan(rootfs, script, made), stdout=outer, stderr=outer) as child:
        assert child.wait(SECONDS) == 0
        os.close(outer)
        seen = os.read(master, 4096)
        words = [rb"\[\d+\.\d{3}\] app\[\d+\]: " + word + rb"\r\n" for word in (b"one", b"two", b"three")]
        assert re.fullmatch(b"".join(words), seen), seen
    os.close(master)
    made = streams(tmp_path / "log2", modes(), name="app")
    assert run(plan(rootfs, "echo one", made)).stdout == "one\n"  # no terminal: not a byte more


def test_a_failing_start_leaves_no_socket(rootfs: Path, tmp_path: Path) -> None:
    made = streams(tmp_path / "log", modes(), tmp_path / "attach")
    words = plan(rootfs, "true", made)
    at = next(index for index, step in enumerate(words) if step[0] == s.EXEC)
    words[at] = (s.EXEC, C, "/bin/nosuch", ("/bin/nosuch",), ())
    assert "No such file" in said(failure_of(words))
    assert not (tmp_path / "attach").exists()


def test_memory_is_little(rootfs: Path, tmp_path: Path) -> None:
    made = streams(tmp_path / "log", modes(STDIN_PIPE, LOGGED | SERVED, LOGGED), tmp_path / "attach", most=64 << 20)
    with started(plan(rootfs, "head -c 3000000 /dev/zero; echo done >&2; read x", made)) as child:
        assert logged(tmp_path / "log", b"done")
        rollup = Path(f"/proc/{child.pid}/smaps_rollup").read_text()
        pss = int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1])
        writer = Reader(tmp_path / "attach", STDIN)
        writer.socket.send(b"i\n")
        assert child.wait(SECONDS) == 0
        writer.socket.close()
    if "PYRKT_TEST_STAGE1" not in os.environ:
        assert pss <= 200, pss
    print("PSS KiB", pss)
