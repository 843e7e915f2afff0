"""Images that mean harm, made byte by byte and right but for one lie; and what may remain after they were refused."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.strategies import archive, file, folder, symlink
from tests.support.oci import processes
from tests.support.skopeo import BUSYBOX, digest

if TYPE_CHECKING:
    from pyrkt.base.errors import PyrktError
    from tests.support.pods import Pyrkt
    from tests.support.web import Asked, Line, Route

SECONDS = 20
"""What no hostile input may make us take longer than."""
MEMORY_KIB = 512 << 10
"""What the largest of our processes may hold, whatever it unpacks."""
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
HARMLESS = archive(file(b"a", b"1"))
Edit = Callable[[bytes], bytes]


def same(data: bytes) -> bytes:
    """Return ``data``: a part that does not lie."""
    return data


def replaced(old: bytes, new: bytes) -> Edit:
    """Return what puts ``new`` in the place of ``old``, which has to be there."""

    def edit(data: bytes) -> bytes:
        assert old in data, f"{old!r} is not in {data!r}"
        return data.replace(old, new, 1)

    return edit


@dataclass(frozen=True, kw_only=True)
class Oci:
    """An OCI image, right in all that is not said otherwise: every digest is that of what was changed.

    ``tars`` are the plain layers; ``packed`` stands for their compressed form. ``run`` is the "config" member of the
    image's configuration. ``layer`` changes the first layer's descriptor, ``entry`` the manifest's in index.json; the
    members that are None in it and in ``config`` and ``manifest`` are left out. The functions change finished bytes:
    those of the first three before their digest is taken, ``after`` the blobs when all is written.
    """

    tars: Sequence[bytes] = (HARMLESS,)
    packed: Sequence[bytes] = ()
    diff_ids: Sequence[str] | None = None
    run: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    layer: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    entry: Mapping[str, Any] = field(default_factory=dict)
    config_bytes: Edit = same
    manifest_bytes: Edit = same
    index_bytes: Edit = same
    after: Callable[[Mapping[str, Path]], object] = len

    def write(self, at: Path) -> str:
        """Write the layout to ``at``; return its reference. ``after`` is given the files: layer, config, manifest."""
        (at / "blobs/sha256").mkdir(parents=True)
        (at / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        files: dict[str, Path] = {"top": at}

        def blob(name: str, kind: str, data: bytes) -> dict[str, Any]:
            found = digest(data)
            files[name] = at / "blobs" / found.replace(":", "/")
            files[name].write_bytes(data)
            return {"mediaType": kind, "digest": found, "size": len(data)}

        packed = self.packed or [gzip.compress(tar, 1, mtime=0) for tar in self.tars]
        layers = [blob("layer", LAYER, data) for data in reversed(packed)][::-1]
        if layers:
            layers[0] = _changed(layers[0], self.layer)
        ids = [digest(tar) for tar in self.tars] if self.diff_ids is None else self.diff_ids
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"], **self.run},
            "rootfs": {"type": "layers", "diff_ids": list(ids)},
        }
        described = blob("config", CONFIG, self.config_bytes(_json(_changed(config, self.config))))
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": layers}
        entry = blob("manifest", MANIFEST, self.manifest_bytes(_json(_changed(manifest, self.manifest))))
        entry["annotations"] = {"org.opencontainers.image.ref.name": "t"}
        index = {"schemaVersion": 2, "manifests": [_changed(entry, self.entry)]}
        (at / "index.json").write_bytes(self.index_bytes(_json(index)))
        self.after(files)
        return f"oci:{at}:t"


def _changed(members: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**members, **changes}.items() if value is not None}


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def manifest_of(**changes: Any) -> bytes:
    """Return an appc image manifest; members that are None are left out."""
    labels = [{"name": "os", "value": "linux"}, {"name": "arch", "value": "amd64"}]
    app = {"exec": ["/bin/sh"], "user": "0", "group": "0"}
    usual = {
        "acKind": "ImageManifest",
        "acVersion": "0.8.11",
        "name": "example.com/app",
        "labels": labels,
        "app": app,
    }
    return _json(_changed(usual, changes))


def aci(*parts: bytes, **changes: Any) -> bytes:
    """Return an ACI: its manifest, ``rootfs/``, and then ``parts``."""
    return archive(file(b"manifest", manifest_of(**changes)), folder(b"rootfs"), *parts)


def busybox(*parts: bytes, below: bytes = b"") -> bytes:
    """Return what a root file system with a shell needs, and then ``parts``; ``below`` stands before each name."""
    program = Path(os.path.realpath(BUSYBOX)).read_bytes()
    applets = (b"sh", b"cat", b"id", b"ls", b"true", b"pwd", b"stat", b"mount", b"echo", b"readlink")
    return b"".join(
        [
            folder(below + b"bin"),
            folder(below + b"etc"),
            file(below + b"bin/busybox", program, mode=0o755),
            *(symlink(below + b"bin/" + applet, b"busybox") for applet in applets),
            *parts,
        ]
    )


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where a case makes its image. ``canary`` is a tree outside, which many of them aim at."""

    base: Path
    canary: Path

    @property
    def up(self) -> bytes:
        """A relative path from anywhere to the canary."""
        return b"../" * 30 + os.fsencode(str(self.canary)).lstrip(b"/")

    @property
    def out(self) -> bytes:
        """The absolute path of the canary."""
        return os.fsencode(str(self.canary))

    def oci(self, **lies: Any) -> str:
        """Write an OCI layout; return its reference."""
        return Oci(**lies).write(self.base / "image")

    def layer(self, *parts: bytes) -> str:
        """Write an OCI layout of one layer, made of ``parts``."""
        return self.oci(tars=[archive(*parts)])

    def box(self, *parts: bytes, **run: Any) -> str:
        """Write an OCI layout with a shell and ``parts``, to be run."""
        return self.oci(tars=[archive(busybox(*parts))], run=run)

    def file(self, data: bytes) -> str:
        """Write an ACI, as its bytes are; return its path."""
        path = self.base / "image.aci"
        path.write_bytes(data)
        return str(path)


