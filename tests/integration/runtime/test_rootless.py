"""pyrkt-oci of an ordinary user: everything that the kernel lets him do, and one clear line about the rest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import bundle, oci
from tests.support.oci import Answer, eventually
from tests.support.user import RANGE, UID, User, installed, ordinary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.bundle import Bundle

pytestmark = pytest.mark.root
FIRST, SIZE = RANGE
MANY = [
    {"containerID": 0, "hostID": UID, "size": 1},
    {"containerID": 1, "hostID": FIRST, "size": SIZE},
]
TOP = Path("/sys/fs/cgroup")


@dataclass
class Rootless:
    """The user with pyrkt-oci; ``prefix`` is what root does first, in a mount namespace that is the call's own."""

    user: User
    made: Bundle
    prefix: str = ""

    @property
    def config(self) -> dict[str, Any]:
        return self.made.config

    def call(self, *words: str, **options: Any) -> Answer:
        """Run a verb to its end."""
        argv = self.user.words(self.user.bin / "pyrkt-oci", *words)
        if self.prefix:
            argv = [
                "unshare",
                "--mount",
                "--propagation=private",
                "sh",
                "-c",
                f'{self.prefix} && exec "$@"',
                "sh",
                *argv,
            ]
        options.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=oci.SECONDS, check=False, cwd=self.user.base, **options
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def runs(self, script: str, *words: str) -> Answer:
        """Run a script as the container's program."""
        self.made.script(script)
        return self.call(*words, "run", "--bundle", str(self.made.path), "pyrkt-test-one")

    def begins(self, verb: str, *words: str, name: str = "pyrkt-test-life") -> str:
        """Create a container, or run one that is left alone: its output goes to a file, for a pipe would stay open."""
        self.made.save()
        argv = [str(self.user.bin / "pyrkt-oci"), *words, verb, "--bundle", str(self.made.path), name]
        if verb == "run":
            argv.insert(-1, "--detach")
        out = self.user.base / "out"
        done = self.user.runs("sh", "-c", 'exec "$@" >"$0" 2>&1', out, *argv)
        assert done.code == 0, out.read_text()
        return name

    def state(self, name: str) -> dict[str, Any]:
        """Return the state of a container."""
        answer = self.call("state", name)
        assert answer.code == 0, answer.err
        found = json.loads(answer.out)
        assert isinstance(found, dict)
        return found


@pytest.fixture(scope="module")
def programs() -> Iterator[Path]:
    with installed() as found:
        yield found


@pytest.fixture(scope="module")
def user(programs: Path) -> Iterator[User]:
    with ordinary(programs, ranges=True) as made:
        bundle.make_root(made.base / "bundle/rootfs")
        subprocess.run(["chown", "-hR", f"{UID}:{UID}", made.base / "bundle"], check=True)
        yield made


@pytest.fixture
def box(user: User) -> Iterator[Rootless]:
    """What ``spec --rootless`` writes, without a terminal."""
    path = user.base / "bundle"
    answer = user.runs(user.bin / "pyrkt-oci", "spec", "--rootless", "--bundle", path)
    assert (answer.code, answer.out, answer.err) == (0, "", "")
    config = json.loads((path / "config.json").read_text())
    config["process"] |= {"terminal": False, "env": ["PATH=/bin"]}
    found = Rootless(user, bundle.Bundle(path, config))
    yield found
    for name in ("one", "two", "life"):
        found.call("delete", "--force", f"pyrkt-test-{name}")
    (path / "config.json").unlink()
    assert not list(user.base.glob("run/pyrkt-oci/pyrkt-test*"))


def linux(box: Rootless) -> dict[str, Any]:
    found = box.config["linux"]
    assert isinstance(found, dict)
    return found


def _update(box: Rootless, **members: Any) -> Rootless:
    linux(box).update(members)
    return box


def many(box: Rootless) -> Rootless:
    linux(box).update(uidMappings=MANY, gidMappings=MANY)
    return box


def space(box: Rootless, kind: str) -> Rootless:
    linux(box)["namespaces"].append({"type": kind})
    return box


def without(box: Rootless, kind: str) -> Rootless:
    linux(box)["namespaces"] = [space for space in linux(box)["namespaces"] if space["type"] != kind]
    return box


def mounted(box: Rootless, destination: str, **changes: Any) -> Rootless:
    """Change a mount, or add one."""
    mounts = box.config["mounts"]
    for mount in mounts:
        if mount["destination"] == destination:
            mount.update(changes)
            return box
    mounts.append({"destination": destination, **changes})
    return box


