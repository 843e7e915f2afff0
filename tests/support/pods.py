"""``pyrkt`` as a test calls it, with a data directory and a configuration of its own, and images to run."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyrkt
from tests.support.bundle import make_root
from tests.support.oci import Answer, cgroups, eventually, mounts, processes

ENTRY = Path(pyrkt.__file__).parent / "cli/entry.py"
SECONDS = 60


@dataclass
class Pyrkt:
    """The command with everything of its own below ``base``; images need no signature unless ``insecure`` is empty."""

    base: Path
    insecure: str = "image"
    started: list[str] = field(default_factory=list)
    command: tuple[str, ...] = (sys.executable, "-I", "-S", str(ENTRY))

    @property
    def data(self) -> Path:
        """Where images and pods lie."""
        return self.base / "data"

    def argv(self, *words: str) -> list[str]:
        """Return the command line, global flags first."""
        flags = [f"--dir={self.data}", f"--local-config={self.base}/etc", f"--system-config={self.base}/usr"]
        if self.insecure:
            flags.append(f"--insecure-options={self.insecure}")
        return [*self.command, *flags, *words]

    def call(self, *words: str, **options: Any) -> Answer:
        """Run a command to its end."""
        options.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(
            self.argv(*words), capture_output=True, text=True, timeout=SECONDS, check=False, **options
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def ok(self, *words: str, **options: Any) -> str:
        """Run a command that must succeed; return what it printed."""
        answer = self.call(*words, **options)
        assert answer.code == 0, answer.err
        return answer.out

    def detached(self, *words: str) -> str:
        """Start a pod in the background; return its UUID."""
        # To a file: the pod's supervisor must not keep a pipe of ours open.
        out, err = self.base / "out", self.base / "err"
        with out.open("w") as stdout, err.open("w") as stderr:
            done = subprocess.run(
                self.argv("run", "-d", *words),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                timeout=SECONDS,
                check=False,
            )
        assert done.returncode == 0, err.read_text()
        return out.read_text().strip()

    def popen(self, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command and return at once."""
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        return subprocess.Popen(self.argv(*words), **options)

    def pods(self) -> list[dict[str, Any]]:
        """Return what ``list`` says."""
        found = json.loads(self.ok("list", "--format=json"))
        assert isinstance(found, list)
        return found

    def pod(self, uuid: str) -> dict[str, Any]:
        """Return what ``status`` says of one pod."""
        found = json.loads(self.ok("status", "--format=json", uuid))
        assert isinstance(found, dict)
        return found

    def directory(self, uuid: str) -> Path:
        """Return where a pod lies."""
        (found,) = self.data.glob(f"pods/*/{uuid}")
        return found

    def clean(self) -> list[str]:
        """Stop and remove everything; return the cgroups of the pods and the mounts below ``base`` that stayed."""
        pods = self.pods()
        for pod in pods:
            if pod["state"] == "running":
                self.call("stop", "--force", pod["name"])
        self.ok("gc", "--grace-period=0", "--expire-prepared=0")
        left = self.leftovers([pod["name"] for pod in pods])
        shutil.rmtree(self.data, ignore_errors=True)
        return left

    def leftovers(self, uuids: Sequence[str]) -> list[str]:
        """Return the cgroups of the pods ``uuids``, their processes, and the mounts below ``base``."""
        eventually(lambda: not any(cgroups(uuid) for uuid in uuids), 3)
        found = [path for uuid in uuids for path in cgroups(uuid)]
        found += [f"process {pid}" for uuid in uuids for pid in processes(uuid)]
        return found + [point for point in mounts() if point.startswith(f"{self.base}/")]


