"""``pyrkt net-up UUID`` and ``pyrkt net-down UUID``: what stage1 runs for a pod with networks, never people."""

from __future__ import annotations

import sys

from pyrkt.base.errors import UsageError
from pyrkt.cli.settings import settle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrkt.cli.grammar import Value
    from pyrkt.pod.directory import Pod

_MOST = 1 << 16


def net_up(words: list[str], flags: Mapping[str, Value]) -> int:
    """Give the pod UUID its networks, in the namespace of its first process: stdin is an OCI state with its pid."""
    from pyrkt.base.fastjson import loads
    from pyrkt.base.reader import Reader
    from pyrkt.pod import network

    pod = _pod(words, flags)
    first = Reader(loads(sys.stdin.buffer.read(_MOST), "state"), "state")["pid"].integer(1, 1 << 31)
    network.join(pod.path, pod.uuid, first)
    return 0


def net_down(words: list[str], flags: Mapping[str, Value]) -> int:
    """Take the pod UUID off its networks."""
    from pyrkt.pod import network

    pod = _pod(words, flags)
    network.down(pod.path, pod.uuid)
    return 0


def _pod(words: list[str], flags: Mapping[str, Value]) -> Pod:
    if len(words) != 1:
        raise UsageError("stage1 calls this, not people", hint="pyrkt gc does it for pods that have ended")
    from pyrkt.pod.directory import Pods

    return Pods(settle(flags).data).find(words[0])
