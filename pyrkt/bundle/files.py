"""Files made for a container: /etc/hosts and /etc/resolv.conf, as read-only binds of copies in the bundle.

With the host's network the container gets copies of the host's two files, so that names mean there what they mean
on the host. With a network of its own it gets only a hosts file, and only if the image has none: an existing one is
not touched unasked (appc 0.8, OS-SPEC, Linux). Below a volume of the user's nothing is mounted: making the mount
point would write into the user's data.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyrkt.bundle.volumes import covers
from pyrkt.spec.runtime import Mount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrkt.store.rootfs import Rootfs

DIRECTORY = "files"
"""Below the bundle, as volumes.DIRECTORY is."""

HOSTS, RESOLV = "hosts", "resolv.conf"
_PLACES = {HOSTS: "/etc/hosts", RESOLV: "/etc/resolv.conf"}
_OPTIONS = ("bind", "ro", "nosuid", "nodev", "noexec", "rprivate")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFiles:
    """The host's own /etc/hosts and /etc/resolv.conf; empty where it has none."""

    hosts: bytes = b""
    resolv: bytes = b""


def read_host(etc: Path = Path("/etc")) -> HostFiles:
    """Read the host's files."""

    def read(name: str) -> bytes:
        try:
            return (etc / name).read_bytes()
        except OSError:
            return b""

    return HostFiles(hosts=read(HOSTS), resolv=read(RESOLV))


def needed(*, host_network: bool, rootfs: Rootfs, targets: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the files that a container gets; ``targets`` is where the user's volumes are."""
    names: tuple[str, ...] = ()
    if host_network:
        names = (HOSTS, RESOLV)
    elif not rootfs.read(_PLACES[HOSTS]):
        names = (HOSTS,)
    places = {name: (_PLACES[name], rootfs.leads_to(_PLACES[name])) for name in names}
    return tuple(name for name in names if not any(covers(targets, place) for place in places[name]))


def mounts(names: Sequence[str], rootfs: Rootfs) -> tuple[Mount, ...]:
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
    """Return what the file ``name`` says in a container called ``hostname``."""
    if name == RESOLV:
        return host.resolv
    if host_network and host.hosts:
        return host.hosts
    own = f" {hostname}" if hostname and hostname != "localhost" else ""
    return f"127.0.0.1\tlocalhost{own}\n::1\tlocalhost ip6-localhost ip6-loopback{own}\n".encode()
