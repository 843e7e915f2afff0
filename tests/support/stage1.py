"""Running plans made by hand on the real stage1."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from pyrkt.base.errors import StartFailed
from pyrkt.stage1 import launch
from tests.support import handmade as hand

SECONDS = 20
# scripts/stage1-test has these tests run a stage1 that was built with sanitizers.
BINARY = os.environ.get("PYRKT_TEST_STAGE1") or launch.binary()
START = f"import os; from pyrkt.stage1 import launch; launch.binary = lambda: {BINARY!r}"
LEAKS = "[os.dup2(os.open(name, os.O_RDONLY), number) for name, number in (('/', 7), ('/etc', 8))]"


def run(
    plan: list[hand.Step], *, timeout: float = SECONDS, wrapper: tuple[str, ...] = (), before: str = "pass"
) -> subprocess.CompletedProcess[str]:
    """Run ``plan`` in the foreground, as pyrkt run does; ``before`` is Python that the new process does first."""
    read, write = os.pipe()
    code = f"{START}; plan, members = eval(open({read}, 'rb').read()); {before}; launch.run(plan, members=members)"
    child = subprocess.Popen(
        [*wrapper, sys.executable, "-c", code],
        pass_fds=[read],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(read)
    with open(write, "wb") as pipe:
        pipe.write(literal(plan))
    try:
        out, err = child.communicate(timeout=timeout)
    except BaseException:
        child.kill()
        child.communicate()
        raise
    return subprocess.CompletedProcess(child.args, child.returncode, out, err)


def literal(plan: list[hand.Step]) -> bytes:
    """Return the bytes of ``plan``, and those of the apps if it is a pod's, as Python writes them."""
    return repr((hand.encode(plan), hand.members(plan))).encode()


def shell(rootfs: Path, script: str, inside: tuple[hand.Step, ...] = (), last: tuple[hand.Step, ...] = ()) -> str:
    """Return what ``script`` prints in a container; it must succeed."""
    done = run(hand.container(rootfs, "/bin/sh", "-c", script, inside=inside, last=last))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


class started:  # noqa: N801 - reads as a verb
    """A plan that runs in the foreground beside the test."""

    def __init__(self, plan: list[hand.Step], **options: object) -> None:
        read, write = os.pipe()
        code = f"{START}; plan, members = eval(open({read}, 'rb').read()); launch.run(plan, members=members)"
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        self.child = subprocess.Popen([sys.executable, "-c", code], pass_fds=[read], **streams)  # type: ignore[call-overload]
        os.close(read)
        with open(write, "wb") as pipe:
            pipe.write(literal(plan))

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self.child  # type: ignore[no-any-return]

    def __exit__(self, *_error: object) -> None:
        self.child.kill()
        self.child.wait()
        for stream in (self.child.stdin, self.child.stdout, self.child.stderr):
            if stream:
                stream.close()


def failure_of(plan: list[hand.Step]) -> Exception:
    """Return the error of a plan that must fail, with each step's index as its cause."""
    causes = tuple(f"step {index}" for index in range(len(plan)))
    with pytest.raises(StartFailed) as caught:
        launch.start(hand.encode(plan), causes, members=hand.members(plan))
    return caught.value


def said(error: Exception) -> str:
    assert isinstance(error, StartFailed)
    assert error.hint
    return error.message


class subreaper:  # noqa: N801 - a context, not a thing
    """Makes the test inherit what is orphaned below it, as conmon does."""

    def __enter__(self) -> None:
        from pyrkt.kernel import libc

        libc.call("prctl", 36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER

    def __exit__(self, *_error: object) -> None:
        from pyrkt.kernel import libc

        libc.call("prctl", 36, 0, 0, 0, 0)


def read_until(master: int, word: bytes) -> bytes:
    seen = b""
    while word not in seen:
        assert select.select([master], [], [], SECONDS)[0], seen
        seen += os.read(master, 4096)
    return seen


def cgroup2() -> Path:
    """Return where cgroup v2 is mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] == "cgroup2":
            return Path(before.split()[4])
    pytest.skip("no cgroup v2 is mounted here")
