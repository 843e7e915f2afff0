"""What is known of the attachments of one pod: what DEL and CHECK need after a reboot, or when net.d has changed.

A file for each attachment, written before the first plugin runs, so that whatever is killed when, DEL has all that it
needs; the result comes when ADD has ended. libcni keeps the same, below /var/lib/cni; here it lies with the pod.
"""

from __future__ import annotations

import os

from pyrkt.base import fastjson
from pyrkt.base.atomic import write_file
from pyrkt.base.errors import InvalidSpec
from pyrkt.base.reader import Reader
from pyrkt.base.record import Record
from pyrkt.net.conf import SECONDS, Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DIRECTORY = "networks"
"""Below the pod's directory."""
_RUNNING = "plugin"
_KIND = "pyrkt-attachment-1"


class Attachment(Record):
    """One network of one pod: what was asked for, and the result as the last plugin gave it (None before that).

    ``capabilities`` is what each plugin gets of in runtimeConfig, by capability.
    """

    number: int
    network: Network
    container: str
    netns: str
    interface: str
    args: str = ""
    capabilities: dict[str, Any] = {}  # noqa: RUF012 - records are frozen
    places: tuple[str, ...] = ()
    result: Any = None
    added: bool = False

    def file(self) -> str:
        """Return the name of its file: in the order of ADD."""
        return f"{self.number:04d}-{self.interface}.json"


def save(pod: str, attachment: Attachment) -> None:
    """Write the ``attachment`` of the pod in the directory ``pod``."""
    directory = f"{pod}/{DIRECTORY}"
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        pass
    network = attachment.network
    value = {
        "kind": _KIND,
        "number": attachment.number,
        "containerId": attachment.container,
        "netns": attachment.netns,
        "ifName": attachment.interface,
        "networkName": network.name,
        "cniVersion": network.version,
        "config": {
            "plugins": list(network.plugins),
            "file": network.file,
            "disableCheck": network.disable_check,
            "disableGC": network.disable_gc,
            "seconds": network.seconds,
        },
        "cniArgs": attachment.args,
        "capabilityArgs": attachment.capabilities,
        "pluginDirs": list(attachment.places),
        "added": attachment.added,
        "result": attachment.result,
    }
    # A lease outlives a reboot, so must the knowledge of it.
    write_file(f"{directory}/{attachment.file()}", fastjson.dumps(value))


def load(pod: str) -> tuple[Attachment, ...]:
    """Return the attachments of the pod in the directory ``pod``, in the order of ADD. Raises: InvalidSpec, OSError."""
    return tuple(read(f"{pod}/{DIRECTORY}/{name}") for name in names(pod))


def read(path: str) -> Attachment:
    """Return the attachment in the file ``path``. Raises: InvalidSpec, OSError."""
    with open(path, "rb") as file:
        return _parse(Reader(fastjson.loads(file.read(), path), path))


def names(pod: str) -> list[str]:
    """Return the names of the files of the pod's attachments, in the order of ADD."""
    try:
        return sorted(name for name in os.listdir(f"{pod}/{DIRECTORY}") if name.endswith(".json"))
    except FileNotFoundError:
        return []


def _parse(reader: Reader) -> Attachment:
    reader["kind"].choice((_KIND,))
    config = reader["config"]
    return Attachment(
        number=reader["number"].integer(0, 1 << 16),
        network=Network(
            name=reader["networkName"].text(),
            version=reader["cniVersion"].text(),
            plugins=tuple(_object(item) for item in config["plugins"].items()),
            file=config["file"].text(""),
            disable_check=config["disableCheck"].boolean(default=False),
            disable_gc=config["disableGC"].boolean(default=False),
            seconds=config["seconds"].number(0.0, 1e9, SECONDS),
        ),
        container=reader["containerId"].text(),
        netns=reader["netns"].text(),
        interface=reader["ifName"].text(),
        args=reader["cniArgs"].text(""),
        capabilities=_object(reader["capabilityArgs"]),
        places=reader["pluginDirs"].texts(),
        result=reader["result"].value if reader["result"].present else None,
        added=reader["added"].boolean(default=False),
    )


def _object(reader: Reader) -> dict[str, Any]:
    if not isinstance(reader.value, dict):
        raise InvalidSpec("not an object", document=reader.document, where=reader.where)
    return reader.value


def forget(pod: str, attachment: Attachment) -> None:
    """Remove the record of an attachment that is no more."""
    _unlink(f"{pod}/{DIRECTORY}/{attachment.file()}")


def note_plugin(pod: str, pid: int, started: int) -> None:
    """Note that the plugin ``pid`` runs for the pod, so that it can be ended if we are killed."""
    # Not durable: no process outlives a reboot. No rename either: whoever reads it does so when we are dead.
    descriptor = os.open(f"{pod}/{DIRECTORY}/{_RUNNING}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, b"%d %d" % (pid, started))
    finally:
        os.close(descriptor)


def noted_plugin(pod: str) -> tuple[int, int]:
    """Return (pid, start time) of the plugin that was last started for the pod; (0, 0) if there is none."""
    try:
        with open(f"{pod}/{DIRECTORY}/{_RUNNING}", "rb") as file:
            words = file.read(64).split()
    except OSError:
        return 0, 0
    if len(words) == 2 and all(word.isdigit() for word in words):
        return int(words[0]), int(words[1])
    return 0, 0


def close(pod: str) -> None:
    """Remove what is left when the pod has no attachment any more."""
    _unlink(f"{pod}/{DIRECTORY}/{_RUNNING}")
    try:
        os.rmdir(f"{pod}/{DIRECTORY}")
    except OSError:
        pass


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
