"""Plans by hand: an encoder of its own, so that a mistake of the compiler's cannot hide one of stage1's."""

from __future__ import annotations

import os
import struct

from pyrkt.spec import steps as s

B, P, C, E = 0, 1, 2, 4
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


class Pod(list[Step]):
    """The plan of a pod, with those of its apps by descriptor."""

    apps: dict[int, list[Step]]


def members(plan: list[Step]) -> dict[int, tuple[bytes, tuple[str, ...]]]:
    """Return the bytes of the plans that go with ``plan``, each step's index as its cause."""
    apps = plan.apps if isinstance(plan, Pod) else {}
    return {fd: (encode(app), tuple(f"step {index}" for index in range(len(app)))) for fd, app in apps.items()}


class App:
    """One app of a pod: its plans, and what its end means."""

    def __init__(self, name: str, main: list[Step], policy: bytes, pre: list[Step] | None, post: list[Step] | None):
        self.name, self.policy, self.plans = name, policy, (pre, main, post)


def member(
    path: object, *argv: str, inside: tuple[Step, ...] = (), after: tuple[Step, ...] = (), gate: bool = True
) -> list[Step]:
    """Return the plan of an app in the namespaces of its pod."""
    kinds = {1: NEWPID, 2: NEWIPC, 3: NEWUTS, 4: NEWNET}
    joined = [(s.OPEN, B, slot, f"/proc/self/fd/{100 + slot}", os.O_RDONLY | os.O_CLOEXEC) for slot in kinds]
    waits = [(s.MEET, P), (s.GATE, P)] if gate else []
    return [
        (s.MEMBER, B),
        *joined,
        *((s.SETNS, B, slot, kind) for slot, kind in kinds.items()),
        (s.CLONE, B, NEWNS | NEWCGROUP, -1),
        *waits,
        (s.SETSID, C),
        *root(path),
        *inside,
        *([(s.MEET, C)] if gate else []),
        (s.PIVOT, C),
        *process(),
        (s.EXEC, C, argv[0], argv, ENV),
        *after,
    ]


def app(
    name: str,
    path: object,
    *argv: str,
    ends: int = 1,
    inside: tuple[Step, ...] = (),
    restart: int = 0,
    most: int = 0,
    signal: int = 0,
    delay_ms: int = 10,
    pre: tuple[str, ...] = (),
    post: tuple[str, ...] = (),
    after: tuple[Step, ...] = (),
) -> App:
    """Return an app of a pod; ``ends``: 1 its failure ends the pod, 2 its success does."""
    policy = struct.pack("<4I2q", ends, restart, most, signal, delay_ms, 500)
    handlers = [member(path, *words, inside=inside, gate=False) if words else None for words in (pre, post)]
    return App(name, member(path, *argv, inside=inside, after=after), policy, *handlers)


def pod(
    *apps: App,
    before: tuple[Step, ...] = (),
    after: tuple[Step, ...] = (),
    grace_ms: int = 500,
    control: object = "",
    mutable: bool = False,
) -> Pod:
    """Return the plan of a pod with these apps."""
    plans: dict[int, list[Step]] = {}
    table: list[Step] = []
    for each in apps:
        numbers = []
        for plan in each.plans:
            numbers.append(200 + len(plans) if plan else -1)
            if plan:
                plans[numbers[-1]] = plan
        table.append((s.POD_APP, B, each.name, *numbers, each.policy))
    made = Pod(
        [
            *before,
            (s.POD, B, control, "", int(mutable), grace_ms),
            *table,
            (s.CLONE, B, NEWNS | NEWUTS | NEWIPC | NEWPID | NEWNET, -1),
            (s.SETSID, C),
            (s.PROPAGATION, C, "/", MS_SLAVE | MS_REC),
            (s.ROOT_EMPTY, C),
            (s.INIT, C),
            *after,
        ]
    )
    made.apps = plans
    return made
