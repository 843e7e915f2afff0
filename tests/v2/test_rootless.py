"""An ordinary user with a systemd of its own: scopes below user@.service, by the session bus."""

from __future__ import annotations

import pwd
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import bundle, oci
from tests.support.oci import LAUNCHER, Runtime, shell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.bundle import Bundle

USER = "pyrkttest"


@pytest.fixture(scope="module")
def uid() -> Iterator[int]:
    """Make a user whose systemd runs without a session, and remove it."""
    shell(["useradd", "--create-home", USER])
    shell(["loginctl", "enable-linger", USER])
    number = pwd.getpwnam(USER).pw_uid  # noqa: TID251 - of this host, which is ours
    assert oci.eventually(Path(f"/run/user/{number}/bus").is_socket, 30)
    yield number
    shell(["loginctl", "disable-linger", USER])
    shell(["systemctl", "stop", f"user@{number}.service"])
    shell(["userdel", "--remove", USER])


def as_user(uid: int, *words: str, bus: str = "") -> tuple[str, ...]:
    where = f"DBUS_SESSION_BUS_ADDRESS={bus}" if bus else f"XDG_RUNTIME_DIR=/run/user/{uid}"
    ids = (f"--reuid={uid}", f"--regid={uid}", "--init-groups")
    return ("setpriv", *ids, "env", "-u", "XDG_RUNTIME_DIR", where, *words)


@pytest.fixture
def home(uid: int) -> Iterator[Path]:
    path = Path(f"/home/{USER}/test")
    path.mkdir()
    shutil.chown(path, uid, uid)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def box(home: Path, uid: int) -> Bundle:
    """Return a bundle that the user can run: one id is mapped, and nothing is asked for that only root may do."""
    made = bundle.make(home / "bundle", "sleep", "300")
    linux = made.config["linux"]
    linux["namespaces"] = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "user")]
    for kind in ("uidMappings", "gidMappings"):
        linux[kind] = [{"containerID": 0, "hostID": uid, "size": 1}]
    linux["resources"] = {"memory": {"limit": 64 << 20}, "pids": {"limit": 20}}
    made.config["process"]["capabilities"] = {}
    made.config["mounts"] = [mount for mount in made.config["mounts"] if mount["destination"] in {"/proc", "/dev"}]
    shell(["chown", "-R", f"{uid}:{uid}", str(home)])
    return made


@pytest.fixture
def runtime(home: Path, uid: int) -> Iterator[Runtime]:
    found = Runtime("pyrkt-oci", as_user(uid, *LAUNCHER, "--systemd-cgroup"), home / "state")
    yield found
    found.clean()
    assert oci.eventually(lambda: "pyrkt" not in units(uid)), units(uid)
    assert not oci.cgroups("pyrkt-test")


def units(uid: int) -> str:
    words = ("systemctl", "--user", "list-units", "--all", "--plain", "--no-legend", "pyrkt*")
    return shell(as_user(uid, *words))


def shown(uid: int, unit: str, name: str) -> str:
    return shell(as_user(uid, "systemctl", "--user", "show", "--value", f"--property={name}", unit)).strip()


def test_a_life_from_outside_of_the_users_own_cgroups(runtime: Runtime, box: Bundle, uid: int) -> None:
    """The caller is in a cgroup of root's, out of which the user may not move anybody."""
    box.config["linux"]["cgroupsPath"] = ":pyrkt-test:user"
    name = runtime.new_id()
    made = runtime.detached("create", "--bundle", str(box.save().path), name)
    assert made.code == 0, made.err
    assert runtime.call("start", name).code == 0
    manager = f"/user.slice/user-{uid}.slice/user@{uid}.service"
    own = f"{manager}/user.slice/pyrkt-test-user.scope"
    where = Path(f"/sys/fs/cgroup{own}")
    assert (where / "cgroup.procs").read_text().split() == [str(runtime.state(name)["pid"])]
    assert (where / "memory.max").read_text() == f"{64 << 20}\n"
    assert shown(uid, "pyrkt-test-user.scope", "MemoryMax") == str(64 << 20)
    assert shown(uid, "pyrkt-test-user.scope", "TasksMax") == "20"
    done = runtime.call("exec", name, "cat", "/proc/self/cgroup")
    assert done.out == f"0::{own}\n", done.err
    assert runtime.call("update", "--memory", "80M", name).code == 0
    assert (where / "memory.max").read_text() == f"{80 << 20}\n"
    assert shown(uid, "pyrkt-test-user.scope", "MemoryMax") == str(80 << 20)
    assert runtime.call("pause", name).code == 0
    assert "frozen 1" in (where / "cgroup.events").read_text()
    assert runtime.call("delete", "--force", name).code == 0
    assert not where.exists()


