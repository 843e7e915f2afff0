"""A host of a test's own: a network namespace with what is below /run and /var/lib/cni, where pyrkt makes its pods.

Nothing of it can be seen outside: no interface, no rule, no lease; all of it ends with its one process.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.oci import Answer
from tests.support.pods import SECONDS, Pyrkt

_SETUP = """
mount -t tmpfs none /run && mkdir -p /run/netns /run/lock && mkdir -p /var/lib/cni && mount -t tmpfs none /var/lib/cni
ip link set lo up && echo ready && exec sleep 3600
"""


OUTSIDE, OUTSIDE_6 = "10.77.0.2", "fd77::2"
"""The host's neighbour, in the namespace "outside"; the host is 10.77.0.1, fd77::1."""
_OF_A_POD = re.compile(r" id: |CNI-(DN-)?[0-9a-f]{16}")


@dataclass
class Host:
    """The namespaces of process ``pid``; ``tool`` is pyrkt within them."""

    pid: int
    tool: Pyrkt
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def enter(self) -> tuple[str, ...]:
        """The words before a command that runs there."""
        return ("nsenter", "-t", str(self.pid), "-n", "-m", "--")

    def call(self, *words: str, **options: Any) -> Answer:
        """Run a program there, to its end."""
        done = subprocess.run(
            [*self.enter, *words], capture_output=True, text=True, timeout=SECONDS, check=False, **options
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def ok(self, *words: str, **options: Any) -> str:
        """Run a program there that must succeed; return what it printed."""
        answer = self.call(*words, **options)
        assert answer.code == 0, (words, answer.err)
        return answer.out

    def describe(self, name: str, value: dict[str, Any]) -> Path:
        """Write a file of net.d."""
        directory = self.tool.base / "etc/net.d"
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / name
        path.write_text(json.dumps(value))
        return path

    def plugin(self, name: str, script: str) -> Path:
        """Write a plugin, a shell script, beside the files of net.d."""
        directory = self.tool.base / "etc/net.d"
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / name
        path.write_text(f"#!/bin/sh\n{script}")
        path.chmod(0o755)
        return path

    def neighbour(self) -> None:
        """Give the host a neighbour, who knows no way to the pods."""
        self.ok("ip", "netns", "add", "outside")
        self.ok("ip", "link", "add", "out0", "type", "veth", "peer", "name", "out1", "netns", "outside")
        for words in ("addr add 10.77.0.1/24 dev out0", "addr add fd77::1/64 dev out0 nodad", "link set out0 up"):
            self.ok("ip", *words.split())
        own = (f"addr add {OUTSIDE}/24 dev out1", f"addr add {OUTSIDE_6}/64 dev out1 nodad")
        for words in (*own, "link set out1 up", "link set lo up"):
            self.ok("ip", "-n", "outside", *words.split())

    def serve(self, text: str, port: int, *, netns: str = "", address: str = "0.0.0.0") -> None:
        """Answer every connection to ``port`` with ``text``, there or in a namespace of `ip netns`."""
        family = "AF_INET6" if ":" in address else "AF_INET"
        code = (
            "import socket, sys\n"
            f"s = socket.create_server(({address!r}, {port}), family=socket.{family})\n"
            "print('ready', flush=True)\n"
            "while True:\n"
            "    c, who = s.accept()\n"
            f"    c.sendall(({text!r} + ' ' + who[0] + '\\n').encode()); c.close()\n"
        )
        inside = ("ip", "netns", "exec", netns) if netns else ()
        process = subprocess.Popen([*self.enter, *inside, "python3", "-c", code], stdout=subprocess.PIPE)
        self.servers.append(process)  # ended with the host
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"

    def ask(self, address: str, port: int, *, netns: str = "", send: str = "") -> str:
        """Return what a server says to a connection from there, without HTTP's headers; "" if there is none."""
        code = (
            f"import socket\ntry:\n s = socket.create_connection(({address!r}, {port}), timeout=3)\n"
            f" s.sendall({send.encode()!r}); print(s.makefile().read().rpartition('\\n\\n')[2], end='')\n"
            "except OSError: pass\n"
        )
        inside = ("ip", "netns", "exec", netns) if netns else ()
        return self.ok(*inside, "python3", "-c", code)

    def leftovers(self) -> list[str]:
        """Return what is there of pods: links, rules, leases, namespaces, entries."""
        links = [
            link["ifname"] for link in json.loads(self.ok("ip", "-j", "link")) if link["ifname"].startswith("veth")
        ]
        rules = [
            rule
            for command in ("iptables", "ip6tables")
            for rule in self.ok(command, "-t", "nat", "-S").splitlines()
            if _OF_A_POD.search(rule)  # the chains that all pods share stay, by the plugins' design
        ]
        files = self.ok(
            "sh",
            "-c",
            "find /run/pyrkt/netns /run/pyrkt/attachments /run/pyrkt/ipam /var/lib/cni -type f 2>/dev/null; true",
        )
        kept = ("/lock", "/.lock", "/last_reserved_ip.0", "/last_reserved_ip.1")
        return links + rules + [path for path in files.split() if not path.endswith(kept)]

    def close(self) -> None:
        """End everything there."""
        for process in self.servers:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        self.servers.clear()


@contextlib.contextmanager
def host(tool: Pyrkt) -> Iterator[Host]:
    """Make a host; ``tool`` runs there as long as it is."""
    holder = subprocess.Popen(
        ["unshare", "-n", "-m", "--propagation", "private", "sh", "-c", _SETUP],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"ready\n"
    made = Host(holder.pid, tool)
    command, tool.command = tool.command, (*made.enter, *tool.command)
    try:
        yield made
    finally:
        made.close()
        tool.command = command
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        holder.stdout.close()


def until(fact: Any, seconds: float = 10.0) -> Any:
    """Wait until ``fact()`` is true; return what it gave last."""
    deadline = time.monotonic() + seconds
    while not (found := fact()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found
