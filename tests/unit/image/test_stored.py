"""Which stored images may be used by a request that switches fewer checks off than the fetch did."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyrkt.base.dirs import ConfigDirs
from pyrkt.base.errors import NotTrusted
from pyrkt.image.reference import parse
from pyrkt.image.request import FetchRequest
from pyrkt.image.stored import check_vouched
from pyrkt.spec.digest import Digest
from pyrkt.store import ImageRecord, Signer, Store
from pyrkt.trust.keystore import Keystore

DOCKER = "docker://registry.test/team/app:1"
PINNED = f"docker://registry.test/team/app@sha256:{'a' * 64}"
SIGNER = (Signer(format="openpgp", fingerprint="ab" * 20),)


def judge(reference: str, off_then: str, off_now: str, signers: tuple[Signer, ...] = (), fetched_as: str = "") -> None:
    """Ask for ``reference`` with the checks ``off_now`` switched off, of an image stored with ``off_then`` off."""
    asked = parse(reference)
    record = ImageRecord(
        id=f"sha256-{'b' * 64}",
        kind="oci" if reference.startswith(("docker:", "oci:")) else "appc",
        name="team/app",
        reference=fetched_as or str(asked),
        manifest=Digest(f"sha256:{'b' * 64}"),
        signers=signers,
        insecure=tuple(off_then.split()),
    )
    dirs = ConfigDirs(system="/nonexistent", local="/nonexistent")
    store, insecure = Store(Path("/nonexistent")), frozenset(off_now.split())
    check_vouched(record, asked, FetchRequest(store=store, keystore=Keystore(dirs), insecure=insecure))


@pytest.mark.parametrize(
    ("reference", "off_then", "off_now", "problem"),
    [
        pytest.param(DOCKER, "image", "", "without a check of its signature", id="signature"),
        pytest.param(DOCKER, "tls", "", "unsigned, with --insecure-options=tls", id="tls"),
        pytest.param(DOCKER, "http", "", "unsigned, with --insecure-options=http", id="http"),
        pytest.param(DOCKER, "http tls", "http", "insecure-options=tls", id="one-of-two"),
        pytest.param(DOCKER, "image tls", "image", "insecure-options=tls", id="image-does-not-imply-tls"),
        pytest.param("example.com/app", "http image", "image", "insecure-options=http", id="name"),
        pytest.param("https://example.com/a.aci", "image tls", "image", "insecure-options=tls", id="url"),
        pytest.param(PINNED, "image", "", "without a check", id="a-digest-does-not-replace-a-signature"),
    ],
)
def test_a_check_that_was_off_and_is_wanted_now(reference: str, off_then: str, off_now: str, problem: str) -> None:
    with pytest.raises(NotTrusted, match=problem) as caught:
        judge(reference, off_then, off_now)
    assert "--pull-policy=update" in caught.value.hint
    judge(reference, off_then, off_then)


@pytest.mark.parametrize(
    ("reference", "off_then", "signers"),
    [
        pytest.param(DOCKER, "", (), id="nothing-was-off"),
        pytest.param(DOCKER, "http tls", SIGNER, id="signed-over-an-open-line"),
        pytest.param("example.com/app:1.0", "http tls", SIGNER, id="signed-aci"),
        pytest.param(PINNED, "http tls", (), id="named-by-its-digest"),
        pytest.param("oci:/srv/layout:1", "http tls", (), id="of-this-host"),
        pytest.param("/srv/app.aci", "http tls", SIGNER, id="a-file"),
    ],
)
def test_a_check_that_does_not_count(reference: str, off_then: str, signers: tuple[Signer, ...]) -> None:
    judge(reference, off_then, "", signers)


def test_a_registry_image_that_was_judged_by_another_name() -> None:
    with pytest.raises(NotTrusted, match=r"last judged as docker://registry\.test/other"):
        judge(DOCKER, "", "", SIGNER, fetched_as="docker://registry.test/other:1")
    judge(DOCKER, "", "image", SIGNER, fetched_as="docker://registry.test/other:1")
    judge("example.com/app", "", "", SIGNER, fetched_as="https://example.com/a.aci")
