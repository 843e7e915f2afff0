"""certs.d: what is found for a host, and what is refused."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

import pytest

from pyrkt.base.dirs import ConfigDirs
from pyrkt.base.errors import InvalidSpec
from pyrkt.image import certs
from tests.support.tls import Authority

if TYPE_CHECKING:
    from pathlib import Path


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_every_directory_adds_authorities_and_the_first_its_client(tmp_path: Path) -> None:
    make(tmp_path, "a/registry.test:5000/ca.crt", "b/registry.test:5000/x.crt", "b/registry.test:5000/me.cert",
         "b/registry.test:5000/me.key", "b/registry.test:5000/README", "b/other.test/ca.crt")  # fmt: skip
    found = certs.find("registry.test", 5000, (f"{tmp_path}/a", f"{tmp_path}/b", f"{tmp_path}/c"))
    assert found.authorities == (f"{tmp_path}/a/registry.test:5000/ca.crt", f"{tmp_path}/b/registry.test:5000/x.crt")
    assert found.clients == ((f"{tmp_path}/b/registry.test:5000/me.cert", f"{tmp_path}/b/registry.test:5000/me.key"),)
    assert found.searched[-1] == f"{tmp_path}/c/registry.test:5000"


def test_on_port_443_the_name_alone_will_do(tmp_path: Path) -> None:
    make(tmp_path, "registry.test/ca.crt", "registry.test:443/ca.crt")
    found = certs.find("registry.test", 443, (str(tmp_path),))
    assert found.authorities == (f"{tmp_path}/registry.test:443/ca.crt", f"{tmp_path}/registry.test/ca.crt")


def test_addresses_of_ipv6_stand_in_brackets(tmp_path: Path) -> None:
    make(tmp_path, "[::1]:5000/ca.crt")
    assert certs.find("::1", 5000, (str(tmp_path),)).authorities


@pytest.mark.parametrize(("present", "missing"), [("me.cert", "me.key"), ("me.key", "me.cert")])
def test_half_a_client_certificate_is_refused(tmp_path: Path, present: str, missing: str) -> None:
    make(tmp_path, f"registry.test:5000/{present}")
    with pytest.raises(InvalidSpec, match=f"has no {missing}"):
        certs.find("registry.test", 5000, (str(tmp_path),))


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    make(tmp_path, "registry.test:5000/ca.crt")
    found = certs.find("registry.test", 5000, (str(tmp_path),))
    with pytest.raises(InvalidSpec, match=r"ca\.crt: cannot be used"):
        certs.context(found, verify=True)


def test_a_key_with_a_passphrase_is_refused_and_does_not_ask(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    pair = Authority(tmp_path).issue("me", client=True)
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"secret")
    pair.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    found = certs.HostCerts(searched=(), clients=((str(pair.cert), str(pair.key)),))
    with pytest.raises(InvalidSpec, match=r"me\.cert: cannot be used"):
        certs.context(found, verify=True)


def test_without_verification_anybody_is_believed_and_otherwise_nobody_unknown() -> None:
    nothing = certs.HostCerts(searched=())
    assert certs.context(nothing, verify=False).verify_mode == ssl.CERT_NONE
    strict = certs.context(nothing, verify=True)
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert strict.minimum_version == ssl.TLSVersion.TLSv1_2


def test_our_own_directories_come_before_the_shared_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    dirs = ConfigDirs(system="/s", local="/l", user="/u")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert certs.roots(dirs) == (
        "/u/certs.d", "/l/certs.d", "/s/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d"
    )  # fmt: skip
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/u/.config")
    assert "/home/u/.config/containers/certs.d" in certs.roots(dirs)
