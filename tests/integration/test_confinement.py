"""What a program is given up to, whatever way it was started: its configuration, member by member, and nothing else.

Every way in is held against config.json itself, not against another way: rkt's ``enter`` once gave all capabilities,
no filter and no cgroup (CVE-2019-10144, 10145, 10147).
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyrkt.spec.capabilities import mask
from tests.support import bundle, oci
from tests.support.oci import Runtime, eventually
from tests.support.pods import Pyrkt, make_layout

if TYPE_CHECKING:
    from tests.support.bundle import Bundle

pytestmark = [pytest.mark.root, pytest.mark.peers]

SPACES = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "mount": "mnt", "cgroup": "cgroup"}
CANARY = "PYRKT_CANARY"
# The last line is for who waits for the whole of it.
REPORT = f"""
cat /proc/self/status
echo "umask: $(umask)"
echo "oom: $(cat /proc/self/oom_score_adj)"
ls /proc/$$/fd
echo "files: $(grep 'open files' /proc/self/limits)"
echo "cgroups:" $(while IFS=: read -r n c p; do echo "$p"; done < /proc/self/cgroup)
for n in {" ".join(SPACES.values())}; do echo "ns-$n: $(readlink /proc/self/ns/$n)"; done
echo "directory: $(pwd)"
env | grep {CANARY}
echo "end: yes"
"""


def seen(text: str) -> dict[str, str]:
    """Return what REPORT printed, the values with single blanks."""
    lines = (line.partition(":") for line in text.splitlines() if ":" in line)
    found = {name: " ".join(value.split()) for name, _, value in lines}
    found["descriptors"] = " ".join(line for line in text.splitlines() if line.isdigit())
    assert found.get("end") == "yes", text
    return found


def expected(config: dict[str, Any]) -> dict[str, str]:
    """Return what REPORT must print in a container of ``config``."""
    process = config["process"]
    user, sets = {"uid": 0, "gid": 0} | process.get("user", {}), process.get("capabilities", {})
    short = {"bounding": "Bnd", "effective": "Eff", "permitted": "Prm", "inheritable": "Inh", "ambient": "Amb"}
    found = {f"Cap{name}": f"{mask(tuple(sets.get(kind, ()))):016x}" for kind, name in short.items()}
    if user["uid"]:  # execve(2) leaves anybody but root what is ambient
        found |= {"CapEff": found["CapAmb"], "CapPrm": found["CapAmb"]}
    files = next(limit for limit in process["rlimits"] if limit["type"] == "RLIMIT_NOFILE")
    return found | {
        "Uid": " ".join([str(user["uid"])] * 4),
        "Gid": " ".join([str(user["gid"])] * 4),
        "Groups": " ".join(map(str, sorted(user.get("additionalGids", ())))),
        "NoNewPrivs": str(int(process.get("noNewPrivileges", False))),
        "Seccomp": "2" if "seccomp" in config["linux"] else "0",
        "SigBlk": "0" * 16,
        "SigIgn": "0" * 16,
        "TracerPid": "0",
        "umask": f"{user.get('umask', 0o022):04o}",
        "oom": str(process.get("oomScoreAdj", Path("/proc/self/oom_score_adj").read_text().strip())),
        "descriptors": "0 1 2",
        "files": f"Max open files {files['soft']} {files['hard']} files",
        "directory": process["cwd"],
    }


def check(text: str, config: dict[str, Any], first: int = 0) -> None:
    """Hold a report against ``config``; ``first`` is the process whose namespaces it must have been in, if any."""
    found, wanted = seen(text), expected(config)
    assert {name: found.get(name, "") for name in wanted} == wanted
    assert set(found["cgroups"].split()) == {"/"}
    assert CANARY not in found
    for space in config["linux"]["namespaces"]:
        name = SPACES[space["type"]]
        assert found[f"ns-{name}"] != os.readlink(f"/proc/self/ns/{name}")
        if first:
            assert found[f"ns-{name}"] == os.readlink(f"/proc/{first}/ns/{name}")


def careless(argv: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command as a careless caller does: descriptors, groups and a secret in its environment, a mask of 0."""
    opened = [os.open(name, os.O_RDONLY) for name in ("/", "/etc", "/proc", "/root")]
    for descriptor in opened:
        os.set_inheritable(descriptor, True)
    code = (
        "import os, signal, sys; os.setgroups([4, 27]); os.umask(0); signal.signal(signal.SIGHUP, signal.SIG_IGN);"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]); os.execv(sys.argv[1], sys.argv[1:])"
    )
    try:
        return subprocess.run(
            [sys.executable, "-c", code, *argv],
            stdin=subprocess.DEVNULL,
            env={**os.environ, CANARY: "secret"},
            close_fds=False,
            text=True,
            timeout=60,
            check=False,
            **options,
        )
    finally:
        for descriptor in opened:
            os.close(descriptor)


