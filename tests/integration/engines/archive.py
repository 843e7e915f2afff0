"""An image of one layer as a file that docker, podman and ctr import."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path


def pack(target: Path, rootfs: Path, name: str, command: list[str]) -> Path:
    """Write ``target``, what docker calls an archive, of the root file system in the tar file ``rootfs``."""
    layer = rootfs.read_bytes()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": command, "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
        }
    ).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(target, "w") as archive:
        for file, data in ((config_name, config), ("layer.tar", layer), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(file)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return target
