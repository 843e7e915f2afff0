"""A place for one engine: a directory, a mount namespace, a name for its cgroups; and that nothing of it stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import bundle, oci

STATES = (Path("/run/pyrkt-oci"), Path("/run/runc"))
"""Where runtimes keep their states when an engine (podman, buildah) names no root."""
CGROUPS = Path("/sys/fs/cgroup")
APPLETS = ("df", "cut", "grep", "hostname", "ln", "mkfifo", "nproc", "sort", "tail", "top", "touch", "unshare", "uniq")


class Place:
    """One engine's own directory, below which it keeps everything, and its cgroups' own name.

    Its mounts are made in a mount namespace that ``holder`` keeps: other tests look at the host's meanwhile.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self.cgroup = f"pyrkt-engine-{uuid.uuid4().hex[:12]}"
        self.parents = {self.cgroup, "conmon"}
        """The last parts of cgroups that are the engine's, not a container's."""
        script = ("unshare", "--mount", "--propagation=private", "sh", "-c", "echo; exec sleep infinity")
        self.holder = subprocess.Popen(script, stdout=subprocess.PIPE)
        assert self.holder.stdout is not None
        with self.holder.stdout as told:
            told.readline()

    def enter(self, *words: str) -> list[str]:
        """Return the command line that runs ``words`` here."""
        return ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", f"--wdns={self.base}", *words]

    def archive(self) -> Path:
        """Return the root file system of the tests' image as a tar file: busybox and some files to play with."""
        path = self.base / "rootfs.tar"
        if not path.exists():
            root = bundle.make_root(self.base / "image")
            for applet in APPLETS:
                (root / "bin" / applet).unlink(missing_ok=True)
                (root / "bin" / applet).symlink_to("busybox")
            (root / "tmp").chmod(0o1777)
            (root / "etc/group").write_text("root:x:0:\nuser:x:1000:\n")
            (root / "var/data").mkdir()
            (root / "var/data/file").write_text("of the image\n")
            subprocess.run(["tar", "-C", root, "-cf", path, "."], check=True)
            shutil.rmtree(root)
        return path

    def containers_cgroups(self) -> list[str]:
        """Return the cgroups of this place that belong to containers: the engine's own are not among them."""
        return [path for path in oci.cgroups(self.cgroup) if Path(path).name not in self.parents]

    def states(self) -> list[str]:
        """Return the states that runtimes still keep of containers of this place."""
        found = []
        for root in STATES:
            for file in (*root.glob("*/state.json"), *root.glob("*/config.json")):
                try:
                    text = file.read_text()
                except OSError:
                    continue  # somebody else's, which went meanwhile
                if str(self.base) in text:
                    found.append(str(file))
        return found

    def mounts(self) -> list[str]:
        """Return the mount points below this place's directory."""
        lines = Path(f"/proc/{self.holder.pid}/mountinfo").read_text().splitlines()
        return [target for target in (line.split()[4] for line in lines) if target.startswith(f"{self.base}/")]

    def processes(self) -> list[int]:
        """Return the processes that name this place's directory, or are in one of its cgroups."""
        found = set(oci.processes(str(self.base)))
        for directory in oci.cgroups(self.cgroup):
            try:
                found.update(map(int, Path(directory, "cgroup.procs").read_text().split()))
            except OSError:
                continue
        return sorted(found)

    def leftovers(self) -> dict[str, object]:
        """Return what is there still, by kind; nothing when all is well."""
        found = {
            "cgroups": self.containers_cgroups(),
            "states": self.states(),
            "mounts": self.mounts(),
            "processes": self.processes(),
        }
        return {what: seen for what, seen in found.items() if seen}

    def sweep(self) -> None:
        """Remove the cgroups that the engine makes for itself: it leaves them for its next start.

        Where a controller is not mounted, podman makes plain directories and writes its numbers to plain files.
        """
        mounted = set(oci.mounts())
        for path in sorted(oci.cgroups(self.cgroup), key=len, reverse=True):
            where = Path(path)
            hierarchy = CGROUPS / where.relative_to(CGROUPS).parts[0]
            if str(hierarchy) not in mounted:
                shutil.rmtree(hierarchy / self.cgroup, ignore_errors=True)
                _remove_empty(hierarchy)
            else:
                _remove_empty(where)


def _remove_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:
        return  # somebody else's too, or busy: the caller's check says so


@contextmanager
def place() -> Iterator[Place]:
    """Make a place of a short name (sockets have 108 bytes for theirs); afterwards check that nothing is left."""
    base = Path(tempfile.mkdtemp(prefix="pyrkt-", dir="/tmp"))
    base.chmod(0o755)
    here = Place(base)
    try:
        yield here
        # PID 1 reaps orphans when it gets round to it, and the engine's last process ends after its answer.
        oci.eventually(lambda: not here.leftovers(), 10)
        left = here.leftovers()
        assert not left
    finally:
        for pid in here.processes():
            oci.kill(pid)
        oci.eventually(lambda: not here.processes(), 10)
        here.sweep()
        here.holder.kill()
        here.holder.wait()
        # The last process is gone, and its namespace with all mounts soon.
        oci.eventually(lambda: not _remove(base), 10)
    assert not oci.cgroups(here.cgroup)


def _remove(base: Path) -> bool:
    """Remove the directory; tell whether it is still there."""
    shutil.rmtree(base, ignore_errors=True)
    return os.path.lexists(base)
