"""A container that runs while a test looks at it, and what is executed in it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.bundle import Bundle
    from tests.support.oci import Answer, Runtime


def started(runtime: Runtime, box: Bundle) -> str:
    """Run the bundle detached; return the container's id."""
    name = runtime.new_id()
    answer = runtime.detached("run", "--detach", "--bundle", str(box.save().path), name)
    assert answer.code == 0, answer.err
    return name


def executed(runtime: Runtime, name: str, *words: str) -> str:
    """Return what a program prints that runs in the container ``name``."""
    answer = runtime.call("exec", name, *words)
    assert answer.code == 0, answer.err
    return answer.out


def executed_process(runtime: Runtime, directory: Path, name: str, **process: Any) -> Answer:
    """Execute a process.json with these members."""
    path = directory / "process.json"
    path.write_text(json.dumps({"cwd": "/", "env": ["PATH=/bin"]} | process))
    return runtime.call("exec", "--process", str(path), name)


def built(source: str, target: Path) -> None:
    """Compile a C program, static, for a root without libraries."""
    subprocess.run(
        ["cc", "-static", "-O1", "-x", "c", "-", "-o", str(target)], input=source, text=True, check=True, timeout=60
    )
