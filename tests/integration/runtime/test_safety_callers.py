"""Callers, states and words that are not as they should be: one line, a code that is documented, and nothing left."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import hostile, oci

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root

PACKAGE = oci.ENTRY.parent.parent
NOBODY = 65534


def running(runtime: Runtime, box: Bundle) -> str:
    """Start the bundle in the background; return its id."""
    name = runtime.new_id()
    answer = runtime.detached("run", "-d", "-b", str(box.save().path), name)
    assert answer.code == 0, answer.err
    return name


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
@pytest.mark.parametrize("verb", ["run", "exec", "state", "list", "delete"])
def test_closed_standard_files(runtime: Runtime, box: Bundle, closed: str, verb: str) -> None:
    """F10: nothing of ours is opened as 0, 1 or 2, and so written to or handed on."""
    box.config["root"]["readonly"] = False
    look = "for d in /proc/self/fd/*; do readlink $d; done > /seen; true"
    words = {
        "run": lambda: ["run", "-b", str(box.script(look).path), runtime.new_id()],
        "exec": lambda: ["exec", running(runtime, box), "sh", "-c", look],
        "state": lambda: ["state", running(runtime, box)],
        "list": lambda: ["list"],
        "delete": lambda: ["delete", "-f", running(runtime, box)],
    }[verb]()
    script = f'exec "$@" {closed}'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *runtime.argv(*words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert b"Traceback" not in done.stderr
    assert done.returncode in (0, 1), done
    if verb in ("run", "exec"):
        assert done.returncode == 0, done
        seen = (box.rootfs / "seen").read_text().splitlines()
        odd = [line for line in seen if not line.startswith(("pipe:", "/dev/null", "/seen", "/proc/"))]
        assert not odd, seen


@pytest.mark.parametrize("verb", ["list", "state", "features", "--version"])
def test_nowhere_to_write_to(runtime: Runtime, box: Bundle, verb: str) -> None:
    """F10: a full device is an error, in one line, and no traceback."""
    words = [verb, running(runtime, box)] if verb == "state" else [verb]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            runtime.argv(*words), stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=30
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_a_state_root_that_takes_nothing(runtime: Runtime, box: Bundle, kind: str) -> None:
    """F4, F10: one line, nothing left; and it works once there is room."""
    runtime.root.mkdir(mode=0o700)
    options = "size=4k,nr_inodes=2,mode=700" if kind == "full" else "ro,mode=700"
    oci.shell(["mount", "-t", "tmpfs", "-o", options, "pyrkt-test", str(runtime.root)])
    try:
        for verb in ("run", "create"):
            answer = runtime.call(verb, "-b", str(box.runs("true").path), runtime.new_id())
            assert (answer.code, answer.err.count("\n")) == (1, 1), answer
            assert "Traceback" not in answer.err
            assert not oci.cgroups(runtime.ids[-1])
        assert os.listdir(runtime.root) == []
        assert runtime.call("list", "-q").out == ""
        oci.shell(["mount", "-o", "remount,rw,size=16m,nr_inodes=0", str(runtime.root)])
        assert runtime.run(box.path).code == 0
        runtime.clean()
    finally:
        oci.shell(["umount", "-l", str(runtime.root)])


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/shadow")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def device(path: Path) -> None:
    path.unlink()
    os.mknod(path, 0o20600, os.makedev(1, 5))


HARM: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "binary": lambda path: path.write_bytes(os.urandom(4096)),
    "deep": lambda path: path.write_bytes(b"[" * 100_000),
    "huge": lambda path: os.truncate(path, 200 << 20),
    "future": lambda path: path.write_text('{"format": 99, "pid": "x"}'),
    "types": lambda path: path.write_text('{"format": [], "id": 7, "pid": {"a": null}}'),
    "link": link,
    "fifo": fifo,
    "directory": directory,
    "device": device,
}


@pytest.mark.parametrize("file", ["state.json", "pid", "quick", "config.json"])
def test_a_state_that_lies(runtime: Runtime, box: Bundle, file: str) -> None:
    """F21: every verb ends at once, in one line at most; others are unaffected; and it can be deleted."""
    other = running(runtime, box)
    process = runtime.state(other)["pid"]
    for harm, do in HARM.items():
        name = running(runtime, box)
        first = runtime.state(name)["pid"]
        path = runtime.root / name / file
        if not path.exists():
            pytest.fail(f"{file} is no part of a state any more")
        do(path)
        for words in (["state", name], ["kill", name, "0"], ["exec", name, "true"], ["ps", name], ["pause", name]):
            ended = hostile.call(runtime.argv(*words))
            assert ended.seconds < 10, (harm, words)
            assert ended.err.count(b"\n") <= 1, (harm, words, ended)
            assert b"Traceback" not in ended.err, (harm, words, ended)
            assert b"internal error" not in ended.err, (harm, words, ended)
            assert b"root:" not in ended.err + ended.out
        assert other in runtime.call("list", "-q").out
        ended = hostile.call(runtime.argv("delete", "--force", name))
        if harm == "directory":  # nothing of ours: somebody's, who may want it
            assert (ended.code, ended.err.count(b"\n")) == (1, 1), (harm, ended)
            path.rmdir()
            ended = hostile.call(runtime.argv("delete", "--force", name))
        assert (ended.code, ended.err.count(b"\n")) == (0, 0), (harm, ended)
        assert not (runtime.root / name).exists(), harm
        if file == "state.json" and not oci.ended(first, 0.1):  # which alone says what its cgroups are
            end(first, name)
        assert no_cgroups(name), harm
    assert runtime.state(other)["status"] == "running"
    assert Path(f"/proc/{process}").exists()


def no_cgroups(name: str) -> bool:
    return oci.eventually(lambda: not oci.cgroups(name))


def is_empty(cgroup: Path) -> bool:
    return oci.eventually(lambda: not (cgroup / "cgroup.procs").read_text())


def end(pid: int, name: str) -> None:
    """Do by hand what nobody can know any more."""
    oci.kill(pid)
    assert oci.ended(pid)
    for directory in oci.cgroups(name):
        assert is_empty(Path(directory))
        Path(directory).rmdir()


def test_nobody_looks_below_the_state_root(runtime: Runtime, box: Bundle) -> None:
    """R20, CVE-2021-41091."""
    name = running(runtime, box)
    for mode in (0o711, 0o755):
        runtime.root.parent.chmod(mode)
    for path in (runtime.root, runtime.root / name, runtime.root / name / "state.json"):
        done = subprocess.run(["ls", "-l", str(path)], user=NOBODY, group=NOBODY, capture_output=True, check=False)
        assert done.returncode
    assert runtime.root.stat().st_mode & 0o077 == 0


# what commands are given


LONG = "x" * 100_000
WORDS = {
    "exec-cgroup": [
        *(["exec", "--cgroup", value, "NAME", "true"] for value in ("..", "/../..", "a\nb", "a\0"[:1] + "\x01", LONG)),
        *(
            ["exec", "--cgroup", value, "NAME", "true"]
            for value in ("nosuch:/", "memory:..", "memory,cpu:/../x", ":", "a:b:c")
        ),
    ],
    "update-flags": [
        *(
            ["update", "--memory", value, "NAME"]
            for value in ("-2", "1e9", "9" * 40, "", " 1", "1_0", "\u0663", "0x10")
        ),
        *(["update", "--cpuset-cpus", value, "NAME"] for value in ("0-", "99999999999", "0\n1", "a", LONG)),
        *(["update", "--pids-limit", value, "NAME"] for value in ("9" * 30, "x", "1.5")),
        *(["update", "--cpu-quota", value, "NAME"] for value in ("9" * 30, "1", "x")),
        *(["update", "--blkio-weight", value, "NAME"] for value in ("5", "99999", "-1")),
        ["update", "--resources", "/no/such", "NAME"],
        ["update", "--resources", "FIFO", "NAME"],
        ["update", "--resources", "/etc", "NAME"],
        ["update", "--resources", "/dev/zero", "NAME"],
    ],
    "events": [
        *(["events", "--interval", value, "NAME"] for value in ("-1s", "0", "x", "9" * 40 + "s", "1e999s", "")),
        ["events", "--stats", "../NAME"],
    ],
    "exec": [
        *(["exec", "--env", value, "NAME", "true"] for value in ("=x", "a")),
        *(["exec", "--cap", value, "NAME", "true"] for value in ("CAP_\x1b[31m", LONG)),
        *(
            ["exec", "--preserve-fds", value, "NAME", "true"]
            for value in ("-1", "99999999999999999999", "x", "1000000")
        ),
        *(["exec", "--process", value, "NAME"] for value in ("FIFO", "/etc", "/dev/zero", "/etc/shadow", "/no/such")),
        *(["exec", "--console-socket", value, "-t", "NAME", "true"] for value in ("FIFO", "/no/such", "/etc", LONG)),
        *(["exec", "--pid-file", value, "NAME", "true"] for value in ("/etc", "/no/such/x", "/dev/full/x")),
    ],
    "kill": [["kill", "NAME", value] for value in ("-1", "0x9", "9" * 30, "SIG", "65", "\u0669", "RTMIN+99", "")],
}


@pytest.mark.parametrize("words", WORDS)
def test_words_that_make_no_sense(runtime: Runtime, box: Bundle, tmp_path: Path, words: str) -> None:
    """One line, at once, and the container is as it was. No word is longer than one a kernel passes on."""
    name = running(runtime, box)
    os.mkfifo(tmp_path / "fifo")
    limits = limits_of(name)
    said = {"NAME": name, "FIFO": str(tmp_path / "fifo")}
    for line in WORDS[words]:
        ended = hostile.call(runtime.argv(*(said.get(word, word) for word in line)))
        shown = [word[:40] for word in line]
        assert ended.seconds < 10, shown
        assert ended.err.count(b"\n") <= 1, (shown, ended)
        assert ended.err.decode().removesuffix("\n").isprintable(), (shown, ended)
        assert len(ended.err) < 4000, shown
        assert b"Traceback" not in ended.err, (shown, ended)
        assert b"internal error" not in ended.err, (shown, ended)
        assert ended.code in (0, 1, 2, 255), (shown, ended)
        assert ended.code == 0 or ended.err, shown
        assert runtime.state(name)["status"] == "running", shown
    assert limits_of(name) == limits


def limits_of(name: str) -> dict[str, str]:
    """Return memory and pids limits of a container, in whatever hierarchy they are."""
    found = {}
    for directory in oci.cgroups(name):
        for file in ("memory.limit_in_bytes", "memory.max", "pids.max", "cpu.cfs_quota_us", "cpuset.cpus"):
            path = Path(directory) / file
            if path.exists():
                found[str(path)] = path.read_text()
    assert found
    return found


RESOURCES = (
    b"",
    b"null",
    b"[]",
    b"7",
    b"{",
    b"[" * 50_000,
    b'{"memory":' * 5000,
    b'{"memory":{"limit":"1"}}',
    b'{"memory":{"limit":1e400}}',
    b'{"memory":{"limit":1.5}}',
    b'{"memory":{"limit":-99}}',
    b'{"memory":{"limit":%s}}' % (b"9" * 5000),
    b'{"memory":{"limit":1,"limit":2}}',
    b'{"memory":[]}',
    b'{"cpu":{"cpus":"0\\n1"}}',
    b'{"cpu":{"cpus":"\\u0000"}}',
    b'{"cpu":{"shares":true}}',
    b'{"pids":{"limit":9223372036854775808}}',
    b'{"pids":7}',
    b'{"blockIO":{"weightDevice":[{"major":-1,"minor":0,"weight":100}]}}',
    b'{"blockIO":{"throttleReadBpsDevice":[{"major":1,"minor":18446744073709551616,"rate":1}]}}',
    b'{"hugepageLimits":[{"pageSize":"../../x","limit":1}]}',
    b'{"unified":{"../cgroup.procs":"1"}}',
    b'{"unified":{"cgroup.procs":"999999999"}}',  # no process has that number
    b'{"unified":{"a\\u0000b":"1"}}',
    b'{"network":{"priorities":[{"name":"lo\\n","priority":1}]}}',
    b'{"rdma":{"../x":{"hcaHandles":1}}}',
    b"\xff\xfe{}",
    b'{"memory":{"limit":1}} {}',
)


def test_resources_that_make_no_sense(runtime: Runtime, box: Bundle) -> None:
    """What "update --resources -" reads is refused whole, in one line, and changes nothing."""
    name = running(runtime, box)
    limits = limits_of(name)
    for data in RESOURCES:
        done = subprocess.run(
            runtime.argv("update", "--resources", "-", name), input=data, capture_output=True, check=False, timeout=20
        )
        assert b"Traceback" not in done.stderr, (data[:80], done)
        assert b"internal error" not in done.stderr, (data[:80], done)
        assert (done.returncode, done.stderr.count(b"\n")) == (1, 1), (data[:80], done)
        assert done.stderr.decode().removesuffix("\n").isprintable(), (data[:80], done)
    assert limits_of(name) == limits
    assert runtime.state(name)["status"] == "running"
