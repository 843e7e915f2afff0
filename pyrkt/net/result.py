"""What a plugin answers to ADD: addresses, routes, interfaces and name servers, in the forms of CNI 0.1 to 1.1.

Source: CNI specification 1.1.0, section 5; 0.2.0, "Result", for ip4 and ip6.
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_pton

from pyrkt.base.reader import Reader
from pyrkt.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BITS = {4: 32, 6: 128}


class Address(Record):
    """One address of the pod: ``family`` 4 or 6, ``interface`` the index into the interfaces, -1 for not said."""

    ip: str
    prefix: int
    family: int
    gateway: str = ""
    interface: int = -1

    def mask(self) -> str:
        """Return the mask as rkt shows it: dotted for IPv4, the length of the prefix for IPv6."""
        if self.family == 6:
            return str(self.prefix)
        bits = (0xFFFFFFFF << (32 - self.prefix)) & 0xFFFFFFFF
        return ".".join(str(bits >> shift & 255) for shift in (24, 16, 8, 0))


class Interface(Record):
    """One interface: of the pod if it has a ``sandbox``, else of the host."""

    name: str
    mac: str = ""
    sandbox: str = ""


class Dns(Record):
    """What /etc/resolv.conf is made of."""

    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether it says anything."""
        return bool(self.nameservers or self.domain or self.search or self.options)


class Result(Record):
    """The outcome of ADD for one network."""

    addresses: tuple[Address, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    routes: tuple[str, ...] = ()
    dns: Dns = Dns()


def family_of(ip: str) -> int:
    """Return 4 or 6 for an IP address; 0 if it is none."""
    for family, number in ((AF_INET, 4), (AF_INET6, 6)):
        try:
            inet_pton(family, ip)
        except (OSError, ValueError):
            continue
        return number
    return 0


def parse(value: Any, document: str) -> Result:
    """Return the result in ``value``; None is an empty one. Raises: InvalidSpec naming the place."""
    reader = Reader({} if value is None else value, document, rule="CNI 1.1, section 5")
    old = [(name, reader[name]) for name in ("ip4", "ip6") if reader[name].present]
    addresses = [_address(item, "address") for item in reader["ips"].items()]
    addresses += [_address(item, "ip") for _, item in old]
    routes = reader["routes"].items() + [route for _, item in old for route in item["routes"].items()]
    return Result(
        addresses=tuple(addresses),
        interfaces=tuple(_interface(item) for item in reader["interfaces"].items()),
        routes=tuple(route["dst"].text() for route in routes),
        dns=dns(reader["dns"]),
    )


def _interface(item: Reader) -> Interface:
    return Interface(name=item["name"].text(), mac=item["mac"].text(""), sandbox=item["sandbox"].text(""))


def _address(item: Reader, member: str) -> Address:
    ip, slash, length = item[member].text().partition("/")
    family = family_of(ip)
    if not family or not slash or not length.isdigit() or int(length) > _BITS[family]:
        raise item[member].fail(f"{item[member].value!r} is not an address with the length of its prefix")
    gateway = item["gateway"].text("")
    if gateway and not family_of(gateway):
        raise item["gateway"].fail(f"{gateway!r} is not an IP address")
    return Address(
        ip=ip,
        prefix=int(length),
        family=family,
        gateway=gateway,
        interface=item["interface"].integer(-1, 1 << 16, -1),
    )


def dns(reader: Reader) -> Dns:
    """Read the ``dns`` of a result or of a configuration. What would break a line of resolv.conf is refused."""
    found = Dns(
        nameservers=reader["nameservers"].texts(),
        domain=reader["domain"].text(""),
        search=reader["search"].texts(),
        options=reader["options"].texts(),
    )
    for word in (*found.nameservers, found.domain, *found.search, *found.options):
        if word and (not word.isprintable() or any(char.isspace() for char in word)):
            raise reader.fail(f"{word!r} cannot stand in resolv.conf")
    for server in found.nameservers:
        if not family_of(server.partition("%")[0]):
            raise reader["nameservers"].fail(f"{server!r} is not an IP address")
    return found
