"""Tests for a host with nothing but cgroup v2 and systemd: ``scripts/test-v2`` boots one and runs them there.

Those in ``hybrid`` are for one on which systemd has mounted version 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import bundle, oci

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

HERE = Path("/run/systemd/system").is_dir()
V2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()

collect_ignore_glob = []
if not (HERE and V2):
    collect_ignore_glob.append("test_*.py")
if not HERE or V2:
    collect_ignore_glob.append("hybrid/*")


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    """Return pyrkt-oci; nothing of its containers may be left after the test."""
    found = oci.ours(tmp_path)
    with oci.nothing_left(tmp_path, "pyrkt-test"):
        yield found
        found.clean()
    assert not list(found.root.glob("pyrkt-test*"))


@pytest.fixture
def box(tmp_path: Path) -> Bundle:
    """Return a bundle that sleeps."""
    return bundle.make(tmp_path / "bundle", "sleep", "300")
