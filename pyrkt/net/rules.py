"""The host's packet filter, where CNI's plugins leave something to be done: what is forwarded, what they forget.

ptp and bridge (of containernetworking-plugins 1.1 and before) take their rule for masquerading back by the address
that they find on the pod's interface. A pod that may change its own network, or whose namespace was taken away, has
none, and they forget the rule: it would do its work for the next pod with that address.

firewall lets a pod speak on a host that forwards nothing unasked, as docker leaves it, but nobody speak to it: a port
that portmap publishes is then there for the host itself only.
"""

from __future__ import annotations

import re

from pyrkt.base import log

_PROGRAMS = ("iptables", "ip6tables")
_FORWARD = "CNI-FORWARD"  # the firewall plugin's; an administrator's own rules, CNI-ADMIN, come first in it
_SECONDS = 20
_CHAIN = re.compile(r"-j (CNI-[0-9a-f]{24})$")
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def forwards() -> bool:
    """Tell whether the host forwards what no rule speaks of."""
    return "-P FORWARD DROP" not in _run("iptables", "filter", "-S", "FORWARD")


def let_in(uuid: str, address: str) -> None:
    """Forward what a published port has turned to the pod ``uuid``, which has the IPv4 ``address``."""
    match = ("-d", f"{address}/32", "-m", "conntrack", "--ctstate", "DNAT")
    comment = ("-m", "comment", "--comment", f'published by pyrkt id: "{uuid}"')
    _run("iptables", "filter", "-A", _FORWARD, *match, *comment, "-j", "ACCEPT")


def shut(uuid: str) -> None:
    """Take back ``let_in``."""
    for rule, _ in _of_pod(_run("iptables", "filter", "-S", _FORWARD), uuid):
        _run("iptables", "filter", "-D", *rule)


def sweep(uuid: str) -> None:
    """Remove the rules of POSTROUTING that name the pod ``uuid``, and their chains. What fails is told of."""
    for program in _PROGRAMS:
        for rule, chain in _of_pod(_run(program, "nat", "-S", "POSTROUTING"), uuid):
            _run(program, "nat", "-D", *rule)
            for command in ("-F", "-X") if chain else ():
                _run(program, "nat", command, chain)


def _of_pod(listed: str, uuid: str) -> list[tuple[tuple[str, ...], str]]:
    """Return each rule in ``listed`` that names the pod, as arguments after -A, and the pod's chain it leads to."""
    import shlex  # noqa: PLC0415 - few pods need it

    found = []
    for line in listed.splitlines():
        if line.startswith("-A ") and f'id: \\"{uuid}\\"' in line:
            chain = _CHAIN.search(line)
            found.append((tuple(shlex.split(line)[1:]), chain[1] if chain else ""))
    return found


def _run(program: str, table: str, *words: str) -> str:
    import subprocess  # noqa: PLC0415 - 9 ms

    try:
        done = subprocess.run(
            [program, "-w", "-t", table, *words],
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.debug(f"network: {program}: {error}")
        return ""
    if done.returncode:
        log.debug(f"network: {program} {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
