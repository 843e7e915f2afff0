"""Hosts and configs that the compiler's tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyrkt.kernel.host import Host
from pyrkt.plan.compile import container
from pyrkt.plan.place import Place
from pyrkt.spec.example import example_config
from pyrkt.spec.layout import CgroupLayout
from pyrkt.spec.runtime import Config, IdMapping, Linux, Mount, Namespace, Process, Seccomp
from pyrkt.spec.steps import TABLE

if TYPE_CHECKING:
    from pyrkt.plan.steps import Plan, Step

ALL_CAPS = (1 << 41) - 1
V1_MOUNTS = (
    ("/sys/fs/cgroup/memory", "memory", "/user.slice"),
    ("/sys/fs/cgroup/cpu,cpuacct", "cpu,cpuacct", ""),
    ("/sys/fs/cgroup/systemd", "none,name=systemd", ""),
)
V2_MOUNTS = (("/sys/fs/cgroup", "", "/user.slice"),)
V2 = Host(
    kernel=(6, 18), euid=0, egid=0, last_cap=40, bounding=ALL_CAPS, cgroup="v2", cgroup_mounts=V2_MOUNTS, kcore=True
)
HYBRID = V2.replace(cgroup="hybrid", cgroup_mounts=(*V1_MOUNTS, ("/sys/fs/cgroup/unified", "", "/x")))
USER = V2.replace(euid=1000, egid=1000, bounding=0)


def changed(*, linux: dict[str, Any] | None = None, process: dict[str, Any] | None = None, **members: Any) -> Config:
    """Return the example with members of it, of its linux and of its process replaced."""
    config = example_config(args=("true",), terminal=False)
    found_linux, found_process = config.linux, config.process
    assert isinstance(found_linux, Linux)
    assert isinstance(found_process, Process)
    return config.replace(
        linux=found_linux.replace(**linux or {}), process=found_process.replace(**process or {}), **members
    )


def namespaces(*kinds: str, **joined: str) -> tuple[Namespace, ...]:
    """Return new namespaces by type, and joined ones as type=path."""
    return (
        *(Namespace(type=kind) for kind in kinds),
        *(Namespace(type=kind, path=path) for kind, path in joined.items()),
    )


def compiled(config: Config, host: Host = V2, place: Place | None = None, **more: Any) -> Plan:
    """Compile ``config`` as the bundle /bundle."""
    return container(config, "/bundle", host, more.pop("cgroup", CgroupLayout()), place or Place(), **more)


def named(plan: Plan, *names: str) -> list[Step]:
    """Return the steps with these names, in order."""
    assert set(names) <= {row[0] for row in TABLE.values()}
    return [step for step in plan.steps if step.name in names]


def place_of(plan: Plan, name: str, last: bool = False) -> int:
    """Return the index of the first (or last) step with that name."""
    found = [index for index, step in enumerate(plan.steps) if step.name == name]
    return found[-1 if last else 0]


ALL = ("pid", "network", "ipc", "uts", "mount", "cgroup")
WIDE = (IdMapping(container_id=0, host_id=100_000, size=65_536),)
USERNS: dict[str, Any] = {
    "namespaces": namespaces(*ALL, "user"),
    "uid_mappings": WIDE,
    "gid_mappings": WIDE,
}
SHARED = {"rootfs_propagation": "rshared"}
CGROUP = CgroupLayout(
    make=("/cg/a", "/cg/a/b"),
    write=(("/cg/a/b/memory.max", "1000", "linux.resources.memory.limit"),),
    enter=("/cg/a/b",),
    remove=("/cg/a/b", "/cg/a"),
)
FILTER = Seccomp(default_action="SCMP_ACT_ALLOW", flags=("SECCOMP_FILTER_FLAG_LOG",))
PROGRAM = bytes(8)


def mounted(*mounts: Mount, **more: Any) -> Config:
    return changed(mounts=(*example_config().mounts, *mounts), **more)


def bind(destination: str = "/data", source: str = "/srv", *options: str) -> Mount:
    return Mount(destination=destination, type="bind", source=source, options=("rbind", *options))
