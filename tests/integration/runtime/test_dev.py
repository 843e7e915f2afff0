"""Device nodes: the default ones and those of linux.devices, wherever they are and whoever is root."""

from __future__ import annotations

import os
import stat
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import mounts, oci

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root
DEFAULT = {"null": "1:3", "zero": "1:5", "full": "1:7", "random": "1:8", "urandom": "1:9", "tty": "5:0"}
LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}


@pytest.fixture
def box() -> Iterator[Bundle]:
    with mounts.open_bundle() as made:
        made.config["root"]["readonly"] = False
        yield made


def devices(box: Bundle, *rows: dict[str, Any]) -> None:
    box.config["linux"]["devices"] = list(rows)


def char(path: str, major: int, minor: int, **more: Any) -> dict[str, Any]:
    return {"path": path, "type": "c", "major": major, "minor": minor} | more


@pytest.mark.parametrize("users", [False, True], ids=["root", "userns"])
def test_the_default_devices_and_links_are_there(runtime: Runtime, box: Bundle, users: bool) -> None:
    if users:
        mounts.map_users(box)
    names, links = " ".join(f"/dev/{name}" for name in DEFAULT), " ".join(f"/dev/{name}" for name in LINKS)
    script = (
        f"stat -c '%F %t:%T' {names}; for l in {links} /dev/ptmx; do readlink $l; done;"
        "echo x > /dev/null; head -c 2 /dev/zero | wc -c; head -c 2 /dev/urandom | wc -c; stat -Lc %t:%T /dev/ptmx;"
        "test -e /dev/console && echo console; ls /dev/fd/ > /dev/null && echo fd"
    )
    answer = runtime.run(box.script(script).path)
    kind = "character special file"
    lines = [f"{kind} {number}" for number in DEFAULT.values()]
    assert answer.out.splitlines() == [*lines, *LINKS.values(), "pts/ptmx", "2", "2", "5:2", "fd"], answer.err


def test_devices_are_made_as_listed_and_where_listed(runtime: Runtime, box: Bundle) -> None:
    (box.rootfs / "real").mkdir()
    (box.rootfs / "by-link").symlink_to("/real")
    (box.rootfs / "dangling").symlink_to("/to/be/made")
    devices(
        box,
        char("/dev/kmsg", 1, 11, fileMode=0o640, uid=7, gid=8),
        {"path": "/dev/blocks/one", "type": "b", "major": 259, "minor": 70_000, "fileMode": 0o100600},
        {"path": "/srv/fifo", "type": "p", "fileMode": 0o622, "uid": 5},
        {"path": "/by-link/u", "type": "u", "major": 1, "minor": 5},
        char("/dangling/n", 1, 3),
        char("/dev/null", 1, 3, fileMode=0o600),
        char("/dev/tty", 5, 0),
        char("/dev/ptmx", 5, 2),
        char("/dev/kmsg", 1, 11),
    )
    script = (
        "stat -c '%n %F %t:%T %a %u:%g' /dev/kmsg /dev/blocks/one /srv/fifo /real/u /to/be/made/n /dev/null /dev/tty;"
        "readlink /dev/ptmx"
    )
    answer = runtime.run(box.script(script).path)
    block = f"{259:x}:{70_000:x}"
    assert answer.out.splitlines() == [
        "/dev/kmsg character special file 1:b 640 7:8",
        f"/dev/blocks/one block special file {block} 600 0:0",
        "/srv/fifo fifo 0:0 622 5:0",
        "/real/u character special file 1:5 666 0:0",
        "/to/be/made/n character special file 1:3 666 0:0",
        "/dev/null character special file 1:3 600 0:0",
        "/dev/tty character special file 5:0 666 0:0",
        "pts/ptmx",
    ], answer.err


def test_a_user_namespace_gets_the_hosts_nodes(runtime: Runtime, box: Bundle) -> None:
    mounts.map_users(box)
    devices(box, char("/dev/fuse", 10, 229), {"path": "/tmp/fifo", "type": "p", "uid": 3})
    if not os.path.exists("/dev/fuse"):
        devices(box, char("/dev/kmsg", 1, 11), {"path": "/tmp/fifo", "type": "p", "uid": 3})
    path = box.config["linux"]["devices"][0]["path"]
    answer = runtime.run(box.script(f"stat -c '%F %t:%T %u' {path}; stat -c '%F %u' /tmp/fifo").path)
    wanted = os.stat(path)
    number = f"{os.major(wanted.st_rdev):x}:{os.minor(wanted.st_rdev):x}"
    assert answer.out == f"character special file {number} 65534\nfifo 3\n", answer.err


