"""What podman and docker have in common on their command lines, with one runtime or another under them."""

from __future__ import annotations

import json
import os
import uuid
from typing import TYPE_CHECKING, Any

from tests.integration.engines.compare import call, kind, must, plain
from tests.integration.engines.console import Console

if TYPE_CHECKING:
    from tests.integration.engines.place import Place
    from tests.support.oci import Answer


class Engine:
    """An engine that keeps everything in ``place``; subclasses say what its command lines are."""

    image = "pyrkt-test"

    def __init__(self, place: Place) -> None:
        self.place = place
        self.base = place.base
        self.env = {
            "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",
            "HOME": str(self.base),
            "TMPDIR": str(self.base),
        }
        (self.base / "data").mkdir()
        (self.base / "data/file").write_text("of the host\n")

    def words(self, label: str, *words: str) -> list[str]:
        """Return a command line; ``label`` is the runtime's."""
        raise TypeError(f"not said for {label}: {words}")

    def create(self, label: str, verb: str, *words: str) -> list[str]:
        """Return the words of a command that makes a container of that runtime."""
        raise TypeError(f"not said for {label}: {verb} {words}")

    def __call__(self, label: str, *words: str, text: str = "") -> Answer:
        """Run a command to its end."""
        return call(self.place.enter(*self.words(label, *words)), env=self.env, text=text)

    def run(self, label: str, *words: str) -> Answer:
        """Run a container in the foreground, and remove it."""
        return self(label, *self.create(label, "run", "--rm", *words))

    def started(self, label: str, *words: str) -> Box:
        """Start a container in the background."""
        name = f"{label}-{uuid.uuid4().hex[:8]}"
        must(self(label, *self.create(label, "run", "--detach", "--name", name, *words)))
        return Box(self, label, name)

    def console(self, label: str, *words: str) -> Console:
        """Run a command at a terminal."""
        return Console(self.place.enter(*self.words(label, *words)), self.env)


class Box:
    """A container that somebody works with; its name in what is said of it is made the same for every runtime."""

    def __init__(self, engine: Engine, label: str, name: str) -> None:
        self.engine, self.label, self.name = engine, label, name

    def do(self, command: str, *words: str, text: str = "") -> tuple[int, str, tuple[str, ...]]:
        """Run a command with its options on the container; return code, output, and the kind of the complaint."""
        answer = self.engine(self.label, *command.split(), self.name, *words, text=text)
        code, out = plain(answer)
        return code, out.replace(self.name, "NAME"), kind(answer)[1]

    def inspect(self) -> dict[str, Any]:
        """Return what the engine knows of it."""
        found = json.loads(must(self.engine(self.label, "inspect", self.name)))[0]
        assert isinstance(found, dict)
        return found

    def state(self, *members: str) -> dict[str, Any]:
        """Return what the engine says of its state."""
        found = self.inspect()["State"]
        return {member: found[member] for member in members}
