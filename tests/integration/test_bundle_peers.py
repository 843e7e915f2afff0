"""Bundles that pyrkt writes are run by pyrkt-oci, runc and crun, unchanged, and mean the same to all."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from pyrkt.bundle import from_appc, from_oci, write
from pyrkt.bundle.options import RunOptions, SeccompChoice, VolumeMount
from pyrkt.spec.appc import App, EventHandler, ImageManifest, Isolator, MountPoint
from pyrkt.spec.image import ImageConfig, host_platform
from pyrkt.store.rootfs import Rootfs
from tests.support.bundle import make_root
from tests.support.oci import ours, peer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyrkt.bundle.assemble import Bundle
    from tests.support.oci import Runtime

pytestmark = [pytest.mark.root, pytest.mark.peers]

PROBE = """
id -u; id -g; id -G
env | grep -v -e ^SHLVL= -e ^PWD= -e ^OLDPWD= -e ^_= | sort
readlink /proc/self/cwd; hostname; cat /etc/hosts
grep -e ^Cap -e ^NoNewPrivs -e ^Seccomp: /proc/1/status
head -c 1 /proc/kcore | wc -c; ls /sys/firmware | wc -c
echo 1 > /proc/sys/vm/panic_on_oom || echo no sysctl
mknod /dev/kmsg2 c 1 11 2>/dev/null && head -c 1 /dev/kmsg2 2>/dev/null || echo no kmsg
mknod /dev/null2 c 1 3 && echo x > /dev/null2 && echo null
mount -t tmpfs tmpfs /tmp 2>/dev/null || echo no mount
cat /proc/self/mounts | while read a b c; do echo "$b"; done | sort -u
"""

# Calls that a shell cannot make. One line each: what was tried, and the errno.
CALLS = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void tell(const char *what, long result) {
    printf("%s %s\n", what, result >= 0 ? "done" : strerrorname_np(errno));
    fflush(stdout);
}

int main(void) {
    tell("tcp", socket(AF_INET, SOCK_STREAM, 0));
    tell("netlink", socket(AF_NETLINK, SOCK_RAW, 0));
    tell("alg", socket(AF_ALG, SOCK_SEQPACKET, 0));
    tell("alg-high-bits", syscall(SYS_socket, 0x100000000L | AF_ALG, SOCK_SEQPACKET, 0));
    tell("vsock", socket(AF_VSOCK, SOCK_STREAM, 0));
    tell("unshare-user", unshare(CLONE_NEWUSER));
    tell("clone-user", syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
    tell("clone3", syscall(SYS_clone3, 0, 0));
    tell("keyctl", syscall(SYS_keyctl, 0, 0, 0, 0, 0));
    tell("io_uring", syscall(425, 1, 0));
    tell("bpf", syscall(SYS_bpf, 0, 0, 0));
    tell("unknown", syscall(2040));
    tell("personality", syscall(SYS_personality, 0xffffffffUL));
#ifdef __x86_64__
    /* 32-bit x86 has one call for all of networking, with its arguments in memory */
    int *arguments = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    arguments[0] = AF_ALG;
    arguments[1] = SOCK_SEQPACKET;
    arguments[2] = 0;
    pid_t child = fork();
    if (child == 0) {
        long result;
        __asm__ volatile("int $0x80"
                         : "=a"(result)
                         : "a"(102L), "b"(1L), "c"((long)arguments)
                         : "memory", "r8", "r9", "r10", "r11");
        errno = (int)-(int)result;
        tell("socketcall-alg", (int)result);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    if (!WIFEXITED(status))
        printf("socketcall-alg EPERM\n"); /* a kernel without 32-bit programs */
#endif
    return 0;
}
"""


@pytest.fixture(name="runtimes")
def _runtimes(tmp_path: Path) -> Iterator[list[Runtime]]:
    found = [ours(tmp_path), peer("runc", tmp_path), peer("crun", tmp_path)]
    yield found
    for runtime in found:
        runtime.clean()


