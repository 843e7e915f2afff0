"""What --net means: rkt's words, its two networks of its own, and which networks a pod joins in the end.

Source: rkt 1.30, networking/podenv.go and Documentation/networking/overview.md.
"""

from __future__ import annotations

from pyrkt.base.errors import NotFound, UsageError
from pyrkt.base.record import Record
from pyrkt.net.conf import Network, is_name
from pyrkt.net.result import family_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

DEFAULT, RESTRICTED, ALL = "default", "default-restricted", "all"
_VERSION = "1.0.0"
_LEASES = "/run/pyrkt/ipam"
"""Leases of our own networks. Not with those of others: their networks may have the same names. Void after a boot."""


def _own(name: str, subnet: str, *, outside: bool) -> Network:
    ipam: dict[str, Any] = {"type": "host-local", "dataDir": _LEASES, "ranges": [[{"subnet": subnet}]]}
    if outside:
        ipam["routes"] = [{"dst": "0.0.0.0/0"}]
    return Network(name=name, version=_VERSION, plugins=({"type": "ptp", "ipMasq": outside, "mtu": 0, "ipam": ipam},))


OWN = {
    DEFAULT: _own(DEFAULT, "172.16.28.0/24", outside=True),
    RESTRICTED: _own(RESTRICTED, "172.31.0.0/16", outside=False),
}
"""The networks that need no file: the world behind the host's address, and the host alone."""


FIREWALL: dict[str, Any] = {"type": "firewall", "backend": "iptables"}
"""Lets through what is for a pod, and what it sends."""


class Wanted(Record):
    """A network that --net names, and the arguments for its plugins: ``IP=10.1.2.3;MAC=...``."""

    name: str
    args: str = ""

    def __str__(self) -> str:
        return f"{self.name}:{self.args}" if self.args else self.name


def parse(words: Iterable[str]) -> tuple[Wanted, ...]:
    """Read the values of --net: ``NAME[:KEY=VALUE[;KEY=VALUE...]][,NAME...]``. Raises: UsageError."""
    found: dict[str, Wanted] = {}
    for word in (word for text in words for word in text.split(",")):
        name, colon, args = word.partition(":")
        if name in ("none", "host"):
            raise UsageError(f"--net={name} excludes all other networks", hint=f"give --net={name} alone")
        if not is_name(name):
            raise UsageError(f"--net {word!r} names no network", hint="--net=NAME[:IP=ADDRESS][,NAME...]")
        if name in found:
            raise UsageError(f"--net names {name!r} twice", hint="a pod joins a network once")
        _check_args(word, args, given=bool(colon))
        found[name] = Wanted(name=name, args=args)
    return tuple(found.values())


def _check_args(word: str, args: str, *, given: bool) -> None:
    for pair in args.split(";") if given else ():
        key, equals, value = pair.partition("=")
        if not key or not equals or not (key + value).isprintable():
            raise UsageError(f"--net {word!r}: {pair!r} is not KEY=VALUE", hint="--net='NAME:IP=10.1.2.3;MAC=...'")
        if key == "IP" and not family_of(value.partition("/")[0]):
            raise UsageError(
                f"--net {word!r}: {value!r} is not an IP address", hint=f"--net={word.partition(':')[0]}:IP=10.1.2.3"
            )


def select(wanted: tuple[Wanted, ...], described: tuple[Network, ...]) -> tuple[tuple[Network, str], ...]:
    """Return the networks that a pod joins, in order, each with its arguments.

    Those in files come first, in the order of the files; then ``default`` if it was asked for, else
    ``default-restricted``, unless a file describes one of the two.
    Raises: NotFound for a name that nobody has.
    """
    args = {each.name: each.args for each in wanted}
    everything = ALL in args
    chosen = [network for network in described if everything or network.name in args]
    names = {network.name for network in chosen}
    if not names & OWN.keys():
        own = OWN[DEFAULT if everything or DEFAULT in args else RESTRICTED]
        chosen.append(own)
        names.add(own.name)
    # rkt would leave the second one out without a word.
    for name, own in OWN.items():
        if name in args and name not in names:
            chosen.append(own)
            names.add(name)
    missing = [name for name in args if name not in names and name != ALL]
    if missing:
        known = ", ".join(sorted({network.name for network in described} | OWN.keys()))
        raise NotFound(
            f"failed to setup network: networks not found: {', '.join(missing)}",
            hint=f"there are {known}; others go into net.d",
        )
    return tuple((network, args.get(network.name, "")) for network in chosen)


def refuse_unknown(names: Iterable[str], known: Iterable[Network]) -> None:
    """Refuse a name that no network has. Raises: NotFound."""
    there = sorted(network.name for network in known)
    for name in names:
        if name not in there:
            raise NotFound(f"no network is called {name!r}", hint=f"there are {', '.join(there)}")


def forwarding(networks: Iterable[Network]) -> int:
    """Return the index of the network whose address gets the ports: the first that masquerades, else the last.

    Not the one that has come along unasked, as with rkt: its pods know no way back to anybody but the host.
    """
    listed = list(networks)
    masquerading = (place for place, network in enumerate(listed) if network.masquerades())
    asked = [place for place, network in enumerate(listed) if network.file or len(listed) == 1]
    return next(masquerading, asked[-1] if asked else len(listed) - 1)
