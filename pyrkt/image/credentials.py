"""Credentials: the user's words to a host, from rkt's auth.d, containers' auth.json, docker's config.json, helpers.

Searched in this order, the first that knows the host counts: ``--authfile`` or $REGISTRY_AUTH_FILE; auth.d of the
configuration directories (user, local, system); $XDG_RUNTIME_DIR/containers/auth.json (/run/containers/0 for root);
$XDG_CONFIG_HOME/containers/auth.json; $DOCKER_CONFIG/config.json or ~/.docker/config.json; ~/.dockercfg.
Sources: containers-auth.json(5); docker's credential helper protocol; rkt 1.30, configuration, rktKind auth and
dockerAuth.
"""

from __future__ import annotations

import base64
import binascii
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pyrkt.base import fastjson
from pyrkt.base.errors import InvalidSpec, NoPermission, Unavailable, printable
from pyrkt.base.reader import Reader
from pyrkt.image.reference import HUB, HUB_ALIASES, HUB_CREDENTIALS

if TYPE_CHECKING:
    from pyrkt.base.dirs import ConfigDirs

_HELPER_SECONDS = 30
_NOT_FOUND = "credentials not found in native keychain"
_KINDS = ("pyrktKind", "rktKind")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What to say to a host: a user and a password, an identity (refresh) token, or a bearer token as it is."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    bearer: str = field(default="", repr=False)
    source: str = ""
    """The file it came from, for messages."""

    def header(self) -> str:
        """Return the value of ``Authorization`` for a host that takes it directly; "" for an identity token."""
        if self.bearer:
            return f"Bearer {self.bearer}"
        if not self.user and not self.password:
            return ""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


class Credentials:
    """All the credentials there are; files are read when the first host is asked for."""

    def __init__(self, dirs: ConfigDirs, authfile: str | Path | None = None) -> None:
        """Take the configuration directories, and the file of ``--authfile`` if it was given."""
        self._dirs, self._authfile = dirs, authfile
        self._rkt: tuple[dict[str, Credential], dict[str, Credential]] | None = None

    def for_registry(self, host: str, repository: str = "") -> Credential | None:
        """Return the credential for ``host/repository``: that of the longest prefix that has one, or None.

        Raises: InvalidSpec for a malformed file, NoPermission for one that may not be read, Unavailable for a
        helper that fails.
        """
        explicit = self._authfile or os.environ.get("REGISTRY_AUTH_FILE")
        if explicit and (found := _from_file(Path(explicit), host, repository, must_exist=True)):
            return found
        names = (host, *HUB_ALIASES, HUB_CREDENTIALS) if host == HUB else (host,)
        ours = self._ours()[1]
        for name in names:
            if name in ours:
                return ours[name]
        for path in _shared_files():
            if found := _from_file(path, host, repository, must_exist=False):
                return found
        return None

    def for_host(self, host: str) -> Credential | None:
        """Return the credential for the host (``example.com``, ``example.com:8443``) of an ACI or of discovery."""
        return self._ours()[0].get(host)

    def _ours(self) -> tuple[dict[str, Credential], dict[str, Credential]]:
        """Return (by host, by registry) of auth.d, heavier directories overriding lighter ones."""
        if self._rkt is None:
            hosts: dict[str, Credential] = {}
            registries: dict[str, Credential] = {}
            for directory in self._dirs.lightest_first():
                new_hosts, new_registries = _auth_d(Path(directory) / "auth.d")
                hosts |= new_hosts
                registries |= new_registries
            self._rkt = hosts, registries
        return self._rkt


def _auth_d(directory: Path) -> tuple[dict[str, Credential], dict[str, Credential]]:
    """Read the ``*.json`` directly in ``directory``. The same host twice there is an error, as in rkt."""
    hosts: dict[str, Credential] = {}
    registries: dict[str, Credential] = {}
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(".json"))
    except (FileNotFoundError, NotADirectoryError):
        return hosts, registries
    except PermissionError as error:
        raise NoPermission(f"{directory}: {error.strerror}") from None
    for name in names:
        path = directory / name
        if not path.is_file():
            continue
        r = _document(path)
        kind = next((r[member].text() for member in _KINDS if r[member].present), "")
        if kind == "auth":
            _add(hosts, r["domains"], _appc_credential(r))
        elif kind == "dockerAuth":
            _add(registries, r["registries"], _basic(r["credentials"], str(path)))
        else:
            raise r["rktKind"].fail(f"{kind!r} is none of auth, dockerAuth")
    return hosts, registries


def _add(table: dict[str, Credential], names: Reader, credential: Credential) -> None:
    if not names.items():
        raise names.fail("names no host")
    for item in names.items():
        if (name := item.text()) in table:
            raise item.fail(f"{name!r} has credentials in {table[name].source} already")
        table[name] = credential


def _appc_credential(r: Reader) -> Credential:
    given = r["credentials"]
    kind = r["type"].choice(("basic", "oauth"))
    if kind == "oauth":
        return Credential(bearer=given["token"].text(), source=r.document)
    return _basic(given, r.document)


