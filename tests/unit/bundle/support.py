"""A small image as a directory, and the options and configurations to try on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyrkt.spec.appc import App, ImageManifest
from pyrkt.spec.image import ImageConfig, Platform
from pyrkt.store.rootfs import Rootfs

if TYPE_CHECKING:
    from pathlib import Path

    from pyrkt.spec.runtime import Config, Linux, Mount, Process, Resources

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
web:x:33:34:web:/srv/www:/bin/false
# a remark
broken:x:abc:0:::
short:x:5
huge:x:4294967296:0::/:
minus:x:-1:0::/:
arabic:x:\u0661:0::/:
blank:x: 7:0::/:
1234:x:77:78:a name of digits:/num:
web:x:99:99:a second web:/other:
toor:x:0:0:another root:/:
"""
GROUP = """\
root:x:0:
www:x:34:web
adm:x:44:web,other
staff:x:50:web
broken:x:y:web
adm2:x:44:web
1234:x:79:
"""


def make_rootfs(directory: Path, passwd: str = PASSWD, group: str = GROUP) -> Rootfs:
    """Return a root file system in ``directory``: accounts, a program and some directories."""
    for name in ("etc", "bin", "data", "srv/www", "work"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    (directory / "etc/passwd").write_text(passwd)
    (directory / "etc/group").write_text(group)
    (directory / "data/seed").write_text("seed")
    (directory / "bin/tool").write_text("#!")
    (directory / "bin/tool").chmod(0o755)
    (directory / "bin/text").write_text("no program")
    return Rootfs((str(directory),))


def oci(**members: Any) -> ImageConfig:
    """Return an image configuration that runs /bin/tool."""
    defaults: dict[str, Any] = {"platform": Platform(os="linux", architecture="amd64"), "diff_ids": ()}
    return ImageConfig(**(defaults | {"entrypoint": ("/bin/tool",)} | members))


def appc(**members: Any) -> ImageManifest:
    """Return an image manifest that runs /bin/tool."""
    return ImageManifest(
        name="example.com/the-app", app=App(**({"exec": ("/bin/tool",), "user": "0", "group": "0"} | members))
    )


def process(config: Config) -> Process:
    """Return the process of ``config``, which has one."""
    assert config.process is not None
    return config.process


def linux(config: Config) -> Linux:
    """Return the linux half of ``config``, which has one."""
    assert config.linux is not None
    return config.linux


def resources(config: Config) -> Resources:
    """Return the limits of ``config``, which has some."""
    found = linux(config).resources
    assert found is not None
    return found


def environment(config: Config) -> dict[str, str]:
    """Return the variables of the process, each of which stands there once."""
    pairs: list[list[str]] = [variable.split("=", 1) for variable in process(config).env]
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


def mount(config: Config, target: str) -> Mount:
    """Return the only mount on ``target``."""
    found = [each for each in config.mounts if each.destination == target]
    assert len(found) == 1, f"{len(found)} mounts on {target}"
    return found[0]
