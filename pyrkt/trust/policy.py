"""The containers policy: which signatures an image of a registry or a directory needs (containers-policy.json(5)).

Read exactly: a member that is unknown or given twice is an error, since what a policy does not say it must not seem to
say. A requirement that pyrkt cannot judge yet is read and never met.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrkt.base import fastjson
from pyrkt.base.errors import InvalidSpec, NotFound, NotTrusted, PyrktError, printable
from pyrkt.base.reader import Reader
from pyrkt.spec.digest import Digest
from pyrkt.trust import identity, simple
from pyrkt.trust.identity import DEFAULT, DockerImage, Identity, Image, LayoutImage

if TYPE_CHECKING:
    from pyrkt.base.dirs import ConfigDirs
    from pyrkt.store.index import Signer

__all__ = ["DockerImage", "LayoutImage", "Policy", "Signature", "judge", "policy_paths"]

MAX_SIGNATURES = 64
_RULE = "containers-policy.json(5)"
_KEY_TYPES = ("GPGKeys", "signedByGPGKeys", "X509Certificates", "signedByX509CAs")
_KEY_FILE_LIMIT = 8 << 20


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature as it was found: its format ("simple"), its bytes, and where it was found, for errors."""

    format: str
    blob: bytes
    source: str


@dataclass(frozen=True, slots=True)
class AcceptAnything:
    """insecureAcceptAnything: no signature is needed."""


@dataclass(frozen=True, slots=True)
class Reject:
    """reject: never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedBy:
    """signedBy: a simple signature by one of the keys, that names the image as ``identity`` wants."""

    key_type: str
    key_paths: tuple[str, ...]
    key_data: bytes
    identity: Identity

    def keys(self) -> tuple[bytes, ...]:
        """Return the keyrings. Raises: NotTrusted if one cannot be read: then nobody knows who may sign."""
        if self.key_data:
            return (self.key_data,)
        return tuple(_read_key(path) for path in self.key_paths)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsupported:
    """A requirement that is read in full and cannot be met: ``kind`` is its type."""

    kind: str


Requirement = AcceptAnything | Reject | SignedBy | Unsupported
Requirements = tuple[Requirement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is required: by default, and by transport and scope. ``source`` is the file, for errors."""

    default: Requirements
    transports: Mapping[str, Mapping[str, Requirements]]
    source: str

    @classmethod
    def load(cls, paths: Sequence[Path]) -> Policy:
        """Return the policy in the first of ``paths`` that exists.

        Raises: NotFound if none does (no policy is no permission); InvalidSpec if it is malformed.
        """
        for path in paths:
            try:
                with path.open("rb") as file:
                    return cls.parse(file.read(fastjson.MAX_SIZE + 1), str(path))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise NotFound(f"cannot read the policy {path}: {error.strerror}") from error
        raise NotFound(
            "no policy.json says which images may be used",
            hint=f"write {paths[0] if paths else 'policy.json'}, or pass --insecure-options=image for this once",
        )

    @classmethod
    def parse(cls, data: bytes, document: str = "policy.json") -> Policy:
        """Return the policy in ``data``. Raises: InvalidSpec."""
        r = _known(Reader(fastjson.loads(data, document), document, rule=_RULE), ("default", "transports"))
        transports: dict[str, dict[str, Requirements]] = {}
        for transport, scopes in r["transports"].members():
            transports[transport] = {}
            for scope, rows in scopes.members():
                _check_scope(transport, scope, rows)
                transports[transport][scope] = _requirements(rows)
        return cls(default=_requirements(r["default"]), transports=transports, source=document)

    def requirements(self, image: Image) -> tuple[str, Requirements]:
        """Return (scope, requirements) for ``image``: those of its most exact scope only; nothing is joined."""
        scopes = self.transports.get(image.transport, {})
        for scope in (*image.scopes(), ""):
            if scope in scopes:
                return f'{image.transport} scope "{scope}"', scopes[scope]
        return "default", self.default


