"""actool discover beside ours: the same pages, the same endpoints and keys. Source: appc 0.8.11, discovery.md."""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyrkt.base.dirs import ConfigDirs
from pyrkt.base.errors import InvalidSpec, NotFound
from pyrkt.image import discovery
from pyrkt.image.credentials import Credentials
from pyrkt.image.http import Client
from pyrkt.image.reference import AppcRef, parse
from tests.support.tls import Authority
from tests.support.web import Asked, Line, Web

pytestmark = [pytest.mark.peers]

HOST = "localhost"  # that it resolves without a name service is all that this name is for
PLAIN = "https://localhost/{name}-{version}-{os}-{arch}.{ext}"
KEYS = "ac-discovery-pubkeys localhost https://localhost/keys.asc"


def page(*metas: str) -> bytes:
    """Return a page with these tags, each "NAME PREFIX TEMPLATE"."""
    tags = "".join(f'<meta name="{meta.split()[0]}" content="{meta.partition(" ")[2]}">' for meta in metas)
    return f"<!DOCTYPE html><html><head>{tags}</head><body></body></html>".encode()


@dataclass(frozen=True)
class Found:
    """What a client discovered: (image, signature) of each endpoint, and the keys; None where it gave up."""

    endpoints: list[tuple[str, str]] | None
    keys: list[str]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def web(authority: Authority) -> Iterator[Web]:
    with Web(authority.server_context(authority.issue("web"))) as made:
        yield made


def theirs(web: Web, authority: Authority, name: str) -> Found:
    """Ask actool."""
    argv = ["actool", "discover", "--json", f"--port={web.port}", name]
    env = os.environ | {"SSL_CERT_FILE": str(authority.cert)}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        return Found(None, [])
    value = json.loads(done.stdout[done.stdout.index("{\n") :])
    endpoints = [(each["ACI"], each["ASC"]) for each in value["ACIEndpoints"] or ()]
    return Found(endpoints, value["PublicKeys"] or [])


def ours(web: Web, authority: Authority, name: str, tmp_path: Path) -> Found:
    """Ask our client, which goes to the same server for port 443 of the host."""
    directory = tmp_path / "certs.d" / HOST
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "ca.crt").write_bytes(authority.cert.read_bytes())
    dirs = ConfigDirs(system="/nonexistent", local=str(tmp_path))
    reference = parse(name)
    assert isinstance(reference, AppcRef)
    with Client(certs_d=(str(tmp_path / "certs.d"),), connect_to={f"{HOST}:443": web.host}) as client:
        credentials = Credentials(dirs, None)
        try:
            found = discovery.images(client, reference, os.uname().machine, credentials)
            keys = discovery.keys(client, reference.name, credentials)
        except NotFound:
            return Found(None, [])
    return Found([(each.image, each.signature) for each in found], keys)


@pytest.mark.parametrize(("pages", "name"), [
    pytest.param({"/app": page(f"ac-discovery localhost {PLAIN}", KEYS)}, "localhost/app:1.0", id="own-page"),
    pytest.param({"/": page(f"ac-discovery localhost {PLAIN}", KEYS)}, "localhost/team/app:1.0", id="page-of-the-host"),
    pytest.param({"/team": page(f"ac-discovery localhost/team {PLAIN}", KEYS), "/": page("ac-discovery localhost https://localhost/no.{ext}", KEYS)}, "localhost/team/app:1.0", id="nearest-page"),
    pytest.param({"/team/app": page(), "/": page(f"ac-discovery localhost {PLAIN}", KEYS)}, "localhost/team/app:1.0", id="page-without-tags"),
    pytest.param({"/app": page(f"ac-discovery localhost {PLAIN}", KEYS)}, "localhost/app", id="latest"),
    pytest.param({"/app": page(f"ac-discovery localhost {PLAIN}", KEYS)}, "localhost/app:1.0,os=freebsd,arch=i386", id="labels"),
    pytest.param({"/app": page("ac-discovery localhost https://localhost/{flavour}/{name}.{ext}", KEYS)}, "localhost/app:1.0,flavour=mint", id="own-label"),
    pytest.param({"/app": page("ac-discovery localhost https://localhost/{flavour}/{name}.{ext}", f"ac-discovery localhost {PLAIN}", KEYS)}, "localhost/app:1.0", id="unresolved-variable"),
    pytest.param({"/app": page("ac-discovery localhost/other https://localhost/o.{ext}", f"ac-discovery localhost/app {PLAIN}", KEYS)}, "localhost/app:1.0", id="foreign-prefix"),
    pytest.param({"/app": page(f"ac-discovery localhost {PLAIN}", "ac-discovery localhost https://mirror.test/{name}.{ext}", KEYS, "ac-discovery-pubkeys localhost https://mirror.test/k")}, "localhost/app:1.0", id="several"),
    pytest.param({}, "localhost/team/app:1.0", id="nothing"),
    pytest.param({"/app": page("ac-discovery example.com https://example.com/{name}.{ext}"), "/": page()}, "localhost/app", id="nothing-fitting"),
])  # fmt: skip
def test_both_find_the_same(web: Web, authority: Authority, tmp_path: Path, pages: dict[str, bytes], name: str) -> None:
    web.files.update(pages)
    assert ours(web, authority, name, tmp_path) == theirs(web, authority, name)


def test_both_follow_a_redirection(web: Web, authority: Authority, tmp_path: Path) -> None:
    web.files["/elsewhere"] = page(f"ac-discovery localhost {PLAIN}", KEYS)

    def moved(asked: Asked, line: Line) -> None:
        # Each client has its own idea of the port.
        line.reply(302, Location=f"https://{asked.headers['host']}/elsewhere?ac-discovery=1")

    web.routes["/app"] = moved
    found = ours(web, authority, "localhost/app:1.0", tmp_path)
    assert found == theirs(web, authority, "localhost/app:1.0")
    assert found.endpoints is not None
    assert len(found.endpoints) == 1


def test_both_walk_from_the_name_to_the_host(web: Web, authority: Authority, tmp_path: Path) -> None:
    web.files["/"] = page(f"ac-discovery localhost {PLAIN}", KEYS)

    def walked(begin: int) -> list[str]:
        return list(dict.fromkeys(asked.path.rstrip("/") for asked in web.log[begin:]))

    ours(web, authority, "localhost/a/b:1.0", tmp_path)
    first = walked(0)
    count = len(web.log)
    theirs(web, authority, "localhost/a/b:1.0")
    assert first == walked(count) == ["/a/b", "/a", ""]


def test_a_malformed_name_is_refused_where_actool_panics() -> None:
    argv = ["actool", "discover", "localhost/App"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert "panic" in done.stderr
    with pytest.raises(InvalidSpec, match="App"):
        parse("localhost/App")
