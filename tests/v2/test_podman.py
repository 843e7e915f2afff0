"""podman with ``--cgroup-manager=systemd``: what it makes of a container's unit, and what we make of its calls."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.support import bundle, oci
from tests.support.oci import LAUNCHER, shell
from tests.v2.test_systemd import shown


def test_podman_with_its_systemd_manager(tmp_path: Path) -> None:
    root = bundle.make_root(tmp_path / "root")
    subprocess.run(["tar", "-C", str(root), "-cf", str(tmp_path / "root.tar"), "."], check=True)
    run = Path(tempfile.mkdtemp(dir="/run"))  # podman wants it shorter than pytest's
    store = ("podman", "--root", str(tmp_path / "store"), "--runroot", str(run))
    own = ("--tmpdir", str(tmp_path / "tmp"), "--storage-driver", "vfs", "--events-backend", "file")
    command = (*store, *own, "--cgroup-manager", "systemd", "--runtime", LAUNCHER[0])
    words = [*command, "import", str(tmp_path / "root.tar"), "pyrkt-test-image"]
    imported = subprocess.run(words, check=False, capture_output=True)
    assert imported.returncode == 0, imported.stderr
    try:
        limits = ("--memory", "64m", "--pids-limit", "50", "--cgroup-parent", "machine.slice", "--network", "none")
        name = shell([*command, "run", "-d", *limits, "pyrkt-test-image", "sleep", "300"]).strip()
        unit = f"libpod-{name}.scope"
        assert shown(unit, "ActiveState", "MemoryMax", "TasksMax", "Slice") == {
            "ActiveState": "active",
            "MemoryMax": str(64 << 20),
            "TasksMax": "50",
            "Slice": "machine.slice",
        }
        assert shell([*command, "exec", name, "echo", "inside"]) == "inside\n"
        shell([*command, "rm", "-f", "-t", "0", name])
        assert oci.eventually(lambda: shown(unit, "LoadState") == {"LoadState": "not-found"})
    finally:
        shell([*command, "rm", "-f", "-a", "-t", "0"])
        shutil.rmtree(run)
