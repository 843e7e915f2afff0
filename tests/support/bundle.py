"""OCI bundles to run: a busybox root and a config.json that every runtime takes."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUSYBOX = Path("/bin/busybox")
APPLETS = (
    *("sh", "true", "false", "cat", "ls", "id", "sleep", "echo", "stat", "grep", "mount", "ps", "kill", "tty", "env"),
    *("mknod", "mkdir", "rm", "touch", "dd", "stty", "readlink", "hostname", "test", "wc", "head", "chmod"),
)
NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")
CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]


@dataclass
class Bundle:
    """A bundle on disk: change ``config`` as you like, then ``save`` it."""

    path: Path
    config: dict[str, Any]

    @property
    def rootfs(self) -> Path:
        """The root file system."""
        return self.path / "rootfs"

    def save(self) -> Bundle:
        """Write config.json."""
        (self.path / "config.json").write_text(json.dumps(self.config, indent=1))
        return self

    def runs(self, *args: str) -> Bundle:
        """Set the command and write config.json."""
        self.config["process"]["args"] = list(args)
        return self.save()

    def script(self, text: str) -> Bundle:
        """Let a shell run ``text``."""
        return self.runs("/bin/sh", "-c", text)


def make_root(directory: Path) -> Path:
    """Make a root file system of one static program and its names."""
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp", "root", "var"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    shutil.copy2(os.path.realpath(BUSYBOX), directory / "bin/busybox")
    for applet in APPLETS:
        (directory / "bin" / applet).symlink_to("busybox")
    (directory / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n")
    return directory


def default_config(*args: str) -> dict[str, Any]:
    """Return the configuration of a usual container without a terminal."""
    nodev = ["nosuid", "noexec", "nodev"]
    return {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "box",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": list(args),
            "env": ["PATH=/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                kind: list(CAPABILITIES) for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")
            }
            | {"inheritable": [], "ambient": []},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}],
            "noNewPrivileges": True,
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            },
            {
                "destination": "/dev/shm",
                "type": "tmpfs",
                "source": "shm",
                "options": [*nodev, "mode=1777", "size=65536k"],
            },
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": nodev},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*nodev, "ro"]},
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in NAMESPACES],
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


def make(directory: Path, *args: str) -> Bundle:
    """Make a bundle below ``directory`` that runs ``args`` (``true`` if none are given)."""
    directory.mkdir(parents=True, exist_ok=True)
    make_root(directory / "rootfs")
    return Bundle(path=directory, config=default_config(*(args or ("true",)))).save()
