"""``pyrkt-oci run``: what a process finds itself in, seen from inside and from the host."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import bundle, oci

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    found = oci.ours(tmp_path)
    with oci.nothing_left(tmp_path):
        yield found
        found.clean()
    assert not list(found.root.glob("pyrkt-test*"))


@pytest.fixture
def box(tmp_path: Path) -> Bundle:
    return bundle.make(tmp_path / "bundle")


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -TERM $$; sleep 9", 143), ("kill -9 $$", 137)],
)
def test_the_exit_code_is_the_programs(runtime: Runtime, box: Bundle, script: str, code: int) -> None:
    # a shell of its own, since the first process of a pid namespace ignores its own signals
    box.script(f"sh -c '{script}'; exit $?")
    assert runtime.run(box.path).code == code


@pytest.mark.parametrize(
    ("args", "message"),
    [
        pytest.param(["nonexistent"], 'exec: "nonexistent": executable file not found in $PATH', id="not-in-path"),
        pytest.param(["/nonexistent"], "stat /nonexistent: no such file or directory", id="missing"),
        pytest.param(["/etc/passwd"], 'exec: "/etc/passwd": permission denied', id="not-executable"),
        pytest.param(["/etc"], 'exec: "/etc": permission denied', id="directory"),
    ],
)
def test_a_program_that_cannot_run_is_said_as_engines_expect(
    runtime: Runtime, box: Bundle, args: list[str], message: str
) -> None:
    box.runs(*args)
    answer = runtime.run(box.path)
    assert answer.code == 1
    assert message in answer.err.replace('\\"', '"')
    assert answer.err.count("\n") == 1
    log = box.path / "log.json"
    created = runtime.call("--log", str(log), "--log-format", "json", "create", "-b", str(box.path), runtime.new_id())
    assert created.code == 1
    assert message in log.read_text().replace('\\"', '"')


def test_identity_and_confinement(runtime: Runtime, box: Bundle) -> None:
    box.config["process"]["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 0o027}
    box.script("cat /proc/self/status; umask; id; cat /proc/self/limits; cat /proc/self/oom_score_adj")
    box.config["process"]["oomScoreAdj"] = 321
    box.save()
    answer = runtime.run(box.path)
    assert answer.code == 0, answer.err
    status = oci.status_fields(answer.out)
    assert status["Uid"].split() == ["1000"] * 4
    assert status["Gid"].split() == ["1001"] * 4
    assert status["Groups"].split() == ["5", "6"]
    assert status["CapInh"] == status["CapAmb"] == status["CapEff"] == "0000000000000000"
    assert int(status["CapBnd"], 16) == 1 << 5 | 1 << 10 | 1 << 29
    assert status["NoNewPrivs"] == "1"
    assert "0027" in answer.out
    assert "Max open files            1024                 1024" in answer.out
    assert answer.out.rstrip().endswith("321")


def test_root_has_exactly_the_given_capabilities(runtime: Runtime, box: Bundle) -> None:
    box.runs("cat", "/proc/self/status")
    status = oci.status_fields(runtime.run(box.path).out)
    mask = f"{1 << 5 | 1 << 10 | 1 << 29:016x}"
    assert (status["CapPrm"], status["CapEff"], status["CapBnd"]) == (mask, mask, mask)
    assert status["CapInh"] == status["CapAmb"] == "0" * 16


def test_namespaces_are_its_own(runtime: Runtime, box: Bundle) -> None:
    box.script(
        "for n in pid net ipc uts mnt cgroup; do readlink /proc/self/ns/$n; done; hostname; cat /proc/self/cgroup"
    )
    answer = runtime.run(box.path)
    lines = answer.out.splitlines()
    for name, line in zip(("pid", "net", "ipc", "uts", "mnt", "cgroup"), lines[:6], strict=True):
        assert line != os.readlink(f"/proc/self/ns/{name}")
    assert lines[6] == "box"
    assert all(line.endswith(":/") for line in lines[7:])


def test_mounts_masks_and_read_only_paths(runtime: Runtime, box: Bundle) -> None:
    box.script(
        "cat /proc/self/mountinfo; echo ==; cat /proc/keys /proc/timer_list; ls /sys/firmware; echo ==;"
        "touch /x; echo > /proc/sys/kernel/domainname; mkdir /sys/x; stat -c '%t:%T %a' /dev/null"
    )
    answer = runtime.run(box.path)
    mounts, empty, rest = answer.out.split("==\n")
    options = {line.split()[4]: line.split()[5] for line in mounts.splitlines()}
    assert "ro" in options["/"].split(",")
    assert {"ro", "nosuid", "noexec", "nodev"} <= set(options["/sys"].split(","))
    assert "ro" in options["/proc/sys"].split(",")
    assert empty == ""
    assert answer.err.count("Read-only file system") == 3
    assert rest == "1:3 666\n"


def test_default_devices_work_and_others_do_not(runtime: Runtime, box: Bundle) -> None:
    box.config["process"]["capabilities"]["bounding"].append("CAP_MKNOD")
    box.config["process"]["capabilities"]["effective"].append("CAP_MKNOD")
    box.config["process"]["capabilities"]["permitted"].append("CAP_MKNOD")
    box.script(
        "head -c 3 /dev/zero | wc -c; echo x > /dev/null; head -c 1 /dev/urandom | wc -c; echo x > /dev/full;"
        "mknod /dev/kmsg c 1 11 && cat /dev/kmsg; mknod /dev/sda b 8 0; echo done"
    )
    answer = runtime.run(box.path)
    assert answer.out == "3\n1\ndone\n"
    assert "No space left" in answer.err
    assert answer.err.count("Operation not permitted") == 2


def test_limits_are_those_of_the_cgroup(runtime: Runtime, box: Bundle) -> None:
    box.config["linux"]["resources"] |= {
        "memory": {"limit": 32 << 20},
        "pids": {"limit": 11},
        "cpu": {"quota": 20000, "period": 100000},
    }
    box.config["linux"]["cgroupsPath"] = f"/pyrkt-test-limits-{os.getpid()}/inner"
    box.runs("sleep", "30")
    name = runtime.new_id()
    assert runtime.detached("run", "-d", "-b", str(box.path), name).code == 0
    where = oci.cgroups(f"pyrkt-test-limits-{os.getpid()}/inner")
    values = {
        file: Path(path, file).read_text().strip()
        for path in where
        for file in ("memory.limit_in_bytes", "memory.max", "pids.max", "cpu.cfs_quota_us", "cpu.max")
        if Path(path, file).exists()
    }
    assert {values.get("memory.limit_in_bytes"), values.get("memory.max")} & {str(32 << 20)}
    assert values["pids.max"] == "11"
    assert runtime.call("delete", "--force", name).code == 0
    for path in oci.cgroups(f"pyrkt-test-limits-{os.getpid()}"):
        Path(path).rmdir()  # the parent was asked for by name, and may hold others


@pytest.mark.parametrize("limit", [6 << 20, 4 << 20])
def test_little_memory_is_enough(runtime: Runtime, box: Bundle, limit: int) -> None:
    box.config["linux"]["resources"]["memory"] = {"limit": limit}
    assert runtime.run(box.runs("echo", "alive").path).out == "alive\n"


def test_one_task_is_enough(runtime: Runtime, box: Bundle) -> None:
    box.config["linux"]["resources"]["pids"] = {"limit": 1}
    assert runtime.run(box.runs("echo", "alive").path).out == "alive\n"


def test_too_much_memory_ends_the_program(runtime: Runtime, box: Bundle) -> None:
    box.config["linux"]["resources"]["memory"] = {"limit": 16 << 20, "swap": 16 << 20}
    box.script("dd if=/dev/zero of=/dev/null bs=64M count=1")
    assert runtime.run(box.path).code in (1, 137)


def test_no_descriptor_of_the_caller_reaches_the_container(runtime: Runtime, box: Bundle) -> None:
    box.script("ls /proc/self/fd | wc -l")
    opened = [os.open("/etc", os.O_RDONLY) for _ in range(14)]
    try:
        for descriptor in opened:
            os.set_inheritable(descriptor, True)
        answer = runtime.run(box.path, close_fds=False)
    finally:
        for descriptor in opened:
            os.close(descriptor)
    assert answer.out == "4\n"  # 0, 1, 2 and the one that ls opens


def test_preserved_descriptors_do(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("kept")
    box.script("cat <&3; ls /proc/self/fd | wc -l")
    words = runtime.argv("run", "--preserve-fds", "1", "-b", str(box.path), runtime.new_id())
    done = subprocess.run(
        ["sh", "-c", 'exec 3<"$0"; exec "$@"', str(tmp_path / "note"), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.stdout == "kept5\n"


@pytest.mark.parametrize("number", [3, 7, 8, 9, 10])
def test_a_working_directory_behind_a_descriptor_is_refused(runtime: Runtime, box: Bundle, number: int) -> None:
    box.config["process"]["cwd"] = f"/proc/self/fd/{number}"
    box.runs("ls", "../../../../etc/shadow")
    answer = runtime.run(box.path)
    assert answer.code == 1
    assert answer.out == ""


def test_the_environment_is_the_configurations(runtime: Runtime, box: Bundle) -> None:
    answer = runtime.run(box.runs("env").path, env=os.environ | {"SECRET": "1", "PYTHONPATH": "/trap"})
    assert sorted(answer.out.splitlines()) == ["HOME=/root", "PATH=/bin", "TERM=xterm"]


def test_the_callers_directory_and_variables_are_no_trap(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    (trap / "pyrkt").mkdir(parents=True)
    for name in ("json", "ctypes", "os", "struct", "sitecustomize", "usercustomize", "pyrkt/__init__"):
        (trap / f"{name}.py").write_text(f"open({str(trap / 'sprung')!r}, 'w')\n")
    variables = {
        "PYTHONPATH": str(trap),
        "PYTHONSTARTUP": str(trap / "os.py"),
        "PYTHONHOME": str(trap),
        "PYTHONINSPECT": "1",
    }
    answer = runtime.run(box.runs("true").path, cwd=trap, env=os.environ | variables)
    assert answer.code == 0, answer.err
    assert not (trap / "sprung").exists()


def test_neither_home_nor_a_runtime_directory_is_needed(runtime: Runtime, box: Bundle) -> None:
    answer = runtime.run(box.runs("echo", "alive").path, env={"PATH": "/bin", "XDG_RUNTIME_DIR": ""})
    assert answer.out == "alive\n"


def test_the_bundle_is_the_current_directory(runtime: Runtime, box: Bundle) -> None:
    assert runtime.call("run", runtime.new_id(), cwd=box.runs("echo", "here").path).out == "here\n"


def test_sigpipe_and_sigint_are_as_a_program_expects(runtime: Runtime, box: Bundle) -> None:
    box.runs("cat", "/proc/self/status")
    status = oci.status_fields(runtime.run(box.path).out)
    assert int(status["SigIgn"], 16) == 0
    assert int(status["SigBlk"], 16) == 0


@pytest.mark.parametrize("number", [15, 2, 1, 10])
def test_signals_are_forwarded(runtime: Runtime, box: Bundle, number: int) -> None:
    box.script(f"trap 'echo got; exit 3' {number}; echo ready; while :; do sleep 0.05; done")
    with subprocess.Popen(
        runtime.argv("run", "-b", str(box.path), runtime.new_id()), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == "got\n"
        assert process.wait(10) == 3


def test_an_ignored_sigchld_loses_no_exit_code(runtime: Runtime, box: Bundle) -> None:
    words = runtime.argv("run", "-b", str(box.runs("sh", "-c", "exit 9").path), runtime.new_id())
    done = subprocess.run(
        [
            "python3",
            "-c",
            "import os,signal,sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])",
            *words,
        ],
        check=False,
        timeout=30,
    )
    assert done.returncode == 9


def test_seccomp_is_compiled_once_and_binds(runtime: Runtime, box: Bundle) -> None:
    box.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
    }
    box.script("mkdir /tmp/x; grep Seccomp: /proc/self/status")
    for _ in range(2):
        answer = runtime.run(box.path)
        assert "Function not implemented" in answer.err
        assert answer.out.split() == ["Seccomp:", "2"]
    cached = list((runtime.root / "@seccomp").iterdir())
    assert len(cached) == 1
    assert cached[0].stat().st_mode & 0o777 == 0o600


def test_a_sealed_copy_is_all_the_container_can_see_of_us(runtime: Runtime, box: Bundle) -> None:
    binary = oci.ENTRY.parent.parent / "stage1/stage1"
    before = binary.read_bytes()
    # CVE-2019-5736: a program that is its own runtime; what it finds is a copy, and sealed
    assert runtime.run(box.runs("/proc/self/exe", "true").path).code == 64
    assert binary.read_bytes() == before


def passwd_lines(box: Bundle) -> None:
    (box.rootfs / "etc/passwd").write_text("a:x:1:1::/one:\nb:x:1000:5:x,y:/home/b:/bin/sh\nc:x:1000:5::/later:\n")


def passwd_without_newline(box: Bundle) -> None:
    (box.rootfs / "etc/passwd").write_text("b:x:1000:5::/home/b")


def passwd_missing(box: Bundle) -> None:
    (box.rootfs / "etc/passwd").unlink()


def passwd_fifo(box: Bundle) -> None:
    (box.rootfs / "etc/passwd").unlink()
    os.mkfifo(box.rootfs / "etc/passwd")


def passwd_link_out(box: Bundle) -> None:
    (box.rootfs / "etc/passwd").unlink()
    (box.rootfs / "etc/passwd").symlink_to("../../../../../../../../etc/passwd")


def passwd_huge(box: Bundle) -> None:
    (box.rootfs / "etc/passwd").write_bytes(b"x" * (2 << 20) + b"\nb:x:1000:5::/home/b:\n")


def passwd_odd(box: Bundle) -> None:
    odd = ["b:x:1000", "b:x:-1000:5::/no:", "b:x:18446744073709552616:5::/wraps:", "b:x:1000:5::relative:"]
    (box.rootfs / "etc/passwd").write_text("\n".join(odd) + "\n")


@pytest.mark.parametrize(
    ("prepare", "home"),
    [
        (passwd_lines, "/home/b"),
        (passwd_without_newline, "/home/b"),
        (passwd_missing, "/"),
        (passwd_fifo, "/"),
        (passwd_link_out, "/"),
        (passwd_huge, "/"),
        (passwd_odd, "/"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_home_is_what_the_image_says(
    runtime: Runtime, box: Bundle, prepare: Callable[[Bundle], None], home: str
) -> None:
    prepare(box)
    box.config["process"]["user"] = {"uid": 1000, "gid": 5}
    assert f"HOME={home}" in runtime.run(box.runs("env").path).out.splitlines()
    box.config["process"]["env"].append("HOME=/given")
    assert "HOME=/given" in runtime.run(box.save().path).out.splitlines()
