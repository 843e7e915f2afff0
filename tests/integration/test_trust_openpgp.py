"""OpenPGP verdicts on what gpg made: each way in which a signature may or may not count."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrkt.base.dirs import ConfigDirs
from pyrkt.base.errors import NotTrusted, UsageError
from pyrkt.trust import openpgp
from pyrkt.trust.keystore import Keystore
from tests.support.keys import DAY, PAST, Gpg, gpg_home, unarmoured

pytestmark = pytest.mark.peers

DATA = b"an image, compressed and maybe encrypted\n" * 1000
SOON = PAST + DAY


@pytest.fixture(scope="module")
def gpg() -> Iterator[Gpg]:
    with gpg_home() as made:
        made.key("good")
        made.key("rsa", kind="rsa3072")
        made.key("other")
        made.key("expired", days=10)
        for name in ("compromised", "superseded", "retired"):
            made.key(name)
        with_subkey = made.key("subkey", use="cert")
        made.subkey(with_subkey)
        ended = made.key("subended", use="cert")
        made.subkey(ended, days=30)
        gone = made.key("subrevoked", use="cert")
        made.subkey(gone)
        yield made


def by(gpg: Gpg, *names: str) -> list[bytes]:
    return [gpg.public(name) for name in names]


def refusal(gpg: Gpg, signature: bytes, *names: str, data: bytes = DATA) -> str:
    with pytest.raises(NotTrusted) as caught:
        openpgp.verify_detached(data, signature, by(gpg, *names), document="app.aci.asc")
    message = caught.value.message
    assert message.startswith("app.aci.asc: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["good", "rsa", "subkey"])
@pytest.mark.parametrize("form", ["armoured", "binary"])
@pytest.mark.parametrize("where", ["bytes", "file"])
def test_good(gpg: Gpg, name: str, form: str, where: str, tmp_path: Path) -> None:
    signature = gpg.sign(name, DATA)
    (tmp_path / "app.aci").write_bytes(DATA)
    signer = openpgp.verify_detached(
        DATA if where == "bytes" else tmp_path / "app.aci",
        signature if form == "armoured" else unarmoured(signature),
        by(gpg, "other", name),
    )
    assert (signer.format, signer.fingerprint, signer.name) == (
        "openpgp",
        gpg.fingerprints(name)[0],
        f"{name} <{name}@example.com>",
    )


def test_other_data(gpg: Gpg) -> None:
    assert "bad: the data is not what key" in refusal(gpg, gpg.sign("good", DATA), "good", data=DATA + b"x")


def test_empty_data(gpg: Gpg) -> None:
    assert "bad: the data is not what key" in refusal(gpg, gpg.sign("good", DATA), "good", data=b"")
    assert openpgp.verify_detached(b"", gpg.sign("good", b""), by(gpg, "good")).format == "openpgp"


@pytest.mark.parametrize("signature", [b"", b"\n\n"])
def test_unsigned(gpg: Gpg, signature: bytes) -> None:
    assert "not signed" in refusal(gpg, signature, "good")


def test_made_by_a_key_nobody_trusts(gpg: Gpg) -> None:
    message = refusal(gpg, gpg.sign("other", DATA), "good", "rsa")
    assert f"made by {gpg.fingerprints('other')[0]}, which is no trusted key" in message


def test_no_keys_at_all(gpg: Gpg) -> None:
    assert "no trusted key" in refusal(gpg, gpg.sign("good", DATA))


@pytest.mark.parametrize("signed_at", [SOON, PAST + 5 * DAY])
def test_key_expired_after_signing(gpg: Gpg, signed_at: int) -> None:
    assert "is expired on 2023-11-24" in refusal(gpg, gpg.sign("expired", DATA, at=signed_at), "expired")


@pytest.mark.parametrize(("name", "reason"), [("compromised", 1), ("superseded", 2), ("retired", 3)])
def test_key_revoked_after_signing(gpg: Gpg, name: str, reason: int) -> None:
    signature = gpg.sign(name, DATA, at=SOON)
    assert openpgp.verify_detached(DATA, signature, by(gpg, name)).name.startswith(name)
    gpg.revoke(gpg.fingerprints(name)[0], reason)
    assert "is revoked" in refusal(gpg, signature, name)


def test_subkey_expired_after_signing(gpg: Gpg) -> None:
    message = refusal(gpg, gpg.sign("subended", DATA, at=SOON), "subended")
    assert f"subkey {gpg.fingerprints('subended')[1]} is expired on 2023-12-14" in message


def test_subkey_revoked_after_signing(gpg: Gpg) -> None:
    signature = gpg.sign("subrevoked", DATA, at=SOON)
    assert openpgp.verify_detached(DATA, signature, by(gpg, "subrevoked")).format == "openpgp"
    gpg.revoke_subkey("subrevoked")
    assert f"subkey {gpg.fingerprints('subrevoked')[1]} is revoked" in refusal(gpg, signature, "subrevoked")


def test_subkey_that_may_not_sign(gpg: Gpg) -> None:
    fingerprint = gpg.key("encryptor", use="cert")
    gpg.subkey(fingerprint, kind="rsa2048", use="sign")
    signature = gpg.sign("encryptor", DATA)
    # The owner publishes the same key again, without leave to sign.
    gpg._dialogue("--edit-key", "encryptor", b"key 1\nchange-usage\ns\ne\nq\nsave\n")
    assert "that key may not sign" in refusal(gpg, signature, "encryptor")


def test_signature_expired(gpg: Gpg) -> None:
    signature = gpg.sign("good", DATA, "--default-sig-expire=1d", at=SOON)
    assert "the signature expired on 2023-11-16" in refusal(gpg, signature, "good")


def test_signature_of_the_future(gpg: Gpg) -> None:
    assert "dated in the future (2035-" in refusal(gpg, gpg.sign("good", DATA, at=2_060_000_000), "good")


@pytest.mark.parametrize("digest", ["SHA1", "RIPEMD160"])
def test_weak_digest(gpg: Gpg, digest: str) -> None:
    assert "no longer proves anything" in refusal(gpg, gpg.sign("rsa", DATA, f"--digest-algo={digest}"), "rsa")


def test_key_bound_by_sha1(gpg: Gpg) -> None:
    gpg.run("--cert-digest-algo=SHA1", "--quick-generate-key", "sha1 <sha1@example.com>", "rsa2048", "sign", "never")
    assert "is not usable" in refusal(gpg, gpg.sign("sha1", DATA), "sha1")


def test_textual_signature(gpg: Gpg) -> None:
    assert "not over a binary document" in refusal(gpg, gpg.sign("good", DATA, "--textmode"), "good")


def test_clearsigned(gpg: Gpg) -> None:
    assert "clearsigned" in refusal(gpg, gpg.run("--local-user", "good", "--clearsign", stdin=DATA), "good")


@pytest.mark.parametrize("options", [("--armor",), (), ("--compress-algo=none",)])
def test_inline(gpg: Gpg, options: tuple[str, ...]) -> None:
    message = refusal(gpg, gpg.run("--local-user", "good", *options, "--sign", stdin=DATA), "good")
    assert "not an OpenPGP signature" in message


def test_notation_that_looks_like_gpgs_own_words(gpg: Gpg) -> None:
    notation = f"--sig-notation=x@example.com=[GNUPG:] VALIDSIG {gpg.fingerprints('good')[0]} 2024-01-01"
    forged = gpg.sign("other", DATA, notation)
    assert "no trusted key" in refusal(gpg, forged, "good")
    assert openpgp.verify_detached(DATA, gpg.sign("good", DATA, notation), by(gpg, "good")).format == "openpgp"


@pytest.mark.parametrize("order", [("other", "good"), ("good", "other"), ("expired", "good")])
@pytest.mark.parametrize("form", ["one block", "two blocks", "binary"])
def test_one_valid_signature_of_two_suffices(gpg: Gpg, order: tuple[str, str], form: str) -> None:
    times = {"expired": SOON}
    parts = [gpg.sign(name, DATA, at=times.get(name, 0)) for name in order]
    if form == "one block":
        users = [f"--local-user={name}" for name in order if name != "expired"]
        signature = gpg.run(*users, "--armor", "--detach-sign", stdin=DATA)
    elif form == "two blocks":
        signature = b"\n".join(parts)
    else:
        signature = b"".join(unarmoured(part) for part in parts)
    assert openpgp.verify_detached(DATA, signature, by(gpg, "good", "expired")).name.startswith("good")


def test_two_bad_signatures_give_both_reasons(gpg: Gpg) -> None:
    signature = gpg.sign("other", DATA) + gpg.sign("good", b"something else")
    message = refusal(gpg, signature, "good")
    assert "none of 2 signatures counts" in message
    assert "no trusted key" in message
    assert "the data is not what key" in message


def test_too_many_signatures(gpg: Gpg) -> None:
    signature = unarmoured(gpg.sign("other", DATA))
    assert "more than 64 signatures" in refusal(gpg, signature * 65, "good")
    assert "none of 64" not in refusal(gpg, signature * 64, "good")  # one reason, said once


def test_forgeries_in_the_name_of_a_trusted_key_are_not_all_tried(gpg: Gpg) -> None:
    forged = unarmoured(gpg.sign("good", b"something else"))
    assert "more than 8 signatures that name trusted keys" in refusal(gpg, forged * 20, "good")


def test_too_large(gpg: Gpg) -> None:
    assert "larger than 1 MiB" in refusal(gpg, gpg.sign("good", DATA) + b"\n" * (1 << 20), "good")


@pytest.mark.parametrize("junk", [b"hello", b"\x00" * 100, b"\xff" * 100, b"\x88", b"-----BEGIN PGP SIGNATURE-----\n"])
def test_junk(gpg: Gpg, junk: bytes) -> None:
    assert "not an OpenPGP signature" in refusal(gpg, junk, "good")


def test_every_damaged_signature_is_refused(gpg: Gpg) -> None:
    signature = unarmoured(gpg.sign("good", DATA))
    keys = by(gpg, "good")
    accepted = []
    for at in range(len(signature)):
        damaged = signature[:at] + bytes((signature[at] ^ 1,)) + signature[at + 1 :]
        try:
            openpgp.verify_detached(DATA, damaged, keys)
        except NotTrusted:
            continue
        accepted.append(at)
    # What the signature does not cover itself: the unhashed issuer, and the 16 bits of digest that are a hint.
    assert all(at > 2 for at in accepted)
    assert len(accepted) <= 14


def test_a_key_for_another_prefix(gpg: Gpg, tmp_path: Path) -> None:
    store = Keystore(ConfigDirs(system=str(tmp_path / "usr"), local=str(tmp_path / "etc")))
    store.add(gpg.public("good"), "example.com/a")
    signature = gpg.sign("good", DATA)

    def verdict(name: str) -> bool:
        try:
            openpgp.verify_detached(DATA, signature, [key.data for key in store.keys_for(name)])
        except NotTrusted:
            return False
        return True

    names = ["example.com/a", "example.com/a/b", "example.com/ab", "example.com", "example.com/a-b", "a"]
    assert [verdict(name) for name in names] == [True, True, False, False, False, False]
    store.remove(gpg.fingerprints("good")[0])
    assert not verdict("example.com/a")
    store.add(gpg.public("good"), None, root=True)
    assert verdict("example.com/ab")


def test_private_key_is_refused(gpg: Gpg) -> None:
    with pytest.raises(UsageError, match="private key"):
        openpgp.fingerprint(gpg.secret("good"))
    with pytest.raises(UsageError, match="private key"):
        openpgp.fingerprint(unarmoured(gpg.secret("good")))


def test_describe(gpg: Gpg) -> None:
    lines = openpgp.describe(gpg.public("subkey"))
    assert lines[0] == f"fingerprint: {openpgp.spaced(gpg.fingerprints('subkey')[0])}"
    assert "user id: subkey <subkey@example.com>" in lines
    assert "key: EdDSA, created 2023-11-14, does not expire" in lines
    assert any(line.startswith("subkey: ") for line in lines)
    assert "warning: this key is expired on 2023-11-24; signatures by it are refused" in openpgp.describe(
        gpg.public("expired")
    )


def test_expired_and_revoked_keys_are_not_added(gpg: Gpg, tmp_path: Path) -> None:
    store = Keystore(ConfigDirs(system=str(tmp_path / "usr"), local=str(tmp_path / "etc")))
    with pytest.raises(NotTrusted, match="is expired on 2023-11-24"):
        store.add(gpg.public("expired"), None, root=True)
    assert store.all() == ()


@pytest.mark.parametrize("options", [(), ("--armor",), ("--compress-algo=none",), ("--compress-algo=bzip2",)])
def test_message(gpg: Gpg, options: tuple[str, ...]) -> None:
    payload, signer = openpgp.verify_message(gpg.message("good", b"{}", *options), by(gpg, "good"))
    assert payload == b"{}"
    assert signer.fingerprint == gpg.fingerprints("good")[0]


def test_message_by_two(gpg: Gpg) -> None:
    message = gpg.run("--local-user=other", "--local-user=good", "--sign", stdin=b"{}")
    assert openpgp.verify_message(message, by(gpg, "good"))[0] == b"{}"


def test_message_that_is_none(gpg: Gpg) -> None:
    good = by(gpg, "good")
    plain = gpg.run("--store", stdin=b"{}")
    signed = gpg.message("good", b"{}", "--compress-algo=none")
    for blob in (b"", b"{}", plain, gpg.sign("good", b"{}"), signed + plain, plain + signed, signed[:-3]):
        with pytest.raises(NotTrusted):
            openpgp.verify_message(blob, good)


def test_message_that_unpacks_without_end(gpg: Gpg) -> None:
    bomb = gpg.message("good", bytes(40 << 20), "--compress-algo=bzip2")
    assert len(bomb) < 100_000
    with pytest.raises(NotTrusted, match="unpacks to more than"):
        openpgp.verify_message(bomb, by(gpg, "good"))


def test_large_files_are_not_read_into_memory(gpg: Gpg, tmp_path: Path) -> None:
    image = tmp_path / "large.aci"
    with image.open("wb") as file:
        file.truncate(300 << 20)
    signature = gpg.run("--local-user=good", "--armor", "--detach-sign", "--output=-", image)
    started = time.monotonic()
    assert openpgp.verify_detached(image, signature, by(gpg, "good")).format == "openpgp"
    assert time.monotonic() - started < 30
