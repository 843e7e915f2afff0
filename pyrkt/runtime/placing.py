"""Which cgroups a new container gets: where they are, what is written in them, whom they are given to."""

from __future__ import annotations

import os

from pyrkt.base.errors import NoPermission
from pyrkt.cgroup import host as cgroup_host
from pyrkt.cgroup import plan as cgroup_plan
from pyrkt.spec.runtime import User

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.cgroup.host import Mounts
    from pyrkt.kernel.host import Host
    from pyrkt.runtime.scope import Scope
    from pyrkt.spec.layout import CgroupLayout
    from pyrkt.spec.runtime import Config, IdMapping

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
        if rootless and config.linux and config.linux.cgroups_path and not layout.paths:
            raise _out_of_reach(mounts, path)
    if not layout.enter and not rootless and config.linux is not None and config.linux.uid_mappings:
        return layout.replace(own=_given(config, layout.clone_into)), scope
    return layout, scope


def _out_of_reach(mounts: Mounts, path: str) -> NoPermission:
    """Return the complaint, in runc's words, about a cgroup that was asked for by its name."""
    hierarchies = (*mounts.v1, *((mounts.unified,) if mounts.unified else ()))
    where = cgroup_plan.directory(hierarchies[0], path) if hierarchies else path
    return NoPermission(
        f"unable to apply cgroup configuration: mkdir {where}: permission denied "
        "(config.json: linux.cgroupsPath): no cgroup is delegated to this user",
        hint="leave cgroupsPath out, or name a cgroup that is yours",
    )


def _given(config: Config, directory: str) -> tuple[tuple[str, int, int], ...]:
    """Return what of a v2 cgroup is made over to the container's user, and the ids.

    Only where the container sees it as the top of a hierarchy that it may write to: a cgroup namespace of its own and
    a cgroup file system that is not read-only. The group, too, must be one of the container's: to the root of a user
    namespace a file is closed that belongs to nobody in it. Source: cgroup-v2.rst, "Delegation"; capabilities(7).
    """
    linux = config.linux
    if linux is None or not any(space.type == "cgroup" and not space.path for space in linux.namespaces):
        return ()
    if not any(
        mount.type in {"cgroup", "cgroup2"}
        and os.path.normpath(mount.destination) == "/sys/fs/cgroup"
        and "ro" not in mount.options
        for mount in config.mounts
    ):
        return ()
    user = config.process.user if config.process else User()
    uid, gid = _outside(linux.uid_mappings, user.uid), _outside(linux.gid_mappings, user.gid)
    if uid < 0 or gid < 0:
        return ()
    files = cgroup_host.read_text(_DELEGATE).split()
    return ((directory, uid, gid), *((f"{directory}/{file}", uid, gid) for file in files))


def _outside(mappings: tuple[IdMapping, ...], number: int) -> int:
    """Return what an id of the container is on the host; -1 if nothing."""
    for ids in mappings:
        if ids.container_id <= number < ids.container_id + ids.size:
            return ids.host_id + number - ids.container_id
    return -1


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
