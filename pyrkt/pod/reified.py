"""The reified pod manifest: what runs in the end, said as appc says it. Source: appc 0.8.11, pods.

Every app stands with its image's id and with all that the image or the user wanted of it; every mount point has its
volume. The text is one that ``--pod-manifest`` takes again, and actool accepts; so an image that is not appc's gets
an id and labels in appc's form, and its own ones as labels of ours.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from pyrkt.base.errors import InvalidSpec
from pyrkt.base.record import Record
from pyrkt.bundle import defaults
from pyrkt.bundle.from_oci import volume_name
from pyrkt.bundle.volumes import normal
from pyrkt.pod import configure
from pyrkt.pod.images import image_id
from pyrkt.pod.status import IMAGE_ID, IMAGE_NAME
from pyrkt.spec import appc
from pyrkt.spec.appc_types import ARCHITECTURES, is_variable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pyrkt.bundle.assemble import Bundle
    from pyrkt.pod.ask import App, PodAsk, Port, Volume
    from pyrkt.store import ImageRecord, Rootfs, Store

_DOUBLE = re.compile(r"([-._~/])[-._~/]+")
# Go's names, which OCI images use, that are other ones in appc.
_ARCHITECTURES = {"386": "i386", "arm64": "aarch64", "arm": "armv7l"}


class Part(Record):
    """One app: what was asked, the name that it has, its image and its container."""

    app: App
    name: str
    record: ImageRecord
    bundle: Bundle


def manifest(ask: PodAsk, parts: Sequence[Part], store: Store) -> appc.PodManifest:
    """Return the manifest of the pod that ``parts`` are, as ``ask`` wanted it."""
    made = appc.PodManifest(
        apps=(),
        volumes=tuple(_volume(volume, volume.name) for volume in ask.volumes),
        isolators=configure.pod_isolators(ask),
        annotations=dict(ask.annotations),
        ports=tuple(map(_port, ask.ports)),
        user_annotations=dict(ask.user_annotations),
        user_labels=dict(ask.user_labels),
    )
    for part in parts:
        made = with_app(made, part, store)
    return made


def with_app(pod: appc.PodManifest, part: Part, store: Store) -> appc.PodManifest:
    """Return the manifest ``pod`` with one more app, and with the volumes that only this one has."""
    names = {volume.name for volume in pod.volumes}
    mounts, implicit = _mounts(part, names, configure.rootfs(store, part.record))
    app = appc.PodApp(
        name=part.name,
        image_id=image_id(part.record, store),
        image_name=_identifier(part.record.name),
        image_labels=_labels(part.record),
        app=_app(part, store),
        read_only_root_fs=part.app.readonly_rootfs,
        mounts=mounts,
        annotations=dict(part.app.annotations),
    )
    return replace(pod, apps=(*pod.apps, app), volumes=(*pod.volumes, *implicit))


def without_app(pod: appc.PodManifest, name: str, own: Collection[str]) -> appc.PodManifest:
    """Return the manifest ``pod`` without the app ``name``, and its volumes that are none of the pod's ``own``."""
    apps = tuple(app for app in pod.apps if app.name != name)
    used = {mount.volume for app in apps for mount in app.mounts}
    volumes = tuple(each for each in pod.volumes if each.name in used or each.name in own)
    return replace(pod, apps=apps, volumes=volumes)


def _volume(volume: Volume, name: str) -> appc.Volume:
    host = volume.kind == "host"
    return appc.Volume(
        name=name,
        kind=volume.kind,
        source=volume.source,
        read_only=volume.read_only,
        recursive=volume.recursive if host else None,
        mode="0755" if host else f"{volume.mode:04o}",
        uid=volume.uid,
        gid=volume.gid,
    )


def _mounts(part: Part, taken: set[str], rootfs: Rootfs) -> tuple[tuple[appc.Mount, ...], list[appc.Volume]]:
    """Return where each volume is mounted, and the volumes that nobody named, with names that are not ``taken``."""
    own = {(mount.volume, normal(mount.target)): mount.own for mount in part.app.mounts if mount.own}
    mounts: list[appc.Mount] = []
    implicit: list[appc.Volume] = []
    for seat in part.bundle.seats:
        name, volume = seat.name, own.get((seat.name, seat.path))
        if seat.implicit:
            name = _free(f"{part.name}-{seat.name}", {*taken, *(each.name for each in implicit)})
            entry = rootfs.lookup(seat.path)
            status = entry.status if entry and entry.is_dir else None
            mode, uid, gid = (status.st_mode & 0o7777, status.st_uid, status.st_gid) if status else (0o755, 0, 0)
            implicit.append(appc.Volume(name=name, kind="empty", mode=f"{mode:04o}", uid=uid, gid=gid))
        mounts.append(
            appc.Mount(volume=name, path=seat.path, app_volume=_volume(volume, volume.name) if volume else None)
        )
    return tuple(mounts), implicit


