"""What ``prepare`` would do, without doing it: the plan of a pod that is never made."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pyrkt.metadata import token as tokens
from pyrkt.pod import configure, directory, flavours, ids
from pyrkt.pod.compile import Shared, compiled
from pyrkt.pod.prepare import placed
from pyrkt.pod.program import wires
from pyrkt.pod.verdicts import judge

if TYPE_CHECKING:
    from pyrkt.pod.ask import PodAsk
    from pyrkt.pod.compile import Compiled
    from pyrkt.pod.directory import Pods
    from pyrkt.pod.images import Source
    from pyrkt.pod.verdicts import Verdicts

NIL = "00000000-0000-0000-0000-000000000000"
"""The UUID of a pod that is not there: the same each time, so that the plan's digest is."""


def rehearse(ask: PodAsk, pods: Pods, source: Source) -> tuple[Compiled, Verdicts]:
    """Return the plans that running ``ask`` would carry out, and what would become of its isolators.

    The images are fetched where they are missing. Raises: as ``prepare``.
    """
    flavours.check(ask)
    images = [source.image(app) for app in ask.apps]
    final = pods.path(directory.RUN, NIL)
    spaces = ids.rehearsed(private=ask.private_users)
    place = placed(ask, NIL, final, spaces, source, tokens.NOBODYS)
    parts, bundles = [], []
    for app, record in zip(ask.apps, images, strict=True):
        root = configure.rootfs(source.store, record)
        copied = not ask.overlay or spaces.shifted
        name, bundle = configure.app_name(app, record), configure.compose(ask, app, record, source.store, place)
        part = configure.part(ask, name, app, bundle).replace(flavour=ask.flavour)
        parts.append(part if copied else part.replace(lowers=tuple(reversed(root.lowers))))
        bundles.append((name, bundle))
    limits, reports = configure.pod_limits(ask, place)
    judged = judge(reports, bundles, ask.flavour.name)
    if ask.strict:
        judged.check()
    shared = Shared(config=configure.shared(ask, limits, [bundle for _, bundle in bundles], place))
    wired = wires(os.path.dirname(pods.root), NIL, ask.net, userns=bool(spaces.uids))
    return compiled(shared, tuple(parts), final, NIL, wires=wired), judged
