"""Images that are well made and mean harm when they are run: nothing outside is read or changed, and nothing is left."""

# ruff: noqa: E501 - one case a line: the names and verdicts are to be read down the page

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyrkt.base.errors import (
    ImageRefused,
    InvalidSpec,
    NotExecutable,
    ProgramMissing,
    PyrktError,
    StartFailed,
    UsageError,
)
from tests.strategies import file, folder, header, pax, symlink
from tests.support import hostile
from tests.support.hostile import Workshop, aci, busybox
from tests.support.pods import Pyrkt

pytestmark = pytest.mark.root

Make = Callable[[Workshop], str]


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pyrkt]:
    made = Pyrkt(tmp_path_factory.mktemp("run"))
    yield made
    states = {pod["state"] for pod in made.pods()}
    assert states <= {"exited"}
    assert made.clean() == []


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    with hostile.workshop(tmp_path) as made:
        yield made


def link(name: bytes, target: bytes) -> bytes:
    """Return a symlink to a target of any length."""
    return pax((b"linkpath", target)) + symlink(name, b"x")


def bad(name: str, make: Make, error: type[PyrktError], text: str, *words: str) -> Any:
    return pytest.param(make, error, text, words or ("--", "true"), id=name)


def app(**changes: Any) -> Make:
    """Return a case of an ACI whose app has other members."""
    members = {"exec": ["/bin/true"], "user": "0", "group": "0", **changes}
    return lambda w: w.file(aci(busybox(below=b"rootfs/"), app=members))


PASSWD = b"etc/passwd"
LONG = b"x" * 70_000

