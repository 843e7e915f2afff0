"""A registry: distribution-spec 1.1 as a client sees it, and docker's token authentication.

Credentials go to the registry itself and to a token service of the same party, which both must be https (or the
registry itself was let in as plain http). What is asked for by digest is compared with it; what is asked for by tag
gets its digest here, and everything after goes by that.
"""

from __future__ import annotations

import base64
import binascii
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from pyrkt.base import fastjson
from pyrkt.base.errors import (
    ImageRefused,
    InvalidSpec,
    NoPermission,
    NotFound,
    NotTrusted,
    PyrktError,
    Unavailable,
    printable,
)
from pyrkt.base.reader import Reader
from pyrkt.image import challenge
from pyrkt.image.credentials import Credential, Credentials, same_party
from pyrkt.image.http import Answer, Client, NobodyThere, NotTLS, Request, origin_of, resumable
from pyrkt.image.reference import HUB, HUB_API
from pyrkt.spec.digest import Digest, hasher, of_bytes, problem_of
from pyrkt.spec.image import ACCEPT, MAX_MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyrkt.spec.image import Descriptor

_MAX_TOKEN = 1 << 20
_MAX_SIGNATURES = 8 << 20
_LEAST_LIFE = 60.0
"""Seconds a token is taken to live at least; some services say less and mean it so (containers/image)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A manifest as it was served."""

    data: bytes
    content_type: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class _Token:
    header: str
    until: float


