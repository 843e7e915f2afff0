"""/etc/resolv.conf of the apps of a pod, once its networks have said which name servers there are."""

from __future__ import annotations

import os

from pyrkt.base.atomic import write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyrkt.net.result import Dns

FILE = "resolv.conf"
HOST = ("/run/systemd/resolve/resolv.conf", "/etc/resolv.conf")
"""Where the host has its own: the first names the servers behind a resolver that listens on the host's loopback."""


def fill(apps: Iterable[str], found: Iterable[Dns], host: Iterable[str] = HOST, last: str = "") -> None:
    """Write the first of ``found`` that says something to the files that ``apps``, directories of a pod's, see.

    Where none does, and the app has no name server by itself either, it gets the host's: all but those on the host's
    loopback, which is not the pod's; and if there is no other, the server ``last``.
    """
    dns = next((each for each in found if each), None)
    for app in apps:
        path = f"{app}/files/{FILE}"
        if not os.path.exists(path):
            continue
        if dns is not None:
            write_file(path, text(dns), mode=0o644, durable=False)
        elif not _servers(_read(path)) and (own := usable(host) or (f"nameserver {last}\n" if last else "")):
            write_file(path, os.fsencode(own), mode=0o644, durable=False)


def text(dns: Dns) -> str:
    """Return resolv.conf(5)."""
    lines = [f"domain {dns.domain}"] if dns.domain else []
    lines += [f"search {' '.join(dns.search)}"] if dns.search else []
    lines += [f"nameserver {server}" for server in dns.nameservers]
    lines += [f"options {' '.join(dns.options)}"] if dns.options else []
    return "".join(f"{line}\n" for line in lines)


def usable(files: Iterable[str] = HOST) -> str:
    """Return the first of the host's ``files`` with a server that a pod can reach, without the others; "" if none."""
    for file in files:
        lines = _read(file).splitlines()
        kept = [line for line in lines if not any(map(_is_loopback, _servers(line)))]
        if _servers("\n".join(kept)):
            return "".join(f"{line}\n" for line in kept)
    return ""


def _servers(content: str) -> list[str]:
    words = [line.split() for line in content.splitlines()]
    return [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]


def _is_loopback(server: str) -> bool:
    return server.startswith("127.") or server == "::1"


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(1 << 20)
    except OSError:
        return ""