REFUSED = [
    # who it is run as
    bad("user-unknown", lambda w: w.box(User="evil"), InvalidSpec, "does not exist in the image"),
    bad("user-control", lambda w: w.box(file(PASSWD, b"\x1b]0;x\x07:x:0:0::/:/\n"), User="evil"), InvalidSpec, "does not exist in the image"),
    bad("user-group-unknown", lambda w: w.box(User="0:evil"), InvalidSpec, "does not exist in the image"),
    bad("user-by-host-passwd", lambda w: w.box(link(PASSWD, w.out + b"/etc/passwd"), User="canary"), InvalidSpec, "does not exist in the image"),
    bad("user-by-host-etc", lambda w: w.box(folder(b"e"), link(b"etc", w.out + b"/etc"), User="canary"), InvalidSpec, "does not exist in the image"),
    bad("user-by-host-shadow", lambda w: w.box(symlink(PASSWD, b"/etc/shadow"), User="daemon"), InvalidSpec, "does not exist in the image"),
    bad("user-by-proc", lambda w: w.box(symlink(PASSWD, b"/proc/1/root/etc/passwd"), User="daemon"), InvalidSpec, "does not exist in the image"),
    bad("user-passwd-fifo", lambda w: w.box(header(PASSWD, b"6"), User="evil"), InvalidSpec, "does not exist in the image"),
    bad("user-passwd-device", lambda w: w.box(header(PASSWD, b"3", device=(1, 5)), User="evil"), InvalidSpec, "does not exist in the image"),
    bad("user-passwd-directory", lambda w: w.box(folder(PASSWD), User="evil"), InvalidSpec, "does not exist in the image"),
    bad("user-passwd-loop", lambda w: w.box(symlink(PASSWD, b"passwd"), User="evil"), ImageRefused, "too many symlinks"),
    bad("user-passwd-huge", lambda w: w.box(file(PASSWD, b"a:x:1:1::/:/\n" * 100_000), User="a"), ImageRefused, "larger than"),
    bad("user-passwd-line", lambda w: w.box(file(PASSWD, LONG + b":x:0:0::/:/\n"), User="a"), ImageRefused, "a line of more than"),
    bad("user-passwd-2-32", lambda w: w.box(file(PASSWD, b"evil:x:4294967296:0::/:/\n"), User="evil"), InvalidSpec, "does not exist in the image"),
    bad("user-passwd-minus-one", lambda w: w.box(file(PASSWD, b"evil:x:4294967295:0::/:/\n"), User="evil"), InvalidSpec, "does not exist in the image"),
    bad("user-passwd-negative", lambda w: w.box(file(PASSWD, b"evil:x:-1:0::/:/\n"), User="evil"), InvalidSpec, "does not exist in the image"),
    bad("user-passwd-underscore", lambda w: w.box(file(PASSWD, b"evil:x:1_0:0::/:/\n"), User="evil"), InvalidSpec, "does not exist in the image"),
    bad("user-passwd-fields", lambda w: w.box(file(PASSWD, b"evil:x:0\nevil\n:::::\n"), User="evil"), InvalidSpec, "does not exist in the image"),
    bad("user-aci-path-missing", app(user="/etc/nothing"), InvalidSpec, "has no such file"),
    bad("user-aci-path-outside", lambda w: app(user=f"{w.canary}/file")(w), InvalidSpec, "has no such file"),
    bad("user-aci-path-up", app(user="/../../../../../../../../etc/hostname"), InvalidSpec, "has no such file"),
    bad("user-aci-2-32", app(user="4294967296"), InvalidSpec, "more than"),
    # what is run
    bad("program-none", lambda w: w.box(Cmd=[]), UsageError, "names no program", "--quiet"),
    bad("program-missing", lambda w: w.box(), ProgramMissing, "/bin/none", "--", "/bin/none"),
    bad("program-missing-control", lambda w: w.box(Cmd=["/bin/\x1b[31m\nx"]), ProgramMissing, r"\x1b[31m\nx", "--quiet"),
    bad("program-of-host", lambda w: w.box(link(b"bin/evil", w.out + b"/file")), ProgramMissing, "/bin/evil", "--", "/bin/evil"),
    bad("program-up", lambda w: w.box(), ProgramMissing, "python3", "--", "/../../../../../../../usr/bin/python3"),
    bad("program-directory", lambda w: w.box(), NotExecutable, "/etc", "--", "/etc"),
    bad("program-no-mode", lambda w: w.box(file(b"bin/x", b"#!/bin/sh\n", mode=0o644)), NotExecutable, "/bin/x", "--", "/bin/x"),
    bad("program-own-interpreter", lambda w: w.box(file(b"bin/x", b"#!/bin/x\n", mode=0o755)), NotExecutable, "/bin/x", "--", "/bin/x"),
    bad("program-damaged", lambda w: w.box(file(b"bin/x", b"\x7fELF" + bytes(60), mode=0o755)), NotExecutable, "/bin/x", "--", "/bin/x"),
    bad("program-fifo", lambda w: w.box(header(b"bin/x", b"6", mode=0o755)), NotExecutable, "/bin/x", "--", "/bin/x"),
    bad("program-of-descriptor", lambda w: w.box(), ProgramMissing, "/proc/self/fd/7", "--", "/proc/self/fd/7"),
    bad("arguments-too-long", lambda w: w.box(Entrypoint=["/bin/true", "x" * 200_000]), NotExecutable, "too long"),
    # where it is run
    bad("cwd-file", lambda w: w.box(WorkingDir="/bin/busybox"), StartFailed, "/process/cwd"),
    bad("cwd-below-file", lambda w: w.box(WorkingDir="/bin/busybox/x"), StartFailed, "/process/cwd"),
    bad("cwd-loop", lambda w: w.box(symlink(b"l", b"l"), WorkingDir="/l"), StartFailed, "/process/cwd"),
    bad("cwd-fifo", lambda w: w.box(header(b"p", b"6"), WorkingDir="/p"), StartFailed, "/process/cwd"),
    bad("cwd-through-link", lambda w: w.box(link(b"l", w.out), WorkingDir="/l"), StartFailed, "/process/cwd"),
    bad("cwd-leaked-descriptor", lambda w: w.box(WorkingDir="/proc/self/fd/7"), StartFailed, "/process/cwd"),
    bad("cwd-control", lambda w: w.box(file(b"\x1b[31m"), WorkingDir="/\x1b[31m"), StartFailed, r"\x1b[31m"),
    # what is mounted over
    bad("proc-link", lambda w: w.box(link(b"proc", w.out)), StartFailed, "/proc"),
    bad("proc-link-inside", lambda w: w.box(folder(b"p"), symlink(b"proc", b"p")), StartFailed, "/proc"),
    bad("sys-link", lambda w: w.box(link(b"sys", w.out)), StartFailed, "/sys"),
    bad("dev-link-to-proc", lambda w: w.box(symlink(b"dev", b"/proc/1/root/dev")), StartFailed, "/dev"),
    bad("hosts-link-to-proc", lambda w: w.box(symlink(b"etc/hosts", b"/proc/sys/kernel/core_pattern")), InvalidSpec, "is inside /proc"),
    bad("volume-on-proc", lambda w: w.box(Volumes={"/proc/self/attr": {}}), InvalidSpec, "/proc/self/attr"),
    bad("proc-file", lambda w: w.box(file(b"proc", b"x")), StartFailed, "/proc"),
    bad("sys-file", lambda w: w.box(file(b"sys", b"x")), StartFailed, "/sys"),
    bad("dev-file", lambda w: w.box(file(b"dev", b"x")), StartFailed, "/dev"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "error", "text", "words"), REFUSED)