def process(box: Rootless, **changes: Any) -> Rootless:
    box.config["process"].update(changes)
    return box


def limited(box: Rootless, path: str = "", **resources: Any) -> Rootless:
    if path:
        linux(box)["cgroupsPath"] = path
    linux(box)["resources"] = resources
    return box


# --- ids ---


def test_one_id_is_mapped_directly(box: Rootless) -> None:
    answer = box.runs("id -u; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; hostname; exit 4")
    words = ["0", "0", str(UID), "1", "0", str(UID), "1", "deny", "pyrkt"]
    assert (answer.code, answer.out.split(), answer.err) == (4, words, "")


def test_more_ids_are_mapped_by_the_helpers(box: Rootless) -> None:
    many(box)
    process(box, user={"uid": 7, "gid": 8, "additionalGids": [9]})
    answer = box.runs("id -u; id -g; id -G; cat /proc/self/uid_map /proc/self/setgroups")
    lines = [line.split() for line in answer.out.splitlines()]
    assert lines[:2] == [["7"], ["8"]], answer.err
    assert sorted(lines[2]) == ["8", "9"]
    assert lines[3:] == [["0", str(UID), "1"], ["1", str(FIRST), str(SIZE)], ["allow"]]


def test_the_helpers_say_why_they_refuse(box: Rootless) -> None:
    _update(box, uidMappings=[MANY[0], {"containerID": 1, "hostID": FIRST + SIZE, "size": 5}])
    answer = box.runs("true")
    (line,) = answer.err.splitlines()
    assert answer.code == 1
    assert "mapping ids by newuidmap" in line
    assert f"newuidmap: uid range [1-6) -> [{FIRST + SIZE}-{FIRST + SIZE + 5}) not allowed" in line
    assert "/etc/subuid" in line


def test_without_the_helpers_one_line_says_which_is_missing(box: Rootless) -> None:
    many(box)
    hidden = box.user.base.parent / "hidden"
    options = f"lowerdir=/usr/bin,upperdir={hidden}/upper,workdir={hidden}/work"
    box.prefix = (
        f"mkdir -p {hidden} && mount -t tmpfs none {hidden} && mkdir {hidden}/upper {hidden}/work && "
        f"mount -t overlay -o {options} none /usr/bin && rm /usr/bin/newuidmap"
    )
    answer = box.runs("true")
    (line,) = answer.err.splitlines()
    assert answer.code == 1
    assert "mapping ids by newuidmap (config.json: /linux/uidMappings): this host has no such program" in line
    assert "uidmap" in line.partition("hint=")[2]


# --- what cannot be is one line ---


def _bind(box: Rootless, *options: str, source: str = "/var/lib") -> Rootless:
    return mounted(box, "/mnt", type="bind", source=source, options=["bind", *options])


