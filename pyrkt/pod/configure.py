"""From an image and what is asked of it to an OCI configuration: options for ``bundle``, which decides the rest."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pyrkt.base import fastjson
from pyrkt.base.errors import InvalidSpec, NotFound, UsageError
from pyrkt.base.reader import Reader
from pyrkt.base.record import Record
from pyrkt.bundle import from_appc, from_oci, isolators, sandbox
from pyrkt.bundle.options import DeviceNode, IdRange, IoLimit, Names, RunOptions, SeccompChoice, Signs, VolumeMount
from pyrkt.bundle.volumes import check_source
from pyrkt.metadata.address import url
from pyrkt.plan.place import SAYS_READY, Policy
from pyrkt.pod import flavours, streams
from pyrkt.pod.ask import App
from pyrkt.pod.compile import Part
from pyrkt.spec import appc
from pyrkt.spec.appc_isolators import read_isolators
from pyrkt.spec.image import ImageConfig
from pyrkt.store import Rootfs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pyrkt.bundle.assemble import Bundle
    from pyrkt.bundle.isolators import Limits, Report
    from pyrkt.pod.ask import Device, PodAsk, Volume
    from pyrkt.pod.ask import IoLimit as AskedIo
    from pyrkt.spec.runtime import Config
    from pyrkt.store import ImageRecord, Store


NETNS = "/run/pyrkt/netns"
"""net.netns.DIRECTORY: where the network namespaces of pods are mounted."""

_BURSTS, _LEAST_BURST, _MOST_BURST = 10, 8 * 65536, 8 * ((1 << 32) - 1)
"""What may pass at once: a tenth of a second's worth, in bits; the kernel's token buckets count bytes in 32 bits."""
_FAILED, _DONE = 1, 2  # plan.place.Policy, ends


class Place(Record):
    """Where an app will be: its pod's UUID and directory, and the id mappings of a user namespace, if it has one.

    ``token`` is that of the pod's metadata service. ``signs`` are what of the host decides on isolators; None before
    anybody has looked.
    """

    uuid: str
    path: str
    token: str
    signs: Signs | None = None
    uid_mappings: tuple[IdRange, ...] = ()
    gid_mappings: tuple[IdRange, ...] = ()


def app_name(app: App, record: ImageRecord) -> str:
    """Return the app's name: as asked, or the last part of the image's name, as rkt has it."""
    return app.name or plain_name(record)


def plain_name(record: ImageRecord) -> str:
    """Return the app name that an image gives: the last part of its own."""
    last = (record.name or record.id).rstrip("/").rpartition("/")[2].lower()
    words = "".join(char if char.isascii() and char.isalnum() else "-" for char in last).split("-")
    return "-".join(word for word in words if word) or "app"


def rootfs(store: Store, record: ImageRecord) -> Rootfs:
    """Return the root file system of a stored image. Raises: NotFound if a tree is missing."""
    for tree in record.trees:
        if not store.trees.has(tree):
            raise NotFound(
                f"image {record.id[:19]} lacks its tree {tree[:19]}", hint="pyrkt fetch --pull-policy=update"
            )
    return Rootfs(tuple(os.fspath(store.trees.path(tree)) for tree in record.trees))


def compose(ask: PodAsk, app: App, record: ImageRecord, store: Store, place: Place) -> Bundle:
    """Return the container of ``app`` on the image ``record``, with what must lie beside its config.json.

    Raises: UsageError, InvalidSpec, ImageRefused, NotFound as ``bundle`` finds them.
    """
    for volume in (*ask.volumes, *(mount.own for mount in app.mounts if mount.own)):
        if volume.kind == "host":
            check_source(volume.source, linked=ask.linked_volumes)
    asked = options(ask, app, app_name(app, record), place)
    return flavours.composed(ask.flavour, compose_image(record, store, asked, overriding(app)))


def compose_image(record: ImageRecord, store: Store, asked: RunOptions, override: appc.App | None = None) -> Bundle:
    """Return the container of a stored image under the options ``asked``; ``override`` replaces its own app."""
    if override:
        manifest = appc.ImageManifest(name=plain_name(record), app=override)
        return from_appc.compose(manifest, rootfs(store, record), asked)
    if record.kind == "appc":
        return from_appc.compose(appc_manifest(record, store), rootfs(store, record), asked)
    return from_oci.compose(oci_config(record, store), rootfs(store, record), asked)


def pod_isolators(ask: PodAsk) -> tuple[appc.Isolator, ...]:
    """Return the isolators of the pod itself."""
    if not ask.isolators:
        return ()
    document = "isolators of the pod manifest"
    return read_isolators(Reader(fastjson.loads(ask.isolators, document), document))


def pod_limits(ask: PodAsk, place: Place) -> tuple[Limits, tuple[Report, ...]]:
    """Return the limits of the pod as a whole, and what became of its isolators. Raises: InvalidSpec."""
    return isolators.read_pod(
        pod_isolators(ask), RunOptions(net=ask.net, host_ipc=ask.ipc == "host", signs=place.signs)
    )


def bandwidth(pod: Limits, bundles: Iterable[Bundle]) -> dict[str, int]:
    """Return the pod's network limit as CNI's capability "bandwidth" has it, in bits; empty for none.

    A limit of an app holds for the pod, whose apps have one network: the least counts.
    """
    rates = [rate for rate in (pod.network_bps, *(bundle.network_bps for bundle in bundles)) if rate]
    if not rates:
        return {}
    rate = min(rates) * 8
    burst = min(max(rate // _BURSTS, _LEAST_BURST), _MOST_BURST)
    return {"ingressRate": rate, "ingressBurst": burst, "egressRate": rate, "egressBurst": burst}


def shared(ask: PodAsk, limits: Limits, bundles: Sequence[Bundle], place: Place) -> Config:
    """Return the container whose namespaces the apps of the pod, ``bundles``, share; ``limits`` are the pod's own."""
    directory = f"/pyrkt-{place.uuid}"
    if bundles:
        return sandbox.of(bundles[0].config, limits, directory)
    return sandbox.container(replace(options(ask, App(image=""), "", place), cgroups_path=directory), limits)


