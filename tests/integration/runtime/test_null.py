"""Standard descriptors that are the host's /dev/null are the container's own in it, as under runc."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import bundle, oci

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.oci import Runtime

pytestmark = pytest.mark.root
# The device it is on and its inode tell one /dev/null from another; 0 was opened for reading only.
SHOW = "stat -L -c %d:%i /proc/self/fd/0 /dev/null | uniq | wc -l; stat -L -c %t:%T /proc/self/fd/0; echo ok >&0"


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    with oci.nothing_left(tmp_path):
        found = oci.ours(tmp_path)
        yield found
        found.clean()


def test_run_and_exec(runtime: Runtime, tmp_path: Path) -> None:
    box = bundle.make(tmp_path / "bundle").script(SHOW)
    answer = runtime.run(box.path)
    assert (answer.code, answer.out) == (0, "1\n1:3\n"), answer.err
    name = runtime.new_id()
    assert runtime.detached("run", "-d", "-b", str(box.runs("sleep", "60").path), name).code == 0
    answer = runtime.call("exec", name, "sh", "-c", SHOW)
    assert (answer.code, answer.out) == (0, "1\n1:3\n"), answer.err


def test_something_else_in_its_place_is_not_taken(runtime: Runtime, tmp_path: Path) -> None:
    box = bundle.make(tmp_path / "bundle").runs("sh", "-c", "rm /dev/null && mkfifo /dev/null && exec sleep 60")
    (box.rootfs / "bin/mkfifo").symlink_to("busybox")
    name = runtime.new_id()
    assert runtime.detached("run", "-d", "-b", str(box.save().path), name).code == 0
    oci.eventually(lambda: "fifo" in runtime.call("exec", name, "stat", "-c", "%F", "/dev/null").out)
    answer = runtime.call("exec", name, "sh", "-c", "stat -L -c %F /proc/self/fd/0 /dev/null")
    assert (answer.code, answer.out) == (0, "character special file\nfifo\n"), answer.err


def test_a_masked_file_is_no_way_to_the_hosts_device(runtime: Runtime, tmp_path: Path) -> None:
    """It is covered by the host's /dev/null, to be written to and read, not to be changed."""
    box = bundle.make(tmp_path / "bundle")
    box.config["process"]["capabilities"] = {kind: ["CAP_FOWNER"] for kind in ("bounding", "effective", "permitted")}
    before = Path("/dev/null").stat()
    answer = runtime.run(
        box.script("touch /proc/keys; chmod 666 /proc/keys; echo ok >/proc/keys && cat /proc/keys").path
    )
    assert (answer.code, answer.out) == (0, ""), answer.err
    assert answer.err.count("Read-only file system") == 2, answer.err
    after = Path("/dev/null").stat()
    assert (after.st_mode, after.st_uid, after.st_ctime_ns) == (before.st_mode, before.st_uid, before.st_ctime_ns)
