"""Where a pod's metadata service listens.

Every pod has an address of its own in 127.0.0.0/8, made of its UUID: so it can be known before there is a pod, serves
in a network namespace of its own as well as in the host's, and is never routed. Texts have one length each, so that a
record of a pod can be written again for another one (``pod.replay``).
"""

from __future__ import annotations

PORT = 18112
"""Where nobody else listens: in a network namespace of the pod. It is the port of rkt's metadata service."""
_FIRST, _COUNT = 101, 154
"""Each of the three last parts of the address is 101..254: three digits."""
_PORTS = 10_000


def address(uuid: str) -> str:
    """Return the IPv4 address of the pod ``uuid``: 127.A.B.C, 15 characters; one of 3.6 millions."""
    number = _number(uuid)
    parts = [_FIRST + number // _COUNT**place % _COUNT for place in (0, 1, 2)]
    return f"127.{parts[0]}.{parts[1]}.{parts[2]}"


def port(uuid: str, *, host_network: bool) -> int:
    """Return the port: with the host's network one of 10,000 from ``PORT`` on, since 0.0.0.0 may have been bound.

    They lie below the ports that the kernel gives to clients (ip_local_port_range begins at 32768).
    """
    return PORT + _number(uuid) // _COUNT**3 % _PORTS if host_network else PORT


def _number(uuid: str) -> int:
    return int(uuid.replace("-", ""), 16)


def url(uuid: str, token: str, *, host_network: bool) -> str:
    """Return $AC_METADATA_URL of the apps in pod ``uuid``."""
    return f"http://{address(uuid)}:{port(uuid, host_network=host_network)}/{token}"
