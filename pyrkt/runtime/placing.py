"""Which cgroups a new container gets: where they are, what is written in them, whom they are given to."""

from __future__ import annotations

import os

from pyrkt.cgroup import host as cgroup_host
from pyrkt.cgroup import plan as cgroup_plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.kernel.host import Host
    from pyrkt.runtime.scope import Scope
    from pyrkt.spec.layout import CgroupLayout
    from pyrkt.spec.runtime import Config

_DELEGATE = "/sys/kernel/cgroup/delegate"


def layout_of(
    config: Config, name: str, host: Host, *, rootless: bool, systemd: bool
) -> tuple[CgroupLayout, Scope | None]:
    """Return the cgroups of the new container ``name``, and with ``systemd`` the unit they belong to. Changes nothing.

    Raises: InvalidSpec, NoPermission for limits that cannot be; Unavailable without a systemd to ask.
    """
    scope = None
    if systemd:
        from pyrkt.runtime import scope as driver  # noqa: PLC0415 - D-Bus, only for who asks for it

        layout, scope = driver.decide(config, name, host, rootless=rootless)
    else:
        resources, path = (config.linux.resources, config.linux.cgroups_path) if config.linux else (None, "")
        path = path or name
        mounts = cgroup_host.probe(path, host.cgroup_mounts, rootless=rootless)
        layout = cgroup_plan.layout(resources, path, mounts, rootless=rootless)
    if not layout.enter and not rootless and config.linux is not None and config.linux.uid_mappings:
        return layout.replace(own=_given(config, layout.clone_into)), scope
    return layout, scope


def _given(config: Config, directory: str) -> tuple[tuple[str, int], ...]:
    """Return what of a v2 cgroup is made over to the container's user, and the uid.

    Only where the container sees it as the top of a hierarchy that it may write to: a cgroup namespace of its own and
    a cgroup file system that is not read-only. Source: cgroup-v2.rst, "Delegation"; runc does the same.
    """
    linux, user = config.linux, config.process.user.uid if config.process else 0
    if linux is None or not any(space.type == "cgroup" and not space.path for space in linux.namespaces):
        return ()
    if not any(
        mount.type in {"cgroup", "cgroup2"}
        and os.path.normpath(mount.destination) == "/sys/fs/cgroup"
        and "ro" not in mount.options
        for mount in config.mounts
    ):
        return ()
    for ids in linux.uid_mappings:
        if ids.container_id <= user < ids.container_id + ids.size:
            uid = ids.host_id + user - ids.container_id
            names = cgroup_host.read_text(_DELEGATE).split()
            return ((directory, uid), *((f"{directory}/{file}", uid) for file in names))
    return ()


def ready(layout: CgroupLayout) -> CgroupLayout:
    """Return ``layout`` for directories some of which may be there already.

    Raises: Busy if processes are in them, or they are frozen.
    """
    there = [directory for directory in layout.remove if os.path.exists(directory)]
    if not there:
        return layout
    from pyrkt.cgroup import existing  # noqa: PLC0415 - a new container's cgroups are mostly not there

    existing.check(there)
    return layout.replace(write=existing.arranged(layout.write))
