"""OCI image layouts that change while they are read."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from pyrkt.base.errors import ImageRefused, NotFound
from pyrkt.image.layout import Layout
from tests.support import skopeo

if TYPE_CHECKING:
    from pathlib import Path


def test_a_symlink_that_changes_leads_nowhere_else(tmp_path: Path) -> None:
    """A policy judges the directory that is then read, whatever becomes of the name by which it was asked for."""
    good = skopeo.Layout(path=tmp_path / "good").image([[skopeo.Member(name="a")]], tag="1")
    other = skopeo.Layout(path=tmp_path / "other").image([[skopeo.Member(name="b")]], tag="1")
    assert good["digest"] != other["digest"]
    name = tmp_path / "name"
    name.symlink_to("good")
    with closing(Layout(str(name), "1")) as layout:
        assert layout.place == str(tmp_path / "good")
        name.unlink()
        name.symlink_to("other")
        assert layout.place == str(tmp_path / "good")
        assert layout.top().digest == good["digest"]


def test_an_exchanged_blob_is_found_out(tmp_path: Path) -> None:
    made = skopeo.Layout(path=tmp_path / "layout")
    digest = str(made.image([[skopeo.Member(name="a")]], tag="1")["digest"])
    path = tmp_path / "layout/blobs" / digest.replace(":", "/")
    with closing(Layout(str(tmp_path / "layout"))) as layout:
        assert layout.top().digest == digest
        path.write_bytes(path.read_bytes().swapcase())
        with pytest.raises(ImageRefused, match="another digest"):
            layout.top()
        path.write_bytes(b"")
        with pytest.raises(ImageRefused, match="has 0 bytes"):
            layout.top()


def test_what_is_no_layout(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="No such file"):
        Layout(str(tmp_path / "missing"))
    with closing(Layout(str(tmp_path))) as layout, pytest.raises(NotFound, match="oci-layout: No such file") as caught:
        layout.top()
    assert caught.value.hint == "it is not an OCI image layout"
