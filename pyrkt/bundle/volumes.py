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
    from pyrkt.store.rootfs import Entry, Rootfs

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
class Seat:
    """A volume in its place: ``name`` and ``path`` are those of the user, or of the image for an ``implicit`` one."""

    name: str
    path: str
    readonly: bool
    implicit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """The outcome: mounts with parents first, the directories to make, and what the user should know.

    ``replaced``: files of the image, by their paths without links, that directories have to take the place of.
    """

    mounts: tuple[Mount, ...] = ()
    own: tuple[OwnVolume, ...] = ()
    warnings: tuple[str, ...] = ()
    seats: tuple[Seat, ...] = ()
    replaced: tuple[str, ...] = ()

    @property
    def targets(self) -> tuple[str, ...]:
        """Where something of the user's is mounted."""
        return tuple(mount.destination for mount in self.mounts)


def place(
    points: Sequence[Point], wanted: Sequence[VolumeMount], *, rootfs: Rootfs, implicit: bool, nested: bool = False
) -> Placed:
    """Bring the image's ``points`` and the user's ``wanted`` volumes together.

    A volume without a target goes to the points of its name; one with a target goes there, and to a point of its
    name no more. A point that nobody serves becomes an empty volume that starts with the image's data, if
    ``implicit``. Targets are what their paths lead to in ``rootfs``.
    Raises: UsageError if two volumes have one target; or if one's lies in that of another, unless ``nested``
    (appc 0.8, executor, "Volume Setup": overlapping targets are an error).
    """
    seats: dict[str, tuple[Seat, VolumeMount | None]] = {}

    def put(path: str, seat: Seat, volume: VolumeMount | None) -> None:
        if path in seats:
            raise UsageError(f"two volumes are mounted on {path}", hint="give each a place of its own")
        seats[path] = seat, volume

    resolve = _Resolver(rootfs, [volume.target for volume in wanted if volume.target] + [each.path for each in points])
    readonly = {resolve.path(point.path): point.readonly for point in points}
    for volume in wanted:
        if volume.target:
            path = resolve.path(volume.target)
            only_read = readonly.get(path, False) if volume.readonly is None else volume.readonly
            put(path, Seat(name=volume.name, path=normal(volume.target), readonly=only_read), volume)
    chosen = frozenset(seats)
    by_name = {volume.name: volume for volume in wanted if volume.name and not volume.target}
    for point in points:
        path = resolve.path(point.path)
        if path in chosen:
            continue
        if found := by_name.get(point.name):
            only_read = point.readonly if found.readonly is None else found.readonly
            put(path, Seat(name=found.name, path=normal(point.path), readonly=only_read), found)
        elif implicit and path not in seats:
            put(path, Seat(name=point.name, path=normal(point.path), readonly=point.readonly, implicit=True), None)
    if not nested:
        _check_overlap(sorted(seats))
    return _mounts(seats, rootfs)


class _Resolver:
    """Where the targets lead: below another target nobody looks into the image, whose files are hidden there."""

    def __init__(self, rootfs: Rootfs, paths: Sequence[str]) -> None:
        self.rootfs = rootfs
        self.known: dict[str, str] = {}
        plain = {path: rootfs.leads_to(path) for path in paths if normal(path)}
        for path in sorted(plain, key=lambda each: plain[each].count("/")):
            self.known[path] = self._below(path, frozenset(self.known.values())) if len(plain) > 1 else plain[path]

    def path(self, path: str) -> str:
        """Return where the target ``path`` leads. Raises: UsageError if that is the root."""
        found = self.known[path]
        if found == "/":
            raise UsageError("the root itself is no place for a volume")
        return found

    def _below(self, path: str, above: frozenset[str]) -> str:
        here, todo = "/", [part for part in path.split("/") if part][::-1]
        while todo:
            here = self.rootfs.leads_to(f"{here}/{todo.pop()}")
            if here in above and todo:
                return posixpath.normpath(f"{here}/{'/'.join(reversed(todo))}")
        return here