def image(tmp_path: Path) -> Path:
    root = make_root(tmp_path / "image")
    (root / "tmp").chmod(0o1777)
    (root / "data").mkdir()
    (root / "data/seed").write_text("seed\n")
    (root / "etc/group").write_text("root:x:0:\nuser:x:1000:\nextra:x:44:user\n")
    return root


def run_everywhere(runtimes: list[Runtime], bundle: Bundle, tmp_path: Path, rootfs: Path) -> str:
    """Return what all runtimes print for a bundle of its own each; they must agree."""
    outputs: dict[str, str] = {}
    for runtime in runtimes:
        directory = tmp_path / f"bundle-{runtime.name}"
        directory.mkdir()
        shutil.copytree(rootfs, directory / "rootfs", symlinks=True)
        write.write(directory, bundle, Rootfs((str(rootfs),)))
        before = (directory / "config.json").read_bytes()
        # Standard input is a pipe: crun 1.8 gives the host's /dev/null away if it is that.
        answer = runtime.run(directory, stdin=subprocess.PIPE)
        assert answer.code == 0, f"{runtime.name}: {answer.err}{answer.out}"
        assert (directory / "config.json").read_bytes() == before
        outputs[runtime.name] = answer.out
    first = outputs[runtimes[0].name]
    for name, output in outputs.items():
        assert comparable(output) == comparable(first), name
    return first


def comparable(output: str) -> list[str]:
    """Leave out where runtimes differ by design: which controllers' directories they mount one by one."""
    return [line for line in output.splitlines() if not line.startswith("/sys/fs/cgroup/")]


def oci(rootfs: Path, script: str, options: RunOptions, **members: Any) -> Bundle:
    config = ImageConfig(platform=host_platform(), diff_ids=(), entrypoint=("/bin/sh", "-c", script), **members)
    return from_oci.compose(config, Rootfs((str(rootfs),)), options)


def test_an_oci_image_as_root(runtimes: list[Runtime], tmp_path: Path) -> None:
    rootfs = image(tmp_path)
    bundle = oci(rootfs, PROBE, RunOptions(name="box", pids=50, memory=64 << 20), env=("A=b c", "PATH=/bin"))
    lines = run_everywhere(runtimes, bundle, tmp_path, rootfs).splitlines()
    assert lines[:6] == ["0", "0", "0", "A=b c", "HOME=/root", "PATH=/bin"]
    assert lines[6:8] == ["/", "box"]
    assert "127.0.0.1\tlocalhost box" in lines
    # The kernel of the test may lack capabilities above our fourteen, never one of them.
    assert [line for line in lines if line.startswith(("Cap", "NoNew", "Secc"))] == [
        "CapInh:\t0000000000000000",
        "CapPrm:\t00000000a80425fb",
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ]
    for said in ("no sysctl", "no kmsg", "null", "no mount"):
        assert said in lines
    assert {"/", "/proc", "/dev/shm", "/sys", "/etc/hosts", "/proc/sys"} <= set(lines)


def test_an_oci_image_as_a_user_with_volumes(runtimes: list[Runtime], tmp_path: Path) -> None:
    rootfs = image(tmp_path)
    os.chown(rootfs / "data", 1000, 1000)
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "file").write_text("host\n")
    script = (
        "id -u; id -g; id -G; cat /data/seed /ro/file; touch /data/new && echo written; touch /ro/x || echo read-only;"
        "touch /x || echo root read-only; ls /data; stat -c '%u %a' /empty"
    )
    options = RunOptions(
        readonly_rootfs=True,
        net="host",
        mounts=(
            VolumeMount(target="/ro", source=str(shared), readonly=True),
            VolumeMount(target="/empty", kind="empty", mode=0o700, uid=1000),
        ),
    )
    # The mount points: a read-only root has no room for new ones.
    for name in ("ro", "empty"):
        (rootfs / name).mkdir()
    for name in ("hosts", "resolv.conf"):
        (rootfs / "etc" / name).touch()
    bundle = oci(rootfs, script, options, user="user", volumes=("/data",))
    assert run_everywhere(runtimes, bundle, tmp_path, rootfs).splitlines() == [
        "1000",
        "1000",
        "1000 44",
        "seed",
        "host",
        "written",
        "read-only",
        "root read-only",
        "new",
        "seed",
        "1000 700",
    ]


