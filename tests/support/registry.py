"""A real docker-registry on loopback: plain or TLS, open, with htpasswd, or with tokens of a service of the tests'."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.tls import Authority, Pair
    from tests.support.web import Asked, Line, Web

USER, PASSWORD = "anna", "correct: horse"
SERVICE, ISSUER = "registry.test", "tests"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningRegistry:
    """Where it listens; ``tokens`` is its token service, if it has one."""

    host: str
    folder: Path
    scheme: str
    tokens: TokenService | None = None

    @property
    def log(self) -> str:
        """What the registry wrote so far."""
        return (self.folder / "log").read_text()


def program() -> str:
    """Return docker-registry's path, or skip the test naming what is missing."""
    return shutil.which("docker-registry") or pytest.skip("needs docker-registry")


def free_port() -> int:
    """Return a port that nobody listens at just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    folder: Path, authority: Authority | None = None, *, auth: str = "", tokens: TokenService | None = None
) -> Iterator[RunningRegistry]:
    """Run a registry below ``folder``: TLS with a certificate of ``authority`` if given.

    ``auth`` is "" (open), "basic" (USER and PASSWORD by htpasswd), or "token" (those of ``tokens``).
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    host = f"127.0.0.1:{port}"
    pair = authority.issue(f"registry-{port}") if authority else None
    config = _config(folder, port, pair, auth, tokens)
    path = folder / "config.json"  # JSON is YAML
    path.write_text(json.dumps(config))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program(), "serve", str(path)], stdout=log, stderr=log, env={"PATH": os.defpath})
        try:
            _wait(port, process, folder / "log")
            yield RunningRegistry(host=host, folder=folder, scheme="https" if pair else "http", tokens=tokens)
        finally:
            process.terminate()
            process.wait(10)


def _config(folder: Path, port: int, pair: Pair | None, auth: str, tokens: TokenService | None) -> dict[str, object]:
    http: dict[str, object] = {"addr": f"127.0.0.1:{port}", "secret": secrets.token_hex(8)}
    if pair:
        http["tls"] = {"certificate": str(pair.cert), "key": str(pair.key)}
    config: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": False}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
        "http": http,
    }
    if auth == "basic":
        done = subprocess.run(["htpasswd", "-nbB", USER, PASSWORD], capture_output=True, check=True)
        (folder / "htpasswd").write_bytes(done.stdout)
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    elif tokens is not None:
        config["auth"] = {
            "token": {
                "realm": tokens.realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(tokens.bundle)
            }
        }  # fmt: skip
    return config


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(200):
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"docker-registry did not start: {log.read_text()[-2000:]}")


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenService:
    """Gives tokens as docker's token authentication wants them: JWTs by ES256, the certificate in ``x5c``.

    Anonymous callers may pull ``public`` repositories; USER with PASSWORD (or the refresh token) may do anything.
    """

    refresh_token = "refresh-me"

    def __init__(self, web: Web, pair: Pair) -> None:
        self.realm = f"{web.url}/token"
        self.bundle = pair.cert
        self.public: set[str] = set()
        self.given = 0
        self.life = 300
        self._key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
        certificate = x509.load_pem_x509_certificate(pair.cert.read_bytes())
        self._x5c = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
        web.routes["/token"] = self.answer

    def answer(self, asked: Asked, line: Line) -> None:
        """Serve one request for a token."""
        form = dict(pair.partition("=")[::2] for pair in asked.body.decode().split("&"))
        header = asked.headers.get("authorization", "")
        known = header == "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if asked.method == "POST":
            known = form.get("refresh_token") == self.refresh_token and form.get("grant_type") == "refresh_token"
        if (header or asked.method == "POST") and not known:
            line.reply(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"wrong password"}]}')
            return
        scopes = asked.query.get("scope", [])
        if asked.method == "POST":
            scopes = [form.get("scope", "").replace("%3A", ":").replace("%2F", "/")]
        self.given += 1
        body = {"token": self.token(scopes, known=known), "expires_in": abs(self.life)}
        line.reply(200, json.dumps(body).encode(), Content_Type="application/json")

    def token(self, scopes: list[str], *, known: bool) -> str:
        """Return a token for what of ``scopes`` the caller may do."""
        access = []
        for scope in " ".join(scopes).split():
            kind, name, actions = scope.split(":")
            allowed = [a for a in actions.split(",") if known or (name in self.public and a == "pull")]
            access.append({"type": kind, "name": name, "actions": allowed})
        now = int(time.time())
        claims = {
            "iss": ISSUER, "sub": USER if known else "", "aud": SERVICE, "exp": now + self.life, "nbf": now - 5,
            "iat": now, "jti": secrets.token_hex(8), "access": access,
        }  # fmt: skip
        head = {"typ": "JWT", "alg": "ES256", "x5c": [self._x5c]}
        signed = f"{_b64(json.dumps(head).encode())}.{_b64(json.dumps(claims).encode())}"
        assert isinstance(self._key, ec.EllipticCurvePrivateKey)
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"
