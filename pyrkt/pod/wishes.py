"""What a pod asks of whatever network it gets in the end: run-prepared may give it another than it was prepared for."""

from __future__ import annotations

import os

from pyrkt.base import fastjson, log
from pyrkt.base.reader import Reader
from pyrkt.base.record import Record
from pyrkt.pod.ask import Names
from pyrkt.pod.directory import write_new
from pyrkt.pod.network import REQUEST, Request, write_request
from pyrkt.pod.publish import published
from pyrkt.spec.appc import ExposedPort, PodApp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.net.ports import Published

FILE = "wishes"
"""A file of the pod; without it nothing is asked."""


class Wishes(Record):
    """How names become addresses, and CNI's "bandwidth". The ports stand in the pod's manifest."""

    names: Names = Names()
    bandwidth: dict[str, int] = {}  # noqa: RUF012 - records are frozen

    def changed(self, names: Names) -> Wishes:
        """Return the same with what ``names`` says, in its place."""
        old = self.names
        if names.resolv:
            old = old.replace(resolv=names.resolv, text=names.text)
        if names.hosts:
            old = old.replace(hosts=names.hosts, entries=names.entries)
        return self.replace(names=old)


def write(pod: str, wishes: Wishes) -> None:
    """Write the ``wishes`` of the pod in the directory ``pod``."""
    if wishes == Wishes():
        return
    names = wishes.names
    value = {
        "resolv": names.resolv,
        "text": names.text,
        "hosts": names.hosts,
        "entries": [list(pair) for pair in names.entries],
        "bandwidth": wishes.bandwidth,
    }
    write_new(f"{pod}/{FILE}", fastjson.dumps(value).encode())


def read(pod: str) -> Wishes:
    """Return what the pod in the directory ``pod`` asks for. Raises: InvalidSpec."""
    path = f"{pod}/{FILE}"
    try:
        with open(path, "rb") as file:
            reader = Reader(fastjson.loads(file.read(), path), path)
    except FileNotFoundError:
        return Wishes()
    pairs = [pair.texts() for pair in reader["entries"].items()]
    names = Names(
        resolv=reader["resolv"].text(""),
        text=reader["text"].text(""),
        hosts=reader["hosts"].text(""),
        entries=tuple((address, name) for address, name in pairs),
    )
    bandwidth = {name: value.integer(0, 1 << 62) for name, value in reader["bandwidth"].members()}
    return Wishes(names=names, bandwidth=bandwidth)


def request(pod: str, net: str, wishes: Wishes, *, late: bool) -> None:
    """Write what the networks ``net`` of the pod are to be, for the moment when it starts.

    ``late``: they are joined in the namespace of its first process.
    Raises: UsageError for a port that no app has.
    """
    ports = _ports(pod)
    if net in ("none", "host"):
        if ports:
            log.warn(f"the pod's ports are not published: its network is {net}")
        try:
            os.unlink(f"{pod}/{REQUEST}")
        except FileNotFoundError:
            pass
        return
    dns = not wishes.names.resolv
    write_request(pod, Request(net=net, ports=ports, dns=dns, bandwidth=wishes.bandwidth, late=late))


def _ports(pod: str) -> tuple[Published, ...]:
    path = f"{pod}/pod"
    with open(path, "rb") as file:
        manifest = Reader(fastjson.loads(file.read(), path), path)
    # Not the whole: that of a pod whose apps come later has none yet, which no manifest of a user's may have.
    apps = [PodApp.parse(item) for item in manifest["apps"].items()]
    exposed = [ExposedPort.parse(item) for item in manifest["ports"].items()]
    return published(exposed, [port for app in apps if app.app for port in app.app.ports])