def test_an_appc_image(runtimes: list[Runtime], tmp_path: Path) -> None:
    rootfs = image(tmp_path)
    app = App(
        exec=("/bin/sh", "-c", PROBE + "cat /tmp/before; ls /data"),
        user="user",
        group="extra",
        supplementary_gids=(7,),
        working_directory="/data",
        environment={"A": "b"},
        isolators=(
            Isolator(name="resource/memory", value={"limit": "64M"}),
            Isolator(name="resource/cpu", value={"limit": "500m"}),
            Isolator(name="os/linux/capabilities-retain-set", value={"set": ["CAP_KILL", "CAP_CHOWN"]}),
        ),
        mount_points=(MountPoint(name="data", path="/data", read_only=True),),
        event_handlers=(EventHandler(name="pre-start", exec=("sh", "-c", "cat >&2; echo $AC_APP_NAME > /tmp/before")),),
    )
    manifest = ImageManifest(name="example.com/box", app=app)
    bundle = from_appc.compose(manifest, Rootfs((str(rootfs),)), RunOptions(hostname="box"))
    lines = run_everywhere(runtimes, bundle, tmp_path, rootfs).splitlines()
    assert lines[:3] == ["1000", "44", "44 7"]
    assert {"A=b", "AC_APP_NAME=box", "container=pyrkt", "HOME=/", "USER=user", "/data"} <= set(lines)
    assert {"CapBnd:\t0000000000000021", "CapEff:\t0000000000000000"} <= set(lines)
    assert lines[-2:] == ["box", "seed"]


def test_the_default_filter_for_real(runtimes: list[Runtime], tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("clang")
    if not compiler:
        pytest.skip("needs a C compiler")
    rootfs = image(tmp_path)
    (tmp_path / "calls.c").write_text(CALLS)
    subprocess.run(
        [compiler, "-static", "-o", str(rootfs / "bin/calls"), str(tmp_path / "calls.c")], check=True, timeout=60
    )
    output = run_everywhere(runtimes, oci(rootfs, "exec calls", RunOptions(), env=("PATH=/bin",)), tmp_path, rootfs)
    said = dict(line.split() for line in output.splitlines())
    assert said.pop("socketcall-alg", "EPERM") == "EPERM"
    assert said == {
        "tcp": "done",
        "netlink": "done",
        "alg": "EAFNOSUPPORT",
        "alg-high-bits": "EAFNOSUPPORT",
        "vsock": "EAFNOSUPPORT",
        "unshare-user": "EPERM",
        "clone-user": "EPERM",
        "clone3": "ENOSYS",
        "keyctl": "EPERM",
        "io_uring": "EPERM",
        "bpf": "EPERM",
        "unknown": "ENOSYS",
        "personality": "done",
    }


def test_chosen_filters_for_real(runtimes: list[Runtime], tmp_path: Path) -> None:
    rootfs = image(tmp_path)
    script = "mkdir /made 2>/dev/null && echo made || echo refused"
    removed = SeccompChoice(mode="remove", syscalls=("mkdir", "mkdirat"), errno="EXFULL")
    assert run_everywhere(runtimes, oci(rootfs, script, RunOptions(seccomp=removed)), tmp_path, rootfs) == "refused\n"
    for runtime in runtimes:
        shutil.rmtree(tmp_path / f"bundle-{runtime.name}")
    kept = SeccompChoice(mode="retain", syscalls=("@rkt/default-whitelist",), errno="EPERM")
    assert run_everywhere(runtimes, oci(rootfs, script, RunOptions(seccomp=kept)), tmp_path, rootfs) == "made\n"
