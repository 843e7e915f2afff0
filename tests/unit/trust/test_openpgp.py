"""OpenPGP under damage: whatever a key or a signature is turned into, there is a verdict and no traceback."""

from __future__ import annotations

from contextlib import suppress

import pysequoia
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.base.errors import NotTrusted, PyrktError, UsageError
from pyrkt.trust import openpgp

KEY = pysequoia.Tsk.generate("Key")
PUBLIC = bytes(KEY.extract_certificate())
DATA = b"an image"
SIGNATURE = pysequoia.sign(KEY.signer(), DATA, mode=pysequoia.SignatureMode.DETACHED, armor=False)
MESSAGE = pysequoia.sign(KEY.signer(), DATA, armor=False)

Changes = list[tuple[int, int, str]]
CHANGES = st.lists(
    st.tuples(st.integers(0, 2000), st.integers(0, 255), st.sampled_from(["set", "delete", "insert"])),
    min_size=1,
    max_size=4,
)


def changed(data: bytes, changes: Changes) -> bytes:
    """Return ``data`` with some bytes set, deleted or inserted."""
    mutable = bytearray(data)
    for place, value, how in changes:
        at = place % len(mutable)
        if how == "set":
            mutable[at] = value
        elif how == "insert":
            mutable.insert(at, value)
        else:
            del mutable[at]
    return bytes(mutable)


def test_undamaged() -> None:
    assert openpgp.verify_detached(DATA, SIGNATURE, [PUBLIC]).fingerprint == openpgp.fingerprint(PUBLIC)
    assert openpgp.verify_message(MESSAGE, [PUBLIC])[0] == DATA


@given(CHANGES)
def test_any_key_is_read_or_refused(changes: Changes) -> None:
    key = changed(PUBLIC, changes)
    with suppress(UsageError):
        openpgp.fingerprint(key)
    with suppress(UsageError):
        openpgp.describe(key)
    with suppress(PyrktError):
        openpgp.verify_detached(DATA, SIGNATURE, [key])


@given(CHANGES)
def test_any_signature_is_judged(changes: Changes) -> None:
    with suppress(NotTrusted):
        openpgp.verify_detached(DATA, changed(SIGNATURE, changes), [PUBLIC])


@given(CHANGES)
def test_a_damaged_message_says_nothing_new(changes: Changes) -> None:
    with suppress(NotTrusted):
        assert openpgp.verify_message(changed(MESSAGE, changes), [PUBLIC])[0] == DATA
