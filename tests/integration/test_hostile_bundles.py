"""Bundles that mean harm, given to ``pyrkt-oci``: one line says why, nothing outside is touched, nothing is left.

Roots whose mount points are links, and documents that are no JSON, are in test_oci_hostile.py.
"""

# ruff: noqa: E501 - one case a line: the names and verdicts are to be read down the page

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import bundle, hostile, oci
from tests.support.bundle import NAMESPACES, Bundle

if TYPE_CHECKING:
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root

Change = Callable[[Bundle], object]


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    found = oci.ours(tmp_path_factory.mktemp("oci"))
    with oci.nothing_left(tmp_path_factory.getbasetemp()):
        yield found
        found.clean()


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    with hostile.workshop(tmp_path) as made:
        yield made.canary


@pytest.fixture
def box(tmp_path: Path) -> Bundle:
    made = bundle.make(tmp_path / "bundle")
    made.config["root"]["readonly"] = False
    return made


def bad(name: str, change: Change, *texts: str) -> Any:
    return pytest.param(change, texts, id=name)


def process(**members: Any) -> Change:
    return lambda box: box.config["process"].update(members)


def linux(**members: Any) -> Change:
    return lambda box: box.config["linux"].update(members)


def resources(**members: Any) -> Change:
    return lambda box: box.config["linux"]["resources"].update(members)


def top(**members: Any) -> Change:
    return lambda box: box.config.update(members)


def sysctl(name: str, value: str = "1") -> Change:
    return linux(sysctl={name: value})


def namespace(kind: str, path: str) -> Change:
    """Return a case in which the namespace ``kind`` is that at ``path``."""
    others = [{"type": other} for other in NAMESPACES if other != kind]
    return linux(namespaces=[*others, {"type": kind, "path": path}])


def mapped(*uids: tuple[int, int, int], user: bool = True) -> Change:
    """Return a case with these (inside, outside, size) and a user namespace."""
    rows = [{"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in uids]
    kinds = [{"type": kind} for kind in (*NAMESPACES, *(["user"] if user else []))]
    return linux(namespaces=kinds, uidMappings=rows, gidMappings=[{"containerID": 0, "hostID": 0, "size": 10}])


def mount(**members: Any) -> Change:
    return lambda box: box.config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "x", **members})


def hook(**members: Any) -> Change:
    return top(hooks={"createRuntime": [members]})


def seccomp(*rules: dict[str, Any], **members: Any) -> Change:
    return linux(seccomp={"defaultAction": "SCMP_ACT_ALLOW", **members, "syscalls": list(rules)})


def device(**members: Any) -> Change:
    return linux(devices=[{"path": "/dev/evil", "type": "c", "major": 1, "minor": 3, **members}])


def root(make: Callable[[Path], object]) -> Change:
    """Return a case whose root is what ``make`` makes."""

    def change(box: Bundle) -> None:
        box.config["root"]["path"] = "other"
        make(box.path / "other")

    return change


def fifo_namespace(box: Bundle) -> None:
    """Name a fifo as a namespace: opening it would block."""
    os.mkfifo(box.path / "ns")
    namespace("network", f"{box.path}/ns")(box)


RLIMIT = {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}
CONTROL = "\x1b]0;owned\x07\n\x1b[31m"
SHOWN = r"\x1b]0;owned\x07"
FILTER = {"names": ["mount"], "action": "SCMP_ACT_ERRNO"}

