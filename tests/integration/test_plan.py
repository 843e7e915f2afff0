"""Plans carried out for real: what the compiler decides is what a process then finds inside."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyrkt.base.errors import PyrktError
from pyrkt.kernel import seccomp
from pyrkt.kernel.host import probe
from pyrkt.plan.compile import container
from pyrkt.plan.place import Place
from pyrkt.plan.steps import encode
from pyrkt.spec.example import rootless
from pyrkt.spec.layout import CgroupLayout, OverlayRoot
from pyrkt.spec.runtime import (
    Config,
    Device,
    Hook,
    Hooks,
    IdMapping,
    Mount,
    Rlimit,
    Root,
    Seccomp,
    Syscall,
    TimeOffset,
    User,
)
from pyrkt.stage1 import launch
from tests.unit.plan.hosts import changed, namespaces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyrkt.plan.steps import Plan

pytestmark = pytest.mark.root

# Prints the index of the step, errno and detail.
ON_FAILURE = ("/bin/echo", "failed at step, errno, detail:")
ALL = ("pid", "network", "ipc", "uts", "mount", "cgroup")
APPLETS = (
    "sh",
    "cat",
    "env",
    "false",
    "grep",
    "hostname",
    "id",
    "ls",
    "mkdir",
    "ps",
    "readlink",
    "sleep",
    "touch",
    "true",
)
WIDE = (IdMapping(container_id=0, host_id=100_000, size=65_536),)
USERNS: dict[str, Any] = {"namespaces": namespaces(*ALL, "user"), "uid_mappings": WIDE, "gid_mappings": WIDE}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle whose root holds a static busybox; only root may enter the directories above it."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.fail("busybox is missing: apt-get install busybox-static")
    for name in ("bin", "proc", "dev", "sys", "tmp"):
        (tmp_path / "rootfs" / name).mkdir(parents=True)
    shutil.copy(busybox, tmp_path / "rootfs/bin/busybox")
    for applet in APPLETS:
        (tmp_path / "rootfs/bin" / applet).symlink_to("busybox")
    return tmp_path


def carried_out(plan: Plan, uid: int = 0) -> tuple[int, str]:
    """Run stage1 on ``plan`` in a process of its own; return (exit code, all it printed)."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            if uid:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            launch.run(encode(plan), plan.causes)
        except PyrktError as error:
            os.write(2, str(error).encode())
        finally:
            os._exit(99)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8", errors="replace") as output:
        text = output.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text


def shell(script: str, process: dict[str, Any] | None = None, **more: Any) -> Config:
    given = {"args": ("sh", "-c", script), "rlimits": (), **(process or {})}
    return changed(process=given, root=Root(path="rootfs"), **more)


@pytest.fixture
def run(bundle: Path) -> Callable[..., str]:
    """Return a function that runs a config in the bundle, expects success and returns what it printed."""

    def run_config(config: Config, **more: Any) -> str:
        cgroup, place = more.pop("cgroup", CgroupLayout()), more.pop("place", Place(id="test", on_failure=ON_FAILURE))
        plan = container(config, str(bundle), probe(), cgroup, place, **more)
        code, text = carried_out(plan)
        assert code == 0, text
        return text

    return run_config


@pytest.fixture(autouse=True)
def _nothing_is_left(bundle: Path) -> Iterator[None]:
    yield
    assert str(bundle) not in Path("/proc/self/mountinfo").read_text()


def test_the_example_shows_its_own_world(run: Callable[..., str]) -> None:
    text = run(
        shell("hostname; ps; ls /proc/self/fd; readlink /dev/fd; cat /proc/self/cgroup; grep NoNew /proc/self/status")
    )
    assert text.startswith("pyrkt\n")
    assert " 1 0 " in " ".join(text.split())
    assert "/proc/self/fd\n" in text
    assert all(line.endswith(":/") for line in text.splitlines() if line.count(":") == 2)
    assert "NoNewPrivs:\t1" in text


def test_the_exit_code_is_the_programs(bundle: Path) -> None:
    plan = container(shell("exit 7"), str(bundle), probe(), CgroupLayout(), Place(exit_file=str(bundle / "code")))
    assert carried_out(plan)[0] == 7
    assert (bundle / "code").read_text() == "7\n"


@pytest.mark.parametrize(("program", "code"), [("/nothing", 127), ("/proc", 126)])
def test_a_program_that_cannot_run(bundle: Path, program: str, code: int) -> None:
    config = shell("", process={"args": (program,)})
    assert carried_out(container(config, str(bundle), probe(), CgroupLayout(), Place()))[0] == code


