"""A container that was configured already, in another network: what of config.json depends on it, made anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyrkt.bundle import defaults, files
from pyrkt.bundle.volumes import Placed
from pyrkt.spec.runtime import Linux, Namespace

if TYPE_CHECKING:
    from pyrkt.bundle.options import RunOptions
    from pyrkt.spec.runtime import Config, Mount
    from pyrkt.store.rootfs import Rootfs

_SYS = "/sys"


def rewired(config: Config, rootfs: Rootfs, options: RunOptions) -> tuple[Config, dict[str, bytes], tuple[str, ...]]:
    """Return ``config`` for the network, the names and the host name of ``options``, and for nothing else of them.

    Beside it what is to be in its files/, and what the user should know.
    """
    own = [mount for mount in config.mounts if not mount.source.startswith(f"{files.DIRECTORY}/")]
    placed = Placed(mounts=tuple(mount for mount in own if mount.type == "bind"))
    made, told = files.choose(options, config.hostname, rootfs, placed)
    host_network = options.net == "host"
    host = files.read_host() if host_network else files.HostFiles()
    texts = {
        file.name: files.content(file.name, hostname=config.hostname, host_network=host_network, host=host)
        if file.text is None
        else file.text
        for file in made
    }
    mounts = (*(_system(mount, config, options) for mount in own), *files.mounts(texts, rootfs))
    return connected(config, options).replace(mounts=mounts), texts, told


def connected(config: Config, options: RunOptions) -> Config:
    """Return ``config`` with the network namespace that ``options`` want, in its place among the others."""
    linux = config.linux or Linux()
    kept = [each for each in linux.namespaces if each.type != "network"]
    if options.net != "host":
        kept.insert(min(1, len(kept)), Namespace(type="network", path=options.netns))
    sysctl = {name: value for name, value in linux.sysctl.items() if options.net != "host" or name[:4] != "net."}
    return config.replace(linux=linux.replace(namespaces=tuple(kept), sysctl=sysctl))


def _system(mount: Mount, config: Config, options: RunOptions) -> Mount:
    """Return ``mount``, or the file system of its place that belongs to the network."""
    standard = [_sys(host_network=host, userns=userns) for host in (True, False) for userns in (True, False)]
    if mount not in standard:
        return mount
    return _sys(host_network=options.net == "host", userns=bool(config.linux and config.linux.uid_mappings))


def _sys(*, host_network: bool, userns: bool) -> Mount:
    found = defaults.mounts(host_network=host_network, userns=userns)
    return next(mount for mount in found if mount.destination == _SYS)