def _check_overlap(paths: Sequence[str]) -> None:
    for path in paths:
        outer = next((each for each in paths if path.startswith(each + "/")), None)
        if outer:
            raise UsageError(
                f"the volume on {path} lies within the one on {outer}", hint="--nested-volumes, if that is meant"
            )


def _mounts(seats: Mapping[str, tuple[Seat, VolumeMount | None]], rootfs: Rootfs) -> Placed:
    mounts: list[Mount] = []
    own: list[OwnVolume] = []
    warnings: list[str] = []
    replaced: list[str] = []
    for path in sorted(seats, key=lambda each: (each.count("/"), each)):
        seat, volume = seats[path]
        name = f"{DIRECTORY}/{len(own)}-{path.strip('/').replace('/', '-')[:80]}"
        entry = rootfs.lookup(path)
        is_file = volume is not None and volume.is_file
        if entry is not None and not entry.is_dir and not is_file:
            replaced.append(path)
            warnings.append(f"the volume on {path} takes the place of a file of the image")
        if volume is None:
            own.append(OwnVolume(path=name, seed=path))
            mounts.append(_bind(path, name, readonly=seat.readonly))
            continue
        source = volume.source
        if volume.kind == "empty" and not source:
            own.append(OwnVolume(path=name, mode=volume.mode, uid=volume.uid, gid=volume.gid))
            source = name
        mounts.append(_bind(path, source, readonly=seat.readonly, recursive=volume.recursive))
        if entry is not None and entry.is_dir and is_file:
            raise UsageError(f"{path} of the image is a directory, but the volume a file", hint="mount it below that")
        if _has_files(rootfs, entry) or (is_file and entry is not None):
            warnings.append(f"the volume on {path} hides files of the image")
    return Placed(
        mounts=tuple(mounts),
        own=tuple(own),
        warnings=tuple(warnings),
        seats=tuple(seat for seat, _ in seats.values()),
        replaced=tuple(replaced),
    )


def _bind(target: str, source: str, *, readonly: bool, recursive: bool = True) -> Mount:
    bind = "rbind" if recursive else "bind"
    # "rro" makes what is mounted below read-only too; runtimes that do not know it take "ro".
    access = (("ro", "rro") if recursive else ("ro",)) if readonly else ("rw",)
    return Mount(destination=target, type="bind", source=source, options=(bind, "rprivate", *access))


def normal(path: str) -> str:
    """Return the target ``path`` without detours. Raises: UsageError."""
    if not path.startswith("/") or "\0" in path:
        raise UsageError(printable(f"the target {path!r} of a volume is not an absolute path"))
    return "/" + posixpath.normpath(path).lstrip("/")


def _has_files(rootfs: Rootfs, entry: Entry | None) -> bool:
    return entry is not None and entry.is_dir and next(iter(rootfs.names(entry)), None) is not None


def covers(targets: Iterable[str], path: str) -> bool:
    """Tell whether one of ``targets`` is ``path`` or a directory above it."""
    return any(path == target or path.startswith(target.rstrip("/") + "/") for target in targets)


def check_source(path: str, *, linked: bool = False) -> None:
    """Refuse a host directory that cannot be a volume: missing, or reached through a symlink (appc 0.8, volumes).

    A symlink could be turned elsewhere by whoever owns its directory; ``linked`` allows it nevertheless.
    Raises: NotFound, InvalidSpec.
    """
    if not path.startswith("/"):
        raise InvalidSpec(printable(f"{path!r} is not an absolute path"), document="volume")
    try:
        os.stat(path) if linked else os.lstat(path)
    except OSError as error:
        raise NotFound(
            f"volume source {printable(path)}: {error.strerror}", hint="nothing is made on the host"
        ) from error
    real = os.path.realpath(path)
    if real != posixpath.normpath(path) and not linked:
        raise InvalidSpec(
            f"{printable(path)} leads through a symlink",
            document="volume",
            hint=f"say {printable(real)} instead, or --linked-volumes",
        )
