"""podman as an ordinary user with subordinate ids, who needs no account: files that name him cover those of /etc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tests.integration.engines.compare import OURS, RUNC, RUNTIMES, call, must, program
from tests.integration.engines.engine import Engine
from tests.support.user import install

if TYPE_CHECKING:
    from tests.integration.engines.place import Place

UID, NAME = 54341, "pyrkt-engine-user"
RANGE = (1 << 29) + (1 << 20), 65536
"""Others of our tests have other users and other ranges."""


class RootlessPodman(Engine):
    """podman's command line as the user; pyrkt is copied to where he can reach it."""

    image = "localhost/pyrkt-test"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.home, self.run_directory = self.base / "home", self.base / "run"
        for directory in (self.home, self.run_directory):
            directory.mkdir(mode=0o700)
            os.chown(directory, UID, UID)
        self.env |= {"HOME": str(self.home), "TMPDIR": str(self.home), "XDG_RUNTIME_DIR": str(self.run_directory)}
        self.programs = {RUNC: program(RUNC), OURS: str(install(self.base / "installed") / "pyrkt-oci")}
        conf = self.base / "containers.conf"
        conf.write_text('[engine]\nlock_type = "file"\n')  # else the locks stay behind in /dev/shm
        self.env["CONTAINERS_CONF"] = str(conf)
        self._name_him()
        archive = place.archive()
        archive.chmod(0o644)
        must(self(RUNC, "import", str(archive), self.image))

    def _name_him(self) -> None:
        files = {
            "passwd": Path("/etc/passwd").read_text() + f"{NAME}:x:{UID}:{UID}::{self.home}:/bin/sh\n",
            "group": Path("/etc/group").read_text() + f"{NAME}:x:{UID}:\n",
            **dict.fromkeys(("subuid", "subgid"), f"{NAME}:{RANGE[0]}:{RANGE[1]}\n"),
        }
        for name, text in files.items():
            file = self.base / name
            file.write_text(text)
            must(call(self.place.enter("mount", "--bind", str(file), f"/etc/{name}")))

    def words(self, label: str, *words: str) -> list[str]:
        """Return a command line as the user; ``label`` is the runtime's."""
        who = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups")
        options = ("--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=file")
        return [*who, "podman", *options, f"--runtime={self.programs[label]}", *words]

    def create(self, label: str, verb: str, *words: str) -> list[str]:
        """Return the words of a command that makes a container."""
        del label
        network = () if "--network=host" in words else ("--network=none",)
        return [verb, *network, "--pull=never", *words]

    def end(self) -> None:
        """Remove every container, and the process that keeps the user's namespaces."""
        for label in RUNTIMES:
            must(self(label, "rm", "--all", "--force", "--time=0"))
        must(self(RUNC, "system", "migrate"))

    def processes(self) -> list[str]:
        """Return what runs as the user or as one of his subordinate ids."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                uid = entry.stat().st_uid if entry.name.isdigit() else 0
            except OSError:
                continue
            if uid == UID or RANGE[0] <= uid < sum(RANGE):
                found.append(entry.name)
        return found
