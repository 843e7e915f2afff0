"""Rules of the host's NAT that name a pod which is gone.

ptp and bridge (of containernetworking-plugins 1.1 and before) take their rule for masquerading back by the address
that they find on the pod's interface. A pod that may change its own network, or whose namespace was taken away, has
none, and they forget the rule: it would do its work for the next pod with that address.
"""

from __future__ import annotations

import re
import subprocess

from pyrkt.base import log

_PROGRAMS = ("iptables", "ip6tables")
_SECONDS = 20
_CHAIN = re.compile(r"-j (CNI-[0-9a-f]{24})$")
_PATH = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def sweep(uuid: str) -> None:
    """Remove the rules of POSTROUTING that name the pod ``uuid``, and their chains. What fails is warned of."""
    for program in _PROGRAMS:
        listed = _run(program, "-S", "POSTROUTING")
        for rule, chain in _of_pod(listed, uuid):
            _run(program, "-D", *rule)
            _run(program, "-F", chain)
            _run(program, "-X", chain)


def _of_pod(listed: str, uuid: str) -> list[tuple[tuple[str, ...], str]]:
    """Return each rule in ``listed`` that names the pod, as arguments after -A, and the chain it leads to."""
    import shlex  # noqa: PLC0415 - few pods need it

    found = []
    for line in listed.splitlines():
        chain = _CHAIN.search(line)
        if line.startswith("-A ") and chain and f'id: \\"{uuid}\\"' in line:
            found.append((tuple(shlex.split(line)[1:]), chain[1]))
    return found


def _run(program: str, *words: str) -> str:
    try:
        done = subprocess.run(
            [program, "-w", "-t", "nat", *words],
            env=_PATH,
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
