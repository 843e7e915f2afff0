"""The network of a pod: up before stage1 begins, down when all has ended; each may be killed, and done again.

Everything that ``down`` needs is on the disk before it is needed: see ``net.cache``. Only pods that join networks of
CNI come here; one with a loopback of its own, or in the host's network, needs none of this.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C half of signal; its enums cost 3 ms
import os

from pyrkt.base import fastjson, log
from pyrkt.base.atomic import write_file
from pyrkt.base.dirs import ConfigDirs
from pyrkt.base.errors import InvalidSpec, NoPermission, NotFound, PyrktError, StartFailed
from pyrkt.base.reader import Reader
from pyrkt.base.record import Record
from pyrkt.kernel import network as kernel
from pyrkt.kernel import process
from pyrkt.net import bandwidth, cache, chain, conf, modes, netns, plugin, ports, registry, result, usermode
from pyrkt.net.cache import Attachment
from pyrkt.net.plugin import PluginFailed, PluginMissing
from pyrkt.net.ports import Published
from pyrkt.pod import resolver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Never

    from pyrkt.net.conf import Network
    from pyrkt.net.result import Result

REQUEST, INFO = "network", "net-info.json"
"""Files of the pod: what was asked of its network, and what came of it, as rkt shows it."""
_ENDING = (_signal.SIGTERM, _signal.SIGHUP)
_SIGNALS = (_signal.SIGINT, *_ENDING)
_BROKEN = "the plugin is broken, or another one has undone what it did"


class Request(Record):
    """What a pod asks of its networks: --net in words, the ports to publish, what each plugin may be told beside.

    ``dns``: the name servers of the networks become those of the apps. ``late``: the namespace is made with the pod's
    user namespace, so that it is joined then; ``dirs`` are the directories of the configuration until then.
    """

    net: str
    ports: tuple[Published, ...] = ()
    dns: bool = True
    late: bool = False
    dirs: tuple[str, ...] = ()
    bandwidth: dict[str, int] = {}  # noqa: RUF012 - records are frozen


def write_request(pod: str, request: Request) -> None:
    """Write what the pod in the directory ``pod`` asks for."""
    value = {
        "net": request.net,
        "ports": [{name: getattr(port, name) for name in Published._fields} for port in request.ports],
        "dns": request.dns,
        "late": request.late,
        "dirs": list(request.dirs),
        "bandwidth": request.bandwidth,
    }
    write_file(f"{pod}/{REQUEST}", fastjson.dumps(value), durable=False)


def read_request(pod: str) -> Request | None:
    """Return what the pod asks for; None if it joins no network. Raises: InvalidSpec."""
    path = f"{pod}/{REQUEST}"
    try:
        with open(path, "rb") as file:
            reader = Reader(fastjson.loads(file.read(), path), path)
    except FileNotFoundError:
        return None
    return Request(
        net=reader["net"].text(),
        ports=tuple(
            Published(
                name=item["name"].text(),
                protocol=item["protocol"].text(),
                pod_port=item["pod_port"].integer(1, 65535),
                host_port=item["host_port"].integer(1, 65535),
                host_ip=item["host_ip"].text(""),
            )
            for item in reader["ports"].items()
        ),
        dns=reader["dns"].boolean(default=True),
        late=reader["late"].boolean(default=False),
        dirs=reader["dirs"].texts(),
        bandwidth={name: value.integer(0, 1 << 62) for name, value in reader["bandwidth"].members()},
    )


def directories(dirs: ConfigDirs) -> tuple[str, ...]:
    """Return the directories with configurations of networks, lightest first; rkt's own beside the machine's."""
    rkt = ("/usr/lib/rkt/net.d", "/etc/rkt/net.d") if dirs.local == "/etc/pyrkt" else ()
    return (*rkt, *(f"{directory}/net.d" for directory in dirs.lightest_first()))


def places(dirs: ConfigDirs) -> tuple[str, ...]:
    """Return the directories with plugins, the first one wins: beside the configurations, as in rkt, then the usual."""
    return (*reversed(directories(dirs)), *plugin.PLACES)


def networks(dirs: ConfigDirs) -> tuple[Network, ...]:
    """Return the networks that the configuration describes. Raises: InvalidSpec naming file and place."""
    return conf.load(directories(dirs))


def plan(request: Request, uuid: str, dirs: ConfigDirs) -> tuple[Attachment, ...]:
    """Return the attachments that ``request`` comes to; touches nothing. Raises: NotFound, InvalidSpec."""
    chosen = [
        (network if network.file else _let_through(network), args)
        for network, args in modes.select(modes.parse([request.net]), networks(dirs))
    ]
    if request.bandwidth:
        chosen = [(bandwidth.shaping(network), args) for network, args in chosen]
    target = -1
    if request.ports:
        target = modes.forwarding([network for network, _ in chosen])
        chosen[target] = (ports.publishing(chosen[target][0]), chosen[target][1])
    found = []
    searched = places(dirs)
    for number, (network, args) in enumerate(chosen):
        check_programs(network, searched)
        given: dict[str, Any] = dict(_asked(args))
        if number == target:
            given[ports.CAPABILITY] = ports.mappings(request.ports)
        if request.bandwidth:
            given[bandwidth.CAPABILITY] = request.bandwidth
        found.append(
            Attachment(
                number=number,
                network=network,
                container=uuid,
                netns=netns.path(uuid),
                interface=f"eth{number}",
                args=f"IgnoreUnknown=1;{args}" if args else "",
                capabilities=given,
                places=searched,
            )
        )
    return tuple(found)


def _let_through(own: Network) -> Network:
    """Return one of our own networks so that it works on a host that forwards nothing unasked, as docker leaves it."""
    if own.name != modes.DEFAULT:
        return own
    from pyrkt.net import rules  # noqa: PLC0415 - subprocess, for the others

    return own if rules.forwards() else ports.with_plugin(own, modes.FIREWALL)


def shapes(net: str, dirs: ConfigDirs) -> tuple[bool, str]:
    """Tell whether all networks of --net can limit a pod's bandwidth; else also why not."""
    if os.geteuid() != 0:
        return False, "pasta and slirp4netns limit no bandwidth"
    try:
        chosen = modes.select(modes.parse([net]), networks(dirs))
        for network, _ in chosen:
            if not bandwidth.can_shape(network):
                return False, f"no plugin of the network {network.name} limits bandwidth"
            check_programs(bandwidth.shaping(network), places(dirs))
    except NotFound as error:  # it may be there when the pod starts, but nobody knows what it does
        return False, error.message
    return True, ""