def _basic(r: Reader, source: str) -> Credential:
    user = r["user"].text()
    if ":" in user:
        raise r["user"].fail("has a colon, which ends a user's name in HTTP Basic (RFC 7617)")
    return Credential(user=user, password=r["password"].text(""), source=source)


def _shared_files() -> list[Path]:
    home = os.path.expanduser("~")
    runtime = os.environ.get("XDG_RUNTIME_DIR") or ("/run" if os.geteuid() == 0 else "")
    found = []
    if runtime == "/run":
        found.append(Path("/run/containers/0/auth.json"))
    elif runtime:
        found.append(Path(runtime) / "containers/auth.json")
    found.append(Path(os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config") / "containers/auth.json")
    found.append(Path(os.environ.get("DOCKER_CONFIG") or f"{home}/.docker") / "config.json")
    found.append(Path(home) / ".dockercfg")
    return found


def _document(path: Path) -> Reader:
    try:
        data = path.read_bytes()
    except PermissionError as error:
        raise NoPermission(f"{path}: {error.strerror}") from None
    return Reader(fastjson.loads(data, str(path)), str(path))


def _from_file(path: Path, host: str, repository: str, *, must_exist: bool) -> Credential | None:
    """Look ``host/repository`` up in one file of docker's or containers' format."""
    try:
        r = _document(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        if must_exist:
            raise InvalidSpec("there is no such file", document=str(path), hint="--authfile FILE") from None
        return None
    for name in (host, *HUB_ALIASES, HUB_CREDENTIALS) if host == HUB else (host,):
        if helper := r["credHelpers"].text_map().get(name):
            return _ask_helper(helper, name, str(path))
    if r["credsStore"].present and (found := _ask_helper(r["credsStore"].text(), _server(host), str(path))):
        return found
    # ~/.dockercfg has what the others have below "auths" at its top.
    entries = dict((r if path.name == ".dockercfg" else r["auths"]).members())
    for name in _keys(host, repository):
        for key in (name, f"https://{name}", f"http://{name}", f"https://{name}/v1/", f"https://{name}/v2/"):
            if key in entries and (found := _entry(entries[key], str(path))):
                return found
    return None


def _keys(host: str, repository: str) -> list[str]:
    """Return what may name the repository, the most specific first: host/a/b, host/a, host."""
    parts = repository.split("/") if repository else []
    keys = ["/".join((host, *parts[:count])) for count in range(len(parts), -1, -1)]
    return keys + list(HUB_ALIASES) if host == HUB else keys


def _server(host: str) -> str:
    return HUB_CREDENTIALS if host == HUB else host


def _entry(r: Reader, source: str) -> Credential | None:
    token = r["identitytoken"].text("")
    encoded = r["auth"].text("")
    if not encoded:
        user, password = r["username"].text(""), r["password"].text("")
        known = user or password or token
        return Credential(user=user, password=password, identity_token=token, source=source) if known else None
    try:
        # At the FIRST colon: passwords may hold others.
        user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise r["auth"].fail("is not base64 of user:password") from None
    if not colon:
        raise r["auth"].fail("is not base64 of user:password")
    # A NUL pads what some docker versions wrote.
    return Credential(user=user, password=password.rstrip("\0"), identity_token=token, source=source)


def _ask_helper(name: str, server: str, source: str) -> Credential | None:
    """Run ``docker-credential-NAME get``: the server on its standard input, JSON on its standard output."""
    if not name or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise InvalidSpec(f"names the credential helper {printable(name)!r}", document=source)
    program = f"docker-credential-{name}"
    try:
        done = subprocess.run(
            [program, "get"], input=server.encode(), capture_output=True, timeout=_HELPER_SECONDS, check=False
        )
    except FileNotFoundError:
        raise Unavailable(f"{program}, which {source} names, is not installed") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = "gives no answer" if isinstance(error, subprocess.TimeoutExpired) else error
        raise Unavailable(f"{program}: {reason}") from None
    if done.returncode != 0:
        said = done.stdout.decode("utf-8", "replace").strip()
        if said == _NOT_FOUND:
            return None
        raise Unavailable(f"{program}: {printable(said[:200]) or f'exit code {done.returncode}'}")
    r = Reader(fastjson.loads(done.stdout, program), program)
    user, secret = r["Username"].text(""), r["Secret"].text()
    if user == "<token>":
        return Credential(identity_token=secret, source=program)
    return Credential(user=user, password=secret, source=program)


def same_party(host: str, other: str) -> bool:
    """Tell whether credentials for ``host`` may go to ``other``: it is the same host, or has the same parent domain.

    Token services stand beside their registries (auth.example.com for registry.example.com), at times above them.
    Addresses have no parents; neither has a bare top level.
    """
    if host == other:
        return True
    parents = [name.split(".")[-2:] for name in (host, other)]
    addresses = any(":" in name or name.rpartition(".")[2].isdigit() for name in (host, other))
    return not addresses and parents[0] == parents[1] and len(parents[0]) == 2