def test_the_exit_code_comes_through(runtime: Runtime, box: Bundle) -> None:
    answer = runtime.run(box.script("exit 5").path)
    assert (answer.code, answer.err) == (5, "")


def test_without_a_bus_there_is_one_clear_line(box: Bundle, home: Path, uid: int) -> None:
    words = (*LAUNCHER, "--systemd-cgroup", "--root", str(home / "state"), "run", "-b", str(box.save().path), "none")
    done = subprocess.run(as_user(uid, *words, bus="unix:path=/nope"), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "failed to connect to dbus: /nope: No such file or directory" in done.stderr
    assert "enable-linger" in done.stderr


# --- without systemd's help: cgroups below what is delegated to the user ---


@pytest.fixture
def within(home: Path, uid: int) -> Iterator[Runtime]:
    """Return pyrkt-oci as a service of the user's own systemd starts it."""
    service = ("systemd-run", "--user", "--pipe", "--wait", "--quiet", "--collect", "--property=Delegate=yes", "--")
    found = Runtime("pyrkt-oci", as_user(uid, *service, *LAUNCHER), home / "state")
    yield found
    found.clean()
    assert oci.eventually(lambda: not oci.cgroups("pyrkt-test")), oci.cgroups("pyrkt-test")


def delegated(uid: int) -> str:
    """Return the cgroup that root's systemd has given to the user."""
    return f"/user.slice/user-{uid}.slice/user@{uid}.service"


@pytest.mark.parametrize("path", ["", "/pyrkt-test-own/a"], ids=["beside-its-caller", "where-he-says"])
def test_limits_below_what_is_delegated(within: Runtime, box: Bundle, uid: int, path: str) -> None:
    if path:
        box.config["linux"]["cgroupsPath"] = delegated(uid) + path
    name = within.new_id()
    made = within.detached("run", "--detach", "--bundle", str(box.save().path), name)
    assert (made.code, made.err) == (0, "")
    own = f"{delegated(uid)}{path or f'/app.slice/{name}'}"
    where = Path(f"/sys/fs/cgroup{own}")
    assert (where / "cgroup.procs").read_text().split() == [str(within.state(name)["pid"])]
    assert (where / "memory.max").read_text() == f"{64 << 20}\n"
    assert (where / "pids.max").read_text() == "20\n"
    assert within.call("exec", name, "cat", "/proc/self/cgroup").out == f"0::{own}\n"
    assert within.call("update", "--memory", "80M", name).code == 0
    assert (where / "memory.max").read_text() == f"{80 << 20}\n"
    assert within.call("pause", name).code == 0
    assert within.state(name)["status"] == "paused"
    assert within.call("resume", name).code == 0
    assert within.call("kill", "--all", name, "KILL").code == 0
    assert oci.eventually(lambda: within.state(name)["status"] == "stopped")
    assert within.call("delete", name).code == 0
    assert not where.exists()
    if path:
        where.parent.rmdir()


def test_limits_where_nothing_is_delegated(box: Bundle, home: Path, uid: int) -> None:
    outside = Runtime("pyrkt-oci", as_user(uid, *LAUNCHER), home / "state")
    answer = outside.run(box.script("echo ran").path)
    assert answer.code == 1
    assert "cannot set memory limit: container could not join or create cgroup" in answer.err
    assert "no cgroup is delegated to this user" in answer.err
    box.config["linux"]["resources"] = {}
    answer = outside.run(box.save().path)
    assert (answer.code, answer.out, answer.err) == (0, "ran\n", "")
    # His, but his caller is in a cgroup of root's, out of which he may move nobody.
    box.config["linux"]["cgroupsPath"] = f"{delegated(uid)}/pyrkt-test-own"
    answer = outside.run(box.save().path)
    assert answer.code == 1
    assert "unable to apply cgroup configuration: mkdir /sys/fs/cgroup/user.slice/" in answer.err
    assert "permission denied" in answer.err
