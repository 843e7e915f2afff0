"""What the other tests leave: each step does what the table says of it."""

from __future__ import annotations

import array
import os
import socket
import struct
from pathlib import Path

import pytest

from pyrkt.spec import steps as s
from tests.support import handmade as hand
from tests.support.handmade import B, C, E, P, Step
from tests.support.stage1 import SECONDS, cgroup2, run, shell, started

pytestmark = pytest.mark.root

ALLOW, ERRNO, NOTIFY = 0x7FFF0000, 0x00050000, 0x7FC00000
# linux/bpf_common.h: load a word of seccomp_data, compare, return
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
MKDIRS = (83, 258) if os.uname().machine == "x86_64" else (34, 34)  # mkdir, mkdirat


def seccomp(action: int) -> bytes:
    """Return a filter that takes ``action`` on mkdir and allows the rest."""
    code = [(LOAD, 0, 0, 0), *((EQUAL, 2 - i, 0, number) for i, number in enumerate(MKDIRS))]
    code += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, action)]
    code[1], code[2] = (EQUAL, 2, 0, MKDIRS[0]), (EQUAL, 1, 0, MKDIRS[1])
    return b"".join(struct.pack("<HBBI", *words) for words in code)


def test_seccomp_filter_holds(rootfs: Path) -> None:
    last = ((s.SECCOMP, C, 0, seccomp(ERRNO | 13)),)
    assert (
        shell(rootfs, "mkdir /tmp/x 2>/dev/null || echo refused; [ -d /tmp/x ] || echo none", last=last)
        == "refused\nnone\n"
    )


def test_seccomp_agent_gets_listener_and_state(rootfs: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "agent"))
        listener.listen()
        listener.settimeout(SECONDS)
        agent = (s.SECCOMP_AGENT, C, 0, seccomp(NOTIFY), 0, '{"pid":', b',"x":{"pid":', b',"y":1}}')
        plan = hand.container(
            rootfs, "/bin/sleep", "0.2", before=((s.CONNECT, B, 0, tmp_path / "agent"),), last=(agent,)
        )
        with started(plan) as child:
            connection, _ = listener.accept()
            with connection:
                words, control, *_ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
                fds = array.array("i", control[0][2][:4])
                assert os.readlink(f"/proc/self/fd/{fds[0]}") == "anon_inode:seccomp notify"
                (inner,) = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
                assert words == f'{{"pid":{inner},"x":{{"pid":{inner},"y":1}}}}'.encode()
                assert child.wait(SECONDS) == 0
                os.close(fds[0])


def test_device_program_of_cgroup_v2(rootfs: Path) -> None:
    path = cgroup2() / f"pyrkt-test-{os.getpid()}"
    deny = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)  # r0 = 0; exit
    before = (
        (s.MKDIR, B, path, 0o755),
        (s.CGROUP_DEVICES, B, path, deny),
        (s.OPEN, B, 0, path, os.O_RDONLY),
    )
    script = "echo x > /dev/zero; echo y > /dev/null; exit 0"
    plan = hand.container(rootfs, "/bin/sh", "-c", script, before=before, after=((s.RMDIR, E, path),))
    # the nodes are made by who may, before: making one asks the program too
    nodes = [step for step in plan if step[0] == s.MKNOD]
    plan = [(s.CLONE, B, step[2], 0) if step[0] == s.CLONE else step for step in plan if step not in nodes]
    binds = [(s.BIND, C, step[2], step[2], 0, 0, 0, 1) for step in nodes]
    at = plan.index((s.PIVOT, C))
    done = run(plan[:at] + binds + plan[at:])
    assert done.returncode == 0
    assert done.stderr.count("Operation not permitted") == 2
    assert not path.exists()


def test_v1_cgroup_is_entered_by_an_open_file(rootfs: Path) -> None:
    parent = Path("/sys/fs/cgroup/pids")
    if not (parent / "tasks").exists():
        pytest.skip("no cgroup v1 is mounted here")
    path = parent / f"pyrkt-test-{os.getpid()}"
    before = ((s.MKDIR, B, path, 0o755), (s.OPEN, B, 3, path / "tasks", os.O_WRONLY))
    plan = hand.container(
        rootfs,
        "/bin/cat",
        "/proc/self/cgroup",
        before=before,
        inside=((s.ENTER_CGROUP_SLOT, C, 3),),
        after=((s.RMDIR, E, path),),
        flags=hand.SIX & ~hand.NEWCGROUP,
    )
    assert f"/{path.name}\n" in run(plan).stdout
    assert not path.exists()


