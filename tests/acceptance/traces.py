"""What a pod can leave on its host: mounts, processes, network links, rules, namespaces with a name, cgroups, files.

The runner has mount, pid and network namespaces of its own, so whatever is new in them is a trace of a pod.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

# Not of a pod: where the plugin host-local goes on counting; locks of the host's; the host's log of launches.
_LASTING = re.compile(r".*/(last_reserved_ip\.\d+|\.?lock)|/run/log/pyrkt/measurements\..*")


def traces(*trees: Path) -> set[str]:
    """Return everything that is there now; the files below ``trees`` too."""
    return {*_mounts(), *_processes(), *links(), *rules(), *_files(trees)}


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        yield f"mount {line.split()[4]}"


def _processes() -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        # A zombie is the business of whoever has to reap it: here the shell that is the first process.
        if state not in "ZX":
            yield f"process {entry.name} {line}"


def links() -> Iterator[str]:
    """Yield the network links of this namespace."""
    for line in Path("/proc/self/net/dev").read_text().splitlines()[2:]:
        yield f"link {line.split(':')[0].strip()}"


def rules() -> Iterator[str]:
    """Yield the rules of iptables, and the chains that somebody added."""
    for program in ("iptables-save", "ip6tables-save"):
        done = subprocess.run([program], capture_output=True, text=True, check=False)
        for line in done.stdout.splitlines():
            if line.startswith("-A") or (line.startswith(":") and line.split()[1] == "-"):
                yield f"{program} {line.partition(' [')[0]}"


def cgroups(uuid: str) -> set[str]:
    """Return the cgroups of the pod ``uuid``: those of others come and go beside ours."""
    return {f"cgroup {where}" for where, _, _ in os.walk("/sys/fs/cgroup") if uuid in where}


def _files(trees: tuple[Path, ...]) -> Iterator[str]:
    for tree in trees:
        for where, _, names in os.walk(tree):
            for name in names:
                path = f"{where}/{name}"
                if not _LASTING.fullmatch(path):
                    yield f"file {path}"
