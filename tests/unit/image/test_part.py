"""Parts of images that were refused."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from pyrkt.image.part import Part, forget
from pyrkt.spec.digest import Digest, of_bytes
from pyrkt.store import Store

if TYPE_CHECKING:
    from pathlib import Path

DATA = b"a layer"
DIGEST = of_bytes(DATA)
OTHER = Digest("sha256:" + hashlib.sha256(b"other").hexdigest())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data").open()


def test_parts_of_a_refused_image_go_whole_ones_too(store: Store) -> None:
    with Part(store, DIGEST, len(DATA)) as whole, Part(store, OTHER, 100) as half:
        whole.write(DATA)
        assert whole.prove()
        half.write(b"ot")
    forget(store, [DIGEST, OTHER, DIGEST])
    assert list((store.root / "partial").iterdir()) == []


def test_a_part_that_somebody_is_at_stays(store: Store) -> None:
    with Part(store, DIGEST, len(DATA)) as part:
        part.write(DATA)
        forget(store, [DIGEST])
        assert part.prove()
    assert store.blobs.partial(DIGEST).read_bytes() == DATA
