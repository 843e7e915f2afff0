"""Plans by hand: an encoder of its own, so that a mistake of the compiler's cannot hide one of stage1's."""

from __future__ import annotations

import os
import struct

from pyrkt.spec import steps as s

B, P, C, A, E = range(5)
Step = tuple[object, ...]

NEWNS, NEWCGROUP, NEWUTS, NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000
SIX = NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWPID | NEWNET
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE, MS_SLAVE = 1, 2, 4, 8, 1 << 14, 1 << 18, 1 << 19
DEFAULT_CAPS = 0xA80425FB
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
ENV = ("PATH=/bin",)


def encode(plan: list[Step]) -> bytes:
    """Return the bytes of (code, phase, argument...) tuples."""
    body = b"".join(_step(step) for step in plan)
    return struct.pack("<IHHII", 0x54524B50, 1, 0, len(plan), 16 + len(body)) + body


def _step(step: Step) -> bytes:
    code, phase, *args = step
    assert isinstance(code, int)
    kinds = s.TABLE[code][1]
    assert len(kinds) == len(args), f"{s.TABLE[code][0]} takes {kinds!r}"
    raw = [_argument(kind, argument) for kind, argument in zip(kinds, args, strict=True)]
    lengths = b"".join(struct.pack("<I", len(data)) for data in raw)
    return struct.pack("<HBB", code, phase, len(raw)) + lengths + b"".join(raw)


def _argument(kind: str, value: object) -> bytes:
    if kind == "i":
        return struct.pack("<q", value)
    if kind == "b":
        assert isinstance(value, bytes)
        return value
    if kind == "s":
        return os.fsencode(str(value)) + b"\0"
    assert isinstance(value, tuple)
    return b"".join(os.fsencode(str(word)) + b"\0" for word in value)


def root(path: object, phase: int = C) -> list[Step]:
    """Return the steps that make ``path`` the root and mount what every container has."""
    mounts = [
        ("proc", "proc", "/proc", 14, ""),
        ("tmpfs", "tmpfs", "/dev", MS_NOSUID, "mode=755,size=65536k"),
        ("devpts", "devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"),
        ("tmpfs", "shm", "/dev/shm", 14, "mode=1777,size=65536k"),
        ("mqueue", "mqueue", "/dev/mqueue", 14, ""),
        ("sysfs", "sysfs", "/sys", 15, ""),
    ]
    return [
        (s.PROPAGATION, phase, "/", MS_SLAVE | MS_REC),
        (s.ROOT_BIND, phase, path, 1),
        *((s.MOUNT, phase, *mount, 1) for mount in mounts),
        *((s.MKNOD, phase, f"/dev/{name}", 0o20666, os.makedev(*number), 0, 0) for name, number in DEVICES.items()),
        (s.SYMLINK, phase, "/proc/self/fd", "/dev/fd"),
        (s.SYMLINK, phase, "pts/ptmx", "/dev/ptmx"),
        *((s.MASK, phase, name) for name in ("/proc/kcore", "/proc/keys", "/proc/acpi", "/sys/firmware", "/proc/none")),
        *((s.READ_ONLY, phase, name) for name in ("/proc/sys", "/proc/irq", "/proc/none")),
    ]


def process(phase: int = C, caps: int = DEFAULT_CAPS) -> list[Step]:
    """Return the steps from the capabilities to the last before the program."""
    return [
        (s.CAPS_BOUND, phase, caps),
        (s.USER, phase, 0, 0, b""),
        (s.CAPS, phase, caps, caps, 0, 0),
        (s.NO_NEW_PRIVS, phase),
        (s.CLOSE_FDS, phase, 3),
        (s.CHDIR, phase, "/"),
    ]


def container(
    path: object,
    *argv: str,
    before: tuple[Step, ...] = (),
    inside: tuple[Step, ...] = (),
    last: tuple[Step, ...] = (),
    after: tuple[Step, ...] = (),
    flags: int = SIX,
) -> list[Step]:
    """Return a whole plan; ``inside`` stands before the pivot, ``last`` right before the program."""
    return [
        *before,
        (s.CLONE, B, flags, -1),
        (s.SETSID, C),
        *root(path),
        *inside,
        (s.PIVOT, C),
        *process(),
        *last,
        (s.EXEC, C, argv[0], argv, ENV),
        *after,
    ]


def app(name: str, path: object, *argv: str, ends: bool = True, inside: tuple[Step, ...] = ()) -> list[Step]:
    """Return the steps of one app of a pod; ``ends``: its failure ends the pod."""
    return [
        (s.APP, C, name, NEWNS | NEWCGROUP, int(ends)),
        (s.SETSID, A),
        *root(path, A),
        *inside,
        (s.PIVOT, A),
        *process(A),
        (s.EXEC, A, argv[0], argv, ENV),
    ]


def pod(
    *apps: list[Step], before: tuple[Step, ...] = (), after: tuple[Step, ...] = (), grace_ms: int = 500
) -> list[Step]:
    """Return the plan of a pod with these apps."""
    return [
        *before,
        (s.CLONE, B, NEWNS | NEWUTS | NEWIPC | NEWPID | NEWNET, -1),
        (s.SETSID, C),
        (s.PROPAGATION, C, "/", MS_SLAVE | MS_REC),
        (s.ROOT_EMPTY, C),
        *(step for steps in apps for step in steps),
        (s.INIT, C, grace_ms),
        *after,
    ]
