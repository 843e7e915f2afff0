"""podman with a store, a run directory and a configuration of its own."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.integration.engines.compare import OURS, RUNC, RUNTIMES, must, program
from tests.integration.engines.engine import Engine

if TYPE_CHECKING:
    from tests.integration.engines.place import Place

_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
netns = "none"
init_path = "/usr/bin/catatonit"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
{more}
[engine.runtimes]
runc = ["{runc}"]
pyrkt-oci = ["{ours}"]
"""


class Podman(Engine):
    """podman's command line with the directories of one place, and one runtime or another."""

    image = "localhost/pyrkt-test"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.configure("")
        must(self(RUNC, "import", str(place.archive()), self.image))

    def configure(self, more: str, name: str = "containers.conf") -> None:
        """Use a containers.conf with these further lines in its section [engine]."""
        conf = self.base / name
        conf.write_text(_CONF.format(runc=program(RUNC), ours=program(OURS), more=more))
        self.env["CONTAINERS_CONF"] = str(conf)

    def words(self, label: str, *words: str) -> list[str]:
        """Return a command line; ``label`` is the runtime's."""
        where = [f"--{name}={self.base}/{name}" for name in ("root", "runroot", "tmpdir")]
        return ["podman", *where, "--storage-driver=overlay", f"--runtime={program(label)}", *words]

    def create(self, label: str, verb: str, *words: str) -> list[str]:
        """Return the words of a command that makes a container in this place's cgroup, or in its pod's."""
        del label
        parent = () if "--pod" in words else (f"--cgroup-parent=/{self.place.cgroup}",)
        return [verb, *parent, "--pull=never", *words]

    def end(self) -> None:
        """Remove every container and pod."""
        for label in RUNTIMES:
            must(self(label, "pod", "rm", "--all", "--force", "--time=0"))
            must(self(label, "rm", "--all", "--force", "--time=0"))
        # Where podman keeps overlays from being seen elsewhere; it often stays mounted for the next podman.
        subprocess.run(self.place.enter("umount", "-q", f"{self.base}/root/overlay"), check=False)
