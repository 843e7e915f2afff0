"""The validator's two images, and one of ours that looks at what it does not check; made by actool and without it.

Source: appc 0.8.11, spec/aci.md; what the manifests must say is compiled into the validator.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Any

MAIN, SIDEKICK, PROBE = "ace-validator-main", "ace-validator-sidekick", "probe"
VARIABLE = ("IN_ACE_VALIDATOR", "correct")
DIRECTORY = "/opt/acvalidator"
_LABELS = {"version": "0.8.11", "os": "linux", "arch": {"aarch64": "aarch64"}.get(os.uname().machine, "amd64")}


def _listed(pairs: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in pairs.items()]


def manifest(name: str, app: dict[str, Any], annotations: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the manifest of the image example.com/NAME; without a user of its own it runs as root."""
    value = {
        "acKind": "ImageManifest",
        "acVersion": "0.8.11",
        "name": f"example.com/{name}",
        "labels": _listed(_LABELS),
        "app": {"user": "0", "group": "0"} | app,
    }
    return value | ({"annotations": _listed(annotations)} if annotations else {})


def manifests() -> dict[str, dict[str, Any]]:
    """Return the image manifests by the names that their apps will have."""
    # In actool's own words (no readOnly that is false, a port with all of its members), so that both can be compared.
    database = {"name": "database", "path": "/db"}
    www = {"name": "www", "protocol": "tcp", "port": 80, "count": 1, "socketActivated": False}
    main = {
        "exec": ["/ace-validator", "main"],
        "eventHandlers": [
            {"name": "pre-start", "exec": ["/ace-validator", "prestart"]},
            {"name": "post-stop", "exec": ["/ace-validator", "poststop"]},
        ],
        "workingDirectory": DIRECTORY,
        "environment": _listed(dict([VARIABLE])),
        "mountPoints": [database],
        "ports": [www],
        "isolators": [{"name": "resource/memory", "value": {"limit": "1G"}}],
    }
    sidekick = {"exec": ["/ace-validator", "sidekick"], "workingDirectory": DIRECTORY, "mountPoints": [database]}
    remarks = {
        "created": "2015-05-08T14:00:00Z",
        "homepage": "https://example.com/ace",
        "documentation": "https://example.com/ace/documentation",
        "authors": "nobody in particular",
    }
    return {MAIN: manifest(MAIN, main, remarks), SIDEKICK: manifest(SIDEKICK, sidekick)}


def layout(directory: Path, manifest: dict[str, Any], program: Path, target: str = "ace-validator") -> Path:
    """Write an image as a directory: its manifest, and a root with one program and the working directory."""
    root = directory / "rootfs"
    (root / DIRECTORY.lstrip("/")).mkdir(parents=True)
    (root / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(program, root / target)
    (root / target).chmod(0o755)
    (directory / "manifest").write_text(json.dumps(manifest, indent=2))
    return directory


def build_by_actool(source: Path, target: Path) -> Path:
    """Let actool make an ACI of the directory ``source``."""
    subprocess.run(["actool", "build", "--owner-root", "--overwrite", str(source), str(target)], check=True)
    return target


def build(source: Path, target: Path) -> Path:
    """Make an ACI of the directory ``source`` without actool; all of it belongs to root."""

    def owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        return entry

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in (source / "manifest", source / "rootfs", *sorted((source / "rootfs").rglob("*"))):
            tar.add(path, str(path.relative_to(source)), recursive=False, filter=owned)
    target.write_bytes(gzip.compress(out.getvalue(), compresslevel=1, mtime=0))
    return target


def entries(aci: Path) -> dict[str, tuple[object, ...]]:
    """Return what is in an ACI by name: type, mode, owner, content."""
    found: dict[str, tuple[object, ...]] = {}
    with tarfile.open(aci) as tar:
        for entry in tar:
            file = tar.extractfile(entry) if entry.isreg() else None
            data = file.read() if file else entry.linkname.encode()
            content: object = json.loads(data) if entry.name == "manifest" else data
            found[entry.name.rstrip("/")] = (entry.type, stat.S_IMODE(entry.mode), entry.uid, entry.gid, content)
    return found


def probe(directory: Path, busybox: Path, script: str) -> Path:
    """Make the ACI of an app of ours that looks around in the pod by a shell."""
    app = {"exec": ["/bin/busybox", "sh", "-c", script], "mountPoints": [{"name": "database", "path": "/db"}]}
    source = layout(directory / "probe", manifest(PROBE, app), busybox, "bin/busybox")
    return build(source, directory / "probe.aci")
