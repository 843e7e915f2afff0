"""What CNI's commands mean for a whole network: its plugins one after the other, each with what it has to know.

Source: CNI specification 1.1.0, section 3 ("Execution of Network Configurations").
"""

from __future__ import annotations

from pyrkt.base.errors import PyrktError
from pyrkt.base.reader import Reader
from pyrkt.net import plugin, result
from pyrkt.net.conf import Network, capable, version_of
from pyrkt.net.plugin import Call, PluginFailed, PluginMissing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from pyrkt.net.cache import Attachment

_KNOWS_PREVIOUS = (0, 4, 0)  # DEL gets prevResult, and CHECK exists
_COLLECTS = (1, 1, 0)  # GC and STATUS exist


def _call(attachment: Attachment, started: Callable[[int], None] | None) -> Call:
    return Call(
        places=attachment.places,
        container=attachment.container,
        netns=attachment.netns,
        interface=attachment.interface,
        args=attachment.args,
        seconds=attachment.network.seconds,
        started=started,
    )


def config(network: Network, conf: dict[str, Any], capabilities: dict[str, Any], previous: Any) -> dict[str, Any]:
    """Return what one plugin reads: its configuration with what the runtime adds."""
    value = {name: item for name, item in conf.items() if name not in ("prevResult", "runtimeConfig")}
    value |= {"name": network.name, "cniVersion": network.version}
    given = {name: item for name, item in capabilities.items() if capable(conf, name)}
    if given:
        value["runtimeConfig"] = given
    if previous is not None:
        value["prevResult"] = previous
    return value


def add(attachment: Attachment, started: Callable[[int], None] | None = None) -> Any:
    """Add the pod to the network; return the raw result of the last plugin.

    Raises: PluginFailed. Then DEL must be called, as after a success.
    """
    network, previous = attachment.network, None
    for conf in network.plugins:
        value = config(network, conf, attachment.capabilities, previous)
        answer = plugin.call("ADD", value, _call(attachment, started))
        if answer is None and conf is network.plugins[0]:
            raise PluginFailed(
                f"{conf['type']}: it says that all went well, but not what it did", hint="the plugin is broken"
            )
        # A plugin that says nothing has left things as they are; libcni takes it so, too.
        previous = previous if answer is None else answer
        _judge(previous, str(conf["type"]))
    return previous


def _judge(answer: Any, kind: str) -> None:
    try:
        result.parse(answer, f"the result of the plugin {kind}")
    except PyrktError as error:
        raise PluginFailed(error.message, hint="the plugin is broken: see the CNI specification, section 5") from None


def delete(attachment: Attachment, started: Callable[[int], None] | None = None) -> None:
    """Take the pod off the network; what is not there any more is fine. Raises: PluginFailed of the first that failed.

    All plugins are asked, whatever one of them says: what each holds has nothing to do with the others.
    """
    network = attachment.network
    previous = attachment.result if version_of(network.version) >= _KNOWS_PREVIOUS else None
    failed: PluginFailed | None = None
    for conf in reversed(network.plugins):
        value = config(network, conf, attachment.capabilities, previous)
        try:
            plugin.call("DEL", value, _call(attachment, started))
        except PluginFailed as error:
            # A plugin that is not there has done nothing either, unless it was there when all of them were done.
            if attachment.added or not isinstance(error, PluginMissing):
                failed = failed or error
    if failed:
        raise failed


def check(attachment: Attachment) -> bool:
    """Ask whether the attachment is as ADD left it; False if its network has no CHECK. Raises: PluginFailed."""
    network = attachment.network
    if version_of(network.version) < _KNOWS_PREVIOUS or network.disable_check:
        return False
    for conf in network.plugins:
        value = config(network, conf, attachment.capabilities, attachment.result)
        plugin.call("CHECK", value, _call(attachment, None))
    return True


def collects(network: Network) -> bool:
    """Tell whether the network knows GC and STATUS."""
    return version_of(network.version) >= _COLLECTS


def collect(network: Network, places: tuple[str, ...], valid: Iterable[tuple[str, str]]) -> bool:
    """Have the plugins drop what belongs to no attachment in ``valid``, (container, interface) each; False: no GC.

    Raises: PluginFailed of the first that failed, when all were asked.
    """
    if not collects(network) or network.disable_gc:
        return False
    attachments = [{"containerID": container, "ifname": interface} for container, interface in valid]
    _all(network, places, "GC", {"cni.dev/valid-attachments": attachments})
    return True


def status(network: Network, places: tuple[str, ...]) -> bool:
    """Ask whether the network could take a pod now; False if it has no STATUS. Raises: PluginFailed."""
    if not collects(network):
        return False
    for conf in network.plugins:
        value = config(network, conf, {}, None)
        plugin.call("STATUS", value, Call(places=places, seconds=network.seconds))
    return True


def _all(network: Network, places: tuple[str, ...], command: str, more: dict[str, Any]) -> None:
    failed: PluginFailed | None = None
    for conf in network.plugins:
        try:
            plugin.call(command, config(network, conf, {}, None) | more, Call(places=places, seconds=network.seconds))
        except PluginFailed as error:
            failed = failed or error
    if failed:
        raise failed


def versions(kind: str, places: tuple[str, ...]) -> tuple[str, ...]:
    """Return the versions of CNI that a plugin speaks. Raises: PluginFailed."""
    answer = plugin.call("VERSION", {"cniVersion": "1.0.0", "type": kind}, Call(places=places, seconds=10.0))
    return Reader(answer or {}, f"what the plugin {kind} answers")["supportedVersions"].texts()
