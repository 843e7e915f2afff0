"""The cgroups of a running app, as the layout that the runtime's own verbs work with."""

from __future__ import annotations

from pyrkt.cgroup import host as cgroup_host
from pyrkt.spec.layout import CgroupLayout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrkt.cgroup.host import Mounts


def layout(directories: Sequence[str], mounts: Mounts | None = None) -> CgroupLayout:
    """Return the layout of the cgroups ``directories``, one a hierarchy, in which something runs already."""
    if mounts is None:
        mounts = cgroup_host.parse(
            cgroup_host.read_text("/proc/self/mountinfo"), cgroup_host.read_text("/proc/self/cgroup")
        )
    enter, into, paths = list[str](), "", list[tuple[str, str]]()
    for directory in directories:
        for hierarchy in mounts.v1:
            if directory.startswith(f"{hierarchy.mount}/"):
                enter.append(directory)
                paths += [(name, directory) for name in hierarchy.names]
                break
        else:
            if mounts.unified is not None and directory.startswith(f"{mounts.unified.mount}/"):
                into = directory
                paths.append(("", directory))
    return CgroupLayout(enter=tuple(enter), clone_into=into, paths=tuple(paths), remove=tuple(directories))
