"""The ports of a pod that the host publishes: what --port or a pod manifest names, and what the apps call so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyrkt.base.errors import UsageError
from pyrkt.net.ports import Published
from pyrkt.spec.appc import Port

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyrkt.spec.appc import ExposedPort

_PROTOCOLS = ("tcp", "udp", "sctp")


def published(exposed: Iterable[ExposedPort], inside: Sequence[Port]) -> tuple[Published, ...]:
    """Return each port of the host that a pod wants, with the port of the pod behind it; its apps have ``inside``.

    Raises: UsageError for a name that no app has, or several have (appc 0.8, pods: names of ports MUST be unique among
    the apps), or for a range that leaves the ports there are.
    """
    return tuple(one for port in exposed for one in _published(port, inside))


def _published(port: ExposedPort, ports: Sequence[Port]) -> list[Published]:
    inside = port.pod_port or _inside(port.name, ports)
    protocol = inside.protocol.lower()
    if protocol not in _PROTOCOLS:
        raise UsageError(
            f"port {port.name!r} is of protocol {inside.protocol!r}", hint=f"published are {', '.join(_PROTOCOLS)}"
        )
    if inside.socket_activated:
        return []  # whoever starts the pod has opened it, and the app gets that socket
    first = port.host_port or inside.port
    if first + inside.count - 1 > 65535:
        raise UsageError(
            f"port {port.name!r}: {inside.count} ports from {first} on end beyond 65535", hint="begin lower"
        )
    return [
        Published(
            name=port.name,
            protocol=protocol,
            pod_port=inside.port + offset,
            host_port=first + offset,
            host_ip=port.host_ip,
        )
        for offset in range(inside.count)
    ]


def _inside(name: str, ports: Sequence[Port]) -> Port:
    """Return the port that an app calls ``name``; "8080-tcp" is a port whether an image mentions it or not."""
    named = [port for port in ports if port.name == name]
    if len(named) > 1:
        raise UsageError(
            f"two apps have a port named {name!r}: which one is published?", hint="name it by its number, as 80-tcp"
        )
    found = named[0] if named else None
    number, _, protocol = name.partition("-")
    if found is None and number.isdigit() and protocol in _PROTOCOLS and 0 < int(number) <= 65535:
        return Port(name=name, protocol=protocol, port=int(number))
    if found is None:
        known = ", ".join(sorted(port.name for port in ports))
        raise UsageError(
            f"no app has a port named {name!r}",
            hint=f"they have {known}" if known else "name it by its number: --port=80-tcp:8080",
        )
    return found
