"""What this host can and cannot do: each fact asked of the kernel by trying, never by guessing from its version."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pyrkt.base.errors import PyrktError
from pyrkt.base.units import human_bytes
from pyrkt.cgroup import host as cgroups
from pyrkt.kernel import mount, namespaces
from pyrkt.kernel import path as paths
from pyrkt.net import modes, plugin, usermode
from pyrkt.pod import ids, network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyrkt.cli.settings import Settings

Verdict = Literal["ok", "limited", "missing"]
_MIN_KERNEL = (5, 12)
"""mount_setattr(2), the youngest call that stage1 cannot do without."""
_MIN_DISK = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing that pyrkt uses, whether this host has it, and what to do if not."""

    name: str
    verdict: Verdict
    detail: str
    remedy: str = ""


def _fact(name: str, good: bool, detail: str, remedy: str, *, otherwise: Verdict = "missing") -> Fact:
    return Fact(name=name, verdict="ok" if good else otherwise, detail=detail, remedy="" if good else remedy)


def examine(settings: Settings) -> Iterator[Fact]:
    """Yield every fact about this host."""
    yield _kernel()
    yield from _calls()
    yield from _namespaces()
    yield from _cgroups()
    yield from _overlay()
    yield from _confinement()
    yield from _rootless()
    yield _capabilities()
    yield from _programs()
    yield from _networks(settings)
    yield from _files(settings)


def _kernel() -> Fact:
    release = os.uname().release
    numbers = tuple(int(word) for word in release.split("-")[0].split(".")[:2] if word.isdigit())
    wanted = ".".join(map(str, _MIN_KERNEL))
    return _fact("kernel", numbers >= _MIN_KERNEL, f"Linux {release}", f"boot Linux {wanted} or later")


def _tried(deed: Callable[[], object]) -> str:
    """Do ``deed``; return what went wrong, or "". A descriptor that it gives is closed."""
    try:
        result = deed()
    except (PyrktError, OSError) as error:
        return getattr(error, "strerror", "") or str(error)
    if isinstance(result, int) and result > 2:
        os.close(result)
    return ""


