"""The registry client against a real docker-registry, and against one that lies."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from pyrkt.base.dirs import ConfigDirs
from pyrkt.base.errors import (
    ImageRefused,
    InvalidSpec,
    NoPermission,
    NotFound,
    NotTrusted,
    PyrktError,
    Unavailable,
)
from pyrkt.image import certs
from pyrkt.image.credentials import Credentials
from pyrkt.image.http import Client
from pyrkt.image.registry import Registry
from pyrkt.image.wire import Limits
from pyrkt.spec.digest import Digest
from tests.support import registry as support
from tests.support import skopeo
from tests.support.registry import PASSWORD, USER, RunningRegistry, TokenService
from tests.support.skopeo import Layout, Member
from tests.support.tls import Authority
from tests.support.web import Asked, Line, Route, Web

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUICK = Limits(connect=5, idle=5, answer=5, document=5, tries=3, pause=0.01, longest_pause=0.2)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    made = Layout(path=tmp_path_factory.mktemp("layout") / "l")
    made.image([[Member(name="hello", data=b"hello\n")]], tag="v1")
    return made


_CLIENTS: list[Client] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _CLIENTS:
        _CLIENTS.pop().close()


def dirs_for(folder: Path, authority: Authority, *hosts: str) -> ConfigDirs:
    for host in hosts:
        directory = folder / "config/certs.d" / host
        directory.mkdir(parents=True)
        (directory / "ca.crt").write_bytes(authority.cert.read_bytes())
    return ConfigDirs(system="/nonexistent", local=str(folder / "config"))


def push(layout: Layout, running: RunningRegistry, authority: Authority, folder: Path, name: str = "team/app") -> None:
    """Copy the layout's image into the registry, as a user would, with skopeo."""
    copied = folder / "skopeo-certs"
    copied.mkdir(exist_ok=True)
    (copied / "ca.crt").write_bytes(authority.cert.read_bytes())
    skopeo.run(
        "copy", "-q", "--insecure-policy", f"--dest-cert-dir={copied}", f"--dest-creds={USER}:{PASSWORD}",
        f"oci:{layout.path}:v1", f"docker://{running.host}/{name}:v1",
    )  # fmt: skip


def connect(host: str, dirs: ConfigDirs, authfile: Path | None = None, repository: str = "team/app",
            insecure: frozenset[str] = frozenset()) -> Registry:  # fmt: skip
    _CLIENTS.append(Client(certs_d=certs.roots(dirs), limits=QUICK, insecure=insecure))
    return Registry(_CLIENTS[-1], host, repository, Credentials(dirs, authfile))


def pull_all(registry: Registry) -> bytes:
    """Fetch manifest, configuration and layer; return the layer."""
    served = registry.manifest("v1")
    assert registry.manifest(served.digest).data == served.data
    manifest = json.loads(served.data)
    data = b""
    assert served.content_type == manifest["mediaType"]
    for descriptor in (manifest["config"], *manifest["layers"]):
        data = b"".join(registry.blob(Digest(descriptor["digest"]), descriptor["size"]))
        assert skopeo.digest(data) == descriptor["digest"]
        half = descriptor["size"] // 2
        assert b"".join(registry.blob(Digest(descriptor["digest"]), descriptor["size"], half)) == data[half:]
    return data


def auth_json(folder: Path, host: str, user: str = USER, password: str = PASSWORD, **more: str) -> Path:
    path = folder / "auth.json"
    entry = {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()} if user else {}
    path.write_text(json.dumps({"auths": {host: entry | more}}))
    return path


@pytest.mark.peers
def test_an_open_registry(tmp_path: Path, authority: Authority, layout: Layout) -> None:
    with support.running(tmp_path / "r", authority) as running:
        push(layout, running, authority, tmp_path)
        registry = connect(running.host, dirs_for(tmp_path, authority, running.host))
        pull_all(registry)
        with pytest.raises(NotFound, match="MANIFEST_UNKNOWN: manifest unknown"):
            registry.manifest("v2")
        with pytest.raises(NotFound, match="BLOB_UNKNOWN"):
            list(registry.blob(Digest("sha256:" + "0" * 64), 10))
        with pytest.raises(ImageRefused, match="bytes are announced"):
            list(registry.blob(Digest(json.loads(registry.manifest("v1").data)["config"]["digest"]), 3))


