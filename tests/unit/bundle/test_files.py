"""Files made for a container."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyrkt.bundle import files
from pyrkt.bundle.files import HostFiles

if TYPE_CHECKING:
    from pathlib import Path

HOST = HostFiles(hosts=b"10.0.0.1 host\n", resolv=b"nameserver 10.0.0.2\n")


@pytest.mark.parametrize(
    ("name", "host_network", "hostname", "text"),
    [
        pytest.param("resolv.conf", True, "h", b"nameserver 10.0.0.2\n", id="resolv"),
        pytest.param("hosts", True, "h", b"10.0.0.1 host\n", id="hosts-of-the-host"),
        pytest.param(
            "hosts",
            False,
            "h",
            b"127.0.0.1\tlocalhost h\n::1\tlocalhost ip6-localhost ip6-loopback h\n",
            id="hosts-of-its-own",
        ),
        pytest.param(
            "hosts",
            False,
            "localhost",
            b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
            id="called-localhost",
        ),
    ],
)
def test_content(name: str, host_network: bool, hostname: str, text: bytes) -> None:
    assert files.content(name, hostname=hostname, host_network=host_network, host=HOST) == text


def test_a_host_without_hosts() -> None:
    text = files.content("hosts", hostname="h", host_network=True, host=HostFiles())
    assert text.startswith(b"127.0.0.1\tlocalhost h\n")


def test_reads_the_hosts_files(tmp_path: Path) -> None:
    assert files.read_host(tmp_path) == HostFiles()
    (tmp_path / "hosts").write_bytes(HOST.hosts)
    (tmp_path / "resolv.conf").write_bytes(HOST.resolv)
    assert files.read_host(tmp_path) == HOST
