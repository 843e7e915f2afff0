"""Pods made before: what the same request came to the last time, written out again under a new UUID.

All that ``prepare`` writes is a function of the request, the stored images, the host and this program; the pod's UUID,
the token of its metadata service and the address of that stand in it as themselves. So the second pod of a kind needs
no image configuration, no compiler and none of their imports (60 ms): the recorded directory is made anew, with others
of the same length in their places. No token is ever in a record.
What the function depends on is in the key; what cannot be put in a key (a device's number, the host's resolv.conf, a
copied tree) is never recorded.
"""

from __future__ import annotations

import os
import sys
import time

from pyrkt import __version__
from pyrkt.base import fastjson, log
from pyrkt.base.atomic import write_all, write_file
from pyrkt.kernel import lock
from pyrkt.metadata import token as tokens
from pyrkt.pod import service
from pyrkt.pod.ask import values
from pyrkt.pod.directory import write_new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyrkt.base.dirs import ConfigDirs
    from pyrkt.pod.ask import PodAsk, Pull
    from pyrkt.pod.directory import Held, Pods

    _Entry = tuple[bytes, tuple[int, int, int], str, bytes]

STAND_INS = (b"00000000-0000-4000-8000-000000000000", b"00000000000040008000000000000000", b"127.100.100.100")
"""What stands in a record for ``service.marks``; no pod has any of them."""
_FORMAT = b"pyrkt pod record 2\n"
_END = b"end"
_KEPT = 64
"""Records; the oldest goes when there are more."""
_OWN = ("created", "name", "userns")
"""Files of a pod that are its own, not its kind's."""
_SCHEMES = ("docker:", "sha256-", "sha512-")


def key(ask: PodAsk, pull: Pull, dirs: ConfigDirs, data: str, *, detach: bool) -> str:
    """Return the name of the record for what is asked, GENERATION/HASH; "" if it must not be recorded."""
    if not _recordable(ask, pull):
        return ""
    try:
        generation = _generation(data)
        facts = _facts()
    except OSError:
        return ""
    from _blake2 import blake2b  # noqa: PLC0415 - built in; hashlib would load OpenSSL

    asked = values(ask.replace(name="", insecure=ask.insecure & {"capabilities", "paths", "seccomp"}))
    # Which stored image a name means is decided by the index alone; a pull policy that would ask again has no record.
    store = [data, generation, *(_here(app.image) for app in ask.apps)]
    # What its networks can do is told when the pod is made.
    store += [] if ask.net in ("none", "host") else [_described(directory) for directory in dirs.lightest_first()]
    # Surrogates stand for bytes that are not UTF-8, in a path say.
    text = fastjson.dumps([asked, values(pull), values(dirs), store, facts, detach, log.debugging()])
    return f"{generation}/{blake2b(text.encode('utf-8', 'surrogateescape'), digest_size=24).hexdigest()}"


def _generation(data: str) -> str:
    """Return what all records of now have in common: once an image came or went, or after a boot, none is used."""
    images = os.stat(f"{data}/images")
    return f"{images.st_ino:x}-{images.st_mtime_ns:x}-{_text('/proc/sys/kernel/random/boot_id').strip()}"


def _recordable(ask: PodAsk, pull: Pull) -> bool:
    if "host" in (ask.names.resolv, ask.names.hosts):  # the host's files as they are now
        return False
    if pull.policy == "update" or pull.decryption_keys or ask.net == "host" or ask.private_users or not ask.overlay:
        return False
    # Passwords come as environment variables; a record of them would outlive the pod.
    if ask.env or ask.inherited or any(app.environment for app in ask.apps):
        return False
    if any(app.devices or app.io or app.signature or app.image.startswith("file:") for app in ask.apps):
        return False
    if any(app.image_id for app in ask.apps):
        return False  # a pod manifest, which may hold passwords, too
    return all(
        os.path.realpath(v.source) == v.source and os.path.isdir(v.source) for v in ask.volumes if v.kind == "host"
    )


