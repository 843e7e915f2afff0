"""A container without a mount namespace: a root of its own among the host's mounts, which are as before afterwards."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

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
        linux = made.config["linux"]
        linux["namespaces"].remove({"type": "mount"})
        linux["maskedPaths"] = linux["readonlyPaths"] = []
        yield made
        assert below(made) == []


def below(box: Bundle) -> list[str]:
    return [point for point in oci.mounts() if point.startswith(str(box.path))]


def test_it_runs_in_its_root_and_leaves_no_mount(runtime: Runtime, box: Bundle) -> None:
    (box.rootfs / "mark").touch()
    script = (
        "readlink /proc/self/ns/mnt; ls -d /mark; touch /x 2>&1; ls /etc/shadow 2>&1; echo x > /dev/null && echo dev"
    )
    answer = runtime.run(box.script(script).path)
    assert answer.code == 0, answer.err
    assert answer.out.splitlines() == [
        os.readlink("/proc/self/ns/mnt"),
        "/mark",
        "touch: /x: Read-only file system",
        "ls: /etc/shadow: No such file or directory",
        "dev",
    ]
    assert below(box) == []


def test_hooks_see_its_mounts(runtime: Runtime, box: Bundle) -> None:
    seen = box.path / "seen"
    box.config["hooks"] = {
        "createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", f"cat /proc/self/mountinfo > {seen}"]}]
    }
    assert runtime.run(box.runs("echo", "Hello").path).out == "Hello\n"
    assert f"{box.rootfs}/proc" in mounts.seen(seen.read_text())


@pytest.mark.parametrize("verb", ["run", "create"])
def test_exec_and_delete(runtime: Runtime, box: Bundle, verb: str) -> None:
    (box.rootfs / "mark").touch()
    name = runtime.new_id()
    words = ("run", "-d") if verb == "run" else ("create",)
    answer = runtime.detached(*words, "-b", str(box.runs("sleep", "300").path), name)
    assert answer.code == 0, answer.err
    assert f"{box.rootfs}/proc" in below(box)
    answer = runtime.call("exec", name, "sh", "-c", "ls -d /mark; ls /etc/shadow")
    assert answer.out == "/mark\n"
    assert "No such file" in answer.err
    assert runtime.call("delete", "--force", name).code == 0
    assert below(box) == []


def test_a_mount_that_was_there_before_stays(runtime: Runtime, box: Bundle) -> None:
    with mounts.mounted(box.rootfs, "--bind", str(box.rootfs)):
        assert runtime.run(box.runs("true").path).code == 0
        assert below(box) == [str(box.rootfs)]
        name = runtime.new_id()
        assert runtime.detached("run", "-d", "-b", str(box.runs("sleep", "300").path), name).code == 0
        assert below(box).count(str(box.rootfs)) == 2
        assert runtime.call("delete", "--force", name).code == 0
        assert below(box) == [str(box.rootfs)]
        box.config["mounts"].append({"destination": "/tmp", "type": "nosuchfs"})
        assert runtime.run(box.runs("true").path).code == 1
        assert below(box) == [str(box.rootfs)]


def test_nothing_of_it_reaches_peers_of_the_hosts_mounts(runtime: Runtime, box: Bundle) -> None:
    """Where the root lies on a shared mount, as everything does under systemd."""
    with mounts.mounted(box.path / "shared") as top:
        subprocess.run(["mount", "--make-shared", top], check=True)
        subprocess.run(["cp", "-a", box.rootfs, top / "rootfs"], check=True)
        box.config["root"]["path"] = str(top / "rootfs")
        with mounts.mounted(box.path / "peer", "--bind", str(top)):
            name = runtime.new_id()
            assert runtime.detached("run", "-d", "-b", str(box.runs("sleep", "300").path), name).code == 0
            points = below(box)
            assert points.count(f"{top}/rootfs/proc") == 1
            assert f"{box.path}/peer/rootfs/proc" not in points
            assert runtime.call("delete", "--force", name).code == 0
            assert below(box) == [str(top), f"{box.path}/peer"]


def masked(config: dict[str, Any]) -> None:
    config["linux"]["maskedPaths"] = ["/proc/keys"]


def in_users(config: dict[str, Any]) -> None:
    ids = [{"containerID": 0, "hostID": mounts.SHIFT, "size": 65536}]
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"] |= {"uidMappings": ids, "gidMappings": ids}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (masked, "unable to restrict sys entries without a private MNT namespace"),
        (in_users, "a mount namespace is required"),
    ],
)
def test_what_needs_a_mount_namespace_says_so(runtime: Runtime, box: Bundle, change: Any, text: str) -> None:
    change(box.config)
    answer = runtime.run(box.runs("true").path)
    assert answer.code == 1
    assert text in answer.err
