"""dockerd, and the containerd it starts, with roots and sockets of their own."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.integration.engines.compare import OURS, RUNC, must, program
from tests.integration.engines.engine import Engine
from tests.support.oci import eventually

if TYPE_CHECKING:
    from tests.integration.engines.place import Place

_RUNTIMES = {OURS: "pyrkt", RUNC: "runc"}
"""dockerd's names of them."""
_START_S = 60.0
# Debian's own client: a machine may have another one besides.
CLIENT = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else "docker"


class Docker(Engine):
    """docker's command line and its daemon, which starts without a bridge and changes no firewall."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.env["DOCKER_CONFIG"] = str(self.base / "client")
        self.socket = self.base / "docker.sock"
        self.log = self.base / "docker.log"
        (self.base / "daemon.json").write_text("{}")
        with self.log.open("w") as log:
            words = place.enter(*self._daemon_words())
            self.daemon = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env)
        ready = eventually(lambda: self(RUNC, "version").code == 0, _START_S)
        assert ready, self.log.read_text()[-3000:]
        must(self(RUNC, "import", str(place.archive()), self.image))

    def _daemon_words(self) -> list[str]:
        program_path = shutil.which("dockerd", path=self.env["PATH"])
        assert program_path, "dockerd is not installed: apt-get install docker.io"
        base = self.base
        return [
            *(program_path, "--config-file", f"{base}/daemon.json", "--host", f"unix://{self.socket}"),
            *("--data-root", f"{base}/data-root", "--exec-root", f"{base}/exec", "--pidfile", f"{base}/docker.pid"),
            *("--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"),
            *("--storage-driver", "overlay2", "--cgroup-parent", f"/{self.place.cgroup}"),
            *("--default-ulimit", "nofile=1024:1024", "--default-ulimit", "nproc=1000:1000"),
            *("--oom-score-adjust", "0", "--add-runtime", f"{_RUNTIMES[OURS]}={program(OURS)}"),
        ]

    def words(self, label: str, *words: str) -> list[str]:
        """Return a command line; the runtime is said when a container is made."""
        del label
        return [CLIENT, "--host", f"unix://{self.socket}", *words]

    def create(self, label: str, verb: str, *words: str) -> list[str]:
        """Return the words of a command that makes a container of that runtime, without a network if none is named."""
        network = () if any(word.startswith("--net") for word in words) else ("--network=none",)
        return [verb, f"--runtime={_RUNTIMES[label]}", *network, *words]

    def end(self) -> None:
        """Remove every container and stop the daemon, which stops its containerd."""
        names = must(self(RUNC, "ps", "--all", "--quiet")).split()
        if names:
            must(self(RUNC, "rm", "--force", *names))
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait(30)
        # What dockerd leaves mounted of its own: the directory of network namespaces.
        for target in self.place.mounts():
            if "/exec/netns/" in target or target.endswith("/data-root"):
                subprocess.run(self.place.enter("umount", target), check=False)
