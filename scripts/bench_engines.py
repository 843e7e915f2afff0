"""Docker and containerd as Debian has them, with roots and sockets of their own, for the time of a measurement."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

IMAGE = "registry.test/bench:latest"
_START_S, _END_S = 60.0, 30.0
_LIMITS = ("nofile=1024:1024", "nproc=1000:1000")
"""Within what a caller without CAP_SYS_RESOURCE may give."""


@contextlib.contextmanager
def engines(place: Path, rootfs: Path) -> Iterator[tuple[list[str], list[str]]]:
    """Run both; yield the beginnings of the commands that reach them. Each has ``IMAGE``, made of ``rootfs``."""
    place.mkdir()
    containerd, docker = place / "containerd.sock", place / "docker.sock"
    config = place / "containerd.toml"
    config.write_text(
        f'version = 2\nroot = "{place}/c-root"\nstate = "{place}/c-state"\n'
        f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{containerd}"\n'
    )
    limits = [f"--default-ulimit={limit}" for limit in _LIMITS]
    dockerd = ["dockerd", "--containerd", str(containerd), "-H", f"unix://{docker}", "--data-root", f"{place}/d-root"]
    dockerd += ["--exec-root", f"{place}/d-exec", "--pidfile", f"{place}/d.pid", "--bridge", "none", "--iptables=false"]
    dockerd += ["--ip6tables=false", "--storage-driver", "overlay2", *limits]
    ctr = ["ctr", "--address", str(containerd), "--namespace", "bench"]
    client = ["docker", "-H", f"unix://{docker}"]
    with contextlib.ExitStack() as stack:
        stack.callback(_sweep, place)
        stack.enter_context(_running(["containerd", "--config", str(config)], lambda: _answers([*ctr, "version"])))
        stack.enter_context(_running(dockerd, lambda: _answers([*client, "version"])))
        tar = place / "image.tar"
        for command in (
            ["tar", "-C", str(rootfs), "-cf", str(tar), "."],
            [*client, "import", str(tar), IMAGE],
            [*client, "save", "-o", f"{place}/saved.tar", IMAGE],
            [*ctr, "images", "import", f"{place}/saved.tar"],
        ):
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        yield client, ctr


def _answers(command: list[str]) -> bool:
    return subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


@contextlib.contextmanager
def _running(command: list[str], ready: Callable[[], bool]) -> Iterator[None]:
    # conmon's and the shims' own variables do not matter here; a proxy's would
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as daemon:
        try:
            deadline = time.monotonic() + _START_S
            while not ready():
                if daemon.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"bench: {command[0]} does not start")
                time.sleep(0.05)
            yield
        finally:
            daemon.terminate()
            try:
                daemon.wait(_END_S)
            except subprocess.TimeoutExpired:
                daemon.kill()


def _sweep(place: Path) -> None:
    """Unmount what the daemons have left below ``place``."""
    with open("/proc/self/mountinfo", encoding="utf-8") as lines:
        points = [line.split()[4] for line in lines]
    for point in sorted((p for p in points if p.startswith(f"{place}/")), reverse=True):
        subprocess.run(["umount", "--lazy", point], check=False)
    shutil.rmtree(place, ignore_errors=True)