def policy_paths(dirs: ConfigDirs) -> tuple[Path, ...]:
    """Return where a policy is looked for: pyrkt's own directories, then where podman and skopeo look."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"))
    own = [Path(path) / "policy.json" for path in reversed(dirs.lightest_first())]
    return (*own, home / "containers/policy.json", Path("/etc/containers/policy.json"))


def judge(policy: Policy, image: Image, manifest_digest: Digest, signatures: Sequence[Signature]) -> tuple[Signer, ...]:
    """Return who vouches for the manifest with ``manifest_digest`` as ``image``; nobody where none is required.

    Every requirement of the image's scope must be met. Raises: NotTrusted.
    """
    identity.check_image(image)
    if len(signatures) > MAX_SIGNATURES:
        raise NotTrusted(f"more than {MAX_SIGNATURES} signatures")
    scope, requirements = policy.requirements(image)
    signers: list[Signer] = []
    for requirement in requirements:
        try:
            signer = _JUDGES[type(requirement)](requirement, image, manifest_digest, signatures)
        except NotTrusted as error:
            raise NotTrusted(f"{error.message} ({policy.source}: {scope})", hint=error.hint) from error
        if signer and signer not in signers:
            signers.append(signer)
    return tuple(signers)


def _accept_anything(_r: Any, _image: Image, _digest: Digest, _signatures: Sequence[Signature]) -> Signer | None:
    return None


def _reject(_r: Any, _image: Image, _digest: Digest, _signatures: Sequence[Signature]) -> Signer | None:
    raise NotTrusted("the policy rejects this image")


def _unsupported(r: Unsupported, _image: Image, _digest: Digest, _signatures: Sequence[Signature]) -> Signer | None:
    raise NotTrusted(f"the policy requires {r.kind}, which pyrkt does not support yet")


def _signed_by(r: SignedBy, image: Image, digest: Digest, signatures: Sequence[Signature]) -> Signer | None:
    if r.key_type != "GPGKeys":
        raise NotTrusted(f"the policy requires signedBy {r.key_type}, which pyrkt does not support yet")
    candidates = [signature for signature in signatures if signature.format == "simple"]
    if not candidates:
        raise NotTrusted("the image is not signed, and the policy requires an OpenPGP signature")
    keys = r.keys()
    reasons: list[str] = []
    for signature in candidates:
        source = printable(signature.source)
        try:
            claim, signer = simple.verify(signature.blob, keys, source)
        except NotTrusted as error:
            reasons.append(error.message)
            continue
        except PyrktError as error:  # a keyring of the policy that is none
            raise NotTrusted(f"the keys of the policy: {error.message}") from error
        if claim.digest != digest:
            reasons.append(f"{source}: signs {claim.digest}, not this manifest")
        elif not r.identity.matches(image, claim.reference):
            reasons.append(f"{source}: signs it as {printable(claim.reference)!r}, which {r.identity} does not allow")
        else:
            return signer
    more = f"; and {len(reasons) - 3} more signatures" if len(reasons) > 3 else ""
    raise NotTrusted("; ".join(reasons[:3]) + more)


_Judge = Callable[[Any, Image, Digest, Sequence[Signature]], "Signer | None"]
_JUDGES: Mapping[type, _Judge] = {
    AcceptAnything: _accept_anything,
    Reject: _reject,
    SignedBy: _signed_by,
    Unsupported: _unsupported,
}
"""The judge of each kind of requirement; a new signature format adds its kind, its parser below and its judge."""


def _requirements(r: Reader) -> Requirements:
    rows = r.items()
    if not rows:
        raise r.fail("must hold at least one requirement")
    return tuple(_requirement(row) for row in rows)


def _requirement(r: Reader) -> Requirement:
    return _PARSERS[r["type"].choice(tuple(_PARSERS))](r)


def _parse_accept(r: Reader) -> Requirement:
    _known(r, ("type",))
    return AcceptAnything()


def _parse_reject(r: Reader) -> Requirement:
    _known(r, ("type",))
    return Reject()


def _parse_signed_by(r: Reader) -> Requirement:
    _known(r, ("type", "keyType", "keyPath", "keyPaths", "keyData", "signedIdentity"))
    key_type = r["keyType"].choice(_KEY_TYPES)
    _exactly_one(r, ("keyPath", "keyPaths", "keyData"))
    paths = [r["keyPath"]] if r["keyPath"].present else r["keyPaths"].items()
    for path in paths:
        if not path.text().startswith("/"):
            raise path.fail("must be an absolute path", hint="a relative one means another file in every directory")
    if r["keyPaths"].present and not paths:
        raise r["keyPaths"].fail("must name at least one file")
    return SignedBy(
        key_type=key_type,
        key_paths=tuple(path.text() for path in paths),
        key_data=_base64(r["keyData"]) if r["keyData"].present else b"",
        identity=_identity(r),
    )


def _parse_signed_base_layer(r: Reader) -> Requirement:
    _known(r, ("type", "baseLayerIdentity"))
    identity.parse(r["baseLayerIdentity"])
    return Unsupported(kind="signedBaseLayer")


_SIGSTORE_KEYS = ("keyPath", "keyPaths", "keyData", "keyDatas", "fulcio", "pki")
_REKOR_KEYS = ("rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas")


def _parse_sigstore(r: Reader) -> Requirement:
    _known(r, ("type", *_SIGSTORE_KEYS, *_REKOR_KEYS, "signedIdentity"))
    _exactly_one(r, _SIGSTORE_KEYS)
    if any(r[name].present for name in _REKOR_KEYS):
        _exactly_one(r, _REKOR_KEYS)
    elif r["fulcio"].present:
        raise r.fail("fulcio needs a rekorPublicKey")
    for name in ("keyPath", "keyData", "rekorPublicKeyPath", "rekorPublicKeyData"):
        r[name].text("")
    for name in ("keyPaths", "keyDatas", "rekorPublicKeyPaths", "rekorPublicKeyDatas"):
        if r[name].present and not r[name].texts():
            raise r[name].fail("must not be empty")
    for name in ("keyData", "rekorPublicKeyData"):
        if r[name].present:
            _base64(r[name])
    for item in (*r["keyDatas"].items(), *r["rekorPublicKeyDatas"].items()):
        _base64(item)
    _fulcio(r["fulcio"])
    _pki(r["pki"])
    _identity(r)
    return Unsupported(kind="sigstoreSigned")


def _fulcio(r: Reader) -> None:
    if r.present:
        _known(r, ("caPath", "caData", "oidcIssuer", "subjectEmail"))
        _exactly_one(r, ("caPath", "caData"))
        _texts(r, ("caPath", "caData", "oidcIssuer", "subjectEmail"))
        for name in ("oidcIssuer", "subjectEmail"):
            r[name].text()


def _pki(r: Reader) -> None:
    if r.present:
        authorities = ("caRootsPath", "caRootsData", "caIntermediatesPath", "caIntermediatesData")
        names = (*authorities, "subjectEmail", "subjectHostname")
        _known(r, names)
        _texts(r, names)
        _exactly_one(r, ("caRootsPath", "caRootsData"))
        if r["caIntermediatesPath"].present and r["caIntermediatesData"].present:
            _exactly_one(r, ("caIntermediatesPath", "caIntermediatesData"))
        if not r["subjectEmail"].present and not r["subjectHostname"].present:
            raise r.fail("needs subjectEmail or subjectHostname")


_PARSERS: Mapping[str, Callable[[Reader], Requirement]] = {
    "insecureAcceptAnything": _parse_accept,
    "reject": _parse_reject,
    "signedBy": _parse_signed_by,
    "signedBaseLayer": _parse_signed_base_layer,
    "sigstoreSigned": _parse_sigstore,
}


def _identity(r: Reader) -> Identity:
    return identity.parse(r["signedIdentity"]) if r["signedIdentity"].present else DEFAULT


def _known(r: Reader, names: tuple[str, ...]) -> Reader:
    if not isinstance(r.value, dict):
        raise r.fail("expected an object")
    for name, value in r.members():
        if name not in names:
            raise value.fail("unknown member")
    return r


def _texts(r: Reader, names: tuple[str, ...]) -> None:
    for name in names:
        r[name].text("")


def _exactly_one(r: Reader, names: tuple[str, ...]) -> None:
    given = [name for name in names if r[name].present]
    if len(given) != 1:
        found = f"got {' and '.join(given)}" if given else "got none"
        raise r.fail(f"needs exactly one of {', '.join(names)}; {found}")


def _base64(r: Reader) -> bytes:
    try:
        data = base64.b64decode(r.text(), validate=True)
    except (binascii.Error, ValueError):
        raise r.fail("not base64") from None
    if not data:
        raise r.fail("is empty")
    return data


def _check_scope(transport: str, scope: str, r: Reader) -> None:
    if transport not in ("oci", "dir") or not scope:
        return
    if not scope.startswith("/") or os.path.normpath(scope) != scope or scope == "/":
        raise InvalidSpec(
            f"scope {printable(scope)!r} of {transport} must be a plain absolute path",
            document=r.document,
            where=printable(r.where),
            rule=_RULE,
        )


def _read_key(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_KEY_FILE_LIMIT + 1)
    except OSError as error:
        raise NotTrusted(f"cannot read the key {printable(path)}: {error.strerror}") from error
    if len(data) > _KEY_FILE_LIMIT:
        raise NotTrusted(f"key {printable(path)}: larger than {_KEY_FILE_LIMIT >> 20} MiB")
    return data
