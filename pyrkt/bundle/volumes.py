"""Volumes: which goes where, in what order, and what must be made for them before the container starts."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyrkt.base.errors import InvalidSpec, NotFound, UsageError, printable
from pyrkt.spec.runtime import Mount

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pyrkt.bundle.options import VolumeMount
    from pyrkt.store.rootfs import Rootfs

DIRECTORY = "volumes"
"""Below the bundle; config.json names what is in it by a relative path, so that a bundle can be moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A place where the image wants a volume: appc's mount point, or an OCI image's volume."""

    name: str
    path: str
    readonly: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnVolume:
    """A directory to be made at ``path``, relative to the bundle; ``seed`` is the image's directory it begins as."""

    path: str
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    seed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """The outcome: mounts with parents first, the directories to make, and what the user should know."""

    mounts: tuple[Mount, ...] = ()
    own: tuple[OwnVolume, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def targets(self) -> tuple[str, ...]:
        """Where something of the user's is mounted."""
        return tuple(mount.destination for mount in self.mounts)


def place(points: Sequence[Point], wanted: Sequence[VolumeMount], *, rootfs: Rootfs, implicit: bool) -> Placed:
    """Bring the image's ``points`` and the user's ``wanted`` volumes together.

    A volume without a target goes to the points of its name; one with a target goes there, and to a point of its
    name no more. A point that nobody serves becomes an empty volume that starts with the image's data, if
    ``implicit``.
    Raises: UsageError if two volumes have one target.
    """
    targets: dict[str, VolumeMount] = {}
    readonly: dict[str, bool] = {}
    for volume in wanted:
        if volume.target:
            _put(targets, _normal(volume.target), volume)
    chosen = frozenset(targets)
    by_name = {volume.name: volume for volume in wanted if volume.name and not volume.target}
    seeded: dict[str, str] = {}
    for point in points:
        path = _normal(point.path)
        readonly[path] = point.readonly
        if path in chosen:
            continue
        if point.name in by_name:
            _put(targets, path, by_name[point.name])
        elif implicit:
            seeded[path] = point.name
    return _mounts(targets, readonly, seeded, rootfs)


def _put(targets: dict[str, VolumeMount], path: str, volume: VolumeMount) -> None:
    if path in targets:
        raise UsageError(f"two volumes are mounted on {path}", hint="give each a place of its own")
    targets[path] = volume


def _mounts(
    targets: Mapping[str, VolumeMount], readonly: Mapping[str, bool], seeded: Mapping[str, str], rootfs: Rootfs
) -> Placed:
    mounts: list[Mount] = []
    own: list[OwnVolume] = []
    warnings: list[str] = []
    for path in sorted({*targets, *seeded}, key=lambda each: (each.count("/"), each)):
        volume = targets.get(path)
        name = f"{DIRECTORY}/{len(own)}-{path.strip('/').replace('/', '-')[:80]}"
        if volume is None:
            own.append(OwnVolume(path=name, seed=path))
            mounts.append(_bind(path, name, readonly=readonly[path]))
            continue
        source = volume.source
        if volume.kind == "empty" and not source:
            own.append(OwnVolume(path=name, mode=volume.mode, uid=volume.uid, gid=volume.gid))
            source = name
        only_read = readonly.get(path, False) if volume.readonly is None else volume.readonly
        mounts.append(_bind(path, source, readonly=only_read, recursive=volume.recursive))
        if _has_files(rootfs, path):
            warnings.append(f"the volume on {path} hides files of the image")
    return Placed(mounts=tuple(mounts), own=tuple(own), warnings=tuple(warnings))


def _bind(target: str, source: str, *, readonly: bool, recursive: bool = True) -> Mount:
    bind = "rbind" if recursive else "bind"
    # "rro" makes what is mounted below read-only too; runtimes that do not know it take "ro".
    access = (("ro", "rro") if recursive else ("ro",)) if readonly else ("rw",)
    return Mount(destination=target, type="bind", source=source, options=(bind, "rprivate", *access))


def _normal(path: str) -> str:
    """Return the target ``path`` without detours. Raises: UsageError."""
    if not path.startswith("/") or "\0" in path:
        raise UsageError(printable(f"the target {path!r} of a volume is not an absolute path"))
    normal = "/" + posixpath.normpath(path).lstrip("/")
    if normal == "/":
        raise UsageError("the root itself is no place for a volume")
    return normal


def _has_files(rootfs: Rootfs, path: str) -> bool:
    entry = rootfs.lookup(path)
    return entry is not None and entry.is_dir and next(iter(rootfs.names(entry)), None) is not None


def covers(targets: Iterable[str], path: str) -> bool:
    """Tell whether one of ``targets`` is ``path`` or a directory above it."""
    return any(path == target or path.startswith(target.rstrip("/") + "/") for target in targets)


def check_source(path: str) -> None:
    """Refuse a host directory that cannot be a volume: missing, or reached through a symlink (appc 0.8, volumes).

    A symlink could be turned elsewhere by whoever owns its directory.
    Raises: NotFound, InvalidSpec.
    """
    if not path.startswith("/"):
        raise InvalidSpec(printable(f"{path!r} is not an absolute path"), document="volume")
    try:
        os.lstat(path)
    except OSError as error:
        raise NotFound(
            f"volume source {printable(path)}: {error.strerror}", hint="nothing is made on the host"
        ) from error
    real = os.path.realpath(path)
    if real != posixpath.normpath(path):
        raise InvalidSpec(
            f"{printable(path)} leads through a symlink", document="volume", hint=f"say {printable(real)} instead"
        )
