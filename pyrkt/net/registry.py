"""Which pods of this host are attached to what, whichever data directory they lie in: for GC, and for host ports.

A file for each pod below /run. An attachment does not outlive a boot, its record must not either.
"""

from __future__ import annotations

import os

from pyrkt.base import fastjson
from pyrkt.base.atomic import write_file
from pyrkt.base.errors import CannotCreate, InvalidSpec
from pyrkt.base.reader import Reader
from pyrkt.base.record import Record
from pyrkt.kernel import lock
from pyrkt.net import netns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyrkt.net.ports import Published

DIRECTORY = "/run/pyrkt/attachments"
_ANY = ("", "0.0.0.0", "::")


class Entry(Record):
    """The attachments of one pod: (network, interface) each; the ports of the host: (protocol, address, port) each."""

    uuid: str
    attachments: tuple[tuple[str, str], ...] = ()
    ports: tuple[tuple[str, str, int], ...] = ()


def claim(uuid: str, attachments: Iterable[tuple[str, str]], ports: Iterable[Published]) -> None:
    """Enter a pod. Raises: CannotCreate if another pod, or another process of the host, has one of its ports."""
    wanted = tuple((port.protocol, port.host_ip, port.host_port) for port in ports)
    os.makedirs(DIRECTORY, 0o755, exist_ok=True)
    descriptor = lock.acquire(f"{DIRECTORY}/.lock", exclusive=True)
    try:
        if wanted:
            _refuse_taken(uuid, wanted)
        value = {"attachments": [list(pair) for pair in attachments], "ports": [list(port) for port in wanted]}
        write_file(f"{DIRECTORY}/{uuid}", fastjson.dumps(value), durable=False)
    finally:
        os.close(descriptor)


def release(uuid: str) -> None:
    """Remove what was entered for a pod."""
    try:
        os.unlink(f"{DIRECTORY}/{uuid}")
    except FileNotFoundError:
        pass


def entries() -> tuple[Entry, ...]:
    """Return what is entered of the pods that have a network namespace."""
    try:
        names = sorted(name for name in os.listdir(DIRECTORY) if "." not in name)
    except FileNotFoundError:
        return ()
    found = []
    for name in names:
        try:
            with open(f"{DIRECTORY}/{name}", "rb") as file:
                reader = Reader(fastjson.loads(file.read(), name), name)
            entry = Entry(
                uuid=name,
                attachments=tuple((a.text(), b.text()) for a, b in (i.items() for i in reader["attachments"].items())),
                ports=tuple(
                    (a.text(), b.text(), c.integer(0, 65535))
                    for a, b, c in (i.items() for i in reader["ports"].items())
                ),
            )
        except (FileNotFoundError, InvalidSpec, ValueError):
            continue  # gone meanwhile, or not ours
        if netns.exists(name):
            found.append(entry)
    return tuple(found)


def _refuse_taken(uuid: str, wanted: tuple[tuple[str, str, int], ...]) -> None:
    others = [(entry.uuid, port) for entry in entries() if entry.uuid != uuid for port in entry.ports]
    for place, (protocol, address, port) in enumerate(wanted):
        for owner, (its_protocol, its_address, its_port) in (*others, *((uuid, other) for other in wanted[:place])):
            same = protocol == its_protocol and port == its_port
            if same and (address == its_address or address in _ANY or its_address in _ANY):
                whose = "this pod, twice" if owner == uuid else f"pod {owner}"
                raise CannotCreate(f"port {port}/{protocol} of the host is taken by {whose}", hint="choose another one")
        if _listening(protocol, address, port):
            raise CannotCreate(
                f"port {port}/{protocol} of the host is in use", hint="ss -lnp shows by whom; or choose another one"
            )


def _listening(protocol: str, address: str, port: int) -> bool:
    """Tell whether a process of the host has this port: its connections would go to the pod from now on."""
    from _socket import AF_INET, AF_INET6, SO_REUSEADDR, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET, socket  # noqa: PLC0415
    from errno import EADDRINUSE  # noqa: PLC0415

    kinds = {"tcp": SOCK_STREAM, "udp": SOCK_DGRAM}
    if protocol not in kinds:
        return False
    probe = socket(AF_INET6 if ":" in address else AF_INET, kinds[protocol], 0)
    try:
        if protocol == "tcp":
            probe.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)  # connections that are just ending do not count
        probe.bind((address or "0.0.0.0", port))
    except OSError as error:
        return error.errno == EADDRINUSE
    finally:
        probe.close()
    return False
