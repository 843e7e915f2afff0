"""What ``prepare`` would do, without doing it: the plan of a pod that is never made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyrkt.metadata import token as tokens
from pyrkt.pod import configure, directory, ids
from pyrkt.pod.compile import compiled

if TYPE_CHECKING:
    from pyrkt.pod.ask import PodAsk
    from pyrkt.pod.compile import Compiled
    from pyrkt.pod.directory import Pods
    from pyrkt.pod.images import Source

NIL = "00000000-0000-0000-0000-000000000000"
"""The UUID of a pod that is not there: the same each time, so that the plan's digest is."""


def rehearse(ask: PodAsk, pods: Pods, source: Source) -> Compiled:
    """Return the plans that running ``ask`` would carry out. The images are fetched where they are missing."""
    images = [source.image(app) for app in ask.apps]
    final = pods.path(directory.RUN, NIL)
    spaces = ids.rehearsed(private=ask.private_users)
    place = configure.Place(
        uuid=NIL, path=final, token=tokens.NOBODYS, uid_mappings=spaces.uids, gid_mappings=spaces.gids
    )
    parts = []
    for app, record in zip(ask.apps, images, strict=True):
        root = configure.rootfs(source.store, record)
        copied = not ask.overlay or spaces.shifted
        bundle = configure.compose(ask, app, record, source.store, place)
        part = configure.part(configure.app_name(app, record), app, bundle, ask.exit_policy)
        parts.append(part if copied else part.replace(lowers=tuple(reversed(root.lowers))))
    return compiled(tuple(parts), final, NIL)
