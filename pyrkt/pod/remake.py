"""A prepared pod whose plan has to be made again: other flags than it was prepared with, or another boot."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pyrkt.base import fastjson, log
from pyrkt.base.errors import InvalidSpec, UsageError
from pyrkt.bundle.write import RUNTIME, config_text
from pyrkt.pod import directory
from pyrkt.pod.compile import compiled, read_parts, read_shared, write_plan
from pyrkt.pod.directory import write_new
from pyrkt.pod.prepare import write_recipe
from pyrkt.pod.program import on_failure, wires
from pyrkt.spec.legacy import runtime_half
from pyrkt.spec.runtime import Namespace

if TYPE_CHECKING:
    from pyrkt.pod.compile import Part
    from pyrkt.pod.directory import Held, Pods
    from pyrkt.spec.runtime import Config


def remake(pods: Pods, pod: Held, *, net: str, hostname: str, ipc: str, interactive: bool, detach: bool) -> None:
    """Make the plan of the locked, prepared ``pod`` anew, with what is asked now. "" leaves what it was prepared with.

    Raises: UsageError if it does not fit the pod; what compiling raises.
    """
    parts, shared = read_parts(pod.path), read_shared(pod.path)
    if interactive and len(parts) > 1:
        raise UsageError("--interactive is for one app only", hint="prepare the images in pods of their own")
    if interactive and detach:
        raise UsageError("--interactive needs the terminal that --detach leaves", hint="give one of the two")
    with open(f"{pod.path}/net", encoding="utf-8", errors="replace") as file:
        prepared = file.read().strip()
    if net and net != prepared:
        # Mounts and host files of the bundle depend on it; they were made when the pod was prepared.
        raise UsageError(
            "a prepared pod keeps the network it was prepared for", hint="pyrkt run --net=host, or prepare it so"
        )
    changed = tuple(_changed(part, hostname=hostname, ipc=ipc, interactive=interactive) for part in parts)
    for part in changed:
        home = f"{pod.path}/apps/{part.name}"
        write_new(f"{home}/config.json", config_text(part.config).encode(), 0o644)
        write_new(f"{home}/{RUNTIME}", fastjson.pretty(runtime_half(part.config)).encode(), 0o644)
    final = pods.path(directory.RUN, pod.uuid)
    if hostname:
        shared = shared.replace(config=shared.config.replace(hostname=hostname))
    write_recipe(pod.path, shared, changed, detach=detach)
    userns = bool(shared.config.linux and shared.config.linux.uid_mappings)
    wired = wires(os.path.dirname(pods.root), pod.uuid, prepared, userns=userns)
    found = compiled(shared, changed, final, pod.uuid, detach=detach, on_failure=on_failure(), wires=wired)
    write_plan(pod.path, found)
    for remark in found.remarks:
        log.warn(remark)


def _changed(part: Part, *, hostname: str, ipc: str, interactive: bool) -> Part:
    config: Config = part.config
    if ipc and config.linux is not None:
        kept = tuple(each for each in config.linux.namespaces if each.type != "ipc")
        own = (Namespace(type="ipc"),) if ipc == "private" else ()
        config = config.replace(linux=config.linux.replace(namespaces=(*kept, *own)))
    if hostname:
        config = config.replace(hostname=hostname)
    if interactive:
        if config.process is None:
            raise InvalidSpec("has no process", document=f"{part.name}/config.json")
        config = config.replace(process=config.process.replace(terminal=True))
    return part.replace(config=config)
