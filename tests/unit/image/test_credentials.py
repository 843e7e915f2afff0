"""Credentials: whose word is taken for which host."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from pyrkt.base.dirs import ConfigDirs
from pyrkt.base.errors import InvalidSpec, PyrktError, Unavailable
from pyrkt.image.credentials import Credential, Credentials, same_party
from pyrkt.image.reference import HUB, HUB_CREDENTIALS


def auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


def write(path: Path, document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def look(
    tmp_path: Path, host: str = "registry.test", repository: str = "team/app", authfile: Path | None = None
) -> str:
    dirs = ConfigDirs(system=f"{tmp_path}/system", local=f"{tmp_path}/local", user=f"{tmp_path}/user")
    found = Credentials(dirs, authfile).for_registry(host, repository)
    return f"{found.user}:{found.password}{found.identity_token}" if found else ""


def test_the_files_are_searched_in_order(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert look(tmp_path) == ""
    write(home / ".dockercfg", {"registry.test": auth("u:dockercfg")})
    assert look(tmp_path) == "u:dockercfg"
    write(home / ".docker/config.json", {"auths": {"registry.test": auth("u:docker")}})
    assert look(tmp_path) == "u:docker"
    write(home / ".config/containers/auth.json", {"auths": {"registry.test": auth("u:containers")}})
    assert look(tmp_path) == "u:containers"
    monkeypatch.setenv("XDG_RUNTIME_DIR", f"{tmp_path}/run")
    write(tmp_path / "run/containers/auth.json", {"auths": {"registry.test": auth("u:runtime")}})
    assert look(tmp_path) == "u:runtime"
    kind = {"rktKind": "dockerAuth", "rktVersion": "v1", "registries": ["registry.test"]}
    write(tmp_path / "system/auth.d/a.json", {**kind, "credentials": {"user": "u", "password": "system"}})
    assert look(tmp_path) == "u:system"
    write(tmp_path / "local/auth.d/a.json", {**kind, "credentials": {"user": "u", "password": "local"}})
    assert look(tmp_path) == "u:local"
    monkeypatch.setenv(
        "REGISTRY_AUTH_FILE", str(write(tmp_path / "env.json", {"auths": {"registry.test": auth("u:env")}}))
    )
    assert look(tmp_path) == "u:env"
    authfile = write(tmp_path / "given.json", {"auths": {"registry.test": auth("u:given")}})
    assert look(tmp_path, authfile=authfile) == "u:given"


@pytest.mark.parametrize(
    ("auths", "host", "expected"),
    [
        pytest.param({"registry.test": auth("a:b")}, "registry.test", "a:b", id="host"),
        pytest.param({"registry.test": auth("a:b:c")}, "registry.test", "a:b:c", id="first-colon"),
        pytest.param({"registry.test:5000": auth("a:b")}, "registry.test", "", id="other-port"),
        pytest.param({"https://registry.test": auth("a:b")}, "registry.test", "a:b", id="url"),
        pytest.param({"https://registry.test/v1/": auth("a:b")}, "registry.test", "a:b", id="url-path"),
        pytest.param(
            {"registry.test": auth("a:host"), "registry.test/team": auth("a:team")}, "registry.test", "a:team",
            id="most-specific",
        ),
        pytest.param({"registry.test/team/app": auth("a:app")}, "registry.test", "a:app", id="repository"),
        pytest.param({"registry.test/tea": auth("a:b")}, "registry.test", "", id="whole-components"),
        pytest.param({HUB_CREDENTIALS: auth("a:b")}, HUB, "a:b", id="hub-url"),
        pytest.param({f"index.{HUB}": auth("a:b")}, HUB, "a:b", id="hub-alias"),
        pytest.param({"registry.test": {"identitytoken": "t"}}, "registry.test", ":t", id="identity-token"),
        pytest.param({"registry.test": {"username": "a", "password": "b"}}, "registry.test", "a:b", id="plain"),
        pytest.param({"registry.test": {}}, "registry.test", "", id="empty"),
        pytest.param({"registry.test": auth("a:b\0\0")}, "registry.test", "a:b", id="padded"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("home")
def test_entries(tmp_path: Path, auths: dict[str, object], host: str, expected: str) -> None:
    path = write(tmp_path / "auth.json", {"auths": auths})
    assert look(tmp_path, host, authfile=path) == expected


def helper(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = write(folder / "bin/docker-credential-test", f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")


def test_a_helper_is_asked_for_its_host(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, 'read host; echo "{\\"Username\\":\\"$1\\",\\"Secret\\":\\"$host\\"}"')
    path = write(home / ".docker/config.json", {"credHelpers": {"registry.test": "test"}})
    assert look(tmp_path) == "get:registry.test"
    assert look(tmp_path, "other.test") == ""
    write(path, {"credsStore": "test"})
    assert look(tmp_path, "other.test") == "get:other.test"
    assert look(tmp_path, HUB) == f"get:{HUB_CREDENTIALS}"


def test_a_helpers_token_is_an_identity(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, 'echo \'{"Username":"<token>","Secret":"s"}\'')
    write(home / ".docker/config.json", {"credsStore": "test"})
    assert look(tmp_path) == ":s"


def test_a_helper_that_knows_nothing_lets_others_speak(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper(tmp_path, monkeypatch, "echo credentials not found in native keychain; exit 1")
    write(home / ".docker/config.json", {"credsStore": "test", "auths": {"registry.test": auth("a:b")}})
    assert look(tmp_path) == "a:b"


@pytest.mark.parametrize(
    ("config", "script", "error", "problem"),
    [
        pytest.param({"credsStore": "test"}, "echo locked; exit 1", Unavailable, "locked", id="fails"),
        pytest.param({"credsStore": "test"}, "echo nonsense", InvalidSpec, "not JSON", id="nonsense"),
        pytest.param({"credsStore": "test"}, "echo '{}'", InvalidSpec, "Secret", id="empty"),
        pytest.param({"credsStore": "missing"}, "", Unavailable, "is not installed", id="missing"),
        pytest.param({"credsStore": "../../x"}, "", InvalidSpec, "names the credential helper", id="path"),
        pytest.param({"auths": {"registry.test": {"auth": "!"}}}, "", InvalidSpec, "base64", id="not-base64"),
        pytest.param({"auths": {"registry.test": auth("nocolon")}}, "", InvalidSpec, "user:password", id="no-colon"),
        pytest.param({"auths": []}, "", InvalidSpec, "auths", id="not-an-object"),
        pytest.param("{", "", InvalidSpec, "not JSON", id="not-json"),
    ],
)
def test_complaints_name_the_file_or_the_helper(
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: object,
    script: str,
    error: type[PyrktError],
    problem: str,
) -> None:
    helper(tmp_path, monkeypatch, script)
    path = write(home / ".docker/config.json", config)
    with pytest.raises(error, match=problem) as caught:
        look(tmp_path)
    assert str(path) in caught.value.message or "docker-credential-" in caught.value.message


@pytest.mark.usefixtures("home")
def test_a_given_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="no such file"):
        look(tmp_path, authfile=tmp_path / "none.json")


def appc(tmp_path: Path, host: str = "example.com") -> Credential | None:
    return Credentials(ConfigDirs(system=f"{tmp_path}/system", local=f"{tmp_path}/local")).for_host(host)


AUTH = {"rktKind": "auth", "rktVersion": "v1", "domains": ["example.com"]}
BASIC = {**AUTH, "type": "basic", "credentials": {"user": "u", "password": "p"}}
OAUTH = {**AUTH, "type": "oauth", "credentials": {"token": "t"}}


def test_auth_d_for_hosts_of_acis(tmp_path: Path) -> None:
    assert appc(tmp_path) is None
    write(tmp_path / "system/auth.d/a.json", BASIC)
    write(tmp_path / "system/auth.d/ignored.conf", "not json")
    write(tmp_path / "system/auth.d/sub/b.json", "not json")
    (tmp_path / "system/auth.d/dir.json").mkdir()
    found = appc(tmp_path)
    assert found is not None
    assert found.header() == "Basic dTpw"
    write(tmp_path / "local/auth.d/a.json", OAUTH)
    found = appc(tmp_path)
    assert found is not None
    assert found.header() == "Bearer t"
    assert appc(tmp_path, "example.com:8443") is None


@pytest.mark.parametrize(
    ("documents", "problem"),
    [
        pytest.param([BASIC, OAUTH], "has credentials in", id="twice-in-one-directory"),
        pytest.param([{**BASIC, "type": "aws"}], "none of basic, oauth", id="aws"),
        pytest.param([{**BASIC, "rktKind": "paths"}], "none of auth, dockerAuth", id="kind"),
        pytest.param([{**BASIC, "domains": []}], "names no host", id="no-domain"),
        pytest.param([{**BASIC, "credentials": {"user": "a:b", "password": "c"}}], "has a colon", id="colon"),
        pytest.param([{**OAUTH, "credentials": {}}], "token: is required", id="no-token"),
    ],
)
def test_auth_d_is_read_strictly(tmp_path: Path, documents: list[object], problem: str) -> None:
    for number, document in enumerate(documents):
        write(tmp_path / f"local/auth.d/{number}.json", document)
    with pytest.raises(InvalidSpec, match=problem):
        appc(tmp_path)


def test_secrets_are_never_shown() -> None:
    shown = repr(Credential(user="u", password="secret", identity_token="secret", bearer="secret"))
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("host", "other", "same"),
    [
        ("registry.test", "registry.test", True),
        ("registry.example.com", "auth.example.com", True),
        ("registry.example.com", "example.com", True),
        ("registry.example.com", "example.org", False),
        ("registry.example.com", "evil-example.com", False),
        ("10.0.0.1", "20.0.0.1", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("::1", "fd00::1", False),
        ("localhost", "localhost", True),
        ("registry", "auth", False),
    ],
)
def test_who_is_of_the_same_party(host: str, other: str, same: bool) -> None:
    assert same_party(host, other) is same