def test_masked_and_read_only_paths(run: Callable[..., str]) -> None:
    text = run(shell("cat /proc/keys; ls /sys/firmware; touch /proc/sys/kernel/msgmax 2>&1; touch /rw && echo made"))
    assert text == "touch: /proc/sys/kernel/msgmax: Read-only file system\nmade\n"


def test_a_read_only_root(run: Callable[..., str]) -> None:
    config = shell("touch /x 2>&1; touch /dev/shm/x && echo made")
    assert run(config.replace(root=Root(path="rootfs", readonly=True))) == "touch: /x: Read-only file system\nmade\n"


def test_binds_of_files_and_directories(bundle: Path, run: Callable[..., str]) -> None:
    (bundle / "volume").mkdir()
    (bundle / "volume/file").write_text("content\n")
    mounts = (
        *changed().mounts,
        Mount(destination="/data/deep", type="bind", source="volume", options=("rbind", "ro")),
        Mount(destination="/single", type="bind", source=str(bundle / "volume/file"), options=("bind",)),
    )
    config = shell("cat /data/deep/file /single; touch /data/deep/x 2>&1; true", mounts=mounts)
    assert run(config) == "content\ncontent\ntouch: /data/deep/x: Read-only file system\n"


def test_ids_of_a_bind_are_mapped(bundle: Path, run: Callable[..., str]) -> None:
    (bundle / "volume").mkdir()
    ids = (IdMapping(container_id=0, host_id=5000, size=10),)
    mount = Mount(
        destination="/data",
        type="bind",
        source="volume",
        options=("bind", "idmap"),
        uid_mappings=ids,
        gid_mappings=ids,
    )
    assert "5000     5000" in run(shell("ls -ldn /data", mounts=(*changed().mounts, mount)))


def test_a_user_namespace_under_a_directory_that_its_root_may_not_enter(bundle: Path, run: Callable[..., str]) -> None:
    (bundle / "volume").mkdir(mode=0o755)
    (bundle / "volume/file").write_text("content\n")
    bundle.chmod(0o700)
    subprocess.run(["chown", "-R", "100000:100000", str(bundle / "rootfs")], check=True)
    mount = Mount(destination="/data", type="bind", source="volume", options=("rbind",))
    config = shell("id -u; cat /proc/self/uid_map /data/file; echo x >/dev/null", mounts=(*changed().mounts, mount))
    assert config.linux is not None
    text = run(config.replace(linux=config.linux.replace(**USERNS)))
    assert text.split() == ["0", "0", "100000", "65536", "content"]


def test_an_ordinary_user(bundle: Path) -> None:
    os.chown(bundle, 1000, 1000)
    subprocess.run(["chown", "-R", "1000:1000", str(bundle)], check=True)
    for parent in (bundle, *bundle.parents):
        if parent != Path("/") and not parent.stat().st_mode & 0o001:
            parent.chmod(0o711)
    config = rootless(shell("id -u; touch /mine; cat /proc/self/setgroups; echo x >/dev/null"), 1000, 1000)
    host = probe().replace(euid=1000, egid=1000, bounding=0)
    code, text = carried_out(container(config, str(bundle), host, CgroupLayout(), Place()), uid=1000)
    assert (code, text) == (0, "0\ndeny\n")
    assert (bundle / "rootfs/mine").stat().st_uid == 1000


def test_identity_and_capabilities(run: Callable[..., str]) -> None:
    user = User(uid=1000, gid=1001, additional_gids=(5, 6), umask=0o77)
    text = run(
        shell(
            "id -u; id -g; id -G; umask; readlink /proc/self/cwd; grep Cap /proc/self/status",
            {"user": user, "cwd": "/a/b"},
        )
    )
    lines = text.split("\n")
    assert lines[:5] == ["1000", "1001", "1001 5 6", "0077", "/a/b"]
    assert "CapEff:\t0000000000000000" in lines
    assert "CapBnd:\t0000000020000420" in lines


def test_namespaces_of_another_are_joined(run: Callable[..., str]) -> None:
    with subprocess.Popen(
        ["unshare", "-nu", "sh", "-c", "hostname joined; echo; exec sleep 60"], stdout=subprocess.PIPE
    ) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            paths = {"network": f"/proc/{other.pid}/ns/net", "uts": f"/proc/{other.pid}/ns/uts"}
            spaces = (*namespaces("mount", "pid", "ipc"), *namespaces(**paths))
            config = shell("hostname; readlink /proc/self/ns/net", hostname="", linux={"namespaces": spaces})
            assert run(config).split() == ["joined", os.readlink(paths["network"])]
        finally:
            other.kill()


