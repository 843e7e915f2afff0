"""resolv.conf of apps whose networks have, or have not, said which name servers there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyrkt.net.result import Dns
from pyrkt.pod import resolver

NETWORK = Dns(nameservers=("10.1.0.1", "fd00::1"), domain="example.com", search=("a", "b"), options=("ndots:2",))


@pytest.fixture
def pod(tmp_path: Path) -> Path:
    for name, own in (("empty", ""), ("full", "nameserver 10.9.9.9\n")):
        (tmp_path / f"apps/{name}/files").mkdir(parents=True)
        (tmp_path / f"apps/{name}/files/resolv.conf").write_text(own)
    (tmp_path / "apps/without/files").mkdir(parents=True)
    return tmp_path


def apps(pod: Path) -> list[str]:
    return list(map(str, (pod / "apps").iterdir()))


def read(pod: Path) -> dict[str, str]:
    return {path.parts[-3]: path.read_text() for path in pod.glob("apps/*/files/resolv.conf")}


def test_the_first_network_that_says_something(pod: Path) -> None:
    resolver.fill(apps(pod), [Dns(), NETWORK, Dns(nameservers=("10.2.0.1",))], [])
    text = "domain example.com\nsearch a b\nnameserver 10.1.0.1\nnameserver fd00::1\noptions ndots:2\n"
    assert read(pod) == {"empty": text, "full": text}


def test_without_any_the_app_has_its_own_or_the_hosts_but_no_loopback(pod: Path) -> None:
    stub, real = pod / "stub", pod / "real"
    stub.write_text("nameserver 127.0.0.53\noptions edns0\n")
    real.write_text("# by hand\nsearch example.com\nnameserver 127.0.0.1\nnameserver 10.0.0.2\nnameserver ::1\n")
    resolver.fill(apps(pod), [Dns()], [str(pod / "missing"), str(stub), str(real)])
    assert read(pod) == {
        "empty": "# by hand\nsearch example.com\nnameserver 10.0.0.2\n",
        "full": "nameserver 10.9.9.9\n",
    }


def test_a_host_that_has_none_either(pod: Path) -> None:
    resolver.fill(apps(pod), [], [])
    assert read(pod)["empty"] == ""
