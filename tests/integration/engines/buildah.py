"""buildah with a store of its own."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.integration.engines.compare import RUNC, RUNTIMES, must, program
from tests.integration.engines.engine import Engine

if TYPE_CHECKING:
    from tests.integration.engines.place import Place


class Buildah(Engine):
    """buildah's command line; it names no cgroup, so a container's is its runtime's own choice."""

    image = "localhost/pyrkt-test"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        for label in RUNTIMES:
            must(self(label, "from", "--name", label, "scratch"))
            must(self(label, "add", label, str(place.archive()), "/"))
        must(self(RUNC, "commit", RUNC, self.image))

    def words(self, label: str, *words: str) -> list[str]:
        """Return a command line; the runtime is an option of the commands that run something."""
        del label
        where = [f"--{name}={self.base}/{name}" for name in ("root", "runroot")]
        return ["buildah", *where, "--storage-driver=overlay", *words]

    def create(self, label: str, verb: str, *words: str) -> list[str]:
        """Return the words of a command that runs something in containers of that runtime."""
        return [verb, f"--runtime={program(label)}", "--isolation=oci", "--network=none", *words]

    def end(self) -> None:
        """Remove the working containers."""
        must(self(RUNC, "rm", "--all"))
        subprocess.run(self.place.enter("umount", "-q", f"{self.base}/root/overlay"), check=False)