def test_time_goes_by_its_own_clock(run: Callable[..., str]) -> None:
    spaces = namespaces(*ALL, "time")
    config = shell(
        "cat /proc/uptime", linux={"namespaces": spaces, "time_offsets": {"boottime": TimeOffset(secs=10**6)}}
    )
    assert float(run(config).split()[0]) > 10**6


def test_sysctls_are_the_containers(run: Callable[..., str]) -> None:
    before = Path("/proc/sys/kernel/msgmax").read_text()
    config = shell("cat /proc/sys/kernel/msgmax", linux={"sysctl": {"kernel.msgmax": "1234"}})
    assert run(config) == "1234\n"
    assert Path("/proc/sys/kernel/msgmax").read_text() == before


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_the_filter_is_in_force(run: Callable[..., str], no_new_privileges: bool) -> None:
    rule = Syscall(names=("mkdir", "mkdirat"), action="SCMP_ACT_ERRNO", errno_ret=28)
    profile = Seccomp(default_action="SCMP_ACT_ALLOW", syscalls=(rule,))
    config = shell("mkdir /x 2>&1; true", {"no_new_privileges": no_new_privileges}, linux={"seccomp": profile})
    assert "No space left" in run(config, seccomp=seccomp.compile_filter(profile))


def test_devices_and_limits(run: Callable[..., str]) -> None:
    device = Device(type="c", path="/dev/net/tun", major=10, minor=200, file_mode=0o640, uid=3, gid=4)
    limits = (Rlimit(type="RLIMIT_NOFILE", soft=100, hard=200),)
    config = shell("ls -l /dev/net/tun; ulimit -n", {"rlimits": limits}, linux={"devices": (device,)})
    first, second = run(config).splitlines()
    assert first.split()[:6] == ["crw-r-----", "1", "3", "4", "10,", "200"]
    assert second == "100"


def test_hooks_run_at_their_moments_and_see_the_state(bundle: Path, run: Callable[..., str]) -> None:
    log = bundle / "log"

    def hook(name: str) -> tuple[Hook, ...]:
        script = f"echo {name} $(cat) $(readlink /proc/self/ns/mnt) >> {log}"
        return (Hook(path="/bin/sh", args=("sh", "-c", script), env=("PATH=/bin:/usr/bin",), timeout=10),)

    inside = (Hook(path="/bin/sh", args=("sh", "-c", "readlink /proc/self/ns/mnt > /dev/shm/hook")),)
    hooks = Hooks(
        prestart=hook("prestart"),
        create_runtime=hook("createRuntime"),
        create_container=hook("createContainer"),
        start_container=inside,
        poststart=hook("poststart"),
        poststop=hook("poststop"),
    )
    text = run(shell("cat /dev/shm/hook; readlink /proc/self/ns/mnt; sleep 0.2", hooks=hooks)).split()
    rows = [line.split(" ") for line in log.read_text().splitlines()]
    assert [row[0] for row in rows] == ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]
    host = os.readlink("/proc/self/ns/mnt")
    assert [row[2] == host for row in rows] == [True, True, False, True, True]
    assert text == [rows[2][2], rows[2][2]]
    assert [row[1].split('"status":"')[1].split('"')[0] for row in rows] == [
        "created",
        "creating",
        "creating",
        "running",
        "stopped",
    ]


@pytest.mark.parametrize("propagation", ["shared", "slave", "private", "unbindable", "rshared"])
def test_no_mount_of_the_container_reaches_the_host(run: Callable[..., str], propagation: str) -> None:
    config = shell("grep ' / / ' /proc/self/mountinfo || grep -m1 rootfs /proc/self/mountinfo")
    assert config.linux is not None
    text = run(config.replace(linux=config.linux.replace(rootfs_propagation=propagation)))
    assert ("shared:" in text, "unbindable" in text) == (propagation.endswith("shared"), propagation == "unbindable")


def test_an_overlay_keeps_what_is_written_and_its_layers_clean(bundle: Path, run: Callable[..., str]) -> None:
    for name in ("upper", "work", "merged"):
        (bundle / name).mkdir()
    root = OverlayRoot(lowers=(str(bundle / "rootfs"),), upper=str(bundle / "upper"), work=str(bundle / "work"))
    config = shell("touch /written; ls -d /bin").replace(root=Root(path="merged"))
    assert run(config, root=root) == "/bin\n"
    assert (bundle / "upper/written").exists()
    assert not (bundle / "rootfs/written").exists()
