"""``spec``: write a config.json to start from."""

from __future__ import annotations

import os

from pyrkt.base import fastjson
from pyrkt.base.errors import CannotCreate
from pyrkt.kernel import host
from pyrkt.runtime.options import SWITCH, TEXT, Verb, flag
from pyrkt.spec import example

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.runtime.main import Settings

VERB = Verb(
    name="spec",
    summary="write a config.json to start from",
    arguments="",
    least=0,
    most=0,
    flags=(
        flag("bundle b", TEXT, "path to the root of the bundle directory"),
        flag("rootless", SWITCH, "generate a configuration for a rootless container"),
    ),
    about="The file describes a shell in a container of its own; edit process.args, and put a root file system\n"
    "into the directory rootfs beside it.",
)


def _to_edit(document: dict[str, Any]) -> dict[str, Any]:
    """Return ``document`` with the ids of root spelled out: that is where people put another user's."""
    return document | {"process": document["process"] | {"user": {"uid": 0, "gid": 0}}}


def main(_settings: Settings, values: dict[str, Any], _arguments: list[str]) -> int:
    """Write it, never over another."""
    config = example.example_config()
    if config.linux is not None and host.probe().cgroup != "v2":
        # As runc: on version 1 a namespace hides from the container where it is, and scripts look.
        kept = tuple(each for each in config.linux.namespaces if each.type != "cgroup")
        config = config.replace(linux=config.linux.replace(namespaces=kept))
    if values["rootless"]:
        config = example.rootless(config, os.geteuid(), os.getegid())
    path = os.path.join(values["bundle"], "config.json")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise CannotCreate(f"File {path} exists. Remove it first") from None
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(fastjson.pretty(_to_edit(config.dump()), "\t"))
    return 0