@contextmanager
def workshop(base: Path) -> Iterator[Workshop]:
    """Give a place for a case, and see that what it aims at is untouched in the end."""
    canary = base / "canary"
    (canary / "etc").mkdir(parents=True)
    (canary / "etc/passwd").write_text("canary:x:0:0::/:/bin/sh\n")
    (canary / "file").write_text("canary")
    (canary / "file").chmod(0o600)
    made = base / "workshop"
    made.mkdir()
    before = everything(canary)
    yield Workshop(made, canary)
    assert everything(canary) == before


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: its code, the bytes it wrote, the seconds it took, the KiB of its largest process."""

    code: int
    out: bytes
    err: bytes
    seconds: float
    kib: int


MEASURED = """
import os, sys
answer = os.dup2(int(sys.argv[1]), 900, False)
os.close(int(sys.argv[1]))
for number in sys.argv[2].split():
    os.dup2(os.open("/", os.O_PATH), int(number))
pid = os.posix_spawn(sys.argv[3], sys.argv[3:], os.environ)
_, status, usage = os.wait4(pid, 0)
os.write(answer, b"%d %d" % (os.waitstatus_to_exitcode(status), usage.ru_maxrss))
"""
"""Stands between: the kernel counts the memory of the process that starts a program as the program's."""


