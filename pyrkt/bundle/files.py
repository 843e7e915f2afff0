"""Files made for a container: /etc/hosts, /etc/resolv.conf, /etc/hostname, as read-only binds of copies in the bundle.

Which of them, and with what in them, by rkt's precedence: what --dns and --hosts-entry say; the name servers of the
pod's networks, which nobody knows before it starts; a volume of the user's; the image's own file; what
we write. With the host's network the container gets copies of the host's files, so that names mean there what they
mean on the host. An existing file is not touched unasked (appc 0.8, OS-SPEC, Linux). Below a volume nothing is mounted
that is not there: making the mount point would write into the user's data.
"""

from __future__ import annotations

import os
import posixpath
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyrkt.base.errors import KernelError
from pyrkt.bundle.volumes import covers
from pyrkt.spec.runtime import Mount

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyrkt.bundle.options import RunOptions
    from pyrkt.bundle.volumes import Placed
    from pyrkt.store.rootfs import Rootfs

DIRECTORY = "files"
"""Below the bundle, as volumes.DIRECTORY is."""

HOSTS, RESOLV, HOSTNAME = "hosts", "resolv.conf", "hostname"
_PLACES = {HOSTS: "/etc/hosts", RESOLV: "/etc/resolv.conf", HOSTNAME: "/etc/hostname"}
_OPTIONS = ("bind", "ro", "nosuid", "nodev", "noexec", "rprivate")
_MOST = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFiles:
    """The host's own /etc/hosts and /etc/resolv.conf; empty where it has none."""

    hosts: bytes = b""
    resolv: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeFile:
    """A file for the container: ``text`` is what is in it, None for what it has without anybody's wish."""

    name: str
    text: bytes | None = None


def read_host(etc: Path = Path("/etc")) -> HostFiles:
    """Read the host's files."""

    def read(name: str) -> bytes:
        try:
            return (etc / name).read_bytes()
        except OSError:
            return b""

    return HostFiles(hosts=read(HOSTS), resolv=read(RESOLV))


def choose(
    options: RunOptions, hostname: str, rootfs: Rootfs, placed: Placed
) -> tuple[tuple[MadeFile, ...], tuple[str, ...]]:
    """Return the files that a container called ``hostname`` gets, and what the user should know."""
    wanted = [_hosts(options, hostname, rootfs), _resolv(options, rootfs, placed)]
    if options.pod_uuid:
        wanted.append((MadeFile(name=HOSTNAME), False))
    found, told = list[MadeFile](), list[str]()
    for file, asked in (pair for pair in wanted if pair):
        if not _covered(file.name, rootfs, placed) or (asked and _in_volume(file.name, rootfs, placed) is not None):
            found.append(file)
        elif asked and {HOSTS: options.names.hosts, RESOLV: options.names.resolv}[file.name]:
            told.append(f"the volume over {_PLACES[file.name]} has no such file, and none is made in it")
    return tuple(found), tuple(told)


def _hosts(options: RunOptions, hostname: str, rootfs: Rootfs) -> tuple[MadeFile, bool] | None:
    if options.names.hosts == "host":
        return MadeFile(name=HOSTS, text=read_host().hosts), True
    if options.names.hosts:
        own = content(HOSTS, hostname=hostname, host_network=False, host=HostFiles())
        return MadeFile(name=HOSTS, text=own + "".join(f"{a}\t{b}\n" for a, b in options.names.entries).encode()), True
    if options.net == "host" or not rootfs.read(_PLACES[HOSTS]):
        return MadeFile(name=HOSTS), False
    return None


def _resolv(options: RunOptions, rootfs: Rootfs, placed: Placed) -> tuple[MadeFile, bool] | None:
    names = options.names
    if names.resolv == "none":
        return None
    if names.resolv == "host":
        return MadeFile(name=RESOLV, text=read_host().resolv), True
    if names.resolv:
        return MadeFile(name=RESOLV, text=names.text.encode()), True
    if options.net == "host":
        return MadeFile(name=RESOLV), False
    if options.net == "none":
        return None
    # The networks may have name servers. As long as nobody knows, it is what would be seen without the mount.
    covered = _covered(RESOLV, rootfs, placed)
    own = _in_volume(RESOLV, rootfs, placed) if covered else rootfs.read(_PLACES[RESOLV])
    return MadeFile(name=RESOLV, text=own or b""), True


def _places(name: str, rootfs: Rootfs) -> tuple[str, str]:
    return _PLACES[name], rootfs.leads_to(_PLACES[name])


def _covered(name: str, rootfs: Rootfs, placed: Placed) -> bool:
    return any(covers(placed.targets, place) for place in _places(name, rootfs))


def _in_volume(name: str, rootfs: Rootfs, placed: Placed) -> bytes | None:
    """Return the content of the file as a volume has it; None if it has none, or leads elsewhere by a link."""
    place = _places(name, rootfs)[1]
    over = [mount for mount in placed.mounts if covers([mount.destination], place)]
    if not over or not over[-1].source.startswith("/"):
        return None
    mount = max(over, key=lambda each: len(each.destination))
    return _read_plain(mount.source, posixpath.relpath(place, mount.destination))


def _read_plain(source: str, below: str) -> bytes | None:
    from pyrkt.kernel import path  # noqa: PLC0415 - few volumes lie on /etc

    try:
        if below == ".":
            descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        else:
            directory = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                flags, rules = os.O_RDONLY | os.O_NONBLOCK, path.RESOLVE_BENEATH | path.RESOLVE_NO_SYMLINKS
                descriptor = path.openat2(directory, below, flags, 0, rules)
            finally:
                os.close(directory)
    except (OSError, KernelError):
        return None
    with open(descriptor, "rb", buffering=0) as file:
        return file.read(_MOST) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


def mounts(names: Iterable[str], rootfs: Rootfs) -> tuple[Mount, ...]:
    """Return the mounts of the files ``names``: where the image's own links lead, which may be to nothing yet.

    The resolv.conf of an image with systemd is a link to a file that only a booted system has.
    """
    return tuple(
        Mount(
            destination=rootfs.leads_to(_PLACES[name]),
            type="bind",
            source=f"{DIRECTORY}/{name}",
            options=_OPTIONS,
        )
        for name in names
    )


def content(name: str, *, hostname: str, host_network: bool, host: HostFiles) -> bytes:
    """Return what the file ``name`` says in a container called ``hostname``, where nobody wishes anything else."""
    if name == HOSTNAME:
        return f"{hostname}\n".encode()
    if name == RESOLV:
        return host.resolv
    if host_network and host.hosts:
        return host.hosts
    own = f" {hostname}" if hostname and hostname != "localhost" else ""
    return f"127.0.0.1\tlocalhost{own}\n::1\tlocalhost ip6-localhost ip6-loopback{own}\n".encode()