@pytest.mark.parametrize("what", ["file", "other-device", "link", "directory"])
def test_another_file_in_the_place_of_a_device_is_an_error(runtime: Runtime, box: Bundle, what: str) -> None:
    place, outside = box.rootfs / "node", box.path / "outside"
    if what == "file":
        place.touch()
    elif what == "link":
        place.symlink_to(outside)
    elif what == "directory":
        place.mkdir()
    else:
        os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    devices(box, char("/node", 1, 3))
    answer = runtime.run(box.runs("true").path)
    assert answer.code == 1
    assert "making the device /node (config.json: /linux/devices/0): it is not what it should be" in answer.err
    assert not outside.exists()
    if what != "other-device":
        return
    place.unlink()
    os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    assert runtime.run(box.runs("true").path).code == 0


def test_a_node_of_the_image_does_not_stand_for_ptmx(runtime: Runtime, box: Bundle) -> None:
    box.config["mounts"] = [m for m in box.config["mounts"] if m["destination"] not in ("/dev", "/dev/mqueue")]
    (box.rootfs / "dev/ptmx").touch()
    assert runtime.run(box.script("readlink /dev/ptmx; stat -Lc %t:%T /dev/ptmx").path).out == "pts/ptmx\n5:2\n"


def test_a_bound_dev_is_left_as_it_is(runtime: Runtime, box: Bundle) -> None:
    own = box.path / "own-dev"
    own.mkdir()
    (own / "mark").touch()
    dev = next(mount for mount in box.config["mounts"] if mount["destination"] == "/dev")
    dev.update(type="bind", source=str(own), options=["rbind"])
    keep = ("/proc", "/dev", "/sys")
    box.config["mounts"] = [mount for mount in box.config["mounts"] if mount["destination"] in keep]
    assert runtime.run(box.runs("ls", "/dev").path).out == "mark\n"
    assert [entry.name for entry in own.iterdir()] == ["mark"]


def test_device_rules_hold_for_listed_devices(runtime: Runtime, box: Bundle) -> None:
    for kind in ("bounding", "effective", "permitted"):
        box.config["process"]["capabilities"][kind] += ["CAP_SYSLOG", "CAP_MKNOD"]
    devices(box, char("/dev/kmsg", 1, 11))
    box.config["linux"]["resources"]["devices"] = [{"allow": False, "access": "rwm"}]
    denied = runtime.run(box.script("head -c 1 /dev/kmsg; echo x > /dev/kmsg; ls /dev/kmsg").path)
    assert denied.err.count("Operation not permitted") == 2
    assert denied.out == "/dev/kmsg\n"
    rule = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rwm"}
    box.config["linux"]["resources"]["devices"].append(rule)
    allowed = runtime.run(box.script("echo pyrkt-test > /dev/kmsg && mknod /dev/other c 1 11 && echo ok").path)
    assert allowed.out == "ok\n", allowed.err


@pytest.mark.peers
def test_dev_looks_as_with_runc(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    devices(box, char("/dev/fuse", 10, 229, fileMode=0o660, gid=3), {"path": "/dev/p/q", "type": "p"})
    box.script("stat -c '%n %F %t:%T %a %u:%g' /dev/* /dev/p/q | grep -v /dev/core")
    peer = oci.peer("runc", tmp_path)
    answers = [one.run(box.path) for one in (runtime, peer)]
    peer.clean()
    assert answers[0].out == answers[1].out


def test_sticky_bits_of_the_hosts_umask_do_not_show(runtime: Runtime, box: Bundle) -> None:
    devices(box, char("/deep/er/node", 1, 3, fileMode=0o666))
    words = runtime.argv("run", "-b", str(box.script("stat -c %a /deep /deep/er /deep/er/node").path), runtime.new_id())
    done = subprocess.run(
        ["sh", "-c", 'umask 077; exec "$@"', "sh", *words], capture_output=True, text=True, check=True
    )
    assert done.stdout == "755\n755\n666\n"