def overriding(app: App) -> appc.App | None:
    """Return the app that a pod manifest puts in the place of the image's; None if it has none."""
    if not app.override:
        return None
    document = f"app {app.name} of the pod manifest"
    return appc.App.parse(Reader(fastjson.loads(app.override, document), document))


def appc_manifest(record: ImageRecord, store: Store) -> appc.ImageManifest:
    """Return the manifest of a stored ACI."""
    with store.blobs.open(record.manifest) as file:
        return appc.parse_image_manifest(file.read())


def oci_config(record: ImageRecord, store: Store) -> ImageConfig:
    """Return the configuration of a stored OCI image. Raises: InvalidSpec."""
    document = f"configuration of image {record.id[:19]}"
    if not record.config:
        raise InvalidSpec("is not there", document=document, hint="fetch the image again")
    with store.blobs.open(record.config) as file:
        return ImageConfig.parse(Reader(fastjson.loads(file.read(), document), document))


def options(ask: PodAsk, app: App, name: str, place: Place) -> RunOptions:
    """Return what is asked of one app in ``bundle``'s words."""
    private = bool(place.uid_mappings)
    network, netns = network_of(ask.net, place.uuid, userns=private)
    return RunOptions(
        name=name,
        pod_uuid=place.uuid,
        metadata_url=url(place.uuid, place.token, host_network=ask.net == "host"),
        exec=app.exec,
        args=app.args or None,
        inherit_env=_variables(ask.inherited),
        set_env=_variables(ask.env),
        env=_variables(app.environment),
        user=app.user,
        group=app.group,
        supplementary_gids=app.supplementary_gids,
        working_dir=app.working_dir,
        readonly_rootfs=app.readonly_rootfs,
        hostname=ask.hostname,
        net=network,
        netns=netns,
        names=Names(resolv=ask.names.resolv, text=ask.names.text, hosts=ask.names.hosts, entries=ask.names.entries),
        interactive=ask.interactive or streams.wants_terminal(app),
        host_ipc=ask.ipc == "host",
        no_new_privileges=app.no_new_privileges,
        caps_retain=app.caps_retain,
        caps_remove=app.caps_remove,
        seccomp=_seccomp(app.seccomp),
        memory=app.memory or None,
        cpu_milli=app.cpu or None,
        cpu_shares=app.cpu_shares or None,
        pids=app.pids or None,
        io=tuple(map(_io, app.io)),
        devices=tuple(map(_device, app.devices)),
        oom_score_adj=app.oom_score_adj,
        mounts=_mounts(ask, app, place),
        nested_volumes=ask.nested_volumes,
        pod_isolators=pod_isolators(ask),
        signs=place.signs,
        userns=private,
        uid_mappings=place.uid_mappings,
        gid_mappings=place.gid_mappings,
        insecure=ask.insecure & {"capabilities", "paths", "seccomp"},
        annotations=dict(app.annotations),
        cgroups_path=f"/pyrkt-{place.uuid}/{name}",
    )


def part(ask: PodAsk, name: str, app: App, bundle: Bundle) -> Part:
    """Return the app for the compiler, its root still a copied one."""
    ends = {"all": 0, "any": _FAILED | _DONE}.get(ask.exit_policy, _FAILED if app.fatal else 0)
    native = ask.flavour.name == "native"
    return Part(
        name=name,
        config=bundle.config,
        pre_start=bundle.pre_start,
        post_stop=bundle.post_stop,
        policy=Policy(
            ends=ends | (SAYS_READY if native and bundle.says_ready else 0),
            restart=("no", "on-failure", "always").index(app.restart),
            most=app.restart_max,
            delay_ms=app.restart_delay_ms,
            signal=_stop_signal(bundle),
        ),
        wish=streams.wish(ask, app),
        listen=_sockets(ask, bundle) if native else (),
    )