@pytest.mark.peers
def test_a_registry_of_plain_http_needs_leave(tmp_path: Path, authority: Authority, layout: Layout) -> None:
    with support.running(tmp_path / "r") as running:
        skopeo.run("copy", "-q", "--insecure-policy", "--dest-tls-verify=false", f"oci:{layout.path}:v1",
                   f"docker://{running.host}/team/app:v1")  # fmt: skip
        dirs = dirs_for(tmp_path, authority)
        with pytest.raises(Unavailable, match="does not speak TLS"):
            connect(running.host, dirs).manifest("v1")
        pull_all(connect(running.host, dirs, insecure=frozenset({"http"})))


@pytest.mark.peers
def test_basic_authentication(tmp_path: Path, authority: Authority, layout: Layout) -> None:
    with support.running(tmp_path / "r", authority, auth="basic") as running:
        push(layout, running, authority, tmp_path)
        dirs = dirs_for(tmp_path, authority, running.host)
        pull_all(connect(running.host, dirs, auth_json(tmp_path, running.host)))
        with pytest.raises(NoPermission, match="without credentials") as caught:
            connect(running.host, dirs, auth_json(tmp_path, "other.test")).manifest("v1")
        assert "UNAUTHORIZED" in caught.value.message
        wrong = auth_json(tmp_path, running.host, password="wrong")
        with pytest.raises(NoPermission, match="with the credentials of") as caught:
            connect(running.host, dirs, wrong).manifest("v1")
        assert str(wrong) in caught.value.message
        assert "wrong" not in caught.value.message.replace(str(wrong), "")


@pytest.fixture
def token_registry(tmp_path: Path, authority: Authority) -> Iterator[RunningRegistry]:
    pair = authority.issue("tokens")
    with Web(authority.server_context(pair)) as web:
        service = TokenService(web, pair)
        with support.running(tmp_path / "r", authority, auth="token", tokens=service) as running:
            yield running


@pytest.mark.peers
def test_token_authentication(
    tmp_path: Path, authority: Authority, layout: Layout, token_registry: RunningRegistry
) -> None:
    running, service = token_registry, token_registry.tokens
    assert service is not None
    token_host = service.realm.removeprefix("https://").removesuffix("/token")
    dirs = dirs_for(tmp_path, authority, running.host, token_host)
    push(layout, running, authority, tmp_path)
    push(layout, running, authority, tmp_path, "open/app")
    service.public.add("open/app")
    service.given = 0
    pull_all(connect(running.host, dirs, repository="open/app"))  # nobody in particular
    assert service.given == 1, "one token serves all of a repository"
    pull_all(connect(running.host, dirs, auth_json(tmp_path, running.host)))  # a user
    with pytest.raises(NoPermission, match="scope repository:team/app:pull"):
        connect(running.host, dirs).manifest("v1")
    with pytest.raises(NoPermission, match="wrong password"):
        connect(running.host, dirs, auth_json(tmp_path, running.host, password="x")).manifest("v1")
    identity = auth_json(tmp_path, running.host, user="", identitytoken=service.refresh_token)
    pull_all(connect(running.host, dirs, identity))  # a refresh token


@pytest.mark.peers
def test_a_token_that_ran_out_is_renewed_once(
    tmp_path: Path, authority: Authority, layout: Layout, token_registry: RunningRegistry
) -> None:
    running, service = token_registry, token_registry.tokens
    assert service is not None
    token_host = service.realm.removeprefix("https://").removesuffix("/token")
    push(layout, running, authority, tmp_path)
    dirs = dirs_for(tmp_path, authority, running.host, token_host)
    registry = connect(running.host, dirs, auth_json(tmp_path, running.host))
    service.given, service.life = 0, -120  # the registry allows a minute of difference between clocks
    with pytest.raises(NoPermission):
        registry.manifest("v1")
    assert service.given == 2
    service.life = 300
    pull_all(registry)
    assert service.given == 3


