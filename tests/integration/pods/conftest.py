"""A store with one image for the tests of a module, which must leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.pods import Pyrkt, make_layout


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pyrkt]:
    """A store with one OCI image; checks at the end that nothing stayed."""
    tool = Pyrkt(tmp_path_factory.mktemp("pods"))
    tool.ok("fetch", f"oci:{make_layout(tool.base / 'layout')}:bb")
    yield tool
    assert tool.clean() == []


@pytest.fixture(scope="module")
def image(stored: Pyrkt) -> str:
    """The reference of the image."""
    return f"oci:{stored.base}/layout:bb"
