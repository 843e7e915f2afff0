"""containerd with a root, a state and a socket of its own, its client ctr, and its CRI plugin with both runtimes."""

from __future__ import annotations

import shutil
import signal
import subprocess
import uuid
from typing import TYPE_CHECKING

from tests.integration.engines.archive import pack
from tests.integration.engines.compare import RUNTIMES, must, program
from tests.integration.engines.engine import Engine
from tests.support.oci import Answer, eventually

if TYPE_CHECKING:
    from tests.integration.engines.place import Place

_START_S = 60.0
_CONFIG = """
version = 2
root = "{base}/root"
state = "{base}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt"]
[grpc]
address = "{base}/c.sock"
[debug]
address = "{base}/debug.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
netns_mounts_under_state_dir = true
restrict_oom_score_adj = true
stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{base}/cni"
conf_dir = "{base}/cni"
"""
_RUNTIME = """
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{label}]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{label}.options]
BinaryName = "{program}"
SystemdCgroup = false
"""
# Both networks of a pod: a loopback, and an interface that leads nowhere.
_NETWORK = """#!/bin/sh
case $CNI_COMMAND in
VERSION) echo '{"cniVersion": "0.3.1", "supportedVersions": ["0.3.1"]}'; exit ;;
ADD) ;;
*) exit 0 ;;
esac
if [ "${0##*/}" = loopback ]; then
  nsenter --net="$CNI_NETNS" ip link set lo up
else
  nsenter --net="$CNI_NETNS" ip link add "$CNI_IFNAME" type veth peer name "${CNI_IFNAME}x"
fi >&2 || exit 1
printf '{"cniVersion": "0.3.1", "interfaces": [{"name": "%s", "sandbox": "%s"}],' "$CNI_IFNAME" "$CNI_NETNS"
echo '"ips": [{"version": "4", "interface": 0, "address": "10.88.0.2/24"}]}'
"""


class Containerd(Engine):
    """ctr's command line and its daemon; the namespace of ctr's containers is their cgroup's name, too."""

    image = "registry.test/pyrkt/box:1"
    pause = "registry.test/pyrkt/pause:1"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.socket = self.base / "c.sock"
        self.log = self.base / "log"
        self._configure()
        program_path = shutil.which("containerd", path=self.env["PATH"])
        assert program_path, "containerd is not installed: apt-get install containerd"
        words = place.enter(program_path, "--config", f"{self.base}/config.toml")
        with self.log.open("w") as log:
            self.daemon = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env)
        ready = eventually(lambda: self("", "version").code == 0, _START_S)
        assert ready, self.log.read_text()[-3000:]
        for name, command in ((self.image, ["sh"]), (self.pause, ["sleep", "infinity"])):
            file = pack(self.base / "image.tar", place.archive(), name, command)
            for namespace in (place.cgroup, "k8s.io"):
                must(self("", "--namespace", namespace, "images", "import", "--no-unpack", str(file)))

    def _configure(self) -> None:
        text = _CONFIG.format(base=self.base, pause=self.pause)
        for label in RUNTIMES:
            text += _RUNTIME.format(label=label, program=program(label))
        (self.base / "config.toml").write_text(text)
        directory = self.base / "cni"
        directory.mkdir()
        (directory / "10-nowhere.conf").write_text('{"cniVersion": "0.3.1", "name": "nowhere", "type": "nowhere"}')
        for name in ("nowhere", "loopback"):
            (directory / name).write_text(_NETWORK)
            (directory / name).chmod(0o755)

    def words(self, label: str, *words: str) -> list[str]:
        """Return a command line; the runtime is said when a container is made."""
        del label
        return ["ctr", "--address", str(self.socket), "--namespace", self.place.cgroup, *words]

    def create(self, label: str, verb: str, *words: str) -> list[str]:
        """Return the words of a command that makes a container of that runtime."""
        return [verb, "--runc-binary", program(label), "--runc-root", f"{self.base}/{label}", *words]

    def logged(self, label: str, *words: str) -> Answer:
        """Run a command, the first of ``words`` up to "--", whose program writes to a file instead of to ctr.

        ctr 1.6 stops reading when it hears of the end, and so loses the output of what ends soon after it began.
        """
        at = words.index("--")
        log = self.base / f"out-{uuid.uuid4().hex}"
        answer = self(label, *words[:at], "--log-uri", f"file://{log}", *words[at + 1 :])
        return Answer(answer.code, log.read_text() if log.exists() else "", answer.err)

    def end(self) -> None:
        """Remove every container and stop the daemon."""
        for name in must(self("", "containers", "list", "--quiet")).split():
            # Of a container that a failed test left: ctr run --rm removes its own when its task has gone.
            self("", "tasks", "delete", "--force", name)
            self("", "containers", "delete", name)
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait(30)
