"""/etc/resolv.conf of the apps of a pod, once its networks have said which name servers there are."""

from __future__ import annotations

import os

from pyrkt.base.atomic import write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyrkt.net.result import Dns

FILE = "resolv.conf"


def fill(pod: str, found: Iterable[Dns]) -> None:
    """Write the first of ``found`` that says something to the files that the apps of the pod see."""
    dns = next((each for each in found if each), None)
    if dns is None:
        return
    for app in os.listdir(f"{pod}/apps"):
        path = f"{pod}/apps/{app}/files/{FILE}"
        if os.path.exists(path):
            write_file(path, text(dns), mode=0o644, durable=False)


def text(dns: Dns) -> str:
    """Return resolv.conf(5)."""
    lines = [f"domain {dns.domain}"] if dns.domain else []
    lines += [f"search {' '.join(dns.search)}"] if dns.search else []
    lines += [f"nameserver {server}" for server in dns.nameservers]
    lines += [f"options {' '.join(dns.options)}"] if dns.options else []
    return "".join(f"{line}\n" for line in lines)
