"""Commands on networks: list, status, check, gc. A network is described in net.d; pods join it by --net."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pyrkt.base.errors import PyrktError
from pyrkt.base.log import warn
from pyrkt.cli import show
from pyrkt.cli.clicks import format_option, pass_settings
from pyrkt.net import chain, modes, registry
from pyrkt.pod import network
from pyrkt.pod.directory import Pods

if TYPE_CHECKING:
    from pyrkt.cli.settings import Settings
    from pyrkt.net.cache import Attachment
    from pyrkt.net.conf import Network


def _networks(settings: Settings) -> list[Network]:
    """Return those of net.d, and our own two where no file takes their place."""
    described = list(network.networks(settings.dirs))
    names = {each.name for each in described}
    return [*described, *(own for name, own in modes.OWN.items() if name not in names)]


def _chosen(settings: Settings, names: tuple[str, ...]) -> list[Network]:
    known = _networks(settings)
    modes.refuse_unknown(names, known)
    return [each for each in known if each.name in names or not names]


@click.command("list")
@click.option("--no-legend", is_flag=True, help="Leave out the heading.")
@format_option
@pass_settings
def list_networks(settings: Settings, no_legend: bool, form: str) -> None:
    """List the networks that --net can name, and how many pods of this host are in each."""
    joined = [name for entry in registry.entries() for name, _ in entry.attachments]
    rows = [
        (each.name, each.version, [str(plugin["type"]) for plugin in each.plugins], joined.count(each.name), each.file)
        for each in _networks(settings)
    ]
    if form != "table":
        members = ("name", "cniVersion", "plugins", "pods", "file")
        show.out(show.as_json([dict(zip(members, row, strict=True)) for row in rows], form))
        return
    shown = [(name, cni, ",".join(plugins), str(pods), file or "-") for name, cni, plugins, pods, file in rows]
    show.out(show.table(("NAME", "CNI", "PLUGINS", "PODS", "FILE"), shown, legend=not no_legend))


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME...]")
@pass_settings
def status(settings: Settings, names: tuple[str, ...]) -> int:
    """Say whether each network (or NAME...) could take a pod now. Exits with 1 if one could not."""
    rows = [(each.name, *_verdict(each, settings)) for each in _chosen(settings, names)]
    show.out(show.table(("NAME", "VERDICT", "DETAIL"), rows))
    return int(any(verdict != "ok" for _, verdict, _ in rows))


def _verdict(each: Network, settings: Settings) -> tuple[str, str]:
    """Ask the plugins which versions they speak and, since CNI 1.1, whether they are ready."""
    places = network.places(settings.dirs)
    try:
        network.check_programs(each, places)
        for plugin in each.plugins:
            spoken = chain.versions(str(plugin["type"]), places)
            if each.version not in spoken:
                return "failed", f"{plugin['type']} speaks CNI {', '.join(spoken)}, not {each.version}"
        asked = chain.status(each, places)
    except PyrktError as error:
        return "failed", error.message
    return "ok", "it says so" if asked else f"its plugins are there; CNI {each.version} has no more to ask"


@click.command()
@click.argument("uuids", nargs=-1, metavar="[UUID...]")
@pass_settings
def check(settings: Settings, uuids: tuple[str, ...]) -> int:
    """Ask whether the networks of running pods (or of UUID...) are as they were made. Exits with 1 if one is not."""
    pods = Pods(settings.data)
    chosen = [pods.find(uuid) for uuid in uuids] or [pod for pod in pods.each() if pod.state() == "running"]
    rows = [
        (pod.uuid[:8], each.network.name, each.interface, *_checked(each))
        for pod in chosen
        for each in network.attachments(pod.path)
    ]
    show.out(show.table(("UUID", "NETWORK", "INTERFACE", "VERDICT", "DETAIL"), rows))
    return int(any(row[3] == "failed" for row in rows))


def _checked(attachment: Attachment) -> tuple[str, str]:
    try:
        asked = chain.check(attachment)
    except PyrktError as error:
        return "failed", error.message
    return ("ok", "") if asked else ("unknown", "its network has no CHECK")


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME...]")
@pass_settings
def collect(settings: Settings, names: tuple[str, ...]) -> int:
    """Have networks (or NAME...) drop what belongs to no pod of this host, by the GC of CNI 1.1.

    For networks that are pyrkt's alone. What pods left is taken back by pyrkt gc, whatever their networks.
    """
    entries, code = registry.entries(), 0
    for each in _chosen(settings, names):
        joined = [(entry.uuid, name, interface) for entry in entries for name, interface in entry.attachments]
        valid = [(uuid, interface) for uuid, name, interface in joined if name == each.name]
        try:
            if chain.collect(each, network.places(settings.dirs), valid):
                show.out(f"{each.name}: kept {len(valid)} attachment{'' if len(valid) == 1 else 's'}\n")
            elif names:
                warn(f"{each.name}: CNI {each.version} has no GC, or its file says disableGC")
        except PyrktError as error:
            warn(f"{each.name}: {error.message}")
            code = 1
    return code
