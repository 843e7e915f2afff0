"""The containers policy: what is read, which scope speaks, and what meets a requirement."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pysequoia
import pytest

from pyrkt.base.dirs import ConfigDirs
from pyrkt.base.errors import InvalidSpec, NotFound, NotTrusted, UsageError
from pyrkt.spec.digest import Digest
from pyrkt.trust import identity, policy, simple
from pyrkt.trust.identity import DockerImage, Identity, LayoutImage
from pyrkt.trust.policy import Policy, Signature, judge

KEY, OTHER = (pysequoia.Tsk.generate(name) for name in ("Key", "Other"))
DIGEST, ANOTHER = Digest("sha256:" + "a" * 64), Digest("sha256:" + "b" * 64)
KEY_DATA, OTHER_DATA = (base64.b64encode(bytes(key.extract_certificate())).decode() for key in (KEY, OTHER))
ACCEPT, REJECT = {"type": "insecureAcceptAnything"}, {"type": "reject"}
SIGNED = {"type": "signedBy", "keyType": "GPGKeys", "keyData": KEY_DATA}
TAGGED = DockerImage("example.com:5000", "team/app", "1")
DIGESTED = DockerImage("example.com:5000", "team/app", digest=DIGEST)


def read(document: Any) -> Policy:
    return Policy.parse(document if isinstance(document, bytes) else json.dumps(document).encode())


def claim(reference: str = "example.com:5000/team/app:1", digest: str = DIGEST) -> dict[str, Any]:
    image, who = {"docker-manifest-digest": digest}, {"docker-reference": reference}
    return {
        "critical": {"type": simple.TYPE, "image": image, "identity": who},
        "optional": {"creator": "test", "timestamp": 1700000000},
    }


def signature(payload: Any = None, key: pysequoia.Tsk = KEY) -> Signature:
    data = payload if isinstance(payload, bytes) else json.dumps(payload or claim()).encode()
    return Signature("simple", pysequoia.sign(key.signer(), data, armor=False), "signature-1")


def requiring(*requirements: dict[str, Any]) -> Policy:
    return read({"default": list(requirements)})


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        pytest.param({}, "default: must hold at least one requirement", id="no-default"),
        pytest.param({"default": []}, "default: must hold at least one", id="empty"),
        pytest.param({"default": {}}, "expected an array", id="no-array"),
        pytest.param({"default": [{}]}, "default[0].type: is required", id="no-type"),
        pytest.param({"default": [{"type": "yes"}]}, "'yes' is none of", id="unknown-type"),
        pytest.param({"default": [ACCEPT], "extra": 1}, "extra: unknown member", id="unknown-member"),
        pytest.param({"default": [ACCEPT | {"a": 1}]}, "default[0].a: unknown member", id="more-accept"),
        pytest.param({"default": [REJECT | {"keyData": ""}]}, "unknown member", id="more-reject"),
        pytest.param(b'{"default":[{"type":"reject"}],"default":[{"type":"reject"}]}', "duplicate", id="twice"),
        pytest.param(b'{"default":[{"type":"reject"}]} // no', "text after the value", id="comment"),
        pytest.param(
            {"default": [ACCEPT], "transports": {"docker": {"x": []}}}, "transports.docker.x", id="empty-scope"
        ),
        pytest.param({"default": [ACCEPT], "transports": {"dir": {"x": [ACCEPT]}}}, "absolute path", id="dir-scope"),
        pytest.param({"default": [ACCEPT], "transports": {"oci": {"/a/": [ACCEPT]}}}, "absolute path", id="oci-scope"),
        pytest.param({"default": [ACCEPT], "transports": []}, "expected an object", id="transports"),
        pytest.param({"default": [{"type": "signedBy"}]}, "keyType: is required", id="no-key-type"),
        pytest.param({"default": [SIGNED | {"keyType": "PGP"}]}, "'PGP' is none of", id="key-type"),
        pytest.param({"default": [{"type": "signedBy", "keyType": "GPGKeys"}]}, "exactly one of keyPath", id="no-key"),
        pytest.param({"default": [SIGNED | {"keyPath": "/k"}]}, "got keyPath and keyData", id="two-keys"),
        pytest.param({"default": [SIGNED | {"keyData": "!"}]}, "not base64", id="base64"),
        pytest.param({"default": [SIGNED | {"keyData": ""}]}, "is empty", id="empty-key"),
        pytest.param(
            {"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "k"}]}, "absolute path", id="relative"
        ),
        pytest.param(
            {"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPaths": []}]}, "at least one file", id="no-path"
        ),
        pytest.param({"default": [{"type": "sigstoreSigned"}]}, "exactly one of keyPath", id="sigstore-no-key"),
        pytest.param({"default": [{"type": "sigstoreSigned", "keyPath": "/k", "x": 1}]}, "unknown", id="sigstore-more"),
        pytest.param(
            {
                "default": [
                    {
                        "type": "sigstoreSigned",
                        "fulcio": {
                            "caPath": "/c",
                            "oidcIssuer": "https://example.com",
                            "subjectEmail": "a@example.com",
                        },
                    }
                ]
            },
            "needs a rekorPublicKey",
            id="fulcio-without-rekor",
        ),
        pytest.param({"default": [{"type": "sigstoreSigned", "pki": {"caRootsPath": "/c"}}]}, "subject", id="pki"),
        pytest.param({"default": [{"type": "signedBaseLayer"}]}, "type: is required", id="base-layer"),
    ],
)
def test_malformed_policies(document: Any, problem: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        read(document)
    assert problem in caught.value.message
    assert "policy.json" in caught.value.message


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        pytest.param({}, "type: is required", id="no-type"),
        pytest.param({"type": "any"}, "'any' is none of", id="unknown"),
        pytest.param({"type": "matchExact", "prefix": "a.test"}, "unknown member of matchExact", id="more"),
        pytest.param({"type": "exactReference"}, "dockerReference: is required", id="missing"),
        pytest.param({"type": "exactReference", "dockerReference": "a.test/b"}, "no reference", id="no-tag"),
        pytest.param({"type": "exactReference", "dockerReference": "b:1"}, "no reference", id="no-host"),
        pytest.param({"type": "exactRepository", "dockerRepository": "a.test/b:1"}, "no repository", id="tag"),
        pytest.param({"type": "remapIdentity", "prefix": "a.test"}, "signedPrefix: is required", id="half"),
        pytest.param({"type": "remapIdentity", "prefix": "a.test/", "signedPrefix": "b"}, "neither a host", id="slash"),
    ],
)
def test_malformed_identities(value: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        requiring(SIGNED | {"signedIdentity": value})
    assert problem in caught.value.message


def test_scopes_of_a_registry_image() -> None:
    assert TAGGED.scopes() == (
        "example.com:5000/team/app:1",
        "example.com:5000/team/app",
        "example.com:5000/team",
        "example.com:5000",
        "*.com",
    )
    assert DIGESTED.scopes()[0] == f"example.com:5000/team/app@{DIGEST}"
    assert DockerImage("a.b.example.com", "x").scopes() == (
        "a.b.example.com/x:latest",
        "a.b.example.com/x",
        "a.b.example.com",
        "*.b.example.com",
        "*.example.com",
        "*.com",
    )
    assert DockerImage("[::1]:5000", "x").scopes() == ("[::1]:5000/x:latest", "[::1]:5000/x", "[::1]:5000")


def test_scopes_of_a_directory() -> None:
    assert LayoutImage("/srv/images/app").scopes() == ("/srv/images/app", "/srv/images", "/srv")
    assert LayoutImage("/").scopes() == ()


SCOPES = [
    "example.com:5000/team/app:1",
    "example.com:5000/team/app",
    "example.com:5000/team",
    "example.com:5000",
    "*.com",
    "",
]


@pytest.mark.parametrize("first", range(len(SCOPES)))
def test_the_most_exact_scope_speaks_alone(first: int) -> None:
    scopes = {scope: [ACCEPT if at == first else REJECT] for at, scope in enumerate(SCOPES) if at >= first}
    judged = read({"default": [REJECT], "transports": {"docker": scopes}})
    assert judge(judged, TAGGED, DIGEST, ()) == ()


@pytest.mark.parametrize(
    ("scope", "image"),
    [
        pytest.param("example.com:5000/team/app2", TAGGED, id="longer"),
        pytest.param("example.com:5000/te", TAGGED, id="part-of-a-word"),
        pytest.param("example.com", TAGGED, id="other-port"),
        pytest.param("*.example.com", TAGGED, id="wildcard-of-itself"),
        pytest.param("example.com:5000/team/app:1", DIGESTED, id="tag-for-digest"),
        pytest.param("/srv", LayoutImage("/srv/app"), id="other-transport"),
    ],
)
def test_scopes_that_do_not_speak(scope: str, image: identity.Image) -> None:
    judged = read({"default": [REJECT], "transports": {"docker": {scope: [ACCEPT]}}})
    with pytest.raises(NotTrusted, match=r"rejects this image \(policy.json: default\)"):
        judge(judged, image, DIGEST, ())


def test_transports() -> None:
    judged = read(
        {
            "default": [REJECT],
            "transports": {
                "oci": {"/srv": [ACCEPT]},
                "dir": {"/srv": [REJECT], "": [ACCEPT]},
                "docker-daemon": {"": [ACCEPT]},
            },
        }
    )
    assert judge(judged, LayoutImage("/srv/app"), DIGEST, ()) == ()
    assert judge(judged, LayoutImage("/other", "dir"), DIGEST, ()) == ()
    with pytest.raises(NotTrusted, match='dir scope "/srv"'):
        judge(judged, LayoutImage("/srv/app", "dir"), DIGEST, ())
    with pytest.raises(NotTrusted):
        judge(judged, TAGGED, DIGEST, ())


T, D = "example.com:5000/team/app:1", f"example.com:5000/team/app@{DIGEST}"
REPO, ELSEWHERE, OTHER_TAG = "example.com:5000/team/app", "mirror.test/team/app:1", "example.com:5000/team/app:2"


@pytest.mark.parametrize(
    ("wanted", "tagged", "digested"),
    [
        # which signed references vouch for the image asked by tag, and for the one asked by digest
        pytest.param(None, {T}, {T, D, OTHER_TAG}, id="default"),
        pytest.param({"type": "matchExact"}, {T}, {D}, id="matchExact"),
        pytest.param({"type": "matchRepoDigestOrExact"}, {T}, {T, D, OTHER_TAG}, id="matchRepoDigestOrExact"),
        pytest.param(
            {"type": "matchRepository"}, {T, D, OTHER_TAG, REPO}, {T, D, OTHER_TAG, REPO}, id="matchRepository"
        ),
        pytest.param({"type": "exactReference", "dockerReference": T}, {T}, {T}, id="exactReference"),
        pytest.param(
            {"type": "exactReference", "dockerReference": ELSEWHERE}, {ELSEWHERE}, {ELSEWHERE}, id="exact-other"
        ),
        pytest.param(
            {"type": "exactRepository", "dockerRepository": REPO},
            {T, D, OTHER_TAG, REPO},
            {T, D, OTHER_TAG, REPO},
            id="exactRepository",
        ),
        pytest.param(
            {"type": "remapIdentity", "prefix": "example.com:5000", "signedPrefix": "mirror.test"},
            {ELSEWHERE},
            {ELSEWHERE},
            id="remapIdentity",
        ),
        pytest.param(
            {"type": "remapIdentity", "prefix": "example.com:5000/te", "signedPrefix": "mirror.test/te"},
            {T},
            {T, D, OTHER_TAG},
            id="remapIdentity-of-half-a-word",
        ),
        pytest.param(
            {"type": "remapIdentity", "prefix": "example.com:5000/team/app", "signedPrefix": "mirror.test/team/app"},
            {ELSEWHERE},
            {ELSEWHERE},
            id="remapIdentity-of-all",
        ),
    ],
)
def test_identities(wanted: dict[str, str] | None, tagged: set[str], digested: set[str]) -> None:
    judged = requiring(SIGNED | ({"signedIdentity": wanted} if wanted else {}))
    for image, accepted in ((TAGGED, tagged), (DIGESTED, digested)):
        for reference in (T, D, OTHER_TAG, REPO, ELSEWHERE, "app:1", "", "EXAMPLE.com:5000/team/app:1"):
            signed = [signature(claim(reference))]
            if reference in accepted:
                assert judge(judged, image, DIGEST, signed)[0].format == "simple", reference
            else:
                with pytest.raises(NotTrusted, match="does not allow"):
                    judge(judged, image, DIGEST, signed)


@pytest.mark.parametrize("kind", ["matchExact", "matchRepoDigestOrExact", "matchRepository"])
def test_a_directory_has_no_reference_to_match(kind: str) -> None:
    assert not Identity(kind).matches(LayoutImage("/srv"), T)
    assert Identity("exactReference", T).matches(LayoutImage("/srv"), T)


def test_a_tag_beside_a_digest_is_decoration() -> None:
    assert DockerImage("example.com", "app", "1", DIGEST).scopes()[0] == f"example.com/app@{DIGEST}"


def test_signer() -> None:
    (signer,) = judge(requiring(SIGNED), TAGGED, DIGEST, [signature()])
    assert (signer.format, signer.name) == ("simple", "Key")
    assert signer.fingerprint == KEY.extract_certificate().fingerprint


@pytest.mark.parametrize(
    ("signatures", "problem"),
    [
        pytest.param([], "not signed", id="none"),
        pytest.param([Signature("cosign", b"", "x")], "not signed", id="other-format"),
        pytest.param([signature(key=OTHER)], "no trusted key", id="other-key"),
        pytest.param([signature(claim(digest=ANOTHER))], "not this manifest", id="other-digest"),
        pytest.param([signature(b"{}")], "critical: is required", id="empty-payload"),
        pytest.param([Signature("simple", b"junk", "signature-1")], "signature-1", id="junk"),
        pytest.param([signature()] * 65, "more than 64", id="too-many"),
    ],
)
def test_unmet(signatures: list[Signature], problem: str) -> None:
    with pytest.raises(NotTrusted) as caught:
        judge(requiring(SIGNED), TAGGED, DIGEST, signatures)
    assert problem in caught.value.message
    assert "\n" not in caught.value.message


def test_one_good_signature_among_bad_ones() -> None:
    bad = [signature(key=OTHER), Signature("simple", b"junk", "2"), signature(claim(digest=ANOTHER))]
    assert judge(requiring(SIGNED), TAGGED, DIGEST, [*bad, signature()])


def test_every_requirement_must_be_met() -> None:
    both = requiring(SIGNED, SIGNED | {"keyData": OTHER_DATA})
    with pytest.raises(NotTrusted, match="no trusted key"):
        judge(both, TAGGED, DIGEST, [signature()])
    assert [signer.name for signer in judge(both, TAGGED, DIGEST, [signature(), signature(key=OTHER)])] == [
        "Key",
        "Other",
    ]
    with pytest.raises(NotTrusted, match="rejects"):
        judge(requiring(ACCEPT, REJECT), TAGGED, DIGEST, [signature()])
    assert len(judge(requiring(ACCEPT, SIGNED, SIGNED), TAGGED, DIGEST, [signature()])) == 1


@pytest.mark.parametrize(
    "requirement",
    [
        pytest.param({"type": "sigstoreSigned", "keyPath": "/k"}, id="sigstoreSigned"),
        pytest.param(
            {
                "type": "sigstoreSigned",
                "fulcio": {"caData": "eA==", "oidcIssuer": "https://example.com", "subjectEmail": "a@example.com"},
                "rekorPublicKeyPath": "/r",
            },
            id="fulcio",
        ),
        pytest.param(
            {"type": "sigstoreSigned", "pki": {"caRootsPath": "/c", "subjectHostname": "example.com"}}, id="pki"
        ),
        pytest.param({"type": "signedBaseLayer", "baseLayerIdentity": {"type": "matchExact"}}, id="signedBaseLayer"),
        pytest.param(SIGNED | {"keyType": "signedByX509CAs"}, id="X509CAs"),
    ],
)
def test_what_is_not_supported_is_never_met(requirement: dict[str, Any]) -> None:
    with pytest.raises(NotTrusted, match="does not support yet"):
        judge(requiring(ACCEPT, requirement), TAGGED, DIGEST, [signature()])


def test_key_files(tmp_path: Path) -> None:
    path = tmp_path / "key.gpg"
    by_path = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(path)}
    with pytest.raises(NotTrusted, match="cannot read the key"):
        judge(requiring(by_path), TAGGED, DIGEST, [signature()])
    path.write_bytes(b"garbage")
    with pytest.raises(NotTrusted, match="the keys of the policy: not an OpenPGP public key"):
        judge(requiring(by_path), TAGGED, DIGEST, [signature()])
    path.write_bytes(bytes(OTHER.extract_certificate()) + bytes(KEY.extract_certificate()))
    assert judge(requiring(by_path), TAGGED, DIGEST, [signature()])[0].name == "Key"
    second = tmp_path / "second.asc"
    second.write_text(str(KEY.extract_certificate()))
    path.write_text(str(OTHER.extract_certificate()))
    both = {"type": "signedBy", "keyType": "GPGKeys", "keyPaths": [str(path), str(second)]}
    assert judge(requiring(both), TAGGED, DIGEST, [signature()])[0].name == "Key"


def broken(**changes: Any) -> bytes:
    """Return a claim with ``critical`` changed: a value replaces a member, None removes it."""
    document = claim()
    document["critical"] = {k: v for k, v in (document["critical"] | changes).items() if v is not None}
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"[]", "expected an object", id="array"),
        pytest.param(json.dumps(claim() | {"more": 1}).encode(), "more: unknown member", id="more"),
        pytest.param(json.dumps({"critical": claim()["critical"]}).encode(), "optional: is required", id="no-optional"),
        pytest.param(broken(type="other"), "critical.type", id="type"),
        pytest.param(broken(type=None), "critical.type: is required", id="no-type"),
        pytest.param(broken(more=1), "critical.more: unknown member", id="more-critical"),
        pytest.param(broken(image={}), "docker-manifest-digest: is required", id="no-digest"),
        pytest.param(broken(image={"docker-manifest-digest": "md5:00"}), "md5", id="weak-digest"),
        pytest.param(broken(image={"docker-manifest-digest": DIGEST, "x": 1}), "unknown member", id="more-image"),
        pytest.param(broken(identity={"docker-reference": 1}), "expected a string", id="number"),
        pytest.param(broken(identity=[]), "expected an object", id="identity-array"),
        pytest.param(json.dumps(claim() | {"optional": []}).encode(), "expected an object", id="optional-array"),
        pytest.param(json.dumps(claim() | {"optional": {"timestamp": 1.5}}).encode(), "an integer", id="timestamp"),
        pytest.param(json.dumps(claim() | {"optional": {"creator": 1}}).encode(), "a string", id="creator"),
        pytest.param(json.dumps(claim()).encode()[:-1] + b',"optional":{}}', "duplicate key", id="twice"),
        pytest.param(json.dumps(claim()).encode() + b"{}", "text after", id="trailing"),
    ],
)
def test_payloads(payload: bytes, problem: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        simple.parse(payload)
    assert problem in caught.value.message
    with pytest.raises(NotTrusted):
        judge(requiring(SIGNED), TAGGED, DIGEST, [signature(payload)])


def test_remarks_of_the_signer_are_allowed() -> None:
    payload = json.dumps(claim() | {"optional": {"creator": "x", "timestamp": 1.0, "build": {"n": 1}}}).encode()
    assert simple.parse(payload).digest == DIGEST


def test_first_policy_file_counts(tmp_path: Path) -> None:
    first, second = tmp_path / "a/policy.json", tmp_path / "policy.json"
    with pytest.raises(NotFound, match=r"no policy\.json") as caught:
        Policy.load([first, second])
    assert str(first) in caught.value.hint
    second.write_text(json.dumps({"default": [ACCEPT]}))
    assert Policy.load([first, second]).source == str(second)
    first.parent.mkdir()
    first.write_text("{")
    with pytest.raises(InvalidSpec, match=str(first)):
        Policy.load([first, second])


def test_where_policies_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/x/.config")
    paths = [str(path) for path in policy.policy_paths(ConfigDirs(system="/usr", local="/etc/p", user="/u"))]
    assert paths == [
        "/u/policy.json",
        "/etc/p/policy.json",
        "/usr/policy.json",
        "/home/x/.config/containers/policy.json",
        "/etc/containers/policy.json",
    ]


@pytest.mark.parametrize(
    "image",
    [LayoutImage("relative"), DockerImage("", "app"), DockerImage("example.com", "App"), DockerImage("a", "../b")],
)
def test_images_that_are_none(image: identity.Image) -> None:
    with pytest.raises(UsageError):
        judge(requiring(ACCEPT), image, DIGEST, ())
