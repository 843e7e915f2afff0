"""A new pod for what is asked: by the record of an equal one where there is one, else from its images."""

from __future__ import annotations

import os
import time

from pyrkt.base.atomic import write_file
from pyrkt.pod import replay
from pyrkt.pod.directory import save_uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrkt.base.dirs import ConfigDirs
    from pyrkt.pod.ask import PodAsk, Pull
    from pyrkt.pod.directory import Held, Pods
    from pyrkt.pod.images import Source

_SETTLED_NS = 50_000_000
"""A file system's clock may tick every 10 ms: two changes of the index within one tick look like one."""


class Maker:
    """How pods are made in one data directory; ``source`` opens the store and what fetching needs."""

    __slots__ = ("data", "dirs", "pods", "pull", "source")

    def __init__(self, pods: Pods, data: str, dirs: ConfigDirs, pull: Pull, source: Callable[[], Source]) -> None:
        """Touch nothing yet."""
        self.pods, self.data, self.dirs, self.pull, self.source = pods, data, dirs, pull, source

    def make(self, ask: PodAsk, *, uuid_file: str = "", detach: bool = False) -> Held:
        """Return a new pod, locked, in ``prepare``, with everything that it needs to run.

        Raises: what fetching, configuring and compiling raise; then nothing is left of the pod.
        """
        if ask.name and not os.path.isdir(self.pods.root):
            self.source()  # makes the data directory, with the checks of who may be in it
        # Nobody else may take the name until the pod that has it can be seen.
        name_lock = self.pods.claim_name(ask.name) if ask.name else -1
        try:
            pod = self._replayed(ask, uuid_file, detach=detach) or self._prepared(ask, uuid_file, detach=detach)
            if ask.name:
                write_file(f"{pod.path}/name", ask.name, durable=False)
        finally:
            if name_lock >= 0:
                os.close(name_lock)
        return pod

    def _key(self, ask: PodAsk, *, detach: bool) -> str:
        return replay.key(ask, self.pull, self.dirs, self.data, detach=detach)

    def _replayed(self, ask: PodAsk, uuid_file: str, *, detach: bool) -> Held | None:
        pod = replay.replay(self.pods, self._key(ask, detach=detach), self.data)
        if pod is not None and uuid_file:
            try:
                save_uuid(uuid_file, pod)
            except BaseException:
                _discard(pod)
                raise
        return pod

    def _prepared(self, ask: PodAsk, uuid_file: str, *, detach: bool) -> Held:
        from pyrkt.pod.prepare import prepare  # noqa: PLC0415 - the way that replaying spares

        source = self.source()
        before = self._key(ask, detach=detach)
        made = prepare(ask, self.pods, source, uuid_file=uuid_file, detach=detach)
        # Only if no image came or went meanwhile it is sure what the pod was made of.
        if before and before == self._key(ask, detach=detach) and self._settled():
            replay.keep(self.pods, before, made.pod, list(made.images), made.remarks)
        return made.pod

    def _settled(self) -> bool:
        return time.time_ns() - os.stat(f"{self.data}/images").st_mtime_ns > _SETTLED_NS


def _discard(pod: Held) -> None:
    """Remove a pod that nobody has heard of yet."""
    from pyrkt.store.remove import remove_tree  # noqa: PLC0415 - only failures pay

    remove_tree(pod.path)
    os.close(pod.descriptor)
