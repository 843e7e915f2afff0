"""Network configurations: the files of net.d, single plugins (.conf) and lists of them (.conflist), of CNI 0.1 to 1.1.

Source: CNI specification 1.1.0, section 1; the single form is that of 0.4.0 and before, which rkt's users have.
"""

from __future__ import annotations

import os

from pyrkt.base import fastjson, log
from pyrkt.base.reader import Reader
from pyrkt.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""Versions of the CNI specification that we speak, oldest first."""
RESERVED = ("all", "host", "none")
"""Words of --net that no network can be called by."""
SECONDS = 60.0
"""How long one plugin may take. A lease by DHCP needs 30."""
_MOST_SECONDS = 3600.0
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_NAME = _LETTERS | frozenset("_.-")
_LISTS = (0, 3, 0)  # the first version with lists
_ENDINGS = (".conf", ".conflist")


class Network(Record):
    """One network: the ``plugins`` that make it, each as its configuration says, in the order of ADD.

    ``file`` is where that was read, empty for a network of our own. ``seconds`` is what one plugin may take.
    """

    name: str
    version: str
    plugins: tuple[dict[str, Any], ...]
    file: str = ""
    disable_check: bool = False
    disable_gc: bool = False
    seconds: float = SECONDS

    def masquerades(self) -> bool:
        """Tell whether the host gives its own address to what leaves this network."""
        return any(plugin.get("ipMasq") is True for plugin in self.plugins)

    def declares(self, capability: str) -> bool:
        """Tell whether one of the plugins takes ``capability``."""
        return any(capable(plugin, capability) for plugin in self.plugins)


def capable(plugin: dict[str, Any], capability: str) -> bool:
    """Tell whether the configuration of a plugin declares ``capability``."""
    declared = plugin.get("capabilities")
    return isinstance(declared, dict) and declared.get(capability) is True


def version_of(text: str) -> tuple[int, ...]:
    """Return a version as numbers that compare."""
    return tuple(map(int, text.split(".")))


def load(directories: Iterable[str]) -> tuple[Network, ...]:
    """Return the networks that the ``directories``, lightest first, describe, in the order of their files' names.

    A network in a heavier directory takes the place of its namesake in a lighter one.
    Raises: InvalidSpec naming file and place.
    """
    found: dict[str, tuple[str, Network]] = {}
    for directory in directories:
        here: dict[str, str] = {}
        for name in _files(directory):
            path = f"{directory}/{name}"
            with open(path, "rb") as file:
                network = parse(file.read(), path)
            if network.name in here:
                # As rkt: the first one in the order of the names counts.
                log.warn(f"{path}: network {network.name!r} is described by {here[network.name]} already: left out")
                continue
            here[network.name] = path
            found[network.name] = (name, network)
    return tuple(network for _, network in sorted(found.values(), key=lambda pair: (pair[0], pair[1].file)))


def _files(directory: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory) if name.endswith(_ENDINGS) and name[0] != ".")
    except (FileNotFoundError, NotADirectoryError):
        return []


def parse(data: bytes | str, document: str) -> Network:
    """Return the network that one file describes; a list is known by its ``plugins``. Raises: InvalidSpec."""
    reader = Reader(fastjson.loads(data, document), document, rule="CNI 1.1, section 1")
    listed = reader["plugins"].present
    version = _version(reader)
    name = _name(reader["name"])
    plugins = reader["plugins"].items() if listed else [reader]
    if not plugins:
        raise reader["plugins"].fail("is empty", hint='a network needs a plugin, {"type": "bridge"} say')
    if len(plugins) > 1 and version_of(version) < _LISTS:
        raise reader["cniVersion"].fail(f"{version} has no lists of plugins", hint='write "cniVersion": "1.0.0"')
    for plugin in plugins:
        _check(plugin)
    return Network(
        name=name,
        version=version,
        plugins=tuple(plugin.value for plugin in plugins),
        file=document,
        disable_check=_flag(reader["disableCheck"]),
        disable_gc=_flag(reader["disableGC"]),
        seconds=reader["pyrkt"]["timeout"].number(0.01, _MOST_SECONDS, SECONDS),
    )


def _version(reader: Reader) -> str:
    offered = reader["cniVersions"].texts()
    known = [version for version in VERSIONS if version in offered]
    if known:
        return known[-1]
    # Before 0.2 nobody wrote it down.
    return reader["cniVersion"].choice(VERSIONS, VERSIONS[0]) or VERSIONS[0]


def _name(reader: Reader) -> str:
    name = reader.text()
    if not is_name(name):
        raise reader.fail(
            f"{name!r} is no name of a network", hint="letters, digits, _ . and -, not first one of these"
        )
    if name in RESERVED:
        raise reader.fail(f"{name!r} means something else to --net", hint="choose another name")
    return name


def is_name(text: str) -> bool:
    """Tell whether ``text`` can be the name of a network."""
    return bool(text) and text[0] in _LETTERS and set(text) <= _NAME


def _check(plugin: Reader) -> None:
    kind = plugin["type"]
    name = kind.text()
    # It becomes the name of a program: nothing may lead out of the directories of plugins.
    if not name or "/" in name or name in (".", ".."):
        raise kind.fail(f"{name!r} is no name of a plugin", hint="the file name of a program in /usr/lib/cni, say")
    for _, value in plugin["capabilities"].members():
        value.boolean()
    plugin["ipam"].members()
    if plugin["ipam"].present:
        ipam = plugin["ipam"]["type"].text("")
        if "/" in ipam or ipam in (".", ".."):
            raise plugin["ipam"]["type"].fail(f"{ipam!r} is no name of a plugin")


def _flag(reader: Reader) -> bool:
    """Read a flag that the specification first called a string, then a boolean."""
    if isinstance(reader.value, str):
        return reader.choice(("true", "false")) == "true"
    return reader.boolean(default=False)