def to_files(argv: list[str], directory: Path) -> tuple[str, str]:
    """Run a command that leaves something running behind; return what it printed, which must have gone well."""
    out, err = directory / "out", directory / "err"
    with out.open("w") as stdout, err.open("w") as stderr:
        done = careless(argv, stdout=stdout, stderr=stderr)
    assert done.returncode == 0, err.read_text()
    return out.read_text(), err.read_text()


# pyrkt-oci

FILTER = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdirat", "mkdir"], "action": "SCMP_ACT_ERRNO"}],
}
USER: dict[str, Any] = {
    "user": {"uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 0o027},
    "oomScoreAdj": 55,
    "cwd": "/tmp",
    "capabilities": {
        kind: ["CAP_NET_BIND_SERVICE"] for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")
    },
}


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    found = oci.ours(tmp_path)
    with oci.nothing_left(tmp_path):
        yield found
        found.clean()


@pytest.fixture(params=["root", "root-with-filter", "user", "user-with-filter", "no-capability"])
def box(tmp_path: Path, request: pytest.FixtureRequest) -> Bundle:
    found = bundle.make(tmp_path / "bundle").script(REPORT)
    if "user" in request.param:
        found.config["process"] |= USER
    if request.param == "no-capability":
        found.config["process"] |= {"noNewPrivileges": False, "capabilities": {}}
    if "filter" in request.param:
        found.config["linux"]["seccomp"] = FILTER
    if request.param == "user-with-filter":
        found.config["process"]["noNewPrivileges"] = False
    return found.save()


def test_run(runtime: Runtime, box: Bundle) -> None:
    done = careless(runtime.argv("run", "-b", str(box.path), runtime.new_id()), capture_output=True)
    check(done.stdout, box.config)


def test_create_and_start(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    name = runtime.new_id()
    to_files(runtime.argv("create", "-b", str(box.path), name), tmp_path)
    first = runtime.state(name)["pid"]
    waiting = oci.status_fields(Path(f"/proc/{first}/status").read_text())
    for member, value in expected(box.config).items():
        if member.startswith("Cap") or member in ("Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp"):
            assert " ".join(waiting[member].split()) == value, member
    # It may wait for long, with somebody else inside: what it holds is the fifo and the way to it, and no secret.
    targets = [os.readlink(f"/proc/{first}/fd/{number}") for number in os.listdir(f"/proc/{first}/fd")]
    assert [target for target in targets if target == "/" or target.startswith(("/etc", "/root", "/sys"))] == []
    assert CANARY.encode() not in Path(f"/proc/{first}/environ").read_bytes()
    assert runtime.call("start", name).code == 0
    assert eventually(lambda: "end: yes" in (tmp_path / "out").read_text())
    check((tmp_path / "out").read_text(), box.config)


def test_run_detached(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    to_files(runtime.argv("run", "-d", "-b", str(box.path), runtime.new_id()), tmp_path)
    assert eventually(lambda: "end: yes" in (tmp_path / "out").read_text())
    check((tmp_path / "out").read_text(), box.config)


@pytest.mark.parametrize("way", ["words", "file", "detached"])
def test_exec(runtime: Runtime, box: Bundle, tmp_path: Path, way: str) -> None:
    name = runtime.new_id()
    runtime.detached("run", "-d", "-b", str(box.runs("sleep", "60").path), name)
    first = runtime.state(name)["pid"]
    program = ["/bin/sh", "-c", REPORT]
    (tmp_path / "process.json").write_text(json.dumps(box.config["process"] | {"args": program}))
    words: dict[str, list[str]] = {
        "words": ["exec", name, *program],
        "file": ["exec", "--process", f"{tmp_path}/process.json", name],
        "detached": ["exec", "-d", name, *program],
    }
    to_files(runtime.argv(*words[way]), tmp_path)
    assert eventually(lambda: "end: yes" in (tmp_path / "out").read_text())
    check((tmp_path / "out").read_text(), box.config, first)


# pyrkt


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pyrkt]:
    """A store with one OCI image; checks at the end that nothing stayed."""
    tool = Pyrkt(tmp_path_factory.mktemp("confined"))
    tool.ok("fetch", f"oci:{make_layout(tool.base / 'layout')}:bb")
    yield tool
    assert tool.clean() == []


POD_FLAGS = {
    "root": [],
    "user": ["--user=1000", "--group=1001", "--supplementary-gids=5,6", "--oom-score-adj=55", "--working-dir=/tmp"],
    "few-capabilities": ["--caps-retain=CAP_KILL", "--readonly-rootfs=true"],
    "no-filter": [],
}


def pod_config(tool: Pyrkt, uuid: str) -> dict[str, Any]:
    (home,) = (tool.directory(uuid) / "apps").iterdir()
    found = json.loads((home / "config.json").read_text())
    assert isinstance(found, dict)
    found["process"].setdefault("rlimits", [])
    if not any(limit["type"] == "RLIMIT_NOFILE" for limit in found["process"]["rlimits"]):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        found["process"]["rlimits"].append({"type": "RLIMIT_NOFILE", "soft": soft, "hard": hard})
    return found


def run_pod(tool: Pyrkt, words: list[str], directory: Path) -> tuple[str, str]:
    uuid_file = directory / "uuid"
    done = careless(tool.argv("run", f"--uuid-file-save={uuid_file}", *words), capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, uuid_file.read_text().strip()


def run_pod_detached(tool: Pyrkt, words: list[str], directory: Path) -> tuple[str, str]:
    out, _ = to_files(tool.argv("run", "-d", *words), directory)
    uuid = out.strip()
    assert eventually(lambda: "end: yes" in tool.ok("logs", uuid)), tool.ok("logs", uuid)
    return tool.ok("logs", uuid), uuid


def run_prepared(tool: Pyrkt, words: list[str], _directory: Path) -> tuple[str, str]:
    uuid = tool.ok("prepare", *words).strip()
    done = careless(tool.argv("run-prepared", uuid), capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, uuid


@pytest.mark.parametrize("way", [run_pod, run_pod_detached, run_prepared])
@pytest.mark.parametrize("kind", list(POD_FLAGS))
def test_pods(
    stored: Pyrkt, tmp_path: Path, kind: str, way: Callable[[Pyrkt, list[str], Path], tuple[str, str]]
) -> None:
    tool = Pyrkt(stored.base, insecure="image,seccomp") if kind == "no-filter" else stored
    words = [f"oci:{stored.base}/layout:bb", *POD_FLAGS[kind], "--", "sh", "-c", REPORT]
    for _ in range(2):  # the second time a record of the first may be what is run
        text, uuid = way(tool, words, tmp_path)
        config = pod_config(tool, uuid)
        assert ("seccomp" in config["linux"]) == (kind != "no-filter")
        check(text, config)


def test_the_first_process_of_a_pod_holds_nothing(stored: Pyrkt, tmp_path: Path) -> None:
    image = f"oci:{stored.base}/layout:bb"
    uuid, _ = to_files(stored.argv("run", "-d", image, "--name=nap", "--", "sleep", "60"), tmp_path)
    first = stored.pod(uuid.strip())["pid"]
    status = oci.status_fields(Path(f"/proc/{first}/status").read_text())
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert CANARY.encode() not in Path(f"/proc/{first}/environ").read_bytes()
    targets = {os.readlink(f"/proc/{first}/fd/{number}") for number in os.listdir(f"/proc/{first}/fd")}
    # /dev/null of a host that is not there any more
    assert {target.partition(":")[0] for target in targets} <= {"socket", "anon_inode", "/null", "/dev/null"}
    assert oci.processes(uuid.strip()) == []  # nothing of it, a path say, is in what ps shows
    assert stored.call("stop", "--force", uuid.strip()).code == 0


def test_a_pod_has_a_session_keyring_of_its_own(stored: Pyrkt) -> None:
    loose = Pyrkt(stored.base, insecure="image,seccomp,paths")
    out = loose.ok("run", f"oci:{stored.base}/layout:bb", "--", "sh", "-c", "hostname; cat /proc/keys")
    name, _, keys = out.partition("\n")
    assert f"_ses.{name.removeprefix('pyrkt-')}" in keys
