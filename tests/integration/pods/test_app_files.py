"""What an app finds below /dev, /proc, /sys and /etc."""

from __future__ import annotations

import os
import pty
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pods import Pyrkt, end, make_aci

pytestmark = [pytest.mark.root, pytest.mark.peers]

NODES = {"null": "1:3", "zero": "1:5", "full": "1:7", "random": "1:8", "urandom": "1:9", "tty": "5:0"}


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pyrkt]:
    """A store with one ACI; checks at the end that nothing stayed."""
    made = Pyrkt(tmp_path_factory.mktemp("files"))
    made.ok("fetch", str(make_aci(made.base / "box.aci")))
    yield made
    assert made.clean() == []


def sh(tool: Pyrkt, script: str, *flags: str, before: tuple[str, ...] = ()) -> str:
    """Return what a shell in an app prints."""
    return tool.ok("run", *before, str(tool.base / "box.aci"), *flags, "--", "-c", script)


def test_device_nodes_have_their_modes_and_owners(tool: Pyrkt) -> None:
    names = " ".join(f"/dev/{name}" for name in NODES)
    lines = sh(tool, f"stat -c '%n %F %a %u %g %t:%T' {names}").splitlines()
    assert lines == [f"/dev/{name} character special file 666 0 0 {number}" for name, number in NODES.items()]
    assert sh(tool, "readlink /dev/ptmx; stat -c '%a %F' /dev/shm /dev/pts/ptmx").splitlines() == [
        "pts/ptmx",
        "1777 directory",
        "666 character special file",
    ]


def test_there_is_a_console_with_and_without_a_terminal(tool: Pyrkt) -> None:
    # without one it is not the host's: what is written there goes nowhere
    assert sh(tool, "stat -c '%F %t:%T' /dev/console; echo gone >/dev/console").split("\n")[0] == (
        "character special file 1:3"
    )
    master, slave = pty.openpty()
    try:
        words = ("run", "--interactive", str(tool.base / "box.aci"), "--", "-c", "stat -c %t:%T /dev/console; tty")
        process = tool.popen(*words, stdin=slave, stdout=slave, stderr=slave)
        said = b""
        while b"/dev/" not in said and select.select([master], [], [], 20)[0]:
            said += os.read(master, 4096)
        assert end(process) == 0
    finally:
        os.close(slave)
        os.close(master)
    # a terminal of the pod's own: 136 is the major number of those
    assert said.startswith(b"88:")


def test_nodes_that_may_be_made_may_not_all_be_used(tool: Pyrkt) -> None:
    script = """
    mknod /tmp/null c 1 3 && echo made && echo x >/tmp/null && echo used
    for n in 'c 10 237' 'b 8 0' 'c 1 1'; do mknod /tmp/n $n 2>/dev/null && echo made $n; done; true
    """
    assert sh(tool, script).split() == ["made", "used"]


def test_insecure_paths_open_the_devices(tool: Pyrkt) -> None:
    loose = Pyrkt(tool.base, insecure="image,paths")
    out = loose.ok("run", str(tool.base / "box.aci"), "--", "-c", "mknod /tmp/n c 10 237 && stat -c %t:%T /tmp/n")
    assert out == "a:ed\n"


def test_a_device_of_the_host_can_be_a_volume(tool: Pyrkt) -> None:
    flags = ("--volume=zero,kind=host,source=/dev/zero", "--mount=volume=zero,target=/zero")
    answer = tool.call("run", *flags, str(tool.base / "box.aci"), "--", "-c", "head -c 4 /zero | wc -c")
    assert (answer.code, answer.out.strip()) == (0, "4"), answer.err


def test_paths_of_the_kernels_are_masked_or_read_only(tool: Pyrkt) -> None:
    script = """
    head -c 1 /proc/kcore 2>/dev/null | wc -c
    ls /sys/firmware | wc -l
    echo 0 2>/dev/null >/proc/sys/vm/panic_on_oom || echo read-only
    """
    for name in ("kcore", "sysrq-trigger"):
        if not Path(f"/proc/{name}").exists():  # a kernel without it
            script = script if name != "kcore" else script.replace("head -c 1 /proc/kcore 2>/dev/null", "printf ''")
    assert sh(tool, script).split() == ["0", "0", "read-only"]


def test_the_host_name_is_the_pods(tool: Pyrkt) -> None:
    names = sh(tool, "hostname; cat /etc/hostname; cat /proc/sys/kernel/hostname").split()
    assert len(set(names)) == 1
    assert names[0].startswith("pyrkt-")
    assert len(names[0]) == len("pyrkt-") + 36
    assert sh(tool, "hostname; cat /etc/hostname", before=("--hostname=box",)).split() == ["box", "box"]
