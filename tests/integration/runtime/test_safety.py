"""What a container must never get hold of, and what its maker must not be led to: one test a known way in.

The numbers are those of a list of past incidents; where a known one has a name, it stands beside.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import oci

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root

PACKAGE = oci.ENTRY.parent.parent
NOBODY = 65534


def running(runtime: Runtime, box: Bundle) -> str:
    """Start the bundle in the background; return its id."""
    name = runtime.new_id()
    answer = runtime.detached("run", "-d", "-b", str(box.save().path), name)
    assert answer.code == 0, answer.err
    return name


# R1: the runtime's program


def own_files() -> dict[str, str]:
    """Return what must not change: the launcher, its interpreter and image, stage1, and Python itself."""
    files = [Path(oci.LAUNCHER[0]), Path(os.path.realpath(sys.executable)), PACKAGE / "stage1/stage1"]
    files += [*PACKAGE.glob("runtime/interpreter-*"), *PACKAGE.glob("__pycache__/*"), *PACKAGE.glob("runtime/*.py")]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()}


@pytest.fixture
def untouched() -> Iterator[None]:
    oci.shell([*oci.LAUNCHER, "--version"])
    before = own_files()
    yield
    assert own_files() == before


class Sampler:
    """Looks, all the time, at every process in a pid namespace other than ours: what its program is."""

    def __init__(self, *names: str) -> None:
        self.marks = names
        self.seen: dict[tuple[int, int], str] = {}
        self.pids: set[int] = set()
        self.writable: list[str] = []
        self._stop = threading.Event()
        self._own = os.readlink("/proc/self/ns/pid")
        self._last = threading.Thread(target=self._work)

    def __enter__(self) -> Sampler:
        self._last.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._last.join()

    def _work(self) -> None:
        while not self._stop.is_set():
            for entry in os.listdir("/proc"):
                if entry.isdigit():
                    self._look(entry)

    def _look(self, pid: str) -> None:
        try:
            if os.readlink(f"/proc/{pid}/ns/pid") == self._own:
                return
            groups = Path(f"/proc/{pid}/cgroup").read_text()
            if not any(mark in groups for mark in self.marks):
                return
            found = os.stat(f"/proc/{pid}/exe")
            self.pids.add(int(pid))
            name = os.readlink(f"/proc/{pid}/exe")
            self.seen[found.st_dev, found.st_ino] = name
            descriptor = os.open(f"/proc/{pid}/exe", os.O_WRONLY)
        except OSError:
            return
        os.close(descriptor)
        self.writable.append(name)


@pytest.mark.usefixtures("untouched")
def test_no_process_of_a_container_is_ever_a_program_of_the_host(runtime: Runtime, box: Bundle) -> None:
    """R1, CVE-2019-5736: not while it is made, started, or joined."""
    hosts = {
        (found.st_dev, found.st_ino)
        for found in map(os.stat, [*own_files(), "/usr/bin/python3", "/lib/x86_64-linux-gnu/libc.so.6"])
    }
    names = [runtime.new_id() for _ in range(6)]
    box.runs("/bin/sleep", "300")
    with Sampler(*names) as sampler:
        for name in names:
            assert runtime.detached("create", "-b", str(box.path), name).code == 0
            assert runtime.call("start", name).code == 0
            for _ in range(4):
                assert runtime.call("exec", name, "/bin/true").code == 0
    assert len(sampler.pids) >= len(names)
    assert not hosts & set(sampler.seen), sampler.seen
    assert set(map(os.path.basename, sampler.seen.values())) <= {"busybox", "memfd:pyrkt-stage1 (deleted)"}, (
        sampler.seen
    )
    # the copy is sealed; busybox is the container's own and may be written where nobody runs it
    assert not [name for name in sampler.writable if "stage1" in name]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("first", ["/proc/self/exe", "/proc/1/exe", "/bin/again"])
@pytest.mark.parametrize("verb", ["run", "exec"])
def test_a_program_that_is_its_own_runtime_gets_a_sealed_copy(
    runtime: Runtime, box: Bundle, verb: str, first: str
) -> None:
    """R1: as the first process, as one that is added, and by way of "#!/proc/self/exe"."""
    box.config["root"]["readonly"] = False
    (box.rootfs / "bin/again").write_text("#!/proc/self/exe\n")
    (box.rootfs / "bin/again").chmod(0o755)
    if verb == "run":
        assert runtime.run(box.runs(first, "true").path).code in (1, 64, 126, 127)
        return
    script = "while :; do for p in /proc/[0-9]*; do [ $p = /proc/$$ ] || echo x 2>/dev/null > $p/exe; done; done"
    name = running(runtime, box.script(script))
    for _ in range(8):
        runtime.call("exec", name, first, "true")
    assert runtime.call("exec", name, "/bin/true").code == 0


# R2: descriptors and the working directory


def careless(words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command with descriptors 7 to 20 open on / and /etc."""
    script = 'for n in 7 9 11 13 15 17 19; do eval "exec $n</"; done; for n in 8 10 12 14 16 18 20; do'
    script += ' eval "exec $n</etc"; done; exec "$@"'
    return subprocess.run(
        ["bash", "-c", script, "bash", *words],
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
        timeout=60,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


LOOK = 'for d in /proc/self/fd/*; do [ "${d##*/}" -gt 2 ] && readlink $d; done; pwd; echo end'


def test_nothing_of_the_callers_reaches_any_process(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    """R2, CVE-2024-21626, CVE-2016-9962: run, create, exec; and hooks have no more than their pipe."""
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\n(ls -l /proc/$$/fd; pwd) >{tmp_path}/$1 2>&1\n")
    hook.chmod(0o755)
    kinds = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    box.config["hooks"] = {kind: [{"path": str(hook), "args": ["hook", kind]}] for kind in kinds}
    # in the container's mount namespace the host's files are there until the root is exchanged
    done = careless(runtime.argv("run", "-b", str(box.script(LOOK).path), runtime.new_id()))
    inside = [line for line in done.stdout.splitlines() if not line.startswith("/proc/")]
    assert inside == ["/", "end"], done
    for kind in kinds:
        lines = (tmp_path / kind).read_text().splitlines()
        held = [line for line in lines if "->" in line and int(line.split(" -> ")[0].split()[-1]) > 2]
        assert not [line for line in held if line.endswith((" /", "/etc"))], (kind, lines)
        assert len(held) <= 1, (kind, held)  # the shell's own script
    name = runtime.new_id()
    del box.config["hooks"]
    box.runs("sleep", "300")
    done = careless([*runtime.argv("create", "-b", str(box.path), name)], stdout=subprocess.DEVNULL, stderr=None)
    assert done.returncode == 0
    first = runtime.state(name)["pid"]
    assert not {"/", "/etc"} & {os.readlink(f"/proc/{first}/fd/{fd}") for fd in os.listdir(f"/proc/{first}/fd")}
    assert careless(runtime.argv("start", name)).returncode == 0
    assert oci.eventually(lambda: b"sleep" in Path(f"/proc/{first}/cmdline").read_bytes())
    assert sorted(os.listdir(f"/proc/{first}/fd")) == ["0", "1", "2"]
    done = careless(runtime.argv("exec", name, "/bin/sh", "-c", LOOK))
    assert [line for line in done.stdout.splitlines() if not line.startswith("/proc/")] == ["/", "end"], done


@pytest.mark.parametrize("number", range(3, 21))
def test_no_number_leads_out(runtime: Runtime, box: Bundle, number: int) -> None:
    """R2: whatever descriptor of ours or of the caller's has that number."""
    box.config["process"]["cwd"] = f"/proc/self/fd/{number}"
    done = careless(runtime.argv("run", "-b", str(box.runs("ls", "..").path), runtime.new_id()))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done


def test_the_working_directory_may_be_no_link_out(runtime: Runtime, box: Bundle) -> None:
    """R2: by a link of the image, and with a host's directory bound into the container."""
    (box.rootfs / "out").symlink_to("/proc/self/fd/7")
    box.config["process"]["cwd"] = "/out"
    done = careless(runtime.argv("run", "-b", str(box.runs("ls", "..").path), runtime.new_id()))
    assert (done.returncode, done.stdout) == (1, ""), done


# procfs is procfs: row 4


@pytest.mark.parametrize("name", ["proc", "sys"])
@pytest.mark.parametrize("target", ["/tmp", "tmp", "/proc/1/root", "/../../proc"])
def test_a_link_is_no_place_for_procfs(runtime: Runtime, box: Bundle, name: str, target: str) -> None:
    """R4, CVE-2019-19921."""
    (box.rootfs / name).rmdir()
    (box.rootfs / name).symlink_to(target)
    answer = runtime.run(box.runs("true").path)
    assert (answer.code, answer.out, answer.err.count("\n")) == (1, "", 1), answer


def test_what_is_written_to_procfs_goes_to_procfs(runtime: Runtime, box: Bundle) -> None:
    """R4, CVE-2019-16884: a tmpfs on /proc, with files of those names in it, takes no label, limit or sysctl."""
    fake = box.path / "fake"
    for name in ("self/attr/exec", "self/oom_score_adj", "sys/kernel/domainname", "self/setgroups", "self/uid_map"):
        (fake / name).parent.mkdir(parents=True, exist_ok=True)
        (fake / name).write_text("fake")
    box.config["mounts"] = [one for one in box.config["mounts"] if one["destination"] != "/proc"]
    box.config["mounts"].insert(0, {"destination": "/proc", "type": "bind", "source": str(fake), "options": ["rbind"]})
    box.config["process"]["oomScoreAdj"] = 123
    box.config["linux"]["sysctl"] = {"kernel.domainname": "written"}
    answer = runtime.run(box.runs("true").path)
    assert answer.code == 1
    assert answer.err.count("\n") == 1
    assert {path.read_text() for path in fake.rglob("*") if path.is_file()} == {"fake"}


@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
@pytest.mark.parametrize("place", ["self/attr", "sys/kernel", "1/root", "sysrq-trigger", "self/fd", "irq/../sys"])
def test_nothing_is_put_over_parts_of_procfs(runtime: Runtime, box: Bundle, kind: str, place: str) -> None:
    """R4, CVE-2023-27561: only what every engine puts there (loadavg, meminfo and the like)."""
    mount = {"destination": f"/proc/{place}", "type": kind, "source": "/etc", "options": ["rbind"] * (kind == "bind")}
    box.config["mounts"].append(mount)
    answer = runtime.run(box.runs("true").path)
    assert (answer.code, answer.err.count("\n")) == (1, 1), answer
    assert "/proc" in answer.err


# What is opened between the first namespace and the program: rows 7 and 17


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_inside_nothing_is_read_that_could_be_the_containers(
    runtime: Runtime, box: Bundle, tmp_path: Path, verb: str
) -> None:
    """R17, R7: no module, library, locale or name service after the first namespace; no writing to /proc by name."""
    trap = box.rootfs / "usr/lib/python3.11"
    trap.mkdir(parents=True)
    (trap / "os.py").write_text("raise SystemExit('sprung')\n")
    (box.rootfs / "etc/ld.so.preload").write_text("/lib/trap.so\n")
    name = running(runtime, box) if verb == "exec" else runtime.new_id()
    words = ["exec", name, "/bin/true"] if verb == "exec" else ["run", "-b", str(box.runs("/bin/true").path), name]
    log = tmp_path / "trace"
    traced = ["strace", "-f", "-qq", "-e", "trace=open,openat,openat2,setns,unshare,clone,clone3,execve,pivot_root"]
    done = subprocess.run(
        [*traced, "-o", str(log), *runtime.argv(*words)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    lines = log.read_text().splitlines()
    entered = [at for at, line in enumerate(lines) if "CLONE_NEW" in line or "setns(" in line]
    assert entered, "no namespace was entered"
    inside = lines[entered[0] :]
    told = ("/usr/lib/python", '.py"', '.pyc"', '.so"', ".so.", "nsswitch", "locale", "gconv", "ld.so")
    assert not [line for line in inside if " ENOENT" not in line and any(word in line for word in told)]
    writing = [line for line in inside if ("O_WRONLY" in line or "O_RDWR" in line) and 'AT_FDCWD, "/proc' in line]
    assert not writing
    assert "sprung" not in done.stdout + done.stderr


# R11 groups, R12 cgroups, R14 keys, R16 terminals


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_a_group_that_is_shut_out_stays_out(runtime: Runtime, box: Bundle, verb: str) -> None:
    """R11, CVE-2022-36109: the caller's groups are not the container's, and the primary one counts against it."""
    (box.rootfs / "secret").write_text("negative\n")
    os.chown(box.rootfs / "secret", 0, 27)
    (box.rootfs / "secret").chmod(0o604)
    (box.rootfs / "granted").write_text("granted\n")
    os.chown(box.rootfs / "granted", 0, 4)
    (box.rootfs / "granted").chmod(0o640)
    box.config["process"]["user"] = {"uid": 1000, "gid": 27, "additionalGids": []}
    box.config["process"]["capabilities"] = {}
    program = ["sh", "-c", "id -G; cat /secret /granted"]
    if verb == "exec":
        words = runtime.argv("exec", running(runtime, box), *program)
    else:
        words = runtime.argv("run", "-b", str(box.runs(*program).path), runtime.new_id())
    done = subprocess.run(words, capture_output=True, text=True, check=False, extra_groups=[4, 27], timeout=30)
    assert done.stdout == "27\n"
    assert done.stderr.count("Permission denied") == 2


@pytest.mark.parametrize("user", [False, True], ids=["root", "user-namespace"])
def test_no_release_agent(runtime: Runtime, box: Bundle, user: bool) -> None:
    """R12, CVE-2022-0492: no hierarchy can be mounted anew, and none is writable, with every capability there is."""
    sets = ("bounding", "effective", "permitted")
    box.config["process"]["capabilities"] = {kind: ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"] for kind in sets}
    box.config["mounts"].append(
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid"]}
    )
    if user:
        box.config["linux"]["namespaces"].append({"type": "user"})
        rows = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        box.config["linux"] |= {"uidMappings": rows, "gidMappings": rows}
        for path in (box.path, box.path.parent):
            path.chmod(0o755)
        os.chown(box.rootfs, 100000, 100000)
    box.script(
        "cd /sys/fs/cgroup; for f in */release_agent */notify_on_release */cgroup.procs */memory.limit_in_bytes"
        " cgroup.procs memory.max notify_on_release release_agent; do [ -e $f ] && echo 1 2>/dev/null > $f"
        " && echo wrote $f; done; cat /proc/self/cgroup; echo end"
    )
    answer = runtime.run(box.path)
    assert answer.out.endswith("end\n"), answer
    assert "wrote" not in answer.out
    assert {line.split(":", 2)[2] for line in answer.out.splitlines()[:-1]} == {"/"}


def test_the_session_keyring_is_its_own(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    """R14: a key of the caller's session is found neither in the container nor by who is added to it."""
    source = tmp_path / "search.c"
    source.write_text(
        "#include <stdio.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n"
        "int main(void) { /* KEYCTL_SEARCH in the session's keyring */"
        ' puts(syscall(SYS_keyctl, 10, -3, "user", "pyrkt-canary", 0) > 0 ? "found" : "none"); return 0; }'
    )
    program = box.rootfs / "bin/search"
    oci.shell(["gcc", "-static", "-o", str(program), str(source)])
    # keyctl(JOIN_SESSION_KEYRING), then add_key(2) to it
    code = (
        "import ctypes, os, sys; c = ctypes.CDLL(None, use_errno=True).syscall; c(250, 1, None);"
        "assert c(248, b'user', b'pyrkt-canary', b'x', 1, ctypes.c_int(-3)) > 0; os.execv(sys.argv[1], sys.argv[1:])"
    )

    def with_key(*words: str) -> str:
        return oci.shell([sys.executable, "-c", code, *words])

    assert with_key(str(program)) == "found\n"
    assert with_key(*runtime.argv("run", "-b", str(box.runs("search").path), runtime.new_id())) == "none\n"
    name = running(runtime, box.runs("sleep", "300"))
    assert with_key(*runtime.argv("exec", name, "search")) == "none\n"


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_nothing_is_typed_into_the_callers_terminal(runtime: Runtime, box: Bundle, tmp_path: Path, verb: str) -> None:
    """R16, CVE-2017-5226: with the caller's terminal as its input, TIOCSTI and TIOCLINUX put nothing there.

    The program has a session of its own, so the terminal is not its controlling one; and no CAP_SYS_ADMIN.
    """
    source = tmp_path / "push.c"
    source.write_text(
        "#include <stdio.h>\n#include <sys/ioctl.h>\n"
        "int main(void) { char c = 'x', l[2] = {3, 0};"
        ' printf("%d %d\\n", ioctl(0, TIOCSTI, &c), ioctl(0, 0x541c, l)); return 0; }'
    )
    oci.shell(["gcc", "-static", "-o", str(box.rootfs / "bin/push"), str(source)])
    if verb == "exec":
        words = runtime.argv("exec", running(runtime, box), "/bin/push")
    else:
        words = runtime.argv("run", "-b", str(box.runs("/bin/push").path), runtime.new_id())
    master, slave = pty.openpty()
    try:
        done = subprocess.run(
            ["setsid", "-c", "-w", *words], stdin=slave, capture_output=True, text=True, check=False, timeout=30
        )
        assert done.stdout == "-1 -1\n", done
        os.set_blocking(slave, False)
        with pytest.raises(BlockingIOError):
            os.read(slave, 1)
        assert not select.select([master], [], [], 0)[0]  # nor was it echoed
    finally:
        os.close(master)
        os.close(slave)


# R9: who is added is confined as who was first

FIELDS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters", "Groups", "Uid")
MORE_FIELDS = (
    "Gid",
    "Umask",
    "SigIgn",
    "SigBlk",
    "TracerPid",
    "Cpus_allowed",
    "Mems_allowed",
    "Speculation_Store_Bypass",
)
SPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")


def confinement(pid: int) -> dict[str, str]:
    """Return all that confines a process, as the kernel tells it."""
    status = oci.status_fields(Path(f"/proc/{pid}/status").read_text())
    found = {name: status.get(name, "") for name in (*FIELDS, *MORE_FIELDS)}
    found |= {f"ns:{name}": os.readlink(f"/proc/{pid}/ns/{name}") for name in SPACES}
    for name in ("cgroup", "limits", "oom_score_adj", "uid_map", "gid_map", "setgroups", "personality", "loginuid"):
        found[name] = Path(f"/proc/{pid}/{name}").read_text()
    for name in ("root", "cwd"):
        found[name] = os.readlink(f"/proc/{pid}/{name}")
    found["attr"] = read_or_errno(Path(f"/proc/{pid}/attr/current"))
    found["fds"] = " ".join(sorted(os.listdir(f"/proc/{pid}/fd")))
    return found


def read_or_errno(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


WAYS = {
    "words": ["exec", "NAME", "sleep", "302"],
    "detached": ["exec", "-d", "NAME", "sleep", "302"],
    "process": ["exec", "--process", "FILE", "NAME"],
    "process-detached": ["exec", "-d", "-p", "FILE", "NAME"],
    "environment": ["exec", "-e", "A=b", "NAME", "sleep", "302"],
    "directory": ["exec", "--cwd", "/", "NAME", "sleep", "302"],
    "same-user": ["exec", "-u", "1000:1001", "NAME", "sleep", "302"],
    "no-new-privileges": ["exec", "--no-new-privs", "NAME", "sleep", "302"],
    "cgroup": ["exec", "--cgroup", "/", "NAME", "sleep", "302"],
    "preserved": ["exec", "--preserve-fds", "0", "NAME", "sleep", "302"],
}


@pytest.mark.parametrize("user", [False, True], ids=["plain", "user-namespace"])
def test_who_is_added_is_as_confined_as_who_was_first(
    runtime: Runtime, box: Bundle, tmp_path: Path, user: bool
) -> None:
    """R9, CVE-2019-10144, 10145, 10147: every form of exec against the first process, member by member."""
    box.config["process"] |= {
        "user": {"uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 0o027},
        "oomScoreAdj": 77,
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        ],
        "args": ["sleep", "301"],
    }
    box.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdirat", "mkdir"], "action": "SCMP_ACT_ERRNO"}],
    }
    box.config["linux"]["personality"] = {"domain": "LINUX32"}
    if user:
        box.config["linux"]["namespaces"].append({"type": "user"})
        rows = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        box.config["linux"] |= {"uidMappings": rows, "gidMappings": rows}
        for path in (box.path, box.path.parent):
            path.chmod(0o755)
    name = running(runtime, box)
    first = runtime.state(name)["pid"]
    assert oci.eventually(lambda: b"sleep" in Path(f"/proc/{first}/cmdline").read_bytes())
    wanted = confinement(first)
    process = box.config["process"] | {"args": ["sleep", "302"]}
    (tmp_path / "process.json").write_text(json.dumps(process))
    for way, form in WAYS.items():
        said = {"NAME": name, "FILE": f"{tmp_path}/process.json"}
        found = confinement_of_added(runtime, [said.get(word, word) for word in form[1:]], tmp_path / way)
        assert {key: found[key] for key in wanted if found[key] != wanted[key]} == {}, way


def confinement_of_added(runtime: Runtime, words: list[str], directory: Path) -> dict[str, str]:
    """Return what confines the process of an exec with these words; it is ended."""
    directory.mkdir()
    file = directory / "pid"
    words = runtime.argv("exec", "--pid-file", str(file), *words)
    with (directory / "log").open("w") as log:
        caller = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, extra_groups=[4, 27], umask=0
        )
    assert oci.eventually(lambda: file.exists() and file.read_text()), (directory / "log").read_text()
    pid = int(file.read_text())
    assert oci.eventually(lambda: b"302" in Path(f"/proc/{pid}/cmdline").read_bytes())
    found = confinement(pid)
    os.kill(pid, signal.SIGKILL)
    caller.wait(10)
    return found
