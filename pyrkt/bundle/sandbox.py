"""What the apps of a pod share, as the container of a pod that runs nothing itself: its namespaces, its names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyrkt.bundle.assemble import OCI_VERSION, hostname, id_mappings, namespaces
from pyrkt.bundle.isolators import shared_resources
from pyrkt.spec.runtime import Config, Linux, Namespace

if TYPE_CHECKING:
    from pyrkt.bundle.isolators import Limits
    from pyrkt.bundle.options import RunOptions

_OWN = ("mount", "cgroup")
"""The namespaces that each app has for itself."""


def container(options: RunOptions, limits: Limits) -> Config:
    """Return the container whose namespaces all apps of a pod join; ``options`` are those that no app changes.

    ``limits`` are the pod's own. It has no process: a pod's first one belongs to nobody, and only reaps.
    """
    kinds = [kind for kind in namespaces(options) if kind not in _OWN]
    uids, gids = id_mappings(options)
    linux = Linux(
        uid_mappings=uids,
        gid_mappings=gids,
        sysctl=dict(limits.sysctl),
        resources=shared_resources(limits),
        cgroups_path=options.cgroups_path,
        namespaces=tuple(Namespace(type=kind, path=options.netns if kind == "network" else "") for kind in kinds),
    )
    return Config(oci_version=OCI_VERSION, hostname=hostname(options), linux=linux)


def of(config: Config, limits: Limits, cgroups_path: str) -> Config:
    """Return the same for a pod one of whose apps has ``config``; "" where its apps have no cgroups."""
    given = config.linux or Linux()
    linux = Linux(
        uid_mappings=given.uid_mappings,
        gid_mappings=given.gid_mappings,
        sysctl=dict(limits.sysctl),
        resources=shared_resources(limits),
        cgroups_path=cgroups_path if given.cgroups_path else "",
        namespaces=tuple(each for each in given.namespaces if each.type not in _OWN),
    )
    return Config(oci_version=config.oci_version, hostname=config.hostname, linux=linux)
