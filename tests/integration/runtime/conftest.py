"""What the tests of one facility each have in common: pyrkt-oci, a bundle that sleeps, a check for what is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import bundle, oci

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    """Return pyrkt-oci; nothing of its containers may be left after the test.

    Only of its own: other tests may run beside this one.
    """
    found = oci.ours(tmp_path)
    yield found
    found.clean()
    assert not [left for name in found.ids for left in oci.cgroups(name)]
    assert not list(found.root.glob("pyrkt-test*"))


@pytest.fixture
def box(tmp_path: Path) -> Bundle:
    """Return a bundle that sleeps."""
    return bundle.make(tmp_path / "bundle", "sleep", "300")