def check_programs(network: Network, searched: tuple[str, ...]) -> None:
    """Refuse a network whose plugins are not all there, before the first has done its part. Raises: PluginMissing."""
    for each in network.plugins:
        ipam = each.get("ipam")
        for kind in (each["type"], ipam.get("type") if isinstance(ipam, dict) else None):
            if not kind:
                continue
            try:
                plugin.find(str(kind), searched)
            except PluginMissing as error:
                raise _named(error, network) from None


def _asked(args: str) -> Iterable[tuple[str, Any]]:
    """Yield the capabilities behind the arguments that everybody knows."""
    words = dict(pair.partition("=")[::2] for pair in args.split(";") if pair)
    if "IP" in words:
        yield "ips", [words["IP"]]
    if "MAC" in words:
        yield "mac", words["MAC"]


def up(pod: str, uuid: str, dirs: ConfigDirs) -> None:
    """Give the pod in the directory ``pod`` its network; nothing to do where none was asked for.

    Where the network has to wait for the pod's user namespace, it is only checked: ``join`` does it then.
    Raises: StartFailed, NotFound, InvalidSpec, CannotCreate, NoPermission; whatever it is, nothing is left.
    """
    request = read_request(pod)
    if request is None:
        return
    if os.path.isdir(f"{pod}/{cache.DIRECTORY}") or netns.exists(uuid):
        down(pod, uuid)  # what an attempt left that was killed
    if request.late:
        if _by_helper(request):
            _check_helper(request)
        else:
            plan(request, uuid, dirs)
        write_request(pod, request.replace(dirs=(dirs.system, dirs.local, dirs.user)))
        return
    _join(pod, uuid, plan(request, uuid, dirs), request, 0)


def join(pod: str, uuid: str, first: int) -> None:
    """Give the pod its network, in the namespace of its process ``first``. Raises: as ``up``."""
    request = read_request(pod)
    if request is None or not request.late:
        raise InvalidSpec("does not wait for a network", document=f"pod {uuid}")
    if _by_helper(request):
        _help(pod, request, first)
        return
    system, local, user = request.dirs
    _join(pod, uuid, plan(request, uuid, ConfigDirs(system=system, local=local, user=user)), request, first)


def _by_helper(request: Request) -> bool:
    return request.late and os.geteuid() != 0


def _check_helper(request: Request) -> None:
    if request.net != modes.DEFAULT:
        raise NoPermission(
            f"failed to setup network: {request.net}: CNI's plugins need root",
            hint="an ordinary user's pods have --net=default (by pasta or slirp4netns), none or host",
        )
    usermode.find()