def test_id_mapped_tree(rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("x")
    os.chown(tmp_path / "data" / "file", 1000, 1000)
    shift = b"1000 7000 1\n"
    before = ((s.ID_MAPS, B, 4, shift, shift), (s.OPEN_TREE, B, 5, tmp_path / "data", 0))
    plan = hand.container(
        rootfs,
        "/bin/sh",
        "-c",
        "ls -ln /data/file; touch /data/x",
        before=before,
        inside=((s.VOLUME, C, tmp_path / "data", "/data", 4, 1, 0, 0, 5, 4),),
    )
    done = run(plan)
    assert done.stdout.split()[2:4] == ["7000", "7000"]
    assert "Read-only file system" in done.stderr


def test_root_from_an_open_tree(rootfs: Path) -> None:
    plan = hand.container(rootfs, "/bin/ls", "/bin/busybox", before=((s.OPEN_TREE, B, 1, rootfs, 1),))
    plan = [(s.ROOT_TREE, C, 1, rootfs) if step[0] == s.ROOT_BIND else step for step in plan]
    assert run(plan).stdout == "/bin/busybox\n"


def test_time_namespace(rootfs: Path) -> None:
    inside = ((s.TIME, C, b"boottime 1000000 0\n"),)
    plan = hand.container(rootfs, "/bin/cat", "/proc/uptime")
    plan[1:1] = inside
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    assert 1_000_000 <= float(run(plan).stdout.split()[0]) - uptime < 1_000_100


def test_session_keyring(rootfs: Path) -> None:
    plan = hand.container(rootfs, "/bin/cat", "/proc/keys", inside=((s.KEYRING, C, "_ses.test"),))
    plan = [step for step in plan if step != (s.MASK, C, "/proc/keys")]
    assert "_ses.test" in run(plan).stdout


def test_chroot_where_pivot_root_cannot_be(rootfs: Path) -> None:
    plan = hand.container(rootfs, "/bin/sh", "-c", "ls /; ls /../../..; cat /proc/self/mountinfo")
    plan = [(s.CHROOT, C) if step == (s.PIVOT, C) else step for step in plan]
    listing, _, mounts = run(plan).stdout.partition("tmp\n")
    assert listing.split() == ["bin", "dev", "etc", "proc", "sys"]
    assert mounts.splitlines()[-1].split()[4].startswith("/proc")


@pytest.mark.parametrize("shell", ["/bin/sh", "sh"], ids=["by its path", "by its name"])
def test_map_helper(rootfs: Path, shell: str) -> None:
    words = (shell, "-c", 'echo "0 0 1000" > /proc/$0/uid_map; echo "0 0 1000" > /proc/$0/gid_map', "{pid}")
    plan = hand.container(rootfs, "/bin/cat", "/proc/self/uid_map", flags=hand.SIX | hand.NEWUSER)
    plan = [step for step in plan if step[0] != s.MKNOD]
    plan[1:1] = [(s.MAP_HELPER, P, words), (s.ROOT_IDS, C)]
    assert run(plan).stdout.split() == ["0", "0", "1000"]


def test_without_privilege_in_a_user_namespace(rootfs: Path) -> None:
    nobody = 65534
    # below pytest's own directory, which is closed to others
    parents = [parent for parent in rootfs.parents if not parent.stat().st_mode & 0o001]
    modes = {parent: parent.stat().st_mode & 0o7777 for parent in parents}
    plan = hand.container(
        rootfs, "/bin/sh", "-c", "id -u; id -g; cat /proc/self/setgroups", flags=hand.SIX | hand.NEWUSER
    )
    plan = [step for step in plan if step[0] != s.MKNOD]
    # group 5 has no number in there
    own = (s.MOUNT, C, "devpts", "devpts", "/dev/pts", hand.MS_NOSUID, "newinstance,ptmxmode=0666,mode=0620", 1)
    plan = [own if step[:3] == own[:3] else step for step in plan]
    ids = f"0 {nobody} 1\n".encode()
    plan[1:1] = [(s.MAP_IDS, P, ids, ids, 1), (s.ROOT_IDS, C)]
    for parent in parents:
        parent.chmod(modes[parent] | 0o011)
    try:
        # gid_map counts as ours only while we have no capability; exec(2) makes the process dumpable again
        done = run(plan, before=f"os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})")
    finally:
        for parent, mode in modes.items():
            parent.chmod(mode)
    assert (done.stdout, done.stderr) == ("0\n0\ndeny\n", "")


def test_output_goes_where_a_slot_says(rootfs: Path, tmp_path: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    opened = ((s.OPEN, C, 0, tmp_path / "log", flags), (s.STDIO, C, 0, 1), (s.CLOSE, C, 0))
    plan = hand.pod(hand.app("a", rootfs, "/bin/sh", "-c", "echo logged; ls /proc/self/fd", inside=opened))
    assert run(plan).stdout == ""
    assert (tmp_path / "log").read_text().split() == ["logged", "0", "1", "2", "3"]


def test_files_of_the_host(rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("x")
    (tmp_path / "value").write_text("")
    before = (
        (s.MKDIR, B, tmp_path / "dir", 0o700),
        (s.MKDIR, B, tmp_path / "dir", 0o700),
        (s.CREATE, B, tmp_path / "dir" / "file", b"whole", 0o640),
        (s.WRITE, B, tmp_path / "value", b"42"),
        (s.CHOWN, B, tmp_path / "value", 1234, 56),
        (s.CHOWN, B, tmp_path / "none", 1234, 56),
        (s.UNLINK, B, tmp_path / "old"),
        (s.RENAME, P, tmp_path / "dir", tmp_path / "moved"),
        (s.PID_FILE, P, tmp_path / "pid"),
    )
    assert run(hand.container(rootfs, "/bin/true", before=before)).returncode == 0
    assert (tmp_path / "moved" / "file").read_text() == "whole"
    assert (tmp_path / "moved" / "file").stat().st_mode & 0o7777 == 0o640
    assert (tmp_path / "value").read_text() == "42"
    assert (tmp_path / "value").stat().st_uid == 1234
    assert (tmp_path / "value").stat().st_gid == 56
    assert int((tmp_path / "pid").read_text()) > 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moved", "pid", "rootfs", "value"]


def test_scheduling(rootfs: Path) -> None:
    level = max(5, os.nice(0))  # without CAP_SYS_NICE nobody becomes less nice
    batch = struct.pack("<IIQiIQQQII", 56, 3, 0, level, 0, 0, 0, 0, 0, 1024)
    last = ((s.SCHEDULER, C, batch), (s.IO_PRIORITY, C, 2 << 13 | 7), (s.PERSONALITY, C, 0x0040000))
    plan = hand.container(
        rootfs, "/bin/sh", "-c", "cat /proc/self/stat /proc/self/personality; ionice -p $$", last=last
    )
    (rootfs / "bin" / "ionice").symlink_to("busybox")
    stat, personality, ionice = run(plan).stdout.splitlines()
    fields = stat.rpartition(")")[2].split()
    assert fields[16] == str(level)  # nice
    assert fields[38] == "3"  # SCHED_BATCH
    assert personality == "00040000"
    assert ionice == "best-effort: prio 7"


def test_attributes_and_propagation_of_mounts(rootfs: Path, tmp_path: Path) -> None:
    inside: tuple[Step, ...] = (
        (s.BIND, C, "/dev/shm", "/shm", 1, 0, 0, 1),
        (s.SET_ATTR, C, "/shm", 1, 9, 0),
        (s.SET_PROPAGATION, C, "/shm", hand.MS_PRIVATE | hand.MS_REC),
        (s.SET_PROPAGATION, C, "/tmp-shared", 1 << 20),
    )
    make = (s.MOUNT, C, "tmpfs", "t", "/tmp-shared", 0, "", 1)
    out = shell(rootfs, "cat /proc/self/mountinfo", inside=(*inside[:3], make, inside[3]))
    lines = {line.split()[4]: line for line in out.splitlines()}
    assert " ro,noexec" in lines["/shm"]
    assert "master:" not in lines["/shm"]
    assert "shared:" in lines["/tmp-shared"]


def test_memory_policy_reaches_the_kernel(rootfs: Path) -> None:
    bind = (s.MEMORY_POLICY, C, 2, 64, (1).to_bytes(8, "little"))
    done = run(hand.container(rootfs, "/bin/cat", "/proc/self/numa_maps", last=(bind,)))
    if not Path("/proc/self/numa_maps").exists():
        assert done.returncode in (1, 125)  # a kernel without NUMA says so
    else:
        assert "bind:0" in done.stdout
