"""A bundle's documents in either form: config.json of today, or the pair of 2015; and the one made of the other."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

from pyrkt.base import fastjson
from pyrkt.base.atomic import write_file
from pyrkt.base.errors import InvalidSpec, NotFound
from pyrkt.spec import legacy, pair
from pyrkt.spec.runtime import parse_config

if TYPE_CHECKING:
    from pathlib import Path

    from pyrkt.spec.runtime import Config, Mount

OLD, NEW = "2015", "1.x"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_SHOWN = 5


def read(directory: Path) -> tuple[Config, str]:
    """Return what the bundle's documents say, and which form they have: OLD or NEW.

    Raises: NotFound, InvalidSpec.
    """
    data = _document(directory / pair.CONFIG)
    if not pair.is_old(fastjson.loads(data, str(directory / pair.CONFIG))):
        return parse_config(data, str(directory / pair.CONFIG)), NEW
    return pair.parse_pair(data, _document(directory / pair.RUNTIME), str(directory)), OLD


def _document(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"{path}: no such file", hint=f"is {path.parent} a bundle?") from None


def convert(source: Path, target: Path, form: str = "", *, drop: bool = False) -> tuple[str, ...]:
    """Write the documents of the bundle ``source`` in ``form`` (by default the one that they have not) to ``target``.

    In another directory, which is made, they name the root file system and bound files of ``source`` by full paths.
    Returns: the places that the pair of 2015 cannot say, with ``drop``; without it they are refused.
    """
    config, found = read(source)
    form = form or (NEW if found == OLD else OLD)
    if target.resolve() != source.resolve():
        config = _elsewhere(config, os.path.abspath(source))
        target.mkdir(mode=0o755, exist_ok=True)
    lost = legacy.lost(config) if form == OLD else ()
    if lost and (not drop or lost[0] in {"process", "root"}):
        names = ", ".join(lost[:_SHOWN]) + (f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else "")
        raise InvalidSpec(
            f"the form of 2015 cannot say {names}",
            document=str(source / pair.CONFIG),
            hint="--drop leaves them out, and lists them",
        )
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    document = legacy.portable_half(config, architecture) if form == OLD else config.dump()
    write_file(target / pair.RUNTIME, fastjson.pretty(legacy.runtime_half(config)), mode=0o644)
    write_file(target / pair.CONFIG, fastjson.pretty(document), mode=0o644)  # last: with it the bundle is whole
    return lost


def _elsewhere(config: Config, directory: str) -> Config:
    mounts = tuple(_from(mount, directory) for mount in config.mounts)
    root = config.root.replace(path=os.path.join(directory, config.root.path)) if config.root else None
    return config.replace(root=root, mounts=mounts)


def _from(mount: Mount, directory: str) -> Mount:
    bound = mount.type == "bind" or not {"bind", "rbind"}.isdisjoint(mount.options)
    return mount.replace(source=os.path.join(directory, mount.source)) if bound and mount.source else mount
