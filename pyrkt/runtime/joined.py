"""What only the host can tell about the namespaces that a config joins by path."""

from __future__ import annotations

import os

from pyrkt.base.errors import InvalidSpec
from pyrkt.kernel import namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.spec.runtime import IdMapping, Linux


def host_network(linux: Linux) -> bool:
    """Tell whether the network namespace that is joined is the caller's own, whose parameters are the host's."""
    space = linux.namespace("network")
    if space is None or not space.path:
        return False
    try:
        found = os.stat(space.path)
    except OSError:
        return False  # who joins it will say why that cannot be
    return (found.st_dev, found.st_ino) == namespaces.identity("self", "network")


def check_maps(linux: Linux) -> None:
    """Refuse id mappings beside a user namespace that has others: engines wrote them there for old runtimes.

    Raises: InvalidSpec, also for what is no user namespace.
    """
    space = linux.namespace("user")
    if space is None or not space.path or not (linux.uid_mappings or linux.gid_mappings):
        return
    try:
        found = namespaces.id_maps(space.path)
    except OSError as error:
        raise InvalidSpec(
            f"{space.path} cannot be joined: {error.strerror}", document="config.json", where="linux.namespaces"
        ) from None
    for name, wanted, there in zip(
        ("uidMappings", "gidMappings"), (linux.uid_mappings, linux.gid_mappings), found, strict=True
    ):
        if _ranges(wanted) != sorted(there):
            raise InvalidSpec(
                "user namespaces enabled, but both namespace path and non-equivalent mappings specified",
                document="config.json",
                where=f"linux.{name}",
                hint="leave the mappings out: the namespace has its own",
            )


def _ranges(mappings: tuple[IdMapping, ...]) -> list[tuple[int, int, int]]:
    return sorted((m.container_id, m.host_id, m.size) for m in mappings)
