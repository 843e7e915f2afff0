"""kill -9 at any moment: the store stays readable, verifies, and gc takes what was left half done."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pyrkt.base.errors import Busy, CannotCreate
from pyrkt.image.unpack.layers import unpack_layer
from pyrkt.store import Store
from pyrkt.store.gc import collect, verify
from tests.strategies import archive, file

pytestmark = pytest.mark.root

# One fetch as the image half does it: blob, layer, tree, record; over and over, each image a little different.
WRITER = """
import gzip, hashlib, itertools, os, sys, time
from pyrkt.image.unpack.layers import Staged, assemble, unpack_layer
from pyrkt.spec.digest import of_bytes
from pyrkt.store import ImageRecord, Store
from tests.strategies import archive, file, folder

store = Store(sys.argv[1]).open()
seed = int(sys.argv[2])
for number in itertools.count():
    base = archive(folder(b"./"), *[file(b"d/%d" % n, b"x" * n) for n in range(150)])
    top = archive(file(b"d/own", b"%d %d" % (seed, number % 5)))
    with store.hold():
        blobs, layers, ids = [], [], []
        for plain in (base, top):
            packed = gzip.compress(plain, mtime=0)
            with store.blobs.writer(of_bytes(packed), len(packed), resume=True) as writer:
                if not writer.complete:
                    for at in range(writer.written, len(packed), 100):
                        writer.write(packed[at : at + 100])
                blobs.append(writer.commit())
            stage = store.trees.stage()
            with store.blobs.open(blobs[-1]) as source:
                layers.append(Staged(unpack_layer(source, stage, diff_id=of_bytes(plain)), stage))
            ids.append(of_bytes(plain))
        trees = assemble(store, layers, ids)
        name = hashlib.sha256(top).hexdigest()
        now = time.time()
        store.images.put(ImageRecord(
            id="sha256-" + name, kind="oci", name=f"registry.test/i{seed}",
            reference=f"docker://registry.test/i{seed}:{number % 5}", blobs=tuple(blobs), trees=trees,
            manifest=store.blobs.put(b"manifest " + name.encode()), imported=now, last_used=now,
        ))
    print(number, flush=True)
    if number % 3 == 2:
        store.images.remove("sha256-" + name)
"""


COLLECTOR = """
import sys
from pyrkt.store import Store
from pyrkt.store.gc import collect
while True:
    collect(Store(sys.argv[1]).open(), grace=0, wait=True)
"""


def start(store: Store, seed: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(store.root), str(seed)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_killed_at_random_moments(tmp_path: Path) -> None:
    store = Store(tmp_path / "data").open()
    chance = random.Random(5)
    with start(store, 0) as first:  # at least one whole image, and the time that one takes
        assert first.stdout is not None
        first.stdout.readline()
        began = time.monotonic()
        for _ in range(3):
            first.stdout.readline()
        each = (time.monotonic() - began) / 3
        first.send_signal(signal.SIGKILL)
    for seed in range(30):
        with start(store, seed % 4) as process:
            assert process.stdout is not None
            if seed % 3:
                process.stdout.readline()
            time.sleep(chance.random() * each * 2 + (0 if seed % 3 else 0.25))
            process.send_signal(signal.SIGKILL)
        assert verify(store) == []
    assert store.images.all()
    time.sleep(0.1)  # children of the killed die with them, but not in the same instant
    collect(store, grace=0)
    assert verify(store) == []
    assert os.listdir(store.tmp) == os.listdir(store.root / "partial") == []
    used = {tree for record in store.images.all() for tree in record.trees}
    assert set(store.trees.all()) == used
    kept = {digest for record in store.images.all() for digest in record.all_blobs()}
    assert set(store.blobs.all()) == kept


def test_gc_killed_and_run_beside_writers(tmp_path: Path) -> None:
    store = Store(tmp_path / "data").open()
    chance = random.Random(6)
    writers = [start(store, seed) for seed in (7, 8)]
    try:
        for writer in writers:
            assert writer.stdout is not None
            writer.stdout.readline()
        for _ in range(8):
            with subprocess.Popen([sys.executable, "-c", COLLECTOR, str(store.root)]) as process:
                time.sleep(0.3 + chance.random() * 0.3)
                assert process.poll() is None
                process.send_signal(signal.SIGKILL)
        assert [writer.poll() for writer in writers] == [None, None]
    finally:
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.communicate()
    assert verify(store) == []
    collect(store, grace=0, wait=True)
    assert verify(store) == []
    assert os.listdir(store.tmp) == []


def test_sixteen_writers_of_one_blob(tmp_path: Path) -> None:
    store = Store(tmp_path / "data").open()
    data = os.urandom(1 << 20)
    digest = store.blobs.put(data)
    store.blobs.path(digest).unlink()
    written: list[int] = []

    def fetch() -> None:
        with Store(store.root).blobs.writer(digest, len(data), resume=True) as writer:
            if not writer.complete:
                written.append(1)
                for at in range(0, len(data), 10_000):
                    writer.write(data[at : at + 10_000])
            writer.commit()

    threads = [threading.Thread(target=fetch) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert written == [1]
    assert store.blobs.path(digest).read_bytes() == data


def test_gc_waits_for_no_stopped_reader(tmp_path: Path) -> None:
    store = Store(tmp_path / "data").open()
    with start(store, 1) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.send_signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert store.images.all()
            assert verify(store) == []
            try:
                collect(store, grace=0)
            except Busy:
                pass
            assert time.monotonic() - began < 5
        finally:
            writer.send_signal(signal.SIGKILL)


def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path: Path) -> None:
    home = tmp_path / "small"
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", home], check=True)
    try:
        store = Store(home).open()
        with pytest.raises(CannotCreate, match="No space left") as caught, store.blobs.writer() as writer:
            writer.write(os.urandom(2 << 20))
        assert "pyrkt image gc" in caught.value.hint
        assert os.listdir(store.tmp) == []
        stage = store.trees.stage()
        with pytest.raises(CannotCreate, match=r"unpacking big: No space left"):
            unpack_layer([archive(file(b"big", os.urandom(2 << 20)))], stage)
        store.trees.discard(stage)
        stage = store.trees.stage()
        many = archive(*[file(b"d%d/f" % number, b"x" * 4096) for number in range(500)])
        with pytest.raises(CannotCreate, match=r"unpacking d\d+/f: No space left"):
            unpack_layer([many], stage)
        store.trees.discard(stage)
        assert os.listdir(store.tmp) == []
        store.blobs.put(b"small things still fit")
    finally:
        subprocess.run(["umount", home], check=True)