def in_child(deed: Callable[[], object]) -> str:
    """Do ``deed`` in a child process, so that nothing of it stays; return what went wrong, or ""."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        problem = "it failed"
        try:
            problem = _tried(deed)
        finally:
            os.write(write, problem.encode())
            os._exit(0)
    os.close(write)
    with open(read, encoding="utf-8", errors="replace") as answer:
        problem = answer.read()
    os.waitpid(child, 0)
    return problem


def _calls() -> Iterator[Fact]:
    def beneath() -> None:
        directory = os.open("/", os.O_PATH | os.O_DIRECTORY)
        try:
            os.close(paths.open_beneath(directory, "proc", os.O_PATH))
        finally:
            os.close(directory)

    problem = _tried(beneath)
    yield _fact("openat2", not problem, problem or "paths cannot leave an image's root", "boot Linux 5.6 or later")

    def mounted() -> int:
        _own_namespaces()
        return mount.new_filesystem("tmpfs")

    problem = in_child(mounted)
    yield _fact("mount API", not problem, problem or "fsopen, open_tree, mount_setattr", "boot Linux 5.12 or later")


def _own_namespaces() -> None:
    """Enter a new mount namespace, through a user namespace where that needs one."""
    if ids.needs_user_namespace():
        _own_user_namespace()
    namespaces.unshare(namespaces.CLONE_NEWNS)


def _own_user_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    namespaces.unshare(namespaces.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def _namespaces() -> Iterator[Fact]:
    user = in_child(_own_user_namespace)
    remedy = (
        "sysctl user.max_user_namespaces=15000, and kernel.apparmor_restrict_unprivileged_userns=0 where that exists"
    )
    yield _fact("user namespaces", not user, user or "pods can run without root", remedy, otherwise="limited")
    for kind, flag in namespaces.FLAGS.items():
        if kind in ("user", "time"):
            continue

        def enter(flag: int = flag) -> None:
            if ids.needs_user_namespace():
                _own_user_namespace()
            namespaces.unshare(flag)

        problem = in_child(enter)
        yield _fact(
            f"{kind} namespaces",
            not problem,
            problem or "can be made",
            "run as root, outside of a restricted container",
        )


def _cgroups() -> Iterator[Fact]:
    mounts = cgroups.probe()
    yield _fact("cgroups", mounts.mode != "none", f"version: {mounts.mode}", "mount cgroup2 on /sys/fs/cgroup")
    for name, v2 in (("memory", "memory"), ("cpu", "cpu"), ("pids", "pids"), ("blkio", "io"), ("devices", "")):
        hierarchy = mounts.find(name)
        place = hierarchy.mount if hierarchy else ""
        if not place and mounts.unified and (v2 in mounts.controllers or not v2):
            place = mounts.unified.mount
        usable = bool(place) and os.access(place, os.W_OK)
        detail = f"in {place}" if place else "in no hierarchy"
        yield _fact(
            f"controller {name}",
            usable,
            detail if usable or not place else f"{detail}, which you may not write to",
            "run as root, or have a cgroup delegated: systemd-run --user --scope -p Delegate=yes",
            otherwise="limited" if place else "missing",
        )


def _overlay() -> Iterator[Fact]:
    # Directories that nobody mounts on: a lower directory in a user namespace may have no mounts of others below it.
    package = Path(__file__).parents[1]
    lower: tuple[str, str | None] = ("lowerdir", f"{package}/cli:{package}/base")

    def stack() -> int:
        _own_namespaces()
        return mount.new_filesystem("overlay", (lower,))

    problem = in_child(stack)
    yield _fact(
        "overlayfs",
        not problem,
        problem or "images are stacked, not copied",
        "modprobe overlay; or --no-overlay",
        otherwise="limited",
    )

    def in_userns() -> int:
        _own_user_namespace()
        namespaces.unshare(namespaces.CLONE_NEWNS)
        return mount.new_filesystem("overlay", (lower, ("userxattr", None)))

    problem = in_child(in_userns)
    yield _fact(
        "overlayfs in user namespaces",
        not problem,
        problem or "works",
        "boot Linux 5.11 or later; or --no-overlay",
        otherwise="limited",
    )


def _confinement() -> Iterator[Fact]:
    actions = cgroups.read_text("/proc/sys/kernel/seccomp/actions_avail")
    yield _fact("seccomp", bool(actions), actions or "not in this kernel", "boot a kernel with CONFIG_SECCOMP_FILTER")
    library = any(Path(place).glob("libseccomp.so.2") for place in ("/lib", "/usr/lib", "/lib64", "/usr/lib64")) or any(
        Path("/usr/lib").glob("*/libseccomp.so.2")
    )
    yield _fact(
        "libseccomp", library, "compiles the filters" if library else "not found", "apt-get install libseccomp2"
    )
    names = cgroups.read_text("/sys/kernel/security/lsm")
    yield _fact(
        "LSMs",
        bool(names),
        names or "none known",
        "none needed; AppArmor or SELinux profiles cannot be used here",
        otherwise="limited",
    )


def _rootless() -> Iterator[Fact]:
    import pwd

    if os.geteuid() == 0:
        return
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        name = str(os.geteuid())
    ranges = [
        line
        for line in cgroups.read_text("/etc/subuid").splitlines()
        if line.partition(":")[0] in (name, str(os.geteuid()))
    ]
    helper = shutil.which("newuidmap")
    good = bool(ranges and helper)
    detail = ", ".join(ranges) if ranges else f"no range for {name} in /etc/subuid"
    yield _fact(
        "subordinate ids",
        good,
        detail if helper else f"{detail}; no newuidmap",
        f"apt-get install uidmap; usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}",
        otherwise="limited",
    )


def _capabilities() -> Fact:
    try:
        import prctl
    except ImportError:
        return Fact(
            name="capabilities",
            verdict="limited",
            detail="python-prctl is not installed",
            remedy="pip install python-prctl",
        )
    wanted = (
        "chown",
        "dac_override",
        "mknod",
        "net_admin",
        "setfcap",
        "setgid",
        "setuid",
        "sys_admin",
        "sys_chroot",
        "sys_resource",
    )
    lacking = [name for name in wanted if not getattr(prctl.cap_effective, name)]
    return _fact(
        "capabilities",
        not lacking,
        f"without {', '.join(f'CAP_{name.upper()}' for name in lacking)}" if lacking else "all that pyrkt uses",
        "run as root, outside of a restricted container",
        otherwise="limited",
    )


def _programs() -> Iterator[Fact]:
    for name, use, package in (
        ("gpgv", "OpenPGP signatures of older forms", "gpgv"),
        ("gpg", "keys and passphrases", "gnupg"),
    ):
        found = shutil.which(name)
        yield _fact(name, bool(found), found or f"for {use}", f"apt-get install {package}", otherwise="limited")
    from pyrkt.stage1 import launch

    binary = Path(launch.binary())
    yield _fact("stage1", os.access(binary, os.X_OK), str(binary), "install pyrkt anew: the wheel builds it")


def _networks(settings: Settings) -> Iterator[Fact]:
    """What --net can have here: CNI's plugins for root, a helper for others."""
    if os.geteuid() != 0:
        yield from _user_networks()
        return
    places = network.places(settings.dirs)
    found = {kind: _tried_path(partial(plugin.find, kind, places)) for kind in _PLUGINS}
    lacking = [kind for kind, path in found.items() if not path]
    yield _fact(
        "network plugins",
        not lacking,
        f"without {', '.join(lacking)}" if lacking else os.path.dirname(found["ptp"]),
        "apt-get install containernetworking-plugins; or put them into /opt/cni/bin",
        otherwise="limited",
    )
    tables = shutil.which("iptables")
    yield _fact(
        "iptables",
        bool(tables),
        tables or "no masquerading, and no published ports",
        "apt-get install iptables",
        otherwise="limited",
    )
    try:
        names = [each.name for each in network.networks(settings.dirs)]
    except PyrktError as error:
        yield _fact("networks", good=False, detail=error.message, remedy="mend the file", otherwise="limited")
        return
    yield Fact(name="networks", verdict="ok", detail=", ".join([*names, *modes.OWN]))


