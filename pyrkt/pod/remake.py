"""A prepared pod whose plan has to be made again: other flags than it was prepared with, or another boot."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pyrkt.base import fastjson, log
from pyrkt.base.errors import InvalidSpec, UsageError
from pyrkt.base.record import Record
from pyrkt.bundle import rewire
from pyrkt.bundle.files import DIRECTORY
from pyrkt.bundle.options import Names, RunOptions
from pyrkt.bundle.write import RUNTIME, config_text
from pyrkt.metadata.address import url
from pyrkt.pod import directory, wishes
from pyrkt.pod.compile import compiled, read_parts, read_shared, write_plan
from pyrkt.pod.configure import network_of
from pyrkt.pod.directory import write_new
from pyrkt.pod.prepare import write_recipe
from pyrkt.pod.program import on_failure, wires
from pyrkt.spec.legacy import runtime_half
from pyrkt.spec.runtime import Namespace
from pyrkt.store.rootfs import Rootfs

if TYPE_CHECKING:
    from pyrkt.pod import ask
    from pyrkt.pod.compile import Part
    from pyrkt.pod.directory import Held, Pods
    from pyrkt.pod.wishes import Wishes
    from pyrkt.spec.runtime import Config

_METADATA = "AC_METADATA_URL="


class Changes(Record):
    """What run-prepared wants otherwise; empty is as it was prepared."""

    net: str = ""
    names: ask.Names
    hostname: str = ""
    ipc: str = ""
    interactive: bool = False


def remake(pods: Pods, pod: Held, changes: Changes, *, detach: bool) -> None:
    """Make the plan of the locked, prepared ``pod`` anew, with ``changes``.

    Raises: UsageError if they do not fit the pod; what compiling raises.
    """
    parts, shared = read_parts(pod.path), read_shared(pod.path)
    if changes.interactive and len(parts) > 1:
        raise UsageError("--interactive is for one app only", hint="prepare the images in pods of their own")
    if changes.interactive and detach:
        raise UsageError("--interactive needs the terminal that --detach leaves", hint="give one of the two")
    net = changes.net or _text(f"{pod.path}/net")
    wished = wishes.read(pod.path).changed(changes.names)
    userns = bool(shared.config.linux and shared.config.linux.uid_mappings)
    parts = tuple(_changed(part, changes) for part in parts)
    shared = shared.replace(config=_renamed(shared.config, changes))
    if changes.net or changes.names.is_given or changes.hostname:
        options = _options(pod.uuid, net, wished, userns=userns)
        shared = shared.replace(config=rewire.connected(shared.config, options))
        parts = tuple(_rewired(part, options, f"{pod.path}/apps/{part.name}") for part in parts)
        _note(pod, net, wished, userns=userns)
    for part in parts:
        home = f"{pod.path}/apps/{part.name}"
        write_new(f"{home}/config.json", config_text(part.config).encode(), 0o644)
        write_new(f"{home}/{RUNTIME}", fastjson.pretty(runtime_half(part.config)).encode(), 0o644)
    write_recipe(pod.path, shared, parts, detach=detach)
    final = pods.path(directory.RUN, pod.uuid)
    wired = wires(os.path.dirname(pods.root), pod.uuid, net, userns=userns)
    found = compiled(shared, parts, final, pod.uuid, detach=detach, on_failure=on_failure(), wires=wired)
    write_plan(pod.path, found)
    for remark in found.remarks:
        log.warn(remark)


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read().strip()


def _options(uuid: str, net: str, wished: Wishes, *, userns: bool) -> RunOptions:
    """Return what is asked of the network in ``bundle``'s words."""
    kind, netns = network_of(net, uuid, userns=userns)
    names = wished.names
    return RunOptions(
        pod_uuid=uuid,
        net=kind,
        netns=netns,
        names=Names(resolv=names.resolv, text=names.text, hosts=names.hosts, entries=names.entries),
    )


def _note(pod: Held, net: str, wished: Wishes, *, userns: bool) -> None:
    """Write what the networks are to be, for the moment when the pod starts."""
    write_new(f"{pod.path}/net", net.encode())
    wishes.write(pod.path, wished)
    wishes.request(pod.path, net, wished, late=userns)


def _rewired(part: Part, options: RunOptions, home: str) -> Part:
    """Connect an app otherwise, and write the files that it gets for that."""
    trees = tuple(reversed(part.lowers)) or (f"{home}/rootfs",)
    config, texts, told = rewire.rewired(part.config, Rootfs(trees), options)
    for name, text in texts.items():
        os.makedirs(f"{home}/{DIRECTORY}", 0o755, exist_ok=True)
        write_new(f"{home}/{DIRECTORY}/{name}", text, 0o644)
    for remark in told:
        log.warn(f"{part.name}: {remark}")
    if config.process is None:
        return part.replace(config=config)
    env = tuple(_address(variable, options) for variable in config.process.env)
    return part.replace(config=config.replace(process=config.process.replace(env=env)))


def _address(variable: str, options: RunOptions) -> str:
    """Return the variable; the metadata service has another port where the host's network is the pod's."""
    if not variable.startswith(_METADATA):
        return variable
    token = variable.rpartition("/")[2]
    return _METADATA + url(options.pod_uuid, token, host_network=options.net == "host")


def _renamed(config: Config, changes: Changes) -> Config:
    return config.replace(hostname=changes.hostname) if changes.hostname else config


def _changed(part: Part, changes: Changes) -> Part:
    config = _renamed(part.config, changes)
    if changes.ipc and config.linux is not None:
        kept = tuple(each for each in config.linux.namespaces if each.type != "ipc")
        own = (Namespace(type="ipc"),) if changes.ipc == "private" else ()
        config = config.replace(linux=config.linux.replace(namespaces=(*kept, *own)))
    if changes.interactive:
        if config.process is None:
            raise InvalidSpec("has no process", document=f"{part.name}/config.json")
        config = config.replace(process=config.process.replace(terminal=True))
    return part.replace(config=config)
