"""checkpoint and restore by criu, on a kernel that the guest's criu knows."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import oci

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root

# Counts in memory and answers by files: what goes on after a restore goes on from where it was.
COUNTER = "i=0; while true; do i=$((i+1)); echo $i > /work/count.new; mv /work/count.new /work/count; sleep 0.05; done"


@pytest.fixture
def box(box: Bundle, tmp_path: Path) -> Bundle:
    """A bundle whose container counts, in a directory of the host."""
    (tmp_path / "work").mkdir()
    box.config["mounts"].append(
        {"destination": "/work", "type": "bind", "source": str(tmp_path / "work"), "options": ["rbind", "rw"]}
    )
    return box.script(COUNTER)


def count(tmp_path: Path) -> int:
    text = ""

    def there() -> bool:
        nonlocal text
        try:
            text = (tmp_path / "work/count").read_text()
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
    inside = runtime.call("exec", name, "sh", "-c", "hostname; cat /proc/1/cgroup; ls -l /dev/null; test -w /work")
    assert (inside.code, inside.out.splitlines()[0]) == (0, "box"), inside.err
    assert runtime.call("pause", name).code == 0
    assert runtime.state(name)["status"] == "paused"
    assert runtime.call("resume", name).code == 0
    assert runtime.call("kill", name, "KILL").code == 0
    assert oci.eventually(lambda: runtime.state(name)["status"] == "stopped")
