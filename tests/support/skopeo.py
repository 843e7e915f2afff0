"""Images for the tests, made by others: a layout written by hand, which skopeo then copies, signs and encrypts."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import zstandard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

BUSYBOX = "/bin/busybox"
_SUFFIX = {"gzip": "+gzip", "zstd": "+zstd", "": ""}


def program() -> str:
    """Return skopeo's path, or skip the test naming what is missing."""
    return shutil.which("skopeo") or pytest.skip("needs skopeo")


def run(*arguments: str, env: Mapping[str, str] | None = None) -> str:
    """Run skopeo; return what it printed. Fails the test with skopeo's words."""
    done = subprocess.run([program(), *arguments], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, f"skopeo {' '.join(arguments)}: {done.stderr}"
    return done.stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of a layer: a file with ``data``, a directory (a name that ends in /), or a link.

    ``more`` are attributes of its TarInfo.
    """

    name: str
    data: bytes = b""
    link: str = ""
    mode: int = 0o755
    more: Mapping[str, object] = field(default_factory=dict)


def tar(members: Sequence[Member]) -> bytes:
    """Return a tar of ``members``."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            info = tarfile.TarInfo(member.name.rstrip("/"))
            info.mode, info.mtime = member.mode, 1_600_000_000
            if member.name.endswith("/"):
                info.type = tarfile.DIRTYPE
            elif member.link:
                info.type, info.linkname = tarfile.SYMTYPE, member.link
            else:
                info.size = len(member.data)
            for name, value in member.more.items():
                setattr(info, name, value)
            archive.addfile(info, io.BytesIO(member.data) if member.data else None)
    return out.getvalue()


def busybox_root() -> list[Member]:
    """Return the members of a root file system with a shell; skips where busybox-static is missing."""
    try:
        with open(BUSYBOX, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        pytest.skip("needs busybox-static")
    folders = [Member(name=f"{name}/") for name in ("bin", "etc", "tmp", "proc", "sys", "dev")]
    return [
        *folders,
        Member(name="bin/busybox", data=data),
        Member(name="bin/sh", link="busybox"),
        Member(name="etc/passwd", data=b"root:x:0:0:root:/root:/bin/sh\n", mode=0o644),
    ]


def digest(data: bytes) -> str:
    """Return the sha256 digest as images write it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(slots=True, kw_only=True)
class Layout:
    """An OCI image layout in the making."""

    path: Path
    manifests: list[dict[str, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.path / "blobs/sha256").mkdir(parents=True)
        (self.path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def blob(self, data: bytes) -> str:
        """Add a blob; return its digest."""
        name = digest(data)
        (self.path / "blobs" / name.replace(":", "/")).write_bytes(data)
        return name

    def descriptor(self, media_type: str, data: bytes, **more: object) -> dict[str, object]:
        """Add a blob; return its descriptor."""
        return {"mediaType": media_type, "digest": self.blob(data), "size": len(data), **more}

    def image(
        self,
        layers: Sequence[Sequence[Member]],
        *,
        tag: str = "",
        compression: str = "gzip",
        architecture: str = "amd64",
        config: Mapping[str, object] | None = None,
        diff_ids: Sequence[str] | None = None,
    ) -> dict[str, object]:
        """Add an image; return its descriptor. It is listed in index.json if it has a tag."""
        tars = [tar(members) for members in layers]
        kind = f"application/vnd.oci.image.layer.v1.tar{_SUFFIX[compression]}"
        packed = [self.descriptor(kind, compress(data, compression)) for data in tars]
        document = {
            "architecture": architecture,
            "os": "linux",
            "config": dict(config or {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]}),
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids or [digest(data) for data in tars])},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.descriptor("application/vnd.oci.image.config.v1+json", json.dumps(document).encode()),
            "layers": packed,
        }
        platform = {"os": "linux", "architecture": architecture}
        found = self.descriptor(str(manifest["mediaType"]), json.dumps(manifest).encode(), platform=platform)
        if tag:
            self.list(found, tag)
        return found

    def index(self, images: Sequence[dict[str, object]], tag: str) -> dict[str, object]:
        """Add an index of ``images`` under ``tag``."""
        kind = "application/vnd.oci.image.index.v1+json"
        document = {"schemaVersion": 2, "mediaType": kind, "manifests": list(images)}
        found = self.descriptor(kind, json.dumps(document).encode())
        self.list(found, tag)
        return found

    def list(self, descriptor: dict[str, object], tag: str) -> None:
        """Name ``descriptor`` in index.json."""
        self.manifests.append(descriptor | {"annotations": {"org.opencontainers.image.ref.name": tag}})
        document = {"schemaVersion": 2, "manifests": self.manifests}
        (self.path / "index.json").write_text(json.dumps(document))


def compress(data: bytes, how: str) -> bytes:
    """Return ``data`` compressed by "gzip" or "zstd", or as it is by ""."""
    if how == "gzip":
        return gzip.compress(data, 6, mtime=0)
    return zstandard.ZstdCompressor().compress(data) if how == "zstd" else data