def _help(pod: str, request: Request, first: int) -> None:
    directory = f"{pod}/{cache.DIRECTORY}"
    os.makedirs(directory, 0o700, exist_ok=True)
    try:
        needs_resolver = not resolver.usable()
        helper = usermode.start(usermode.find(), first, directory, request.ports, resolver=needs_resolver)
        usermode.save(directory, helper)
        address = result.Address(ip=usermode.ADDRESS, prefix=usermode.PREFIX, family=4)
        info = {
            "netName": modes.DEFAULT,
            "netConf": "",
            "pluginPath": helper.program,
            "ifName": "eth0",
            "ip": address.ip,
            "args": "",
            "mask": address.mask(),
        }
        write_file(f"{pod}/{INFO}", fastjson.dumps([info]), mode=0o644, durable=False)
        if request.dns:
            resolver.fill(_apps(pod), (), last=helper.dns)
    except BaseException:
        usermode.stop(directory)
        raise


def _join(pod: str, uuid: str, attachments: tuple[Attachment, ...], request: Request, first: int) -> None:
    previous = [(number, _signal.signal(number, _interrupted)) for number in _ENDING]
    try:
        _attach(pod, uuid, attachments, request, first)
    except BaseException as error:
        _give_up(pod, uuid, error)
        if isinstance(error, OSError) and not isinstance(error, PyrktError):
            raise StartFailed(f"failed to setup network: {error}", hint="pyrkt doctor says what works here") from None
        raise
    finally:
        for number, handler in previous:
            _signal.signal(number, handler)


def _interrupted(number: int, _frame: object) -> Never:
    raise SystemExit(128 + number)


def _give_up(pod: str, uuid: str, error: BaseException) -> None:
    """Take back what was done, and let nobody interrupt it."""
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _SIGNALS)
    try:
        down(pod, uuid)
    except (PyrktError, OSError) as problem:
        error.add_note(f"undoing: {problem}")
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)


def _attach(pod: str, uuid: str, attachments: tuple[Attachment, ...], request: Request, first: int) -> None:
    if first:
        netns.hold(uuid, first)
    else:
        netns.make(uuid)
    joined = [(attachment.network.name, attachment.interface) for attachment in attachments]
    registry.claim(uuid, joined, request.ports)
    results = []
    for attachment in attachments:
        cache.save(pod, attachment)
        answer = _added(pod, attachment)
        cache.save(pod, attachment.replace(result=answer, added=True))
        found = result.parse(answer, f"the result of network {attachment.network.name}")
        results.append((attachment, found))
        _verify(attachment, found)
        _let_in(attachment, found)
    write_file(f"{pod}/{INFO}", fastjson.dumps([_info(*pair) for pair in results]), mode=0o644, durable=False)
    if request.dns:
        resolver.fill(_apps(pod), tuple(found.dns for _, found in results))


def _apps(pod: str) -> list[str]:
    return [f"{pod}/apps/{name}" for name in os.listdir(f"{pod}/apps")]


def resolve(pod: str, app: str) -> None:
    """Tell an app that comes later, in the directory ``app``, of the name servers of the pod's networks."""
    request = read_request(pod)
    if request is None or not request.dns:
        return
    if _by_helper(request):
        resolver.fill((app,), (), last=usermode.dns(f"{pod}/{cache.DIRECTORY}"))
        return
    attached = [attachment for _, attachment in _remembered(pod) if attachment is not None]
    resolver.fill((app,), tuple(result.parse(each.result, "the result of a network").dns for each in attached))


def _let_in(attachment: Attachment, found: Result) -> None:
    """Have published ports reached from outside, where the host forwards nothing unasked."""
    if _is_shut(attachment) and found.addresses:
        from pyrkt.net import rules  # noqa: PLC0415 - subprocess

        rules.let_in(attachment.container, found.addresses[0].ip)


def _is_shut(attachment: Attachment) -> bool:
    return ports.CAPABILITY in attachment.capabilities and modes.FIREWALL in attachment.network.plugins


def _added(pod: str, attachment: Attachment) -> Any:
    try:
        return chain.add(attachment, lambda pid: cache.note_plugin(pod, pid, process.start_time(pid)))
    except PluginFailed as error:
        raise _named(error, attachment.network) from None


def _named(error: PluginFailed, network: Network) -> PluginFailed:
    """Return the failure of a plugin with the name of the network, and the words that rkt's users look for."""
    kind = PluginMissing if isinstance(error, PluginMissing) else PluginFailed
    hint = f"{error.hint} ({network.file})" if network.file else error.hint
    return kind(f"failed to setup network {network.name}: {error.message}", hint=hint, code=error.code)