def wait_for(process: subprocess.Popen[bytes], text: bytes, seconds: float = 20.0) -> bytes:
    """Read the output of ``process`` until ``text`` is in it; return what was read."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    read, deadline = b"", time.monotonic() + seconds
    while text not in read:
        assert time.monotonic() < deadline, read
        read += process.stdout.read() or b""
        time.sleep(0.01)
    return read


def end(process: subprocess.Popen[bytes], seconds: float = 20.0) -> int:
    """Wait for ``process``, close its pipes, return its code."""
    try:
        return process.wait(timeout=seconds)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()


def app_supervisor(tool: Pyrkt, uuid: str, app: str) -> int:
    """Return the pid of who supervises a running app of a pod, and writes its log."""
    where = tool.directory(uuid)
    supervisor = int((where / "supervisor").read_text().split()[0])
    for pid in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
        if any(path.resolve() == where / f"logs/{app}.log" for path in Path(f"/proc/{pid}/fd").iterdir()):
            return int(pid)
    raise AssertionError(f"nobody writes the log of {app}")


def umoci(*words: str) -> None:
    """Run umoci; fails with its words."""
    done = subprocess.run(["umoci", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"umoci {' '.join(words)}: {done.stderr}"


def make_layout(directory: Path, *config: str) -> Path:
    """Make an OCI layout ``directory`` by umoci: a busybox with a shell as its command, tagged "bb"."""
    umoci("init", "--layout", str(directory))
    image = f"{directory}:bb"
    umoci("new", "--image", image)
    bundle = directory.parent / f"{directory.name}.bundle"
    umoci("unpack", "--image", image, str(bundle))
    make_root(bundle / "rootfs")
    (bundle / "rootfs/etc/group").write_text("root:x:0:\nuser:x:1000:\n")
    (bundle / "rootfs/tmp").chmod(0o1777)
    (bundle / "rootfs/etc/plain").write_text("not a program\n")
    (bundle / "rootfs/data").mkdir()
    (bundle / "rootfs/data/seed").write_text("from the image\n")
    umoci("repack", "--image", image, str(bundle))
    umoci("config", "--image", image, "--config.cmd", "/bin/sh", "--config.env", "PATH=/bin", *config)
    shutil.rmtree(bundle)
    return directory


def make_aci(
    path: Path,
    name: str = "example.com/box",
    app: dict[str, Any] | None = None,
    files: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
    **more: Any,
) -> Path:
    """Make an ACI of a busybox by tarfile; ``app`` adds to its app section, ``files`` (path: text) to its root.

    A text that begins with "#!" is a program. ``links`` are symlinks (path: where it leads). With an ``exec`` of None
    there is no app section at all.

    /owned belongs to 77:78; the group "users" is 100.
    """
    root = make_root(path.parent / f"{path.name}.root")
    (root / "etc/group").write_text("root:x:0:\nusers:x:100:\nuser:x:1000:\n")
    (root / "owned").write_text("")
    os.chown(root / "owned", 77, 78)
    for file, text in (files or {}).items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text)
        (root / file).chmod(0o755 if text.startswith("#!") else 0o644)
    for link, target in (links or {}).items():
        (root / link).symlink_to(target)
    manifest: dict[str, Any] = {
        "acKind": "ImageManifest",
        "acVersion": "0.8.11",
        "name": name,
        "labels": [
            {"name": "version", "value": "1.0"},
            {"name": "os", "value": "linux"},
            {"name": "arch", "value": "amd64"},
        ],
        "app": {"exec": ["/bin/sh"], "user": "0", "group": "0"} | (app or {}),
    } | more
    if manifest["app"]["exec"] is None:
        del manifest["app"]
    data = json.dumps(manifest).encode()
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT, compresslevel=1) as tar:
        entry = tarfile.TarInfo("manifest")
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
        tar.add(root, "rootfs")
    shutil.rmtree(root)
    return path


def sha512(path: Path) -> str:
    """Return the hex digest of a file."""
    return hashlib.sha512(path.read_bytes()).hexdigest()


@dataclass
class Ordinary(Pyrkt):
    """The command as a user who is nobody special, on whatever host ``command`` says."""

    uid: int = 54321

    def argv(self, *words: str) -> list[str]:
        """Return the command line, run as that user."""
        user = ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", "env", f"HOME={self.base}"]
        whole = super().argv(*words)
        place = whole.index("--") + 1 if whole[0] == "nsenter" else 0
        return [*whole[:place], *user, *whole[place:]]


@contextmanager
def ordinary(uid: int) -> Iterator[Ordinary]:
    """A user with a data directory and a fetched image, whose pods must be gone at the end."""
    base = Path(tempfile.mkdtemp(prefix="pyrkt-test-"))
    try:
        base.chmod(0o755)
        layout = make_layout(base / "layout")
        subprocess.run(["chmod", "-R", "a+rX", layout], check=True)  # umoci made it for its own user
        os.chown(base, uid, uid)
        tool = Ordinary(base, uid=uid)
        tool.ok("fetch", f"oci:{layout}:bb")
        yield tool
        left = tool.clean()
    finally:
        shutil.rmtree(base)
    assert left == []