# A registry that lies: the Web of the tests, playing one.

MANIFEST = json.dumps({"schemaVersion": 2}).encode()
OK = Limits(connect=2, idle=1, answer=2, document=2, tries=2, pause=0.01, longest_pause=0.1)


@pytest.fixture
def evil(authority: Authority) -> Iterator[Web]:
    with Web(authority.server_context(authority.issue("evil"))) as web:
        web.routes["/v2/"] = lambda _, line: line.reply(200)
        yield web


@pytest.fixture
def victim(authority: Authority) -> Iterator[Web]:
    """A bystander's host that must never see what was meant for another."""
    with Web(authority.server_context(authority.issue("victim")), host="127.0.0.2") as web:
        yield web


def visit(evil: Web, dirs: ConfigDirs, authfile: Path | None = None) -> Registry:
    _CLIENTS.append(Client(certs_d=certs.roots(dirs), limits=OK))
    return Registry(_CLIENTS[-1], evil.host, "team/app", Credentials(dirs, authfile))


def asks(challenge: str) -> Route:
    def route(_: Asked, line: Line) -> None:
        line.reply(401, WWW_Authenticate=challenge)

    return route


@pytest.mark.parametrize(
    ("realm", "error", "problem"),
    [
        pytest.param("http://127.0.0.2:1/token", NotTrusted, "is not https", id="plain-http"),
        pytest.param("https://169.254.169.254/token", NotTrusted, "this machine or its network", id="metadata"),
        pytest.param("https://registry.test/token", NotTrusted, "foreign host registry.test", id="foreign"),
        pytest.param("file:///etc/passwd", Unavailable, "may be fetched", id="file"),
        pytest.param("https://u:p@registry.test/", Unavailable, "may be fetched", id="password"),
        pytest.param("/token", Unavailable, "may be fetched", id="relative"),
    ],
)
def test_credentials_go_to_no_foreign_token_service(
    tmp_path: Path, authority: Authority, evil: Web, realm: str, error: type[PyrktError], problem: str
) -> None:
    evil.routes["/v2/"] = asks(f'Bearer realm="{realm}",service="x"')
    dirs = dirs_for(tmp_path, authority, evil.host)
    with pytest.raises(error, match=problem):
        visit(evil, dirs, auth_json(tmp_path, evil.host)).manifest("v1")
    assert all("authorization" not in asked.headers for asked in evil.log)


def test_a_foreign_token_service_on_loopback_hears_nothing(
    tmp_path: Path, authority: Authority, evil: Web, victim: Web
) -> None:
    evil.routes["/v2/"] = asks(f'Bearer realm="{victim.url}/token",service="x"')
    dirs = dirs_for(tmp_path, authority, evil.host, victim.host)
    with pytest.raises(NotTrusted):
        visit(evil, dirs, auth_json(tmp_path, evil.host)).manifest("v1")
    assert not victim.connections


def test_a_blob_on_another_host_is_fetched_without_credentials(
    tmp_path: Path, authority: Authority, evil: Web, victim: Web
) -> None:
    data = b"layer"
    digest = Digest(skopeo.digest(data))
    evil.routes["/v2/"] = asks('Basic realm="x"')
    evil.routes[f"/v2/team/app/blobs/{digest}"] = lambda _, line: line.reply(307, Location=f"{victim.url}/cdn")
    victim.files["/cdn"] = data
    dirs = dirs_for(tmp_path, authority, evil.host, victim.host)
    registry = visit(evil, dirs, auth_json(tmp_path, evil.host))
    assert b"".join(registry.blob(digest, len(data))) == data
    assert evil.log[-1].headers["authorization"].startswith("Basic ")
    assert "authorization" not in victim.log[0].headers


