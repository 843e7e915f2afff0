"""Ranges of ids."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyrkt.pod import ids
from pyrkt.pod.directory import Pods


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("me:100000:65536\n", [(100000, 65536)], id="by-name"),
        pytest.param("1000:5:10\nme:7:1\n", [(5, 10), (7, 1)], id="by-number-and-name"),
        pytest.param("you:1:1\n", [], id="somebody-else"),
        pytest.param("me:x:1\nme:1\nme:1:0\nme:-1:5\n\n#\n", [], id="garbage"),
    ],
)
def test_subordinate_ranges(text: str, expected: list[tuple[int, int]]) -> None:
    assert ids.subordinate(text, 1000, "me") == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="a range of its own is root's to give")
def test_two_pods_have_ranges_that_do_not_meet(tmp_path: Path) -> None:
    pods = Pods(str(tmp_path))
    made = [pods.create() for _ in range(5)]
    shifts = {ids.mappings(private=True, pods=pods, pod=pod).shift for pod in made}
    assert len(shifts) == 5
    assert all(shift % ids.RANGE == 0 for shift in shifts)
    for pod in made:
        os.close(pod.descriptor)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs chown")
def test_shift_moves_owners_and_keeps_setuid_and_links(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "dir").mkdir(parents=True)
    (tree / "su").write_text("x")
    (tree / "su").chmod(0o4755)
    os.chown(tree / "dir", 5, 6)
    os.link(tree / "su", tree / "dir" / "hard")
    (tree / "link").symlink_to("/etc/passwd")
    before = Path("/etc/passwd").stat()
    ids.shift(str(tree), 1 << 20)
    assert (tree / "su").stat().st_uid == 1 << 20
    assert (tree / "su").stat().st_mode & 0o7777 == 0o4755
    assert ((tree / "dir").stat().st_uid, (tree / "dir").stat().st_gid) == ((1 << 20) + 5, (1 << 20) + 6)
    assert (tree / "link").lstat().st_uid == 1 << 20
    assert Path("/etc/passwd").stat().st_uid == before.st_uid
