"""From an image and what is asked of it to an OCI configuration: options for ``bundle``, which decides the rest."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Literal

from pyrkt.base import fastjson
from pyrkt.base.errors import InvalidSpec, NotFound, UsageError
from pyrkt.base.reader import Reader
from pyrkt.base.record import Record
from pyrkt.bundle import from_appc, from_oci
from pyrkt.bundle.options import DeviceNode, IdRange, IoLimit, RunOptions, SeccompChoice, VolumeMount
from pyrkt.bundle.volumes import check_source
from pyrkt.spec.appc import AC_VERSION, ImageManifest, parse_image_manifest
from pyrkt.spec.image import ImageConfig
from pyrkt.store import Rootfs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyrkt.bundle.assemble import Bundle
    from pyrkt.pod.ask import App, Device, PodAsk, Volume
    from pyrkt.pod.ask import IoLimit as AskedIo
    from pyrkt.spec.runtime import Config
    from pyrkt.store import ImageRecord, Store


NETNS = "/run/pyrkt/netns"
"""net.netns.DIRECTORY: where the network namespaces of pods are mounted."""


class Place(Record):
    """Where an app will be: its pod's UUID and directory, and the id mappings of a user namespace, if it has one."""

    uuid: str
    path: str
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
    for volume in ask.volumes:
        if volume.kind == "host":
            check_source(volume.source)
    asked = options(ask, app, app_name(app, record), place)
    return compose_image(record, store, asked)


def compose_image(record: ImageRecord, store: Store, asked: RunOptions) -> Bundle:
    """Return the container of a stored image under the options ``asked``."""
    if record.kind == "appc":
        return from_appc.compose(appc_manifest(record, store), rootfs(store, record), asked)
    return from_oci.compose(oci_config(record, store), rootfs(store, record), asked)


def appc_manifest(record: ImageRecord, store: Store) -> ImageManifest:
    """Return the manifest of a stored ACI."""
    with store.blobs.open(record.manifest) as file:
        return parse_image_manifest(file.read())


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
    return RunOptions(
        name=name,
        pod_uuid=place.uuid,
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
        net=ask.net if ask.net in ("none", "host") else "cni",
        netns="" if ask.net in ("none", "host") else f"{NETNS}/{place.uuid}",
        interactive=ask.interactive,
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
        userns=private,
        uid_mappings=place.uid_mappings,
        gid_mappings=place.gid_mappings,
        insecure=ask.insecure & {"capabilities", "paths", "seccomp"},
        annotations=dict(app.annotations),
        cgroups_path=f"/pyrkt-{place.uuid}-{name}",
    )


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
    placed = [_mount(volumes[mount.volume], mount.target, place) for mount in app.mounts]
    return (*placed, *(_mount(volume, "", place) for volume in ask.volumes))


def _mount(volume: Volume, target: str, place: Place) -> VolumeMount:
    return VolumeMount(
        target=target,
        source=volume_path(volume, place.path),
        name=volume.name,
        kind="host" if volume.kind == "host" else "empty",
        readonly=True if volume.read_only else None,
        recursive=volume.recursive,
    )


def volume_path(volume: Volume, path: str) -> str:
    """Return the directory of the host behind ``volume`` of the pod in ``path``; an empty one's lies in the pod."""
    return volume.source if volume.kind == "host" else f"{path}/volumes/{volume.name}"


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


def pod_app(app: App, name: str, record: ImageRecord, config: Config) -> dict[str, Any]:
    """Return the app's entry of the pod manifest: the image, and what runs in the end. Source: appc 0.8.11, pods."""
    process = config.process
    value: dict[str, Any] = {"user": "0", "group": "0"}
    if process is not None:
        value = {
            "exec": list(process.args),
            "user": str(process.user.uid),
            "group": str(process.user.gid),
            "workingDirectory": process.cwd,
            "environment": [dict(zip(("name", "value"), text.split("=", 1), strict=True)) for text in process.env],
        }
        if process.user.additional_gids:
            value["supplementaryGIDs"] = list(process.user.additional_gids)
    isolators = _isolators(app)
    if isolators:
        value["isolators"] = isolators
    if app.user_annotations:
        value["userAnnotations"] = dict(app.user_annotations)
    if app.user_labels:
        value["userLabels"] = dict(app.user_labels)
    entry: dict[str, Any] = {
        "name": name,
        "image": {
            "id": record.id,
            **({"name": record.name} if record.name else {}),
            "labels": [{"name": key, "value": text} for key, text in sorted(record.labels.items())],
        },
        "app": value,
        "readOnlyRootFS": app.readonly_rootfs,
        "mounts": [{"volume": mount.volume, "path": mount.target} for mount in app.mounts],
    }
    if app.annotations:
        entry["annotations"] = [{"name": key, "value": text} for key, text in app.annotations]
    return entry


def _isolators(app: App) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if app.memory:
        found.append({"name": "resource/memory", "value": {"limit": str(app.memory)}})
    if app.cpu:
        found.append({"name": "resource/cpu", "value": {"limit": f"{app.cpu}m"}})
    if app.cpu_shares:
        found.append({"name": "os/linux/cpu-shares", "value": app.cpu_shares})
    if app.oom_score_adj is not None:
        found.append({"name": "os/linux/oom-score-adj", "value": app.oom_score_adj})
    for name, caps in (("retain", app.caps_retain), ("remove", app.caps_remove)):
        if caps:
            found.append({"name": f"os/linux/capabilities-{name}-set", "value": {"set": list(caps)}})
    return found


def volume_entry(volume: Volume) -> dict[str, Any]:
    """Return the volume's entry of the pod manifest."""
    entry: dict[str, Any] = {"name": volume.name, "kind": volume.kind, "readOnly": volume.read_only}
    if volume.kind == "host":
        return entry | {"source": volume.source, "recursive": volume.recursive}
    return entry | {"mode": f"{volume.mode:04o}", "uid": volume.uid, "gid": volume.gid}


__all__ = [
    "AC_VERSION",
    "Place",
    "app_name",
    "compose",
    "compose_image",
    "options",
    "pod_app",
    "rootfs",
    "volume_entry",
]
