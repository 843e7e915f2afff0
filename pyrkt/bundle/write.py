"""A container becomes a bundle on disk: config.json, runtime.json beside it, rootfs/, and what the mounts name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pyrkt.base import fastjson
from pyrkt.base.atomic import sync_directory, write_file
from pyrkt.bundle import files
from pyrkt.bundle.assemble import Bundle
from pyrkt.bundle.volumes import DIRECTORY, OwnVolume
from pyrkt.spec.legacy import runtime_half

if TYPE_CHECKING:
    from pyrkt.spec.runtime import Config
    from pyrkt.store.rootfs import Rootfs

CONFIG, RUNTIME, ROOTFS = "config.json", "runtime.json", "rootfs"


def write(directory: Path, container: Bundle | Config, rootfs: Rootfs | None = None) -> None:
    """Write the bundle of ``container`` into ``directory``, which exists; config.json last, so that it means "whole".

    Every write is atomic, and the same container makes the same bytes. What is there already is replaced, but a
    volume that exists keeps its data. ``rootfs`` is what volumes of the image begin with; without it they are empty.
    Raises: OSError of the step that failed, or CannotCreate.
    """
    bundle = container if isinstance(container, Bundle) else _from_config(container)
    (directory / ROOTFS).mkdir(mode=0o755, exist_ok=True)
    for volume in bundle.volumes:
        _make_volume(directory, volume, rootfs)
    _write_files(directory, bundle)
    write_file(directory / RUNTIME, fastjson.pretty(runtime_half(bundle.config)), mode=0o644)
    write_file(directory / CONFIG, config_text(bundle.config), mode=0o644)


def config_text(config: Config) -> str:
    """Return the text of config.json."""
    return fastjson.pretty(config.dump())


def _from_config(config: Config) -> Bundle:
    """Return the bundle of a config alone: what its mounts name by a path relative to the bundle, plainly made."""
    sources = [mount.source for mount in config.mounts]
    own = files.DIRECTORY + "/"
    return Bundle(
        config=config,
        files=tuple(source.removeprefix(own) for source in sources if source.startswith(own)),
        volumes=tuple(OwnVolume(path=source) for source in sources if source.startswith(DIRECTORY + "/")),
    )


def _write_files(directory: Path, bundle: Bundle) -> None:
    if not bundle.files:
        return
    below = directory / files.DIRECTORY
    below.mkdir(mode=0o755, exist_ok=True)
    linux = bundle.config.linux
    host_network = linux is None or linux.namespace("network") is None
    host = files.read_host() if host_network else files.HostFiles()
    for name in bundle.files:
        text = bundle.texts.get(name)
        if text is None:
            text = files.content(name, hostname=bundle.config.hostname, host_network=host_network, host=host)
        write_file(below / name, text, mode=0o644)


def _make_volume(directory: Path, volume: OwnVolume, rootfs: Rootfs | None) -> None:
    path = directory / volume.path
    if path.is_dir():
        return
    path.parent.mkdir(mode=0o755, exist_ok=True)
    # Made under another name, so that a volume that exists is whole.
    new = path.with_name(path.name + ".new")
    if new.is_dir():
        shutil.rmtree(new)
    entry = rootfs.lookup(volume.seed) if rootfs and volume.seed else None
    if rootfs is not None and entry is not None and entry.is_dir:
        _seed(entry.parts, new)
    else:
        new.mkdir(mode=volume.mode, exist_ok=True)
        os.chown(new, volume.uid, volume.gid)
        new.chmod(volume.mode)
    new.rename(path)
    sync_directory(path.parent)


def _seed(parts: tuple[bytes, ...], into: Path) -> None:
    """Copy the directory that consists of ``parts`` (top first), as the image has it, to ``into``."""
    from pyrkt.image.unpack.flatten import flatten  # noqa: PLC0415 - few images have volumes
    from pyrkt.store.rootfs import Rootfs  # noqa: PLC0415

    flatten(Rootfs(tuple(os.fsdecode(part) for part in reversed(parts))), into)