def _here(text: str) -> list[object]:
    """Return what decides on the meaning of an image's name beside the name: the directory, and what lies there.

    A file, or the index of a layout, that was written anew is another image.
    """
    if text.startswith(_SCHEMES):
        return []
    path = f"{text[4:].partition(':')[0]}/index.json" if text.startswith("oci:") else text
    try:
        found = os.stat(path)
    except OSError:
        return [os.getcwd()]
    # ctime as well: it shows what was put there with the old times.
    return [os.getcwd(), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _described(directory: str) -> list[tuple[str, int]]:
    """Return which networks are described below the configuration ``directory``, and since when."""
    try:
        with os.scandir(f"{directory}/net.d") as entries:
            return sorted((entry.name, entry.stat().st_mtime_ns) for entry in entries)
    except OSError:
        return []


def _facts() -> list[object]:
    """Return what the compilers ask of the host and of this process, and what they are themselves."""
    mounts = [line for line in _text("/proc/self/mountinfo").splitlines() if " - cgroup" in line]
    rights = [
        line
        for line in _text("/proc/self/status").splitlines()
        if line.startswith(("CapBnd", "CapEff", "Seccomp:", "NoNewPrivs"))
    ]
    return [
        __version__,
        _program(),
        sys.executable,
        os.uname().release,
        os.geteuid(),
        os.getegid(),
        # a new v1 cpuset takes over what its parent has
        [_optional(f"/sys/devices/system/{kind}/online") for kind in ("cpu", "node")],
        # whose ids an ordinary user's container has
        [_optional(path) for path in ("/etc/subuid", "/etc/subgid")] if os.geteuid() else [],
        [_changed(f"/usr/bin/{helper}") for helper in ("newuidmap", "newgidmap")] if os.geteuid() else [],
        _text("/proc/self/cgroup"),
        _text("/proc/self/uid_map"),
        _text("/proc/self/oom_score_adj"),  # below which an ordinary caller's apps may not go
        mounts,
        rights,
    ]


def _program() -> list[object]:
    """Return what tells this program from an earlier one: stage1's time, and in a source tree that of every module."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    found: list[object] = [package, _changed(f"{package}/stage1/stage1")]
    if os.path.exists(f"{package}/stage1/steps.h"):  # a wheel does not carry it
        for part in ("base", "bundle", "cgroup", "kernel", "metadata", "plan", "pod", "spec", "stage1"):
            with os.scandir(f"{package}/{part}") as entries:
                found.append(max(entry.stat().st_mtime_ns for entry in entries))
    return found


def _changed(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _optional(path: str) -> str:
    try:
        return _text(path)
    except OSError:
        return ""


def _text(path: str) -> str:
    with open(path, "rb", buffering=0) as file:
        parts = []
        while part := file.read(1 << 16):
            parts.append(part)
    return b"".join(parts).decode("utf-8", "surrogateescape")


# --- records: after a line with the format, entries "kind mode uid gid size path\n" and ``size`` bytes each -----------


def _record(pods: Pods, name: str) -> str:
    return f"{pods.root}/cache/{name}"


def keep(pods: Pods, name: str, pod: Held, images: list[str], remarks: tuple[str, ...]) -> None:
    """Record the finished ``pod`` under ``name``. What does not fit a record is not recorded; failing is no error."""
    if not name:
        return
    try:
        entries = [_entry(b"remark", text.encode("utf-8", "surrogateescape")) for text in remarks]
        entries += [_entry(b"image", identity.encode()) for identity in images]
        found = list(_entries(pod.path, ""))
        if any(entry is None for entry in found):
            return
        data = _FORMAT + b"".join([*entries, *filter(None, found), _entry(_END, b"")])
        token = service.token(pod.path)
        if not token or any(mark in data for mark in STAND_INS):
            return
        sweep(pods)
        directory = os.path.dirname(_record(pods, name))
        os.makedirs(directory, 0o700, exist_ok=True)
        _make_room(directory)
        write_file(_record(pods, name), _exchanged(data, service.marks(pod.uuid, token), STAND_INS), durable=False)
    except OSError as error:
        log.debug(f"not recorded: {error}")


def _exchanged(data: bytes, old: tuple[bytes, ...], new: tuple[bytes, ...]) -> bytes:
    for each, other in zip(old, new, strict=True):
        data = data.replace(each, other)
    return data


def _entry(kind: bytes, data: bytes, path: str = "", status: os.stat_result | None = None) -> bytes:
    mode, uid, gid = (status.st_mode & 0o7777, status.st_uid, status.st_gid) if status else (0, 0, 0)
    return b"%b %o %d %d %d %b\n%b" % (kind, mode, uid, gid, len(data), os.fsencode(path), data)


def _entries(top: str, below: str) -> Iterator[bytes | None]:
    """Yield the entries of the pod's directory; None for what cannot be in a record."""
    with os.scandir(f"{top}/{below}") as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path, status = f"{below}{entry.name}", entry.stat(follow_symlinks=False)
            parts = path.split("/")
            if path in _OWN:
                continue
            if "\n" in path or (parts[0] == "apps" and len(parts) > 2 and parts[2] == "volumes"):
                yield None  # a volume that begins with the image's data
            elif entry.is_dir(follow_symlinks=False):
                yield _entry(b"dir", b"", path, status)
                yield from _entries(top, f"{path}/")
            elif entry.is_file(follow_symlinks=False):
                with open(entry.path, "rb") as file:
                    yield _entry(b"file", file.read(), path, status)
            else:
                yield None


def sweep(pods: Pods) -> None:
    """Remove the records that can never be used again: what they hold of an image, or of secrets, goes with it."""
    from pyrkt.store.remove import remove_tree  # noqa: PLC0415 - who replays removes nothing

    try:
        current = _generation(os.path.dirname(pods.root))
        names = os.listdir(f"{pods.root}/cache")
    except OSError:
        return
    for name in names:
        if name != current:
            remove_tree(f"{pods.root}/cache/{name}")


def _make_room(directory: str) -> None:
    names = [f"{directory}/{name}" for name in os.listdir(directory)]
    if len(names) >= _KEPT:
        for name in sorted(names, key=_changed)[: len(names) - _KEPT + 1]:
            os.unlink(name)


def replay(pods: Pods, name: str, data: str) -> Held | None:
    """Make a new pod from the record ``name``; None if there is none, or it does not fit any more."""
    if not name:
        return None
    try:
        with open(_record(pods, name), "rb", buffering=0) as file:
            recorded = file.read()
    except OSError:
        return None
    found = _parse(recorded)
    if found is None:
        return None
    # From here on gc waits, so that the trees which are there now stay until the pod names them.
    guard = lock.acquire(f"{data}/locks/gc", exclusive=False)
    try:
        if not _complete(found, data):
            return None
        pod = pods.create()
        try:
            _write(pod, found)
            write_new(f"{pod.path}/created", b"%d" % time.time_ns())
        except BaseException:
            os.close(pod.descriptor)  # gc removes it: an aborted prepare
            raise
    finally:
        os.close(guard)
    for kind, _, _, content in found:
        if kind == b"image":
            _touch(f"{data}/images/{content.decode()}.json")
        elif kind == b"remark":
            log.warn(content.decode("utf-8", "surrogateescape"))
    return pod


def _parse(recorded: bytes) -> list[_Entry] | None:
    """Return the entries; None if the record is not whole (a crash may leave an empty file)."""
    if not recorded.startswith(_FORMAT):
        return None
    found: list[_Entry] = []
    place = len(_FORMAT)
    while (end := recorded.find(b"\n", place)) >= 0:
        kind, mode, uid, gid, size, path = recorded[place:end].split(b" ", 5)
        if kind == _END:
            return found
        place = end + 1 + int(size)
        content = recorded[end + 1 : place]
        found.append((kind, (int(mode, 8), int(uid), int(gid)), os.fsdecode(path), content))
    return None


def _complete(found: list[_Entry], data: str) -> bool:
    """Tell whether the trees of the record are still stored."""
    for kind, _, path, content in found:
        if kind == b"file" and path == "trees":
            return all(os.path.isdir(f"{data}/trees/{tree}/fs") for tree in content.decode().split())
    return False


def _write(pod: Held, found: list[_Entry]) -> None:
    marks, mine = service.marks(pod.uuid, tokens.new()), (os.geteuid(), os.getegid())
    for kind, (mode, uid, gid), path, content in found:
        place = f"{pod.path}/{path}"
        if kind == b"dir":
            os.mkdir(place, 0o700)
            if (uid, gid) != mine:
                os.chown(place, uid, gid)
            if mode != 0o700:
                os.chmod(place, mode)
        elif kind == b"file":
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            try:
                if mode & 0o077:
                    os.fchmod(descriptor, mode)  # the umask is the caller's business, not this file's
                write_all(descriptor, _exchanged(content, STAND_INS, marks))
            finally:
                os.close(descriptor)


def _touch(path: str) -> None:
    try:
        os.utime(path)
    except OSError:
        pass
