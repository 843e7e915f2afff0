"""Published ports: from ``--port NAME:[HOSTIP:]HOSTPORT`` to what the ``portmap`` plugin is told.

Source: rkt 1.30, Documentation/networking/overview.md ("Exposing container ports on the host"); CNI conventions,
"portMappings".
"""

from __future__ import annotations

from pyrkt.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pyrkt.net.conf import Network


CAPABILITY = "portMappings"
PORTMAP: dict[str, Any] = {"type": "portmap", "capabilities": {CAPABILITY: True}, "snat": True}
_LISTS = "0.3.1"
"""A single plugin of an older version cannot be followed by another one; its network speaks this one then."""


class Published(Record):
    """A port of the pod made reachable on the host; ``host_ip`` is empty for all its addresses."""

    name: str
    protocol: str
    pod_port: int
    host_port: int
    host_ip: str = ""

    def mapping(self) -> dict[str, Any]:
        """Return the element of portMappings."""
        value: dict[str, Any] = {
            "hostPort": self.host_port,
            "containerPort": self.pod_port,
            "protocol": self.protocol,
        }
        return value | {"hostIP": self.host_ip} if self.host_ip else value


def mappings(ports: Iterable[Published]) -> list[dict[str, Any]]:
    """Return the value of the capability."""
    return [port.mapping() for port in ports]


def publishing(network: Network) -> Network:
    """Return ``network`` with a plugin that publishes ports: its own one, or ``portmap`` at the end."""
    if network.declares(CAPABILITY):
        return network
    return with_plugin(network, PORTMAP)


def with_plugin(network: Network, plugin: dict[str, Any]) -> Network:
    """Return ``network`` with one more plugin at its end."""
    version = network.version if network.version not in ("0.1.0", "0.2.0", "0.3.0") else _LISTS
    return network.replace(plugins=(*network.plugins, plugin), version=version)
