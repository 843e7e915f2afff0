"""A pod manifest of the user's becomes what is asked of a pod. Source: appc 0.8.11, pods.

Whatever the manifest wants is checked here or by its reader, so that none of it is ignored in silence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyrkt.base import fastjson
from pyrkt.base.errors import InvalidSpec, NotFound
from pyrkt.image.reference import AppcRef
from pyrkt.pod import policies
from pyrkt.pod.ask import App, Mount, Port, Volume
from pyrkt.spec.appc import parse_pod_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrkt.pod.ask import PodAsk
    from pyrkt.spec import appc

_LARGEST = 16 << 20
NESTED, LINKED = "pyrkt/nested-volumes", "pyrkt/linked-volumes"
"""Annotations of a pod, "true" or "false", that do what the flags of that name do."""


def read(file: str, asked: PodAsk) -> PodAsk:
    """Return ``asked``, which has no apps, with all that the manifest in ``file`` wants.

    Raises: NotFound if there is no such file; InvalidSpec; UsageError for an annotation of ours.
    """
    try:
        with open(file, "rb") as opened:
            data = opened.read(_LARGEST + 1)
    except OSError as error:
        raise NotFound(f"--pod-manifest {file}: {error.strerror}", hint="check the path") from None
    if len(data) > _LARGEST:
        raise InvalidSpec(f"has more than {_LARGEST >> 20} MiB", document=file)
    return combine(parse_pod_manifest(data, file), asked)


def combine(manifest: appc.PodManifest, asked: PodAsk) -> PodAsk:
    """Return ``asked`` with all that ``manifest`` wants; what a flag has said already stays."""
    notes = manifest.annotations
    changes = {}
    if asked.exit_policy == policies.DEFAULT_EXIT and policies.EXIT in notes:
        changes["exit_policy"] = policies.exit_policy(notes[policies.EXIT], policies.EXIT)
    return asked.replace(
        apps=tuple(map(_app, manifest.apps)),
        volumes=tuple(_volume(volume, whole=asked.flavour.name != "fly") for volume in manifest.volumes),
        isolators=fastjson.dumps([each.dump() for each in manifest.isolators]) if manifest.isolators else "",
        nested_volumes=asked.nested_volumes or policies.switch(notes, NESTED),
        linked_volumes=asked.linked_volumes or policies.switch(notes, LINKED),
        ports=tuple(map(_port, manifest.ports)),
        annotations=tuple(notes.items()),
        user_annotations=tuple(manifest.user_annotations.items()),
        user_labels=tuple(manifest.user_labels.items()),
        **changes,
    )


def _app(app: appc.PodApp) -> App:
    override = app.app
    policy, most = policies.restart(app.annotations.get(policies.RESTART, "no"), policies.RESTART)
    delay = app.annotations.get(policies.DELAY, "1s")
    return App(
        image=_reference(app.image_name, app.image_labels),
        image_id=app.image_id,
        name=app.name,
        override=fastjson.dumps(override.dump()) if override else "",
        readonly_rootfs=app.read_only_root_fs,
        mounts=tuple(map(_mount, app.mounts)),
        annotations=tuple(app.annotations.items()),
        user_annotations=tuple(override.user_annotations.items()) if override else (),
        user_labels=tuple(override.user_labels.items()) if override else (),
        restart=policy,
        restart_max=most,
        restart_delay_ms=policies.delay(delay, policies.DELAY),
        fatal=policies.switch(app.annotations, policies.FATAL, default=True),
    )


def _reference(name: str, labels: Mapping[str, str]) -> str:
    """Return how an image that is not stored can be fetched; "" if the manifest does not tell."""
    if not name:
        return ""
    rest = {label: value for label, value in labels.items() if label != "version"}
    return str(AppcRef(name=name, version=labels.get("version", ""), labels=tuple(sorted(rest.items()))))


def _volume(volume: appc.Volume, *, whole: bool = True) -> Volume:
    return Volume(
        name=volume.name,
        kind=volume.kind,
        source=volume.source,
        read_only=volume.read_only,
        recursive=whole if volume.recursive is None else volume.recursive,
        mode=int(volume.mode, 8),
        uid=volume.uid,
        gid=volume.gid,
    )


def _mount(mount: appc.Mount) -> Mount:
    own = _volume(mount.app_volume) if mount.app_volume else None
    return Mount(volume=mount.volume, target=mount.path, own=own)


def _port(port: appc.ExposedPort) -> Port:
    inside = port.pod_port
    return Port(
        name=port.name,
        host_port=port.host_port,
        host_ip=port.host_ip,
        protocol=inside.protocol if inside else "",
        pod_port=inside.port if inside else 0,
        count=inside.count if inside else 1,
    )
