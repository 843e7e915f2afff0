"""The same bundle under pyrkt-oci, runc and crun: what a program can see of its container is the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import bundle, oci

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = [pytest.mark.root, pytest.mark.peers]
PEERS = ("runc", "crun")


@pytest.fixture
def runtimes(tmp_path: Path) -> Iterator[dict[str, Runtime]]:
    found = {"pyrkt-oci": oci.ours(tmp_path)} | {name: oci.peer(name, tmp_path) for name in PEERS}
    with oci.nothing_left(tmp_path):
        yield found
        for runtime in found.values():
            runtime.clean()


@pytest.fixture
def box(tmp_path: Path) -> Bundle:
    return bundle.make(tmp_path / "bundle")


def answers(runtimes: dict[str, Runtime], box: Bundle) -> dict[str, oci.Answer]:
    """Run the bundle under each; each gets a cgroup of its own."""
    found = {}
    for name, runtime in runtimes.items():
        box.config["linux"]["cgroupsPath"] = f"/pyrkt-test-{name}"
        found[name] = runtime.run(box.save().path)
    return found


def same(found: dict[str, oci.Answer]) -> oci.Answer:
    ours = found["pyrkt-oci"]
    for name in PEERS:
        assert ours.out == found[name].out, name
        assert ours.code == found[name].code, name
    return ours


STATUS = "Uid|Gid|Groups|Umask|NoNewPrivs|CapInh|CapPrm|CapEff|CapBnd|CapAmb|Seccomp|SigBlk|SigIgn"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda _: None, id="default"),
        pytest.param(lambda c: c["process"]["user"].update(uid=1000, gid=7), id="user"),
        pytest.param(lambda c: c["process"]["user"].update(additionalGids=[3, 4]), id="groups"),
        pytest.param(lambda c: c["process"]["user"].update(umask=0o077), id="umask"),
        pytest.param(lambda c: c["process"].update(noNewPrivileges=False), id="new-privileges"),
        pytest.param(lambda c: c["process"].update(capabilities={}), id="no-capabilities"),
        pytest.param(
            lambda c: c["process"].update(
                capabilities={
                    kind: ["CAP_KILL", "CAP_CHOWN"]
                    for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")
                }
            ),
            id="ambient",
        ),
        pytest.param(
            lambda c: c["process"].update(
                rlimits=[
                    {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
                    {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
                ]
            ),
            id="rlimits",
        ),
        pytest.param(lambda c: c.update(hostname="other", domainname="example.com"), id="names"),
    ],
)
def test_what_a_process_is(runtimes: dict[str, Runtime], box: Bundle, change: Callable[[dict[str, Any]], None]) -> None:
    change(box.config)
    peers = dict(runtimes)
    if "domainname" in box.config or box.config["process"]["user"].get("umask"):
        del peers["runc"]  # 1.1 knows no domainname
    box.config["process"]["args"] = [
        "sh",
        "-c",
        f"grep -E '^({STATUS}):' /proc/self/status; cat /proc/self/limits; id; hostname; pwd; env;"
        "cat /proc/sys/kernel/domainname",
    ]
    found = answers(peers, box)
    for name in peers:
        assert found["pyrkt-oci"].out == found[name].out, name
        assert found[name].code == 0, found[name].err


def normal(text: str) -> list[tuple[str, str, frozenset[str]]]:
    """Return (target, type, options) of each mount; sizes and devices differ from host to host."""
    found = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        target, options = left.split()[4], left.split()[5]
        kind, _, extra = right.split()[:3]
        words = {
            word
            for word in (options + "," + extra).split(",")
            if not re.match(r"(size|nr_inodes|inode64|seclabel)", word)
        }
        found.append((target, kind, frozenset(words)))
    return found


def test_mounts(runtimes: dict[str, Runtime], box: Bundle) -> None:
    box.config["process"]["args"] = ["cat", "/proc/self/mountinfo"]
    found = {name: set(normal(answer.out)) for name, answer in answers(runtimes, box).items()}
    for name in ("runc",):  # crun mounts a read-only sysfs by a second mount, which shows
        ours, theirs = found["pyrkt-oci"], found[name]
        assert {target for target, _, _ in ours} >= {
            target for target, _, _ in theirs if not target.startswith("/proc/t")
        }
        for target, kind, options in theirs:
            mine = [entry for entry in ours if entry[0] == target]
            if target in {"/", "/sys", "/dev/pts", "/dev/shm", "/dev/mqueue", "/proc", "/proc/sys"}:
                assert [(kind, options)] == [entry[1:] for entry in mine], (name, target)


def test_devices(runtimes: dict[str, Runtime], box: Bundle) -> None:
    box.config["process"]["args"] = [
        "sh",
        "-c",
        "cd /dev; stat -c '%n %t:%T %a %u %g %F' * | grep -v core; readlink fd; readlink ptmx; readlink stdin",
    ]
    same(answers(runtimes, box))


@pytest.mark.parametrize("script", ["exit 0", "exit 3", "sh -c 'kill -9 $$'; exit $?", "nonexistent; exit $?"])
def test_exit_codes(runtimes: dict[str, Runtime], box: Bundle, script: str) -> None:
    box.config["process"]["args"] = ["sh", "-c", script]
    same(answers(runtimes, box))


def test_limits(runtimes: dict[str, Runtime], box: Bundle) -> None:
    box.config["linux"]["resources"] |= {
        "memory": {"limit": 64 << 20, "reservation": 32 << 20},
        "pids": {"limit": 20},
        "cpu": {"shares": 512, "quota": 30000, "period": 100000},
    }
    box.config["process"]["args"] = ["sleep", "60"]
    files = ("memory.limit_in_bytes", "memory.soft_limit_in_bytes", "pids.max", "cpu.shares", "cpu.cfs_quota_us")
    seen: dict[str, dict[str, str]] = {}
    for name, runtime in runtimes.items():
        path = f"pyrkt-test-limits-{name}"
        box.config["linux"]["cgroupsPath"] = f"/{path}"
        container = runtime.new_id()
        assert runtime.detached("run", "-d", "-b", str(box.save().path), container).code == 0
        seen[name] = {
            file: Path(where, file).read_text()
            for where in oci.cgroups(path)
            for file in files
            if Path(where, file).exists()
        }
        assert runtime.call("delete", "--force", container).code == 0
    assert seen["pyrkt-oci"] == seen["runc"] == seen["crun"]


def test_state_has_what_runcs_has(runtimes: dict[str, Runtime], box: Bundle) -> None:
    box.config["annotations"] = {"a": "b"}
    box.runs("sleep", "60")
    seen = {}
    for name in ("pyrkt-oci", "runc"):
        container = runtimes[name].new_id()
        assert runtimes[name].detached("create", "-b", str(box.path), container).code == 0
        answer = runtimes[name].call("state", container)
        seen[name] = json.loads(answer.out)
        assert answer.out.endswith("}")
        assert not answer.out.endswith("\n")
    assert list(seen["pyrkt-oci"]) == list(seen["runc"])
    for member in ("status", "bundle", "rootfs", "annotations"):
        assert seen["pyrkt-oci"][member] == seen["runc"][member]


@pytest.mark.parametrize(
    "words",
    [
        ["state", "nope"],
        ["start", "nope"],
        ["kill", "nope", "TERM"],
        ["delete", "nope"],
        ["delete", "--force", "nope"],
        ["pause", "nope"],
        ["exec", "nope", "true"],
        ["create", "a/b"],
        ["nope"],
    ],
    ids=" ".join,
)
def test_texts_and_codes_are_runcs(runtimes: dict[str, Runtime], box: Bundle, words: list[str]) -> None:
    found = {}
    for name in ("pyrkt-oci", "runc"):
        answer = runtimes[name].call(*words, cwd=box.path)
        message = re.search(r'msg="((?:[^"\\]|\\.)*)"', answer.err)
        text = message.group(1).replace("\\n", "").replace("pyrkt-oci", "runc") if message else ""
        found[name] = (answer.code, answer.out, text)
    assert found["pyrkt-oci"] == found["runc"]