REFUSALS: dict[str, tuple[Callable[[Rootless], object], str]] = {
    "no-user-namespace": (
        lambda box: (without(box, "user"), _update(box, uidMappings=[], gidMappings=[])),
        "rootless container requires user namespaces",
    ),
    "no-maps": (
        lambda box: _update(box, uidMappings=[], gidMappings=[]),
        "user namespaces enabled, but no uid mappings found",
    ),
    "unmapped-user": (
        lambda box: process(box, user={"uid": 7, "gid": 0}),
        "cannot set uid to unmapped user in user namespace",
    ),
    "groups": (
        lambda box: process(box, user={"uid": 0, "gid": 0, "additionalGids": [9]}),
        "cannot set any additional groups in a rootless container",
    ),
    "owner-of-a-tmpfs": (
        lambda box: mounted(box, "/tmp", type="tmpfs", source="tmpfs", options=["uid=5"]),
        "cannot specify uid=5 mount option",
    ),
    "id-mapped-mount": (
        lambda box: _bind(box, "idmap"),
        "id-mapped mounts are not supported for rootless containers",
    ),
    "network-device": (
        lambda box: (space(box, "network"), _update(box, netDevices={"lo": {}})),
        "network devices are not supported for rootless containers",
    ),
    "oom-score": (lambda box: process(box, oomScoreAdj=-900), "setting oom_score_adj to -900"),
    "limit": (
        lambda box: process(box, rlimits=[{"type": "RLIMIT_NOFILE", "soft": 1 << 29, "hard": 1 << 29}]),
        "raising a hard limit needs CAP_SYS_RESOURCE on the host",
    ),
    "sysctl-of-the-host": (
        lambda box: _update(box, sysctl={"net.ipv4.ip_forward": "1"}),
        "needs a network namespace",
    ),
    "memory": (
        lambda box: limited(box, memory={"limit": 1 << 26}),
        "cannot set memory limit: container could not join or create cgroup",
    ),
    "pids": (
        lambda box: limited(box, pids={"limit": 9}),
        "cannot set pids limit: container could not join or create cgroup",
    ),
    "cgroup": (
        lambda box: limited(box, "/pyrkt-test-rootless-nobodys"),
        "unable to apply cgroup configuration: mkdir /sys/fs/cgroup/",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refuses_in_one_line(box: Rootless, name: str) -> None:
    change, words = REFUSALS[name]
    change(box)
    answer = box.runs("echo ran")
    (line,) = answer.err.splitlines()
    assert (answer.code, answer.out) == (1, "")
    assert words in line
    assert not oci.cgroups("pyrkt-test-rootless")


# --- what can be ---


def test_rules_for_devices_are_no_limit(box: Rootless) -> None:
    limited(box, devices=[{"allow": False, "access": "rwm"}])
    answer = box.runs("echo x >/dev/null; echo ran")
    assert (answer.code, answer.out, answer.err) == (0, "ran\n", "")


def _sysfs(box: Rootless) -> Rootless:
    return mounted(box, "/sys", type="sysfs", source="sysfs", options=["nosuid", "noexec", "nodev", "ro"])


def _cgroups(box: Rootless) -> Rootless:
    options = ["nosuid", "noexec", "nodev", "relatime", "ro"]
    return mounted(box, "/sys/fs/cgroup", type="cgroup", source="cgroup", options=options)


ALLOWED: dict[str, tuple[Callable[[Rootless], object], str, str]] = {
    "loopback-alone": (
        lambda box: (space(box, "network"), _sysfs(box)),
        "ls /sys/class/net; cat /sys/class/net/lo/carrier; touch /sys/x 2>/dev/null || echo ro",
        "lo\n1\nro\n",
    ),
    "sysfs-of-the-host": (
        _sysfs,
        "ls -d /sys/class/net/lo; touch /sys/x 2>/dev/null || echo ro",
        "/sys/class/net/lo\nro\n",
    ),
    "cgroups": (
        lambda box: (space(box, "network"), _sysfs(box), _cgroups(box)),
        "test -e /sys/fs/cgroup/freezer/tasks -o -e /sys/fs/cgroup/cgroup.procs && echo there",
        "there\n",
    ),
    "cgroups-of-the-host": (
        lambda box: (without(box, "cgroup"), _cgroups(box)),
        "test -e /sys/fs/cgroup/freezer/tasks -o -e /sys/fs/cgroup/cgroup.procs && echo there",
        "there\n",
    ),
    "terminals-without-their-group": (
        lambda box: mounted(box, "/dev/pts", options=["nosuid", "noexec", "newinstance", "ptmxmode=0666", "gid=5"]),
        "stat -c %a /dev/pts/ptmx",
        "666\n",
    ),
    "terminals-with-their-group": (
        lambda box: (
            many(box),
            mounted(box, "/dev/pts", options=["nosuid", "noexec", "newinstance", "ptmxmode=0666", "gid=5"]),
        ),
        f"grep devpts /proc/mounts | grep -o 'gid=[0-9]*' && echo {FIRST + 4}",
        f"gid={FIRST + 4}\n{FIRST + 4}\n",
    ),
    "processes-of-the-host": (
        lambda box: without(box, "pid"),
        "test $$ -gt 1 && test -e /proc/$$ && echo yes",
        "yes\n",
    ),
    "own-kernel-parameters": (
        lambda box: (
            space(box, "network"),
            _update(box, sysctl={"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"}),
        ),
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced",
        "1\n1\n",
    ),
    "higher-oom-score": (lambda box: process(box, oomScoreAdj=777), "cat /proc/self/oom_score_adj", "777\n"),
    "lower-limits": (
        lambda box: process(box, rlimits=[{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 78}]),
        "ulimit -n; ulimit -Hn",
        "77\n78\n",
    ),
    "capabilities-in-its-namespaces": (
        lambda box: process(
            box,
            capabilities={kind: ["CAP_SYS_ADMIN"] for kind in ("bounding", "effective", "permitted", "inheritable")},
        ),
        "hostname other && hostname; mount -t tmpfs none /tmp && echo mounted",
        "other\nmounted\n",
    ),
    "owner-of-a-tmpfs": (
        lambda box: (
            many(box),
            mounted(box, "/tmp", type="tmpfs", source="tmpfs", options=["uid=5", "gid=6"]),
        ),
        "stat -c %u:%g /tmp",
        "5:6\n",
    ),
    "time": (
        lambda box: (space(box, "time"), _update(box, timeOffsets={"boottime": {"secs": 100}})),
        "grep -o 'boottime *100' /proc/self/timens_offsets",
        "boottime          100\n",
    ),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_the_kernel_lets_him_do_needs_no_words(box: Rootless, name: str) -> None:
    change, script, wanted = ALLOWED[name]
    change(box)
    answer = box.runs(script)
    assert (answer.code, answer.out, answer.err) == (0, wanted, "")


def test_devices_are_the_hosts(box: Rootless) -> None:
    linux(box)["devices"] = [{"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]
    mounted(box, "/dev/other", type="bind", source="/dev/full", options=["bind"])
    answer = box.runs("stat -c %t:%T:%u /dev/null /dev/other; echo x >/dev/null && echo written")
    assert (answer.code, answer.out, answer.err) == (0, "1:3:65534\n1:7:65534\nwritten\n", "")


LOCKED = "nosuid,nodev,noexec,noatime,ro"


@pytest.mark.parametrize("options", [(), ("ro",), ("rbind", "rprivate"), ("nodev", "nosuid")], ids=" ".join)
def test_what_a_mount_forbids_stays_forbidden(box: Rootless, options: tuple[str, ...]) -> None:
    box.prefix = f"mount -t tmpfs -o {LOCKED} none /var/lib"
    _bind(box, *options)
    answer = box.runs("while read a b c d e; do test $b = /mnt && echo $d; done </proc/mounts; true")
    assert (answer.code, answer.out, answer.err) == (0, "ro,nosuid,nodev,noexec,noatime\n", "")


@pytest.mark.parametrize("option", ["rw", "exec", "suid", "relatime"])
def test_what_a_mount_forbids_cannot_be_had(box: Rootless, option: str) -> None:
    box.prefix = f"mount -t tmpfs -o {LOCKED} none /var/lib"
    _bind(box, option)
    answer = box.runs("true")
    (line,) = answer.err.splitlines()
    assert answer.code == 1
    assert "error mounting" in line
    assert "(config.json: /mounts/" in line
    assert "a user namespace may not take away what the host's mount forbids" in line


def test_hooks_are_the_users(box: Rootless) -> None:
    told = box.user.base / "told"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo $(id -u) $(grep -c pyrkt-test-one) >>{told}"]}
    box.config["hooks"] = {kind: [hook] for kind in ("createRuntime", "poststart", "poststop")}
    answer = box.runs("echo ran")
    assert (answer.code, answer.out, answer.err) == (0, "ran\n", "")
    assert told.read_text() == f"{UID} 1\n" * 3
    told.unlink()


def test_a_terminal(box: Rootless) -> None:
    process(box, terminal=True)
    box.made.script("tty; stat -c %u $(tty); exit 5")
    command = f"{box.user.bin}/pyrkt-oci run --bundle {box.made.path} pyrkt-test-one"
    answer = box.user.runs("script", "--quiet", "--return", "--command", command, "/dev/null")
    assert (answer.code, answer.out.replace("^@", "").split()) == (5, ["/dev/pts/0", "0"])


# --- where states are ---


def test_states_are_below_xdg_runtime_dir(box: Rootless) -> None:
    name = box.begins("create")
    root = box.user.base / "run/pyrkt-oci"
    assert root.stat().st_mode & 0o7777 == 0o1700
    assert (root / name / "state.json").exists()
    assert box.call("list", "-q").out == f"{name}\n"


@pytest.mark.parametrize("place", [(), ("unshare", "-Ur")], ids=["user", "root-of-a-namespace"])
def test_states_without_xdg_runtime_dir(box: Rootless, place: tuple[str, ...]) -> None:
    root = Path(f"/tmp/pyrkt-oci-{UID}")
    box.user.environment["XDG_RUNTIME_DIR"], box.user.place = "", place
    try:
        if place:
            linux(box).update({f"{kind}Mappings": [MANY[0] | {"hostID": 0}] for kind in ("uid", "gid")})
        answer = box.runs("cat /proc/self/uid_map")
        assert (answer.code, answer.err) == (0, "")
        assert answer.out.split() == ["0", "0" if place else str(UID), "1"]
        assert root.stat().st_uid == UID
        root.rmdir()
        root.mkdir(mode=0o700)  # somebody else was there before
        os.chown(root, UID + 1, UID + 1)
        answer = box.runs("true")
        assert answer.code == 1
        assert "others may write there" in answer.err
    finally:
        del box.user.environment["XDG_RUNTIME_DIR"]
        box.user.place = ()
        shutil.rmtree(root, ignore_errors=True)


def test_root_of_a_namespace_deletes_what_it_has_made(box: Rootless) -> None:
    """Without an interpreter, too, which has an answer of its own for the host's root."""
    box.user.place = ("unshare", "-Ur")
    try:
        linux(box).update({f"{kind}Mappings": [MANY[0] | {"hostID": 0}] for kind in ("uid", "gid")})
        process(box, args=["sleep", "300"])
        name = box.begins("create")
        directory = box.user.base / "run/pyrkt-oci" / name
        assert directory.exists()
        assert box.call("delete", "--force", name).code == 0
        assert not directory.exists()
    finally:
        box.user.place = ()


@pytest.mark.parametrize("word", ["true", "auto", "false"])
def test_the_flag_rootless(box: Rootless, word: str) -> None:
    answer = box.runs("echo ran", "--rootless", word)
    if word == "false":
        assert (answer.code, answer.out) == (1, "")
        assert "permission denied" in answer.err
    else:
        assert (answer.code, answer.out, answer.err) == (0, "ran\n", "")


# --- life ---


def test_life(box: Rootless) -> None:
    many(box)
    process(box, args=["sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.05; done"])
    name = box.begins("create")
    assert box.state(name)["status"] == "created"
    waiting = box.call("exec", name, "sh", "-c", "id -u; cat /proc/1/fd/*/self/status 2>/dev/null | grep -c NSpid")
    assert (waiting.code, waiting.out.split()[0], waiting.err) == (0, "0", "")
    assert box.call("start", name).code == 0
    assert box.state(name)["status"] == "running"
    answer = box.call("exec", "--user", "7:8", "--additional-gids", "9", name, "sh", "-c", "id; exit 3")
    assert (answer.code, answer.out, answer.err) == (3, "uid=7 gid=8 groups=9\n", "")
    answer = box.call("exec", "--user", "70000", name, "true")
    assert answer.code == 255
    assert "cannot set uid to unmapped user in user namespace" in answer.err
    assert box.state(name)["pid"] in json.loads(box.call("ps", "--format=json", name).out)
    assert "running" in box.call("list").out
    for words, said in (
        (("pause",), "the container has no cgroup that can freeze"),
        (("update", "--pids-limit", "9"), "the container has no cgroup of its own"),
    ):
        answer = box.call(*words, name)
        assert answer.code == 1
        assert said in answer.err
    assert box.call("events", "--stats", name).code == 0
    assert box.call("kill", name).code == 0
    assert eventually(lambda: box.state(name)["status"] == "stopped")
    assert box.call("delete", name).code == 0
    assert box.call("state", name).code == 1


def test_all_processes_without_a_cgroup(box: Rootless) -> None:
    """They are known by their pid namespace, whoever of the container's users they belong to."""
    many(box)
    process(box, args=["sh", "-c", "trap : TERM; while :; do sleep 0.05; done"])
    name = box.begins("run")
    out = box.user.base / "out"
    for user in ("0", "7"):
        words = [str(box.user.bin / "pyrkt-oci"), "exec", "--detach", "--user", user, name, "sleep", "300"]
        assert box.user.runs("sh", "-c", 'exec "$@" >"$0" 2>&1', out, *words).code == 0, out.read_text()

    def sleepers() -> int:
        pids = json.loads(box.call("ps", "--format=json", name).out)
        return sum(b"sleep\x00300" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids)

    assert eventually(lambda: sleepers() == 2)
    assert box.call("kill", "--all", name, "KILL").code == 0
    assert eventually(lambda: box.state(name)["status"] == "stopped")


def test_namespaces_of_another_container(box: Rootless) -> None:
    many(box)
    space(box, "network")
    process(box, args=["sleep", "300"])
    name = box.begins("run")
    pid = box.state(name)["pid"]
    files = {"network": "net", "mount": "mnt"}
    for entry in linux(box)["namespaces"]:
        if entry["type"] != "mount":
            entry["path"] = f"/proc/{pid}/ns/{files.get(entry['type'], entry['type'])}"
    _update(box, uidMappings=[], gidMappings=[])
    box.config.pop("hostname")
    answer = box.runs(
        "hostname; id -u; cat /proc/self/uid_map; readlink /proc/self/ns/net; readlink /proc/1/ns/net; ps | grep sleep"
    )
    lines = answer.out.splitlines()
    assert lines[0:2] == ["pyrkt", "0"], answer.err
    assert lines[3].split() == ["1", str(FIRST), str(SIZE)]
    assert lines[4] == lines[5]
    assert "sleep 300" in lines[6]


# --- cgroups that somebody has given to him ---


@contextmanager
def given(*names: str) -> Iterator[str]:
    """Give the user a cgroup below the hierarchies ``names``, or all; yield its path."""
    path, made = f"/pyrkt-test-rootless-{os.getpid()}", []
    tops = [
        Path(point)
        for point in oci.mounts()
        if Path(point).parent in (TOP, Path("/sys/fs")) and Path(point, "cgroup.procs").exists()
    ]
    try:
        for top in tops:
            if names and top.name not in names:
                continue
            directory = top / path[1:]
            directory.mkdir()
            made.append(directory)
            for file in ("", "cgroup.procs", "tasks", "cgroup.subtree_control"):
                if (directory / file).exists():
                    os.chown(directory / file, UID, UID)
            for file in ("cpuset.cpus", "cpuset.mems"):
                if top.name == "cpuset":
                    (directory / file).write_text((top / file).read_text())
        yield path
    finally:
        for directory in made:
            for where, below, _ in os.walk(directory, topdown=False):
                for name in below:
                    Path(where, name).rmdir()
            directory.rmdir()


needs_v1 = pytest.mark.skipif(not (TOP / "pids/tasks").exists(), reason="v2 is for tests/v2")


@needs_v1
def test_limits_in_cgroups_that_are_his(box: Rootless) -> None:
    with given() as path:
        limited(box, f"{path}/a/b", memory={"limit": 1 << 26}, pids={"limit": 20}, cpu={"shares": 512, "cpus": "0"})
        process(box, args=["sleep", "300"])
        without(box, "cgroup")
        name = box.begins("run")
        pid = str(box.state(name)["pid"])
        below = f"{path}/a/b"[1:]
        files = {
            "memory": ("memory.limit_in_bytes", str(1 << 26)),
            "pids": ("pids.max", "20"),
            "cpu": ("cpu.shares", "512"),
            "cpuset": ("cpuset.cpus", "0"),
        }
        for controller, (file, value) in files.items():
            assert (TOP / controller / below / file).read_text().strip() == value
            assert (TOP / controller / below / "cgroup.procs").read_text().split() == [pid]
        assert f"pids:/{below}\n" in box.call("exec", name, "cat", "/proc/self/cgroup").out
        assert box.call("update", "--pids-limit", "30", "--memory", "128M", name).code == 0
        assert (TOP / "pids" / below / "pids.max").read_text() == "30\n"
        assert (TOP / "memory" / below / "memory.limit_in_bytes").read_text() == f"{1 << 27}\n"
        assert box.call("pause", name).code == 0
        assert box.state(name)["status"] == "paused"
        assert box.call("resume", name).code == 0
        assert json.loads(box.call("events", "--stats", name).out)["data"]["pids"]["limit"] == 30
        assert box.call("kill", "--all", name, "KILL").code == 0
        assert eventually(lambda: box.state(name)["status"] == "stopped")
        assert box.call("delete", name).code == 0
        assert not [where for where in oci.cgroups(path[1:]) if where.endswith("/b")]


@needs_v1
def test_limits_bind(box: Rootless) -> None:
    with given("pids") as path:
        limited(box, f"{path}/x", pids={"limit": 3})
        answer = box.runs("sleep 1 & sleep 1 & sleep 1 & sleep 1 & wait")
        assert "can't fork" in answer.err


@needs_v1
def test_what_is_not_his_is_refused_by_name(box: Rootless) -> None:
    with given("pids") as path:
        limited(box, f"{path}/x", pids={"limit": 9}, memory={"limit": 1 << 26})
        answer = box.runs("true")
        (line,) = answer.err.splitlines()
        assert answer.code == 1
        assert "cannot set memory limit" in line
        assert "no cgroup is delegated to this user" in line
        limited(box, f"{path}/x", pids={"limit": 9})
        answer = box.runs("echo ran")
        assert (answer.code, answer.out, answer.err) == (0, "ran\n", "")
