"""Device nodes and the links that programs expect in /dev."""

from __future__ import annotations

from pyrkt.plan import options
from pyrkt.plan.draft import refuse
from pyrkt.plan.mounts import MAKE_AS_SOURCE, normal
from pyrkt.spec import steps
from pyrkt.spec.capabilities import NUMBERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.plan.draft import Draft, Subject
    from pyrkt.spec.runtime import Device

S_IFIFO, S_IFCHR, S_IFBLK = 0o010000, 0o020000, 0o060000
_TYPES = {"c": S_IFCHR, "u": S_IFCHR, "b": S_IFBLK, "p": S_IFIFO}
# runtime-spec 1.3, config-linux, default devices; /dev/console comes with the terminal, /dev/ptmx is a link.
DEFAULT = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
LINKS = (
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
)


def makedev(major: int, minor: int) -> int:
    """Return the dev_t of the C library: 12 bits of major and 20 of minor, interleaved for history's sake."""
    return (major & 0xFFF) << 8 | (minor & 0xFF) | (minor & ~0xFF) << 12 | (major & ~0xFFF) << 32


def forbidden_to_make(subject: Subject) -> bool:
    """Tell whether the device rules forbid to make a node of linux.devices, so that it must be there before them.

    ``podman run --device /dev/x:/dev/x:r`` asks for such a one: to be read, not to be made.
    """
    resources = subject.linux.resources
    if resources is None or not resources.devices:
        return False
    for device in subject.linux.devices:
        kind, allowed = "c" if device.type == "u" else device.type, True
        for rule in resources.devices:
            numbers = ((rule.major, device.major), (rule.minor, device.minor))
            meant = rule.type in ("", "a", kind) and all(number in (None, -1, own) for number, own in numbers)
            if meant and "m" in (rule.access or "rwm"):
                allowed = rule.allow
        if not allowed and kind != "p":
            return True
    return False


def add_devices(draft: Draft, subject: Subject) -> None:
    """Make the default nodes, the configured ones and the links; nothing of it in a /dev that is the host's."""
    if not _has_own(subject):
        return
    binds = subject.confined or not subject.host.bounding >> NUMBERS["CAP_MKNOD"] & 1
    listed = {normal(device.path) for device in subject.linux.devices}
    for path, major, minor in DEFAULT:
        if path in listed:
            continue
        if binds:
            draft.add(steps.BIND, path, path, 0, 0, 0, MAKE_AS_SOURCE)
        else:
            draft.add(steps.MKNOD, path, S_IFCHR | 0o666, makedev(major, minor), 0, 0)
    for place, device in enumerate(subject.linux.devices):
        _device(draft, device, place, binds=binds)
    for text, path in LINKS:
        draft.add(steps.SYMLINK, text, path)
    if subject.host.kcore:
        draft.add(steps.SYMLINK, "/proc/kcore", "/dev/core")
    # Also in the place of a node that the image brings.
    draft.add(steps.UNLINK_IN, "/dev/ptmx")
    draft.add(steps.SYMLINK, "pts/ptmx", "/dev/ptmx")


def _has_own(subject: Subject) -> bool:
    """Tell whether /dev is the container's own, to be filled: what is bound there is somebody else's."""
    return not any(normal(m.destination) == "/dev" and _is_bind(m.type, m.options) for m in subject.config.mounts)


def _is_bind(kind: str, words: tuple[str, ...]) -> bool:
    return kind == "bind" or bool(options.parse(words).bind)


def _device(draft: Draft, device: Device, place: int, *, binds: bool) -> None:
    cause, path = f"/linux/devices/{place}", normal(device.path)
    if path == "/dev/ptmx":
        return  # a node of the host's devpts would open terminals of the host; the link stands for it
    if path == "/":
        raise refuse(f"linux.devices[{place}].path", "the root is not a device")
    if binds and device.type != "p":
        draft.add(steps.BIND, path, path, 0, 0, 0, MAKE_AS_SOURCE, cause=cause)
        return
    # The low nine bits are the mode; engines add the file type, in the kernel's bits or in Go's.
    mode = _TYPES[device.type] | (0o666 if device.file_mode is None else device.file_mode & 0o777)
    number = 0 if device.type == "p" else makedev(device.major, device.minor)
    draft.add(steps.MKNOD, path, mode, number, device.uid or 0, device.gid or 0, cause=cause)
