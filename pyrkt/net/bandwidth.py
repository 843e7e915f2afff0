"""Limits of what a pod sends and receives, by the ``bandwidth`` plugin. Source: CNI conventions, "bandwidth"."""

from __future__ import annotations

from pyrkt.net import ports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.net.conf import Network

CAPABILITY = "bandwidth"
_PLUGIN: dict[str, Any] = {"type": "bandwidth", "capabilities": {CAPABILITY: True}}
_WITH_A_PEER = ("bridge", "ptp")
"""Plugins that leave an end of a veth on the host, which is where the bandwidth plugin does its work."""


def can_shape(network: Network) -> bool:
    """Tell whether a pod's bandwidth in ``network`` can be limited."""
    return network.declares(CAPABILITY) or network.plugins[0]["type"] in _WITH_A_PEER


def shaping(network: Network) -> Network:
    """Return ``network`` with a plugin that limits bandwidth, where it can have one."""
    if network.declares(CAPABILITY) or not can_shape(network):
        return network
    return ports.with_plugin(network, _PLUGIN)