def test_another_host_that_asks_for_credentials_gets_none(
    tmp_path: Path, authority: Authority, evil: Web, victim: Web
) -> None:
    evil.routes["/v2/"] = asks('Basic realm="x"')
    evil.routes["/v2/team/app/manifests/v1"] = lambda _, line: line.reply(307, Location=f"{victim.url}/m")
    victim.routes["/m"] = asks('Basic realm="give"')
    dirs = dirs_for(tmp_path, authority, evil.host, victim.host)
    with pytest.raises(NoPermission):
        visit(evil, dirs, auth_json(tmp_path, evil.host)).manifest("v1")
    assert [asked.headers.get("authorization") for asked in victim.log] == [None]


@pytest.mark.parametrize(
    ("path", "route", "error", "problem"),
    [
        pytest.param("/v2/", lambda _, line: line.reply(404), Unavailable, "is not a registry", id="no-registry"),
        pytest.param("/v2/", asks('Bearer realm="' + "x" * 60_000), Unavailable, "TLS|HTTP|URL", id="long-challenge"),
        pytest.param("M", lambda _, line: line.reply(200, b"x" * (5 << 20)), Unavailable, "are due", id="huge"),
        pytest.param(
            "M", lambda _, line: line.reply(200, MANIFEST, Docker_Content_Digest="sha256:" + "0" * 64), ImageRefused,
            "another digest", id="other-digest",
        ),
        pytest.param("M", lambda _, line: line.reply(500), Unavailable, "500", id="broken"),
        pytest.param("M", lambda _, line: line.reply(404, b"\x1b[2J" * 99), NotFound, "answers 404", id="garbage"),
        pytest.param(
            "M", lambda _, line: line.reply(403, b'{"errors":[{"code":"DENIED","message":"\\u001b[2Jno"}]}'),
            NoPermission, "DENIED", id="escape-sequence",
        ),
    ],
)  # fmt: skip
def test_a_registry_that_misbehaves(
    tmp_path: Path, authority: Authority, evil: Web, path: str, route: Route, error: type[PyrktError], problem: str
) -> None:
    evil.routes["/v2/team/app/manifests/v1" if path == "M" else path] = route
    with pytest.raises(error, match=problem) as caught:
        visit(evil, dirs_for(tmp_path, authority, evil.host)).manifest("v1")
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        pytest.param(b"{}", "holds none", id="none"),
        pytest.param(b'{"token":"a\\r\\nX-Evil: 1"}', "holds none", id="header-injection"),
        pytest.param(b"[" * 1000, "nested", id="deep"),
        pytest.param(b'{"token":"a","token":"b"}', "duplicate", id="twice"),
    ],
)
def test_a_token_that_is_none(tmp_path: Path, authority: Authority, evil: Web, body: bytes, problem: str) -> None:
    evil.routes["/v2/"] = asks(f'Bearer realm="{evil.url}/token"')
    evil.files["/token"] = body
    with pytest.raises((Unavailable, InvalidSpec), match=problem):
        visit(evil, dirs_for(tmp_path, authority, evil.host)).manifest("v1")


def test_the_registrys_own_signature_store(tmp_path: Path, authority: Authority, evil: Web) -> None:
    digest = Digest("sha256:" + "0" * 64)
    evil.routes["/v2/"] = lambda _, line: line.reply(200, X_Registry_Supports_Signatures="1")
    rows = [
        {"version": 2, "type": "atomic", "name": "one", "content": base64.b64encode(b"sig").decode()},
        {"version": 3, "type": "atomic", "name": "two", "content": ""},
    ]
    evil.files[f"/extensions/v2/team/app/signatures/{digest}"] = json.dumps({"signatures": rows}).encode()
    registry = visit(evil, dirs_for(tmp_path, authority, evil.host))
    registry.ping()
    assert [blob for blob, _ in registry.signatures(digest)] == [b"sig"]