def _verify(attachment: Attachment, found: Result) -> None:
    """Believe no plugin: the interface is there, with the addresses that it says, and those that were asked for."""

    def broken(problem: str, hint: str = _BROKEN) -> PluginFailed:
        return _named(PluginFailed(problem, hint=hint), attachment.network)

    if attachment.interface not in kernel.interfaces(attachment.netns):
        raise broken(f"it is said to be done, but the pod has no {attachment.interface}")
    lacking = kernel.lacking(attachment.netns, tuple(each.ip for each in found.addresses if each.family == 4))
    if lacking:
        raise broken(f"it is said to be done, but the pod does not have the address {lacking[0]}")
    asked = dict(_asked(attachment.args))
    has = {each.ip for each in found.addresses}
    for ip in asked.get("ips", ()):
        if ip.partition("/")[0] not in has:
            raise broken(f"the pod did not get the address {ip}", "not every plugin takes IP=; host-local does")
    macs = {each.mac.lower() for each in found.interfaces if each.name == attachment.interface and each.sandbox}
    if "mac" in asked and asked["mac"].lower() not in macs:
        raise broken(f"the pod did not get the address {asked['mac']}", "not every plugin takes MAC=; tuning does")


def _info(attachment: Attachment, found: Result) -> dict[str, Any]:
    """Return the network as rkt's list and status have it; ip6, mask6 and dns are ours."""
    network = attachment.network
    by_family = {each.family: each for each in reversed(found.addresses)}
    main = by_family.get(4) or by_family.get(6)
    value: dict[str, Any] = {
        "netName": network.name,
        "netConf": network.file,
        "pluginPath": plugin.find(str(network.plugins[0]["type"]), attachment.places),
        "ifName": attachment.interface,
        "ip": main.ip if main else "",
        "args": attachment.args.removeprefix("IgnoreUnknown=1;"),
        "mask": main.mask() if main else "",
    }
    if 4 in by_family and 6 in by_family:
        value |= {"ip6": by_family[6].ip, "mask6": by_family[6].mask()}
    return value


def down(pod: str, uuid: str, *, forget: bool = False) -> None:
    """Take the pod off its networks, in reverse order, and remove its namespace. What is gone already is fine.

    What a plugin does not give back stays known, for the next attempt; with ``forget`` it is warned of.
    Raises: PluginFailed of the first that failed, when all else is done.
    """
    _end_plugin(pod)
    failed: PyrktError | None = None
    for name, attachment in reversed(_remembered(pod)):
        if attachment is None:
            log.warn(f"{name} cannot be read: what it was for stays as it is")
            os.unlink(name)
            continue
        try:
            _delete(pod, attachment, uuid)
        except PluginFailed as error:
            if not forget:
                failed = failed or error
                continue
            log.warn(f"pod {uuid}: {error.message}")
        cache.forget(pod, attachment)
    usermode.stop(f"{pod}/{cache.DIRECTORY}")
    netns.remove(uuid)
    registry.release(uuid)
    if failed:
        raise failed
    cache.close(pod)


def attachments(pod: str) -> tuple[Attachment, ...]:
    """Return what the pod in the directory ``pod`` is attached to."""
    return tuple(attachment for _, attachment in _remembered(pod) if attachment is not None and attachment.added)


def _remembered(pod: str) -> list[tuple[str, Attachment | None]]:
    found: list[tuple[str, Attachment | None]] = []
    for name in cache.names(pod):
        path = f"{pod}/{cache.DIRECTORY}/{name}"
        try:
            found.append((path, cache.read(path)))
        except InvalidSpec:
            found.append((path, None))
    return found


def _delete(pod: str, attachment: Attachment, uuid: str) -> None:
    # After a reboot there is no namespace; plugins are told so, and give back the rest.
    there = attachment if netns.exists(uuid) else attachment.replace(netns="")
    disturbed = attachment.network.masquerades() and _is_disturbed(there)
    try:
        chain.delete(there, lambda pid: cache.note_plugin(pod, pid, process.start_time(pid)))
    except PluginFailed as error:
        raise PluginFailed(
            f"network {attachment.network.name}: {error.message}",
            hint=f"it is tried again by pyrkt gc; pyrkt rm {uuid[:8]} goes on without it",
            code=error.code,
        ) from None
    finally:
        if disturbed or _is_shut(attachment):
            from pyrkt.net import rules  # noqa: PLC0415 - few pods need it

            rules.shut(uuid)
            rules.sweep(uuid)


def _is_disturbed(attachment: Attachment) -> bool:
    """Tell whether the interface of the pod is not as it was made, so that plugins will not know what to take back."""
    if not attachment.netns:
        return True
    try:
        found = result.parse(attachment.result, "the result of a network")
        addresses = tuple(each.ip for each in found.addresses if each.family == 4)
        there = attachment.interface in kernel.interfaces(attachment.netns)
        return not there or bool(kernel.lacking(attachment.netns, addresses))
    except (InvalidSpec, OSError):
        return True


def _end_plugin(pod: str) -> None:
    """End a plugin that outlived the pyrkt which had started it."""
    pid, started = cache.noted_plugin(pod)
    if pid > 0 and started and process.start_time(pid) == started:
        plugin.end_group(pid)
