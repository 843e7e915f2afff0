"""An app of a pod with what it changed, to take elsewhere: as a bundle with a real tree, or as an ACI."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrkt.base.errors import Busy, CannotCreate, InvalidSpec, NotFound, UsageError
from pyrkt.base.undo import Undo
from pyrkt.bundle.files import DIRECTORY as FILES
from pyrkt.bundle.volumes import DIRECTORY as VOLUMES
from pyrkt.bundle.write import CONFIG, ROOTFS, RUNTIME
from pyrkt.image.unpack.flatten import flatten
from pyrkt.pod import aci
from pyrkt.pod.compile import read_parts
from pyrkt.pod.directory import EXITED_GARBAGE, RUN
from pyrkt.pod.status import manifest
from pyrkt.spec.runtime import Linux
from pyrkt.store import Rootfs, Store
from pyrkt.store.remove import remove_tree

if TYPE_CHECKING:
    from pyrkt.pod.compile import Part
    from pyrkt.pod.directory import Held, Pod, Pods


def export_bundle(pods: Pods, pod: Pod, target: str, app: str = "") -> None:
    """Write the app ``app`` of ``pod`` (the only one, if "") to the new directory ``target``.

    Raises: Busy while the pod runs; CannotCreate if ``target`` exists; UsageError if it has to be said which app.
    """
    held = _hold(pods, pod)
    try:
        part = _chosen(read_parts(held.path), app)
        new = new_directory(Path(target))
        with Undo() as undo:
            undo.push(remove_tree, new)
            _write(Path(held.path, "apps", part.name), part, new)
            undo.keep()
    finally:
        os.close(held.descriptor)


def export_aci(pods: Pods, data: str, pod: Pod, target: Path, *, app: str = "", overwrite: bool = False) -> list[str]:
    """Write the app ``app`` of ``pod``, which has run and ended, to the file ``target``; return what was left out.

    Raises: as ``export_bundle``; UsageError, too, for a pod that never ran, and a name that is no ACI's.
    """
    if target.suffix != ".aci":
        raise UsageError(f"{target}: the file's name must end in .aci", hint=f"{target}.aci")
    if os.path.lexists(target) and not overwrite:
        raise CannotCreate(f"{target} exists", hint="--overwrite replaces it")
    held = _hold(pods, pod)
    try:
        if pod.place not in (RUN, EXITED_GARBAGE):
            raise UsageError(f"pod {pod.uuid} has not ended but is {pod.state()}", hint="export --bundle writes it")
        part = _chosen(read_parts(held.path), app)
        store = Store(data).open() if os.path.isdir(f"{data}/images") else None
        said = aci.manifest(_entry(pod, part.name), store)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        linux = part.config.linux or Linux()
        try:
            left_out = aci.write(temporary, said, _files(Path(held.path, "apps", part.name), part), _ids(linux))
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    finally:
        os.close(held.descriptor)
    return left_out


def _hold(pods: Pods, pod: Pod) -> Held:
    if pod.state() == "running":
        raise Busy(f"pod {pod.uuid} is running: its files change", hint=f"pyrkt stop {pod.uuid[:8]}")
    return pods.hold(pod)


def _ids(linux: Linux) -> aci.Ids:
    return aci.Ids(linux.uid_mappings, linux.gid_mappings)


def _entry(pod: Pod, name: str) -> dict[str, Any]:
    for entry in manifest(pod).get("apps", []):
        if entry.get("name") == name:
            return dict(entry)
    raise InvalidSpec(f"says nothing of {name!r}", document=f"pod {pod.uuid}: manifest")


def _chosen(parts: tuple[Part, ...], app: str) -> Part:
    names = ", ".join(part.name for part in parts)
    if not app and len(parts) > 1:
        raise UsageError(f"the pod has several apps: {names}", hint="--app=NAME")
    for part in parts:
        if app in ("", part.name):
            return part
    raise NotFound(f"the pod has no app {app!r}", hint=f"its apps are {names}")


def new_directory(target: Path) -> Path:
    """Make the directory ``target``, which must not exist or be empty. Raises: CannotCreate, NotFound."""
    try:
        target.mkdir(mode=0o755, exist_ok=True)
        if any(target.iterdir()):
            raise CannotCreate(f"{target} is not empty", hint="name a new directory")
    except FileNotFoundError:
        raise NotFound(f"{target.parent}: no such directory", hint=f"mkdir -p {target.parent}") from None
    except (FileExistsError, NotADirectoryError):
        raise CannotCreate(f"{target} is not a directory", hint="name a new directory") from None
    return target


def _files(home: Path, part: Part) -> Rootfs:
    # What the app wrote lies on top; overlayfs' marks for what it deleted are those that Rootfs reads.
    layers = (*reversed(part.lowers), os.fspath(home / "upper")) if part.lowers else (os.fspath(home / ROOTFS),)
    return Rootfs(layers)


def _write(home: Path, part: Part, new: Path) -> None:
    flatten(_files(home, part), new / ROOTFS)
    for name in (FILES, VOLUMES):
        if (home / name).is_dir():
            flatten(Rootfs((os.fspath(home / name),)), new / name)
    for name in (RUNTIME, CONFIG):
        shutil.copyfile(home / name, new / name)