class Registry:
    """One repository of one registry. As its client, not shared between threads or processes."""

    def __init__(self, client: Client, host: str, repository: str, credentials: Credentials) -> None:
        """Name ``host/repository``; nothing is asked yet."""
        self.client, self.host, self.repository = client, host, repository
        self.has_signatures = False
        """Whether the registry keeps signatures itself (its ping says so)."""
        self._credentials = credentials
        self._base = ""
        self._token: _Token | None = None
        self._challenge: challenge.Challenge | None = None

    def fresh(self) -> Registry:
        """Return the same, knowing what this one learnt, with connections of its own: for a forked worker."""
        made = Registry(self.client.fresh(), self.host, self.repository, self._credentials)
        made._base, made._token, made._challenge = self._base, self._token, self._challenge
        made.has_signatures = self.has_signatures
        return made

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def ping(self) -> None:
        """Find out that a registry is there, by which scheme, and what it wants to hear.

        Raises: Unavailable, with what was found instead.
        """
        if self._base:
            return
        host = HUB_API if self.host == HUB else self.host
        base = f"https://{host}"
        try:
            answer, _ = self.client.get(Request(url=f"{base}/v2/"), _MAX_TOKEN)
        except Unavailable as error:
            # Only where the user allowed it, and only if nobody there speaks TLS: a bad certificate stays one.
            if "http" not in self.client.insecure or not isinstance(error, NotTLS | NobodyThere):
                raise
            base = f"http://{host}"
            answer, _ = self.client.get(Request(url=f"{base}/v2/"), _MAX_TOKEN)
        if answer.status not in {200, 401}:
            raise Unavailable(f"{self.host}: answers {answer.status} to /v2/, so it is not a registry")
        self._base = base
        self.has_signatures = answer.header("x-registry-supports-signatures") == "1"
        if answer.status == 401:
            self._challenge = self._chosen(answer)

    def manifest(self, pointer: str) -> Served:
        """Return the manifest that a tag or a digest points to.

        Raises: NotFound, NoPermission or Unavailable, with the registry's own words; ImageRefused if it is not what
        its digest says.
        """
        accept = {"Accept": ", ".join(ACCEPT)}
        with self._ask(f"manifests/{pointer}", accept, f"manifest of {pointer}") as answer:
            data = answer.read(MAX_MANIFEST)
            what = f"{self.host}/{self.repository}: manifest of {pointer}"
            wanted = Digest(pointer) if ":" in pointer else None
            digest = _digest_of(data, wanted)
            if wanted and digest != wanted:
                raise ImageRefused(f"{what}: the content has digest {digest}", hint="the registry is damaged or lies")
            said = answer.header("docker-content-digest")
            if said and not problem_of(said) and _digest_of(data, Digest(said)) != said:
                raise ImageRefused(f"{what}: the registry says {said}, the content has another digest")
            return Served(data=data, content_type=answer.header("content-type"), digest=digest)

    def manifest_of(self, descriptor: Descriptor) -> Served:
        """Return the manifest that ``descriptor`` names. Raises: as ``manifest``."""
        served = self.manifest(descriptor.digest)
        if len(served.data) != descriptor.size:
            raise ImageRefused(
                f"{self.host}/{self.repository}: manifest {descriptor.digest} has {len(served.data)} bytes,"
                f" {descriptor.size} were declared"
            )
        return served

    def blob(self, digest: Digest, size: int, start: int = 0) -> Iterator[bytes]:
        """Yield a blob from byte ``start`` on; a broken connection is taken up where it broke.

        The caller compares the digest. Raises: as ``manifest``; ImageRefused for another size.
        """

        def open_at(offset: int) -> Answer:
            headers = {"Range": f"bytes={offset}-"} if offset else {}
            answer = self._ask(f"blobs/{digest}", headers, f"blob {digest}")
            if answer.status == 206 and not offset:
                answer.close()
                raise Unavailable(f"{self.host}: sends a part of blob {digest} where the whole was asked for")
            return answer

        return resumable(self.client, open_at, size, limit=size, start=start)

    def signatures(self, digest: Digest) -> list[tuple[bytes, str]]:
        """Return (signature, where it was found) of the registry's own signature store for a manifest.

        Source: X-Registry-Supports-Signatures, the API extension of OpenShift's registry.
        """
        if not self.has_signatures:
            return []
        path = f"/extensions/v2/{self.repository}/signatures/{digest}"
        with self._ask_path(path, {}, f"signatures of {digest}") as answer:
            document = f"{self.host}{path}"
            r = Reader(fastjson.loads(answer.read(_MAX_SIGNATURES), document), document)
        found = []
        for item in r["signatures"].items():
            if item["version"].integer(0, 1 << 31) == 2 and item["type"].text() == "atomic":
                try:
                    content = base64.b64decode(item["content"].text(), validate=True)
                except (binascii.Error, ValueError):
                    raise item["content"].fail("is not base64") from None
                found.append((content, f"{document}#{printable(item['name'].text(''))}"))
        return found

    def _ask(self, path: str, headers: dict[str, str], what: str) -> Answer:
        return self._ask_path(f"/v2/{self.repository}/{quote(path, safe='/:')}", headers, what)

    def _ask_path(self, path: str, headers: dict[str, str], what: str) -> Answer:
        """Return the answer to a GET, which has status 200 or 206; what the registry wants to hear is said."""
        self.ping()
        again = False
        while True:
            header = self._authorization(again=again)
            answer = self.client.open(Request(url=self._base + path, headers=headers, authorization=header))
            if answer.status in {200, 206}:
                return answer
            body = answer.excerpt()
            answer.close()
            at_home = origin_of(answer.url) == origin_of(self._base)
            if answer.status != 401 or not at_home or again:
                raise self._complaint(answer, body, what)
            # A token that ran out, or the first word about a repository whose ping asked for nothing.
            self._challenge = self._chosen(answer) or self._challenge
            again = True

    def _chosen(self, answer: Answer) -> challenge.Challenge | None:
        return challenge.choose(challenge.parse(answer.headers("www-authenticate")), "bearer", "basic")

    def _authorization(self, *, again: bool) -> str:
        if self._challenge is None:
            return ""
        credential = self._credentials.for_registry(self.host, self.repository)
        if self._challenge.scheme == "basic":
            return credential.header() if credential else ""
        if self._token is None or again or time.monotonic() >= self._token.until:
            self._token = self._new_token(self._challenge, credential)
        return self._token.header

    def _new_token(self, asked: challenge.Challenge, credential: Credential | None) -> _Token:
        if credential is not None and credential.bearer:
            return _Token(credential.header(), float("inf"))
        realm = asked.parameters.get("realm", "")
        credential = self._for_realm(realm, credential)
        query = {"scope": f"repository:{self.repository}:pull"}
        if service := asked.parameters.get("service"):
            query["service"] = service
        if credential is not None and credential.identity_token:
            answer, body = self._refresh(realm, query, credential)
        else:
            if credential is not None and credential.user:
                query["account"] = credential.user
            url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"
            header = credential.header() if credential else ""
            answer, body = self.client.get(Request(url=url, authorization=header), _MAX_TOKEN)
        document = f"token of {origin_of(realm)}"
        if answer.status != 200:
            raise self._complaint(answer, body, document, credential)
        r = Reader(fastjson.loads(body, document), document)
        token = r["token"].text("") or r["access_token"].text("")
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise Unavailable(f"{document}: holds none that could be used")
        life = max(r["expires_in"].integer(0, 1 << 31, default=60), _LEAST_LIFE)
        return _Token(f"Bearer {token}", time.monotonic() + life * 0.9)

    def _refresh(self, realm: str, query: dict[str, str], credential: Credential) -> tuple[Answer, bytes]:
        form = {
            "grant_type": "refresh_token", "client_id": "pyrkt", "refresh_token": credential.identity_token, **query
        }  # fmt: skip
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        request = Request(url=realm, method="POST", headers=headers, body=urlencode(form).encode())
        return self.client.get(request, _MAX_TOKEN)

    def _for_realm(self, realm: str, credential: Credential | None) -> Credential | None:
        """Return the credential that may go to the token service ``realm``.

        Raises: NotTrusted for a realm that is not https (CVE-2019-10214), or that belongs to others and should get
        the registry's credentials (CVE-2020-15157, CVE-2024-3727): then they are sent nowhere.
        """
        try:
            aim, home = origin_of(realm), origin_of(self._base)
        except InvalidSpec as error:
            raise Unavailable(f"{self.host}: its token service: {error.problem}") from None
        if aim.scheme != "https" and (home.scheme, home.host) != (aim.scheme, aim.host):
            raise NotTrusted(f"{self.host}: its token service {printable(realm)} is not https")
        if same_party(home.host, aim.host):
            return credential
        if aim.host.startswith(("169.254.", "127.", "fe80:", "::1")) or aim.host == "localhost":
            raise NotTrusted(f"{self.host}: its token service is said to be this machine or its network: {aim}")
        own = self._credentials.for_registry(str(aim)) or self._credentials.for_registry(aim.host)
        if own is None and credential is not None:
            raise NotTrusted(
                f"{self.host}: wants its credentials sent to the foreign host {aim}",
                hint=f"if that is right, give {aim.host} credentials of its own in auth.json",
            )
        return own

    def _complaint(self, answer: Answer, body: bytes, what: str, credential: Credential | None = None) -> PyrktError:
        """Return the error for an answer that is no success, in the registry's own words where it has any."""
        name = f"{self.host}/{self.repository}"
        said = _own_words(body)
        shown = f"{name}: {what}: {said or f'the registry answers {answer.status}'}"
        if answer.status in {401, 403}:
            credential = credential or self._credentials.for_registry(self.host, self.repository)
            used = f"with the credentials of {credential.source}" if credential else "without credentials"
            return NoPermission(
                f"{shown} ({used}, scope repository:{self.repository}:pull)",
                hint="there may be no such repository, or no right to it; pyrkt reads ~/.docker/config.json, auth.json",
            )
        if answer.status in {404, 410}:
            return NotFound(shown)
        return Unavailable(shown)


def _digest_of(data: bytes, like: Digest | None) -> Digest:
    if like is None:
        return of_bytes(data)
    hashed = hasher(like)
    hashed.update(data)
    return Digest(f"{hashed.name}:{hashed.hexdigest()}")


def _own_words(body: bytes) -> str:
    """Return code and message of the first error in a registry's answer; "" if it has none that can be read."""
    try:
        first = Reader(fastjson.loads(body, "answer"), "answer")["errors"].items()[0]
        words = f"{first['code'].text('')}: {first['message'].text('')}"
    except (PyrktError, IndexError):
        return ""
    return printable(words.strip(": ")[:300])
