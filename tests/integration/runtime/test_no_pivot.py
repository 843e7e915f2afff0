"""--no-pivot: without pivot_root the host's tree stays below the root, and must not serve the container."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import mounts, oci

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


@pytest.fixture
def box() -> Iterator[Bundle]:
    with mounts.open_bundle() as made:
        yield made


def capable(box: Bundle, *names: str) -> None:
    for kind in ("bounding", "effective", "permitted"):
        box.config["process"]["capabilities"][kind] += names


@pytest.mark.parametrize("users", [False, True], ids=["root", "userns"])
def test_the_root_is_the_root(runtime: Runtime, box: Bundle, users: bool) -> None:
    (box.rootfs / "mark").touch()
    if users:
        mounts.map_users(box)
    script = "ls -d /mark /../mark; touch /x; cat /proc/self/mountinfo; cat /proc/keys"
    answer = runtime.run(box.script(script).path, "--no-pivot")
    assert answer.out.startswith("/../mark\n/mark\n"), answer.err
    assert "Read-only file system" in answer.err
    found = mounts.seen(answer.out)
    assert {"/", "/proc", "/dev", "/sys"} <= found.keys()
    assert str(box.path) not in "".join(found)


@pytest.mark.parametrize("kind", ["proc", "sysfs"])
def test_the_hosts_views_do_not_let_a_fresh_one_be_mounted(runtime: Runtime, box: Bundle, kind: str) -> None:
    """The kernel allows it to a user namespace that has one in full sight; the container's own is masked in parts."""
    capable(box, "CAP_SETFCAP")
    box.config["linux"]["maskedPaths"].append("/sys/kernel")
    script = f"mount -t {kind} none /tmp && echo mounted"
    unshare = ("/bin/busybox", "unshare", *("-mrpfn" if kind == "sysfs" else "-mrpf",), "sh", "-c", script)
    for words in ((), ("--no-pivot",)):
        answer = runtime.run(box.runs(*unshare).path, *words)
        assert "mounted" not in answer.out
        assert "mount: permission denied" in answer.err, words


def test_the_host_keeps_its_own(runtime: Runtime, box: Bundle) -> None:
    before = oci.mounts()
    assert runtime.run(box.runs("true").path, "--no-pivot").code == 0
    assert {"/proc", "/sys"} <= set(oci.mounts())
    assert [point for point in oci.mounts() if point in ("/proc", "/sys")] == [
        point for point in before if point in ("/proc", "/sys")
    ]
    assert Path("/proc/self/status").exists()


def test_exec_enters_the_same_root(runtime: Runtime, box: Bundle) -> None:
    (box.rootfs / "mark").touch()
    name = runtime.new_id()
    answer = runtime.detached("run", "-d", "--no-pivot", "-b", str(box.runs("sleep", "300").path), name)
    assert answer.code == 0, answer.err
    assert runtime.call("exec", name, "ls", "-d", "/mark", "/bin/busybox").out == "/bin/busybox\n/mark\n"
    assert runtime.call("exec", name, "ls", "/etc/shadow").code == 1