def _free(name: str, taken: set[str]) -> str:
    number = 2
    while name in taken:
        name, number = f"{name.removesuffix(f'-{number - 1}')}-{number}", number + 1
    return name


def _app(part: Part, store: Store) -> appc.App:
    base, process = _base(part, store), part.bundle.config.process
    if process is None:
        raise InvalidSpec("has no process", document=f"{part.name}/config.json")
    is_appc = part.record.kind == "appc" or part.app.override
    return replace(
        base,
        exec=process.args,
        # Names stay names: a number would first be looked for among the names, when it is read again.
        user=(part.app.user or base.user) if is_appc else str(process.user.uid),
        group=(part.app.group or base.group) if is_appc else str(process.user.gid),
        supplementary_gids=process.user.additional_gids,
        working_directory=process.cwd,
        environment=_environment(process.env),
        isolators=part.bundle.isolators,
        user_annotations={**base.user_annotations, **dict(part.app.user_annotations)},
        user_labels={**base.user_labels, **dict(part.app.user_labels)},
    )


def _base(part: Part, store: Store) -> appc.App:
    """Return the app that the image or a pod manifest describes; of an OCI image what appc has words for."""
    if override := configure.overriding(part.app):
        return override
    if part.record.kind == "appc":
        return configure.appc_manifest(part.record, store).app or appc.App(user="0", group="0")
    config = configure.oci_config(part.record, store)
    points = {volume_name(path): appc.MountPoint(name=volume_name(path), path=path) for path in config.volumes}
    ports = {text: _exposed(text) for text in config.exposed_ports}
    return appc.App(user="0", group="0", mount_points=tuple(points.values()), ports=tuple(ports.values()))


def _exposed(text: str) -> appc.Port:
    """Return the port "80/tcp" of an OCI image, called as docker2aci calls it: "80-tcp"."""
    number, _, protocol = text.partition("/")
    return appc.Port(name=f"{number}-{protocol or 'tcp'}", protocol=protocol or "tcp", port=int(number))


def _environment(texts: Sequence[str]) -> dict[str, str]:
    """Return the variables that are not the executor's own, and have names that appc and POSIX allow."""
    pairs = {name: value for name, _, value in (text.partition("=") for text in texts)}
    return {
        name: value
        for name, value in pairs.items()
        if name not in defaults.OWN_VARIABLES and is_variable(name) and (name[0].isalpha() or name[0] == "_")
    }


def _labels(record: ImageRecord) -> Mapping[str, str]:
    if record.kind == "appc":
        return record.labels
    labels = dict(record.labels)
    architecture = labels.get("arch", "")
    labels["arch"] = _ARCHITECTURES.get(architecture, architecture)
    if labels["arch"] not in ARCHITECTURES.get(labels.get("os", ""), ()):
        del labels["arch"]
    if labels.get("os") not in ARCHITECTURES:
        labels.pop("os", None)
    name = {} if _identifier(record.name) == record.name else {IMAGE_NAME: record.name}
    return {**labels, IMAGE_ID: record.id, **name}


def _identifier(name: str) -> str:
    """Return the image's name as an AC Identifier: a registry's port, say, is parted from its host by a dash."""
    words = "".join(char if (char.isascii() and char.isalnum()) or char in "-._~/" else "-" for char in name.lower())
    while (shorter := _DOUBLE.sub(r"\1", words).strip("-._~/")) != words:
        words = shorter
    return words


def _port(port: Port) -> appc.ExposedPort:
    inside = appc.Port(name=port.name, protocol=port.protocol, port=port.pod_port, count=port.count)
    return appc.ExposedPort(
        name=port.name,
        host_port=port.host_port,
        host_ip=port.host_ip,
        pod_port=inside if port.pod_port else None,
    )
