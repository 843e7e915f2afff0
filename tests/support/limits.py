"""Containers whose cgroups a test looks into: where they are, in either version, and what their files say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.oci import eventually

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Answer, Runtime

TOP = Path("/sys/fs/cgroup")


def detached(runtime: Runtime, box: Bundle, *words: str, **options: Any) -> str:
    """Run the bundle in the background, in the cgroup /pyrkt-test-.../box of its own; return its id."""
    name = runtime.new_id()
    answer = tried(runtime, box, name, *words, **options)
    assert answer.code == 0, answer.err
    return name


def tried(runtime: Runtime, box: Bundle, name: str, *words: str, **options: Any) -> Answer:
    """Try to; the bundle's own cgroupsPath is kept."""
    box.config["linux"].setdefault("cgroupsPath", f"/{name}")
    box.save()
    return runtime.detached("run", "-d", *words, "--bundle", str(box.path), name, **options)


def place(box: Bundle, controller: str) -> Path:
    """Return the directory of the container's cgroup where ``controller`` is."""
    path = str(box.config["linux"]["cgroupsPath"]).lstrip("/")
    return (TOP / controller if (TOP / controller / "cgroup.procs").exists() else unified()) / path


def unified() -> Path:
    """Return where version 2 is mounted."""
    return TOP if (TOP / "cgroup.controllers").exists() else TOP / "unified"


def read(box: Bundle, controller: str, file: str) -> str:
    """Return what a file of the container's cgroup says."""
    return (place(box, controller) / file).read_text().strip()


def stored(runtime: Runtime, name: str) -> dict[str, Any]:
    """Return linux.resources as the runtime remembers them."""
    found = json.loads((runtime.root / name / "config.json").read_text())["linux"]["resources"]
    assert isinstance(found, dict)
    return found


def stops(runtime: Runtime, name: str) -> bool:
    """Tell whether the container stops by itself."""
    return eventually(lambda: runtime.state(name)["status"] == "stopped")
