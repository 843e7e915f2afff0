"""The parser against Python's own, and against noise; and archives as a whole against GNU tar."""

# ruff: noqa: E501, PT017 - one case a line; either outcome is right

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.base.errors import ImageRefused
from pyrkt.image.unpack.layers import unpack_layer
from pyrkt.image.unpack.limits import Limits
from pyrkt.image.unpack.tar import Archive, Entry, checksum_fits, nanoseconds, number, parse_pax
from tests.strategies import HOSTILE_ITEMS, Item, archive, base256, header, legal_archives, octal

OWNER = "keep" if os.geteuid() == 0 else "caller"


def read(data: bytes, size: int = 1 << 20) -> list[tuple[Entry, bytes]]:
    reader = Archive(data[at : at + size] for at in range(0, len(data), size))
    found = []
    while (entry := reader.next()) is not None:
        view = reader.view() if size % 2 else None
        found.append((entry, bytes(view) if view is not None else b"".join(map(bytes, reader.data()))))
    return found


TEXT = st.text(st.characters(exclude_characters="\0/", codec="utf-8"), min_size=1, max_size=130)


@given(
    st.lists(
        st.tuples(
            TEXT, st.binary(max_size=1500), st.integers(0, 1 << 31), st.integers(0, 0o7777), st.integers(0, 1 << 34)
        ),
        max_size=6,
    ),
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.sampled_from([1, 100, 512, 1000, 4096, 100_001]),
)
def test_reads_what_python_writes(items: list[tuple[str, bytes, int, int, int]], form: int, size: int) -> None:
    buffer = io.BytesIO()
    written = []
    with tarfile.open(fileobj=buffer, mode="w", format=form) as out:
        for name, data, uid, mode, mtime in items:
            info = tarfile.TarInfo(f"d/{name}")
            info.size, info.uid, info.mode, info.mtime = len(data), uid, mode, mtime
            try:
                out.addfile(info, io.BytesIO(data))
            except ValueError:
                continue  # ustar cannot say it
            written.append((info.name.encode(), data, uid, mode, mtime * 1_000_000_000))
    found = read(buffer.getvalue(), size)
    assert [(e.name, data, e.uid, e.mode, e.mtime) for e, data in found] == written


@given(st.binary(max_size=2000), st.integers(1, 700))
def test_noise_is_refused(data: bytes, size: int) -> None:
    try:
        read(data, size)
    except ImageRefused as error:
        assert error.message.isprintable()


@given(
    st.lists(st.tuples(st.integers(0, 511), st.binary(min_size=1, max_size=12)), max_size=5),
    st.sampled_from(b"0125xgLKS3\0"),
)
def test_damaged_headers_with_right_checksums_are_read_or_refused(damage: list[tuple[int, bytes]], kind: int) -> None:
    put = {at: data[: 512 - at] for at, data in damage}
    data = header(b"name", bytes([kind]), size=30, put=put) + b"30 mtime=1" + bytes(1000) + bytes(1024)
    try:
        read(data, 333)
    except ImageRefused as error:
        assert error.message.isprintable()


@given(st.binary(max_size=300))
def test_any_pax_body_is_read_or_refused(body: bytes) -> None:
    try:
        parse_pax(body)
    except ImageRefused as error:
        assert error.message.isprintable()


@pytest.mark.parametrize(("text", "value"), [
    (b"0000644\0", 0o644), (b"   644 \0", 0o644), (b"644\0junk", 0o644), (b"\0\0\0\0\0\0\0\0", 0), (b"        ", 0),
    (b"77777777", 0o77777777), (base256(5, 8), 5), (base256(-5, 8), -5), (octal(7, 12), 7),
])  # fmt: skip
def test_numbers(text: bytes, value: int) -> None:
    assert number(text, "size") == value


@pytest.mark.parametrize(("text", "value"), [
    (b"1", 1_000_000_000), (b"1.5", 1_500_000_000), (b"-1.5", -1_500_000_000), (b".5", 500_000_000), (b"0.0000000019", 1),
])  # fmt: skip
def test_times(text: bytes, value: int) -> None:
    assert nanoseconds(text) == value


@given(st.binary(min_size=512, max_size=512))
def test_checksums_of_any_block(block: bytes) -> None:
    blank = block[:148] + b" " * 8 + block[156:]
    assert checksum_fits(block[:148] + b"%06o\0 " % sum(blank) + block[156:])
    assert not checksum_fits(block[:148] + b"%06o\0 " % (sum(blank) + 1) + block[156:])


# -- whole archives


def snapshot(top: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    inodes: dict[int, str] = {}
    for path in sorted(top.rglob("*")):
        name = str(path.relative_to(top))
        s = path.lstat()
        content: object = None
        if stat.S_ISREG(s.st_mode):
            content = (path.read_bytes(), inodes.setdefault(s.st_ino, name))
        elif stat.S_ISLNK(s.st_mode):
            content = path.readlink()
        # GNU tar sets a directory's time when it leaves it, and spoils it when it comes back.
        mtime = 0 if stat.S_ISDIR(s.st_mode) else int(s.st_mtime)
        found[name] = (s.st_mode, s.st_uid, s.st_gid, mtime, s.st_rdev, content)
    return found


@given(legal_archives())
def test_agrees_with_gnu_tar_on_legal_archives(items: list[Item]) -> None:
    data = archive(*(item.encode() for item in items))
    with tempfile.TemporaryDirectory() as home:
        ours, theirs = Path(home, "ours"), Path(home, "theirs")
        ours.mkdir()
        theirs.mkdir()
        unpack_layer([data], ours, form="flat", owner=OWNER)  # type: ignore[arg-type]
        subprocess.run(["tar", "--numeric-owner", "-xpf", "-", "-C", str(theirs)], input=data, check=True)
        assert snapshot(ours) == snapshot(theirs)
        assert {int(path.lstat().st_mtime) for path in ours.rglob("*")} <= {1}


@given(st.lists(HOSTILE_ITEMS, max_size=14), st.sampled_from(["overlay", "flat"]))
def test_nothing_is_ever_written_outside(items: list[Item], form: str) -> None:
    data = archive(*(item.encode() for item in items))
    with tempfile.TemporaryDirectory() as home:
        root = Path(home, "a", "b", "root")
        root.mkdir(parents=True)
        canary = Path(home, "canary")
        canary.mkdir()
        (canary / "a").write_text("alive")
        before = (canary.stat().st_mtime_ns, (canary / "a").stat().st_ctime_ns)
        try:
            unpack_layer([data], root, form=form, owner=OWNER, limits=Limits(entries=100))  # type: ignore[arg-type]
        except ImageRefused as error:
            assert error.message.isprintable()
        assert (canary.stat().st_mtime_ns, (canary / "a").stat().st_ctime_ns) == before
        assert sorted(os.listdir(home)) == ["a", "canary"]
        assert os.listdir(Path(home, "a")) == ["b"]
        assert os.listdir(Path(home, "a", "b")) == ["root"]
        for top, folders, _ in os.walk(root):
            for name in folders:
                if not Path(top, name).is_symlink():
                    Path(top, name).chmod(0o700)