def test_is_refused(
    tool: Pyrkt, workshop: Workshop, make: Make, error: type[PyrktError], text: str, words: tuple[str, ...]
) -> None:
    ended = hostile.call(tool.argv("run", make(workshop), *words))
    hostile.assert_refused(ended, error, text)
    for name in ("embryo", "prepare", "prepared"):
        assert not (tool.data / "pods" / name).is_dir() or os.listdir(tool.data / "pods" / name) == []


def fine(name: str, make: Make, words: tuple[str, ...], out: str) -> Any:
    return pytest.param(make, words, out, id=name)


def runs(*words: str) -> tuple[str, ...]:
    return ("--", *words)


def shell(text: str) -> tuple[str, ...]:
    return ("--", "/bin/sh", "-c", text)


CONTAINED = [
    fine("cwd-up", lambda w: w.box(WorkingDir="/../../../.."), runs("pwd"), "/\n"),
    fine("cwd-up-in-the-middle", lambda w: w.box(folder(b"a"), WorkingDir="/a/../../../../etc"), runs("pwd"), "/etc\n"),
    fine("cwd-link-inside", lambda w: w.box(folder(w.out[1:99]), link(b"l", w.out[:99]), WorkingDir="/l"), shell("ls -d ."), ".\n"),
    fine("dev-link-to-nothing", lambda w: w.box(link(b"dev", w.out)), shell("echo x > /dev/null; ls /dev/shm"), ""),
    fine("dev-link-inside", lambda w: w.box(folder(b"d"), symlink(b"dev", b"/d")), shell("echo x > /dev/null; ls -d /d/null"), "/d/null\n"),
    fine("etc-link-inside", lambda w: w.box(folder(b"e"), symlink(b"etc", b"../../../../../e")), shell("ls /e"), "hostname\nhosts\n"),
    fine("etc-link-to-nothing", lambda w: w.box(link(b"etc", w.out + b"/etc")), shell("grep -c localhost /etc/hosts"), "2\n"),
    fine("hosts-link-to-nothing", lambda w: w.box(link(b"etc/hosts", w.out + b"/file")), shell("grep -c localhost /etc/hosts"), "2\n"),
    fine("hosts-link-inside", lambda w: w.box(file(b"h", b""), symlink(b"etc/hosts", b"/h")), shell("readlink /etc/hosts"), "/h\n"),
    fine("volume-link-to-nothing", lambda w: w.box(link(b"v", w.out), Volumes={"/v/etc": {}}), shell("echo x > /v/etc/y; cat /v/etc/y"), "x\n"),
    fine("volume-link-inside", lambda w: w.box(folder(b"d"), symlink(b"v", b"/d"), Volumes={"/v": {}}), shell("echo x > /v/y; cat /d/y"), "x\n"),
    fine("hosts-fifo", lambda w: w.box(header(b"etc/hosts", b"6")), runs("echo", "up"), "up\n"),
    fine("volume-over-bin", lambda w: w.box(Volumes={"/bin": {}}), runs("echo", "seeded"), "seeded\n"),
    fine("setuid-gives-nothing", lambda w: w.box(file(b"bin/su", Path("/bin/busybox").read_bytes(), mode=0o4755), User="1000:1000"), shell("exec -a id /bin/su -u"), "1000\n"),
    fine("user-first-counts", lambda w: w.box(file(PASSWD, b"evil:x:7:8::/:/\nevil:x:0:0::/:/\n"), User="evil"), shell("id -u; id -g"), "7\n8\n"),
    fine("user-named-like-a-number", lambda w: w.box(file(PASSWD, b"1000:x:0:0::/:/\n"), User="1000"), runs("id", "-u"), "1000\n"),
    fine("user-aci-path-in-image", lambda w: w.file(aci(busybox(file(b"rootfs/o", uid=77), below=b"rootfs/"), app={"exec": ["/bin/true"], "user": "/o", "group": "0"})), ("--exec=/bin/id", "--", "-u"), "77\n"),
    fine("nsswitch-and-preload", lambda w: w.box(file(b"etc/nsswitch.conf", b"passwd: evil\n"), file(b"etc/ld.so.preload", b"/evil.so\n"), file(b"lib/libnss_evil.so.2", b"\x7fELF", mode=0o755)), runs("echo", "up"), "up\n"),
    fine("environment-of-python", lambda w: w.box(Env=["PATH=/bin", "PYTHONPATH=/evil", "PYTHONINSPECT=1", "LD_PRELOAD=/evil.so"]), shell("echo $PYTHONPATH"), "/evil\n"),
    fine("python-in-the-image", lambda w: w.box(file(b"usr/lib/python3.11/os.py", b"raise SystemExit(9)\n"), file(b"pyrkt/__init__.py", b"raise SystemExit(9)\n")), runs("echo", "up"), "up\n"),
    fine("home-with-control", lambda w: w.box(file(PASSWD, b"a:x:5:5::/\x1b[31m:/\n"), User="a"), runs("id", "-u"), "5\n"),
    fine("device-node-is-dead", lambda w: w.box(header(b"kmem", b"3", device=(1, 1), mode=0o666)), shell("cat /kmem 2>&1 | wc -l"), "1\n"),
    fine("mount-is-not-allowed", lambda w: w.box(folder(b"m")), shell("mount -t proc proc /m 2>/dev/null || echo refused"), "refused\n"),
    fine("labels-give-no-orders", lambda w: w.box(Labels={"run.oci.handler": "x", "org.systemd.property.ExecStop": "x", "io.kubernetes.x": "y"}), runs("echo", "up"), "up\n"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "words", "out"), CONTAINED)
def test_runs_inside(tool: Pyrkt, workshop: Workshop, make: Make, words: tuple[str, ...], out: str) -> None:
    ended = hostile.call(tool.argv("run", make(workshop), *words))
    assert ended.code == 0, ended
    assert ended.out.decode() == out.replace("{canary}", str(workshop.canary)), ended
    assert all(line.isprintable() for line in ended.err.decode().split("\n"))
    assert b"Traceback" not in ended.err


def test_there_are_enough_cases() -> None:
    names = [case.id for case in (*REFUSED, *CONTAINED)]
    assert len(set(names)) == len(names)
    assert len(names) >= 60
