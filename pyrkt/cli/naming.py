"""--dns and its kin, --hosts-entry: from words to how the names of a pod become addresses."""

from __future__ import annotations

from pyrkt.base.errors import UsageError
from pyrkt.net.result import Dns, family_of
from pyrkt.pod.ask import Names
from pyrkt.pod.resolver import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.cli.grammar import Line

_HOSTS_EXAMPLE = "--hosts-entry=10.0.0.1=NAME, or --hosts-entry=host alone"


def names(line: Line) -> Names:
    """Return what ``line`` says of names. Raises: UsageError."""
    resolv, written = _resolv(line)
    entries = tuple(_entry(word) for item in line.list("hosts-entry") for word in item.split(",") if word != "host")
    hosts = "given" if entries else ""
    if any("host" in item.split(",") for item in line.list("hosts-entry")):
        if entries:
            raise UsageError("--hosts-entry=host goes with no other --hosts-entry", hint=_HOSTS_EXAMPLE)
        hosts = "host"
    return Names(resolv=resolv, text=written, hosts=hosts, entries=entries)


def _resolv(line: Line) -> tuple[str, str]:
    servers = tuple(word for item in line.list("dns") for word in item.split(","))
    others = (*line.list("dns-search"), *line.list("dns-opt"), line.text("dns-domain"))
    for word in ("host", "none"):
        if word in servers:
            if len(servers) > 1 or any(others):
                raise UsageError(
                    f"no other --dns options allowed when --dns={word} is passed", hint=f"--dns={word} alone"
                )
            return word, ""
    for server in servers:
        if not family_of(server.partition("%")[0]):
            raise UsageError(f"--dns {server!r} is not an IP address", hint="--dns=10.0.0.53, --dns=host, --dns=none")
    for word in others:
        if not word.isprintable() or any(char.isspace() for char in word):
            raise UsageError(f"{word!r} cannot stand in resolv.conf", hint="one word a flag: --dns-search=example.com")
    found = Dns(
        nameservers=servers,
        domain=line.text("dns-domain"),
        search=line.list("dns-search"),
        options=line.list("dns-opt"),
    )
    return ("given", text(found)) if found else ("", "")


def _entry(word: str) -> tuple[str, str]:
    address, equals, name = word.partition("=")
    if not equals or not family_of(address) or not name or not name.isprintable() or any(map(str.isspace, name)):
        raise UsageError(f"--hosts-entry {word!r} is not IP=NAME", hint=_HOSTS_EXAMPLE)
    return address, name