_PLUGINS = ("ptp", "host-local", "portmap", "bridge", "bandwidth")


def _tried_path(find: Callable[[], str]) -> str:
    try:
        return find()
    except PyrktError:
        return ""


def _user_networks() -> Iterator[Fact]:
    helper = _tried_path(usermode.find)
    yield _fact(
        "networks without root",
        bool(helper),
        helper or "neither pasta nor slirp4netns: --net=none and --net=host only",
        "apt-get install passt slirp4netns",
        otherwise="limited",
    )
    problem = _tried(lambda: os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    yield _fact(
        "/dev/net/tun",
        not problem,
        problem or "can be opened",
        "chmod 666 /dev/net/tun, as udev has it; modprobe tun where it is missing",
        otherwise="limited",
    )


def _files(settings: Settings) -> Iterator[Fact]:
    place = Path(settings.data)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    yield _fact(
        "disk space",
        free >= _MIN_DISK,
        f"{human_bytes(free)} free for {settings.data}",
        "pyrkt gc; pyrkt image gc",
        otherwise="limited",
    )
    keys = sum(
        1 for top in settings.dirs.lightest_first() for file in Path(top, "trustedkeys").glob("**/*") if file.is_file()
    )
    yield _fact("trust store", keys > 0, f"{keys} keys", "pyrkt trust --prefix=example.com/app", otherwise="limited")
    policies = [
        *(Path(top, "policy.json") for top in settings.dirs.lightest_first()),
        Path("/etc/containers/policy.json"),
    ]
    found = next((file for file in policies if file.is_file()), None)
    yield _fact(
        "policy.json",
        found is not None,
        str(found) if found else "none: docker:// images need --insecure-options=image",
        f"write {settings.dirs.local}/policy.json (containers-policy.json(5))",
        otherwise="limited",
    )