def call(words: Sequence[str], environment: Mapping[str, str] | None = None, leak: Iterable[int] = ()) -> Ended:
    """Run a command to its end, or for SECONDS; then it is killed, and so is all that it started.

    ``leak``: descriptors of the host's root that it finds open beside its own three.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as measured:
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", MEASURED, str(measured.fileno()), " ".join(map(str, leak)), *words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment,
            start_new_session=True,
            pass_fds=[measured.fileno()],
        )
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        seconds = time.monotonic() - began
        for stream in (out, err, measured):
            stream.seek(0)
        code, kib = map(int, measured.read().split() or (-9, 0))
        return Ended(code, out.read(), err.read(), seconds, kib)


def assert_well_said(ended: Ended, program: str = "pyrkt") -> str:
    """Check that a command failed in time and in bounds, with one line and at most one hint; return the line."""
    text = ended.err.decode()
    lines = text.removesuffix("\n").split("\n")
    assert text.endswith("\n")
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("  hint: ")), text
    assert lines[0].startswith(f"{program}: "), text
    assert all(line.isprintable() for line in lines), text
    assert len(text) < 4000, text
    assert "internal error" not in text
    assert "Traceback" not in text
    assert ended.out == b""
    assert ended.seconds < SECONDS
    assert ended.kib < MEMORY_KIB
    return lines[0]


def assert_refused(ended: Ended, error: type[PyrktError], text: str) -> None:
    """Check that a command ended as ``error`` has it, naming ``text``, with a hint."""
    line = assert_well_said(ended)
    assert ended.code == error.exit_code, ended
    assert text in line
    assert b"\n  hint: " in ended.err


def everything(path: Path) -> str:
    """Hash all there is to know about a tree."""
    hashed = hashlib.sha256()
    for top, folders, files in os.walk(path):
        folders.sort()
        for name in sorted([*folders, *files, "."]):
            here = Path(top, name)
            s = here.lstat()
            known = (str(here), s.st_mode, s.st_uid, s.st_gid, s.st_size, s.st_mtime_ns, s.st_nlink)
            hashed.update(repr((known, sorted(os.listxattr(here, follow_symlinks=False)))).encode())
            if stat.S_ISREG(s.st_mode):
                hashed.update(here.read_bytes())
    return hashed.hexdigest()


def describe(path: Path) -> str | None:
    """Say what is at ``path``: d, f:CONTENT, l:TARGET, p (fifo), c, b (devices), None; modes only if special."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    special = f"{stat.S_IMODE(status.st_mode):o}" if status.st_mode & 0o7000 else ""
    kind = {stat.S_IFDIR: "d", stat.S_IFIFO: "p", stat.S_IFCHR: "c", stat.S_IFBLK: "b"}.get(stat.S_IFMT(status.st_mode))
    if kind:
        return kind + special
    if path.is_symlink():
        return f"l:{path.readlink()}"
    return f"f{special}:" + path.read_bytes()[:80].decode("latin-1")


def assert_nothing_stored(tool: Pyrkt, *, parts: bool = False) -> None:
    """Check that the data directory holds no image, tree, blob or pod, and no process works in it.

    ``parts``: after a broken connection the part that came may wait for the next attempt.
    """
    left = [
        str(path.relative_to(tool.data))
        for path in tool.data.rglob("*")
        if not path.is_dir() and path.relative_to(tool.data).parts[0] not in {"locks", "version"}
    ]
    assert [path for path in left if not (parts and path.startswith("partial/"))] == []
    for name in ("images", "trees", "tmp", "pods/embryo", "pods/prepare", "pods/run"):
        assert not (tool.data / name).is_dir() or os.listdir(tool.data / name) == []
    assert processes(str(tool.base)) == []


def tunnel_to(port: int) -> Route:
    """Return what makes a web server of the tests' a proxy: it connects to ``port`` of this machine."""

    def route(_: Asked, line: Line) -> None:
        with socket.create_connection(("127.0.0.1", port)) as onward:
            line.send(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=_carry, args=(onward, line.sock))
            back.start()
            _carry(line.sock, onward)
            back.join()
        line.hang_up()

    return route


def _carry(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the other side has given up; the thread that carries the other way sees it too
