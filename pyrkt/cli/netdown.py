"""``pyrkt net-down UUID``: what stage1 runs when a pod with networks has ended."""

from __future__ import annotations

from pyrkt.base.errors import UsageError
from pyrkt.cli.settings import settle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrkt.cli.grammar import Value


def net_down(words: list[str], flags: Mapping[str, Value]) -> int:
    """Take the pod UUID off its networks."""
    if len(words) != 1:
        raise UsageError("stage1 calls this, not people", hint="pyrkt gc does it for pods that have ended")
    from pyrkt.pod import network
    from pyrkt.pod.directory import Pods

    pod = Pods(settle(flags).data).find(words[0])
    network.down(pod.path, pod.uuid)
    return 0
