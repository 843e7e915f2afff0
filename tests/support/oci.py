"""``pyrkt-oci`` and its peers as a test calls them, and what is left on the host afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyrkt

ENTRY = Path(pyrkt.__file__).resolve().parent / "runtime/entry.py"
INTERPRETED = (sys.executable, "-I", "-S", str(ENTRY))
"""Without the launcher, which does some verbs itself."""
LAUNCHER = (str(Path(sys.prefix) / "bin/pyrkt-oci"),)
SECONDS = 30
WORD = f"pyrkt-test-{os.getpid()}-"
"""How the ids of this process' containers begin: other tests run beside these."""


@dataclass
class Answer:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass
class Runtime:
    """One OCI runtime with a state root of its own."""

    name: str
    command: tuple[str, ...]
    root: Path
    ids: list[str] = field(default_factory=list)

    def argv(self, *words: str) -> list[str]:
        """Return the command line of a verb."""
        return [*self.command, "--root", str(self.root), *words]

    def call(self, *words: str, **options: Any) -> Answer:
        """Run a verb to its end."""
        options.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(
            self.argv(*words), capture_output=True, text=True, timeout=SECONDS, check=False, **options
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def detached(self, *words: str, **options: Any) -> Answer:
        """Run a verb whose container outlives it: its output goes to files, for pipes would stay open."""
        out, err = self.root.parent / "out", self.root.parent / "err"
        with out.open("w") as stdout, err.open("w") as stderr:
            done = subprocess.run(
                self.argv(*words),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                timeout=SECONDS,
                check=False,
                **options,
            )
        return Answer(done.returncode, out.read_text(), err.read_text())

    def new_id(self) -> str:
        """Return an id nobody has used."""
        self.ids.append(WORD + uuid.uuid4().hex[:12])
        return self.ids[-1]

    def run(self, bundle: Path, *words: str, **options: Any) -> Answer:
        """Run a bundle in the foreground."""
        return self.call("run", *words, "--bundle", str(bundle), self.new_id(), **options)

    def state(self, name: str) -> dict[str, Any]:
        """Return the state of a container."""
        answer = self.call("state", name)
        assert answer.code == 0, answer.err
        found = json.loads(answer.out)
        assert isinstance(found, dict)
        return found

    def clean(self) -> None:
        """Delete every container of this runtime."""
        for name in self.ids:
            self.call("delete", "--force", name)


def ours(directory: Path, command: tuple[str, ...] = LAUNCHER) -> Runtime:
    """Return pyrkt-oci with its state below ``directory``."""
    return Runtime("pyrkt-oci", command, directory / "pyrkt-state")


def peer(name: str, directory: Path) -> Runtime:
    """Return ``runc`` or ``crun``; crun 1.8 refuses hybrid cgroups, so it sees none of version 2."""
    program = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    assert program, f"{name} is not installed: apt-get install {name}"
    if name == "crun" and Path("/sys/fs/cgroup/unified/cgroup.procs").exists():
        script = 'umount /sys/fs/cgroup/unified && exec "$0" "$@"'
        return Runtime(name, ("unshare", "-m", "sh", "-c", script, program), directory / f"{name}-state")
    return Runtime(name, (program,), directory / f"{name}-state")


def cgroups(word: str) -> list[str]:
    """Return every cgroup, in every hierarchy, with ``word`` in its path."""
    return [where for where, names, _ in os.walk("/sys/fs/cgroup") if word in where]


def mounts() -> list[str]:
    """Return the host's mount points."""
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def processes(word: str) -> list[int]:
    """Return the processes with ``word`` in their command line, this one apart."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if word.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def eventually(condition: Callable[[], object], seconds: float = 5.0) -> bool:
    """Wait until ``condition`` holds; tell whether it came to that."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@contextmanager
def nothing_left(below: Path, word: str = WORD) -> Iterator[None]:
    """Check that after the block no mount is new, and no cgroup has ``word`` in its path.

    Of the places for temporary things, where others mount too, only what is ``below`` counts.
    """

    def found() -> list[str]:
        return [where for where in mounts() if not where.startswith(("/tmp/", "/run/")) or str(below) in where]

    before = found()
    yield
    assert eventually(lambda: not cgroups(word)), cgroups(word)
    assert found() == before


def ended(process: subprocess.Popen[Any] | int, seconds: float = 5.0) -> bool:
    """Tell whether a process (not of ours) is gone, or a zombie, within ``seconds``."""
    pid = process if isinstance(process, int) else process.pid

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            return True

    return eventually(gone, seconds)


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to a process that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def status_fields(text: str) -> dict[str, str]:
    """Return /proc/PID/status as name -> text."""
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def shell(words: Sequence[str]) -> str:
    """Return what a host program prints."""
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=SECONDS).stdout