def network_of(net: str, uuid: str, *, userns: bool) -> tuple[str, str]:
    """Return what --net is to a bundle: "none", "host" or "cni", and the file that is its network namespace."""
    if net in ("none", "host"):
        return net, ""
    # A user namespace comes with a network namespace of its own, which is connected then.
    return "cni", "" if userns else f"{NETNS}/{uuid}"


def _sockets(ask: PodAsk, bundle: Bundle) -> tuple[tuple[int, bool], ...]:
    """Return (port of the host, whether of udp) of the sockets that come to the app opened, as rkt has it."""
    outside = {port.name: port.host_port for port in ask.ports if port.host_port}
    first = {name: number for name, number, _ in reversed(bundle.activated)}
    return tuple(
        (outside.get(name, first[name]) + number - first[name], protocol.lower() == "udp")
        for name, number, protocol in bundle.activated
    )


def _stop_signal(bundle: Bundle) -> int:
    """Return the signal that the image wants to be ended by; 0 if it does not say."""
    if not bundle.stop_signal:
        return 0
    from pyrkt.runtime.kill import signal_number  # noqa: PLC0415 - few images say one

    try:
        number = signal_number(bundle.stop_signal)
    except UsageError:
        number = 0
    if not 0 < number <= 64:
        raise InvalidSpec(f"{bundle.stop_signal!r} is not a signal", document="image", where="config.StopSignal")
    return number


def _variables(texts: tuple[str, ...]) -> Mapping[str, str]:
    return dict(text.partition("=")[::2] for text in texts)


def _seccomp(text: str) -> SeccompChoice | None:
    """Read ``mode=retain|remove[,errno=NAME],CALL...``."""
    if not text:
        return None
    words = [word.strip() for word in text.split(",")]
    fields = dict(word.partition("=")[::2] for word in words if "=" in word)
    calls = tuple(word for word in words if word and "=" not in word)
    mode = fields.pop("mode", "")
    errno = fields.pop("errno", "")
    if fields or mode not in ("retain", "remove"):
        raise UsageError(f"--seccomp {text!r} cannot be read", hint="--seccomp mode=remove,errno=EPERM,mount,umount2")
    if not calls:
        raise UsageError(f"--seccomp {text!r} names no system call", hint="--seccomp mode=remove,mount,umount2")
    chosen: Literal["retain", "remove"] = "retain" if mode == "retain" else "remove"
    return SeccompChoice(mode=chosen, syscalls=calls, errno=errno)


def _mounts(ask: PodAsk, app: App, place: Place) -> tuple[VolumeMount, ...]:
    """Return the volumes where --mount puts them, and all of them for the mount points that the image names."""
    volumes = {volume.name: volume for volume in ask.volumes}
    placed = []
    for mount in app.mounts:
        volume = mount.own or volumes[mount.volume]
        name = own_volume(app, volume) if mount.own else volume.name
        placed.append(_mount(volume, name, mount.target, place))
    return (*placed, *(_mount(volume, volume.name, "", place) for volume in ask.volumes))


def _mount(volume: Volume, name: str, target: str, place: Place) -> VolumeMount:
    host = volume.kind == "host"
    return VolumeMount(
        target=target,
        source=volume.source if host else f"{place.path}/volumes/{name}",
        name=volume.name,
        kind="host" if host else "empty",
        readonly=volume.read_only,
        recursive=volume.recursive,
        is_file=host and not os.path.isdir(volume.source),
    )


def own_volume(app: App, volume: Volume) -> str:
    """Return the directory of an empty volume that only ``app`` has; no volume of a pod has a dot in its name."""
    return f"{app.name}.{volume.name}"


def empty_volumes(ask: PodAsk) -> tuple[tuple[str, Volume], ...]:
    """Return the directories below volumes/ that the pod needs, and the volume that each one is."""
    found = [(volume.name, volume) for volume in ask.volumes if volume.kind == "empty"]
    for app in ask.apps:
        own = (mount.own for mount in app.mounts if mount.own and mount.own.kind == "empty")
        found += [(own_volume(app, volume), volume) for volume in own]
    return tuple(dict(found).items())


def _status(flag: str, path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except FileNotFoundError:
        raise NotFound(f"{flag} {path}: no such device", hint="ls -l /dev") from None


def _device(device: Device) -> DeviceNode:
    status = _status("--device", device.path)
    if not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
        raise UsageError(f"--device {device.path} is no device", hint="a directory or file is a volume: --volume")
    return DeviceNode(
        path=device.target,
        kind="c" if stat.S_ISCHR(status.st_mode) else "b",
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        access=device.access,
    )


def _io(limit: AskedIo) -> IoLimit:
    status = _status("--io", limit.path)
    # Of a file or directory its file system's disk is meant.
    number = status.st_rdev if stat.S_ISBLK(status.st_mode) else status.st_dev
    return IoLimit(
        major=os.major(number),
        minor=os.minor(number),
        read_bps=limit.rbps,
        write_bps=limit.wbps,
        read_iops=limit.riops,
        write_iops=limit.wiops,
    )