REFUSED = [
    bad("version-missing", lambda box: box.config.pop("ociVersion"), "ociVersion"),
    bad("version-9", top(ociVersion="9.0.0"), "ociVersion"),
    bad("version-control", top(ociVersion=CONTROL), "ociVersion"),
    # root
    bad("root-of-host", top(root={"path": "/"}), "root"),
    bad("root-of-host-by-dots", top(root={"path": "../../../../../../../.."}), "root"),
    bad("root-of-host-by-link", root(lambda path: path.symlink_to("/")), "root"),
    bad("root-missing", top(root={"path": CONTROL}), SHOWN),
    bad("root-file", root(lambda path: path.write_text("x")), "root"),
    bad("root-fifo", root(os.mkfifo), "root"),
    bad("root-loop", root(lambda path: path.symlink_to(path)), "root"),
    # process
    bad("cwd-descriptor", process(cwd="/proc/self/fd/7"), "cwd"),
    bad("cwd-descriptor-8", process(cwd="/proc/self/fd/8"), "cwd"),
    bad("cwd-descriptor-of-thread", process(cwd="/proc/thread-self/fd/7/../../etc"), "cwd"),
    bad("args-too-long", process(args=["true", "x" * 200_000]), "too long"),
    bad("args-control", process(args=["/" + CONTROL]), SHOWN),
    bad("env-without-name", process(env=["=x"]), "process.env[0]"),
    bad("env-nul", process(env=["A=b\0c"]), "NUL"),
    bad("rlimit-twice", process(rlimits=[RLIMIT, RLIMIT]), "rlimits[1]"),
    bad("rlimit-unknown", process(rlimits=[{**RLIMIT, "type": "RLIMIT_" + CONTROL}]), "rlimits[0]"),
    bad("rlimit-soft-above-hard", process(rlimits=[{**RLIMIT, "soft": 2, "hard": 1}]), "rlimits[0]"),
    bad("rlimit-negative", process(rlimits=[{**RLIMIT, "soft": -1}]), "rlimits[0].soft"),
    bad("rlimit-2-64", process(rlimits=[{**RLIMIT, "hard": 1 << 64}]), "rlimits[0].hard"),
    bad("user-gid-negative", process(user={"uid": 0, "gid": -1}), "process.user.gid"),
    bad("user-uid-minus-one", process(user={"uid": (1 << 32) - 1, "gid": 0}), "process.user.uid"),
    bad("user-groups-2-32", process(user={"uid": 0, "gid": 0, "additionalGids": [1 << 32]}), "additionalGids[0]"),
    bad("user-groups-70000", process(user={"uid": 0, "gid": 0, "additionalGids": [1] * 70_000}), "/process/user"),
    bad("user-umask", process(user={"uid": 0, "gid": 0, "umask": 1 << 32}), "umask"),
    bad("user-text", process(user={"uid": "0", "gid": 0}), "process.user.uid"),
    bad("oom-score", process(oomScoreAdj=2000), "oomScoreAdj"),
    bad("selinux-without-selinux", process(selinuxLabel="system_u:system_r:x:s0"), "selinuxLabel"),
    bad("console-size", process(terminal=True, consoleSize={"height": 1 << 40, "width": 1}), "consoleSize"),
    # names
    bad("hostname-long", top(hostname="x" * 65), "hostname"),
    bad("hostname-nul", top(hostname="a\0b"), "hostname"),
    bad("hostname-of-host", lambda box: box.config["linux"].update(namespaces=[{"type": "mount"}]), "hostname"),
    bad("cgroups-path-up", linux(cgroupsPath="/pyrkt-test/../../.."), "cgroupsPath"),
    bad("cgroups-path-nul", linux(cgroupsPath="/a\0b"), "cgroupsPath"),
    bad("cgroups-path-newline", linux(cgroupsPath="/pyrkt-test\nx"), "cgroupsPath"),
    bad("annotation-number", top(annotations={"a": 1}), "annotations"),
    # sysctl
    bad("sysctl-of-host", sysctl("kernel.core_pattern", "|/x"), "core_pattern"),
    bad("sysctl-panic", sysctl("kernel.panic"), "kernel.panic"),
    bad("sysctl-dots", sysctl("net.ipv4/../../kernel/core_pattern"), "sysctl"),
    bad("sysctl-slashes", sysctl("net/../kernel/core_pattern"), "sysctl"),
    bad("sysctl-absolute", sysctl("/proc/sys/kernel/core_pattern"), "sysctl"),
    bad("sysctl-empty-part", sysctl("net..ipv4"), "sysctl"),
    bad("sysctl-plus", sysctl("kernel.shmmax+kernel.core_pattern"), "sysctl"),
    bad("sysctl-newline", sysctl("net.ipv4.ip_forward\nkernel.panic"), "sysctl"),
    bad("sysctl-empty", sysctl(""), "sysctl"),
    bad("sysctl-net-of-host", lambda box: (sysctl("net.ipv4.ip_forward")(box), linux(namespaces=[{"type": k} for k in NAMESPACES if k != "network"])(box)), "ip_forward"),
    bad("sysctl-ipc-of-host", lambda box: (sysctl("kernel.shmmax")(box), linux(namespaces=[{"type": k} for k in NAMESPACES if k != "ipc"])(box)), "shmmax"),
    # namespaces and mappings
    bad("namespace-twice", linux(namespaces=[{"type": "mount"}, {"type": "mount"}]), "namespaces"),
    bad("namespace-unknown", linux(namespaces=[{"type": CONTROL}]), "namespaces[0].type"),
    bad("namespace-long-path", namespace("network", "/" + "x" * 5000), "namespaces"),
    bad("namespace-newline-path", namespace("network", "/proc/1/ns/net\n0 0 1"), "namespaces"),
    bad("namespace-missing", namespace("network", "/run/netns/nothing"), "namespaces"),
    bad("namespace-file", namespace("network", "/etc/hostname"), "namespaces"),
    bad("namespace-directory", namespace("network", "/etc"), "namespaces"),
    bad("namespace-other-kind", namespace("network", "/proc/self/ns/uts"), "namespaces"),
    bad("namespace-fifo", fifo_namespace, "namespaces"),
    bad("maps-without-namespace", mapped((0, 0, 10), user=False), "uidMappings"),
    bad("maps-overlap", mapped((0, 0, 10), (5, 100, 10)), "uidMappings"),
    bad("maps-overlap-outside", mapped((0, 0, 10), (20, 5, 10)), "uidMappings"),
    bad("maps-empty-row", mapped((0, 0, 0)), "uidMappings"),
    bad("maps-2-32", mapped((0, 1 << 32, 10)), "uidMappings"),
    bad("maps-wrap", mapped((0, (1 << 32) - 5, 10)), "uidMappings"),
    bad("maps-many", mapped(*[(n * 2, n * 2, 1) for n in range(400)]), "uidMappings"),
    bad("maps-none", linux(namespaces=[{"type": k} for k in (*NAMESPACES, "user")]), "uidMappings"),
    # mounts
    bad("mount-type-unknown", mount(type="no-such-fs"), "mounts/6"),
    bad("mount-type-path", mount(type="../../tmpfs"), "mounts"),
    bad("mount-source-missing", mount(type="bind", source="/no/such/" + CONTROL, options=["bind"]), SHOWN),
    bad("mount-source-none", mount(type="bind", source="", options=["bind"]), "mounts[6].source"),
    bad("mount-options-long", mount(options=["x" * 5000]), "mounts"),
    bad("mount-option-unknown", mount(options=["evil=" + CONTROL]), "mounts/6"),
    bad("mount-destination-nul", mount(destination="/a\0b"), "mounts[6].destination"),
    bad("mount-destination-long", mount(destination="/" + "x" * 5000), "mounts"),
    bad("mount-destination-name", mount(destination="/" + "x" * 300), "mounts"),
    bad("mount-destination-below-file", mount(destination="/etc/passwd/x"), "mounts"),
    bad("mount-idmap-of-tmpfs", mount(uidMappings=[{"containerID": 0, "hostID": 1, "size": 1}]), "mounts[6].gidMappings"),
    bad("propagation-unknown", linux(rootfsPropagation="evil"), "rootfsPropagation"),
    bad("label-with-quote", linux(mountLabel='a",b'), "mountLabel"),
    # devices and filters
    bad("device-type", device(type="x"), "devices[0].type"),
    bad("device-relative", device(path="dev/evil"), "devices[0].path"),
    bad("device-number", device(major=1 << 33), "devices[0].major"),
    bad("device-below-proc", device(path="/proc/evil"), "devices"),
    bad("seccomp-no-names", seccomp({"names": [], "action": "SCMP_ACT_ERRNO"}), "seccomp.syscalls[0].names"),
    bad("seccomp-action", seccomp({"names": ["mount"], "action": CONTROL}), "seccomp"),
    bad("seccomp-architecture", seccomp(FILTER, architectures=["SCMP_ARCH_EVIL"]), "architectures[0]"),
    bad("seccomp-argument", seccomp({**FILTER, "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}), "args[0].index"),
    bad("seccomp-errno", seccomp({**FILTER, "errnoRet": 1 << 20}), "errnoRet"),
    # limits
    bad("memory-negative", resources(memory={"limit": -2}), "memory.limit"),
    bad("memory-2-63", resources(memory={"limit": 1 << 63}), "memory.limit"),
    bad("pids-2-63", resources(pids={"limit": 1 << 63}), "pids.limit"),
    bad("cpu-shares-negative", resources(cpu={"shares": -1}), "cpu.shares"),
    bad("cpus-text", resources(cpu={"cpus": "0\n1;x"}), "cpu"),
    bad("hugepage-path", resources(hugepageLimits=[{"pageSize": "../2MB", "limit": 1}]), "hugepageLimits"),
    bad("unified-path", resources(unified={"../../cgroup.procs": "1"}), "unified"),
    bad("device-rule", resources(devices=[{"allow": True, "type": "x", "access": "rwm"}]), "devices[0]"),
    # hooks
    bad("hook-relative", hook(path="bin/true"), "hooks.createRuntime[0].path"),
    bad("hook-missing", hook(path="/no/such/" + CONTROL), SHOWN),
    bad("hook-timeout-zero", hook(path="/bin/true", timeout=0), "timeout"),
    bad("hook-fails", hook(path="/bin/false"), "hook"),
    bad("hook-hangs", hook(path="/bin/sleep", args=["sleep", "60"], timeout=1), "hook"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "texts"), REFUSED)
def test_is_refused(runtime: Runtime, box: Bundle, canary: Path, change: Change, texts: tuple[str, ...]) -> None:
    change(box)
    box.save()
    name = runtime.new_id()
    ended = hostile.call(runtime.argv("run", "--bundle", str(box.path), name), leak=range(7, 10))
    text = ended.err.decode()
    assert ended.code == 1, ended
    assert ended.out == b""
    assert text.endswith("\n")
    assert text.removesuffix("\n").isprintable(), text
    assert len(text) < 5000
    assert all(json.dumps(part)[1:-1] in text for part in texts), text
    assert "internal error" not in text
    assert "Traceback" not in text
    assert ended.seconds < 10
    assert not (runtime.root / name).exists()
    assert oci.cgroups(name) == []


def test_leaked_descriptors_do_not_reach_the_container(runtime: Runtime, box: Bundle) -> None:
    box.script("for f in /proc/self/fd/*; do readlink $f; done | grep -v -e ^pipe: -e ^/tmp -e null -e fd$; echo end")
    ended = hostile.call(runtime.argv("run", "--bundle", str(box.path), runtime.new_id()), leak=range(7, 60))
    assert (ended.code, ended.out) == (0, b"end\n"), ended


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "", ".", "..", "-x", "a\n", "a b", "\x1b[31m", "x" * 2000, "a\0b"[:1] + "%00", "é"]
)
def test_an_id_is_a_plain_name(runtime: Runtime, box: Bundle, name: str) -> None:
    for words in (["run", "--bundle", str(box.path)], ["state"], ["delete", "--force"], ["kill"]):
        ended = hostile.call(runtime.argv(*words, name))
        assert ended.code == 1, (words, ended)
        assert ended.err.decode().removesuffix("\n").isprintable()
        assert b"Traceback" not in ended.err


@pytest.mark.parametrize(
    "user", ["0:0:0", " 0", "-1", "4294967295", "4294967296", "0x0", "1_0", "\u0661", "0:", ":0", "\x1b[31m"]
)
def test_exec_takes_plain_ids_only(runtime: Runtime, waiting: str, user: str) -> None:
    ended = hostile.call(runtime.argv("exec", "--user", user, waiting, "/bin/id"))
    assert ended.code in {1, 255}, ended
    assert ended.out == b""
    assert ended.err.decode().removesuffix("\n").isprintable()
    assert ended.err.count(b"\n") == 1


@pytest.mark.parametrize(
    "cwd", ["/proc/self/fd/7", "/proc/self/fd/8/etc", "/proc/thread-self/fd/9", "relative", "/a\n"]
)
def test_exec_starts_nowhere_else(runtime: Runtime, waiting: str, cwd: str) -> None:
    ended = hostile.call(runtime.argv("exec", "--cwd", cwd, waiting, "/bin/id"), leak=range(7, 10))
    assert ended.code in {1, 255}, ended
    assert (ended.out, ended.err.count(b"\n")) == (b"", 1)
    assert ended.err.decode().removesuffix("\n").isprintable()


@pytest.fixture(scope="module")
def waiting(runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A container that sleeps."""
    made = bundle.make(tmp_path_factory.mktemp("waiting") / "bundle", "sleep", "600")
    name = runtime.new_id()
    answer = runtime.detached("run", "-d", "--bundle", str(made.path), name)
    assert answer.code == 0, answer.err
    return name


def test_an_unknown_capability_is_a_warning_that_no_terminal_obeys(runtime: Runtime, box: Bundle) -> None:
    box.config["process"]["capabilities"]["bounding"].append("CAP_" + CONTROL)
    ended = hostile.call(runtime.argv("run", "--bundle", str(box.save().path), runtime.new_id()))
    assert ended.code == 0
    assert b"ignoring unknown or unavailable capabilities" in ended.err
    assert ended.err.decode().removesuffix("\n").isprintable()


def test_a_configuration_that_is_a_link_to_a_secret_is_not_shown(runtime: Runtime, box: Bundle) -> None:
    secret = box.path / "secret"
    secret.write_text("root:$6$abcdef:19000:0:99999:7:::\n")
    (box.path / "config.json").unlink()
    (box.path / "config.json").symlink_to(secret)
    ended = hostile.call(runtime.argv("run", "--bundle", str(box.path), runtime.new_id()))
    assert ended.code == 1
    assert b"abcdef" not in ended.err


def test_there_are_enough_cases() -> None:
    names = [case.id for case in REFUSED]
    assert len(set(names)) == len(names)
    assert len(names) >= 80
