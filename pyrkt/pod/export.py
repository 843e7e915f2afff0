"""An app of a pod as a bundle of its own: a real tree with what the app changed, and the configuration it ran by."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pyrkt.base.errors import Busy, CannotCreate, NotFound, UsageError
from pyrkt.base.undo import Undo
from pyrkt.bundle.files import DIRECTORY as FILES
from pyrkt.bundle.volumes import DIRECTORY as VOLUMES
from pyrkt.bundle.write import CONFIG, ROOTFS, RUNTIME
from pyrkt.image.unpack.flatten import flatten
from pyrkt.pod.compile import read_parts
from pyrkt.store import Rootfs
from pyrkt.store.remove import remove_tree

if TYPE_CHECKING:
    from pyrkt.pod.compile import Part
    from pyrkt.pod.directory import Pod, Pods


def export_bundle(pods: Pods, pod: Pod, target: str, app: str = "") -> None:
    """Write the app ``app`` of ``pod`` (the only one, if "") to the new directory ``target``.

    Raises: Busy while the pod runs; CannotCreate if ``target`` exists; UsageError if it has to be said which app.
    """
    if pod.state() == "running":
        raise Busy(f"pod {pod.uuid} is running: its files change", hint=f"pyrkt stop {pod.uuid[:8]}")
    held = pods.hold(pod)
    try:
        part = _chosen(read_parts(held.path), app)
        new = new_directory(Path(target))
        with Undo() as undo:
            undo.push(remove_tree, new)
            _write(Path(held.path, "apps", part.name), part, new)
            undo.keep()
    finally:
        os.close(held.descriptor)


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


def _write(home: Path, part: Part, new: Path) -> None:
    if part.lowers:
        # What the app wrote lies on top; overlayfs' marks for what it deleted are those that Rootfs reads.
        flatten(Rootfs((*reversed(part.lowers), os.fspath(home / "upper"))), new / ROOTFS)
    else:
        flatten(Rootfs((os.fspath(home / ROOTFS),)), new / ROOTFS)
    for name in (FILES, VOLUMES):
        if (home / name).is_dir():
            flatten(Rootfs((os.fspath(home / name),)), new / name)
    for name in (RUNTIME, CONFIG):
        shutil.copyfile(home / name, new / name)
